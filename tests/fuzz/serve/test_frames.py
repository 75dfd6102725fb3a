"""Frames from any bytes: calls or outcomes of the documented form, or our error; never anything else, never endless."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.app.serve.frames import (
    MAX_CALLS,
    Call,
    Outcome,
    decode_calls,
    decode_outcomes,
    encode_frame,
    read_frame,
    receive_frame,
)
from safehold.model.errors import InputInvalid, StorageFailed

KINDS = st.sampled_from(["keys", "lease", "leased", "inventory", "holds", "read", "state", "metrics"])
NUMBERS = st.integers(-(2**63), 2**64 - 1)
CALLS = st.builds(Call, KINDS, st.binary(max_size=200), st.text(max_size=20), NUMBERS, st.text(max_size=20))
OUTCOMES = st.builds(
    Outcome, NUMBERS, st.binary(max_size=200), st.text(max_size=9), st.text(), st.text(), st.none() | NUMBERS
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | KINDS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


def through_a_socket(data: bytes, cuts: list[int]) -> list[bytes | InputInvalid | None]:
    """What the vault's side receives of ``data``, sent in pieces; the last is None, or the error that ends it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(True)
        begin = 0
        for end in [*sorted(cuts), len(data)]:
            ours.sendall(data[begin:end])
            begin = max(begin, end)
        ours.shutdown(socket.SHUT_WR)
        received: list[bytes | InputInvalid | None] = []
        while True:
            try:
                received.append(receive_frame(theirs))
            except InputInvalid as error:
                received.append(error)
            if not isinstance(received[-1], bytes):
                return received


@given(calls=st.lists(CALLS, min_size=1, max_size=8), outcomes=st.lists(OUTCOMES, max_size=8))
def test_what_is_said_is_what_is_heard(calls: list[Call], outcomes: list[Outcome]) -> None:
    assert decode_calls(encode_frame(calls)[4:]) == calls
    assert decode_outcomes(encode_frame(outcomes)[4:], len(outcomes)) == outcomes


@given(data=st.binary(max_size=400) | ANYTHING.map(msgspec.msgpack.encode))
def test_any_bytes_are_calls_or_no_frame(data: bytes) -> None:
    with contextlib.suppress(InputInvalid):
        calls = decode_calls(data)
        assert 1 <= len(calls) <= MAX_CALLS
        assert all(type(one.body) is bytes and type(one.nonce) is str for one in calls)
    with pytest.raises(InputInvalid):
        decode_outcomes(data, MAX_CALLS + 1)


@settings(max_examples=200)
@given(
    frames=st.lists(st.lists(CALLS, min_size=1, max_size=3), max_size=4),
    tail=st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 1500), max_size=6),
)
def test_frames_are_told_apart_however_they_arrive_and_what_follows_them_ends_it(
    frames: list[list[Call]], tail: bytes, cuts: list[int]
) -> None:
    whole = [encode_frame(calls) for calls in frames]
    data = b"".join(whole) + tail
    *bodies, last = through_a_socket(data, [min(cut, len(data)) for cut in cuts])
    assert bodies[: len(frames)] == [one[4:] for one in whole]
    rest = [one for one in bodies[len(frames) :] if isinstance(one, bytes)]
    assert b"".join(len(one).to_bytes(4, "big") + one for one in rest) == tail[: sum(4 + len(one) for one in rest)]
    assert (last is None) == (sum(4 + len(one) for one in rest) == len(tail))

    async def front_side() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        read = []
        try:
            while True:
                read.append(await read_frame(reader))
        except (InputInvalid, StorageFailed):
            return read

    assert asyncio.run(front_side()) == bodies, "both sides read the same"


@given(head=st.binary(min_size=4, max_size=4), body=st.binary(max_size=64))
def test_a_length_that_is_claimed_reserves_nothing(head: bytes, body: bytes) -> None:
    last = through_a_socket(head + body, [])[-1]
    assert last is None or (isinstance(last, InputInvalid) and last.code == "serve.frame")


@pytest.mark.parametrize("depth", [10, 1000, 200_000])
def test_deep_frames_end_in_our_error(depth: int) -> None:
    for data in (b"\x91" * depth, b"\x81\xa1a" * depth, b"\x91\x91\xa4keys" + b"\x91" * depth):
        with pytest.raises(InputInvalid):
            decode_calls(data)
