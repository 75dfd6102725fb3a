"""The witness over HTTP: the table of answers, bounds, and the client that asks it."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from safehold.ledger.cosignature import Cosigner
from safehold.ledger.log import Log
from safehold.ledger.note import open_checkpoint
from safehold.ledger.policy import Policy, parse_policy
from safehold.ledger.witness import MAX_REQUEST_BYTES, WitnessConflict, WitnessRequest, format_request
from safehold.ledger.witness_client import add_collected, gather, obtain_cosignature, submit_checkpoint, witness_id
from safehold.ledger.witness_http import WitnessServer
from safehold.ledger.witnessed import WitnessedSizes
from safehold.model.errors import InputInvalid, Refused, SafeholdError, StorageFailed, VerificationFailed
from tests.ledger_kit import OTHER_KEY, VERIFIER, key_of, open_log, party
from tests.witness_kit import AT, Desk, ShownLog, cosigned, entries, forked

LOG = ShownLog(entries(40))


@contextmanager
def serving(desk: Desk) -> Iterator[str]:
    notes: list[str] = []
    with WitnessServer(("127.0.0.1", 0), desk.witness, notes.append) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "witness", VERIFIER)
    yield made
    made.close()


@pytest.fixture
def url(desk: Desk) -> Iterator[str]:
    with serving(desk) as found:
        yield found


def _ask(
    url: str, body: bytes = b"", method: str = "POST", path: str = "/add-checkpoint", **headers: str
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.status, response.getheader("Content-Type", ""), response.read()
    connection.close()
    return answer


def test_the_table_of_answers(url: str, desk: Desk) -> None:
    status, _, lines = _ask(url, LOG.request(0, 9))
    assert status == 200
    assert cosigned(LOG.note(9), lines, desk.key)
    stranger = ShownLog(entries(3), OTHER_KEY, "other.example/log")
    table = {
        400: [b"nonsense", format_request(10, [], LOG.note(9)), format_request(9, [bytes(32)] * 64, LOG.note(9))],
        403: [ShownLog(entries(12), OTHER_KEY).request(9)],
        404: [stranger.request(0)],
        422: [format_request(9, [bytes(32)] * 3, LOG.note(12)), ShownLog(forked(4, 12)).request(9)],
        413: [b"x" * (MAX_REQUEST_BYTES + 1)],
    }
    for expected, bodies in table.items():
        for body in bodies:
            assert _ask(url, body)[0] == expected
    for body in (LOG.request(0, 12), LOG.request(8, 12), ShownLog(forked(4, 9)).request(9)):
        assert _ask(url, body) == (409, "text/x.tlog.size", b"9\n")
    assert _ask(url, LOG.request(9, 12))[0] == 200


def test_other_paths_methods_and_lengths(url: str) -> None:
    assert _ask(url, b"", path="/")[0] == 404
    assert _ask(url, b"", "GET")[0] == 405
    assert _ask(url, b"", "PUT")[0] == 405
    assert _ask(url, b"", "GET", "/evidence")[0] == 404
    assert _ask(url, b"", "HEAD")[2] == b""
    host, _, port = url.split("/")[2].partition(":")
    for head, expected in (
        (b"", b"411"),
        (b"Transfer-Encoding: chunked\r\n", b"411"),
        (b"Content-Length: -1\r\n", b"400"),
        (b"Content-Length: \xb2\r\n", b"400"),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", b"400"),
        (b"Content-Length: 99999999999999999999\r\n", b"413"),
    ):
        with socket.create_connection((host, int(port)), 20) as raw:
            raw.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n" + head + b"\r\n")
            assert raw.recv(4096).split()[1] == expected, head
    with socket.create_connection((host, int(port)), 20) as raw:
        raw.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 50\r\n\r\nold 0")
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(4096).split()[1] == b"400"


def test_a_connection_is_kept_and_serves_again(url: str) -> None:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    for old, size in ((0, 1), (1, 5), (0, 9), (5, 9)):
        connection.request("POST", "/add-checkpoint", LOG.request(old, size))
        response = connection.getresponse()
        assert response.status == (409 if (old, size) == (0, 9) else 200)
        response.read()
    connection.close()


def test_a_failure_inside_is_503_and_no_cosignature(url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.state, "turn", lambda: 1 / 0)
    assert _ask(url, LOG.request(0, 3))[0] == 503


def test_a_port_that_is_taken(url: str, desk: Desk) -> None:
    with pytest.raises(StorageFailed):
        WitnessServer(("127.0.0.1", int(url.split(":")[2].rstrip("/"))), desk.witness, print)


# --- the client ---


def _checkpoint(size: int, log: ShownLog = LOG):
    return open_checkpoint(log.note(size), VERIFIER)


def test_the_client_finds_the_old_size_by_itself(url: str, desk: Desk) -> None:
    for size in (5, 9, 9, 30):
        made = obtain_cosignature(url, desk.key, _checkpoint(size), lambda old, at=size: LOG.proof(old, at), 0)
        assert (made.key, made.seconds) == (desk.key, AT // 1_000_000)
    with pytest.raises(WitnessConflict) as caught:
        obtain_cosignature(url, desk.key, _checkpoint(9), lambda old: LOG.proof(old, 9), 9)
    assert (caught.value.code, caught.value.size) == ("ledger.witness_ahead", 30)
    other = ShownLog(forked(4, 30))
    with pytest.raises(WitnessConflict) as caught:
        obtain_cosignature(url, desk.key, _checkpoint(30, other), lambda old: other.proof(old, 30), 0)
    assert caught.value.code == "ledger.witness_split"


def test_an_answer_by_another_key_does_not_count(url: str) -> None:
    other = Cosigner.ed25519("witness.example/w1", key_of(5)).key
    with pytest.raises(VerificationFailed) as caught:
        obtain_cosignature(url, other, _checkpoint(5), lambda old: LOG.proof(old, 5), 0)
    assert caught.value.code == "ledger.cosignature"


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", VerificationFailed, "ledger.note_form"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello\n", VerificationFailed, "ledger.note_form"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (1 << 20), VerificationFailed, "ledger.note_form"),
        (b"HTTP/1.0 409 Conflict\r\n\r\nnine\n", Refused, "ledger.witness_refused"),
        (b"HTTP/1.0 409 Conflict\r\n\r\n" + b"9" * 30 + b"\n", Refused, "ledger.witness_refused"),
        (b"HTTP/1.0 409 Conflict\r\n\r\n9999999999999999999\n", Refused, "ledger.witness_refused"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://elsewhere.example/\r\n\r\n", Refused, "ledger.witness_refused"),
        (b"HTTP/1.0 500 Oops\r\n\r\n\x1b[31m", Refused, "ledger.witness_refused"),
        (b"garbage\r\n\r\n", StorageFailed, "ledger.witness_unreachable"),
        (b"", StorageFailed, "ledger.witness_unreachable"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nshort", VerificationFailed, "ledger.note_form"),
    ],
)
def test_what_a_bad_witness_answers(answer: bytes, error: type[SafeholdError], code: str) -> None:
    class Bad(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Bad) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(SafeholdError) as caught:
            obtain_cosignature(
                f"http://127.0.0.1:{server.server_address[1]}", key(), _checkpoint(5), lambda old: LOG.proof(old, 5), 0
            )
        thread.join()
    assert (type(caught.value), caught.value.code) == (error, code)


def key():
    return Cosigner.ed25519("witness.example/w1", key_of(77)).key


def test_nobody_there_and_bad_addresses() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        with pytest.raises(StorageFailed) as caught:
            submit_checkpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/", WitnessRequest(0, (), LOG.note(3)))
    assert caught.value.code == "ledger.witness_unreachable"
    for url in ("", "w.example", "ftp://w.example/", "http://", "http://u:p@w.example/", "http://w/?q", "http://w/#f",
                "http://w:99999/", "http://w/a b", "http://w/\r\nX: y", "http://[::1/"):  # fmt: skip
        with pytest.raises(InputInvalid) as bad:
            submit_checkpoint(url, WitnessRequest(0, (), LOG.note(3)))
        assert bad.value.code == "ledger.url"


# --- a whole ledger and its witnesses ---


def _policy(desk: Desk, url: str, more: str = "") -> Policy:
    return parse_policy(f"witness w {desk.key.text} {url}\n{more}quorum w\n".encode())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(tmp_path / "home")
    opened.append_statements(party(1), party(2))
    yield opened
    opened.close()


def test_a_ledger_gathers_cosignatures_and_keeps_them(log: Log, desk: Desk, url: str, tmp_path: Path) -> None:
    sizes = WitnessedSizes(tmp_path / "witnessed.db")
    dead = Cosigner.ed25519("dead.example", key_of(6)).key
    policy = _policy(desk, url, f"witness d {dead.text} http://127.0.0.1:9/\nwitness silent {key_of_text(7)}\n")
    gathered = gather(log, policy, sizes)
    assert gathered.lacking is None
    assert [(one.witness, one.error and one.error.code) for one in gathered.outcomes] == [
        (witness_id(desk.key), None), (witness_id(dead), "ledger.witness_unreachable"),
    ]  # fmt: skip
    assert policy.witnessed(log.checkpoint())
    note = sizes.complete(VERIFIER.name)
    log.append_statements(party(3))
    with pytest.raises(VerificationFailed):
        policy.witnessed(log.checkpoint())
    assert log.receipt(1, note).endswith(note or b"?")
    assert [(one.witness, one.size) for one in sizes.known()] == [(witness_id(desk.key), 2)]
    assert gather(log, policy, sizes).lacking is None
    assert sizes.known()[0].size == 3
    sizes.close()


def key_of_text(seed: int) -> str:
    return Cosigner.ed25519(f"w{seed}.example", key_of(seed)).key.text


def test_without_its_quorum_it_says_so(log: Log, desk: Desk, url: str, tmp_path: Path) -> None:
    sizes = WitnessedSizes(tmp_path / "witnessed.db")
    policy = parse_policy(
        f"witness a {desk.key.text} {url}\nwitness b {key_of_text(7)}\ngroup g all a b\nquorum g\n".encode()
    )
    gathered = gather(log, policy, sizes)
    assert gathered.lacking is not None
    assert gathered.lacking.code == "ledger.not_witnessed"
    assert sizes.complete(VERIFIER.name) is None
    with pytest.raises(VerificationFailed) as caught:
        add_collected(
            log, policy, sizes, Cosigner.ed25519("x.example", key_of(3)).cosign(b"", AT).signature.line.encode()
        )
    assert caught.value.code == "ledger.cosignature"
    text = log.checkpoint().note.partition(b"\n\n")[0] + b"\n"
    line = Cosigner.ed25519("w7.example", key_of(7)).cosign(text, AT).signature.line.encode()
    assert add_collected(log, policy, sizes, line).lacking is None, "the other one was kept"
    assert sizes.complete(VERIFIER.name) == log.checkpoint().note
    sizes.close()


def test_a_witness_that_knows_more_is_remembered(desk: Desk, url: str, tmp_path: Path) -> None:
    sizes = WitnessedSizes(tmp_path / "witnessed.db")
    newer = open_log(tmp_path / "newer")
    newer.append_statements(*(party(number) for number in range(9)))
    assert gather(newer, _policy(desk, url), sizes).lacking is None
    newer.close()
    older = open_log(tmp_path / "older")
    older.append_statements(*(party(number) for number in range(4)))
    forgetful = WitnessedSizes(tmp_path / "other.db")
    gathered = gather(older, _policy(desk, url), forgetful)
    assert gathered.outcomes[0].error is not None
    assert gathered.outcomes[0].error.code == "ledger.witness_ahead"
    assert [(one.size, one.note) for one in forgetful.known()] == [(9, b"")]
    older.close()
    for one in (sizes, forgetful):
        one.close()
