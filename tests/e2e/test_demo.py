"""The demo, as a newcomer runs it: the whole story, what it claims, and its report in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_kit import GSM8K, SAFEHOLD, Desk
from tools.chromium import browser

SECONDS = 300


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, subprocess.Popen[str]]]]:
    """Both demos at once, for each takes its time: with the default records, and with GSM8K over an earlier demo."""
    folder = tmp_path_factory.mktemp("demo")
    started = {}
    for name in ("default", "gsm8k") if GSM8K.is_file() else ("default",):
        where = folder / name
        if name == "gsm8k":
            (where / "altered").mkdir(parents=True)
            (where / ".safehold-demo").touch()
            (where / "altered" / "of-an-earlier-demo").touch()
        command = [str(SAFEHOLD), "--json", "demo", "--folder", str(where)]
        command += ["--records", str(GSM8K)] if name == "gsm8k" else []
        pipe = subprocess.PIPE
        started[name] = where, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
    yield started
    for _, process in started.values():
        process.kill()
        process.wait()


class Demo(dict[str, Any]):
    """The document of a demo, and its folder."""

    folder: Path


def ended(runs: dict[str, tuple[Path, subprocess.Popen[str]]], name: str) -> Demo:
    folder, process = runs[name]
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, "")
    demo = Demo(json.loads(out))
    demo.folder = folder
    return demo


@pytest.fixture(scope="module")
def demo(runs: dict[str, tuple[Path, subprocess.Popen[str]]]) -> Demo:
    return ended(runs, "default")


@pytest.fixture(scope="module")
def desk(demo: Demo) -> Desk:
    """Someone who looks around in the demo's home afterwards."""
    made = Desk(demo.folder.with_name("desk"))
    made.home = demo.folder / "home"
    made.passphrase_file = demo.folder / "passphrase"
    return made


def test_every_record_comes_back_exactly(demo: Demo) -> None:
    assert demo["records_exact"] is True
    assert demo["records"] >= 1000
    (opened,) = (demo.folder / "opened").iterdir()
    assert opened.read_bytes() == (demo.folder / "python-texts.jsonl").read_bytes()


def test_who_was_refused_and_why(demo: Demo, desk: Desk) -> None:
    codes = ["broker.inventory_old", "broker.inventory_unclean", "broker.held"]
    assert [one["code"] for one in demo["refusals"]] == codes
    for one in demo["refusals"]:
        entry = desk.json("log", "show", one["entry"])
        assert (entry["kind"], entry["code"], entry["host"]) == ("key.refused", one["code"], one["host"])


def test_the_verdicts(demo: Demo) -> None:
    assert {one["name"]: one["verdict"] for one in demo["releases"]} == {
        "quill-works/texts@1": "exposed",
        "quill-works/texts@2": "exposed",
        "bright-annotators/dialogues@1": "unknown",
        "quill-works/review-notes@1": "held",
        "quill-works/holdout@1": "not_held",
    }
    assert {one["host"]: one["verdict"] for one in demo["hosts"]} == {
        "quill-works/ci-1": "held",
        "bright-annotators/ws-1": "unknown",
        "quill-works/ws-1": "not_held",
        "north-lab/trainer": "not_held",
    }
    assert all(one["evidence"] for one in demo["releases"])
    silent = next(one for one in demo["hosts"] if one["host"] == "bright-annotators/ws-1")
    assert "2026-03-24 10:39 – 20:00" in silent["words"]


def test_the_evidence_is_in_the_ledger(demo: Demo, desk: Desk) -> None:
    texts = next(one for one in demo["releases"] if one["name"] == "quill-works/texts@2")
    kinds = {desk.json("log", "show", entry)["kind"] for entry in texts["evidence"]}
    assert {"release.sealed", "key.released", "grant.issued", "hold.placed"} <= kinds
    again = desk.json("exposure", "PYSEC-2026-2")
    assert {one["name"]: one["verdict"] for one in again["releases"]} == {
        one["name"]: one["verdict"] for one in demo["releases"]
    }


