"""Laws of sealing a sealed release anew: the same records under new keys; and whatever differs in one value is told."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.model.errors import VerificationFailed
from safehold.vault.output import write_jsonl
from safehold.vault.resealed import SealedSource, check_resealed, prove_resealed, whole_parts
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from tests.vault_kit import SPEC, SUPPLIER, Sealed, outcome, seal, write_lines

VALUES = st.integers(-(2**53), 2**53) | st.text(max_size=6) | st.lists(st.booleans() | st.none(), max_size=3)
RECORDS = st.lists(st.fixed_dictionaries({"a": VALUES | st.none(), "b": st.text(max_size=5)}), min_size=1, max_size=30)
OPTIONS = st.builds(
    SealOptions, part_rows=st.integers(1, 9), group_rows=st.integers(1, 5), level=st.just(1), cut_key=st.just(b"k" * 32)
)


def _again(old: Sealed, folder: Path, options: SealOptions) -> Sealed:
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__}
    fields |= {"version": old.manifest.version + 1, "parent": old.release}
    source = SealedSource(old.open(), old.release)
    with prepare(source, ReleaseSpec(**fields), SUPPLIER, folder, options) as prepared:
        prepared.publish()
    return Sealed(folder, prepared.release, prepared.keys, prepared.manifest)


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, options=OPTIONS, cut=st.booleans())
def test_the_same_records_and_nothing_shared(records: list[dict[str, Any]], options: SealOptions, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, _code = outcome(lambda: seal(write_lines(folder / "in.jsonl", records), folder / "r1", options=options))
        if old is None:
            return
        chosen = msgspec.structs.replace(options, parts_as=whole_parts(old.manifest) if cut else ())
        new = _again(old, folder / "r2", chosen)
        check_resealed(old.manifest, new.manifest, old.release)
        assert prove_resealed(old.open(), new.open()) == len(records)
        write_jsonl(new.open(), folder / "out")
        assert [json.loads(line) for line in (folder / "out").read_text().splitlines()] == records


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, options=OPTIONS, at=st.integers(0, 29), other=st.text(max_size=5))
def test_a_value_that_differs_is_told(records: list[dict[str, Any]], options: SealOptions, at: int, other: str) -> None:
    changed = [dict(one) for one in records]
    changed[at % len(records)]["b"] = other
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sealed = [
            outcome(
                lambda what=what, n=n: seal(write_lines(folder / f"{n}.jsonl", what), folder / f"r{n}", options=options)
            )[0]
            for n, what in enumerate((records, changed))
        ]
        if sealed[0] is None or sealed[1] is None:
            return
        if changed == records:
            assert prove_resealed(sealed[0].open(), sealed[1].open()) == len(records)
        else:
            with pytest.raises(VerificationFailed, match="does not hold the records"):
                prove_resealed(sealed[0].open(), sealed[1].open())
