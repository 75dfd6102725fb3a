"""The chunk container: every size comes back, any range of it, and nothing that was changed does."""

from __future__ import annotations

import io
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.vault.chunks import CHUNK_BYTES, ChunkReader, ChunkWriter, sealed_size

KEY = bytes(range(32))
AAD = '{"aad":"safehold part v1"}'
STEP = CHUNK_BYTES + 16
SIZES = [0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 12345]


def sealed(data: bytes, key: bytes = KEY, aad: str = AAD, piece: int = 300_000) -> bytes:
    sink = io.BytesIO()
    writer = ChunkWriter(sink, key, aad)
    for begin in range(0, len(data), piece):
        writer.write(data[begin : begin + piece])
    writer.finish()
    assert writer.size == len(data)
    return sink.getvalue()


def reader(container: bytes, key: bytes = KEY, aad: str = AAD) -> ChunkReader:
    return ChunkReader(lambda start, length: container[start : start + length], len(container), key, aad, "p")


def opened(container: bytes, key: bytes = KEY, aad: str = AAD) -> bytes:
    one = reader(container, key, aad)
    return b"".join(bytes(view) for view in one.read(0, one.size))


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back(size: int) -> None:
    data = os.urandom(size)
    container = sealed(data)
    assert len(container) == sealed_size(size)
    assert reader(container).size == size
    assert opened(container) == data
    reader(container).check()
    assert data[:16] not in container or size < 16


def test_how_it_was_written_does_not_show() -> None:
    data = os.urandom(2 * CHUNK_BYTES + 5)
    assert len({sealed(data, piece=piece) for piece in (7919, CHUNK_BYTES, 1 << 24)}) == 1


def test_any_range() -> None:
    data = os.urandom(3 * CHUNK_BYTES + 99)
    one = reader(sealed(data))
    for start, length in (
        (0, 1),
        (CHUNK_BYTES - 1, 2),
        (CHUNK_BYTES, CHUNK_BYTES),
        (5, 3 * CHUNK_BYTES),
        (len(data), 0),
    ):
        assert b"".join(bytes(view) for view in one.read(start, length)) == data[start : start + length]
    for start, length in ((-1, 1), (0, len(data) + 1), (len(data), 1), (0, -1)):
        with pytest.raises(InputInvalid):
            list(one.read(start, length))


def test_it_is_what_the_page_says() -> None:
    """By hand: AES-GCM with the nonces and the associated data of the specification."""
    data = os.urandom(CHUNK_BYTES + 10)
    aad = b"safehold chunks v1\x00" + AAD.encode()
    by_hand = (
        b"safehold-chunks\x01"
        + AESGCM(KEY).encrypt(bytes(12), data[:CHUNK_BYTES], aad)
        + AESGCM(KEY).encrypt(b"\0\0\0\1" + (1).to_bytes(8, "big"), data[CHUNK_BYTES:], aad)
    )
    assert sealed(data) == by_hand


def _cuts(container: bytes) -> dict[str, bytes]:
    body = container[16:]
    chunks = [body[begin : begin + STEP] for begin in range(0, len(body), STEP)]
    head = container[:16]
    return {
        "a byte less": container[:-1],
        "the last chunk gone": head + b"".join(chunks[:-1]),
        "only the head": head,
        "nothing": b"",
        "a byte more": container + b"\0",
        "the last chunk twice": container + chunks[-1],
        "an empty chunk more": container + bytes(16),
        "two chunks swapped": head + chunks[1] + chunks[0] + b"".join(chunks[2:]),
        "a chunk twice": head + chunks[0] + chunks[0] + b"".join(chunks[2:]),
        "another head": b"safehold-chunks\x02" + body,
        "without its head": body,
    }


@pytest.mark.parametrize("harm", sorted(_cuts(bytes(3 * STEP))))
def test_cut_grown_and_reordered(harm: str) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 500)
    with pytest.raises(VerificationFailed) as refused:
        opened(_cuts(sealed(data))[harm])
    assert refused.value.code in {"vault.part_altered", "vault.part_truncated"}


@pytest.mark.parametrize("size", [0, CHUNK_BYTES, 2 * CHUNK_BYTES])
def test_a_file_cut_where_a_chunk_ends(size: int) -> None:
    """Exactly at the end of a chunk, where only the last-chunk mark tells."""
    container = sealed(os.urandom(size + CHUNK_BYTES + 1))
    with pytest.raises(VerificationFailed):
        opened(container[: sealed_size(size)])


def test_another_key_place_or_bit() -> None:
    container = bytearray(sealed(os.urandom(CHUNK_BYTES + 100)))
    for key, aad in ((bytes(32), AAD), (KEY, AAD + " ")):
        with pytest.raises(VerificationFailed):
            opened(bytes(container), key, aad)
    for place in (
        0,
        15,
        16,
        CHUNK_BYTES // 2,
        CHUNK_BYTES + 16,
        CHUNK_BYTES + 31,
        CHUNK_BYTES + 32,
        len(container) - 1,
    ):
        container[place] ^= 1
        with pytest.raises(VerificationFailed):
            opened(bytes(container))
        container[place] ^= 1
    opened(bytes(container))


def test_a_view_cannot_be_written_and_a_failed_chunk_gives_nothing() -> None:
    data = os.urandom(2 * CHUNK_BYTES)
    container = bytearray(sealed(data))
    container[16 + STEP] ^= 1
    one = reader(bytes(container))
    views = one.read(0, len(data))
    first = next(views)
    assert first.readonly
    assert bytes(first) == data[:CHUNK_BYTES]
    with pytest.raises(VerificationFailed):
        next(views)
    assert bytes(next(iter(one.read(0, 10)))) == data[:10]


def test_nothing_is_written_after_the_end() -> None:
    writer = ChunkWriter(io.BytesIO(), KEY, AAD)
    writer.write(b"a")
    writer.finish()
    writer.finish()
    writer.write(bytes(CHUNK_BYTES))
    with pytest.raises(InputInvalid):
        writer.write(b"b")


def test_a_sink_that_takes_little_at_a_time() -> None:
    class Slow(io.BytesIO):
        def write(self, data, /):  # type: ignore[no-untyped-def,override]  # as a socket or a raw file does
            return super().write(bytes(data[:70_000]))

    sink = Slow()
    writer = ChunkWriter(sink, KEY, AAD)
    writer.write(b"x" * 200_000)
    writer.finish()
    assert opened(sink.getvalue()) == b"x" * 200_000
