"""What a version of an advisory says, and what it says otherwise than another, in lines for people. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from safehold.inventory.documents import AdvisoryDocument, FileClaim, PackageClaim, PathClaim

__all__ = ["claim_changes", "claim_lines"]

_MAX_LINES = 40


def claim_changes(before: AdvisoryDocument, after: AdvisoryDocument) -> list[str]:
    """One line a difference: ``+`` what it says now and did not, ``-`` what it said and no longer says."""
    old, new = set(claim_lines(before)), set(claim_lines(after))
    lines = [f"- {line}" for line in sorted(old - new)] + [f"+ {line}" for line in sorted(new - old)]
    if (before.summary, before.details) != (after.summary, after.details):
        lines.insert(0, f"~ its text is another: safehold advisory show {after.advisory}")
    if not lines:
        return ["other bytes, the same claims"]
    return lines if len(lines) <= _MAX_LINES else [*lines[:_MAX_LINES], f"… and {len(lines) - _MAX_LINES} more"]


def claim_lines(document: AdvisoryDocument) -> list[str]:
    """Everything that is matched or that questions look for, one line each; windows with the source that claims them."""
    said = set[str]()
    for claim in document.claims:
        if isinstance(claim, PackageClaim):
            said |= set(_package(claim))
        elif isinstance(claim, FileClaim):
            said.add(f"file {claim.path or claim.name or '(no name)'} {claim.sha256}")
        elif isinstance(claim, PathClaim):
            said.add(f"path {claim.path}")
    said |= {f"window by {one.source}: {_time(one.start)} – {_time(one.end)}" for one in document.windows}
    said |= {f"domain {one}" for one in document.domains} | {f"address {one}" for one in document.addresses}
    said |= {f"alias {one}" for one in document.aliases}
    return sorted(said | ({"withdrawn"} if document.withdrawn is not None else set()))


def _time(at: int | None) -> str:
    return "?" if at is None else (dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=at)).isoformat()


def _package(claim: PackageClaim) -> Iterable[str]:
    name = f"{claim.ecosystem} {claim.name}"
    yield from (f"{name} {version}" for version in claim.versions)
    for one in claim.ranges:
        yield f"{name} " + " ".join(f"{event.kind} {event.version}" for event in one.events)
    if not claim.versions and not claim.ranges:
        yield f"{name} (no version)"
