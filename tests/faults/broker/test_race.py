"""A hold lands while many readers ask: no key release stands after it, in any round, and none is answered later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from safehold.model.errors import Refused
from safehold.model.ids import parse_subject
from safehold.model.statements import HoldLifted, HoldPlaced, KeyRefused, KeyReleased
from safehold.state.invariants import check_order
from tests.broker_kit import CI, DESK, GROUPS, MEMBER, World, make_world

READERS = 16
ROUNDS = 30
SUBJECTS = (
    "party:quill-works",
    f"host:{CI}",
    f"member:{MEMBER}",
    "dataset:quill-works/word-problems",
    "release",
    "grant",
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path)
    yield made
    made.close()


class Crowd:
    """Readers that ask until they are refused; each notes the place of what it got and of what stopped it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answered: list[int] = []
        self.refused: list[Refused] = []
        self.broken: list[BaseException] = []
        self.first = threading.Event()
        self.threads = [threading.Thread(target=self._read) for _ in range(READERS)]

    def _read(self) -> None:
        try:
            while True:
                opened = self.world.ask(groups=GROUPS[:1])
                self.answered.append(opened.entry)
                self.first.set()
        except Refused as refusal:
            self.refused.append(refusal)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.broken.append(error)
        finally:
            self.first.set()

    def start(self) -> None:
        for thread in self.threads:
            thread.start()
        self.first.wait(60)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)


def test_no_key_release_has_a_higher_place_than_the_hold(world: World) -> None:
    subjects = [
        {"release": f"release:{world.release}", "grant": f"grant:{world.grant.terms.grant}"}.get(one, one)
        for one in SUBJECTS
    ]
    under_way = 0
    for number in range(ROUNDS):
        subject, crowd = subjects[number % len(subjects)], Crowd(world)
        crowd.start()
        place = world.hold(subject).entry.index
        crowd.join()
        assert crowd.broken == []
        assert crowd.answered
        assert max(crowd.answered) < place
        assert len(crowd.refused) == READERS
        assert {refusal.code for refusal in crowd.refused} == {"broker.held"}
        assert min(refusal.entry or 0 for refusal in crowd.refused) > place
        under_way += len(crowd.answered)
        with world.refused(6, "broker.held"):
            world.ask()
        world.containment.lift(parse_subject(subject), "next round")
    entries = world.entries()
    assert check_order(entries) == []
    held = False
    for entry in entries:
        match entry.statement:
            case HoldPlaced():
                held = True
            case HoldLifted():
                held = False
            case KeyReleased():
                assert not held
            case KeyRefused(code=code):
                assert held
                assert code == "broker.held"
    assert len(world.statements(KeyReleased)) == under_way


def test_a_hold_through_another_handle_of_the_ledger_is_as_exact(world: World, tmp_path: Path) -> None:
    """As by another process: its own connections, its own frontier, nothing shared but the files."""
    other = World(tmp_path, world)
    for _ in range(4):
        crowd = Crowd(world)
        crowd.start()
        place = other.hold("party:quill-works").entry.index
        crowd.join()
        assert crowd.broken == []
        assert max(crowd.answered) < place
        assert {refusal.code for refusal in crowd.refused} == {"broker.held"}
        other.containment.lift(parse_subject("party:quill-works"), "next round")
    assert check_order(world.entries()) == []
    other.close()


def test_one_request_sent_many_times_at_once_is_answered_once(world: World) -> None:
    body = world.body()
    outcomes: list[str] = []
    together = threading.Barrier(READERS)

    def send() -> None:
        together.wait(60)
        try:
            world.send(body)
            outcomes.append("answered")
        except Refused as refusal:
            outcomes.append(refusal.code)

    threads = [threading.Thread(target=send) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["answered"] + ["broker.replayed"] * (READERS - 1)
    assert len(world.part_keys.asked) == 1
    assert check_order(world.entries()) == []


def test_two_suspensions_at_once_leave_one_hold(world: World) -> None:
    outcomes: list[str] = []

    def suspend() -> None:
        try:
            world.hold(f"host:{DESK}")
            outcomes.append("held")
        except Exception as error:  # noqa: BLE001 - the outcomes are compared below
            outcomes.append(str(error))

    threads = [threading.Thread(target=suspend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes.count("held") == 1
    assert all("[containment.held]" in outcome for outcome in outcomes if outcome != "held")
    assert len(world.statements(HoldPlaced)) == 1
