"""kill -9 of each process of a real server in the middle of requests: nothing acknowledged is lost, nothing leaves unrecorded."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from safehold.broker.connection import Connection, Patience
from safehold.broker.http_form import proof_headers
from safehold.broker.proof import KEYS_PATH, Proof, sign_request
from safehold.broker.request import KeyRequest, format_request
from safehold.broker.sealing import ReaderKey
from safehold.cli.grant_file import read_grant_file
from safehold.ledger.keys import SigningKey
from safehold.model.errors import StorageFailed
from safehold.model.ids import Digest, HostId, RequestId, parse_group_name, parse_purpose
from safehold.state.standing import resolve_release
from tests.cli_kit import Desk
from tests.serve_kit import Running, ready_desk, running

TRAINER = HostId("north-lab/trainer")
BEFORE, READERS = 12, 6


class Asked(NamedTuple):
    """A request as it was sent, and who can open its answer."""

    request: RequestId
    release: Digest
    reader: ReaderKey
    body: bytes
    proof: Proof


class Asker:
    """Makes requests that are good and new each."""

    def __init__(self, desk: Desk) -> None:
        self.signer = SigningKey.load(desk.home / "keys" / "hosts" / TRAINER)
        home = desk.session().factory().open(desk.home)
        with home.log.view() as view:
            row = resolve_release(view, "quill-works/problems@1")
        home.close()
        self.release = row.release
        self._groups = tuple(parse_group_name(one) for one in row.groups)
        self._grant = read_grant_file(desk.folder / "grant.json").token

    def new(self) -> Asked:
        request, reader = RequestId("q-" + os.urandom(16).hex()), ReaderKey()
        body = format_request(
            KeyRequest(
                request=request, release=self.release, groups=self._groups, purpose=parse_purpose("training"),
                member=None, host=TRAINER, host_key=self.signer.public.key_id, grant=self._grant, reader=reader.public,
            )
        )  # fmt: skip
        return Asked(request, self.release, reader, body, sign_request(body, request, int(time.time()), self.signer))


class Said(NamedTuple):
    status: int
    form: str
    document: Any


def send(url: str, asked: Asked) -> Said:
    """One request on a connection of its own, without any patience."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=45)
    try:
        headers = proof_headers(asked.proof, asked.body) | {"Content-Type": "application/json"}
        connection.request("POST", KEYS_PATH, asked.body, headers)
        answer = connection.getresponse()
        return Said(answer.status, answer.headers["Content-Type"], json.loads(answer.read()))
    finally:
        connection.close()


