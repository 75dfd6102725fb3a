"""``/readyz`` tells whether keys can be had: of the key service it asks seldom, never waits for it long, and believes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safehold.app.serve import pages, readiness
from safehold.app.serve.readiness import Readiness
from safehold.model.errors import NotFound, StorageFailed, VerificationFailed
from safehold.model.ids import sha256_digest
from safehold.vault.keystore import KeyStore
from safehold.vault.wrapped import WrappedKeys
from tests.broker_kit import World, make_world
from tests.serve_kit import Place
from tests.vault_kit import MemoryKek

AWAY = StorageFailed("vault.kek_unreachable", "the key server bao.internal cannot be reached", "is it running?")


class Service:
    """A key service of a test: it counts, fails, and hangs as it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.answered = threading.Event()

    def check(self) -> None:
        self.asked += 1
        self.free.wait(30)
        self.answered.set()
        if self.error is not None:
            raise self.error


class Watch:
    """A place with a key service, and seconds that pass by hand."""

    def __init__(self, world: World) -> None:
        self.service = Service()
        self.seconds = 0.0
        self.place = Place(world)
        self.place.desk.readiness = Readiness(world.log, self.service.check, lambda: self.seconds)

    def ready(self, **scope: Any) -> tuple[int, Any]:
        said = self.place.call("GET", "/readyz", **scope)
        return said.status, said.document.get("code", "")

    def until(self, wanted: tuple[int, Any]) -> None:
        for _ in range(1000):
            if self.ready() == wanted:
                return
            threading.Event().wait(0.005)
        assert self.ready() == wanted


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    world = make_world(tmp_path)
    yield Watch(world)
    world.close()


def test_many_who_ask_cost_one_call_and_time_costs_another(watch: Watch) -> None:
    for _ in range(50):
        assert watch.ready() == (200, "")
    assert watch.service.asked == 1
    watch.seconds += 4.9
    watch.ready()
    assert watch.service.asked == 1
    watch.seconds += 0.2
    assert watch.ready() == (200, "")
    assert watch.service.asked == 2
    watch.place.ask()
    watch.place.call("GET", "/healthz")
    assert watch.service.asked == 2, "requests cost none"


def test_a_crowd_that_asks_is_one_question_to_the_vault(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = Readiness.now, [0]

    def count(self: Readiness) -> Any:
        asked[0] += 1
        return now(self)

    watch.until((200, ""))
    monkeypatch.setattr(Readiness, "now", count)

    async def crowd() -> list[Any]:
        return await asyncio.gather(*[watch.place._call("GET", "/readyz", {}, b"", {}) for _ in range(300)])

    assert {said.status for said in asyncio.run(crowd())} == {200}
    assert asked[0] <= 2


def test_a_service_that_is_away_is_told_with_what_to_do_and_found_again(watch: Watch) -> None:
    watch.ready()
    watch.service.error = AWAY
    watch.seconds += 6
    said = watch.place.call("GET", "/readyz")
    assert (said.status, said.document["code"], said.document["hint"]) == (503, AWAY.code, AWAY.hint)
    assert "bao.internal" in said.document["detail"]
    assert b"safehold_ready 0.0" in watch.place.call("GET", "/metrics").body
    from_outside = watch.place.call("GET", "/readyz", client=("192.0.2.1", 5))
    assert from_outside.document["code"] == AWAY.code
    assert b"bao.internal" not in from_outside.body, "where it is, is for this machine alone"
    asked = watch.service.asked
    watch.service.error = None
    watch.ready()
    assert watch.service.asked == asked, "a failure is no reason to ask more often"
    watch.seconds += 6
    watch.until((200, ""))
    assert b"safehold_ready 1.0" in watch.place.call("GET", "/metrics").body


def test_a_service_that_hangs_holds_nobody_up(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LOOK_SECONDS", 0.2)
    watch.service.free.clear()
    for _ in range(3):
        assert watch.ready() == (503, "serve.keys_slow")
    assert watch.service.asked == 1, "one look is under way, and no other is begun"
    assert watch.place.ask().status == 200, "whoever asks for keys does not wait for a look"
    watch.service.free.set()
    watch.until((200, ""))
    watch.service.error, watch.seconds = AWAY, watch.seconds + 6
    watch.until((503, AWAY.code))
    watch.service.free.clear()
    watch.seconds += 6
    assert watch.ready() == (503, AWAY.code), "what was broken is broken until it is seen whole"
    watch.service.free.set()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VerificationFailed("vault.unwrap", "a stored key does not open", "replaced?"), "vault.unwrap"),
        (NotFound("app.kek_secret", "the secret /run/token cannot be read", "check the file"), "app.kek_secret"),
        (RuntimeError("secret detail"), "serve.internal"),
        (MemoryError(), "serve.internal"),
    ],
)
def test_whatever_the_look_meets_is_not_ready(watch: Watch, error: Exception, code: str) -> None:
    watch.service.error = error
    said = watch.place.call("GET", "/readyz")
    assert (said.status, said.document["code"]) == (503, code)
    assert b"secret detail" not in said.body
    watch.service.error, watch.seconds = None, 10
    watch.until((200, ""))


