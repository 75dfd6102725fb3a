"""``safehold suspend``: stop a party, host, member, dataset, release or grant."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import MEMBER, SUBJECT
from safehold.containment import Effect, preview
from safehold.model.ids import MemberId, Subject

__all__ = ["command"]


@click.command(
    "suspend", epilog="Example: safehold suspend party:quill-works --reason 'litellm 1.82.8 on ci-1' --dry-run"
)
@click.argument("subject", type=SUBJECT)
@click.option("--reason", required=True, help="Why; it stands in the ledger and in every refusal.")
@click.option("--member", type=MEMBER, help="Who rules so.")
@click.option("--dry-run", is_flag=True, help="Show what it would stop, and stop nothing.")
@click.pass_context
def command(context: click.Context, subject: Subject, reason: str, member: MemberId | None, dry_run: bool) -> None:
    """Place a hold on SUBJECT (KIND:ID). From its entry on no key is released to it or of it.

    Keys that left before cannot be called back: leases say until when their readers may hold them.
    """
    session = session_of(context)
    with session.open_home() as home:
        if dry_run:
            with home.log.view() as view:
                effect = preview(view, subject, home.clock())
            session.out.result({"dry_run": True, **_effect(effect)}, ["Nothing was changed.", *_words(effect)])
            return
        suspended = home.containment.suspend(subject, reason, member)
    session.out.result(
        {"hold": suspended.hold, "entry": suspended.entry.index, **_effect(suspended.effect)},
        [f"Suspended {subject}: {suspended.hold} (entry {suspended.entry.index}).", *_words(suspended.effect)],
    )


def _effect(effect: Effect) -> dict[str, object]:
    return {
        "subject": str(effect.subject),
        "hosts": effect.hosts,
        "grants": effect.grants,
        "leases_running": effect.leases,
        "already_held": effect.already_held,
    }


def _words(effect: Effect) -> list[str]:
    lines = [f"  stops {len(effect.grants)} live grants and {len(effect.hosts)} hosts"]
    if effect.leases:
        lines.append(f"  {effect.leases} leases are running: their keys are out until they end")
    if effect.already_held:
        lines.append(f"  it is held already by {', '.join(effect.already_held)}")
    return lines
