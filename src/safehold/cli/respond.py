"""``safehold respond``: decide on a response, carry it out as one plan, and prove its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from safehold.cli.context import session_of
from safehold.cli.kinds import ADVISORY, MEMBER, RESPONSE
from safehold.cli.output import iso_time
from safehold.cli.policy_in_force import chosen_profile
from safehold.cli.whatif import option_document, option_words
from safehold.containment import (
    COURSE_WORDS,
    COURSES,
    PROFILES,
    Planned,
    Profile,
    Ruling,
    StepState,
    list_responses,
    response_steps,
)
from safehold.model.errors import InputInvalid, NotFound
from safehold.model.ids import AdvisoryId, MemberId, ResponseId
from safehold.model.statements_response import Course

__all__ = ["command"]


@click.group("respond")
def command() -> None:
    """Carry out a response to an incident, and prove what was done."""


@command.command(
    "decide", epilog="Example: safehold respond decide PYSEC-2026-2 --course suspend-hosts --reason 'ci-1 held it'"
)
@click.argument("advisory", type=ADVISORY)
@click.option("--course", type=click.Choice(COURSES), required=True, help="What to do; see `safehold whatif`.")
@click.option("--reason", required=True, help="Why; it stands in the ledger and in every refusal.")
@click.option("--profile", type=click.Choice(PROFILES), help="Whose proposal to keep. [the policy's]")
@click.option("--member", type=MEMBER, help="Who rules so.")
@click.option(
    "--clean-days", type=click.FloatRange(0, 365), help="Days of clean inventories before a lift. [the profile's]"
)
@click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing.")
@click.pass_context
def _decide(context: click.Context, /, advisory: AdvisoryId, dry_run: bool, **options: Any) -> None:
    """Decide on ADVISORY: holds and plan are one append, all or nothing."""
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            options["profile"], chosen_by = chosen_profile(view, options["profile"])
        ruling = _ruling(advisory, **options)
        planned = home.responses.preview(ruling) if dry_run else home.responses.carry_out(ruling)
    session.out.result(
        {"dry_run": dry_run, "chosen_by": chosen_by, **_document(planned)}, _words(planned, dry_run=dry_run)
    )


def _ruling(
    advisory: AdvisoryId,
    course: Course,
    reason: str,
    profile: Profile,
    member: MemberId | None,
    clean_days: float | None,
) -> Ruling:
    return Ruling(
        advisory=advisory,
        course=course,
        profile=profile,
        reason=reason,
        member=member,
        clean_for=None if clean_days is None else round(clean_days * 86_400),
    )


def _document(planned: Planned) -> dict[str, Any]:
    return {
        "response": None if planned.entry is None else planned.response,
        "entry": None if planned.entry is None else planned.entry.index,
        "option": option_document(planned.option),
        "proposal": msgspec.to_builtins(planned.proposal),
        "clean_for": planned.clean_for,
        "steps": [
            {
                "step": number,
                "act": step.act,
                "subject": str(step.subject) if step.subject else None,
                "words": step.words,
            }
            for number, step in enumerate(planned.steps)
        ],
    }


def _words(planned: Planned, *, dry_run: bool) -> list[str]:
    course = COURSE_WORDS[planned.option.course]
    proposed = planned.proposal
    entry = planned.entry
    first = (
        f"Nothing was changed. The plan to {course}:"
        if dry_run or entry is None
        else f"{planned.response}: {course} (entry {entry.index}). The holds are in force."
    )
    against = (
        [f"  the profile {proposed.profile} proposed to {COURSE_WORDS[proposed.course]}: {proposed.why}"]
        if proposed.course != planned.option.course
        else []
    )
    steps = [f"  {number}. {step.act}: {_what(step.subject, step.words)}" for number, step in enumerate(planned.steps)]
    condition = (
        [f"  a hold is lifted after {planned.clean_for / 86_400:g} d of clean inventories"] if planned.clean_for else []
    )
    return [first, *option_words(planned.option), *against, "Steps:", *steps, *condition]


@command.command("list", epilog="Example: safehold respond list")
@click.pass_context
def _show_all(context: click.Context) -> None:
    """List responses, and how far each is."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        found = list_responses(view)
    session.out.table(
        "",
        ("response", "incident", "course", "done", "decided", "reason"),
        [
            (
                one["response"],
                one["advisory"],
                one["course"],
                f"{one['done']} of {one['steps']}",
                f"entry {one['entry']}",
                one["reason"],
            )
            for one in found
        ],
    )
    session.out.result({"responses": found}, [] if found else ["No response was decided yet. Compare: safehold whatif"])


@command.command("show", epilog="Example: safehold respond show r-0123456789abcdef")
@click.argument("response", type=RESPONSE)
@click.pass_context
def _show(context: click.Context, response: ResponseId) -> None:
    """Show the steps of RESPONSE: what is done, by which entry, and what is open."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        steps = response_steps(view, response)
    session.out.table(response, ("step", "act", "what", "done", "proof"), [_step(one) for one in steps])
    still = [one for one in steps if one.done is None]
    after = (
        [f"{len(still)} steps are open; the next: safehold respond prove {response} {still[0].step} --proof '…'"]
        if still
        else ["All steps are done."]
    )
    session.out.result(
        {"response": response, "open": len(still), "steps": [msgspec.to_builtins(one) for one in steps]}, after
    )


def _what(subject: object, words: str) -> str:
    return words if subject is None or str(subject) in words else f"{subject}: {words}"


def _step(one: StepState) -> tuple[str, ...]:
    done = "open" if one.done is None else f"entry {one.done}, {iso_time(one.done_t)}"
    return (
        str(one.step),
        one.act,
        _what(one.subject, one.words),
        done,
        one.proof or ("in force since" if one.act == "hold" else ""),
    )


@command.command(
    "prove", epilog="Example: safehold respond prove r-0123456789abcdef 3 --proof 'new tokens, old ones refused'"
)
@click.argument("response", type=RESPONSE)
@click.argument("step", type=click.IntRange(0, 9999))
@click.option("--proof", required=True, help="What shows that it is done.")
@click.option("--document", type=click.Path(path_type=Path), help="A file that shows it, kept in the home.")
@click.option("--member", type=MEMBER, help="Who says so.")
@click.pass_context
def _prove(
    context: click.Context, response: ResponseId, step: int, proof: str, document: Path | None, member: MemberId | None
) -> None:
    """Record that STEP of RESPONSE is done."""
    session = session_of(context)
    kept = None if document is None else _read(document)
    with session.open_home() as home:
        entry = home.responses.prove(response, step, proof, kept, member)
        with home.log.view() as view:
            still = sum(one.done is None for one in response_steps(view, response))
    session.out.result(
        {"response": response, "step": step, "entry": entry.index, "open": still},
        [f"Step {step} of {response} is done (entry {entry.index}); {still} are open."],
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read((1 << 20) + 1)
    except OSError as error:
        raise NotFound("cli.document", f"{path} cannot be read: {error.strerror}", "name another --document") from error
    if len(data) > 1 << 20:
        raise InputInvalid(
            "cli.document_size", f"{path} is larger than 1 MiB", "name a smaller file, or its digest in --proof"
        )
    return data
