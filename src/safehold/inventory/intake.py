"""Intake: signed inventory messages and advisories become entries, and so do the findings that follow from them.

Matching happens here, inside the append, and its results are entries next to their cause. So the rooms that need
them, broker and exposure, read them from the ledger and need no matcher of their own; and a finding counts from its
place on, exactly as a hold does. When an advisory arrives it is matched with *every* inventory ever recorded, since
what a host held last month is the question; when an inventory arrives, with the newest version of every advisory.

Both are safe to repeat: a message or a document that is recorded already changes nothing and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from safehold.inventory.advisories import (
    AdvisoryDocument,
    PackageClaim,
    PathClaim,
    VersionRange,
    merge_aliases,
    parse_advisory,
)
from safehold.inventory.match import Finding, Latent, match_inventory, match_latent
from safehold.inventory.report import InventoryConfirmation, InventoryReport, verify_message
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.contents import Item, contents_items
from safehold.model.encoding import canonical_bytes, decode_canonical
from safehold.model.errors import InputInvalid, NotFound, SafeholdError
from safehold.model.ids import AdvisoryId, Digest, HostId, KeyId, sha256_digest
from safehold.model.statements import (
    AdvisoryRecorded,
    AffectedClaim,
    FindingRecorded,
    IndicatorsRecorded,
    InventoryConfirmed,
    InventoryRecorded,
    LatentRecorded,
    WindowClaim,
)
from safehold.state.standing import find_host

__all__ = ["Intake", "TakenAdvisory", "TakenMessage"]

_FUTURE_TOLERANCE = 300_000_000
"""µs that a host's clock may be ahead of ours."""
_MAX_TEXT = 500
_MAX_WINDOWS = 50
_MAX_INDICATORS = 500
_MAX_INDICATOR_BYTES = 15_000


class TakenMessage(msgspec.Struct, frozen=True):
    """A message in the ledger: its entry, the findings that it brought, and whether it was there before."""

    message: InventoryReport | InventoryConfirmation
    entry: int
    findings: tuple[FindingRecorded, ...]
    known: bool


class TakenAdvisory(msgspec.Struct, frozen=True):
    """A document in the ledger: its entry (None if this version was there before), the findings that it brought."""

    document: AdvisoryDocument
    entry: Entry | None
    findings: tuple[FindingRecorded, ...]


