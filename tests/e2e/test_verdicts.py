"""What `exposure --json` says of hosts and releases whose March 2026 is told here command by command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safehold.cli.demo import replay
from safehold.cli.demo.environments import uninstall
from safehold.cli.output import iso_time
from safehold.inventory import agent
from tests.cli_kit import (
    HOUR,
    STAND_IN,
    Clock,
    Desk,
    changed,
    incident_advisories,
    make_environment_of,
    write_texts,
)
from tests.inventory_kit import AGENT

SILENT, SEEN, LATER = "north-lab/silent", "north-lab/seen", "north-lab/later"
MUTE = "north-lab/mute"


class March:
    """A desk whose clock stands in March 2026, and hosts that sweep every two hours unless they are silent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock("2026-03-19T00:00:00Z")
        self.desk = Desk(folder / "desk", self.clock)
        self.swept: dict[str, int] = {}
        self.silent = (agent.microseconds("2026-03-24T05:30:00Z"), agent.microseconds("2026-03-24T20:00:00Z"))

    def environment(self, host: str) -> Path:
        return self.folder / "environments" / host

    def add_host(self, host: str, *, mute: bool = False) -> None:
        self.desk("host", "add", host, "--every", "3600")
        if not mute:
            make_environment_of(self.environment(host))
            self.swept[host] = self.clock.at - 2 * HOUR

    def to(self, text: str) -> None:
        """Move the clock; every host sweeps up to then, confirms at the end, and its messages are imported."""
        self.clock.set(text)
        now = self.clock.at
        for host, last in self.swept.items():
            times = [*range(last + 2 * HOUR, now, 2 * HOUR), now]
            if host == SILENT:
                times = [at for at in times if not self.silent[0] < at < self.silent[1]]
            if times:
                self._sweep(host, times)
                self.swept[host] = now

    def _sweep(self, host: str, times: list[int]) -> None:
        spool = self.folder / "spools" / host
        moments = ",".join(iso_time(at) + ("!" if at in times[-1:] else "") for at in times)
        command = [sys.executable, "-I", "-S", replay.__file__, str(AGENT), moments, str(self.environment(host))]
        subprocess.run([*command, "--host", host, "--name", "main", "--spool", str(spool)], check=True, timeout=60)
        key = self.desk.home / "keys" / "hosts" / host
        self.desk("inventory", "import", host, spool, "--key", key)
        for path in spool.glob("*.json"):
            path.unlink()

    def grant(self, dataset: str, host: str, until: str) -> None:
        out = self.folder / f"{dataset}-{host.replace('/', '-')}.json"
        self.desk("grant", "issue", f"quill-works/{dataset}", "--to", host, "--until", until, "--out", out)

    def open(self, dataset: str, host: str, code: int = 0) -> Any:
        grant = self.folder / f"{dataset}-{host.replace('/', '-')}.json"
        out = self.folder / f"{dataset}-{self.clock.at}.jsonl"
        opening = ("open", f"quill-works/{dataset}@1", "--host", host, "--grant", grant, "--out", out)
        return self.desk.json(*opening, code=code)


@pytest.fixture(scope="module")
def march(tmp_path_factory: pytest.TempPathFactory) -> March:
    march = March(tmp_path_factory.mktemp("march"))
    desk = march.desk
    desk("init", "--origin", "lab.example/custody")
    desk("party", "add", "north-lab", "--role", "lab")
    desk("party", "add", "quill-works", "--role", "supplier")
    for host in (SILENT, SEEN, LATER):
        march.add_host(host)
    march.add_host(MUTE, mute=True)
    march.to("2026-03-20T09:00:00Z")
    for dataset in ("by-silent", "by-seen", "ended", "alive", "leased", "unopened"):
        desk("dataset", "add", f"quill-works/{dataset}", "--for", "north-lab")
        desk("seal", write_texts(march.folder / f"{dataset}.jsonl", 20), "--dataset", f"quill-works/{dataset}")
    march.grant("by-silent", SILENT, "2026-04-15")
    march.grant("by-seen", SEEN, "2026-04-15")
    march.grant("ended", LATER, "2026-03-22")
    march.grant("alive", LATER, "2026-04-15")
    march.grant("leased", LATER, "2026-03-24T10:57:00Z")
    march.grant("unopened", MUTE, "2026-04-15")
    for dataset, host in (("by-silent", SILENT), ("by-seen", SEEN), ("ended", LATER), ("alive", LATER)):
        march.open(dataset, host)
    march.to("2026-03-24T10:53:00Z")
    march.open("leased", LATER)
    march.to("2026-03-24T10:54:00Z")
    changed(march.environment(LATER), STAND_IN)
    march.to("2026-03-24T10:58:00Z")
    march.to("2026-03-24T12:00:00Z")
    assert march.open("by-silent", SILENT, code=3)["error"]["code"] == "broker.inventory_old"
    march.to("2026-03-24T16:15:00Z")
    desk("advisory", "add", incident_advisories(march.folder / "advisories"))
    march.to("2026-03-24T17:00:00Z")
    uninstall(march.environment(LATER), STAND_IN)
    march.to("2026-03-24T17:10:00Z")
    march.to("2026-03-24T20:00:00Z")
    march.to("2026-04-01T09:00:00Z")
    return march


@pytest.fixture(scope="module")
def report(march: March) -> dict[str, Any]:
    document: dict[str, Any] = march.desk.json("exposure", "PYSEC-2026-2")
    return document


