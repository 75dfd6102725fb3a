"""Whatever bytes come as a signature: our error, or (never, by luck) a success; nothing else."""

from __future__ import annotations

import base64
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from safehold.ledger import sshsig
from safehold.ledger.keys import PublicKey, SigningKey
from safehold.model.errors import VerificationFailed

KEY = SigningKey.generate()
GOOD = sshsig.sign(KEY, b"data", "space")
BLOB = base64.b64decode("".join(GOOD.splitlines()[1:-1]))


def _try(armored: str | bytes) -> PublicKey | None:
    with contextlib.suppress(VerificationFailed):
        return sshsig.verify(armored, b"data", "space", KEY.public)
    return None


@given(st.one_of(st.binary(max_size=600), st.text(max_size=600)))
def test_any_input(armored: str | bytes) -> None:
    assert _try(armored) is None


@given(st.binary(max_size=400))
def test_any_blob_in_good_armor(blob: bytes) -> None:
    _try(b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob) + b"\n-----END SSH SIGNATURE-----")


@given(st.integers(0, len(BLOB) - 1), st.integers(0, 255), st.integers(0, 8))
def test_a_good_blob_with_bytes_replaced_and_removed(at: int, value: int, cut: int) -> None:
    blob = BLOB[:at] + bytes([value]) + BLOB[at + 1 + cut :]
    armored = b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob) + b"\n-----END SSH SIGNATURE-----"
    assert (_try(armored) is not None) == (blob == BLOB)
