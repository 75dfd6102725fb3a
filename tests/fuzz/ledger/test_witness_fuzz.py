"""Requests, policies, cosignatures, keys and evidence from anywhere: our error or success, nothing else; and no luck."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safehold.ledger.cosignature import Cosigner, CosignerKey, open_cosignatures, read_signature_lines
from safehold.ledger.evidence import Evidence, open_evidence
from safehold.ledger.policy import parse_policy
from safehold.ledger.source import split_url
from safehold.ledger.witness import WitnessConflict, format_request, read_request
from safehold.model.errors import InputInvalid, NotFound, Refused, VerificationFailed
from tests.ledger_kit import ORIGIN, VERIFIER, key_of, memory_folder
from tests.witness_kit import AT, WITNESS_NAME, Desk, ShownLog, entries, forked

LOG = ShownLog(entries(12))
OTHER = ShownLog(forked(4, 12))
NOTE = LOG.note()
TEXT = NOTE.partition(b"\n\n")[0] + b"\n"
COSIGNERS = [Cosigner.ed25519(WITNESS_NAME, key_of(77)), Cosigner.ml_dsa_44(WITNESS_NAME, bytes(32))]
LINES = "".join(one.cosign(TEXT, AT).signature.line for one in COSIGNERS).encode()
POLICY = f"log {VERIFIER.text}\nwitness a {COSIGNERS[0].key.text} http://w/\ngroup g 1 a\nquorum g\n".encode()
CHANGES = st.tuples(
    st.integers(0, 9000),
    st.binary(max_size=5) | st.sampled_from([b"\n", b"\n\n", b" ", b"=", b"+", b"old 0\n", b"quorum none\n"]),
    st.integers(0, 5),
)


def _changed(data: bytes, change: tuple[int, bytes, int]) -> bytes:
    at = change[0] % (len(data) + 1)
    return data[:at] + change[1] + data[at + change[2] :]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with memory_folder() as folder:
        made = Desk(folder, VERIFIER)
        made.witness.add_checkpoint(LOG.request(0, 9))
        yield made
        made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=300) | CHANGES.map(lambda change: _changed(OTHER.request(9), change)))
def test_any_request_to_a_witness(desk: Desk, data: bytes) -> None:
    with contextlib.suppress(InputInvalid, NotFound, Refused, WitnessConflict, VerificationFailed):
        desk.witness.add_checkpoint(data)
        pytest.fail("cosigned the other history")
    assert desk.witness.latest(ORIGIN).size == 9


@given(CHANGES)
def test_a_request_is_read_in_one_way(change: tuple[int, bytes, int]) -> None:
    data = _changed(LOG.request(5), change)
    with contextlib.suppress(InputInvalid):
        request = read_request(data)
        assert format_request(request.old, request.proof, request.note) == data


@given(st.binary(max_size=300) | CHANGES.map(lambda change: _changed(POLICY, change)))
def test_any_bytes_as_a_policy(data: bytes) -> None:
    with contextlib.suppress(InputInvalid):
        policy = parse_policy(data)
        assert policy.quorum in {"none", *(one.name for one in (*policy.witnesses, *policy.groups))}


@given(CHANGES)
def test_a_cosigned_note_changed(change: tuple[int, bytes, int]) -> None:
    note = _changed(NOTE + LINES, change)
    with contextlib.suppress(VerificationFailed):
        for key, made in open_cosignatures(note, [one.key for one in COSIGNERS]).items():
            assert made.signature.line.encode() in LINES, "a signature that we made, and no other"
            if key.kind == 4:
                assert note.startswith(TEXT)


@given(st.binary(max_size=300) | CHANGES.map(lambda change: _changed(LINES, change)))
def test_any_answer_of_a_witness(data: bytes) -> None:
    with contextlib.suppress(VerificationFailed):
        assert "".join(one.line for one in read_signature_lines(data)).encode() == data


@given(st.text(st.characters(), max_size=120) | CHANGES.map(
    lambda change: _changed(COSIGNERS[change[0] % 2].key.text.encode(), change).decode(errors="replace")
))  # fmt: skip
def test_any_text_as_a_witness_key(text: str) -> None:
    with contextlib.suppress(InputInvalid):
        assert CosignerKey.parse(text).text == text.strip()


SPLIT = Evidence(kind="split", t=1, known=LOG.note(9).decode(), offered=OTHER.note(12).decode())
EVIDENCE = msgspec.json.encode(SPLIT.with_proof(OTHER.tree.roots[9], OTHER.proof(9)))


def test_the_evidence_that_is_altered_here_convicts() -> None:
    assert [one.size for one in open_evidence(EVIDENCE, VERIFIER)] == [9, 12]


@given(st.binary(max_size=300) | CHANGES.map(lambda change: _changed(EVIDENCE, change)))
def test_any_evidence(data: bytes) -> None:
    with contextlib.suppress(VerificationFailed):
        known, offered = open_evidence(data, VERIFIER)
        assert {known.root, offered.root} == {LOG.tree.roots[9], OTHER.tree.roots[12]}


@given(st.text(max_size=60) | st.text(max_size=30).map(lambda text: f"http://{text}"))
def test_any_text_as_a_url(text: str) -> None:
    with contextlib.suppress(InputInvalid):
        assert split_url(text).hostname
