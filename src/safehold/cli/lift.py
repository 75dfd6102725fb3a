"""``safehold lift``: end a suspension."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import MEMBER, SUBJECT
from safehold.model.ids import MemberId, Subject

__all__ = ["command"]


@click.command("lift", epilog="Example: safehold lift party:quill-works --reason 'hosts rebuilt, keys replaced'")
@click.argument("subject", type=SUBJECT)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.option("--member", type=MEMBER, help="Who rules so.")
@click.option("--despite-findings", is_flag=True, help="Lift although a host has no clean inventory since the hold.")
@click.pass_context
def command(
    context: click.Context, subject: Subject, reason: str, member: MemberId | None, despite_findings: bool
) -> None:
    """End all holds on SUBJECT. Its hosts must have reported a clean inventory since."""
    session = session_of(context)
    with session.open_home() as home:
        lifted = home.containment.lift(subject, reason, member, despite_findings=despite_findings)
    session.out.result(
        {"subject": str(subject), "holds": lifted.holds, "entry": lifted.entry.index},
        [f"Lifted {', '.join(lifted.holds)} on {subject} (entry {lifted.entry.index})."],
    )
