"""A second person's hand: from an empty folder to a stopped and lifted host, each command as the README types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from safehold.cli.demo.environments import uninstall
from safehold.ledger.keys import SigningKey
from tests.cli_kit import (
    GSM8K,
    STAND_IN,
    Desk,
    command_paths,
    incident_advisories,
    make_environment_of,
    shell,
    write_texts,
)

HOST = "north-lab/trainer"


class Story(dict[str, Any]):
    """What each step answered, by its name."""

    desk: Desk
    records: Path
    folder: Path


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("hand")
    told, desk = Story(), Desk(folder / "desk")
    told.desk, told.folder = desk, folder
    told.records = GSM8K if GSM8K.is_file() else write_texts(folder / "texts.jsonl", 2000)
    groups = "question=question,answer=answer" if GSM8K.is_file() else "question=module+name,answer=text"
    _set_up(told, groups)
    _open_and_learn(told)
    _stop_and_lift(told)
    _prove(told)
    return told


def _set_up(told: Story, groups: str) -> None:
    say, folder = told.desk.json, told.folder
    told["init"] = say("init", "--origin", "my-lab.example/custody")
    told["lab"] = say("party", "add", "north-lab", "--role", "lab")
    say("party", "add", "quill-works", "--role", "supplier", "--title", "Quill Works")
    told["host"] = say("host", "add", HOST)
    say("host", "add", "quill-works/ws-1", "--every", "60")
    told["member"] = say("member", "add", "north-lab", "Rosa Diaz")
    say("dataset", "add", "quill-works/word-problems", "--for", "north-lab")
    seal = ["seal", told.records, "--dataset", "quill-works/word-problems", "--groups", groups]
    seal += ["--host", "quill-works/ws-1", "--people", "writers:DE=12"]
    told["dry"] = say(*seal, "--dry-run")
    told["log after dry"] = say("log", "list")
    told["seal"] = say(*seal)
    told["grant"] = say(
        "grant", "issue", "quill-works/word-problems", "--to", HOST, "--until", "+30d", "--out", folder / "grant.json"
    )


def _open(told: Story, name: str, *more: str, code: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = told.desk.json(
        *("open", "quill-works/word-problems@1", "--host", HOST, "--grant", told.folder / "grant.json"),
        *("--out", told.folder / f"{name}.jsonl", *more),
        code=code,
    )
    return document


def _open_and_learn(told: Story) -> None:
    say, folder = told.desk.json, told.folder
    environment = make_environment_of(folder / "env", STAND_IN)
    told["refused for no inventory"] = _open(told, "refused", code=3)
    told["inventory"] = say("inventory", "record", HOST, "--environment", environment)
    told["open"] = _open(told, "opened", "--member", told["member"]["member"])
    same = ("quill-works/word-problems@1", "quill-works/word-problems@1", "--host", HOST)
    told["diff"] = say("diff", *same, "--grant", told.folder / "grant.json")
    told["run"] = say("run", "declare", "north-lab/run-1", "--release", "quill-works/word-problems@1", "--host", HOST)
    told["model"] = say("model", "declare", "north-lab/tutor-1", "--run", "north-lab/run-1")
    told["advisories"] = say("advisory", "add", incident_advisories(folder / "advisories"))
    told["advisories again"] = say("advisory", "add", incident_advisories(folder / "advisories"))
    told["exposure"] = say("exposure", "PYSEC-2026-2", "--html", folder / "report.html")
    told["refused for a finding"] = _open(told, "refused", code=3)


def _stop_and_lift(told: Story) -> None:
    say, folder = told.desk.json, told.folder
    uninstall(folder / "env", STAND_IN)
    told["clean inventory"] = say("inventory", "record", HOST, "--environment", folder / "env")
    told["size before dry"] = say("log", "checkpoint")["size"]
    told["suspend dry"] = say("suspend", f"host:{HOST}", "--reason", "litellm 1.82.8", "--dry-run")
    told["size after dry"] = say("log", "checkpoint")["size"]
    told["suspend"] = say("suspend", f"host:{HOST}", "--reason", "litellm 1.82.8 on it")
    told["suspend again"] = say("suspend", f"host:{HOST}", "--reason", "litellm 1.82.8 on it", code=7)
    told["held"] = _open(told, "refused", code=3)
    told["lift too early"] = say("lift", f"host:{HOST}", "--reason", "rebuilt", code=3)
    say("inventory", "record", HOST, "--environment", folder / "env")
    told["lift"] = say("lift", f"host:{HOST}", "--reason", "rebuilt, keys replaced")
    told["open again"] = _open(told, "again")


def _prove(told: Story) -> None:
    say, folder = told.desk.json, told.folder
    verifier = told["init"]["verifier"]
    told["lists"] = {
        name: say(*name.split())
        for name in ("party list", "host list", "member list", "dataset list", "grant list", "advisory list")
    }
    told["show"] = say("log", "show", told["held"]["error"]["entry"])
    told["advisory"] = say("advisory", "show", "PYSEC-2026-2")
    told["inventories"] = say("inventory", "show", HOST)
    told["narrow"] = say(
        *("grant", "narrow", folder / "grant.json", "--groups", "question", "--out", folder / "narrow.json")
    )
    told["erase"] = say("member", "erase", told["member"]["member"])
    told["checkpoint"] = say("log", "checkpoint")
    say("log", "receipt", told["suspend"]["entry"], "--out", folder / "hold.tlog-proof")
    told["export"] = say("log", "export", folder / "export")
    told["export again"] = say("log", "export", folder / "export")
    told["verified"] = say("verify", folder / "export", "--verifier", verifier)
    told["verified alone"] = say("verify", folder / "export")
    told["receipt"] = say("verify", folder / "hold.tlog-proof", "--verifier", verifier)
    supplier = folder / "quill-works.pub"
    supplier.write_text(next(one["key"] for one in say("log", "list")["entries"] if one.get("party") == "quill-works"))
    told["backup"] = say("backup", "to", folder / "backup", "--releases")
    told["backup verified"] = say("backup", "verify", folder / "backup", "--verifier", verifier)
    told["restored"] = say("restore", "from", folder / "backup", "--home", folder / "restored")
    release = told["seal"]["folder"]
    told["release"] = say("verify", release, "--signer", supplier, "--digest", told["seal"]["digest"])
    told["ingest"] = say("ingest", release)
    told["fsck"] = say("fsck")
    told["rebuild"] = say("rebuild")


def test_what_comes_back_is_the_file_that_was_sealed(story: Story) -> None:
    for name in ("opened", "again"):
        assert (story.folder / f"{name}.jsonl").read_bytes() == story.records.read_bytes()
    assert story["open"]["as_sealed"] is True
    assert story["open"]["records"] == story["seal"]["rows"]
    assert story["open"]["records"] == (7473 if story.records == GSM8K else 2000)
    assert not (story.folder / "refused.jsonl").exists()


def test_a_dry_run_changes_nothing(story: Story) -> None:
    assert story["dry"]["release"] == "quill-works/word-problems@1"
    assert set(story["dry"]["groups"]) == {"question", "answer"}
    assert all(one["kind"] != "release.sealed" for one in story["log after dry"]["entries"])
    assert story["suspend dry"]["hosts"] == [HOST]
    assert story["suspend dry"]["grants"] == [story["grant"]["grant"]]
    assert story["size before dry"] == story["size after dry"]


def test_each_refusal_has_a_reason_a_hint_and_an_entry(story: Story) -> None:
    reasons = {
        "refused for no inventory": ("broker.inventory_absent", "never reported", "inventory record"),
        "refused for a finding": ("broker.inventory_unclean", "litellm 1.82.8", "remove litellm 1.82.8"),
        "held": ("broker.held", "litellm 1.82.8 on it", "safehold lift"),
    }
    entries = []
    for name, (code, reason, hint) in reasons.items():
        error = story[name]["error"]
        assert error["code"] == code
        assert reason in error["message"]
        assert hint in error["hint"]
        entries.append(error["entry"])
    assert entries == sorted(set(entries))
    shown = story["show"]
    assert (shown["kind"], shown["code"], shown["host"], shown["step"]) == ("key.refused", "broker.held", HOST, 6)


def test_what_the_advisory_names_is_found_and_the_release_is_exposed(story: Story) -> None:
    assert story["advisories"]["failed"] == []
    assert sum(one["findings"] for one in story["advisories"]["advisories"]) >= 1
    assert all(one["known"] for one in story["advisories again"]["advisories"])
    exposure = story["exposure"]
    (release,) = exposure["releases"]
    assert (release["name"], release["verdict"]) == ("quill-works/word-problems@1", "exposed")
    assert story["open"]["entry"] in release["evidence"]
    assert [answer["number"] for answer in exposure["answers"]] == list(range(1, 24))
    assert "north-lab/tutor-1" in json.dumps(exposure["answers"])
    assert (story.folder / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert story["clean inventory"]["findings"] == 0


def test_a_host_is_stopped_and_lifted_on_a_clean_inventory(story: Story) -> None:
    assert story["suspend again"]["error"]["code"] == "containment.held"
    early = story["lift too early"]["error"]
    assert early["code"] == "containment.not_clean"
    assert "has not reported since" in early["message"]
    assert story["lift"]["holds"] == [story["suspend"]["hold"]]
    assert story["open again"]["entry"] > story["lift"]["entry"]


def test_the_ledger_verifies_from_its_export_alone(story: Story) -> None:
    assert story["verified"]["size"] == story["checkpoint"]["size"] == story["export"]["size"]
    assert story["verified"]["unknown"] == 0
    assert story["verified"]["verifier_from"] == "option"
    assert story["verified alone"]["verifier_from"] == "export"
    assert story["export again"]["files_written"] <= 2
    assert json.loads(story["receipt"]["statement"])["hold"] == story["suspend"]["hold"]
    assert story["release"]["digest"] == story["release"]["digest_expected"] == story["seal"]["digest"]
    assert len(story["release"]["signers"]) == 1
    assert story["seal"]["countersigned"] is True
    assert len(story["release"]["unknown_signers"]) == 1  # the lab's: the verifier was told of the supplier's alone
    assert story["fsck"]["problems"] == []
    assert story["rebuild"]["same"] is True


def test_lists_tell_what_was_registered(story: Story) -> None:
    lists = story["lists"]
    assert [one["party"] for one in lists["party list"]["parties"]] == ["north-lab", "quill-works"]
    assert [one["findings"] for one in lists["host list"]["hosts"]] == [0, 0]
    assert [one["name"] for one in lists["member list"]["members"]] == ["Rosa Diaz"]
    assert lists["dataset list"]["releases"][0]["rows"] == story["seal"]["rows"]
    assert lists["grant list"]["grants"][0]["state"] == "alive"
    assert {"PYSEC-2026-2", "MAL-2026-2144"} <= {one["advisory"] for one in lists["advisory list"]["advisories"]}
    assert len(story["advisory"]["versions"]) == 1
    assert story["inventories"]["inventories"][0]["findings"] == []
    assert story.desk.json("member", "list")["members"][0]["name"] == ""  # erased since


def _witness(story: Story) -> None:
    say, folder = story.desk.json, story.folder
    at = ("--folder", folder / "witness")
    key = say("witness", "init", "--name", "third.example/w", *at)["keys"][0]
    say("witness", "trust", story["init"]["verifier"], *at)
    (folder / "policy").write_text(f"witness w {key}\nquorum w\n")
    say("log", "policy", folder / "policy")
    say("log", "export", folder / "witnessed")
    checked = say("witness", "check", folder / "witnessed", "--out", folder / "cosigned", *at)
    assert say("witness", "follow", folder / "witnessed", "--looks", "1", *at)["before"] == checked["size"]
    assert say("log", "witness", "--lines", folder / "cosigned")["complete"] is True
    assert say("witness", "show", *at)["latest"]["my-lab.example/custody"]["size"] == checked["size"]
    assert say("follow", folder / "witnessed", folder / "copy", "--once")["size"] == checked["size"]


def _outside(story: Story) -> None:
    """What other systems recorded, and what people noted."""
    say, folder = story.desk.json, story.folder
    log = folder / "egress.csv"
    log.write_text("when,host,to\n2026-03-24T12:00:00Z,quill-works/ws-1,models.bad.example\nnever,x,y\n")
    importing = (
        "evidence",
        "import",
        log,
        "--format",
        "csv",
        "--topic",
        "egress",
        "--map",
        "t=when,object=to,host=host",
    )
    dry = say(*importing, "--dry-run")
    taken = say(*importing, "--covers", "2026-03-24..2026-03-25")
    assert (dry["rows"], dry["unread"], dry["with_host"], dry["entries"]) == (1, 1, 1, [])
    assert say(*importing, "--covers", "2026-03-24..2026-03-25")["known"] is True
    assert say("evidence", "list")["evidence"][0]["entry"] == taken["entries"][0]
    say("evidence", "credential", "k-1", "--act", "reach", "--host", "quill-works/ws-1", "--at", "2026-03-01")
    say("evidence", "clock", "awareness", "PYSEC-2026-2", "--at", "2026-03-26")
    say("evidence", "notice", "PYSEC-2026-2", log, "--to", "north-lab")
    say("evidence", "check", "quill-works/word-problems@1", "--outcome", "intact", "--parts", "8")
    asked = say("exposure", "PYSEC-2026-2")
    assert [one["number"] for one in asked["answers"]] == list(range(1, 24))


def _swept(story: Story) -> None:
    """A host swept whole, and a signed feed."""
    say, folder = story.desk.json, story.folder
    environment = make_environment_of(folder / "swept")
    assert say("agent", "file", folder / "agent.pyz")["digest"].startswith("sha256:")
    assert say("agent", "once", HOST, "--environment", environment)["round"]["recorded"] == 2
    assert say("agent", "run", HOST, "--environment", environment, "--rounds", "1")["rounds"] == 1
    assert say("inventory", "drift", HOST)["environments"]
    key = story.desk.home / "keys/hosts/quill-works/ws-1"
    feed = ("--source", "feed", "--number", "1", "--key", key)
    assert say("advisory", "bundle", incident_advisories(folder / "advisories"), folder / "feed", *feed)["files"] > 0
    (folder / "feed.pub").write_text(SigningKey.load(key).public.line)
    assert say("advisory", "trust", "feed", folder / "feed.pub")["entry"] > 0
    assert say("advisory", "sync", folder / "feed")["advisories"] == [], "all of it is known"


def _rules(story: Story) -> None:
    """A policy, members' keys, an approval, grants and leases looked at and revoked, the drill."""
    say, folder = story.desk.json, story.folder
    (folder / "policy.toml").write_text('[[dataset]]\nname = "quill-works/word-problems"\ntwo_person = true\n')
    assert say("policy", "set", folder / "policy.toml", "--dry-run")
    other = say("member", "add", "north-lab", "Ada Byron")["member"]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ada"], check=True)
    say("member", "key", other, "--key", folder / "ada.pub")
    asks = ("--host", HOST, "--member", story["member"]["member"], "--approver", other, "--until", "+1d")
    say("approval", "write", "quill-works/word-problems", *asks, "--key", folder / "ada", "--out", folder / "ok.json")
    assert say("approval", "record", folder / "ok.json")["entry"] > 0
    assert say("policy", "show")
    assert say("lease", "list")["leases"] == []
    assert say("grant", "tree", folder / "grant.json")
    assert say("grant", "revoke", folder / "grant.json", "--reason", "the work is done")["entry"] > 0
    assert say("drill")