TEN = {
    "which of our datasets were in what was taken, at which version": (14, 15),
    "who could decrypt them then": (14,),
    "which hosts, CI runs and images ran the bad versions": (1, 2, 3, 4, 5),
    "which window is right": (3, 23),
    "which credentials, revoked when, used in between": (11, 12, 13),
    "did data pass through the supplier's systems or rest beside it": (9, 10, 14),
    "which people are in it": (18,),
    "who was told when under which clock": (19,),
    "what stops if we pause the supplier today": (20,),  # and `safehold whatif`
    "whose copy has surfaced": (21,),
}
"""The ten questions that nobody could answer in public, and where the report answers each."""


def test_the_ten_questions_are_answered_with_entries_and_receipts(demo: Demo, desk: Desk, tmp_path: Path) -> None:
    asked = desk.json("exposure", "PYSEC-2026-2")
    answers = {one["number"]: one for one in asked["answers"]}
    verifier = desk.json("log", "checkpoint")["verifier"]
    replies = {number: answers[number]["reply"] for numbers in TEN.values() for number in numbers}
    assert replies == {
        1: "yes", 2: "yes", 3: "yes", 4: "yes", 5: "no", 9: "yes", 10: "no", 11: "unknown", 12: "yes", 13: "unknown",
        14: "yes", 15: "yes", 18: "yes", 19: "unknown", 20: "no", 21: "unknown", 23: "yes",
    }  # fmt: skip
    entries = set[int]()
    for numbers in TEN.values():
        for number in numbers:
            answer = answers[number]
            assert answer["evidence"], answer
            assert answer["reply"] != "unknown" or answer["fallback"], answer
            entries.update(answer["evidence"])
    for entry in sorted(entries):
        shown = desk.json("log", "show", entry)
        receipt = tmp_path / f"{entry}.tlog-proof"
        desk("log", "receipt", entry, "--out", receipt)
        verified = desk.json("verify", receipt, "--verifier", verifier)  # an exit code of 0: the proof holds
        assert json.loads(verified["statement"])["kind"] == shown["kind"]
    assert "mirror-upload-token" in answers[11]["summary"]
    assert "bright-annotators/ws-1" in answers[11]["summary"]  # nobody noted its credentials: that stays unknown


def test_the_ten_questions_that_nobody_could_answer(demo: Demo, desk: Desk, tmp_path: Path) -> None:
    told = desk.json("exposure", "PYSEC-2026-2", "--ten", "--receipts", tmp_path / "receipts")
    replies = {one["number"]: one["reply"] for one in told["ten"]}
    assert {number for number, reply in replies.items() if reply == "unknown"} == {6, 8, 10}
    said = {one["number"]: " ".join(one["summary"]) for one in told["ten"]}
    assert "quill-works/texts@1 and quill-works/texts@2 could be taken" in said[1]
    assert "quill-works/ci-1 (exposed)" in said[2]
    assert "bright-annotators/ws-1 (unknown" in said[2]
    assert "job 4711" in said[3]
    assert "mirror-upload-token" in said[5]
    assert "34 people" in said[7]
    assert "party:quill-works" in said[9]
    used = {entry for one in told["ten"] for entry in one["evidence"]}
    assert set(told["receipts"]["entries"]) == used
    verifier = (tmp_path / "receipts" / "verifier.txt").read_text().strip()
    for entry in used:
        found = desk.json("verify", tmp_path / "receipts" / f"entry-{entry}.tlog-proof", "--verifier", verifier)
        assert found["entry"] == entry
        assert desk.json("log", "show", entry)["kind"] == json.loads(found["statement"])["kind"]
    shown = desk("exposure", "PYSEC-2026-2", "--question", "14", "--question", "22").out
    assert ("  14  " in shown, "  22  " in shown, "  13  " in shown) == (True, True, False)


def test_what_was_known_on_the_day(demo: Demo, desk: Desk) -> None:
    then = desk.json("exposure", "PYSEC-2026-2", "--as-of", "2026-03-24T17:00:00Z")
    checkpoint = then["checkpoint"]
    assert checkpoint["size"] < desk.json("log", "checkpoint")["size"]
    assert [one["advisory"] for one in then["advisories"]] == ["PYSEC-2026-2"]  # the others came that night and later
    assert {one["number"]: one["reply"] for one in then["answers"]}[4] == "unknown"
    verdicts = {one["name"]: one["verdict"] for one in then["releases"]}
    assert verdicts["quill-works/texts@2"] == "exposed"
    assert verdicts["bright-annotators/dialogues@1"] == "unknown"
    desk("exposure", "PYSEC-2026-2", "--as-of", "2020-01-01", code=6)


