"""A history whose truth is known is played by commands alone, and the answers are held against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli_kit import Desk

CI, DESK = "quill-works/ci-1", "quill-works/desk-1"
ADVISORY = {
    "id": "PYSEC-2026-2", "modified": "2026-03-24T22:41:32Z", "summary": "litellm: credential stealer",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "litellm"}, "versions": ["1.82.7", "1.82.8"]}],
}  # fmt: skip


def _list(path: Path, *names: str) -> Path:
    """A CycloneDX list: what an outsider's generator has for a host at a time."""
    components = [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
        for name, _, version in (one.partition("==") for one in names)
    ]
    path.write_text(
        json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components})
    )
    return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def _script(desk: Desk, acts: list[Any]) -> Path:
    path = desk.folder / "history.jsonl"
    path.write_text("".join(json.dumps(act) + "\n" for act in acts))
    return path


def _act(at: str, *words: object, code: int = 0) -> dict[str, Any]:
    return {"at": at, "do": [str(word) for word in words], **({"code": code} if code else {})}


def _history(desk: Desk) -> list[dict[str, Any]]:
    clean = _list(desk.folder / "clean.json", "numpy==2.3.0", "litellm==1.82.6")
    bad = _list(desk.folder / "bad.json", "numpy==2.3.0", "litellm==1.82.8")
    (desk.folder / "in.jsonl").write_text('{"q": "2 + 2?", "a": "4"}\n{"q": "3 + 4?", "a": "7"}\n')
    (desk.folder / "PYSEC-2026-2.json").write_text(json.dumps(ADVISORY))
    grant, out = desk.folder / "grant.json", desk.folder / "opened.jsonl"
    release = "quill-works/problems@1"
    day = "2026-03-24T"
    return [
        _act("2026-03-01T09:00:00Z", "party", "add", "north-lab", "--role", "lab"),
        _act("2026-03-01T09:00:01Z", "party", "add", "quill-works", "--role", "supplier"),
        *(_act("2026-03-01T09:00:02Z", "host", "add", host, "--every", "3600") for host in (CI, DESK)),
        _act("2026-03-01T09:00:03Z", "dataset", "add", "quill-works/problems", "--for", "north-lab"),
        _act("2026-03-01T09:00:04Z", "seal", desk.folder / "in.jsonl", "--dataset", "quill-works/problems"),
        _act("2026-03-01T09:00:05Z", "grant", "issue", "quill-works/problems", "--to", "quill-works", "--until", "2026-04-30", "--out", grant),
        *(_act(f"{day}{hour:02}:00:00Z", "inventory", "import", CI, clean, "--name", "main") for hour in range(8, 11)),
        _act(f"{day}11:00:00Z", "inventory", "import", CI, bad, "--name", "main"),
        _act(f"{day}11:10:00Z", "open", release, "--host", CI, "--grant", grant, "--out", out),
        _act(f"{day}12:00:00Z", "inventory", "import", CI, clean, "--name", "main"),
        _act(f"{day}16:15:00Z", "advisory", "add", desk.folder / "PYSEC-2026-2.json"),
    ]  # fmt: skip


def test_a_history_by_commands_alone_has_its_own_times_and_the_answers_are_its_truth(desk: Desk) -> None:
    out = desk.folder / "said.jsonl"
    played = desk.json("rehearse", _script(desk, _history(desk)), "--out", out)
    said = [json.loads(line) for line in out.read_text().splitlines()]
    assert played["acts"] == len(said)
    assert all(one["code"] == 0 for one in said)
    found = desk.json("exposure", "PYSEC-2026-2")
    verdicts = {one["host"]: one["verdict"] for one in found["hosts"]}
    assert verdicts == {CI: "held", DESK: "unknown"}, "who never reported is unknown, and not clean"
    (release,) = found["releases"]
    assert release["verdict"] == "exposed"
    opened = next(one for one in said if "as_sealed" in (one["said"] or {}))["said"]["entry"]
    assert opened in release["evidence"]
    assert desk.json("log", "show", opened)["t"] // 1_000_000 == 1_774_350_600, "the time of the script: 11:10"
    assert desk.json("fsck")["problems"] == []
    assert desk.json("log", "checkpoint")["origin"].startswith("rehearsal")


@pytest.mark.parametrize(
    ("acts", "code", "exit_code"),
    [
        ([], "cli.rehearsal_line", 2),
        (["no object"], "cli.rehearsal_line", 2),
        ([{"at": "2026-03-01", "do": ["party", "list"], "more": 1}], "cli.rehearsal_line", 2),
        ([_act("yesterday", "party", "list")], "cli.time", 2),
        ([_act("2026-03-01", "serve")], "cli.rehearsal_verb", 2),
        ([_act("2026-03-01", "agent", "run")], "cli.rehearsal_verb", 2),
        ([_act("2026-03-01", "exposure", "--watch")], "cli.rehearsal_verb", 2),
        ([_act("2026-03-01", "no-such-verb")], "cli.rehearsal_verb", 2),
        ([_act("2026-03-01", "party", "list", "--home", "elsewhere")], "cli.rehearsal_verb", 2),
        ([_act("2026-03-02", "party", "list"), _act("2026-03-01", "party", "list")], "cli.rehearsal_time", 2),
        ([_act("2026-03-01", "host", "add", "nobody/ws-1")], "cli.rehearsal_failed", 2),
    ],
)  # fmt: skip
def test_a_script_that_cannot_be_played_says_which_line(desk: Desk, acts: list[Any], code: str, exit_code: int) -> None:
    assert desk.error("rehearse", _script(desk, acts), code=exit_code)["code"] == code


def test_it_never_passes_for_a_record_and_never_touches_one(desk: Desk) -> None:
    script = _script(desk, [_act("2026-03-01", "party", "list"), _act("2026-03-02", "host", "list")])
    assert (
        desk.error("rehearse", script, "--origin", "north-lab.example/custody", code=2)["code"]
        == "cli.rehearsal_origin"
    )
    desk("init", "--origin", "north-lab.example/custody")
    assert desk.error("rehearse", script, code=7)["code"] == "app.home_exists"
    assert desk.json("log", "checkpoint")["size"] == 1