def _stores(story: Story) -> None:
    """A store looked after, and data adopted that was never sealed."""
    say, folder = story.desk.json, story.folder
    assert say("store", "check", folder / "store")
    assert say("store", "clean", folder / "store", "--dry-run")
    (folder / "old").mkdir()
    (folder / "old" / "a.txt").write_text("a")
    say("dataset", "add", "quill-works/old", "--for", "north-lab")
    assert say("adopt", folder / "old", "--dataset", "quill-works/old")["files"]


def _responses(story: Story) -> None:
    """What if, a plan, its proof, who must be told, and the report as a file."""
    say, folder = story.desk.json, story.folder
    assert [one["course"] for one in say("whatif", "PYSEC-2026-2")["options"]][-1] == "watch"
    decide = ("respond", "decide", "PYSEC-2026-2", "--reason", "it held it")
    plan = say(*decide, "--course", "watch")
    steps = say("respond", "show", plan["response"])["steps"]
    assert say("respond", "list")["responses"]
    still = next(step["step"] for step in steps if step["done"] is None)
    assert say("respond", "prove", plan["response"], str(still), "--proof", "looked at")["entry"] > 0
    assert say("notice", "due", "PYSEC-2026-2")["duties"]
    assert say("notice", "draft", "PYSEC-2026-2", "--for", "workers", "--out", folder / "workers.txt")["gaps"]
    assert say("report", "PYSEC-2026-2", "--format", "stix", "--out", folder / "report.stix")["bytes"] > 0


