"""A time axis: times to places, and ticks at round times of UTC. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from safehold.exposure.facts import Span

__all__ = ["Axis", "Tick", "fit_axis", "ticks"]

_MINUTE: Final = 60_000_000
_DAY: Final = 1440 * _MINUTE
_STEPS: Final = tuple(
    minutes * _MINUTE
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 20160, 40320, 131040, 524160)
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_LABEL: Final = 54


class Axis(msgspec.Struct, frozen=True):
    """``span`` laid out from ``left`` to ``right`` (px)."""

    span: Span
    left: float
    right: float

    def x(self, at: int) -> float:
        """The place of a time; times outside the span stand at its ends."""
        share = (at - self.span.start) / max(self.span.end - self.span.start, 1)
        return self.left + (self.right - self.left) * min(max(share, 0.0), 1.0)

    def shows(self, span: Span) -> bool:
        """Whether any of ``span`` is in view."""
        return span.end >= self.span.start and span.start <= self.span.end


class Tick(msgspec.Struct, frozen=True):
    """A round time; ``day`` (``24 Mar``) where a day begins or the axis does, ``clock`` (``06:00``) elsewhere."""

    at: int
    day: str
    clock: str


def fit_axis(span: Span, left: float, right: float) -> Axis:
    """An axis over ``span``; an empty span is widened to a minute."""
    return Axis(Span(span.start, max(span.end, span.start + _MINUTE)), left, right)


def ticks(axis: Axis, most: int) -> tuple[Tick, ...]:
    """At most about ``most`` ticks at multiples of a round step, none so near an end that its label is cut."""
    length = axis.span.end - axis.span.start
    step = next((step for step in _STEPS if length / step <= most), _STEPS[-1])
    made, at, told = list[Tick](), -(-axis.span.start // step) * step, ""
    while at <= axis.span.end:
        if axis.x(at) <= axis.right - _MIN_LABEL / 2:
            moment = _EPOCH + timedelta(microseconds=at)
            day = f"{moment.day} {moment:%b}" + (f" {moment:%Y}" if step >= 91 * _DAY else "")
            made.append(Tick(at, "" if day == told else day, "" if step >= _DAY else f"{moment:%H:%M}"))
            told = day
        at += step
    return tuple(made)
