"""Proofs of records: made with keys, checked without; each part of a proof that is changed has its own refusal."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.assembly.row_proof import ProofTerms, find_record, make_proof, verify_proof
from safehold.assembly.row_tree import row_root
from safehold.ledger.keys import SigningKey
from safehold.model.errors import SafeholdError
from safehold.model.ids import Digest
from safehold.vault.seal import SealOptions
from safehold.vault.verify import load_release
from tests.vault_kit import SUPPLIER, Sealed, outcome, seal, write_lines

GROUPS = {"text": ["id", "turns"], "labels": ["label"]}
OPTIONS = SealOptions(part_rows=20, group_rows=8, cut_key=b"k" * 32, row_tree=row_root)


def _records(count: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "turns": [{"role": "user", "content": f"turn {n * 7 % 11}"}] * (n % 3), "label": n % 2 == 0}
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("rows")
    return seal(write_lines(folder / "in.jsonl", _records(90)), folder / "r", groups=GROUPS, options=OPTIONS)


def _proof(sealed: Sealed, number: int, *groups: str) -> bytes:
    opened = sealed.open(*groups)
    found = find_record(opened, {"label": None} if groups == ("labels",) else {"id": number})
    return make_proof(opened, sealed.keys, load_release(sealed.folder).envelope, found, None)


def test_every_record_is_proved_at_its_place(sealed: Sealed) -> None:
    assert len({part.part for part in sealed.manifest.parts}) > 2
    for number, record in enumerate(_records(90)):
        proven = verify_proof(_proof(sealed, number), ProofTerms(sealed.release, [SUPPLIER.public]))
        assert (proven.place, dict(proven.values)) == (number, record)
        assert proven.signers == (SUPPLIER.public.key_id,)


def test_a_group_that_is_not_open_is_not_told(sealed: Sealed) -> None:
    data = _proof(sealed, 17, "text")
    proven = verify_proof(data, ProofTerms())
    assert (proven.groups, proven.closed) == (("text",), ("labels",))
    assert "label" not in proven.values
    shown = json.loads(data)["groups"]
    assert list(shown) == ["text"]
    assert b"turn" not in data.replace(shown["text"]["row"].encode(), b"")


def test_the_first_of_equal_records_is_taken_and_the_others_are_counted(sealed: Sealed) -> None:
    found = find_record(sealed.open(), {"label": True})
    assert (found.place, found.others) == (0, 44)


def test_what_is_not_there_or_not_open_is_refused(sealed: Sealed) -> None:
    opened = sealed.open("text")
    assert outcome(lambda: find_record(opened, {"id": 4.0}))[1] == "assembly.record_absent"
    assert outcome(lambda: find_record(opened, {"label": True}))[1] == "vault.column_unknown"
    assert outcome(lambda: find_record(opened, {}))[1] == "assembly.nothing_wanted"


def test_a_release_without_digests_cannot_prove_and_the_next_one_can(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", _records(60))
    plain = SealOptions(part_rows=20, cut_key=b"k" * 32)
    first = seal(path, tmp_path / "1", groups=GROUPS, options=plain)
    assert outcome(lambda: _proof(first, 3))[1] == "assembly.no_row_digests"
    again = SealOptions(part_rows=20, cut_key=b"k" * 32, parent=first.parent(), row_tree=row_root)
    second = seal(path, tmp_path / "2", groups=GROUPS, options=again, version=2, parent=first.release)
    assert second.fresh == 0
    assert verify_proof(_proof(second, 3), ProofTerms(second.release)).values["id"] == 3


def test_a_record_that_was_removed_belongs_no_more(tmp_path: Path) -> None:
    records = _records(60)
    first = seal(write_lines(tmp_path / "1.jsonl", records), tmp_path / "1", groups=GROUPS, options=OPTIONS)
    fields = {name: getattr(OPTIONS, name) for name in OPTIONS.__struct_fields__} | {"parent": first.parent()}
    left = [record for record in records if record["id"] != 30]
    options = SealOptions(**fields)
    path = write_lines(tmp_path / "2.jsonl", left)
    second = seal(path, tmp_path / "2", groups=GROUPS, options=options, version=2, parent=first.release)
    there = find_record(first.open(), {"id": 30})
    assert any(run.part == there.part for run in second.manifest.runs), "its part was kept"
    stale = make_proof(second.open(), second.keys, load_release(second.folder).envelope, there, None)
    assert outcome(lambda: verify_proof(stale, ProofTerms()))[1] == "assembly.proof_not_in_release"
    moved = find_record(second.open(), {"id": 31})
    proof = make_proof(second.open(), second.keys, load_release(second.folder).envelope, moved, None)
    assert verify_proof(proof, ProofTerms()).place == 30


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        plain = json.loads(data)
        change(plain)
        return json.dumps(plain).encode()

    return apply


def _flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def _swap_manifest(plain: dict[str, Any]) -> None:
    body = bytearray(base64.b64decode(plain["manifest"]["payload"]))
    body[-3:-2] = b" "
    plain["manifest"]["payload"] = base64.b64encode(body).decode()


TAMPERED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a value": (_changed(lambda p: p["groups"]["text"].update(row=_flip(p["groups"]["text"]["row"]))), "assembly.proof_record"),
    "a salt": (_changed(lambda p: p["groups"]["text"].update(salt=_flip(p["groups"]["text"]["salt"]))), "assembly.proof_record"),
    "a short salt": (_changed(lambda p: p["groups"]["text"].update(salt="AAAA")), "assembly.proof_form"),
    "a path": (_changed(lambda p: p["groups"]["text"]["path"].append(p["groups"]["text"]["salt"])), "assembly.proof_record"),
    "a place": (_changed(lambda p: p.update(record=p["record"] ^ 1)), "assembly.proof_record"),
    "a far place": (_changed(lambda p: p.update(record=10**6)), "assembly.proof_not_in_release"),
    "another part": (_changed(lambda p: p.update(part=p["part"] ^ 1)), "assembly.proof_record"),
    "no such part": (_changed(lambda p: p.update(part=99)), "assembly.proof_part"),
    "a group as another": (_changed(lambda p: p["groups"].update(labels=p["groups"]["text"])), "assembly.proof_record"),
    "no such group": (_changed(lambda p: p["groups"].update(x=p["groups"]["text"])), "assembly.proof_part"),
    "nothing shown": (_changed(lambda p: p.update(groups={})), "assembly.proof_form"),
    "another form": (_changed(lambda p: p.update(form="safehold record proof v2")), "assembly.proof_form"),
    "a member too many": (_changed(lambda p: p.update(more=1)), "assembly.proof_form"),
    "not JSON": (lambda data: data[:-1], "assembly.proof_form"),
    "base64 of another form": (_changed(lambda p: p["groups"]["text"].update(row=p["groups"]["text"]["row"] + "\n")), "assembly.proof_form"),
    "the manifest": (_changed(_swap_manifest), "vault.manifest_altered"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_a_changed_proof_is_refused(sealed: Sealed, name: str) -> None:
    change, code = TAMPERED[name]
    data = change(_proof(sealed, 41))
    assert outcome(lambda: verify_proof(data, ProofTerms()))[1] == code


def test_what_the_checker_knows_must_hold(sealed: Sealed) -> None:
    data = _proof(sealed, 5)
    other = Digest("sha256:" + "0" * 64)
    assert outcome(lambda: verify_proof(data, ProofTerms(other)))[1] == "assembly.proof_release"
    stranger = SigningKey.generate().public
    assert outcome(lambda: verify_proof(data, ProofTerms(None, [stranger])))[1] == "vault.manifest_unsigned"


@settings(max_examples=200)
@given(st.data())
def test_any_bytes_are_a_proof_of_the_same_record_or_refused(sealed: Sealed, data: st.DataObject) -> None:
    proof = bytearray(_proof(sealed, 8))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(proof)))
        proof[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        proven = verify_proof(bytes(proof), ProofTerms(sealed.release, [SUPPLIER.public]))
    except SafeholdError:
        return
    assert (proven.place, proven.values["id"]) == (8, 8)
