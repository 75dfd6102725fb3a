"""The public cases of the chunk container: the file is what the source says, and an own reader of 20 lines agrees."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safehold.model.errors import SafeholdError
from safehold.vault.chunks import ChunkReader
from tools.vectors_chunks import FILE, plaintext, render

ROOT = Path(__file__).parents[3]
DOCUMENT = json.loads((ROOT / FILE).read_text())
KEY, AAD = bytes.fromhex(DOCUMENT["key"]), DOCUMENT["aad"]
SMALL = [case for case in DOCUMENT["cases"] if "container" in case]


def _by_hand(container: bytes) -> bytes | None:
    """As docs/spec/stores.md says, with nothing of ours."""
    if container[:16] != b"safehold-chunks\x01":
        return None
    body = container[16:]
    chunks = [body[at : at + (1 << 20) + 16] for at in range(0, len(body), (1 << 20) + 16)]
    plain = b""
    for number, chunk in enumerate(chunks):
        nonce = b"\0\0\0" + (b"\1" if number == len(chunks) - 1 else b"\0") + number.to_bytes(8, "big")
        try:
            plain += AESGCM(KEY).decrypt(nonce, chunk, b"safehold chunks v1\0" + AAD.encode())
        except InvalidTag:
            return None
    return plain


def _opened(container: bytes) -> bytes | None:
    try:
        reader = ChunkReader(lambda at, length: container[at : at + length], len(container), KEY, AAD, "case")
        return b"".join(bytes(view) for view in reader.read(0, reader.size))
    except SafeholdError:
        return None


def test_the_file_is_what_the_source_says() -> None:
    assert (ROOT / FILE).read_text() == render(), "run: python -m tools.vectors_chunks --write"


def test_the_commitment_is_that_of_the_page() -> None:
    expected = hashlib.sha256(b"safehold key commitment v1\0" + KEY + AAD.encode()).hexdigest()
    assert DOCUMENT["commitment"] == f"sha256:{expected}"


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case["name"])
def test_small_cases_by_hand_and_by_ours(case: dict[str, object]) -> None:
    container = bytes.fromhex(str(case["container"]))
    expected = plaintext(int(str(case["size"]))) if case["opens"] else None
    assert _by_hand(container) == expected
    assert _opened(container) == expected
    assert len(container) == case["sealed"]


def test_there_are_cases_of_either_kind() -> None:
    assert {case["opens"] for case in SMALL} == {True, False}
    assert len(DOCUMENT["cases"]) == 16
