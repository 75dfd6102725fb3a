"""Names of members: kept beside the ledger, never in it, and erasable.

A member's id is a keyed digest (HMAC-SHA-256, first 80 bits) of the name, so that a leaked ledger is no list of
people and cannot be tried against a telephone book without the key. Erasing a name leaves the id in the ledger
with nobody behind it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from safehold.model.errors import InputInvalid, NotFound, StorageFailed
from safehold.model.ids import MemberId, PartyId, parse_member_id

__all__ = ["People", "control_characters"]

_MAX_NAME: Final = 200


class People:
    """The erasable table from member id to name, in one small file with mode 0600; ``key`` is 32 random bytes.

    Several processes may use it at once: each change holds a lock beside the file, so that no name is lost and none
    that was erased comes back by somebody's older copy.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        if len(key) != 32:
            raise InputInvalid("registry.people_key", "the key of the list of names must be 32 bytes")
        self._path = path
        self._key = key

    def member_id(self, party: PartyId, name: str) -> MemberId:
        """The id of a person of a party: the same name in the same party gives the same id."""
        plain = unicodedata.normalize("NFC", name).strip()
        if not plain or len(plain) > _MAX_NAME or control_characters(plain):
            raise InputInvalid("registry.member_name", f"a name is one line of 1 to {_MAX_NAME} characters")
        digest = hmac.new(self._key, f"{party}\n{plain}".encode(), hashlib.sha256).hexdigest()[:20]
        return parse_member_id(f"{party}/m-{digest}")

    def remember(self, party: PartyId, name: str) -> MemberId:
        """Keep a name; return its id."""
        member = self.member_id(party, name)
        with self._locked():
            names = self._load()
            names[member] = unicodedata.normalize("NFC", name).strip()
            self._store(names)
        return member

    def name(self, member: MemberId) -> str | None:
        """The name behind an id, or None if it was erased or is not known here."""
        return self._load().get(member)

    def erase(self, member: MemberId) -> None:
        """Forget a name for good; ``NotFound`` (``registry.no_name``) if there is none."""
        with self._locked():
            names = self._load()
            if names.pop(member, None) is None:
                raise NotFound("registry.no_name", f"no name is kept for {member}")
            self._store(names)

    def _load(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise StorageFailed(
                "registry.people", f"the list of names {self._path} cannot be read", "restore it from a backup"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _not_written(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and with it the lock

    def _store(self, names: dict[str, str]) -> None:
        """Write all names anew: a crash leaves the old list or the new one, and no third file with names in it."""
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(msgspec.json.encode(dict(sorted(names.items()))))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self._path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # else an erased name may be back after a power cut
            finally:
                os.close(folder)
        except OSError as error:
            raise _not_written(error) from error


def control_characters(text: str) -> str:
    """What of ``text`` cannot stand in a line of a terminal: controls, line breaks, unpaired surrogates."""
    return "".join(character for character in text if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"})


def _not_written(error: OSError) -> StorageFailed:
    return StorageFailed(
        "registry.people",
        f"the list of names cannot be written: {error.strerror}",
        "free some space, run again",
    )
