"""Names of members: kept beside the ledger, never in it, and erasable.

A member's id is a keyed digest (HMAC-SHA-256, first 80 bits) of the name, so that a leaked ledger is no list of
people and cannot be tried against a telephone book without the key. Erasing a name leaves the id in the ledger
with nobody behind it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import Final

import msgspec

from safehold.model.errors import InputInvalid, NotFound, StorageFailed
from safehold.model.ids import MemberId, PartyId, parse_member_id

__all__ = ["People"]

_MAX_NAME: Final = 200


class People:
    """The erasable table from member id to name, in one small file with mode 0600; ``key`` is 32 random bytes."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key

    def member_id(self, party: PartyId, name: str) -> MemberId:
        """The id of a person of a party: the same name in the same party gives the same id."""
        plain = unicodedata.normalize("NFC", name).strip()
        if not plain or len(plain) > _MAX_NAME or any(ord(character) < 0x20 for character in plain):
            raise InputInvalid("registry.member_name", f"a name is one line of 1 to {_MAX_NAME} characters")
        digest = hmac.new(self._key, f"{party}\n{plain}".encode(), hashlib.sha256).hexdigest()[:20]
        return parse_member_id(f"{party}/m-{digest}")

    def remember(self, party: PartyId, name: str) -> MemberId:
        """Keep a name; return its id."""
        member = self.member_id(party, name)
        names = self._load()
        names[member] = unicodedata.normalize("NFC", name).strip()
        self._store(names)
        return member

    def name(self, member: MemberId) -> str | None:
        """The name behind an id, or None if it was erased or is not known here."""
        return self._load().get(member)

    def erase(self, member: MemberId) -> None:
        """Forget a name for good; ``NotFound`` (``registry.no_name``) if there is none."""
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

    def _store(self, names: dict[str, str]) -> None:
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".people-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(dict(sorted(names.items()))))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            raise StorageFailed(
                "registry.people",
                f"the list of names cannot be written: {error.strerror}",
                "free some space, run again",
            ) from error
