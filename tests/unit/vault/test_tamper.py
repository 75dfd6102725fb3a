"""A slice of ``bench/tamper.py``: each act refused by its own code, each flipped bit refused, no record before."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

from safehold.ledger.keys import SigningKey

ACTS = {
    "parts swapped within the release": ("vault.part_altered", "vault.part_altered"),
    "a part of another release": ("vault.part_altered", "vault.part_altered"),
    "a part cut off": ("vault.part_truncated", "vault.part_truncated"),
    "a part missing": ("vault.part_missing", "vault.part_missing"),
    "a file too many": ("", "vault.extra_file"),
    "the manifest of another release": ("vault.other_release", "vault.other_release"),
    "a column renamed, signed by the maker": ("vault.other_release", "vault.other_release"),
    "the manifest signed by someone unknown": ("vault.manifest_unsigned", "vault.manifest_unsigned"),
    "keys of another group": ("vault.wrong_key", ""),
    "no key for a part": ("vault.no_key", ""),
    "nothing changed": ("", ""),
}


@pytest.fixture(scope="module")
def tamper() -> ModuleType:
    path = Path(__file__).parents[3] / "bench" / "tamper.py"
    spec = importlib.util.spec_from_file_location("tamper", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_act_is_refused_by_its_own_code(tamper: ModuleType, tmp_path: Path) -> None:
    found = tamper.acts(tmp_path)
    sizes = {"parts swapped within the release", "a part of another release"}  # of other sizes: truncated is as true
    assert found.keys() == ACTS.keys()
    for name, codes in found.items():
        if name in sizes:
            assert set(codes) <= {"vault.part_altered", "vault.part_truncated"}
        else:
            assert codes == ACTS[name], name


def test_every_flipped_bit_is_refused_before_a_record_of_its_part(tamper: ModuleType, tmp_path: Path) -> None:
    sealed = tamper.seal(tmp_path, "r", SigningKey.generate())
    assert tamper.refusal(sealed) == tamper.verdict(sealed) == ""
    found = tamper.flips(sealed, 400, random.Random())
    assert sum(found.values()) == 400
    for kind, opening, verifying in found:
        assert opening not in ("", "LEAKED"), kind
        assert verifying != "", kind
    assert {opening for kind, opening, _ in found if kind == "part"} == {"vault.part_altered"}