def while_asked(server: Running, asker: Asker, act: Callable[[], None]) -> list[tuple[Asked, Said | Exception]]:
    """What becomes of requests while ``act`` happens in the middle of them."""
    told: list[tuple[Asked, Said | Exception]] = []

    def ask() -> None:
        while True:
            asked = asker.new()
            try:
                told.append((asked, send(server.url, asked)))
            except (OSError, http.client.HTTPException) as error:
                told.append((asked, error))
                return

    threads = [threading.Thread(target=ask) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    while len(told) < BEFORE and any(thread.is_alive() for thread in threads):
        threads[0].join(0.005)
    act()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "nobody waits for ever"
    return told


def released(desk: Desk) -> dict[str, list[int]]:
    """The places of the key releases of each request, as the ledger has them."""
    home = desk.session().factory().open(desk.home)
    with home.log.view() as view:
        rows = view.rows("SELECT request, idx FROM key_release")
    home.close()
    found: dict[str, list[int]] = {}
    for request, place in rows:
        found.setdefault(str(request), []).append(int(place))
    return found


def keys_of(asked: Asked, said: Said) -> dict[str, bytes]:
    return asked.reader.open(base64.b64decode(said.document["sealed"]), asked.request, asked.release)


def ended(desk: Desk, server: Running) -> str:
    """The exit says that it is the store's fault, and the last words which process it was."""
    assert server.process.wait(60) == 5
    for process in (server.vault, server.front):
        assert not Path(f"/proc/{process}").exists(), "none is left behind"
    error = json.loads((desk.folder / "served.out").read_text())["error"]
    assert error["code"] == "serve.ended"
    return str(error["message"])


def nothing_is_lost(desk: Desk, asker: Asker, told: list[tuple[Asked, Said | Exception]]) -> None:
    """Each answer has its one entry; a request without an answer, sent again, gets the release of then or a new one."""
    before = released(desk)
    answers = {asked.request: said for asked, said in told if isinstance(said, Said) and said.status == 200}
    assert len(answers) >= BEFORE - READERS
    for request, said in answers.items():
        assert before[request] == [said.document["entry"]]
    lost = [asked for asked, said in told if asked.request not in answers]
    assert lost, "the kill came in the middle"
    with running(desk) as server:
        for asked in lost:
            said = send(server.url, asked)
            assert said.status == 200, said
            assert keys_of(asked, said)
            if asked.request in before:
                assert before[asked.request] == [said.document["entry"]], "the same release, sealed anew"
    after = released(desk)
    assert all(len(places) == 1 for places in after.values()), "no release twice"
    assert set(after) == {asked.request for asked, _ in told} | (set(before) - {asked.request for asked, _ in told})
    assert desk.json("fsck")["problems"] == []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return ready_desk(tmp_path / "desk")


def test_a_front_that_is_killed_ends_the_server_and_no_release_is_lost(desk: Desk) -> None:
    asker = Asker(desk)
    with running(desk) as server:
        told = while_asked(server, asker, lambda: os.kill(server.front, signal.SIGKILL))
        assert "the front ended by itself" in ended(desk, server)
        with Connection([server.url], asker.signer, patience=Patience(attempts=2)) as connection:
            with pytest.raises(StorageFailed) as caught:
                connection.holds(TRAINER)
            assert caught.value.code == "broker.unreachable"
    assert all(said.status == 200 for _, said in told if isinstance(said, Said))
    nothing_is_lost(desk, asker, told)


def test_a_vault_process_that_is_killed_is_a_503_and_no_release_is_lost(desk: Desk) -> None:
    asker = Asker(desk)
    with running(desk) as server:
        told = while_asked(server, asker, lambda: os.kill(server.vault, signal.SIGKILL))
        assert "the vault process ended by itself" in ended(desk, server)
    refused = [said for _, said in told if isinstance(said, Said) and said.status != 200]
    assert refused, "who waits for an answer is told"
    for said in refused:
        assert (said.status, said.form) == (503, "application/problem+json")
        assert said.document["code"] == "serve.vault_gone"
        assert said.document["hint"]
    nothing_is_lost(desk, asker, told)


def test_a_supervisor_that_is_killed_takes_both_with_it_and_no_release_is_lost(desk: Desk) -> None:
    asker = Asker(desk)
    with running(desk) as server:
        told = while_asked(server, asker, server.process.kill)
        server.process.wait(60)
        for process in (server.vault, server.front):
            until(lambda process=process: not Path(f"/proc/{process}").exists())  # type: ignore[misc]  # a default binds it
    assert {said.status for _, said in told if isinstance(said, Said)} <= {200, 503}
    nothing_is_lost(desk, asker, told)


def test_a_vault_process_that_stands_still_is_said_in_time_and_goes_on(desk: Desk) -> None:
    """Not ended but stopped: nobody waits without end, and what was asked is answered when it goes on."""
    asker = Asker(desk)
    with running(desk) as server:
        assert send(server.url, asker.new()).status == 200
        os.kill(server.vault, signal.SIGSTOP)
        try:
            parts = urlsplit(server.url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["code"]) == (503, "serve.busy")
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()
            waiting = asker.new()
            said: list[Said] = []
            thread = threading.Thread(target=lambda: said.append(send(server.url, waiting)))
            thread.start()
        finally:
            os.kill(server.vault, signal.SIGCONT)
        thread.join(60)
        assert [one.status for one in said] == [200]
        assert send(server.url, waiting).document["entry"] == said[0].document["entry"]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