# What answers elsewhere: `demo` in test_demo; `witness run` and `serve` run until they are stopped (test_witness, test_serve);
# `lease end` needs a broker that runs (test_serve, tests/unit/broker), `rekey` a server of keys (tests/unit/app).
ELSEWHERE = {"demo", "witness run", "serve", "lease end", "rekey", "prove record", "prove match", "rehearse"}


def test_every_verb_answers_in_json(story: Story) -> None:
    _witness(story)
    _outside(story)
    _responses(story)
    _stores(story)
    assert story.desk.json("log", "segment", "--all")["sealed"]
    assert story.desk.json("log", "query", "SELECT count(*) FROM key_release")["segments"] > 0
    story.desk.sweep("quill-works/ws-1", make_environment_of(story.folder / "ws"), "2026-03-01T00:00:00Z")
    spool, key = story.desk.folder / "spools" / "quill-works" / "ws-1", story.desk.home / "keys/hosts/quill-works/ws-1"
    again = story.desk.json("inventory", "import", "quill-works/ws-1", spool, "--key", key)
    assert [one["known"] for one in again["messages"]] == [True]
    _swept(story)
    story.desk.home, home = story.folder / "restored", story.desk.home
    story.desk.json("restore", "accept", "--reason", "the old one is kept as evidence")
    ended = ("quill-works/word-problems@1", "--reason", "replaced")
    assert story.desk.json("retire", *ended)["entry"] > 0
    assert story.desk.json("erase", *ended, "--dry-run")["shared_with"] == []
    assert story["diff"]["unchanged"] == story["seal"]["rows"]
    assert len(story["ingest"]["signers"]) == 2
    assert story.desk.json("fsck")["problems"] == []
    story.desk.home = home
    _rules(story)
    assert story.desk.json("inventory", "retire", HOST, "main", "--reason", "removed")["entry"] > 0
    assert {path for path, _ in command_paths()} - story.desk.answered == ELSEWHERE