def test_the_ledger_verifies_and_each_altered_byte_is_found(demo: Demo, desk: Desk) -> None:
    checkpoint = desk.json("log", "checkpoint")
    assert demo["audit"]["size"] == checkpoint["size"] == sum(demo["audit"]["kinds"].values())
    verified = desk.json("verify", demo.folder / "ledger-export", "--verifier", checkpoint["verifier"])
    assert verified["root"] == demo["audit"]["root"]
    codes = [one["code"] for one in demo["tampering_found"]]
    assert codes[0] == "vault.part_altered"
    assert codes[1].startswith("ledger.")
    altered = demo.folder / "altered" / "ledger"
    assert desk.error("verify", altered, "--verifier", checkpoint["verifier"], code=4)["code"] == codes[1]
    assert desk.json("fsck")["problems"] == []
    assert desk.json("rebuild")["same"] is True


def test_the_report_is_one_file_that_needs_nothing_else(demo: Demo) -> None:
    page = (demo.folder / "report.html").read_text(encoding="utf-8")
    assert demo["report"] == str(demo.folder / "report.html")
    assert not re.search(r"<script|<iframe|<link|<object|<embed|@import|javascript:|\son\w+=", page, re.IGNORECASE)
    assert re.findall(r"https?://|url\((?!#)", page) == []
    assert all(link.startswith("#") for link in re.findall(r'(?:href|src)="([^"]*)"', page))
    assert demo["exposure"]["headline"] in page


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_in_a_browser(demo: Demo, width: int) -> None:
    program = browser()
    if program is None:
        pytest.skip("no chromium on this machine: make test installs Debian's where it may")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": width, "height": 900})
        told: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        address = (demo.folder / "report.html").as_uri()
        page.goto(address)
        assert page.get_by_text(demo["exposure"]["headline"], exact=True).first.is_visible()
        picture = page.locator("svg").first
        box = picture.bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 100
        words = page.locator("body").inner_text()
        for one in demo["releases"] + demo["hosts"]:
            assert one.get("name", one.get("host")) in words
        drawn = picture.text_content() or ""
        assert "quill-works/ci-1" in drawn
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("document.querySelectorAll('svg rect, svg path, svg line, svg circle').length") > 20
        chromium.close()
    assert told == []
    assert asked == [address]


def test_with_your_own_records_over_an_earlier_demo(runs: dict[str, tuple[Path, subprocess.Popen[str]]]) -> None:
    if "gsm8k" not in runs:
        pytest.skip("no GSM8K here: ../shared/data/gsm8k/train.jsonl")
    own = ended(runs, "gsm8k")
    assert (own["records"], own["records_exact"]) == (7473, True)
    (opened,) = (own.folder / "opened").iterdir()
    assert opened.read_bytes() == GSM8K.read_bytes()
    assert not (own.folder / "altered" / "of-an-earlier-demo").exists()
    texts = next(one for one in own["exposure"]["releases"] if one["name"] == "quill-works/texts@1")
    assert texts["rows"] == 7473
    assert "question" in json.dumps(own["exposure"])


def test_a_folder_that_is_no_demos_is_left_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    precious = tmp_path / "mine" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("x")
    assert desk.error("demo", "--folder", precious.parent, code=7)["code"] == "cli.demo_folder"
    assert desk.error("demo", "--folder", precious, code=5)["code"] == "cli.write"
    assert precious.read_text() == "x"


def test_records_are_looked_at_before_an_earlier_demo_is_removed(tmp_path: Path) -> None:
    desk, folder = Desk(tmp_path / "desk"), tmp_path / "demo"
    folder.mkdir()
    for name in (".safehold-demo", "records.jsonl"):
        (folder / name).write_text('{"a": 1}\n')
    missing = desk.error("demo", "--folder", folder, "--records", tmp_path / "none.jsonl", code=6)
    assert missing["code"] == "cli.demo_records"
    (tmp_path / "records.csv").write_text("a\n1\n")
    table = desk.error("demo", "--folder", folder, "--records", tmp_path / "records.csv", code=2)
    assert table["code"] == "cli.demo_records_form"
    inside = desk.error("demo", "--folder", folder, "--records", folder / "records.jsonl", code=2)
    assert inside["code"] == "cli.demo_records_inside"
    assert (folder / "records.jsonl").read_text() == '{"a": 1}\n'
