"""Some columns of a part are checked by the pieces that they lie in: every byte that Arrow reads for them, and no others."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safehold.model.errors import VerificationFailed
from safehold.vault.manifest import MAX_TAIL_BYTES, PartFile, manifest_bytes
from safehold.vault.open import open_release
from safehold.vault.parquet_form import part_writer
from safehold.vault.pieces import PIECE, PartColumns, PieceHasher, checked_ranges
from safehold.vault.seal import SealOptions
from safehold.vault.verify import check_columns, check_part
from tests.vault_kit import Sealed, outcome, seal

ROWS = 3_000


def _table() -> pa.Table:
    rng = random.Random(5)
    noise = [rng.randbytes(300).hex() for _ in range(ROWS)]
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "text.one": noise,
            "few": ["yes" if number % 3 else None for number in range(ROWS)],
            "chat": [[{"role": "user", "content": text[:200]}] * (number % 3) for number, text in enumerate(noise)],
            "nested": [{"a": {"b": number, "c": [text[:9]]}} for number, text in enumerate(noise)],
            "tail": [rng.randbytes(200).hex() for _ in range(ROWS)],
            "flag": [number % 2 == 0 for number in range(ROWS)],
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    home = tmp_path_factory.mktemp("pieces")
    pq.write_table(_table(), home / "in.parquet")
    return seal(home / "in.parquet", home / "r", options=SealOptions(group_rows=1_500))


def _part(sealed: Sealed) -> PartFile:
    (part,) = sealed.manifest.parts
    return part


def _asked(sealed: Sealed, *names: str) -> PartColumns:
    part = _part(sealed)
    return PartColumns(part, names, sealed.keys[part.file])


def _checked(sealed: Sealed, *names: str) -> list[tuple[int, int]]:
    """Places and lengths of what is checked for these columns."""
    data = (sealed.folder / _part(sealed).file).read_bytes()
    found = checked_ranges(lambda start, length: data[start : start + length], _asked(sealed, *names))
    return [(start, len(piece)) for start, piece in found]


class _Recorded:
    """A file that notes what is read of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.read_places: list[tuple[int, int]] = []
        self.closed = False

    def read(self, length: int = -1) -> bytes:
        start = self._file.tell()
        data = self._file.read(length)
        self.read_places.append((start, len(data)))
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


NAMES = ["id", "text.one", "few", "chat", "nested", "tail", "flag"]


@pytest.mark.parametrize("names", [[name] for name in NAMES] + [["id", "tail"], ["few", "nested"], ["chat", "flag"]])
def test_every_byte_that_arrow_reads_for_columns_was_checked(made, names):
    part = _part(made)
    file = _Recorded(made.folder / part.file)
    properties = pe.create_decryption_properties(made.keys[part.file], aad_prefix=part.aad.encode())
    reader = pq.ParquetFile(pa.PythonFile(file, "r"), decryption_properties=properties, buffer_size=1 << 20)
    table = pa.Table.from_batches(reader.iter_batches(columns=names))
    assert table.num_rows == ROWS
    reader.close(force=True)
    file.close()
    checked = {place for start, length in _checked(made, *names) for place in range(start, start + length)}
    # The first read is a guess at the footer, 64 KiB from the end; of it Arrow uses what the footer's length says.
    first, *rest = file.read_places
    assert sum(first) == part.size
    assert first[1] <= 65_536
    read = {place for start, length in rest for place in range(start, start + length)}
    assert read <= checked
    assert part.size > 4 * PIECE


def test_fewer_columns_need_fewer_bytes(made):
    whole = _part(made).size
    needed = {name: sum(length for _, length in _checked(made, name)) for name in NAMES}
    assert needed["flag"] < whole / 2
    assert sum(length for _, length in _checked(made, *NAMES)) == whole


def test_the_tail_is_what_the_specification_says(made):
    part = _part(made)
    assert part.tail is not None
    data = (made.folder / part.file).read_bytes()
    body, tail = data[: -part.tail.size], data[-part.tail.size :]
    assert part.tail.sha256 == "sha256:" + hashlib.sha256(tail).hexdigest()
    digests = [hashlib.sha256(body[place : place + 262_144]).digest() for place in range(0, len(body), 262_144)]
    assert tail.startswith(b"".join(digests))
    length = int.from_bytes(tail[-8:-4], "little")
    assert (len(tail), tail[-4:]) == (32 * len(digests) + length + 8, b"PARE")


@given(st.lists(st.integers(0, 700_000), max_size=6), st.integers(0, 2**32))
def test_pieces_do_not_depend_on_how_they_were_written(lengths, seed):
    data = random.Random(seed).randbytes(sum(lengths))
    hasher, place = PieceHasher(), 0
    for length in lengths:
        hasher.update(data[place : place + length])
        place += length
    expected = [hashlib.sha256(data[start : start + PIECE]).digest() for start in range(0, len(data), PIECE)]
    assert hasher.digests() == b"".join(expected)


def _copied(made: Sealed, tmp_path: Path) -> tuple[Sealed, Path]:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in made.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return made._replace(folder=folder), folder / _part(made).file


def _read(sealed: Sealed, columns: list[str]) -> list[dict[str, Any]]:
    return pa.Table.from_batches(sealed.open().batches(columns)).to_pylist()


