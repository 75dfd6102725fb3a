"""``safehold erase``: destroy the keys of a release, so that nobody can read it again."""

from __future__ import annotations

import click

from safehold.assembly.retirement import Ending, Retirement
from safehold.cli.context import session_of
from safehold.model.errors import InputInvalid

__all__ = ["command"]


@click.command(
    "erase", epilog="Example: safehold erase quill-works/word-problems@1 --reason 'request of a person' --yes"
)
@click.argument("release")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.option("--dry-run", is_flag=True, help="Say what would be destroyed and what stays readable; change nothing.")
@click.option("--yes", is_flag=True, help="Do it. There is no way back.")
@click.pass_context
def command(context: click.Context, release: str, reason: str, dry_run: bool, yes: bool) -> None:
    """Destroy the keys of RELEASE (PARTY/DATASET@VERSION). It is retired first; every proof about it still verifies.

    A file that a later release shares can still be opened with that release's keys: erase those releases too, or seal the
    next one with `--keep nothing` first.
    """
    session = session_of(context)
    if not (dry_run or yes):
        raise InputInvalid("cli.erase", "erasing has no way back", "look with --dry-run, then give --yes")
    with session.open_home() as home:
        retirement = Retirement(home.log, home.clock, home.registry.by)
        keys = home.key_store()
        if dry_run:
            ending = retirement.plan(release, keys)
            session.out.result(
                {"dry_run": True, "release": release, **_plain(ending)},
                [f"Would destroy the {ending.keys} keys of {release}. Nothing was changed.", *_stays(ending)],
            )
            return
        erased = retirement.erase(release, keys, reason)
    session.out.result(
        {"release": release, "destroyed": erased.keys, **_plain(erased.ending), "entry": erased.entry.index},
        [f"Destroyed {erased.keys} keys of {release} (entry {erased.entry.index}).", *_stays(erased.ending)],
    )


def _plain(ending: Ending) -> dict[str, object]:
    return {
        "digest": ending.release.release,
        "keys": ending.keys,
        "files": ending.files,
        "files_still_readable": ending.kept,
        "shared_with": [one.name for one in ending.shared],
    }


def _stays(ending: Ending) -> list[str]:
    if not ending.kept:
        return ["  No other release shares a file of it."]
    names = ", ".join(one.name for one in ending.shared)
    return [
        f"  NOTE: {ending.kept} of its {ending.files} files belong to {names} too and can be opened with those keys."
    ]