def test_the_same_in_words(story: Story) -> None:
    desk, folder = story.desk, story.folder
    assert "PYSEC-2026-2" in desk("exposure", "PYSEC-2026-2").out
    shorter = desk("exposure", "PYSEC-2026-2", "--no-tables").out
    assert "!! quill-works/word-problems@1" in shorter
    assert "Verified" in desk("verify", folder / "export").out
    assert "NOTE: The key was taken from the export itself" in desk("verify", folder / "export").out
    assert '"kind": "hold.placed"' in (
        desk("verify", folder / "hold.tlog-proof", "--verifier", story["init"]["verifier"]).out
    )
    assert desk("log", "checkpoint").out.splitlines()[0] == "my-lab.example/custody"
    for listing in ("party", "host", "member", "dataset", "grant", "advisory", "log"):
        assert len(desk(listing, "list").out.splitlines()) >= 2
    assert "key.refused" in desk("log", "list", "--kind", "key.refused").out
    assert "known already" in desk("advisory", "add", incident_advisories(folder / "advisories")).out
    refused = desk("open", "quill-works/word-problems@1", "--host", "quill-works/ws-1", "--grant", folder / "grant.json",
                   "--out", folder / "no.jsonl", code=3)  # fmt: skip
    first, second = refused.err.splitlines()
    assert first.startswith("safehold: ")
    assert "(entry " in first
    assert second.startswith("  hint: ")
    assert refused.out == ""


