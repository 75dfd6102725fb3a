"""Every parser of the vault: our error, or success. No other exception, whatever the bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.model.encoding import canonical_bytes, decode_canonical
from safehold.model.errors import SafeholdError
from safehold.vault.envelope import parse_envelope
from safehold.vault.kek import KdfCost, PassphraseKek
from safehold.vault.manifest import manifest_bytes, parse_manifest
from safehold.vault.sources import open_source
from safehold.vault.verify import load_release
from tests.vault_kit import SUPPLIER, Sealed, outcome, seal, write_lines

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats()
JSON = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3), max_leaves=8
)
LINES = st.lists(
    st.binary(max_size=20)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [b'{"a":1}', b'{"a":"\\ud800"}', b'{"a":NaN}', b"{", b'{"a":', b"\xef\xbb\xbf{}", b"\x00", b"[" * 5000]
    ),
    max_size=6,
).map(b"\n".join)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("fuzz")
    return seal(write_lines(folder / "in.jsonl", [{"q": "x", "a": [{"b": 1}]}]), folder / "r")


def _mutated(data: st.DataObject, base: bytes) -> bytes:
    changed = bytearray(base)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed)))
        end = min(len(changed), place + data.draw(st.integers(0, 3)))
        changed[place:end] = data.draw(st.binary(max_size=4))
    return bytes(changed)


@settings(max_examples=300)
@given(text=LINES, form=st.sampled_from(["jsonl", "csv"]))
def test_text_sources(text: bytes, form: Any) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        source, code = outcome(lambda: open_source(Path(file.name), form, line_limit=6_000))
        if source is None:
            assert code.startswith("vault.")
        else:
            assert sum(batch.num_rows for batch in source.batches()) == sum(file.rows for file in source.files())


@settings(max_examples=200)
@given(data=st.data())
def test_parquet_source(data: st.DataObject) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": ["x", None, "y" * 50], "b": [[1], [], None]}), sink)
    with tempfile.NamedTemporaryFile() as file:
        file.write(_mutated(data, bytes(sink.getvalue())))
        file.flush()
        batches, code = outcome(lambda: list(open_source(Path(file.name), "parquet").batches()))
        assert batches is not None or code.startswith("vault.")


@settings(max_examples=300)
@given(data=st.data())
def test_manifest_bytes_changed_anywhere(data: st.DataObject, sealed: Sealed) -> None:
    body = manifest_bytes(sealed.manifest)
    try:
        manifest = parse_manifest(_mutated(data, body))
    except SafeholdError:
        return
    manifest_bytes(manifest)


@settings(max_examples=300)
@given(data=st.data(), value=JSON)
def test_manifest_values_changed_anywhere(data: st.DataObject, value: Any, sealed: Sealed) -> None:
    plain = decode_canonical(manifest_bytes(sealed.manifest))
    place = plain
    for _ in range(data.draw(st.integers(0, 5))):
        steps = [
            k for k, v in (place.items() if isinstance(place, dict) else enumerate(place)) if isinstance(v, dict | list)
        ]
        if not steps:
            break
        place = place[data.draw(st.sampled_from(steps))]
    if place:
        place[data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))] = value
    try:
        body = canonical_bytes(plain)
        assert manifest_bytes(parse_manifest(body)) == body
    except SafeholdError:
        pass


@settings(max_examples=300)
@given(data=st.data())
def test_envelope_changed_anywhere(data: st.DataObject, sealed: Sealed) -> None:
    base = (sealed.folder / "manifest.json").read_bytes()
    changed = _mutated(data, base)
    try:
        envelope = parse_envelope(changed)
        assert envelope.encode() == changed
    except SafeholdError:
        pass


@settings(max_examples=100)
@given(junk=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_as_a_manifest(junk: bytes, sealed: Sealed) -> None:
    for parse in (parse_envelope, parse_manifest):
        with pytest.raises(SafeholdError):
            parse(junk)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_bytes(junk)
        with pytest.raises(SafeholdError):
            load_release(Path(folder))


@settings(max_examples=200)
@given(data=st.data())
def test_key_file_changed_anywhere(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kek.json"
        kek = PassphraseKek.create(path, "x", KdfCost(memory_kib=128, passes=1, lanes=1))
        path.write_bytes(_mutated(data, path.read_bytes()))
        loaded, code = outcome(lambda: PassphraseKek.load(path, "x"))
        assert code.startswith("vault.kek_") if loaded is None else loaded.id == kek.id


def test_nesting_bombs_are_our_error() -> None:
    for bomb in (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 50_000 + b"]" * 50_000):
        for parse in (parse_envelope, parse_manifest):
            with pytest.raises(SafeholdError):
                parse(bomb)
    assert SUPPLIER.key_id
