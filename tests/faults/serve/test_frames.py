"""Frames between front and vault process that are no frames: their connection ends, nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safehold.app.serve import frames, link, vault_process
from safehold.app.serve.frames import MAX_FRAME_BYTES, Call, Outcome, encode_frame, receive_frame
from safehold.app.serve.link import SocketLink, reach_socket
from safehold.broker.http_form import parse_proof
from safehold.model.errors import SafeholdError, StorageFailed
from safehold.model.statements import KeyReleased
from tests.broker_kit import make_world
from tests.serve_kit import Seam

STATE = encode_frame([Call("state")])
NO_FRAMES = {
    "nothing but a head": b"\x00",
    "length 0": bytes(4),
    "too long": (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x" * 64,
    "longest head": b"\xff" * 4,
    "no calls": b"\x00\x00\x00\x01\x90",
    "no MessagePack": b"\x00\x00\x00\x04\xc1\xc1\xc1\xc1",
    "a huge list": b"\x00\x00\x00\x05\xdd\xff\xff\xff\xff",
    "another kind": b"\x00\x00\x00\x09\x91\x91\xa6secret",
    "too many calls": (3 + 257 * 7).to_bytes(4, "big") + b"\xdc\x01\x01" + b"\x91\xa5state" * 257,
    "HTTP": b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "cut short": STATE[:-1],
    "two frames, one in the other": STATE[:6] + STATE,
    "deep": b"\x00\x00\x10\x00" + b"\x91" * 4096,
    "random": os.urandom(4096),
}


@pytest.fixture
def seam(tmp_path: Path) -> Iterator[Seam]:
    made = Seam(make_world(tmp_path), tmp_path / "socket")
    yield made
    made.close()


def connect(seam: Seam) -> socket.socket:
    connection = reach_socket(seam.folder)
    connection.settimeout(20)
    return connection


def is_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed without an answer."""
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def answers(connection: socket.socket) -> bool:
    connection.sendall(STATE)
    (outcome,) = frames.decode_outcomes(receive_frame(connection) or b"", 1)
    return outcome.status == 200


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frame_ends_its_connection_and_no_other(seam: Seam, name: str) -> None:
    with connect(seam) as good, connect(seam) as bad:
        assert answers(good)
        with contextlib.suppress(OSError):  # it may be closed before all was sent
            bad.sendall(NO_FRAMES[name])
            bad.shutdown(socket.SHUT_WR)
        assert is_ended(bad)
        assert answers(good), "other connections go on"
    assert seam.ask().status == 200


def test_a_frame_after_another_is_answered_in_its_order(seam: Seam) -> None:
    with connect(seam) as one:
        one.sendall(STATE + encode_frame([Call("read", name="checkpoint"), Call("read", name="nothing")]) + STATE[:3])
        assert frames.decode_outcomes(receive_frame(one) or b"", 1)[0].status == 200
        assert [out.status for out in frames.decode_outcomes(receive_frame(one) or b"", 2)] == [200, 404]
        one.sendall(STATE[3:])
        assert receive_frame(one), "a frame may come in pieces"


def test_as_many_connections_as_there_is_room_for_and_then_again(seam: Seam) -> None:
    for _ in range(3):
        held = [connect(seam) for _ in range(16)]
        assert all(answers(one) for one in held)
        with connect(seam) as more:
            assert is_ended(more)
        for one in held:
            one.sendall(NO_FRAMES["no MessagePack"])
            assert is_ended(one)
            one.close()
    assert seam.ask().status == 200


def test_a_socket_that_cannot_be_accepted_once_is_accepted_then(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, no thread, a peer that has gone: the next one is served."""
    for name, error in (("check_peer", OSError("gone")), ("check_peer", RuntimeError("x"))):
        with monkeypatch.context() as patch:
            patch.setattr(vault_process, name, _failing_once(getattr(vault_process, name), error))
            with connect(seam) as one:
                assert is_ended(one)
            with connect(seam) as one:
                assert answers(one)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _failing_once(threading.Thread.start, RuntimeError("no thread")))
        with connect(seam) as one:
            assert is_ended(one)
    listener = seam.server._listener

    class Listener:
        """As the system's, but without a descriptor the first time."""

        left = 1

        def accept(self) -> Any:
            if self.left:
                self.left -= 1
                raise OSError(24, "too many open files")
            return listener.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(listener, name)

    monkeypatch.setattr(seam.server, "_listener", Listener())
    for _ in range(3):  # the first is still taken by the real one
        with connect(seam) as one:
            assert answers(one)


def _failing_once(original: Any, error: Exception) -> Any:
    left = [1]

    def fail(*arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return original(*arguments)

    return fail


# --- the other side: a vault that answers no frames ----------------------------------------------------


@pytest.mark.parametrize("said", [*NO_FRAMES.values(), b"", encode_frame([Outcome(200)] * 3)])
def test_an_answer_that_is_none_is_told_to_its_askers_and_the_next_is_asked_anew(tmp_path: Path, said: bytes) -> None:
    answered = [said, encode_frame([Outcome(200, b"fine")])]

    async def ask() -> list[Any]:
        async def vault(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(SafeholdError):
                await frames.read_frame(reader)
                writer.write(answered.pop(0))
            writer.close()

        server = await asyncio.start_unix_server(vault, tmp_path / "vault.sock")
        made = SocketLink(tmp_path, 8)
        made.start()
        try:
            return [await asyncio.gather(made.ask(Call("state")), return_exceptions=True) for _ in range(2)]
        finally:
            await made.close()
            server.close()

    (first,), (second,) = asyncio.run(asyncio.wait_for(ask(), 20))
    assert isinstance(first, StorageFailed)
    assert first.code == "serve.vault_gone"
    assert second == Outcome(200, b"fine")


def test_large_calls_go_in_frames_that_hold_them(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four inventories of the largest size at once are more than a frame may be."""
    monkeypatch.setattr(link, "_BATCH_BYTES", 1000)
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 2000)

    async def ask() -> list[Outcome]:
        made = SocketLink(seam.folder, 64)
        made.start()
        try:
            return await asyncio.gather(*[made.ask(Call("inventory", b"x" * 900)) for _ in range(4)])
        finally:
            await made.close()

    # What is answered needs more room than that.
    monkeypatch.setattr(frames, "_AROUND_BODY", 400)
    assert [one.code for one in asyncio.run(ask())] == ["serve.inventory_form"] * 4


def test_answers_that_do_not_fit_into_one_frame_are_told_to_come_again(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(body: bytes) -> Call:
        proof = parse_proof(seam.signed(body), body)
        return Call("keys", body, "", proof.created, proof.nonce, proof.key, proof.signature)

    calls = [call(seam.world.body()) for _ in range(4)]

    def ask(asked: list[Call]) -> list[Outcome]:
        with connect(seam) as one:
            one.sendall(encode_frame(asked))
            return frames.decode_outcomes(receive_frame(one) or b"", len(asked))

    whole = ask(calls)
    size = max(len(one.body) for one in whole)
    largest = len(encode_frame(calls)) + 2 * size
    monkeypatch.setattr(frames, "_AROUND_BODY", largest // 2 - size)  # so that two have room
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", largest)
    some = ask(calls)
    assert [one.code for one in some] == ["", "", "serve.busy", "serve.busy"]
    assert [one.status for one in ask(calls[2:])] == [200, 200]
    assert len(seam.world.statements(KeyReleased)) == 4, "each was released once"
