"""New data keys while `safehold serve` runs over the same home: nobody who reads is stopped, and the old release ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from safehold.app.wiring import system_clock
from safehold.broker.client import KeyOrder
from safehold.broker.connection import Connection, connect
from safehold.broker.request import LeaseWish
from safehold.cli.grant_file import read_grant_file
from safehold.model.errors import NotFound, Refused
from safehold.model.ids import HostId, parse_group_name, parse_purpose
from safehold.readers import ReadingStopped, open_release
from safehold.state.standing import resolve_release
from tests.cli_kit import HOUR, Desk
from tests.serve_kit import ready_desk, running

TRAINER = HostId("north-lab/trainer")
OLD, NEW = "quill-works/problems@1", "quill-works/problems@2"
REKEY = ("rekey", "--release", OLD, "--reason", "a key may be known")
FINISH = ("rekey", "--release", OLD, "--finish", "--yes")


class Served(NamedTuple):
    desk: Desk
    url: str

    def order(self, name: str) -> KeyOrder:
        home = self.desk.session().factory().open(self.desk.home)
        with home.log.view() as view:
            row = resolve_release(view, name)
        home.close()
        token = read_grant_file(self.desk.folder / "grant.json").token
        return KeyOrder(
            release=row.release, groups=[parse_group_name(one) for one in row.groups],
            purpose=parse_purpose("training"), host=TRAINER, member=None, grant=token,
        )  # fmt: skip

    def connect(self) -> Connection:
        return connect(self.url, self.desk.home / "keys" / "hosts" / TRAINER)


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    desk = ready_desk(tmp_path / "desk")
    with running(desk) as server:
        yield Served(desk, server.url)


def _folder(desk: Desk, version: int):
    return desk.home / "releases" / "quill-works" / "problems" / str(version)


def test_readers_go_on_while_the_keys_change_and_then_open_the_new_release(served: Served) -> None:
    """A reader asks for keys of the old release without a pause, all through the rekeying, and is never refused."""
    desk, old = served.desk, served.order(OLD)
    answered: list[int] = []
    failed: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        with served.connect() as connection:
            while not stop.is_set():
                try:
                    answered.append(connection.request(old).entry)
                except Refused as error:
                    failed.append(error)
                    return

    reader = threading.Thread(target=read)
    reader.start()
    while not answered and reader.is_alive():
        reader.join(0.01)
    before = len(answered)
    done = desk.json(*REKEY)
    stop.set()
    reader.join()
    assert not failed
    assert len(answered) > before
    assert done["leases"][0]["host"] == TRAINER
    with served.connect() as connection, open_release(_folder(desk, 1), old, connection) as reading:
        held = [record["text"] for batch in reading.batches() for record in batch.to_pylist()]
    with served.connect() as connection, open_release(_folder(desk, 2), served.order(NEW), connection) as reading:
        assert [record["text"] for batch in reading.batches() for record in batch.to_pylist()] == held
    assert desk.json("fsck")["problems"] == []


def test_the_old_release_is_refused_with_the_name_of_the_new_one_by_request_and_by_lease(served: Served) -> None:
    desk, old = served.desk, served.order(OLD)
    with served.connect() as connection:
        lease = connection.lease(old, LeaseWish(600, 1000))
        lease.request_keys(old.release, old.groups)
        desk.json(*REKEY)
        lease.request_keys(old.release, old.groups)
        new = served.order(NEW)
        lease.request_keys(new.release, new.groups)  # the lease is on the dataset: it goes over to the new release
        waiting = desk.json(*FINISH)
        assert (waiting["erased"], waiting["retired"] is not None) == (None, True)
        for ask in (
            lambda: connection.request(old),
            lambda: lease.request_keys(old.release, old.groups),
        ):
            with pytest.raises(Refused) as caught:
                ask()
            assert caught.value.code == "broker.retired"
            assert NEW in caught.value.hint
        assert connection.request(new).keys
    with served.connect() as connection, pytest.raises(ReadingStopped, match="retired"):
        open_release(_folder(desk, 1), old, connection)


def test_keys_in_memory_open_the_old_release_to_the_end_of_their_lease(served: Served) -> None:
    desk, old = served.desk, served.order(OLD)
    with served.connect() as connection, open_release(_folder(desk, 1), old, connection) as reading:
        desk.json(*REKEY)
        assert desk.json(*FINISH)["erased"] is None
        rows = sum(batch.num_rows for batch in reading.batches())
        assert rows == 60, "retired, and its lease runs: what was begun is read to its end"
    desk.clock = lambda: system_clock() + 24 * HOUR
    ended = desk.json(*FINISH)
    assert ended["erased"] is not None
    desk.clock = system_clock
    home = desk.session().factory().open(desk.home)
    with pytest.raises(NotFound) as caught:
        home.key_store().get(old.release, ["1-00000-data.parquet"])
    home.close()
    assert caught.value.code == "vault.keys_erased"
    with served.connect() as connection:
        assert connection.request(served.order(NEW)).keys
