"""``safehold ingest``: take in a release that a supplier sealed elsewhere, and countersign it."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.assembly.ingest import Ingest
from safehold.cli.context import session_of
from safehold.cli.keys import party_signer
from safehold.vault.verify import load_release

__all__ = ["command"]


@click.command("ingest", epilog="Example: safehold ingest delivered/word-problems-1")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="The customer's private key; without, the one made here.")
@click.pass_context
def command(context: click.Context, folder: Path, key: Path | None) -> None:
    """Verify the release in FOLDER, add the customer's signature, keep it in the home and record it.

    The supplier's signature stays beside ours; `safehold verify --signer … --countersigner …` checks both, with no key.
    """
    session = session_of(context)
    customer = load_release(folder).manifest.customer
    with session.open_home() as home:
        ingest = Ingest(
            home.log,
            lambda manifest: home.release_folder(manifest.dataset, manifest.version),
            home.clock,
            home.registry.by,
        )
        taken = ingest.take_in(folder, party_signer(home, customer, key))
    name = f"{taken.manifest.dataset}@{taken.manifest.version}"
    where = f"entry {taken.entry.index}" if taken.entry is not None else "recorded before"
    session.out.result(
        {
            "release": name,
            "digest": taken.release,
            "folder": str(taken.folder),
            "signers": taken.signers,
            "entry": None if taken.entry is None else taken.entry.index,
        },
        [
            f"Took in {name} ({where}).",
            f"  sealed by {taken.manifest.party}: {taken.signers[0]}",
            f"  countersigned by {taken.manifest.customer}: {taken.signers[1]}",
        ],
    )
