"""``safehold member``: people of a party, in the ledger by keyed digest alone."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.cli.context import session_of
from safehold.cli.keys import read_public_key
from safehold.cli.kinds import MEMBER, PARTY
from safehold.model.ids import MemberId, PartyId

__all__ = ["command"]


@click.group("member")
def command() -> None:
    """Register members and their keys; erase their names."""


@command.command("add", epilog="Example: safehold member add north-lab 'Rosa Diaz'")
@click.argument("party", type=PARTY)
@click.argument("name")
@click.pass_context
def _add(context: click.Context, party: PartyId, name: str) -> None:
    """Register a person. The name stays in an erasable file of this home; the ledger holds a keyed digest."""
    session = session_of(context)
    with session.open_home() as home:
        entry = home.registry.add_member(home.people.member_id(party, name))
        # The name is kept after the entry: a crash in between leaves an id without a name, which erasing does too.
        member = home.people.remember(party, name)
    session.out.result({"member": member, "entry": entry.index}, [f"Registered {member} (entry {entry.index})."])


@command.command("erase", epilog="Example: safehold member erase north-lab/m-0123456789abcdef0123")
@click.argument("member", type=MEMBER)
@click.pass_context
def _erase(context: click.Context, member: MemberId) -> None:
    """Erase a person's name for good. The id stays in the ledger, with nobody behind it."""
    session = session_of(context)
    with session.open_home() as home:
        home.people.erase(member)
    session.out.result({"member": member, "erased": True}, [f"Erased the name behind {member}."])


@command.command("key", epilog="Example: safehold member key north-lab/m-0123456789abcdef0123 --key rosa.pub")
@click.argument("member", type=MEMBER)
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="The member's SSH Ed25519 public key (.pub)."
)
@click.pass_context
def _key(context: click.Context, member: MemberId, key: Path) -> None:
    """Register the key that MEMBER signs with: approvals, and requests where the policy asks for it."""
    session = session_of(context)
    public = read_public_key(key)
    with session.open_home() as home:
        entry = home.registry.set_member_key(member, public)
    session.out.result(
        {"member": member, "key": public.key_id, "entry": entry.index},
        [f"{member} signs with {public.key_id} (entry {entry.index})."],
    )


@command.command("list", epilog="Example: safehold member list")
@click.pass_context
def _list(context: click.Context) -> None:
    """All members, with names where they are still kept."""
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            rows = view.rows("SELECT member, party, idx FROM member ORDER BY member")
        shown = [(member, party, home.people.name(member) or "", idx) for member, party, idx in rows]
    session.out.table("", ["member", "party", "name", "entry"], shown)
    if session.json:
        names = ("member", "party", "name", "entry")
        session.out.result({"members": [dict(zip(names, row, strict=True)) for row in shown]})
