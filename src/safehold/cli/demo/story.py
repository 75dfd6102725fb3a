"""The story of March and April 2026, as a lab and two suppliers with made-up names lived it.

Each chapter is a function; together they leave a ledger that speaks for itself. Nothing here is asserted: what the
story claims is what the ledger, asked afterwards, answers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from safehold.broker.issue import IssuedGrant
from safehold.cli.demo.advisories import ARRIVALS, write_advisory
from safehold.cli.demo.environments import CLEAN, CLEAN_LITELLM, STAND_IN, Installed, install, uninstall
from safehold.cli.demo.outside import take_evidence
from safehold.cli.demo.records import write_slice
from safehold.cli.demo.world import World, moment
from safehold.containment import COURSE_WORDS, Ruling, compare, load_concern
from safehold.exposure.case import load_case
from safehold.exposure.duties import due_duties, standing_duties
from safehold.exposure.evidence import Evidence
from safehold.exposure.judgement import judge
from safehold.exposure.report import Report, answer_all
from safehold.exposure.words import time_words
from safehold.inventory.advisories import read_advisories
from safehold.model.ids import AdvisoryId, DatasetId, HostId, PartyId, Subject, parse_model_id, parse_run_id
from safehold.model.statements_outside import ClockNoted

__all__ = ["BEGIN", "BUSY", "Outcome", "Story"]

BEGIN: Final = "2026-03-16T08:00:00+00:00"
BUSY: Final = (moment("2026-03-23T00:00:00+00:00"), moment("2026-03-26T00:00:00+00:00"))
_SILENT: Final = (moment("2026-03-24T06:00:00+00:00"), moment("2026-03-24T20:00:00+00:00"))

_ADVISORY: Final = AdvisoryId("PYSEC-2026-2")
_LAB: Final = PartyId("north-lab")
_QUILL: Final = PartyId("quill-works")
_BRIGHT: Final = PartyId("bright-annotators")
_CI: Final = HostId("quill-works/ci-1")
_QUILL_WS: Final = HostId("quill-works/ws-1")
_BRIGHT_WS: Final = HostId("bright-annotators/ws-1")
_TRAINER: Final = HostId("north-lab/trainer")
_TEXTS: Final = DatasetId("quill-works/texts")
_NOTES: Final = DatasetId("quill-works/review-notes")
_HOLDOUT: Final = DatasetId("quill-works/holdout")
_DIALOGUES: Final = DatasetId("bright-annotators/dialogues")

_RUNNER: Final = Installed("evals-runner", "0.4.0", ("litellm",), requested=True)


class Outcome(msgspec.Struct, kw_only=True):
    """What the story gathers for its end."""

    records: int = 0
    exact: bool = False
    refusals: list[tuple[str, str, int]] = []
    report: Report | None = None


class Story:
    """The chapters in order. ``say`` prints a line for people."""

    def __init__(self, world: World, records: Path, say: Callable[[str], None]) -> None:
        self._world = world
        self._records = records
        self._say = say
        self._grants: dict[str, IssuedGrant] = {}
        self.outcome = Outcome()

    def _tell(self, date: str, text: str) -> None:
        self._say(f"  {date:<13} {text}")

    def people_and_hosts(self) -> None:
        """Parties, hosts and datasets are registered; the agents report for the first time."""
        registry, home = self._world.home.registry, self._world.home
        registry.add_party(_LAB, "lab", "North Lab", home.new_party_key(_LAB).public)
        registry.add_party(_QUILL, "supplier", "Quill Works", home.new_party_key(_QUILL).public)
        registry.add_party(_BRIGHT, "supplier", "Bright Annotators", home.new_party_key(_BRIGHT).public)
        self._world.add_host(_CI, (*CLEAN, CLEAN_LITELLM, _RUNNER))
        self._world.add_host(_QUILL_WS, CLEAN)
        self._world.add_host(_BRIGHT_WS, CLEAN).silent = _SILENT
        self._world.add_host(_TRAINER, CLEAN)
        for dataset in (_TEXTS, _NOTES, _HOLDOUT, _DIALOGUES):
            registry.add_dataset(dataset, _LAB, dataset)
        self._tell("16 March", "a lab, two suppliers, four hosts; every host reports what it holds")

    def before(self) -> None:
        """Releases are sealed, granted and opened, a week before the incident."""
        world, folder = self._world, self._world.folder
        world.go_to("2026-03-17T09:00:00+00:00")
        first = world.seal(self._records, _TEXTS, _QUILL_WS)
        groups = tuple(group.name for group in first.manifest.groups)
        self._grants["texts-ci"] = world.grant(
            _CI, _TEXTS, groups, "2026-03-17T09:00:00+00:00", "2026-04-15T00:00:00+00:00"
        )
        self._grants["texts-lab"] = world.grant(
            _TRAINER, _TEXTS, groups, "2026-03-17T09:00:00+00:00", "2026-04-30T00:00:00+00:00"
        )
        rows, size = first.manifest.rows, first.manifest.size
        self._tell(
            "17 March",
            f"quill-works seals texts@1: {rows:,} records, {size:,} bytes, column groups {', '.join(groups)}",
        )
        world.go_to("2026-03-18T10:00:00+00:00")
        world.seal(write_slice(self._records, folder / "dialogues.jsonl", 0, 400), _DIALOGUES, _BRIGHT_WS)
        world.seal(write_slice(self._records, folder / "notes.jsonl", 400, 700), _NOTES, _QUILL_WS)
        world.seal(write_slice(self._records, folder / "holdout.jsonl", 700, 900), _HOLDOUT, _QUILL_WS)
        self._grants["dialogues-ws"] = world.grant(
            _BRIGHT_WS, _DIALOGUES, groups, "2026-03-18T10:00:00+00:00", "2026-04-30T00:00:00+00:00"
        )
        self._grants["dialogues-lab"] = world.grant(
            _TRAINER, _DIALOGUES, groups, "2026-03-18T10:00:00+00:00", "2026-04-30T00:00:00+00:00"
        )
        self._grants["notes-ci"] = world.grant(
            _CI, _NOTES, groups, "2026-03-18T10:00:00+00:00", "2026-03-22T00:00:00+00:00"
        )
        self._grants["holdout-lab"] = world.grant(
            _TRAINER, _HOLDOUT, groups, "2026-03-18T10:00:00+00:00", "2026-04-30T00:00:00+00:00"
        )
        opened = world.open("quill-works/texts@1", _TRAINER, self._grants["texts-lab"])
        written = world.write_opened(opened, f"texts-1{self._records.suffix}")
        self.outcome.records, self.outcome.exact = written.rows, written.as_source
        same = "byte for byte as sealed" if written.as_source else "NOT as sealed"
        self._tell("18 March", f"the lab's trainer opens texts@1: {written.rows:,} records, {same}")
        world.go_to("2026-03-19T14:00:00+00:00")
        world.open("quill-works/texts@1", _CI, self._grants["texts-ci"])
        world.go_to("2026-03-20T09:30:00+00:00")
        world.open("quill-works/review-notes@1", _CI, self._grants["notes-ci"])
        self._tell(
            "19-20 March", "quill-works' _CI opens texts@1 and review-notes@1; the grant for the notes ends on the 22nd"
        )
        world.go_to("2026-03-21T11:00:00+00:00")
        world.open("quill-works/holdout@1", _TRAINER, self._grants["holdout-lab"])
        world.open("bright-annotators/dialogues@1", _TRAINER, self._grants["dialogues-lab"])
        world.go_to("2026-03-22T12:00:00+00:00")
        self._declare_run()
        world.go_to("2026-03-23T16:00:00+00:00")
        world.seal(write_slice(self._records, folder / "texts-2.jsonl", 900, 1500), _TEXTS, _QUILL_WS)
        self._tell("23 March", "quill-works seals texts@2")

    def _declare_run(self) -> None:
        with self._world.home.log.view() as view:
            sql = "SELECT release FROM release WHERE version = 1 AND dataset IN (?, ?) ORDER BY idx"
            releases = [row[0] for row in view.rows(sql, _TEXTS, _DIALOGUES)]
        run = parse_run_id("north-lab/run-1")
        self._world.home.registry.declare_run(run, releases, _TRAINER)
        self._world.home.registry.declare_model(parse_model_id("north-lab/tutor-1"), [run])
        self._tell("22 March", "the lab declares run-1 on texts@1 and dialogues@1, and the model tutor-1")

    def the_day(self) -> None:
        """24 March: the _CI runner upgrades to the bad version, one host is silent, a release is opened."""
        world = self._world
        world.go_to("2026-03-24T10:58:00+00:00")
        folder = world.hosts[_CI].folder
        uninstall(folder, CLEAN_LITELLM)
        install(folder, STAND_IN)
        self._tell("24 March", "06:00 bright-annotators/ws-1 falls silent · 10:58 the _CI upgrades litellm to 1.82.8")
        world.go_to("2026-03-24T11:30:00+00:00")
        world.open("quill-works/texts@2", _CI, self._grants["texts-ci"])
        self._tell("", "11:30 the _CI opens texts@2: no advisory names its package yet, so the broker cannot know")
        world.go_to("2026-03-24T12:15:00+00:00")
        self._refused("12:15", "bright-annotators/dialogues@1", _BRIGHT_WS, "dialogues-ws")
        for arrival in ARRIVALS:
            world.go_to(arrival.first_seen)
            self._arrive(arrival.file)
            if arrival is ARRIVALS[0]:
                world.go_to("2026-03-24T16:30:00+00:00")
                self._refused("16:30", "quill-works/texts@1", _CI, "texts-ci")
                world.go_to("2026-03-24T17:20:00+00:00")
                uninstall(folder, STAND_IN)
                install(folder, CLEAN_LITELLM)
                self._tell(
                    "", "17:20 the _CI goes back to litellm 1.82.6; 20:00 bright-annotators/ws-1 reports again, clean"
                )

    def _arrive(self, file: str) -> None:
        arrival = next(one for one in ARRIVALS if one.file == file)
        folder = self._world.folder / "advisories"
        folder.mkdir(exist_ok=True)
        document = read_advisories(write_advisory(arrival, folder)).documents[0]
        taken = self._world.home.intake.record_advisory(document, "the demo's feed")
        day, time = arrival.first_seen[8:10], arrival.first_seen[11:16]
        self._tell(f"{day} March", f"{time} {document.advisory} arrives: {len(taken.findings)} findings")

    def _refused(self, time: str, release: str, host: HostId, grant: str) -> None:
        refusal = self._world.refused(release, host, self._grants[grant])
        self.outcome.refusals.append((refusal.code, host, refusal.entry or -1))
        self._tell("", f"{time} {host} asks for {release} and is refused: {refusal.message} (entry {refusal.entry})")

    def report(self) -> Report:
        """What was exposed, asked now."""
        with self._world.home.log.view() as view:
            report = answer_all(load_case(view, _ADVISORY, self._world.clock()))
        self.outcome.report = report
        return report

    def _what_if(self) -> str:
        """The courses and what each stops and ends, in one line."""
        with self._world.home.log.view() as view:
            options = compare(load_concern(view, _ADVISORY, self._world.clock()))
        said = (
            f"{COURSE_WORDS[one.course]}: ends {len(one.ends)} of {len(one.ends) + len(one.stays)} ways to data,"
            f" stops {len(one.stops.hosts)} hosts ({len(one.stops.bystanders)} of them not concerned)"
            for one in options
        )
        return " · ".join(said)

    def _aware(self) -> str:
        """Note that the lab is aware, and say which duties begin with it."""
        home, now = self._world.home, self._world.clock()
        Evidence(home.log, self._world.clock, home.registry.by).note_clock(
            ClockNoted(t=now, by=home.registry.by, clock="awareness", advisory=_ADVISORY, at=now, words="the lab asks")
        )
        with home.log.view() as view:
            case = load_case(view, _ADVISORY, self._world.clock())
        dated = [one for one in due_duties(case, judge(case), standing_duties()) if one.due is not None]
        return "; ".join(f"{one.duty.id} is due {time_words(one.due)}" for one in dated) or "no duty has a date"

    def outside(self) -> None:
        """31 March: the supplier confirms; what other systems recorded is taken in."""
        self._world.go_to("2026-03-31T09:00:00+00:00")
        made = take_evidence(self._world, _ADVISORY, _CI, _LAB)
        self._tell(
            "31 March", "the supplier confirms that it was hit; its credentials are rotated, the customer is told"
        )
        self._tell("", f"records of its CI, hosts, mirror, resolver and cluster are taken in ({made} entries)")

    def the_ruling(self) -> None:
        """April: the lab asks, suspends, and later lifts."""
        world = self._world
        world.go_to("2026-04-01T09:00:00+00:00")
        self._tell("1 April", f"the lab asks: {self.report().headline}")
        self._tell("", f"09:00 somebody is aware now: {self._aware()}")
        world.go_to("2026-04-03T09:00:00+00:00")
        subject = Subject("party", _QUILL)
        self._tell("3 April", f"09:00 what if: {self._what_if()}")
        reason = "litellm 1.82.8 on ci-1 while texts@2 was opened there"
        ruling = Ruling(
            advisory=_ADVISORY, course="suspend-supplier", profile="measured", reason=reason, clean_for=2 * 86_400
        )
        planned = world.home.responses.carry_out(ruling)
        place = planned.entry.index if planned.entry else -1
        self._tell("", f"09:00 quill-works is suspended: a plan of {len(planned.steps)} steps (entry {place})")
        world.go_to("2026-04-03T09:05:00+00:00")
        self._refused("09:05", "quill-works/texts@1", _CI, "texts-ci")
        opening = world.open("bright-annotators/dialogues@1", _BRIGHT_WS, self._grants["dialogues-ws"])
        self._tell("", f"09:05 bright-annotators/ws-1 opens dialogues@1 as before (entry {opening.keys.entry})")
        world.go_to("2026-04-06T10:00:00+00:00")
        lifted = world.home.containment.lift(subject, "hosts rebuilt; inventories clean since the hold")
        self._tell("6 April", f"10:00 the hold is lifted: two days of clean inventories (entry {lifted.entry.index})")
        world.go_to("2026-04-06T10:30:00+00:00")
        opening = world.open("quill-works/texts@2", _CI, self._grants["texts-ci"])
        self._tell("", f"10:30 the _CI opens texts@2 again (entry {opening.keys.entry})")
        world.go_to("2026-04-06T12:00:00+00:00")
        self.report()
