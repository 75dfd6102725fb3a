"""``safehold party``: register and list organisations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from safehold.cli.context import session_of
from safehold.cli.keys import read_public_key
from safehold.cli.kinds import PARTY
from safehold.model.ids import PartyId

__all__ = ["command"]


@click.group("party")
def command() -> None:
    """Register and list parties."""


@command.command("add", epilog="Example: safehold party add quill-works --role supplier --title 'Quill Works'")
@click.argument("party", type=PARTY)
@click.option("--role", type=click.Choice(["lab", "supplier"]), required=True, help="What the party is to the data.")
@click.option("--title", default="", help="Its name for people.")
@click.option(
    "--key", type=click.Path(path_type=Path), help="Its OpenSSH public key (.pub); without, one is made here."
)
@click.pass_context
def _add(
    context: click.Context, party: PartyId, role: Literal["lab", "supplier"], title: str, key: Path | None
) -> None:
    """Register a party with the key that signs its manifests."""
    session = session_of(context)
    with session.open_home() as home:
        public = read_public_key(key) if key else home.new_party_key(party).public
        entry = home.registry.add_party(party, role, title or party, public)
    session.out.result(
        {"party": party, "role": role, "key": public.key_id, "entry": entry.index},
        [f"Registered {role} {party}, key {public.key_id} (entry {entry.index})."],
    )


@command.command("list", epilog="Example: safehold party list")
@click.pass_context
def _list(context: click.Context) -> None:
    """All parties."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        rows = view.rows("SELECT party, role, title, idx FROM party ORDER BY party")
    session.out.table("", ["party", "role", "title", "entry"], rows)
    if session.json:
        names = ("party", "role", "title", "entry")
        session.out.result({"parties": [dict(zip(names, row, strict=True)) for row in rows]})
