"""When a hold may be lifted: each host it covers has reported since, holds nothing that is named, and did so long enough.

How long is the condition of the response that placed the hold (``clean_for``, seconds; 0 for a hold without one). It
counts time that was *observed*: back from the newest report, through observations without findings, as long as no gap
between two sweeps is larger than ``_GAP_SWEEPS`` of them. A host that was silent was not clean, it was silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from safehold.ledger.storage import View
from safehold.model.errors import Refused
from safehold.model.ids import HoldId, HostId
from safehold.state.standing import find_host, read_inventories

__all__ = ["Clean", "check_clean", "clean_for", "observed_since"]

_GAP_SWEEPS: Final = 3
_AGAIN: Final = "run the agent there and record its report, or lift with --despite-findings and say why"


class Clean(msgspec.Struct, frozen=True):
    """The condition: reports later than ``since`` (µs UTC), clean for ``seconds`` back from them, as of ``now``."""

    since: int
    seconds: int
    now: int


def clean_for(view: View, holds: Iterable[HoldId]) -> int:
    """The longest time (s) that the responses which placed these holds ask for; 0 where none did."""
    wanted = {row[0] for hold in holds for row in view.rows("SELECT decision FROM hold WHERE hold = ?", hold)}
    longest = 0
    for seconds, decisions in view.rows("SELECT clean_for, decisions FROM response"):
        if not wanted.isdisjoint(msgspec.json.decode(decisions)):
            longest = max(longest, seconds)
    return longest


def check_clean(view: View, hosts: Sequence[HostId], condition: Clean) -> None:
    """Raise ``Refused`` (``containment.not_clean``, ``containment.not_clean_long``) unless all ``hosts`` meet it."""
    for host in hosts:
        _check_now(view, host, condition)
        if condition.seconds:
            _check_long(view, host, condition)


def _check_now(view: View, host: HostId, condition: Clean) -> None:
    row = find_host(view, host)
    inventories = read_inventories(view, host)
    # As in the broker, the older of the two times: a clock set forward does not date a report after the hold.
    if row is None or not inventories or any(min(seen.until, seen.t) < condition.since for seen in inventories):
        raise Refused("containment.not_clean", f"{host} has not reported since the hold was placed", _AGAIN)
    for seen in inventories:
        if not seen.readable:
            raise Refused(
                "containment.not_clean", f"the contents of the newest inventory of {host} are not kept here", _AGAIN
            )
        for finding in seen.findings:
            raise Refused(
                "containment.not_clean",
                f"{host} still holds {finding.what} ({finding.advisory}, entry {finding.idx})",
                "remove it, run the agent again, or lift with --despite-findings and say why",
            )


def _check_long(view: View, host: HostId, condition: Clean) -> None:
    row = find_host(view, host)
    every = row.expected_every if row is not None else 0
    for seen in read_inventories(view, host):
        since = observed_since(view, host, seen.environment, _GAP_SWEEPS * every * 1_000_000)
        if since is None or min(seen.until, seen.t) - since < condition.seconds * 1_000_000:
            observed = 0 if since is None else max(0, min(seen.until, seen.t) - since) // 1_000_000
            raise Refused(
                "containment.not_clean_long",
                f"{host} was observed clean for {observed:,} s in {seen.environment}; the response asks {condition.seconds:,} s",
                "wait until it has reported clean for that long, or lift with --despite-findings and say why",
            )


def observed_since(view: View, host: HostId, environment: str, gap: int) -> int | None:
    """Since when (µs UTC) an environment was observed clean without a hole above ``gap`` µs, up to its newest report."""
    rows = view.rows(
        "SELECT o.since, o.until, o.t, o.largest_gap, EXISTS(SELECT 1 FROM finding f JOIN advisory a"
        " ON a.advisory = f.advisory AND a.document = f.document WHERE f.inventory = o.inventory AND a.withdrawn = 0"
        " AND a.idx = (SELECT max(b.idx) FROM advisory b WHERE b.advisory = a.advisory))"
        " FROM observation o WHERE o.host = ? AND o.environment = ? ORDER BY o.until DESC, o.since DESC",
        host,
        environment,
    )
    begin: int | None = None
    for since, until, received, largest, named in rows:
        if named or (begin is not None and begin - min(until, received) > gap):
            return begin
        if largest > gap:
            # Somewhere in it is a hole, and nobody knows where: only its end counts.
            return min(until, received) if begin is None else begin
        begin = since if begin is None else min(begin, since)
    return begin
