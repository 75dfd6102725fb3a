"""Following: the same bytes, the same fold, nothing that does not verify; and sources that are bounded."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from safehold.ledger.cosignature import Cosigner
from safehold.ledger.evidence import open_evidence
from safehold.ledger.export import export_ledger
from safehold.ledger.follow import Follower
from safehold.ledger.fsck import check_ledger
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.log import Draft, Log
from safehold.ledger.note import sign_checkpoint
from safehold.ledger.replica import Replica
from safehold.ledger.source import FolderSource, HttpSource, Source, open_source
from safehold.ledger.sqlite import SqliteStore
from safehold.model.errors import (
    InputInvalid,
    NotAppended,
    NotFound,
    Refused,
    SafeholdError,
    StorageFailed,
    VerificationFailed,
)
from safehold.state.projection import StateProjector, digest_projections
from tests.ledger_kit import CONTENTS, KEY, ORIGIN, VERIFIER, key_of, one_of_each, open_log, party
from tests.witness_kit import AT, ShownLog, TreeSource, entries


def make_replica(folder: Path) -> Replica:
    folder.mkdir(parents=True, exist_ok=True)
    store, lock = SqliteStore(folder / "ledger.db"), CheckpointLock(folder / "lock.db")
    return Replica(store, lock, KEY.public, ORIGIN, StateProjector())


def export(log: Log, folder: Path) -> FolderSource:
    with log.view() as view:
        export_ledger(view, VERIFIER, folder)
    return FolderSource(folder)


@contextmanager
def following(folder: Path, source: Source) -> Iterator[Follower]:
    replica = make_replica(folder)
    try:
        yield Follower(replica, source, folder, lambda: AT)
    finally:
        replica.close()


def same(one: Log, other: Log) -> None:
    with one.view() as ours, other.view() as theirs:
        assert ours.bodies(0, 10_000) == theirs.bodies(0, 10_000)
        assert ours.checkpoint() == theirs.checkpoint()
        assert digest_projections(ours) == digest_projections(theirs)
        assert check_ledger(theirs, VERIFIER) == []


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(tmp_path / "home")
    opened.append(lambda _view: Draft(tuple(one_of_each().values()), (CONTENTS,)))
    yield opened
    opened.close()


def test_it_has_the_same_bytes_and_folds_the_same_state(log: Log, tmp_path: Path) -> None:
    replica = make_replica(tmp_path / "copy")
    for more in (0, 1, 230, 6, 1, 300, 0):
        if more:
            log.append_statements(*(party(number) for number in range(more)))
        follower = Follower(replica, export(log, tmp_path / "out"), tmp_path / "copy", lambda: AT)
        step = follower.step()
        assert (step.checkpoint.size - step.before, step.checkpoint) == (
            more or step.checkpoint.size * (step.before == 0),
            log.checkpoint(),
        )
        same(log, replica)
    with replica.view() as view:
        assert view.payload(next(row[0] for row in view.rows("SELECT digest FROM payload"))) == CONTENTS
    replica.close()
    again = make_replica(tmp_path / "copy")
    same(log, again)
    again.close()


def test_it_refuses_to_append_and_says_why(log: Log, tmp_path: Path) -> None:
    replica = make_replica(tmp_path / "copy")
    Follower(replica, export(log, tmp_path / "out"), tmp_path / "copy", lambda: AT).step()
    with pytest.raises(Refused) as caught:
        replica.append_statements(party(1))
    assert caught.value.code == "ledger.follower"
    assert replica.receipt(3) == log.receipt(3)
    with pytest.raises(NotAppended):
        replica.adopt(log.checkpoint(), 0, [])
    replica.close()


def test_payloads_that_are_not_there_are_counted(log: Log, tmp_path: Path) -> None:
    with following(tmp_path / "copy", export(log, tmp_path / "out")) as follower:
        missing = follower.step().missing
    assert missing > 0
    for path in (tmp_path / "out" / "payload").iterdir():
        path.unlink()
    with following(tmp_path / "copy2", FolderSource(tmp_path / "out")) as follower:
        assert follower.step().missing == missing + 1


def _altered(folder: Path, name: str) -> None:
    path = next(iter(sorted(folder.glob(name))))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("checkpoint", "ledger.note_form"),
        ("tile/0/000.p/*", "ledger.source_root"),
        ("tile/entries/000.p/*", "ledger.entry"),
        ("payload/*", "ledger.payload"),
    ],
)
def test_nothing_altered_is_taken_over(log: Log, tmp_path: Path, name: str, code: str) -> None:
    source = export(log, tmp_path / "out")
    _altered(tmp_path / "out", name)
    with following(tmp_path / "copy", source) as follower:
        with pytest.raises(VerificationFailed) as caught:
            follower.step()
        assert caught.value.code == code
        assert follower._log.view  # the copy is as it was
        with follower._log.view() as view:
            assert (view.size(), view.rows("SELECT count(*) FROM payload")) == (0, [(0,)])


def test_entries_of_another_tree_are_not_taken_over(log: Log, tmp_path: Path) -> None:
    export(log, tmp_path / "out")
    other = open_log(tmp_path / "other")
    other.append_statements(*(party(number) for number in range(log.checkpoint().size)))
    export(other, tmp_path / "out2")
    name = f"tile/entries/000.p/{log.checkpoint().size}"
    (tmp_path / "out" / name).write_bytes((tmp_path / "out2" / name).read_bytes())
    with following(tmp_path / "copy", FolderSource(tmp_path / "out")) as follower:
        with pytest.raises(VerificationFailed) as caught:
            follower.step()
        assert caught.value.code == "ledger.adopted_root"
        with follower._log.view() as view:
            assert view.size() == 0
    for gone in (tmp_path / "out" / name, tmp_path / "out" / "checkpoint"):
        gone.unlink()
        with (
            following(tmp_path / "copy", FolderSource(tmp_path / "out")) as follower,
            pytest.raises(SafeholdError) as lost,
        ):
            follower.step()
        assert lost.value.code == ("ledger.bundle_missing" if gone.name != "checkpoint" else "ledger.source_empty")
    other.close()


def _two_histories(folder: Path, common: int, one: int, other: int) -> tuple[FolderSource, FolderSource]:
    made = []
    for name, size, shift in (("one", one, 0), ("other", other, 1000)):
        log = open_log(folder / name)
        for number in range(size):
            log.append_statements(party(number if number < common else number + shift))
        made.append(export(log, folder / f"{name}-out"))
        log.close()
    return made[0], made[1]


@pytest.mark.parametrize(("one", "other"), [(9, 20), (8, 20), (20, 9), (9, 9), (20, 8)])
def test_a_split_is_proven_and_adopts_nothing(tmp_path: Path, one: int, other: int) -> None:
    first, second = _two_histories(tmp_path, 4, one, other)
    with following(tmp_path / "copy", first) as follower:
        follower.step()
    with following(tmp_path / "copy", second) as follower:
        with pytest.raises(SafeholdError) as caught:
            follower.step()
        assert caught.value.code == "ledger.split_view"
        (kept,) = follower._evidence.files()
        known, offered = open_evidence(kept.read_bytes(), VERIFIER)
        assert (known.size, offered.size) == tuple(sorted((one, other)))
        with follower._log.view() as view:
            assert view.size() == one


def test_an_older_copy_is_kept_as_evidence(tmp_path: Path) -> None:
    newer, older = _two_histories(tmp_path, 50, 20, 9)
    with following(tmp_path / "copy", newer) as follower:
        follower.step()
    with following(tmp_path / "copy", older) as follower:
        with pytest.raises(VerificationFailed) as caught:
            follower.step()
        assert caught.value.code == "ledger.source_older"
        assert [path.name.partition("-")[0] for path in follower._evidence.files()] == ["rollback"]


def test_cosignatures_come_later_and_are_taken(log: Log, tmp_path: Path) -> None:
    with following(tmp_path / "copy", export(log, tmp_path / "out")) as follower:
        follower.step()
    text = log.checkpoint().note.partition(b"\n\n")[0] + b"\n"
    log.add_cosignatures(log.checkpoint().size, [Cosigner.ed25519("w.example", key_of(7)).cosign(text, AT).signature])
    with following(tmp_path / "copy", export(log, tmp_path / "out")) as follower:
        assert follower.step().before == log.checkpoint().size
        same(log, follower._log)


def test_a_log_that_appends_is_no_follower(log: Log, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        Replica.adopt(log, log.checkpoint(), 0, [])  # type: ignore[arg-type]  # what the check is for
    assert caught.value.code == "ledger.not_follower"


def test_entries_that_are_no_statements(tmp_path: Path) -> None:
    with following(tmp_path, TreeSource(ShownLog(entries(3)))) as follower:
        with pytest.raises(VerificationFailed) as caught:
            follower.step()
        assert caught.value.code == "ledger.entry"


def test_a_signed_root_of_nothing_known(tmp_path: Path) -> None:
    source = TreeSource(ShownLog(entries(3)))
    source.files["checkpoint"] = sign_checkpoint(ORIGIN, 3, bytes(32), KEY).note
    with following(tmp_path, source) as follower, pytest.raises(VerificationFailed) as caught:
        follower.step()
    assert caught.value.code == "ledger.source_root"


# --- sources ---


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...


@contextmanager
def web(kind: type[BaseHTTPRequestHandler] | functools.partial[SimpleHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:  # type: ignore[arg-type]  # a partial makes one, too
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_it_follows_over_http(log: Log, tmp_path: Path) -> None:
    log.append_statements(*(party(number) for number in range(300)))
    export(log, tmp_path / "out")
    with web(functools.partial(_Quiet, directory=str(tmp_path))) as url:
        source = open_source(f"{url}/out/")
        replica = make_replica(tmp_path / "copy")
        assert Follower(replica, source, tmp_path / "copy", lambda: AT).step().checkpoint == log.checkpoint()
        same(log, replica)
        replica.close()
        source.close()
        empty = open_source(f"{url}/nothing")
        with following(tmp_path / "copy2", empty) as follower, pytest.raises(NotFound):
            follower.step()
        empty.close()


def test_a_web_server_that_misbehaves_is_bounded() -> None:
    answers = {
        "/large": b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000,
        "/error": b"HTTP/1.0 500 Oops\r\n\r\n",
        "/moved": b"HTTP/1.0 301 Moved\r\nLocation: /good\r\n\r\n",
        "/garbage": b"\x00\x01\x02\r\n\r\n",
        "/short": b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "/good": b"HTTP/1.0 200 OK\r\n\r\nabc",
    }

    class Bad(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(answers.get(self.path, b"HTTP/1.0 404 No\r\n\r\n"))

        def log_message(self, *_: object) -> None: ...

    with web(Bad) as url:
        source = HttpSource(url)
        assert source.read("good", 3) == b"abc"
        assert source.read("none", 3) is None
        for name, error, code in (
            ("large", VerificationFailed, "ledger.source_size"),
            ("error", StorageFailed, "ledger.source"),
            ("moved", StorageFailed, "ledger.source"),
            ("garbage", StorageFailed, "ledger.source"),
        ):
            with pytest.raises(SafeholdError) as caught:
                source.read(name, 4096)
            assert (type(caught.value), caught.value.code) == (error, code)
        assert source.read("good", 3) == b"abc"
        times = iter([0.0, 0.0, 1e9, 1e9, 1e9])
        slow = HttpSource(url, monotonic=lambda: next(times))
        with pytest.raises(StorageFailed) as late:
            slow.read("large", 1 << 20)
        assert "too long" in late.value.message
        for one in (source, slow):
            one.close()


def test_folders_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    source = FolderSource(tmp_path)
    assert source.read("file", 5) == b"12345"
    assert source.read("file/below", 5) is None
    for name, code in (("file", "ledger.source_size"), (".", "ledger.source")):
        with pytest.raises(SafeholdError) as caught:
            source.read(name, 4)
        assert caught.value.code == code
    with pytest.raises(InputInvalid):
        open_source("gopher://x/")
