"""``safehold fsck``: check everything that the home's ledger is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from safehold.cli.context import Home, session_of
from safehold.ledger.fsck import Problem, check_ledger
from safehold.ledger.segments.check import check_segments
from safehold.ledger.storage import Entry, Transaction, View
from safehold.model.errors import SafeholdError, VerificationFailed
from safehold.model.statements import decode
from safehold.state.invariants import check_order
from safehold.state.projection import digest_projections, rebuild

__all__ = ["command"]


class _Undo(Exception):
    """Leaves a transaction without keeping what it did."""


@click.command("fsck", epilog="Example: safehold fsck")
@click.pass_context
def command(context: click.Context) -> int:
    """Check tree, tiles, checkpoints, payloads, projections against a fresh fold, segments, and the invariants of order."""
    session = session_of(context)
    with session.open_home() as home:
        rolled_back = home.log.read_only
        with home.log.view() as view:
            size = view.size()
            problems = check_ledger(view, home.log.verifier)
            if not any(problem.code.startswith("fsck.entry") for problem in problems):
                problems += check_order(_entries(view))
                # A follower takes over the entries that seal segments; it has files if it wrote some itself.
                follows = rolled_back is not None and rolled_back.code == "ledger.follower"
                if home.segments.folder.exists() or not follows:
                    problems += check_segments(view, home.segments.folder)
        if rolled_back is not None and rolled_back.code != "ledger.follower":
            # What is there may hold in itself; that it is not all is the worst of problems.
            problems.insert(0, Problem("fsck.read_only", "ledger", rolled_back.message))
        elif not home.log.following:  # another process writes: its own fsck looks at projections
            problems += _check_projections(home)
    document: dict[str, Any] = {"size": size, "problems": problems}
    if problems:
        shown = [f"{problem.code} {problem.where}: {problem.message}" for problem in problems]
        if not session.json:
            session.out.result(document, shown)
        error = VerificationFailed(
            "cli.fsck", f"{len(problems)} problems in {size} entries, the first: {shown[0]}", "see docs/spec/ledger.md"
        )
        session.out.failure(error, **document)
        return error.exit_code
    session.out.result(
        document, [f"{size} entries: tree, tiles, checkpoints, payloads, projections, segments and order hold."]
    )
    return 0


def _entries(view: View) -> Iterator[Entry]:
    for begin in range(0, view.size(), 2048):
        for offset, body in enumerate(view.bodies(begin, begin + 2048)):
            yield Entry(begin + offset, body, decode(body))


def _check_projections(home: Home) -> list[Problem]:
    """Compare the projections with those of a fresh fold, made inside a transaction that is taken back."""
    found: list[Problem] = []

    def compare(transaction: Transaction) -> None:
        before = digest_projections(transaction)
        rebuild(transaction)
        if digest_projections(transaction) != before:
            found.append(
                Problem("fsck.projection", "projections", "they differ from a fresh fold: run `safehold rebuild`")
            )
        raise _Undo

    try:
        with home.log.write() as transaction:
            compare(transaction)
    except _Undo:
        pass
    except SafeholdError as error:
        found.append(Problem("fsck.projection", "projections", f"a fresh fold failed: {error.message}"))
    return found
