"""Names of members: beside the ledger, never in it, erasable."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from safehold.model.errors import InputInvalid, NotFound, StorageFailed
from safehold.model.ids import parse_member_id
from safehold.registry import People
from tests.broker_kit import LAB, SUPPLIER, World

KEY = b"p" * 32
NAME = "Ada Lovelace"


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path / "people.json", KEY)


def bytes_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_an_id_is_of_the_name_the_party_and_the_key(people: People, tmp_path: Path) -> None:
    member = people.member_id(SUPPLIER, NAME)
    assert parse_member_id(member) == member
    assert people.member_id(SUPPLIER, f"  {NAME}\t".rstrip("\t")) == member
    assert people.member_id(LAB, NAME).partition("/")[2] != member.partition("/")[2]
    assert people.member_id(SUPPLIER, "Ada Lovelac") != member
    assert People(tmp_path / "x", b"q" * 32).member_id(SUPPLIER, NAME) != member


def test_one_name_written_in_two_ways_is_one_person(people: People) -> None:
    assert people.member_id(SUPPLIER, "Zo\u00eb") == people.member_id(SUPPLIER, "Zoe\u0308")


def test_a_name_is_kept_and_erased(people: People, tmp_path: Path) -> None:
    member, other = people.remember(SUPPLIER, NAME), people.remember(SUPPLIER, "Grace Hopper")
    assert (people.name(member), people.name(other)) == (NAME, "Grace Hopper")
    people.erase(member)
    assert (people.name(member), people.name(other)) == (None, "Grace Hopper")
    assert NAME.encode() not in bytes_under(tmp_path)
    with pytest.raises(NotFound, match=r"registry\.no_name"):
        people.erase(member)


def test_no_name_is_in_the_ledger(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    people = People(folder / "people.json", KEY)
    member = people.remember(SUPPLIER, NAME)
    world.registry.add_member(member)
    world.hold(f"member:{member}")
    with world.refused(6, "broker.held"):
        world.ask(member=member)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert member.encode() in stored
    for part in (NAME, "Lovelace"):  # three letters alone may stand in random bytes
        assert part.encode() not in stored


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", "a\x1b[2J", "a\x9bm", "a\u2028b", "\udcff"])
def test_what_is_no_name(people: People, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputInvalid, match=r"registry\.member_name"):
        people.remember(SUPPLIER, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["李小龍", "Zoë", "O'Neill-Ó Súilleabháin", "می\u200cخواهم"])
def test_names_of_the_world(people: People, name: str) -> None:
    assert people.name(people.remember(SUPPLIER, name))


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 33])
def test_a_key_must_be_one(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(InputInvalid, match=r"registry\.people_key"):
        People(tmp_path / "people.json", key)


def test_the_file_is_for_its_owner_alone(people: People, tmp_path: Path) -> None:
    people.remember(SUPPLIER, NAME)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_list_is_said_and_not_replaced(people: People, tmp_path: Path) -> None:
    (tmp_path / "people.json").write_bytes(b"{")
    for act in (lambda: people.name(parse_member_id("a/m-" + "0" * 20)), lambda: people.remember(SUPPLIER, NAME)):
        with pytest.raises(StorageFailed, match=r"registry\.people"):
            act()
    assert (tmp_path / "people.json").read_bytes() == b"{"


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_disk_that_fails_leaves_the_old_list_and_no_other_file_with_names(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    member = people.remember(SUPPLIER, "Grace Hopper")
    with monkeypatch.context() as patch:

        def fail(*_arguments: object, **_named: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, call, fail)
        with pytest.raises(StorageFailed, match=r"No space left.*registry\.people"):
            people.remember(SUPPLIER, NAME)
    assert NAME.encode() not in bytes_under(tmp_path)
    assert people.name(member) == "Grace Hopper"


def test_many_at_once_lose_no_name_and_bring_none_back(tmp_path: Path) -> None:
    people = [People(tmp_path / "people.json", KEY) for _ in range(4)]
    gone = people[0].remember(SUPPLIER, "Grace Hopper")
    start = threading.Barrier(5)

    def remember(number: int) -> None:
        start.wait(60)
        for count in range(10):
            people[number].remember(SUPPLIER, f"Person {number} {count}")

    def erase() -> None:
        start.wait(60)
        People(tmp_path / "people.json", KEY).erase(gone)

    threads = [threading.Thread(target=remember, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=erase))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    names = people[0]._load()
    assert len(names) == 40
    assert gone not in names
