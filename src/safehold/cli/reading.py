"""What verbs share that read a release of this home: who reads, by which grant, and one request to the broker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, Self

import click
import msgspec

from safehold.broker.client import KeyOrder
from safehold.broker.proof import Signers
from safehold.cli.context import Home, Session
from safehold.cli.grant_file import read_grant_file
from safehold.cli.keys import host_signer
from safehold.cli.kinds import HOST, MEMBER, words
from safehold.cli.stores import lying_place, named_release, read_place
from safehold.ledger.keys import SigningKey
from safehold.model.ids import HostId, MemberId, parse_group_name, parse_purpose
from safehold.readers import open_with_broker
from safehold.readers.opening import Opening
from safehold.state.standing import ReleaseRow, find_grant
from safehold.vault.stored_release import StoredRelease, expect_stored
from safehold.vault.verify import Release, expect_release, load_release

__all__ = ["Named", "ReadWish", "Reader", "reading_options"]

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


class Named(msgspec.Struct, frozen=True):
    """A release as the ledger has it, and as it lies in the home's folder or in a store; nothing is opened."""

    row: ReleaseRow
    place: Release | StoredRelease


class Reader:
    """Reads releases as its ``wish`` says, wherever they lie. Use it in a ``with`` block: what came from a store goes then."""

    def __init__(self, home: Home, session: Session, wish: ReadWish) -> None:
        self._home = home
        self._session = session
        self._wish = wish
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def find(self, text: str) -> Named:
        """The release that ``text`` names, by name or by where it lies; no key is asked for.

        Raises ``NotFound`` and as ``load_release`` and ``load_stored``.
        """
        found = named_release(self._session, self._home, text)
        place, digest = lying_place(self._session, self._home, found), found[0].release
        if isinstance(place, StoredRelease):
            return Named(found[0], expect_stored(place, digest))
        return Named(found[0], expect_release(load_release(place), digest))

    def open(self, named: Named) -> Opening:
        """Open it with keys from the broker. Raises what ``open_with_broker`` raises."""
        wish, row = self._wish, named.row
        file = read_grant_file(wish.grant)
        with self._home.log.view() as view:
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
        broker = self._home.broker(self._session.read_passphrase)
        by_member = SigningKey.load(wish.member_key) if wish.member_key else None
        signer = Signers(host_signer(self._home, wish.host, wish.key), by_member)
        lying = named.place.folder if isinstance(named.place, Release) else named.place
        place = self._ending.enter_context(read_place(lying, order.groups))
        return open_with_broker(place, order, broker, signer, self._home.clock)
