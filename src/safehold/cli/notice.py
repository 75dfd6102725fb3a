"""``safehold notice``: who must be told by when, and drafts of what to tell them."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from safehold.cli.context import Home, session_of
from safehold.cli.kinds import ADVISORY
from safehold.cli.output import iso_time
from safehold.exposure.case import load_case
from safehold.exposure.duties import Deadline, Duty, due_duties, parse_duties, standing_duties
from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judgement, judge
from safehold.exposure.notices import AUDIENCES, Audience, draft_notice
from safehold.ledger.export import write_file
from safehold.model.errors import NotFound, StorageFailed
from safehold.model.ids import AdvisoryId

__all__ = ["command"]

_CONTRACTS = click.option(
    "--contracts", type=click.Path(path_type=Path), help="A TOML file with duties of contracts, in the form of ours."
)


@click.group("notice")
def command() -> None:
    """See who must be told by when, and draft what to tell them."""


@command.command("due", epilog="Example: safehold notice due PYSEC-2026-2 --contracts contracts.toml")
@click.argument("advisory", type=ADVISORY)
@_CONTRACTS
@click.pass_context
def _due(context: click.Context, advisory: AdvisoryId, contracts: Path | None) -> None:
    """List the duties that the affected releases bring, each with its source and date. No legal advice."""
    session = session_of(context)
    duties = _duties(contracts)
    with session.open_home() as home:
        case, judgement = _judged(home, advisory)
    found = due_duties(case, judgement, duties)
    session.out.table(
        "",
        ("duty", "tell", "due", "state", "why", "source"),
        [(one.duty.id, one.duty.to, _when(one), one.state, one.why, one.duty.source) for one in found],
    )
    silent = [
        judged.release.name
        for judged in (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
        if not judged.release.people
    ]
    noted = {clock.clock for clock in case.clocks}
    hint = (
        [f"Awareness is not noted: safehold evidence clock awareness {advisory} --at TIME"]
        if "awareness" not in noted and found
        else []
    )
    if silent:
        hint.append(
            f"How many people, and where, is not on record for {', '.join(silent)}: which laws apply is unknown."
        )
    session.out.result(
        {
            "advisory": advisory,
            "now": case.now,
            "people_unknown": silent,
            "duties": [msgspec.to_builtins(one) for one in found],
        },
        [*([] if found else ["No duty on file applies to what is on record."]), *hint],
    )


def _when(one: Deadline) -> str:
    if one.due is not None:
        return iso_time(one.due)
    return "-" if one.duty.within is None else f"{one.duty.within} h after {one.duty.clock}"


@command.command("draft", epilog="Example: safehold notice draft PYSEC-2026-2 --for workers --out workers.txt")
@click.argument("advisory", type=ADVISORY)
@click.option("--for", "audience", type=click.Choice(AUDIENCES), required=True, help="Who will read it.")
@click.option(
    "--to", default="", help="The customer's party (limits the data to his), or a name for the letter's head."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file; an older one is replaced.")
@_CONTRACTS
@click.pass_context
def _draft(
    context: click.Context, advisory: AdvisoryId, audience: Audience, to: str, out: Path, contracts: Path | None
) -> None:
    """Draft a notice from what stands on record. Gaps in [brackets] are for you; nothing is sent.

    When it was sent, record it: safehold evidence notice.
    """
    session = session_of(context)
    duties = _duties(contracts)
    with session.open_home() as home:
        case, judgement = _judged(home, advisory)
    made = draft_notice(case, judgement, due_duties(case, judgement, duties), audience, to)
    try:
        write_file(out, made.text.encode())
    except OSError as error:
        raise StorageFailed("cli.write", f"{out} cannot be written: {error.strerror}", "choose another file") from error
    session.out.result(
        {"advisory": advisory, "audience": audience, "file": str(out), "gaps": made.gaps},
        [
            f"Wrote {out}. To be filled in: {len(made.gaps)} gaps in [brackets].",
            f"When it was sent: safehold evidence notice {advisory} {out} --to …",
        ],
    )


def _judged(home: Home, advisory: AdvisoryId) -> tuple[Case, Judgement]:
    with home.log.view() as view:
        case = load_case(view, advisory, home.clock())
    return case, judge(case)


def _duties(contracts: Path | None) -> tuple[Duty, ...]:
    if contracts is None:
        return standing_duties()
    try:
        text = contracts.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound("cli.contracts", f"{contracts} cannot be read as text", "name another --contracts") from error
    return (*parse_duties(text, contracts.name), *standing_duties())
