"""Part keys between the key store and whoever may see them in the clear: wrapped on the way in, unwrapped out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safehold.model.ids import Digest
from safehold.vault.kek import Kek
from safehold.vault.keystore import KeyStore

__all__ = ["WrappedKeys"]


class WrappedKeys:
    """A key store with its key-encryption key behind it."""

    def __init__(self, store: KeyStore, kek: Kek) -> None:
        self._store = store
        self._kek = kek

    def store(self, release: Digest, keys: Mapping[str, bytes]) -> None:
        """Wrap and keep the keys of a release, by file name: all of them, durably, or none.

        Raises what ``KeyStore.put_all`` raises.
        """
        wrapped = {file: self._kek.wrap(key) for file, key in keys.items()}
        self._store.put_all(release, self._kek.id, wrapped)

    @property
    def kek(self) -> Kek:
        """The key-encryption key, for whoever keeps keys of unfinished work."""
        return self._kek

    def held(self, release: Digest) -> int:
        """How many keys of a release are kept here."""
        return self._store.count(release)

    def unwrap(self, release: Digest, files: Sequence[str]) -> Mapping[str, bytes]:
        """The 32-byte keys of these part files.

        Raises ``NotFound`` if they were never kept or were erased, ``VerificationFailed`` (``vault.unwrap``).
        """
        return {file: self._kek.unwrap(wrapped) for file, wrapped in self._store.get(release, files).items()}
