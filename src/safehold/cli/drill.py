"""``safehold drill``: stolen tokens and keys, tried on a throw-away home. All must be refused, and all leave an entry.

The home is made in a temporary folder and removed again; the home of the session is never opened. Everything is the real
thing but the clock and the bad package, a harmless stand-in: ledger, key store, agents, grants, proofs, the eleven steps.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import Final

import click
import msgspec

from safehold.broker.acts import GrantActs
from safehold.broker.drill import Loot, Theft, honest_request, thefts, thefts_on_host
from safehold.broker.grants import Narrowing, narrow_grant
from safehold.broker.proof import Proof
from safehold.broker.release import Broker
from safehold.broker.request import SealedKeys
from safehold.cli.context import Session, session_of
from safehold.cli.demo.advisories import ARRIVALS, write_advisory
from safehold.cli.demo.environments import CLEAN, CLEAN_LITELLM, STAND_IN, install, uninstall
from safehold.cli.demo.records import take_records, write_slice
from safehold.cli.demo.world import Clock, World, moment
from safehold.inventory.advisories import read_advisories
from safehold.model.errors import Refused, VerificationFailed
from safehold.model.ids import DatasetId, HostId, PartyId, Purpose
from safehold.model.statements import KeyRefused

__all__ = ["Row", "command", "play"]

_LAB, _QUILL = PartyId("north-lab"), PartyId("quill-works")
_CI, _DESK = HostId("quill-works/ci-1"), HostId("quill-works/desk-1")
_WORDS = DatasetId("quill-works/words")
_BEGIN: Final = "2026-03-24T09:00:00+00:00"
_QUIET: Final = (0, 1)
_RECORDS: Final = 50


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried, and what came: the code and step of the refusal and its entry, or nothing of it."""

    tried: str
    code: str
    step: int
    entry: int | None
    refused: bool


@click.command("drill", epilog="Example: safehold drill")
@click.pass_context
def command(context: click.Context) -> None:
    """Try stolen tokens, keys and requests on a throw-away home, and show that all are refused and on record."""
    session = session_of(context)
    with tempfile.TemporaryDirectory(prefix="safehold-drill-") as folder:
        rows = play(session, Path(folder))
    session.out.table(
        "", ("tried", "answer", "step", "entry"), [(row.tried, row.code, row.step, row.entry) for row in rows]
    )
    failed = [row for row in rows if not row.refused]
    if failed:
        raise VerificationFailed(
            "cli.drill_failed",
            f"{len(failed)} of {len(rows)} attempts were not refused as they must be: {failed[0].tried}",
            "trust no broker of this version, and tell whoever maintains it",
        )
    told = f"{len(rows)} attempts, all refused, all on record. An honest request was answered before and after them."
    session.out.result({"attempts": [msgspec.structs.asdict(row) for row in rows], "refused": len(rows)}, [told])


def play(session: Session, folder: Path) -> list[Row]:
    """Make the world, steal, try everything; an honest request must be answered before and after."""
    world = World(session.factory(), folder, Clock(moment(_BEGIN)), secrets.token_hex(16), _QUIET)
    try:
        loot = _prepare(world, folder)
        answered = honest_request(loot)
        _expect_answer(world.broker, answered)
        rows = [_attempt(world, theft) for theft in thefts(loot, answered)]
        _infect(world, folder)
        rows += [_attempt(world, theft) for theft in thefts_on_host(loot)]
        _heal(world)
        _expect_answer(world.broker, honest_request(loot))
        return rows
    finally:
        world.home.close()


def _prepare(world: World, folder: Path) -> Loot:
    registry, home = world.home.registry, world.home
    registry.add_party(_LAB, "lab", "North Lab", home.new_party_key(_LAB).public)
    registry.add_party(_QUILL, "supplier", "Quill Works", home.new_party_key(_QUILL).public)
    world.add_host(_CI, (*CLEAN, CLEAN_LITELLM))
    world.add_host(_DESK, CLEAN)
    registry.add_dataset(_WORDS, _LAB, "Words")
    records = write_slice(take_records(None, folder), folder / "words.jsonl", 0, _RECORDS)
    sealed = world.seal(records, _WORDS, _DESK)
    groups = tuple(group.name for group in sealed.manifest.groups)
    grant = world.grant(_CI, _WORDS, groups, _BEGIN, "2026-04-30T00:00:00+00:00")
    middle = narrow_grant(grant.token, grant.root, Narrowing(purpose=Purpose("training")))
    narrowed = narrow_grant(middle, grant.root, Narrowing(host=_CI))
    acts = GrantActs(home.log, world.clock, registry.by)
    acts.revoke_block(narrowed, grant.root, 1, "a drill: the one who narrowed it has left")
    return Loot(
        release=sealed.release,
        groups=groups,
        purpose=Purpose("training"),
        host=_CI,
        key=home.host_key(_CI),
        grant=grant.terms.grant,
        token=grant.token,
        root=grant.root,
        narrowed=narrowed,
        other_host=_DESK,
        other_key=home.host_key(_DESK),
        clock=world.clock,
    )


def _attempt(world: World, theft: Theft) -> Row:
    (outcome,) = world.broker.release_many([theft.ask])
    if not isinstance(outcome, Refused) or outcome.entry is None:
        return Row(tried=theft.words, code=getattr(outcome, "code", "ANSWERED"), step=0, entry=None, refused=False)
    statement = world.home.log.entry(outcome.entry).statement
    recorded = isinstance(statement, KeyRefused) and statement.code == outcome.code
    step = statement.step if isinstance(statement, KeyRefused) else 0
    refused = recorded and outcome.code in theft.codes
    return Row(tried=theft.words, code=outcome.code, step=step, entry=outcome.entry, refused=refused)


def _infect(world: World, folder: Path) -> None:
    """The host's package is replaced by the stand-in, its agent reports, and the first advisory arrives."""
    uninstall(world.hosts[_CI].folder, CLEAN_LITELLM)
    install(world.hosts[_CI].folder, STAND_IN)
    arrival = ARRIVALS[0]
    world.go_to(arrival.first_seen)
    document = read_advisories(write_advisory(arrival, folder)).documents[0]
    world.home.intake.record_advisory(document, "the drill")


def _heal(world: World) -> None:
    uninstall(world.hosts[_CI].folder, STAND_IN)
    install(world.hosts[_CI].folder, CLEAN_LITELLM)
    world.go_to("2026-03-25T09:00:00+00:00")


def _expect_answer(broker: Broker, ask: tuple[bytes, Proof]) -> None:
    (outcome,) = broker.release_many([ask])
    if not isinstance(outcome, SealedKeys):
        raise VerificationFailed(
            "cli.drill_control",
            f"the honest request of the drill was not answered: {outcome}",
            "a drill in which nothing opens shows nothing: tell whoever maintains this version",
        )