def test_the_same_in_a_shell(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.jsonl", 50)
    make_environment_of(tmp_path / "env")
    (tmp_path / "pass.txt").write_text("open sesame\nsecond lines are not read\n")
    known = {"SAFEHOLD_HOME": "lab", "SAFEHOLD_PASSPHRASE_FILE": "pass.txt"}
    commands = """
        init --origin my-lab.example/custody
        party add north-lab --role lab
        host add north-lab/trainer
        dataset add north-lab/texts --for north-lab
        seal texts.jsonl --dataset north-lab/texts --json
        grant issue north-lab/texts --to north-lab/trainer --until 2250-01-01 --out grant.json
        inventory record north-lab/trainer --environment env --json
    """
    for command in filter(None, map(str.strip, commands.splitlines())):
        said = shell(*command.split(), cwd=tmp_path, **known)
        assert said.err == ""
        assert not command.endswith("--json") or said.document
    opening = ("open", "north-lab/texts@1", "--host", "north-lab/trainer", "--grant", "grant.json", "--out")
    by_variable = {"SAFEHOLD_HOME": "lab", "SAFEHOLD_PASSPHRASE": "open sesame"}
    assert "byte for byte" in shell(*opening, "out.jsonl", cwd=tmp_path, **by_variable).out
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "texts.jsonl").read_bytes()
    wrong = shell(*opening, "no.jsonl", "--json", cwd=tmp_path, code=2, SAFEHOLD_HOME="lab", SAFEHOLD_PASSPHRASE="no")
    assert wrong.document["error"]["code"] == "vault.passphrase_wrong"
    none = shell("--home", "lab", *opening, "no.jsonl", cwd=tmp_path, code=2)
    assert "--passphrase-file" in none.err
