"""A host swept whole, feeds that are signed, lists of images, and what drifted: by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safehold.ledger.keys import SigningKey
from tests.cli_kit import INCIDENT, Desk
from tests.inventory_kit import Environment

HOST = "north-lab/trainer"
BAD = {
    "id": "MAL-2026-9001",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "quiet-tool"}, "versions": ["1.0"]}],
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path / "desk")
    made("init", "--origin", "lab.example/custody")
    made("party", "add", "north-lab", "--role", "lab")
    made("host", "add", HOST)
    return made


def _write(path: Path, plain: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain))
    return path


def _once(desk: Desk, environment: Environment, project: Path, code: int = 0) -> dict:
    return desk.json("agent", "once", HOST, "--environment", environment.root, "--project", project, code=code)["round"]


def test_what_lies_near_is_latent_and_what_is_installed_is_a_finding(desk: Desk, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("other", "2.0", {"other.py": "A = 1\n"})
    project = tmp_path / "project"
    project.mkdir()
    (project / "requirements.txt").write_text("quiet_tool==1.0\n")
    first = _once(desk, environment, project)
    assert (first["environments"], first["failed"], first["recorded"]) == (1, 0, 2)
    added = desk.json("advisory", "add", _write(tmp_path / "a.json", BAD))["advisories"][0]
    assert added["findings"] == 0, "asked for is not installed: no key is refused for it"
    kinds = [entry["kind"] for entry in desk.json("log", "list")["entries"]]
    assert "latent.recorded" in kinds
    assert "finding.recorded" not in kinds
    environment.install("quiet-tool", "1.0", {"quiet.py": ""})
    assert _once(desk, environment, project)["findings"] == 1
    drift = desk.json("inventory", "drift", HOST)["environments"]
    said = [f"{one['kind']} {one['what']}: {one['how']}" for part in drift for one in part["differences"]]
    assert said == ["distribution quiet-tool: new: 1.0"]
    assert "distribution quiet-tool" in desk("inventory", "drift", HOST).out


def test_an_environment_that_is_gone_ends_with_2_and_the_rest_is_recorded(desk: Desk, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.write("sitecustomize.py", "")
    assert (
        desk.error("agent", "once", HOST, "--environment", tmp_path / "none", code=2)["code"] == "inventory.agent_round"
    )
    told = desk.json("agent", "run", HOST, "--environment", environment.root, "--rounds", "1")
    assert told == {"host": HOST, "rounds": 1}
    assert (
        desk.error("agent", "once", HOST, "--broker", "https://b.example.invalid", code=2)["code"] == "cli.agent_broker"
    )


def test_indicator_paths_of_known_advisories_are_looked_for(desk: Desk, tmp_path: Path) -> None:
    trace = tmp_path / "left-behind"
    trace.write_text("")
    desk("advisory", "add", _write(tmp_path / "signs.json", {"paths": [str(trace)]}))
    environment = Environment(tmp_path / "venv")
    assert _once(desk, environment, tmp_path)["findings"] == 1
    shown = desk("inventory", "show", HOST).out
    assert "left-behind" in shown.replace("\n", "")


def test_the_agent_as_a_file(desk: Desk, tmp_path: Path) -> None:
    first = desk.json("agent", "file", tmp_path / "one.pyz")["digest"]
    assert desk.json("agent", "file", tmp_path / "two.pyz")["digest"] == first
    assert (tmp_path / "one.pyz").read_bytes() == (tmp_path / "two.pyz").read_bytes()


def test_a_signed_feed_and_the_difference_that_a_changed_claim_makes(desk: Desk, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("quiet-tool", "1.0", {"quiet.py": ""})
    _once(desk, environment, tmp_path)
    key = SigningKey.generate()
    key.save(tmp_path / "feed")
    (tmp_path / "feed.pub").write_text(key.public.line + "\n")
    other = BAD["affected"][0] | {"versions": ["0.9"]}
    for number, plain in enumerate((BAD | {"affected": [other]}, BAD), 1):
        _write(tmp_path / "files" / "a.json", plain)
        made = ("advisory", "bundle", tmp_path / "files", tmp_path / f"out-{number}", "--source", "feed")
        assert desk.json(*made, "--number", number, "--key", tmp_path / "feed")["files"] == 1
    sync = ("advisory", "sync")
    assert desk.error(*sync, tmp_path / "out-1", code=4)["code"] == "inventory.bundle_key"
    assert desk.json("advisory", "trust", "feed", tmp_path / "feed.pub")["source"] == "feed"
    assert desk.json(*sync, tmp_path / "out-1")["advisories"][0]["findings"] == 0
    row = desk.json(*sync, tmp_path / "out-2")["advisories"][0]
    assert row["findings"] == 1
    assert row["changes"][:2] == ["- PyPI quiet-tool 0.9", "+ PyPI quiet-tool 1.0"]
    assert any(line.startswith("answers: ") for line in row["changes"]), row["changes"]
    assert desk.error(*sync, tmp_path / "out-1", code=4)["code"] == "inventory.bundle_rollback"
    assert "taken before" in desk(*sync, tmp_path / "out-2").out


def test_a_list_of_an_image_is_an_inventory_of_its_host(desk: Desk, tmp_path: Path) -> None:
    listed = {
        "bomFormat": "CycloneDX",
        "components": [{"purl": "pkg:pypi/quiet-tool@1.0"}, {"purl": "pkg:npm/left@1.0.0"}],
    }
    file = _write(tmp_path / "image.json", listed)
    desk("advisory", "add", _write(tmp_path / "a.json", BAD))
    told = desk.json("inventory", "import", HOST, file, "--name", "web", "--at", "2026-03-24T10:00:00Z")
    assert (told["findings"], told["messages"][0]["findings"]) == (1, ["quiet-tool 1.0"])
    assert (
        desk.error("inventory", "import", HOST, _write(tmp_path / "b.json", {}), code=2)["code"]
        == "inventory.list_form"
    )


def test_an_environment_that_is_gone_is_retired_and_back_when_it_reports_again(desk: Desk, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("quiet-tool", "1.0", {"quiet.py": ""})
    record = ("inventory", "record", HOST, "--environment", environment.root, "--name", "old")
    desk(*record)
    desk("advisory", "add", _write(tmp_path / "a.json", BAD))
    held = desk.json("exposure", "MAL-2026-9001")
    retire = ("inventory", "retire", HOST, "old", "--reason", "the folder was removed")
    planned = desk.json(*retire, "--dry-run")
    assert (planned["entry"], planned["findings"]) == (None, ["MAL-2026-9001: quiet-tool 1.0"])
    assert [one["environment"] for one in desk.json("inventory", "show", HOST)["inventories"]] == ["old"]
    entry = desk.json(*retire)["entry"]
    assert desk.json("log", "show", entry)["kind"] == "environment.retired"
    assert desk.error("inventory", "show", HOST, code=6)["code"] == "cli.no_inventory"
    assert desk.error(*retire, code=6)["code"] == "cli.no_environment"
    after = desk.json("exposure", "MAL-2026-9001")
    same = [
        [(one["host"], one["verdict"], one["held"][0]["things"]) for one in told["hosts"]] for told in (held, after)
    ]
    assert same[0] == same[1] == [(HOST, "held", ["quiet-tool 1.0"])], "what it held stays on record"
    assert "yes" in str(held["answers"][0])
    desk(*record)
    (back,) = desk.json("inventory", "show", HOST)["inventories"]
    assert [one["name"] for one in back["findings"]] == ["quiet-tool"]


def test_a_text_that_changes_while_modified_stays_is_a_version_and_shown_beside_the_claims(
    desk: Desk, tmp_path: Path
) -> None:
    window = {"source": "one source", "from": "2026-03-24T10:39:00Z", "to": "2026-03-24T11:19:00Z"}
    plain = BAD | {"modified": "2026-03-24T22:41:32Z", "details": "It lists 1.0;\nthe text says 1.0.1."}
    desk("advisory", "add", _write(tmp_path / "a.json", plain))
    changed = _write(tmp_path / "a.json", plain | {"details": "Another text.\x1b[2J"})
    (row,) = desk.json("advisory", "add", changed)["advisories"]
    assert row["changes"][0].startswith("~ its text is another")
    told = desk.json("advisory", "show", "MAL-2026-9001")
    first, second = told["versions"]
    assert first["modified"] == second["modified"]
    assert first["document"] != second["document"]
    assert first["first_seen"] <= second["first_seen"]
    assert told["claims"] == ["PyPI quiet-tool 1.0"]
    assert told["text"] == "Another text.\\x1b[2J"
    said = desk("advisory", "show", "MAL-2026-9001").out
    assert "claim: PyPI quiet-tool 1.0" in said
    assert "text: Another text." in said
    desk("advisory", "add", _write(tmp_path / "signs.json", {"paths": ["/x"], "windows": [window]}))
    claims = desk.json("advisory", "show", "signs")["claims"]
    assert "window by one source: 2026-03-24T10:39:00+00:00 – 2026-03-24T11:19:00+00:00" in claims


@pytest.mark.skipif(not INCIDENT.is_dir(), reason="the incident's records are not here")
def test_all_records_of_the_incident_by_the_command_line(desk: Desk, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("litellm", "1.82.8", {"litellm/stand_in.py": ""})
    _once(desk, environment, tmp_path)
    told = desk.json("advisory", "add", INCIDENT)
    assert told["failed"] == []
    assert len(told["advisories"]) == len(list(INCIDENT.glob("*.json"))) == 6
    found = {row["advisory"] for row in told["advisories"] if row["findings"]}
    assert found == {"GHSA-5mg7-485q-xm76", "MAL-2026-2144", "PYSEC-2026-2", "litellm-indicators"}, "no trap, no telnyx"
    again = desk.json("advisory", "add", INCIDENT)["advisories"]
    assert all(row["known"] for row in again)
    shown = desk.json("advisory", "show", "litellm-indicators")
    windows = [line for line in shown["claims"] if line.startswith("window by")]
    assert len(windows) == 3, "each window keeps its source"
    listed = {one["advisory"]: one for one in desk.json("advisory", "list")["advisories"]}
    assert listed["MAL-2026-2144"]["first_seen"] > listed["MAL-2026-2144"]["published"], "published is not first seen"
    text = desk.json("advisory", "show", "PYSEC-2026-2")["text"]
    assert "1.82.8 adds a start-up file" in text, "the text stands beside the range"


@pytest.mark.skipif(not INCIDENT.is_dir(), reason="the incident's records are not here")
def test_the_record_that_names_other_versions_in_its_history_names_one(desk: Desk, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    for version in ("1.0.0", "2.0.0", "2.4.5"):
        environment.install("mistralai", version, {f"m{version[0]}{version[-1]}.py": ""})
    _once(desk, environment, tmp_path)
    (row,) = desk.json("advisory", "add", INCIDENT / "MAL-2026-0000-ORIGINS-TRAP.json")["advisories"]
    assert row["findings"] == 0
    environment.install("mistralai", "2.4.6", {"m46.py": ""})
    assert _once(desk, environment, tmp_path)["findings"] == 1
