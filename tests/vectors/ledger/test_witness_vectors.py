"""The language-neutral cases for witnesses: each has the outcome that it says, and the files are what they are made from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safehold.ledger.cosignature import CosignerKey, open_cosignatures, signed_message
from safehold.ledger.note import NoteVerifier, open_checkpoint
from safehold.ledger.policy import parse_policy
from safehold.model.errors import SafeholdError, VerificationFailed
from tests.ledger_kit import ORIGIN
from tests.witness_kit import Desk
from tools.vectors_witness import FOLDER, render

VECTORS = Path(__file__).parents[3] / FOLDER
STATUS = {
    "ledger.witness_request": 400,
    "ledger.witness_signature": 403,
    "ledger.witness_origin": 404,
    "ledger.witness_size": 409,
    "ledger.split_view": 409,
    "ledger.witness_proof": 422,
}


def _load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def test_the_files_are_what_the_generator_makes() -> None:
    made = render()
    assert {path.name for path in VECTORS.iterdir()} == set(made)
    for name, content in made.items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content, (
            f"run: python -m tools.vectors_witness --write ({name})"
        )


@pytest.mark.parametrize("case", _load("cosignature.json")["cases"], ids=lambda case: case["name"])
def test_cosignatures(case: dict[str, Any]) -> None:
    key = CosignerKey.parse(case["key"])
    if case["expect"] != "ok":
        with pytest.raises(VerificationFailed) as caught:
            open_cosignatures(case["note"].encode(), [key])
        assert caught.value.code == case["expect"]
        return
    found = open_cosignatures(case["note"].encode(), [key])
    assert (found[key].seconds if key in found else None) == case["seconds"]


def test_messages() -> None:
    for case in _load("message.json")["cases"]:
        key = CosignerKey(case["name"], case["kind"], bytes.fromhex(case["public"]))
        assert key.key_id.hex() == case["key_id"]
        assert signed_message(key, case["seconds"], case["text"].encode()).hex() == case["message"]


def test_a_witness_answers_as_they_say(tmp_path: Path) -> None:
    document = _load("add-checkpoint.json")
    desk = Desk(tmp_path, NoteVerifier.parse(document["verifier"]))
    for case in document["cases"]:
        try:
            desk.witness.add_checkpoint(case["request"].encode())
            status, told = 200, case["latest"]
        except SafeholdError as error:
            status, told = STATUS[error.code], getattr(error, "size", case["latest"])
        assert told == case["latest"]
        assert (case["name"], status, desk.witness.latest(ORIGIN).size) == (
            case["name"],
            case["status"],
            case["latest"],
        )
    assert desk.kept() == ["split", "split", "unproven", "unproven"]
    assert Counter(case["status"] for case in document["cases"]) == {200: 5, 400: 5, 403: 2, 404: 1, 409: 4, 422: 5}
    desk.close()


@pytest.mark.parametrize("case", _load("policy.json")["cases"], ids=lambda case: case["name"])
def test_policies(case: dict[str, Any]) -> None:
    try:
        policy = parse_policy(case["policy"].encode())
        checkpoint, _ = policy.open(case["note"].encode())
        assert checkpoint == open_checkpoint(case["note"].encode(), policy.logs[0].verifier)
        outcome = "ok"
    except SafeholdError as error:
        outcome = error.code
    assert outcome == case["expect"]
