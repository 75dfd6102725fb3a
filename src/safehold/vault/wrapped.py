"""Part keys between the key store and whoever may see them in the clear: wrapped on the way in, unwrapped out.

Each stored key says by which key-encryption key it was wrapped. While one is being replaced by another, both are known
here: new keys are wrapped by the new one, and each is unwrapped by its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from safehold.model.errors import VerificationFailed
from safehold.model.ids import Digest
from safehold.vault.kek import Kek
from safehold.vault.keystore import KeyStore

__all__ = ["WrappedKeys"]

_SAMPLES: Final = 3


class WrappedKeys:
    """A key store with its key-encryption key behind it.

    ``others`` gives a further key by its id, for keys that were wrapped by another one than ``kek``; None if unknown.
    """

    def __init__(self, store: KeyStore, kek: Kek, others: Callable[[str], Kek | None] | None = None) -> None:
        self._store = store
        self._kek = kek
        self._others = others
        self._known: dict[str, Kek] = {kek.id: kek}
        self._unknown: set[str] = set()

    @property
    def kek(self) -> Kek:
        """The key-encryption key: wraps the keys of a sealer's journal too."""
        return self._kek

    def store(self, release: Digest, keys: Mapping[str, bytes]) -> None:
        """Wrap and keep the keys of a release, by file name: all of them, durably, or none.

        Raises what ``KeyStore.put_all`` raises.
        """
        wrapped = {file: self._kek.wrap(key) for file, key in keys.items()}
        self._store.put_all(release, self._kek.id, wrapped)

    def held(self, release: Digest) -> int:
        """How many keys of a release are kept here."""
        return self._store.count(release)

    def unwrap(self, release: Digest, files: Sequence[str]) -> Mapping[str, bytes]:
        """The 32-byte keys of these part files.

        Raises ``NotFound`` if they were never kept or were erased, ``VerificationFailed`` (``vault.unwrap``), or what
        the key-encryption key raises when it cannot be used.
        """
        stored = self._store.get_with_kek(release, files)
        keys: dict[str, bytes] = {}
        for kek in {by for by, _ in stored.values()}:
            mine = [file for file, (by, _) in stored.items() if by == kek]
            keys.update(zip(mine, self._find(kek).unwrap_many([stored[file][1] for file in mine]), strict=True))
        return {file: keys[file] for file in stored}

    def check(self) -> None:
        """Return if stored keys can be unwrapped now: of each key-encryption key in use, one that it wrapped is tried.

        One damaged row does not say that no key opens, so a few are tried before it is believed. What was wrapped by a key
        that this home does not know is for ``fsck`` to tell, unless nothing else is here. Raises like ``unwrap``.
        """
        samples = self._store.samples(_SAMPLES)
        known = {kek: some for kek, some in samples.items() if kek not in self._unknown}
        if not samples:
            known = {self._kek.id: [self._kek.wrap(secrets.token_bytes(32))]}
        unknown: VerificationFailed | None = None
        for kek, some in known.items():
            try:
                found = self._find(kek)
            except VerificationFailed as error:
                unknown = error
                self._unknown.add(kek)  # looking for it again may cost a derivation from a passphrase
                continue
            _open_one(found, some)
        if self._unknown >= samples.keys() and samples:
            raise unknown or _unknown(next(iter(samples)), self._kek.id)

    def rewrap(self, release: Digest) -> int:
        """Wrap the keys of a release by the current key-encryption key; returns how many were not. Safe to repeat."""
        stored = self._store.get_with_kek(release, self._store.files(release))
        old = {file: (by, data) for file, (by, data) in stored.items() if by != self._kek.id}
        fresh = {}
        for file, (by, data) in old.items():
            fresh[file] = self._kek.wrap(self._find(by).unwrap(data))
        if fresh:
            self._store.replace(release, self._kek.id, {file: data for file, (_, data) in old.items()}, fresh)
        return len(fresh)

    @property
    def kek_id(self) -> str:
        """The id of the key that wraps new keys."""
        return self._kek.id

    def _find(self, kek: str) -> Kek:
        known = self._known.get(kek) or (self._others(kek) if self._others else None)
        if known is None:
            raise _unknown(kek, self._kek.id)
        self._known[kek] = known
        return known


def _open_one(kek: Kek, wrapped: Sequence[bytes]) -> None:
    for left, one in reversed(list(enumerate(wrapped))):
        try:
            kek.unwrap(one)
        except VerificationFailed:
            if not left:
                raise
        else:
            return


def _unknown(kek: str, used: str) -> VerificationFailed:
    return VerificationFailed(
        "vault.unwrap",
        f"a stored key was wrapped by {kek}, and {used} is in use here",
        "was the key file replaced since? name the other key, or go on with safehold rekey",
    )
