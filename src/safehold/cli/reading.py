"""What verbs share that read a release of this home: who reads, by which grant, and one request to the broker."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from safehold.broker.client import KeyOrder
from safehold.broker.proof import Signers
from safehold.cli.context import Home, Session
from safehold.cli.grant_file import read_grant_file
from safehold.cli.keys import host_signer
from safehold.cli.kinds import HOST, MEMBER, words
from safehold.ledger.keys import SigningKey
from safehold.model.ids import HostId, MemberId, parse_group_name, parse_purpose
from safehold.readers import open_with_broker
from safehold.readers.opening import Opening
from safehold.state.standing import ReleaseRow, find_grant

__all__ = ["ReadWish", "Reader", "reading_options"]

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--host", type=HOST, required=True, help="The machine that reads."),
    click.option("--grant", type=_FILE, required=True, help="The grant's file."),
    click.option("--groups", help="Column groups, comma-separated. Without: all that the grant names."),
    click.option("--purpose", default="training", show_default=True, help="What for; the grant must allow it."),
    click.option("--key", type=_FILE, help="The host's private key; without, the one made here."),
    click.option("--member", type=MEMBER, help="Who reads."),
    click.option("--member-key", type=_FILE, help="The member's private key, where the policy asks for it."),
)


class ReadWish(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads, and by which grant; ``groups`` None takes all that the grant names. Keys are files."""

    host: HostId
    grant: Path
    groups: str | None
    purpose: str
    key: Path | None
    member: MemberId | None
    member_key: Path | None


def reading_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of a reader; they come to it as one ``wish``."""

    @wraps(function)
    def with_wish(*arguments: Any, **given: Any) -> None:
        wish = ReadWish(**{name: given.pop(name) for name in ReadWish.__struct_fields__})
        function(*arguments, wish=wish, **given)

    for option in reversed(_OPTIONS):
        with_wish = option(with_wish)
    return with_wish


class Reader(msgspec.Struct, frozen=True):
    """Reads releases of this home as its ``wish`` says."""

    home: Home
    session: Session
    wish: ReadWish

    def open(self, row: ReleaseRow) -> Opening:
        """A release of this home with keys from the broker. Raises what ``open_with_broker`` raises."""
        wish = self.wish
        file = read_grant_file(wish.grant)
        with self.home.log.view() as view:
            grant = find_grant(view, file.grant)
        covered = [group for group in row.groups if grant is None or group in grant.groups]
        chosen = words(wish.groups) if wish.groups else covered
        order = KeyOrder(
            release=row.release,
            groups=[parse_group_name(group) for group in chosen] or list(row.groups),
            purpose=parse_purpose(wish.purpose),
            host=wish.host,
            member=wish.member,
            grant=file.token,
        )
        broker = self.home.broker(self.session.read_passphrase)
        folder = self.home.release_folder(row.dataset, row.version)
        by_member = SigningKey.load(wish.member_key) if wish.member_key else None
        signer = Signers(host_signer(self.home, wish.host, wish.key), by_member)
        return open_with_broker(folder, order, broker, signer, self.home.clock)
