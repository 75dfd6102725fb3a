"""``safehold advisory sync``, ``trust`` and ``bundle``: advisories from a source that signs what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from safehold.cli.context import Home, session_of
from safehold.cli.exposure_watch import differences
from safehold.cli.keys import read_public_key
from safehold.exposure.case import load_case
from safehold.exposure.report import Report, answer_all
from safehold.inventory.bundles import make_bundle
from safehold.inventory.changes import claim_changes
from safehold.inventory.documents import AdvisoryDocument
from safehold.inventory.intake import TakenAdvisory
from safehold.inventory.syncing import Syncing
from safehold.ledger.keys import SigningKey
from safehold.ledger.source import open_source
from safehold.model.errors import SafeholdError
from safehold.model.ids import AdvisoryId

__all__ = ["bundle_command", "recorded_with_changes", "sync_command", "trust_command"]


@click.command("trust", epilog="Example: safehold advisory trust osv-mirror osv-mirror.pub")
@click.argument("source")
@click.argument("key", type=click.Path(path_type=Path))
@click.pass_context
def trust_command(context: click.Context, source: str, key: Path) -> None:
    """Take bundles of SOURCE that this public key signs, and no other key's: the newest word counts."""
    session = session_of(context)
    public = read_public_key(key)
    with session.open_home() as home:
        entry = _syncing(home).trust(source, public)
    document = {"source": source, "key": public.key_id, "entry": entry}
    session.out.result(document, [f"{source} is trusted by {public.key_id} (entry {entry})."])


@click.command(
    "bundle", epilog="Example: safehold advisory bundle advisories/ out/ --source osv-mirror --number 7 --key id"
)
@click.argument("files", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--source", required=True, help="The name under which others trust your key.")
@click.option("--number", type=click.IntRange(1), required=True, help="Greater than in every bundle before.")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Your private SSH key (Ed25519).")
@click.pass_context
def bundle_command(context: click.Context, files: Path, out: Path, source: str, number: int, key: Path) -> None:
    """Sign a folder of advisories for others: write a bundle to OUT, to be copied or served as it is."""
    session = session_of(context)
    made = make_bundle(files, out, (source, number, session.clock()), SigningKey.load(key))
    document = {"source": source, "number": number, "digest": made.digest, "files": len(made.files)}
    session.out.result(document, [f"Bundle {number} of {source}: {len(made.files)} advisories, {made.digest}"])


@click.command("sync", epilog="Example: safehold advisory sync /mnt/usb/advisories")
@click.argument("place")
@click.pass_context
def sync_command(context: click.Context, place: str) -> int:
    """Take in a signed bundle from a folder or URL; match, answer again what changed, and show the difference.

    Refused: what is unsigned, signed by a key that is not trusted, or older than what its source said before.
    """
    session = session_of(context)
    changed: dict[str, list[str]] = {}
    tree = open_source(place)
    try:
        with session.open_home() as home:
            synced = _syncing(home).sync(
                tree, lambda document, act: recorded_with_changes(home, document, act, changed)
            )
    finally:
        tree.close()
    failed = [{"name": name, "code": error.code, "message": error.message} for name, error in synced.failures]
    rows = [
        {
            "advisory": one.document.advisory,
            "document": one.document.digest,
            "findings": len(one.findings),
            "entry": one.entry.index if one.entry else None,
            "changes": changed.get(one.document.advisory, []),
        }
        for one in synced.taken
    ]
    bundle = synced.bundle
    seen = " (taken before)" if synced.known else ""
    lines = [
        f"Bundle {bundle.number} of {bundle.source}{seen}: {len(bundle.files)} advisories, {len(rows)} new or changed."
    ]
    for row in rows:
        lines += [f"{row['advisory']}: {row['findings']} findings (entry {row['entry']})"]
        lines += [f"  {line}" for line in changed.get(str(row["advisory"]), [])]
    lines += [f"NOT READ {one['name']}: {one['message']} [{one['code']}]" for one in failed]
    document = {
        "source": bundle.source,
        "number": bundle.number,
        "digest": bundle.digest,
        "advisories": rows,
        "failed": failed,
    }
    session.out.result(document, lines)
    return 2 if failed else 0


def _syncing(home: Home) -> Syncing:
    return Syncing(home.log, home.intake, home.clock, home.log.verifier.key.key_id)


def recorded_with_changes(
    home: Home, document: AdvisoryDocument, act: Callable[[], TakenAdvisory], changed: dict[str, list[str]]
) -> TakenAdvisory:
    """Record a document; where the advisory was known before, keep what is different in its claims and in the answers."""
    before = home.intake.newest_document(document.advisory)
    if before is None or before.digest == document.digest:
        return act()
    earlier = _report(home, document.advisory)
    taken = act()
    lines = claim_changes(before, document)
    later = _report(home, document.advisory)
    if earlier is not None and later is not None:
        lines += [f"answers: {line}" for line in differences(earlier, later)]
    changed[document.advisory] = lines
    return taken


def _report(home: Home, advisory: AdvisoryId) -> Report | None:
    """The answers now; None where nothing can be asked of this advisory."""
    try:
        with home.log.view() as view:
            return answer_all(load_case(view, advisory, home.clock()))
    except SafeholdError:
        return None
