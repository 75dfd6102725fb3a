"""``safehold whatif``: responses to an incident side by side, and what a profile proposes. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import msgspec

from safehold.cli.context import session_of
from safehold.cli.kinds import ADVISORY
from safehold.cli.output import iso_time
from safehold.cli.policy_in_force import chosen_profile
from safehold.containment import (
    COURSE_WORDS,
    PROFILES,
    Concern,
    Option,
    Profile,
    Proposal,
    compare,
    load_concern,
    propose,
    sealing_hosts,
)
from safehold.model.ids import AdvisoryId

__all__ = ["command", "option_document", "option_words"]


@click.command("whatif", epilog="Example: safehold whatif PYSEC-2026-2 --profile measured")
@click.argument("advisory", type=ADVISORY)
@click.option("--profile", type=click.Choice(PROFILES), help="Who proposes. [the policy's; without one: measured]")
@click.pass_context
def command(context: click.Context, advisory: AdvisoryId, profile: Profile | None) -> None:
    """Compare the courses that one may take after ADVISORY: what each would stop, end and leave.

    Four courses: suspend the supplier, suspend the hosts, revoke grants and rotate, go on and watch.
    """
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        concern = load_concern(view, advisory, home.clock())
        proposing, chosen_by = chosen_profile(view, profile)
        proposal = propose(concern, proposing, sealing_hosts(view))
    options = compare(concern)
    session.out.table(
        f"{advisory}: {_count(len(concern.concerned), 'host')} concerned, as of entry {concern.size - 1}",
        ("", *(COURSE_WORDS[option.course] for option in options)),
        _rows(options),
    )
    session.out.result(
        {
            "advisory": advisory,
            "incident": concern.incident,
            "entries": concern.size,
            "hosts": [msgspec.to_builtins(host) for host in concern.concerned],
            "options": [option_document(option) for option in options],
            "open_tasks": None,
            "proposal": msgspec.to_builtins(proposal) | {"chosen_by": chosen_by},
        },
        [*_hosts(concern), *_proposed(proposal, advisory, chosen_by)],
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _rows(options: Iterable[Option]) -> Iterable[tuple[str, ...]]:
    every = list(options)

    def line(title: str, cells: Iterable[str]) -> tuple[str, ...]:
        return (title, *cells)

    yield line("holds", (", ".join(map(str, one.holds)) or "nobody" for one in every))
    yield line("stops hosts", (_stopped_hosts(one) for one in every))
    yield line(
        "stops datasets", (f"{len(one.stops.datasets)} ({_count(one.stops.releases, 'release')})" for one in every)
    )
    yield line("stops for", (", ".join(one.stops.customers) or "no customer" for one in every))
    yield line("leases not renewed", (str(one.stops.leases) for one in every))
    yield line("runs, models on them", (f"{len(one.stops.runs)}, {len(one.stops.models)}" for one in every))
    yield line("ends ways to data", (f"{len(one.ends)} of {len(one.ends) + len(one.stays)}" for one in every))
    yield line(
        "open tasks of people", ("not recorded here: ask the supplier" if one.holds else "none" for one in every)
    )
    yield line("leaves", ("; ".join(one.left) for one in every))


def _stopped_hosts(option: Option) -> str:
    beside = f", {len(option.stops.bystanders)} of them not concerned" if option.stops.bystanders else ""
    return f"{len(option.stops.hosts)}{beside}"


def _hosts(concern: Concern) -> list[str]:
    lines = []
    for host in concern.concerned:
        said = []
        if host.holding:
            said.append(f"holds {', '.join(host.holding)}")
        elif host.touched:
            said.append("held it, and reported without it since")
        if host.silent_since is not None:
            said.append(f"silent since {iso_time(host.silent_since)}")
        lines.append(f"  {host.host}: {'; '.join(said)}")
    return lines or ["No host is concerned, and none is silent."]


def _proposed(proposal: Proposal, advisory: str, chosen_by: str) -> list[str]:
    return [
        f"The profile {proposal.profile} ({chosen_by}) proposes: {COURSE_WORDS[proposal.course]}. {proposal.why}.",
        f"Decide: safehold respond decide {advisory} --course {proposal.course} --reason '…' --dry-run",
    ]


def option_document(option: Option) -> dict[str, Any]:
    """An option as plain data."""
    document: dict[str, Any] = msgspec.to_builtins(option)
    document["holds"] = [str(subject) for subject in option.holds]
    return document


def option_words(option: Option) -> list[str]:
    """An option in lines."""
    return [
        f"  holds {', '.join(map(str, option.holds)) or 'nobody'}",
        f"  stops {_stopped_hosts(option)} hosts, {len(option.stops.datasets)} datasets, {option.stops.leases} leases at their end",
        f"  ends {len(option.ends)} of {len(option.ends) + len(option.stays)} open ways to data",
        *(f"  leaves: {left}" for left in option.left),
    ]
