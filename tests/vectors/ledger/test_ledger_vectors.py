"""The language-neutral cases: each has the outcome that it says, and the files are what their generator makes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safehold.ledger.note import NoteVerifier, open_checkpoint
from safehold.ledger.proof import verify_consistency, verify_inclusion
from safehold.ledger.receipt import verify_receipt
from safehold.ledger.tree import leaf_hash, node_hash, tile_path, tiles_of_size
from safehold.model.errors import SafeholdError, VerificationFailed
from tests.ledger_kit import MemoryTree
from tools.vectors_ledger import FOLDER, render

VECTORS = Path(__file__).parents[3] / FOLDER
COUNTS = {
    "inclusion.json": {"ok": 42, "ledger.inclusion": 6, "ledger.proof_length": 5, "ledger.proof_range": 2},
    "consistency.json": {"ok": 135, "ledger.consistency": 7, "ledger.proof_length": 5, "ledger.proof_range": 1},
    "checkpoint.json": {
        "ok": 26, "ledger.note_unsigned": 3, "ledger.signature": 3, "ledger.note_origin": 1, "ledger.note_form": 12,
    },
    "receipt.json": {
        "ok": 29, "ledger.inclusion": 2, "ledger.proof_range": 1, "ledger.proof_length": 3, "ledger.note_unsigned": 1,
        "ledger.receipt_form": 5, "ledger.note_form": 1,
    },
}  # fmt: skip


def _load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def _run(name: str, case: dict[str, Any]) -> None:
    match name:
        case "inclusion.json":
            path, root = [bytes.fromhex(node) for node in case["path"]], bytes.fromhex(case["root"])
            verify_inclusion(bytes.fromhex(case["entry"]), case["index"], case["size"], path, root)
        case "consistency.json":
            proof, new = [bytes.fromhex(node) for node in case["proof"]], bytes.fromhex(case["new_root"])
            verify_consistency(case["old_size"], bytes.fromhex(case["old_root"]), case["new_size"], new, proof)
        case "checkpoint.json":
            open_checkpoint(case["note"].encode(), NoteVerifier.parse(case["verifier"]))
        case _:
            verify_receipt(case["receipt"].encode(), NoteVerifier.parse(case["verifier"]))


def _outcome(name: str, case: dict[str, Any]) -> str:
    try:
        _run(name, case)
    except SafeholdError as error:
        return error.code if isinstance(error, VerificationFailed) else repr(error)
    return "ok"


def test_the_files_are_what_the_generator_makes() -> None:
    made = render()
    # What another implementation wrote is read in test_another_writer and made by nobody here.
    assert {path.name for path in VECTORS.iterdir()} - {"another-writer.json"} == set(made)
    for name, content in made.items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content, (
            f"run: python -m tools.vectors_ledger --write ({name})"
        )


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_each_case_has_the_outcome_that_it_says(name: str) -> None:
    cases = _load(name)["cases"]
    assert [(case["name"], _outcome(name, case)) for case in cases] == [
        (case["name"], case["expect"]) for case in cases
    ]
    assert len({case["name"] for case in cases}) == len(cases)
    assert Counter(case["expect"] for case in cases) == COUNTS[name]


def test_the_tree() -> None:
    tree = _load("tree.json")
    for leaf in tree["leaves"]:
        repeated = leaf["entry_repeated"]
        body = bytes.fromhex(repeated["byte"]) * repeated["times"] if repeated else bytes.fromhex(leaf["entry"])
        assert leaf_hash(body).hex() == leaf["hash"]
    for node in tree["nodes"]:
        assert node_hash(bytes.fromhex(node["left"]), bytes.fromhex(node["right"])).hex() == node["hash"]
    grown = MemoryTree(b"entry %d" % number for number in range(max(root["size"] for root in tree["roots"])))
    assert {root["size"]: root["root"] for root in tree["roots"]} == {
        root["size"]: grown.roots[root["size"]].hex() for root in tree["roots"]
    }
    for tiles in tree["tiles"]:
        assert [tile_path(*tile) for tile in tiles_of_size(tiles["size"])] == tiles["paths"]
    for path in tree["paths"]:
        assert tile_path(path["level"], path["index"], path["width"]) == path["path"]
    assert (len(tree["leaves"]), len(tree["nodes"]), len(tree["roots"])) == (5, 2, 24)
