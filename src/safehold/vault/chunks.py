r"""The chunk container: bytes of any kind, encrypted in chunks of 1 MiB that can be read in any order.

::

    "safehold-chunks\x01"                   16 bytes
    chunk 0 … chunk n - 1                 ciphertext of 1,048,576 bytes, then a 16-byte tag; the last may be shorter

Each chunk is AES-256-GCM under the one key of the file. It is the STREAM construction (Hoang, Reyhanitabar, Rogaway,
Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): the nonce is three zero
bytes, a byte that is 1 in the last chunk alone, and the chunk's number in eight bytes, high byte first. The associated
data is ``"safehold chunks v1" ‖ 0x00 ‖ AAD`` with the AAD of the file's place, as for Parquet parts.

**Why counting nonces are safe here:** a key is drawn when a file is begun and dies with its writer; no file is ever
continued under an old key. So no nonce meets a key twice.

**What is refused:** a changed chunk (its tag), chunks in another order (their numbers), a file cut at a chunk's end (its
last chunk does not say so) or with chunks added, and a file in another place (AAD). Nothing of a chunk is given out
before its tag was checked. GCM does not commit to its key; the manifest does (``part_keys``).

Buffers are allocated once: fresh ones cost ten times the encryption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.model.errors import InputInvalid, VerificationFailed

__all__ = ["CHUNK_BYTES", "ByteSink", "ChunkReader", "ChunkWriter", "ReadAt", "sealed_size"]

CHUNK_BYTES: Final = 1 << 20
_MAGIC: Final = b"safehold-chunks\x01"
_TAG: Final = 16
_STEP: Final = CHUNK_BYTES + _TAG
_CONTEXT: Final = b"safehold chunks v1\x00"
_MAX_CHUNKS: Final = 1 << 32

ReadAt = Callable[[int, int], bytes | bytearray | memoryview]
"""Read up to so many bytes (second) from a place (first); fewer only at the end."""


class ByteSink(Protocol):
    """Where sealed bytes go."""

    def write(self, data: memoryview, /) -> int:
        """Take all of ``data`` before it is used again."""
        ...


def _nonce(number: int, *, last: bool) -> bytes:
    return b"\x00\x00\x00" + (b"\x01" if last else b"\x00") + number.to_bytes(8, "big")


def sealed_size(size: int) -> int:
    """The bytes of a container that holds ``size`` bytes."""
    return len(_MAGIC) + size + _TAG * max(1, -(-size // CHUNK_BYTES))


class ChunkWriter:
    """Encrypts what is written to it; ``finish`` writes the last chunk. One key, one writer, one file."""

    def __init__(self, sink: ByteSink, key: bytes, aad: str) -> None:
        self._sink = sink
        self._cipher = AESGCM(key)
        self._aad = _CONTEXT + aad.encode()
        self._plain = memoryview(bytearray(CHUNK_BYTES))
        self._sealed = memoryview(bytearray(_STEP))
        self._held = 0
        self._number = 0
        self._finished = False
        self.size = 0
        _write(sink, memoryview(_MAGIC))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; a full chunk is held until it is known not to be the last. Raises what the sink raises."""
        rest = memoryview(data)
        self.size += len(rest)
        while rest:
            if self._held == CHUNK_BYTES:
                self._flush(last=False)
            if not self._held and len(rest) > CHUNK_BYTES:  # more follows, so this chunk is not the last: no copy
                self._seal(rest[:CHUNK_BYTES], last=False)
                rest = rest[CHUNK_BYTES:]
                continue
            taken = min(len(rest), CHUNK_BYTES - self._held)
            self._plain[self._held : self._held + taken] = rest[:taken]
            self._held += taken
            rest = rest[taken:]

    def finish(self) -> None:
        """Write the last chunk, empty if nothing was written. A second call does nothing."""
        if not self._finished:
            self._flush(last=True)
            self._finished = True

    def _flush(self, *, last: bool) -> None:
        self._seal(self._plain[: self._held], last=last)
        self._held = 0

    def _seal(self, plain: memoryview, *, last: bool) -> None:
        if self._finished or self._number >= _MAX_CHUNKS:
            raise InputInvalid("vault.chunks_ended", "this container is finished, or full", "begin another one")
        target = self._sealed[: len(plain) + _TAG]
        self._cipher.encrypt_into(_nonce(self._number, last=last), plain, self._aad, target)
        _write(self._sink, target)
        self._number += 1


def _write(sink: ByteSink, data: memoryview) -> None:
    while len(data):
        data = data[sink.write(data) :]


class ChunkReader:
    """Reads a container by ``read_at``; ``sealed`` is its size, which the signed manifest names.

    Everything raises ``VerificationFailed`` (``vault.part_altered``, ``vault.part_truncated``), naming ``what``.
    """

    def __init__(self, read_at: ReadAt, sealed: int, key: bytes, aad: str, what: str) -> None:
        self._read_at = read_at
        self._cipher = AESGCM(key)
        self._aad = _CONTEXT + aad.encode()
        self._what = what
        body = sealed - len(_MAGIC)
        self._chunks = max(1, -(-body // _STEP))
        self._body = body
        if body < _TAG or 0 < body % _STEP < _TAG or (self._chunks > 1 and body % _STEP == _TAG):
            raise VerificationFailed(
                "vault.part_truncated", f"the part {what} has a size that no container has", "fetch it again"
            )
        self._plain = memoryview(bytearray(min(CHUNK_BYTES, max(1, body))))
        self._here = -1
        self._length = 0
        if bytes(read_at(0, len(_MAGIC))) != _MAGIC:
            raise self._altered("it does not begin as a container")
        if not self.size:
            self._chunk(0)  # there will be nothing to read that would show a cut

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        return self._body - _TAG * self._chunks

    def read(self, start: int, length: int) -> Iterator[memoryview]:
        """The bytes from ``start`` on, in views that hold until the next is asked for.

        Raises ``InputInvalid`` (``vault.chunk_range``) for bytes that are not there.
        """
        if start < 0 or length < 0 or start + length > self.size:
            raise InputInvalid("vault.chunk_range", f"{self._what} has no bytes {start} to {start + length}", "")
        end = start + length
        while start < end:
            number, offset = divmod(start, CHUNK_BYTES)
            chunk = self._chunk(number)[offset : offset + end - start]
            yield chunk
            start += len(chunk)

    def check(self) -> None:
        """Check every chunk."""
        for number in range(self._chunks):
            self._chunk(number)

    def _chunk(self, number: int) -> memoryview:
        if number != self._here:
            begin = number * _STEP
            length = min(_STEP, self._body - begin)
            data = self._read_at(len(_MAGIC) + begin, length)
            if len(data) != length:
                raise VerificationFailed(
                    "vault.part_truncated", f"the part {self._what} ends too early", "fetch it again"
                )
            self._here = -1  # what stands in the buffer is nothing until the tag was checked
            self._length = length - _TAG
            nonce = _nonce(number, last=number == self._chunks - 1)
            try:
                self._cipher.decrypt_into(nonce, data, self._aad, self._plain[: self._length])
            except InvalidTag as error:
                raise self._altered(f"chunk {number} does not decrypt") from error
            self._here = number
        return self._plain[: self._length].toreadonly()

    def _altered(self, reason: str) -> VerificationFailed:
        return VerificationFailed(
            "vault.part_altered",
            f"the part {self._what} is not what was sealed with its key: {reason}",
            "fetch it again",
        )
