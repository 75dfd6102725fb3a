"""Limits of the front, in one place: sizes, times, and how often an address or a key may ask. Pure but for its clock.

Rates are token buckets. Two things fill them, and neither lets one asker lock out another: an address pays for requests
that proved nothing; a host's key pays for requests that were *proven* to be its own, so that nobody can use up the rate
of a key that he does not hold. The tables are bounded: the longest unused entries go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from safehold.model.errors import Refused

__all__ = ["Buckets", "Limits"]

_MAX_BUCKETS: Final = 65_536


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds, rates in requests a second (with bursts of so many)."""

    body: int = 64 * 1024
    inventory_body: int = 40 * 1024 * 1024
    header_bytes: int = 16 * 1024
    request_seconds: float = 30.0
    answer_seconds: float = 30.0
    idle_seconds: int = 30
    connections: int = 1024
    waiting: int = 4096
    address_rate: float = 20.0
    address_burst: int = 200
    host_rate: float = 1000.0
    host_burst: int = 4000
    drain_seconds: int = 20


class Buckets:
    """One token bucket a name. ``monotonic`` gives seconds."""

    def __init__(self, rate: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._monotonic = monotonic
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, name: str, what: str) -> str:
        """Return ``name`` if its bucket is not empty; ``Refused`` (``serve.too_many``) with the time to wait."""
        level = self._level(name)
        if level < 1.0:
            wait = max(1, round((1.0 - level) / self._rate + 0.5))
            raise Refused("serve.too_many", f"{what} asks too often", f"wait {wait} s, then ask again")
        return name

    def pay(self, name: str) -> None:
        """Take one from the bucket; it may go below nothing, so that a flood that is on its way is paid as well."""
        level = max(self._level(name) - 1.0, -self._burst)
        self._levels[name] = (level, self._monotonic())
        self._levels.move_to_end(name)
        while len(self._levels) > _MAX_BUCKETS:
            self._levels.popitem(last=False)

    def _level(self, name: str) -> float:
        known = self._levels.get(name)
        if known is None:
            return self._burst
        level, at = known
        return min(self._burst, level + (self._monotonic() - at) * self._rate)
