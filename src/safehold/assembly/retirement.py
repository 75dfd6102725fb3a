"""The end of a release: retired, so that no key of it is given out; then erased, so that nobody can read it again.

Erasing destroys the wrapped keys of the release, and nothing else: its manifest, its entries, receipts and ciphertext
stay and still verify. **A file that a later release shares keeps its key there**: it can be opened with that release's
keys until that one is erased too. The entry says which; ``plan`` says it before.

The order: retire (an entry), destroy, then the entry of what was destroyed. A crash after the first leaves a release that
nobody gets keys of; the same command goes on. Copies of the key store made earlier (backups) hold the keys, wrapped, as
long as they are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, NotFound
from safehold.model.ids import Digest, KeyId
from safehold.model.statements import ReleaseErased, ReleaseRetired
from safehold.state.standing import ReleaseRow, erased_at, list_releases, resolve_release
from safehold.vault.manifest import Manifest, parse_manifest

__all__ = ["Ending", "ErasedRelease", "KeyEraser", "Retirement"]


class KeyEraser(Protocol):
    """The key store, as far as it forgets."""

    def erase(self, release: Digest) -> int:
        """Destroy the wrapped keys of a release for good; how many there were."""
        ...

    def count(self, release: Digest) -> int:
        """How many keys a release has here."""
        ...


class Ending(msgspec.Struct, frozen=True):
    """What erasing a release would do: keys destroyed; of its ``files``, those that live on in ``shared`` releases."""

    release: ReleaseRow
    keys: int
    files: int
    kept: int
    shared: tuple[ReleaseRow, ...]


class ErasedRelease(msgspec.Struct, frozen=True):
    """What was done, and the entry that says so."""

    ending: Ending
    keys: int
    entry: Entry


class Retirement:
    """Ends releases. ``by`` signs for the entries, ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    def retire(self, name: str, reason: str) -> Entry:
        """No key of the release leaves from this entry on.

        Raises ``NotFound`` (``state.no_release``) or ``Conflict`` (``assembly.retired``).
        """

        def propose(view: View) -> Draft:
            row = resolve_release(view, name)
            if row.retired is not None:
                raise Conflict("assembly.retired", f"{name} was retired in entry {row.retired}", "")
            return Draft((ReleaseRetired(t=self._clock(), by=self._by, release=row.release, reason=reason),))

        return self._log.append(propose)[0]

    def plan(self, name: str, keys: KeyEraser) -> Ending:
        """What ``erase`` would do; changes nothing. Raises as ``erase``."""
        with self._log.view() as view:
            row = resolve_release(view, name)
            if erased_at(view, row.release) is not None:
                raise Conflict("assembly.erased", f"{name} was erased in entry {erased_at(view, row.release)}", "")
            files = _files(view, row.release)
            shared: list[ReleaseRow] = []
            kept: set[str] = set()
            for other in list_releases(view, row.dataset):
                if other.release != row.release and erased_at(view, other.release) is None:
                    common = files & _files(view, other.release)
                    if common:
                        shared.append(other)
                        kept |= common
        return Ending(row, keys.count(row.release), len(files), len(kept), tuple(shared))

    def erase(self, name: str, keys: KeyEraser, reason: str) -> ErasedRelease:
        """Retire the release if it is not, destroy its keys, and record that.

        Raises ``NotFound`` (``state.no_release``, ``assembly.manifest_missing``, ``vault.keys_missing``) or ``Conflict``
        (``assembly.erased``, ``vault.keystore_busy``: run it again).
        """
        ending = self.plan(name, keys)
        if ending.release.retired is None:
            self.retire(name, reason)
        destroyed = keys.erase(ending.release.release)
        statement = ReleaseErased(
            t=self._clock(),
            by=self._by,
            release=ending.release.release,
            keys=ending.files,
            kept=ending.kept,
            shared=tuple(other.release for other in ending.shared),
            reason=reason,
        )
        return ErasedRelease(ending, destroyed, self._log.append(lambda _view: Draft((statement,)))[0])


def _files(view: View, release: Digest) -> frozenset[str]:
    """The SHA-256 of the files of a release."""
    return frozenset(part.sha256 for part in _manifest(view, release).parts)


def _manifest(view: View, release: Digest) -> Manifest:
    body = view.payload(release)
    if body is None:
        raise NotFound("assembly.manifest_missing", f"the manifest of {release} is not kept here", "run safehold fsck")
    return parse_manifest(body)
