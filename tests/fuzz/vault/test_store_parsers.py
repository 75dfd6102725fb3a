"""What comes from a store, a journal or a listing: our error, or what was written. No other exception, whatever the bytes."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.assembly.adoption import Listing, read_listing
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import SafeholdError
from safehold.model.ids import DatasetId, sha256_digest
from safehold.vault.chunks import CHUNK_BYTES, ChunkReader, ChunkWriter
from safehold.vault.file_facts import describe_file
from safehold.vault.file_tree import FolderTree
from safehold.vault.open_files import checked_path
from safehold.vault.store import check_name, parse_location
from safehold.vault.stored_release import load_stored
from tests.files_kit import make_files, seal_files
from tests.object_store_kit import fresh_store
from tests.vault_kit import outcome

KEY, AAD = bytes(32), "a"


def _container(data: bytes) -> bytes:
    sink = io.BytesIO()
    writer = ChunkWriter(sink, KEY, AAD)
    writer.write(data)
    writer.finish()
    return sink.getvalue()


BASES = {size: _container(bytes(size)) for size in (0, 5, 3000, CHUNK_BYTES, CHUNK_BYTES + 40)}


@settings(max_examples=400)
@given(data=st.data(), size=st.sampled_from(sorted(BASES)))
def test_a_changed_container_is_refused(data: st.DataObject, size: int) -> None:
    base = BASES[size]
    changed = bytearray(base)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed)))
        end = min(len(changed), place + data.draw(st.integers(0, 20)))
        changed[place:end] = data.draw(st.binary(max_size=20))
    container = bytes(changed)

    def read() -> bytes:
        reader = ChunkReader(lambda at, length: container[at : at + length], len(container), KEY, AAD, "x")
        return b"".join(bytes(view) for view in reader.read(0, reader.size))

    found, code = outcome(read)
    assert (found == bytes(size)) == (container == base)
    assert container == base or code in {"vault.part_altered", "vault.part_truncated"}


@given(data=st.binary(max_size=100))
def test_any_bytes_as_a_container(data: bytes) -> None:
    outcome(lambda: ChunkReader(lambda at, length: data[at : at + length], len(data), KEY, AAD, "x").check())


@given(text=st.text(max_size=40) | st.from_regex(r"(s3|file|http)://[a-z@:?#/. -]{0,30}", fullmatch=True))
def test_any_location_and_name(text: str) -> None:
    place, _ = outcome(lambda: parse_location(text))
    if place is not None and place.bucket is not None:
        assert parse_location(place.url) == place
    outcome(lambda: check_name(text))
    found, _ = outcome(lambda: checked_path(text))
    if found is not None:
        assert Path("/folder", found).resolve().is_relative_to("/folder")


@given(body=st.binary(max_size=80))
def test_any_bytes_as_a_listing(body: bytes) -> None:
    with pytest.raises(SafeholdError):
        read_listing(body, sha256_digest(body))
    good = canonical_bytes(Listing(v=1, dataset=DatasetId("a/b"), location="/x", files=()))
    with pytest.raises(SafeholdError):
        read_listing(good, sha256_digest(body))


@settings(max_examples=60)
@given(body=st.binary(max_size=300), suffix=st.sampled_from(["jsonl", "csv", "parquet", "bin"]))
def test_any_bytes_as_a_file(body: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"a.{suffix}").write_bytes(body)
        tree = FolderTree(Path(folder))
        facts = describe_file(tree, tree.files()[0])
        assert (facts.size, facts.sha256) == (len(body), sha256_digest(body))


@settings(max_examples=40)
@given(body=st.binary(max_size=200))
def test_any_bytes_as_a_journal_or_a_stored_manifest(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder / "in", {"a": 10})
        (folder / ".sealing-r.journal").write_bytes(body)
        seal_files(folder / "in", folder / "r")
        store = fresh_store("folder", folder)
        store.create("1/manifest.json", body)
        outcome(lambda: load_stored(store, "1"))