def test_a_page_that_another_key_holder_forged_gives_no_record(made, tmp_path):
    """Whoever may read the part has its key. GCM takes what he writes; the signed digests do not."""
    sealed, path = _copied(made, tmp_path)
    part = _part(made)
    table = _table().set_column(0, "id", pa.array([9] * ROWS, pa.int64()))
    forged = tmp_path / "forged.parquet"
    with forged.open("wb") as sink:
        writer = part_writer(sink, table.schema, 3, made.keys[part.file], part.aad)
        writer.write_table(table, row_group_size=1_500)
        writer.close()
    data = forged.read_bytes()
    assert len(data) < part.size
    path.write_bytes(b"PARE" + b"\0" * (part.size - len(data)) + data[4:])  # of the manifest's size
    assert outcome(lambda: next(sealed.open().batches(["id"])))[1] == "vault.part_altered"
    path.write_bytes(data[:-8] + b"\0" * (part.size - len(data)) + data[-8:])
    assert outcome(lambda: next(sealed.open().batches(["id"])))[1] == "vault.part_altered"


def test_a_byte_of_a_wanted_column_is_found_and_one_of_another_column_is_not_read(made, tmp_path):
    sealed, path = _copied(made, tmp_path)
    whole = path.read_bytes()
    wanted = {place // PIECE for start, length in _checked(made, "flag") for place in range(start, start + length)}
    assert _part(made).tail is not None
    body = len(whole) - _part(made).tail.size
    for piece in range(-(-body // PIECE)):
        changed = bytearray(whole)
        changed[min(piece * PIECE + 1_000, body - 1)] ^= 4
        path.write_bytes(changed)
        if piece in wanted:
            assert outcome(lambda: next(sealed.open().batches(["flag"])))[1] == "vault.part_altered"
        else:
            assert _read(sealed, ["flag"]) == _table().select(["flag"]).to_pylist()
        assert outcome(lambda: next(sealed.open().batches()))[1] == "vault.part_altered"
        assert outcome(lambda: check_part(sealed.folder, _part(made)))[1] == "vault.part_altered"


def test_every_byte_of_the_tail_counts(made, tmp_path):
    sealed, path = _copied(made, tmp_path)
    whole = path.read_bytes()
    tail = _part(made).tail
    assert tail is not None
    for place in random.Random(2).sample(range(len(whole) - tail.size, len(whole)), 60):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert outcome(lambda: check_columns(sealed.folder, _asked(sealed, "id")))[1] == "vault.part_altered"
    path.write_bytes(whole[:-1])
    assert outcome(lambda: check_columns(sealed.folder, _asked(sealed, "id")))[1] == "vault.part_truncated"


def test_a_store_that_gives_fewer_bytes_is_refused(made):
    data = (made.folder / _part(made).file).read_bytes()
    for lost in (1, 100):
        with pytest.raises(VerificationFailed) as caught:
            list(
                checked_ranges(lambda start, length, lost=lost: data[start : start + length - lost], _asked(made, "id"))
            )
        assert caught.value.code == "vault.part_truncated"


def test_a_signed_tail_without_its_digests_or_of_no_footer_is_refused(made):
    """The supplier signed it, so it is not trusted any further than others: an error and no crash."""
    part = _part(made)
    data = (made.folder / part.file).read_bytes()
    for size in (1, 20, 60, 200):
        tail = msgspec.structs.replace(
            part.tail, size=size, sha256="sha256:" + hashlib.sha256(data[-size:]).hexdigest()
        )
        asked = PartColumns(msgspec.structs.replace(part, tail=tail), ("id",), made.keys[part.file])
        code = outcome(
            lambda asked=asked: list(checked_ranges(lambda start, length: data[start : start + length], asked))
        )[1]
        assert code == "vault.part_altered", size
    none = PartColumns(msgspec.structs.replace(part, tail=None), ("id",), made.keys[part.file])
    assert outcome(lambda: list(checked_ranges(lambda *_: b"", none)))[1] == "vault.part_altered"


def test_columns_of_several_groups_are_each_checked_in_their_files(tmp_path):
    pq.write_table(_table(), tmp_path / "in.parquet")
    groups = {"texts": ["text.one", "tail"], "rest": ["id", "few", "chat", "nested", "flag"]}
    sealed = seal(tmp_path / "in.parquet", tmp_path / "r", groups=groups, options=SealOptions(part_rows=800))
    assert len(sealed.manifest.parts) > 4
    columns = ["tail", "id"]
    assert _read(sealed, columns) == _table().select(columns).to_pylist()
    assert _read(sealed, ["text.one", "tail"]) == _table().select(["text.one", "tail"]).to_pylist()
    opened = open_release(sealed.folder, sealed.release, sealed.keys, ["rest"])
    assert next(opened.batches(["nested"])).schema.names == ["nested"]


def test_the_key_is_not_shown(made):
    asked = _asked(made, "id")
    assert repr(asked) == f"PartColumns({_part(made).file}, id)"
    assert asked.key.hex() not in repr(asked)
    assert str(asked.key) not in repr(asked)


def test_a_tail_longer_than_a_reader_holds_is_not_made_and_not_taken(made, tmp_path, monkeypatch):
    """A signed size must not make a reader ask for that much memory."""
    tail = msgspec.structs.replace(_part(made).tail, size=MAX_TAIL_BYTES + 1)
    huge = msgspec.structs.replace(_part(made), tail=tail, size=2**40)
    assert (
        outcome(lambda: manifest_bytes(msgspec.structs.replace(made.manifest, parts=(huge,))))[1]
        == "vault.manifest_altered"
    )
    monkeypatch.setattr("safehold.vault.hashed_file.MAX_TAIL_BYTES", 100)
    pq.write_table(_table(), tmp_path / "in.parquet")
    sealed = seal(tmp_path / "in.parquet", tmp_path / "r")
    assert _part(sealed).tail is None
    assert _read(sealed, ["id"]) == _table().select(["id"]).to_pylist()
