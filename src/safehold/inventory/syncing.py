"""Taking in signed bundles of advisories: which key speaks for a source, and that no source goes back, are in the ledger.

Each advisory is an entry of its own with its findings; the entry that the whole bundle was taken comes last. A crash
before it takes the rest in the next time: what is recorded already changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from safehold.inventory.bundles import Bundle, check_source, open_bundle, read_bundle
from safehold.inventory.documents import AdvisoryDocument
from safehold.inventory.intake import Intake, TakenAdvisory
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.source import Source
from safehold.ledger.storage import View
from safehold.model.errors import SafeholdError, VerificationFailed
from safehold.model.ids import KeyId
from safehold.model.statements import AdvisoriesSynced, SourceTrusted

__all__ = ["Synced", "Syncing", "Watch"]

Watch = Callable[[AdvisoryDocument, Callable[[], TakenAdvisory]], TakenAdvisory]
"""Called for each new document with what records it: a place for whoever wants to know the state before and after."""


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle in the ledger: what of it was new, and (name, why) for each file that could not be used."""

    bundle: Bundle
    known: bool
    taken: tuple[TakenAdvisory, ...]
    failures: tuple[tuple[str, SafeholdError], ...]


class Syncing:
    """Takes in bundles. ``clock`` gives µs UTC, ``by`` signs for the entries."""

    def __init__(self, log: Log, intake: Intake, clock: Callable[[], int], by: KeyId) -> None:
        self._log, self._intake, self._clock, self._by = log, intake, clock, by

    def trust(self, source: str, key: PublicKey) -> int:
        """Take bundles of ``source`` that this key signs from now on, and no other key's. Returns the entry."""
        statement = SourceTrusted(t=self._clock(), by=self._by, source=check_source(source), key=key.line)
        return self._log.append(lambda _view: Draft((statement,)))[0].index

    def sync(self, tree: Source, watch: Watch | None = None) -> Synced:
        """Take in the bundle of a tree.

        Raises ``VerificationFailed`` (``inventory.bundle_rollback``: older than the last one, or another one of its
        number) and what ``open_bundle`` and ``read_bundle`` raise. Then nothing was taken in.
        """
        with self._log.view() as view:
            trusted = {name: PublicKey.parse(key) for name, key in view.rows("SELECT source, key FROM advisory_source")}
            bundle = open_bundle(tree, trusted)
            again = self._check_number(view, bundle)
        reading = read_bundle(tree, bundle, self._newest())
        taken = tuple(self._record(one, bundle, watch) for one in reading.documents)
        if not again:
            self._state(bundle, trusted[bundle.source].key_id, len(reading.failures))
        return Synced(bundle=bundle, known=again, taken=taken, failures=reading.failures)

    def _newest(self) -> frozenset[str]:
        """The digests of the newest version of each advisory: those need not be read again."""
        with self._log.view() as view:
            rows = view.rows("SELECT advisory, document FROM advisory ORDER BY idx")
        return frozenset(dict(rows).values())

    def _record(self, document: AdvisoryDocument, bundle: Bundle, watch: Watch | None) -> TakenAdvisory:
        def act() -> TakenAdvisory:
            return self._intake.record_advisory(document, f"{bundle.source} {bundle.number}")

        return act() if watch is None else watch(document, act)

    def _state(self, bundle: Bundle, key: KeyId, unread: int) -> None:
        def propose(view: View) -> Draft:
            if self._check_number(view, bundle):
                return Draft(())
            return Draft(
                (
                    AdvisoriesSynced(
                        t=self._clock(),
                        by=self._by,
                        source=bundle.source,
                        bundle=bundle.digest,
                        number=bundle.number,
                        made=bundle.made,
                        key=key,
                        files=len(bundle.files),
                        unread=unread,
                    ),
                )
            )

        self._log.append(propose)

    def _check_number(self, view: View, bundle: Bundle) -> bool:
        """Whether this very bundle was taken before."""
        rows: Iterable[tuple[int, str]] = view.rows(
            "SELECT number, bundle FROM advisory_sync WHERE source = ? ORDER BY number DESC, idx DESC LIMIT 1",
            bundle.source,
        )
        for number, digest in rows:
            if bundle.number < number or (bundle.number == number and bundle.digest != digest):
                raise VerificationFailed(
                    "inventory.bundle_rollback",
                    f"{bundle.source} showed bundle {number} before; this is {bundle.number}, and not the same",
                    "fetch it from another place: somebody may be keeping back what the source said since",
                )
            return bundle.number == number
        return False
