"""The end of a release whose records are under new keys: retired, and its keys destroyed once no lease on them runs.

The order, and why: the new release is checked whole first (its files by their digests, its keys by their commitments: the
entry says that the records of just these bytes were compared), so that nothing ends before what replaces it can be
opened. Then the old one is retired: from that entry on no key of it leaves, so no further lease can begin, and the last
end of those that run is known. Only after that end are its keys destroyed (``retirement``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from safehold.assembly.delivery import check_holds
from safehold.assembly.rekeying import not_rekeyed
from safehold.assembly.retirement import Ending, KeyEraser, Retirement
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Log
from safehold.ledger.storage import View
from safehold.model.errors import Conflict, NotFound
from safehold.model.ids import KeyId, Subject
from safehold.state.standing import (
    ReleaseRow,
    erased_at,
    find_party_key,
    find_rekeyed,
    find_release,
    resolve_release,
)
from safehold.state.standing_access import ReadingRow, list_readings
from safehold.vault.manifest import Manifest, parse_manifest
from safehold.vault.part_keys import check_key
from safehold.vault.stored_release import StoredRelease, verify_stored
from safehold.vault.verify import verify_release
from safehold.vault.wrapped import WrappedKeys

__all__ = ["RekeyEnd", "RekeyEnding"]


class RekeyEnding(msgspec.Struct, frozen=True, kw_only=True):
    """How far the end of ``old`` is. ``retired``, ``erased``: the entries, or None. ``readings``: leases on its keys that run.

    ``ending``: what erasing destroys or destroyed, and which files stay open to other releases; None once it was erased before.
    """

    old: ReleaseRow
    new: ReleaseRow
    retired: int | None
    erased: int | None
    readings: tuple[ReadingRow, ...]
    destroyed: int = 0
    ending: Ending | None = None

    @property
    def until(self) -> int | None:
        """When the last of the leases ends (µs UTC); None: none runs."""
        return max((one.until for one in self.readings), default=None)


class RekeyEnd:
    """Ends releases that were given new keys. ``by`` signs for the entries, ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log, self._clock = log, clock
        self._retirement = Retirement(log, clock, by)

    def plan(self, name: str, eraser: KeyEraser) -> RekeyEnding:
        """How far it is; changes nothing. Raises ``NotFound`` (``state.no_release``), ``Conflict``
        (``assembly.not_rekeyed``, ``assembly.rekey_ended``) or ``Refused`` (``assembly.held``).
        """
        with self._log.view() as view:
            old = resolve_release(view, name)
            new = _successor(view, old)
            erased = erased_at(view, old.release)
            readings = list_readings(view, old.release, self._clock())
            if erased is None:
                _check_ready(view, old, new)
        found = RekeyEnding(old=old, new=new, retired=old.retired, erased=erased, readings=readings)
        if erased is not None:
            return found
        return msgspec.structs.replace(found, ending=self._retirement.plan(name, eraser))

    def finish(
        self, name: str, place: Path | StoredRelease, keys: WrappedKeys, eraser: KeyEraser, reason: str
    ) -> RekeyEnding:
        """Retire the old release, and destroy its keys if no lease on them runs; run it again after the last one's end.

        ``place`` is where the new release lies. Raises as ``plan``, as ``verify_release``, and ``NotFound``
        (``vault.keys_missing``) or ``VerificationFailed`` (``vault.wrong_key``) if a key of the new release is not kept.
        """
        found = self.plan(name, eraser)
        if found.erased is not None:
            return found
        self._check_new(found.new, place, keys)
        retired = found.retired
        if retired is None:
            retired = self._retirement.retire(name, reason).index
        # Read after the retirement: no lease on a key of it can begin any more.
        with self._log.view() as view:
            readings = list_readings(view, found.old.release, self._clock())
        found = msgspec.structs.replace(found, retired=retired, readings=readings)
        if readings:
            return found
        erased = self._retirement.erase(name, eraser, reason)
        return msgspec.structs.replace(found, erased=erased.entry.index, destroyed=erased.keys, ending=erased.ending)

    def _check_new(self, new: ReleaseRow, place: Path | StoredRelease, keys: WrappedKeys) -> Manifest:
        with self._log.view() as view:
            line, body = find_party_key(view, new.party), view.payload(new.release)
        if line is None or body is None:
            raise NotFound(
                "assembly.manifest_missing", f"the manifest of {new.name} is not kept here", "run safehold fsck"
            )
        supplier = PublicKey.parse(line)
        if isinstance(place, StoredRelease):
            verify_stored(place.store, place.version, supplier, expected=new.release)
        else:
            verify_release(place, supplier, expected=new.release)
        manifest = parse_manifest(body)
        kept = keys.unwrap(new.release, [part.file for part in manifest.parts])
        for part in manifest.parts:
            check_key(kept[part.file], part.aad, part.commitment, part.file)
        return manifest


def _successor(view: View, old: ReleaseRow) -> ReleaseRow:
    """The release that holds the records now: one that was rekeyed itself, and then retired, stands for its own successor."""
    new, one = None, old
    while (known := find_rekeyed(view, one.release)) is not None and (new is None or new.retired is not None):
        found = find_release(view, known.release)
        if found is None:
            break
        new = one = found
    if new is None:
        raise not_rekeyed(old)
    return new


def _check_ready(view: View, old: ReleaseRow, new: ReleaseRow) -> None:
    """A hold on either, or an end of the new one, would leave nobody with the records."""
    check_holds(
        view,
        [
            Subject("release", old.release),
            Subject("release", new.release),
            Subject("dataset", old.dataset),
            Subject("party", old.party),
        ],
    )
    if new.retired is not None:
        raise Conflict(
            "assembly.rekey_ended",
            f"{new.name}, which holds the records under new keys, was retired in entry {new.retired}",
            "nothing was ended; end the old release by safehold erase if that is what you want",
        )
