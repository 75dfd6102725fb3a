"""Segments as a person types them: sealed, asked, damaged, refused, mended."""

from __future__ import annotations

from pathlib import Path

from tests.cli_kit import make_desk


def test_from_sealing_to_mending(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "desk")
    size = desk.json("log", "checkpoint")["size"]
    asked = ("log", "query", "SELECT kind, count(*) AS n FROM entry GROUP BY kind ORDER BY kind")
    before = desk.json(*asked)
    assert before["columns"] == ["kind", "n"]
    assert ["host.registered", 2] in before["rows"]
    assert (before["size"], before["segments"], before["tail"]) == (size, 0, 0)

    assert "Nothing to seal" in desk("log", "segment").out
    sealed = desk.json("log", "segment", "--every", "4")["sealed"]
    assert [(one["table"], one["begin"], one["end"]) for one in sealed] == [("entry", 0, 4), ("key_release", 0, 4)]
    after = desk.json(*asked)
    assert [row for row in after["rows"] if row[0] != "segment.sealed"] == before["rows"]
    assert ["segment.sealed", 2] in after["rows"]
    assert (after["segments"], after["tail"]) == (2, 4)
    assert desk.json("fsck")["problems"] == []

    said = desk("log", "query", "SELECT idx, kind FROM entry ORDER BY idx", "--rows", "1")
    assert "ledger.opened" in said.out
    assert "more than 1 rows" in said.err
    assert desk.json("log", "query", "SELECT idx FROM entry", "--until", "1971-01-01")["rows"] == []
    values = "SELECT 1.5::DECIMAL(3,1), DATE '2026-03-24', [1], {'a': NULL}, 'x'::BLOB, 1::HUGEINT << 100, t > 0"
    assert desk.json("log", "query", f"{values} FROM entry LIMIT 1")["rows"] == [
        ["1.5", "2026-03-24", [1], {"a": None}, "78", str(1 << 100), True]
    ]

    file = next((desk.home / "segments").glob("entry-*.parquet"))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert desk.error(*asked, code=4)["code"] == "ledger.segment_digest"
    fsck = desk.json("fsck", code=4)
    assert [problem["code"] for problem in fsck["problems"]] == ["fsck.segment_digest"]
    assert desk.json("log", "segment", "--mend")["mended"] == [file.name]
    assert desk.json(*asked) == after
    desk("log", "segment", "--all")
    assert "segments and order hold" in desk("fsck").out
    assert (
        desk.error("log", "query", "SELECT * FROM read_text('/etc/hostname')", code=3)["code"] == "ledger.query_outside"
    )
    assert desk.error("log", "query", "DROP VIEW entry", code=2)["code"] == "ledger.query_statement"


def test_an_export_of_a_sealed_ledger_verifies(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "desk")
    desk("log", "segment", "--all")
    verifier = desk.json("log", "export", tmp_path / "copy")["verifier"]
    assert desk.json("verify", tmp_path / "copy", "--verifier", verifier)["kinds"]["segment.sealed"] == 2


def test_due_ones_are_sealed_and_go_with_exports_and_backups(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "desk")
    assert "Nothing is due" in desk("log", "segment", "--due").out
    assert len(desk.json("log", "segment", "--due", "--every", "4")["sealed"]) >= 2
    assert "Nothing is due" in desk("log", "segment", "--due").out
    assert desk.error("log", "segment", "--due", "--mend", code=2)["code"] == "cli.segment_flags"
    names = sorted(path.name for path in (desk.home / "segments").glob("*.parquet"))

    export = desk.json("log", "export", tmp_path / "copy")
    assert (export["segments"], export["segments_left_out"]) == (len(names), [])
    assert desk.json("log", "export", tmp_path / "copy")["files_written"] == 2, "the verifier line and the checkpoint"
    checking = ("verify", tmp_path / "copy", "--verifier", export["verifier"])
    assert desk.json(*checking)["segments"] == len(names)
    carried = tmp_path / "copy" / "segments" / names[0]
    original = carried.read_bytes()
    carried.write_bytes(original[:-1] + b"!")
    assert desk.error(*checking, code=4)["code"] == "ledger.segment_digest"
    desk("log", "export", tmp_path / "copy")
    assert carried.read_bytes() == original, "an export that is brought up to date is whole again"
    (tmp_path / "copy" / "segments" / "more.parquet").write_bytes(original)
    assert desk.error(*checking, code=4)["code"] == "ledger.segment_unnamed"

    desk("backup", tmp_path / "backup")
    assert sorted(path.name for path in (tmp_path / "backup" / "segments").iterdir()) == names
    desk("restore", tmp_path / "backup", "--home", tmp_path / "new-home")
    desk.home = tmp_path / "new-home"
    desk("restore", "accept", "--reason", "a rehearsal")
    assert desk.json("log", "query", "SELECT count(*) FROM entry")["segments"] == len(names)
    assert desk.json("fsck")["problems"] == []

    (desk.home / "segments" / names[0]).write_bytes(original[:-1] + b"!")
    assert desk.json("log", "export", tmp_path / "second")["segments_left_out"] == [names[0]]
    desk("backup", tmp_path / "second-backup")
    assert not (tmp_path / "second-backup" / "segments" / names[0]).exists()
    desk("restore", tmp_path / "second-backup", "--home", tmp_path / "third-home")
    desk.home = tmp_path / "third-home"
    desk("restore", "accept", "--reason", "a rehearsal")
    assert desk.json("log", "segment", "--mend")["mended"] == [names[0]]