def test_a_thread_that_cannot_be_had_is_tried_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, [1]

    def fail(thread: threading.Thread) -> None:
        if thread.name == "keys" and left[0]:
            left[0] -= 1
            raise RuntimeError("no thread")
        start(thread)

    monkeypatch.setattr(readiness.threading.Thread, "start", fail)
    assert watch.ready() == (200, ""), "asked again while the page waits"
    assert left == [0]


def test_an_append_that_failed_for_the_disk_is_not_ready_until_one_succeeds(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = watch.place.world.log
    full = StorageFailed("ledger.disk_full", "the disk is full: nothing was appended", "free some space")

    def fail(*_: Any) -> Any:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", fail)
        assert watch.place.ask().document["code"] == "ledger.disk_full"
    assert watch.ready() == (503, "ledger.disk_full")
    with monkeypatch.context() as patch:
        patch.setattr(log, "check_writable", fail)
        with pytest.raises(StorageFailed):
            watch.place.desk.tick()
    assert watch.ready() == (503, "ledger.disk_full")
    assert watch.place.ask().status == 200
    assert watch.ready() == (200, "")
    with monkeypatch.context() as patch:
        patch.setattr(log, "append", fail)
        watch.place.ask()
    watch.place.desk.tick()
    assert watch.ready() == (200, ""), "found whole without anybody's request"
    busy = StorageFailed("ledger.busy", "another writes", "wait")
    watch.place.desk.readiness.note(busy)
    assert watch.ready() == (200, ""), "that others write says nothing of the disk"


# --- what is looked at -------------------------------------------------------------------------------

RELEASES = [sha256_digest(bytes([number])) for number in range(4)]


class Counting(MemoryKek):
    """A key that counts what it unwraps, and may be away."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.unwrapped = 0
        self.away = False

    def unwrap(self, wrapped: bytes) -> bytes:
        self.unwrapped += 1
        if self.away:
            raise AWAY
        return super().unwrap(wrapped)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyStore]:
    with KeyStore(tmp_path / "keys.db") as made:
        yield made


def put(store: KeyStore, release: int, wrap: Callable[[bytes], bytes], kek: str) -> None:
    store.put_all(RELEASES[release], kek, {f"{part}": wrap(bytes([part]) * 32) for part in range(5)})


def test_a_stored_key_of_each_key_in_use_is_unwrapped_and_one_is_enough(store: KeyStore) -> None:
    first, second = Counting(b"a" * 32), Counting(b"b" * 32)
    keys = WrappedKeys(store, first, lambda kek: second if kek == second.id else None)
    keys.check()
    assert first.unwrapped == 1, "with nothing stored it tries what it wraps itself"
    put(store, 0, first.wrap, first.id)
    put(store, 1, second.wrap, second.id)
    keys.check()
    assert (first.unwrapped, second.unwrapped) == (2, 1)
    second.away = True
    with pytest.raises(StorageFailed, match="kek_unreachable"):
        keys.check()
    assert second.unwrapped == 2, "a service that is away is asked once"
    second.away = False
    store.erase(RELEASES[1])
    keys.check()
    assert second.unwrapped == 2, "what was erased is not asked for"


def test_one_damaged_key_is_for_fsck_and_none_that_opens_is_not_ready(store: KeyStore) -> None:
    mine, other = Counting(b"a" * 32), Counting(b"b" * 32)
    keys = WrappedKeys(store, mine)
    store.put_all(RELEASES[0], mine.id, {"0": bytes(40), "1": mine.wrap(b"k" * 32), "2": mine.wrap(b"l" * 32)})
    keys.check()
    store.erase(RELEASES[0])
    put(store, 1, other.wrap, mine.id)  # as if the key's file had been put in the place of another
    with pytest.raises(VerificationFailed, match="unwrap"):
        keys.check()


def test_a_key_that_the_home_does_not_know_is_looked_for_once(store: KeyStore) -> None:
    mine, looked = Counting(b"a" * 32), list[str]()
    keys = WrappedKeys(store, mine, looked.append)  # type: ignore[func-returns-value]  # None: unknown
    put(store, 0, mine.wrap, "kek-unknown")
    for _ in range(3):
        with pytest.raises(VerificationFailed, match="kek-unknown"):
            keys.check()
    put(store, 1, mine.wrap, mine.id)
    keys.check()
    assert looked == ["kek-unknown"]
