"""``safehold init``: make a home."""

from __future__ import annotations

import click

from safehold.cli.context import session_of

__all__ = ["command"]


@click.command(
    "init",
    epilog="Example: safehold --home my-lab --passphrase-file pass.txt init --origin my-lab.example/custody",
)
@click.option("--origin", required=True, help="The ledger's name for ever, like a URL without its scheme.")
@click.option("--store", metavar="URL", help="Keep the ledger in this PostgreSQL database: postgresql://HOST/DATABASE.")
@click.pass_context
def command(context: click.Context, origin: str, store: str | None) -> None:
    """Make a home: an empty ledger, its keys, and a key-encryption key under your passphrase.

    Keep the verifier line that this prints: with it anyone can check the ledger without trusting this machine.
    """
    session = session_of(context)
    home = session.factory().create(session.home, origin, session.read_passphrase(confirm=True), store=store)
    try:
        verifier = home.log.verifier.text
        checkpoint = home.log.checkpoint()
    finally:
        home.close()
    session.out.result(
        {"home": str(session.home), "origin": origin, "verifier": verifier, "size": checkpoint.size},
        [
            f"Made the home {session.home}.",
            f"Verifier line of its ledger: {verifier}",
            "Give that line to every party; keep the passphrase where this machine's thief is not.",
        ],
    )
