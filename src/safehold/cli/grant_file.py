"""The file that a grant travels in: its token, the public key that it verifies under, and its id for people."""

from __future__ import annotations

from pathlib import Path

import msgspec

from safehold.ledger.export import write_file
from safehold.model.encoding import pretty_json, resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed
from safehold.model.ids import GrantId, parse_grant_id

__all__ = ["GrantFile", "read_grant_file", "write_grant_file"]

_FORM = "safehold-grant-v1"
_MAX_BYTES = 65_536


class GrantFile(msgspec.Struct, frozen=True, kw_only=True):
    """``token`` is Biscuit in URL-safe base64, ``root`` the broker's public grant key in hex."""

    form: str = _FORM
    grant: GrantId
    root: str
    token: str

    @property
    def root_bytes(self) -> bytes:
        """The public grant key."""
        return bytes.fromhex(self.root)


def read_grant_file(path: Path) -> GrantFile:
    """Read a grant's file. Raises ``NotFound`` (``cli.grant_file``) or ``InputInvalid`` (``cli.grant_form``)."""
    try:
        with path.open("rb") as file:
            grant = msgspec.json.decode(file.read(_MAX_BYTES + 1), type=resolved(GrantFile))
        parse_grant_id(grant.grant)
        bytes.fromhex(grant.root)
    except OSError as error:
        raise NotFound(
            "cli.grant_file",
            f"the grant {path} cannot be read: {error.strerror}",
            "make one with: safehold grant issue",
        ) from error
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError) as error:
        raise InputInvalid("cli.grant_form", f"{path} is not a grant's file", "use what `grant issue` wrote") from error
    if grant.form != _FORM:
        raise InputInvalid("cli.grant_form", f"{path} is a grant of another form", "use what `grant issue` wrote")
    return grant


def write_grant_file(path: Path, grant: GrantFile) -> None:
    """Write it to a new file. Raises ``Conflict`` (``cli.out_exists``) or ``StorageFailed``."""
    if path.exists():
        raise Conflict("cli.out_exists", f"{path} is there already", "choose another --out")
    try:
        write_file(path, (pretty_json(grant) + "\n").encode())
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{path} cannot be written: {error.strerror}", "choose another --out"
        ) from error
