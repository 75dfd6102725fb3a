"""Reports and notices from the command line, on a home with an incident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stix2

from safehold.cli.output import iso_time
from tests.cli_kit import (
    STAND_IN,
    Clock,
    Desk,
    changed,
    incident_advisories,
    make_desk,
    make_environment_of,
    write_texts,
)

ADVISORY = "PYSEC-2026-2"
HOST = "quill-works/ws-1"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A release of people in Germany, sealed on a host that held the thing."""
    folder = tmp_path_factory.mktemp("reports")
    desk = make_desk(folder / "desk", Clock("2026-03-24T11:00:00Z"))
    environment = make_environment_of(folder / "environment")
    changed(environment, STAND_IN)
    desk.sweep(HOST, environment, iso_time(desk.clock()))
    seal = ("seal", write_texts(folder / "records.jsonl", 20), "--dataset", "quill-works/problems", "--host", HOST)
    desk(*seal, "--people", "experts:DE=12")
    desk.clock.set("2026-03-24T16:20:00Z")
    desk("advisory", "add", incident_advisories(folder / "advisories"))
    return desk


@pytest.mark.parametrize("form", ["csaf", "html", "json", "ocsf", "openvex", "schema", "stix", "text"])
def test_every_format_is_written(desk: Desk, tmp_path: Path, form: str) -> None:
    out = tmp_path / "report"
    said = desk.json("report", ADVISORY, "--format", form, "--out", out)
    data = out.read_bytes()
    assert said["bytes"] == len(data) > 100
    if form in ("csaf", "json", "openvex", "schema", "stix"):
        json.loads(data)
    if form == "ocsf":
        assert {json.loads(line)["class_uid"] for line in data.splitlines()} == {2004, 2006}
    if form == "stix":
        stix2.parse(data.decode(), allow_custom=False)


def test_as_of_a_day_before_nobody_knew(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "report"
    error = desk.error("report", ADVISORY, "--format", "json", "--out", out, "--as-of", "2026-03-24T12:00:00Z", code=6)
    assert error["code"] == "exposure.no_advisory"
    assert not out.exists()


def test_a_place_that_cannot_be_written(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "report"
    assert desk.error("report", ADVISORY, "--format", "json", "--out", out, code=5)["code"] == "cli.write"


def test_duties_and_drafts(desk: Desk, tmp_path: Path) -> None:
    contracts = tmp_path / "contracts.toml"
    contracts.write_text(
        "[[duty]]\nid = 'clause-12'\nto = 'customers'\ncustomers = ['north-lab']\nwithin = 24\nclock = 'alert'\n"
        "says = 's'\nsource = 'clause 12'\n"
    )
    before = desk.json("notice", "due", ADVISORY, "--contracts", contracts)
    states = {one["duty"]["id"]: one["state"] for one in before["duties"]}
    assert states["gdpr-33"] == "clock not noted"
    assert states["clause-12"] == "clock not noted"
    desk("evidence", "clock", "awareness", ADVISORY, "--at", "2026-03-24T16:00:00Z")
    after = {one["duty"]["id"]: one for one in desk.json("notice", "due", ADVISORY)["duties"]}
    assert iso_time(after["gdpr-33"]["due"]) == "2026-03-27T16:00:00Z"
    out = tmp_path / "notice.txt"
    said = desk.json("notice", "draft", ADVISORY, "--for", "people", "--out", out)
    assert said["gaps"]
    assert "12 experts (DE)" in out.read_text()
    assert desk.error("notice", "due", ADVISORY, "--contracts", tmp_path / "none", code=6)["code"] == "cli.contracts"
    contracts.write_text("duty = 3")
    assert desk.error("notice", "due", ADVISORY, "--contracts", contracts, code=2)["code"] == "exposure.duties"