class Intake:
    """Appends what hosts and advisory sources say. ``clock`` gives µs UTC, ``by`` signs for the entries."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by
        self._parsed: dict[Digest, AdvisoryDocument] = {}

    def record_message(self, host: HostId, data: bytes, signature: str | bytes) -> TakenMessage:
        """Take in a signed message of ``host``.

        Raises ``NotFound`` (``inventory.host_unknown``, ``inventory.not_recorded``), ``InputInvalid``
        (``inventory.other_host``, ``inventory.future``) and what ``verify_message`` raises.
        """
        with self._log.view() as view:
            row = find_host(view, host)
        if row is None:
            raise NotFound("inventory.host_unknown", f"{host} is not registered", "register it: safehold host add")
        message = verify_message(data, signature, PublicKey.parse(row.key))
        if message.host != host:
            raise InputInvalid(
                "inventory.other_host", f"the message speaks of {message.host}, not of {host}", "send it as that host"
            )
        self._check_time(message)
        text = signature if isinstance(signature, str) else signature.decode()
        report = canonical_bytes({"message": data.decode(), "signature": text})
        known: list[int] = []

        def propose(view: View) -> Draft:
            known.clear()
            found = view.rows("SELECT idx FROM observation WHERE host = ? AND report = ?", host, sha256_digest(report))
            if found:
                known.append(found[0][0])
                return Draft(())
            if isinstance(message, InventoryReport):
                return self._recorded(view, message, data, report)
            return self._confirmed(view, message, report)

        entries = self._log.append(propose)
        findings = tuple(one.statement for one in entries if isinstance(one.statement, FindingRecorded))
        return TakenMessage(message, known[0] if known else entries[0].index, findings, bool(known))

    def _check_time(self, message: InventoryReport | InventoryConfirmation) -> None:
        last = message.observed if isinstance(message, InventoryReport) else message.until
        ahead = last - self._clock()
        if ahead > _FUTURE_TOLERANCE:
            raise InputInvalid(
                "inventory.future",
                f"the report is from {ahead // 1_000_000} s in the future",
                "set the host's clock (NTP), then run the agent again",
            )

    def _recorded(self, view: View, message: InventoryReport, data: bytes, report: bytes) -> Draft:
        contents = canonical_bytes(decode_canonical(data)["contents"])
        statement = InventoryRecorded(
            t=self._clock(),
            by=self._by,
            host=message.host,
            environment=message.environment,
            inventory=message.inventory,
            report=sha256_digest(report),
            observed=message.observed,
            distributions=len(message.contents.distributions),
            oddities=message.oddities,
        )
        findings: tuple[FindingRecorded | LatentRecorded, ...] = ()
        if not view.rows("SELECT 1 FROM observation WHERE inventory = ? LIMIT 1", message.inventory):
            items = contents_items(contents, files=True)
            newest = self._newest(view)
            findings = (
                *self._findings(message.inventory, match_inventory(items, newest)),
                *self._latents(message.inventory, match_latent(items, newest)),
            )
        return Draft((statement, *findings), (contents, report))

    def _confirmed(self, view: View, message: InventoryConfirmation, report: bytes) -> Draft:
        sql = "SELECT 1 FROM observation WHERE host = ? AND environment = ? AND inventory = ? LIMIT 1"
        if not view.rows(sql, message.host, message.environment, message.inventory):
            raise NotFound(
                "inventory.not_recorded",
                f"{message.host} confirms an inventory that it never reported",
                "send the agent's messages in the order of their numbers",
            )
        statement = InventoryConfirmed(
            t=self._clock(),
            by=self._by,
            host=message.host,
            environment=message.environment,
            inventory=message.inventory,
            report=sha256_digest(report),
            since=message.since,
            until=message.until,
            sweeps=message.sweeps,
            largest_gap=message.largest_gap,
        )
        return Draft((statement,), (report,))

    def record_advisory(self, document: AdvisoryDocument, source: str) -> TakenAdvisory:
        """Take in one version of an advisory; a version that is here already changes nothing."""

        def propose(view: View) -> Draft:
            sql = "SELECT document FROM advisory WHERE advisory = ? ORDER BY idx DESC LIMIT 1"
            newest = view.rows(sql, document.advisory)
            if newest and newest[0][0] == document.digest:
                return Draft(())
            findings: list[FindingRecorded | LatentRecorded] = []
            for inventory, items in self._inventories(view):
                findings += self._findings(inventory, match_inventory(items, [document]))
                findings += self._latents(inventory, match_latent(items, [document]))
            stated = (self._statement(view, document, source), *self._indicators(document))
            return Draft((*stated, *findings), (document.body,))

        entries = self._log.append(propose)
        findings = tuple(one.statement for one in entries if isinstance(one.statement, FindingRecorded))
        return TakenAdvisory(document, entries[0] if entries else None, findings)

    def newest_document(self, advisory: AdvisoryId) -> AdvisoryDocument | None:
        """The newest version of an advisory; None where it is not known, or was erased."""
        with self._log.view() as view:
            sql = "SELECT document FROM advisory WHERE advisory = ? ORDER BY idx DESC LIMIT 1"
            found = view.rows(sql, advisory)
            body = view.payload(found[0][0]) if found else None
        return None if body is None else parse_advisory(body, advisory)

    def _statement(self, view: View, document: AdvisoryDocument, source: str) -> AdvisoryRecorded:
        now = self._clock()
        groups = merge_aliases([*self._newest(view), document])
        same = next(group.ids for group in groups if document.advisory in group.ids)
        joined = tuple(one for one in same if one != document.advisory and one not in document.aliases)
        return AdvisoryRecorded(
            t=now,
            by=self._by,
            advisory=document.advisory,
            document=document.digest,
            format=document.format,
            source=source[:_MAX_TEXT],
            aliases=document.aliases[:_MAX_WINDOWS],
            joined=joined[:_MAX_WINDOWS],
            affected=_affected(document),
            windows=tuple(
                WindowClaim(source=one.source[:_MAX_TEXT], start=one.start, end=one.end)
                for one in document.windows[:_MAX_WINDOWS]
            ),
            summary=document.summary[:_MAX_TEXT],
            first_seen=now,
            published=document.published,
            modified=document.modified,
            withdrawn=document.withdrawn is not None,
        )

    def _findings(self, inventory: Digest, found: Sequence[Finding]) -> tuple[FindingRecorded, ...]:
        now = self._clock()
        return tuple(
            FindingRecorded(
                t=now,
                by=self._by,
                advisory=one.advisory,
                document=one.document,
                inventory=inventory,
                match=one.match,
                name=one.name,
                version=one.version,
                path=one.path,
            )
            for one in found
        )

    def _latents(self, inventory: Digest, found: Sequence[Latent]) -> tuple[LatentRecorded, ...]:
        now = self._clock()
        return tuple(
            LatentRecorded(
                t=now,
                by=self._by,
                advisory=one.advisory,
                document=one.document,
                inventory=inventory,
                item=one.item,
                match=one.match,
                name=one.name,
                version=one.version,
                path=one.path,
            )
            for one in found
        )

    def _indicators(self, document: AdvisoryDocument) -> tuple[IndicatorsRecorded, ...]:
        """What questions about hosts and networks look for; the document has all of it, this the part that fits."""
        paths = [claim.path for claim in document.claims if isinstance(claim, PathClaim)]
        if document.withdrawn is not None or not (document.domains or document.addresses or paths):
            return ()
        return (
            IndicatorsRecorded(
                t=self._clock(),
                by=self._by,
                advisory=document.advisory,
                document=document.digest,
                domains=_fitting(document.domains),
                addresses=_fitting(document.addresses),
                paths=_fitting(paths),
            ),
        )

    def _newest(self, view: View) -> list[AdvisoryDocument]:
        """The newest version of each advisory, parsed."""
        sql = "SELECT advisory, document FROM advisory a WHERE idx = (SELECT max(idx) FROM advisory b WHERE b.advisory = a.advisory)"
        documents = []
        for advisory, digest in view.rows(sql + " ORDER BY advisory"):
            if digest not in self._parsed:
                body = view.payload(digest)
                if body is None:
                    continue  # erased: its findings stay entries, new ones cannot be made
                self._parsed[digest] = parse_advisory(body, advisory)
            documents.append(self._parsed[digest])
        return documents

    def _inventories(self, view: View) -> Iterable[tuple[Digest, tuple[Item, ...]]]:
        """Every inventory ever recorded, with all its items; one whose payload is gone cannot be matched any more."""
        for (digest,) in view.rows("SELECT DISTINCT inventory FROM observation ORDER BY inventory"):
            try:
                yield digest, contents_items(view.payload(digest) or b"", files=True)
            except SafeholdError:
                continue


def _fitting(values: Sequence[str]) -> tuple[str, ...]:
    """As many values as an entry can hold beside others; what is longer than any name or path is left out."""
    kept = [value for value in dict.fromkeys(values) if len(value.encode()) <= _MAX_TEXT]
    return tuple(kept[:_MAX_INDICATORS]) if sum(map(len, kept)) < _MAX_INDICATOR_BYTES else tuple(kept[:30])


def _affected(document: AdvisoryDocument) -> tuple[AffectedClaim, ...]:
    claims = [claim for claim in document.claims if isinstance(claim, PackageClaim)]
    return tuple(
        AffectedClaim(ecosystem=claim.ecosystem[:100], name=claim.name[:200], versions=_versions(claim))
        for claim in claims[:_MAX_WINDOWS]
    )


_EVENT_WORDS: Final = {"introduced": "from", "fixed": "before", "last_affected": "to", "limit": "below"}


def _range(claimed: VersionRange) -> str:
    return " ".join(f"{_EVENT_WORDS[event.kind]} {event.version}" for event in claimed.events)


def _versions(claim: PackageClaim) -> str:
    words = list(claim.versions) or [_range(one) for one in claim.ranges]
    text = ", ".join(words)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