def host_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["hosts"] if one["host"] == name]
    return dict(found)


def release_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["releases"] if one["name"] == f"quill-works/{name}@1"]
    return dict(found)


def pair_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["pairs"] if one["name"] == f"quill-works/{name}@1"]
    return dict(found)


def spans(found: list[dict[str, int]]) -> list[tuple[str, str]]:
    return [(iso_time(one["start"]), iso_time(one["end"])) for one in found]


def test_the_widest_window_counts_and_the_narrow_ones_stand_beside_it(march: March, report: dict[str, Any]) -> None:
    assert spans([report["window"]]) == [("2026-03-24T10:39:00Z", "2026-03-24T16:00:00Z")]
    assert len(report["windows"]) >= 3
    narrow = min(report["windows"], key=lambda one: one["end"] - one["start"])
    other = march.desk.json("exposure", "PYSEC-2026-2", "--window", narrow["source"])
    assert (other["window"]["start"], other["window"]["end"]) == (narrow["start"], narrow["end"])
    assert march.desk.error("exposure", "PYSEC-2026-2", "--window", "nobody", code=2)["hint"]


def test_a_silent_host_is_unknown_and_says_which_hours(report: dict[str, Any]) -> None:
    silent = host_of(report, SILENT)
    assert silent["verdict"] == "unknown"
    assert spans(silent["unknown"]) == [("2026-03-24T10:39:00Z", "2026-03-24T20:00:00Z")]
    assert spans(silent["unobserved"]) == [("2026-03-24T05:00:00Z", "2026-03-24T20:00:00Z")]
    assert "2026-03-24 10:39 – 20:00" in silent["words"]
    assert "north-lab/silent" in report["coverage"] or "silent" in str(report["answers"])


def test_clean_before_and_after_is_not_not_held(report: dict[str, Any]) -> None:
    """The silent host was clean at 05:00 and at 20:00; the seen one was looked at in between."""
    assert host_of(report, SEEN)["verdict"] == "not_held"
    assert host_of(report, SEEN)["unknown"] == []
    assert release_of(report, "by-seen")["verdict"] == "not_held"
    assert release_of(report, "by-silent")["verdict"] == "unknown"
    assert pair_of(report, "by-silent")["ways"] == []
    assert {way["kind"] for way in pair_of(report, "by-silent")["possible"]} == {"credential"}


def test_a_host_that_never_reported_is_unknown_from_the_start(report: dict[str, Any]) -> None:
    mute = host_of(report, MUTE)
    assert (mute["verdict"], mute["last_report"]) == ("unknown", None)
    assert spans(mute["unknown"])[0][0] == "2026-03-24T10:39:00Z"
    assert release_of(report, "unopened")["verdict"] == "unknown"


def test_an_opening_before_the_window_does_not_expose_when_all_had_ended(report: dict[str, Any]) -> None:
    later = host_of(report, LATER)
    assert later["verdict"] == "held"
    assert spans([run["outer"] for run in later["held"]]) == [("2026-03-24T10:54:00Z", "2026-03-24T17:10:00Z")]
    assert release_of(report, "ended")["verdict"] == "held"
    pair = pair_of(report, "ended")
    assert pair["ways"] == pair["possible"] == []
    assert "not exposed by key release #" in pair["words"]
    assert "its lease ended 2026-03-20 09:05" in pair["words"]
    assert "ended 2026-03-22 00:00, before" in pair["words"]


def test_a_live_grant_exposes_and_is_named(report: dict[str, Any]) -> None:
    assert release_of(report, "alive")["verdict"] == "exposed"
    (way,) = pair_of(report, "alive")["ways"]
    assert way["kind"] == "credential"
    assert "the ledger shows no key released by it in that time; the host had opened it before" in way["words"]
    assert "usable until 2026-04-15 00:00" in way["words"]


def test_a_live_lease_exposes_and_is_named(report: dict[str, Any]) -> None:
    """Opened at 10:53 with five minutes of lease; clean at 10:54, bad at 10:58."""
    assert release_of(report, "leased")["verdict"] == "exposed"
    ways = {way["kind"]: way for way in pair_of(report, "leased")["ways"]}
    assert set(ways) == {"lease", "credential"}
    assert "was still alive (until 2026-03-24 10:57" in ways["lease"]["words"]
    assert "usable until 2026-03-24 10:57" in ways["credential"]["words"]


def test_the_counts_and_the_headline_agree(report: dict[str, Any]) -> None:
    assert report["counts"]["releases"] == {"exposed": 2, "unknown": 2, "held": 1, "not_held": 1}
    assert report["counts"]["hosts"] == {"unknown": 2, "held": 1, "not_held": 1}
    assert report["headline"] == "2 of 6 releases were exposed; 2 more are unknown."
    assert report["format"] == "safehold-exposure-v1"


def test_what_was_known_when_it_was_decided(march: March) -> None:
    """The advisory arrived at 16:15; a host that had it was refused from then on, and not before."""
    entries = march.desk.json("log", "list", "--last", "10000")["entries"]
    seen = next(one["entry"] for one in entries if one["kind"] == "advisory.recorded")
    advisory = march.desk.json("advisory", "show", "PYSEC-2026-2")["versions"][0]
    assert advisory["first_seen"].startswith("2026-03-24T16:15")
    assert advisory["published"] == "2026-03-24T16:15:08Z"
    assert all(one["entry"] > seen for one in entries if one["kind"] == "finding.recorded")
    assert march.desk.json("fsck")["problems"] == []
