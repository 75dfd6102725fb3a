"""The chunk container: sealing and opening a file in memory, beside plain AES-GCM calls on the same chunks.

Run: ``python bench/chunks.py [--megabytes 512] [--rounds 7]``. Peers in the same run, interleaved: ``encrypt_into`` and
``decrypt_into`` alone with buffers that are reused (the ceiling), and ``AESGCM.encrypt`` with fresh bytes for each chunk (what
a program would write first). The container adds copying into its buffer, the sink, the nonces and the checks.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.vault.chunks import CHUNK_BYTES, ChunkReader, ChunkWriter, sealed_size

__all__ = ["main"]

_KEY, _AAD = bytes(32), "{}"


class Memory:
    """A sink and a source of a known size, allocated once."""

    def __init__(self, size: int) -> None:
        self.data = memoryview(bytearray(size))
        self.at = 0

    def write(self, data: memoryview) -> int:
        """Take all of ``data``."""
        self.data[self.at : self.at + len(data)] = data
        self.at += len(data)
        return len(data)

    def read_at(self, start: int, length: int) -> memoryview:
        """A view of the bytes."""
        return self.data[start : start + length]


def _cases(plain: bytes) -> dict[str, Callable[[], object]]:
    memory = Memory(sealed_size(len(plain)))
    whole = memoryview(plain)
    cipher = AESGCM(_KEY)
    out, back = memoryview(bytearray(CHUNK_BYTES + 16)), memoryview(bytearray(CHUNK_BYTES))
    places = range(0, len(plain), CHUNK_BYTES)
    cipher.encrypt_into(bytes(12), whole[:CHUNK_BYTES], None, out)

    def seal() -> None:
        memory.at = 0
        writer = ChunkWriter(memory, _KEY, _AAD)
        for place in range(0, len(plain), 8 * CHUNK_BYTES):  # as files are read
            writer.write(whole[place : place + 8 * CHUNK_BYTES])
        writer.finish()

    def read() -> None:
        reader = ChunkReader(memory.read_at, len(memory.data), _KEY, _AAD, "bench")
        assert sum(len(view) for view in reader.read(0, reader.size)) == len(plain)

    def into() -> None:
        for place in places:
            cipher.encrypt_into(bytes(12), whole[place : place + CHUNK_BYTES], None, out)

    def back_into() -> None:
        for _ in places:
            cipher.decrypt_into(bytes(12), out, None, back)

    def fresh() -> None:
        for place in places:
            cipher.encrypt(bytes(12), whole[place : place + CHUNK_BYTES], None)

    return {"seal": seal, "open": read, "encrypt_into": into, "decrypt_into": back_into, "encrypt, fresh": fresh}


def main() -> None:
    """Time each case in turn, again and again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    plain = os.urandom(1 << 20) * options.megabytes
    cases = _cases(plain)
    cases["seal"]()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, case in cases.items():
            began = time.process_time()
            case()
            times[name].append(time.process_time() - began)
    rates = {name: len(plain) / statistics.median(taken) / 1e9 for name, taken in times.items()}
    for name, rate in rates.items():
        print(f"{name:16} {rate:6.2f} GB/s of CPU time, median of {options.rounds}")
    print(
        f"seal / encrypt_into {rates['seal'] / rates['encrypt_into']:.2f}; / fresh {rates['seal'] / rates['encrypt, fresh']:.2f}"
    )
    print(f"open / decrypt_into {rates['open'] / rates['decrypt_into']:.2f}")


if __name__ == "__main__":
    main()
