"""Bad input through the command line: a clear error with its code and hint, and nothing changed or lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safehold.app.wiring import Home, system_clock
from safehold.broker.release import Broker
from safehold.cli.demo.environments import Installed
from safehold.inventory.sweeps import run_agent
from safehold.ledger.keys import SigningKey
from tests.cli_kit import (
    HOUR,
    INCIDENT,
    Desk,
    Said,
    incident_advisories,
    make_desk,
    make_environment_of,
    write_texts,
)

HOST = "north-lab/trainer"
RELEASE = "quill-works/problems@1"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two sealed releases, a grant, a clean host."""
    made = make_desk(tmp_path_factory.mktemp("bad") / "desk")
    for number in (300, 100):
        records = write_texts(made.folder / f"records-{number}.jsonl", number)
        made("seal", records, "--dataset", "quill-works/problems", "--groups", "where=module+name,text=text")
    made("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+30d", "--out", made.folder / "g.json")
    made("inventory", "record", HOST, "--environment", make_environment_of(made.folder / "env"))
    return made


def size(desk: Desk) -> int:
    return int(desk.json("log", "checkpoint")["size"])


def opening(desk: Desk, grant: str | Path = "g.json", *more: str, release: str = RELEASE) -> list[Any]:
    out = desk.folder / "never.jsonl"
    return ["open", release, "--host", HOST, "--grant", desk.folder / grant, "--out", out, *more]


def refused(desk: Desk, arguments: list[Any]) -> str:
    """The code of a refusal, which is an entry and leaves no file."""
    before = size(desk)
    error = desk.error(*arguments, code=3)
    assert error["hint"]
    assert error["entry"] == before
    shown = desk.json("log", "show", error["entry"])
    assert (shown["kind"], shown["code"]) == ("key.refused", error["code"])
    assert not (desk.folder / "never.jsonl").exists()
    return str(error["code"])


def fails(desk: Desk, arguments: list[Any], code: int) -> str:
    """The code of an error that changes nothing."""
    before = size(desk)
    error = desk.error(*arguments, code=code)
    assert size(desk) == before
    assert not (desk.folder / "never.jsonl").exists()
    return str(error["code"])


# --- homes and passphrases ---------------------------------------------------------------------------


def test_a_wrong_passphrase_opens_and_seals_nothing(desk: Desk) -> None:
    wrong = desk.folder / "wrong.txt"
    wrong.write_text("wrong horse\n")
    for arguments in (opening(desk), ["seal", desk.folder / "records-300.jsonl", "--dataset", "quill-works/problems"]):
        assert fails(desk, ["--passphrase-file", wrong, *arguments], 2) == "vault.passphrase_wrong"
    wrong.write_text("\n")
    assert fails(desk, ["--passphrase-file", wrong, *opening(desk)], 2) == "cli.passphrase"
    assert fails(desk, ["--passphrase-file", desk.folder / "none", *opening(desk)], 6) == "cli.passphrase_file"


def test_a_home_that_is_not_there_or_is_there_already(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for home in ("none", "file", "."):
        error = desk.error("--home", tmp_path / home, "log", "list", code=6)
        assert error["code"] == "app.no_home"
        assert "safehold init" in error["hint"]
    for home in (desk.home, tmp_path / "file", tmp_path):
        assert desk.error("--home", home, "init", "--origin", "a.example/b", code=7)["code"] == "app.home_exists"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert desk.error("--home", tmp_path / "new", "init", "--origin", "no origin\n", code=2)["hint"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- records -----------------------------------------------------------------------------------------


def _truncated_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [f"record {number}" for number in range(5000)]}), folder / "whole.parquet")
    data = (folder / "whole.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(data[: len(data) // 2])
    return folder / "cut.parquet"


def _long_line(folder: Path) -> Path:
    with (folder / "long.jsonl").open("wb") as file:
        file.write(b'{"text":"short"}\n{"text":"' + b"x" * 70_000_000 + b'"}\n')
    return folder / "long.jsonl"


def _written(text: str | bytes, name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / name

    return write


RECORDS = [
    pytest.param(_truncated_parquet, 2, "vault.parquet", id="truncated-parquet"),
    pytest.param(_long_line, 2, "vault.line_too_long", id="line-of-70-MB"),
    pytest.param(_written("", "empty.jsonl"), 2, "vault.no_records", id="empty"),
    pytest.param(_written('{"a": 1}\n{"a": ', "cut.jsonl"), 2, "vault.cut_off", id="cut-off"),
    pytest.param(_written('{"a": 1, "a": 2}\n', "twice.jsonl"), 2, "vault.duplicate_name", id="name-twice"),
    pytest.param(_written(b'{"a": "\xff"}\n', "latin.jsonl"), 2, "vault.", id="not-utf-8"),
    pytest.param(_written("a,b\n1\n", "short.csv"), 2, "vault.", id="short-row"),
    pytest.param(_written("x", "records.docx"), 2, "vault.source_format", id="unknown-format"),
    pytest.param(lambda folder: folder / "none.jsonl", 6, "vault.source_missing", id="missing"),
    pytest.param(lambda folder: folder, 6, "vault.dataset_folder", id="folder"),
]


@pytest.mark.parametrize(("make", "code", "expected"), RECORDS)
def test_records_that_cannot_be_sealed(desk: Desk, tmp_path: Path, make: Any, code: int, expected: str) -> None:
    before = sorted(path.name for path in (desk.home / "releases").rglob("*"))
    assert fails(desk, ["seal", make(tmp_path), "--dataset", "quill-works/problems"], code).startswith(expected)
    assert sorted(path.name for path in (desk.home / "releases").rglob("*")) == before


@pytest.mark.parametrize(
    "groups", ["nonsense", "where=", "=text", "where=module", "where=module+name+text+no", "A B=text"]
)
def test_column_groups_that_do_not_fit(desk: Desk, groups: str) -> None:
    arguments = ["seal", desk.folder / "records-300.jsonl", "--dataset", "quill-works/problems", "--groups", groups]
    fails(desk, arguments, 2)


def test_the_same_file_twice_is_asked_about(desk: Desk) -> None:
    arguments = ["seal", desk.folder / "records-100.jsonl", "--dataset", "quill-works/problems"]
    assert fails(desk, arguments, 7) == "assembly.same_input"
    assert fails(desk, ["seal", desk.folder / "records-100.jsonl", "--dataset", "quill-works/none"], 6)
    assert fails(desk, [*arguments, "--host", "quill-works/none"], 6) == "assembly.no_host"


# --- releases and grants -----------------------------------------------------------------------------


def test_the_manifest_of_another_release(desk: Desk, tmp_path: Path) -> None:
    other = desk.copy(tmp_path / "desk")
    folder = other.home / "releases" / "quill-works" / "problems"
    shutil.copy(folder / "2" / "manifest.json", folder / "1" / "manifest.json")
    assert fails(other, opening(other), 4) == "vault.other_release"
    signer, entries = tmp_path / "signer.pub", other.json("log", "list")["entries"]
    signer.write_text(next(one["key"] for one in entries if one.get("title") == "Quill Works"))
    digest = next(one["release"] for one in entries if one["kind"] == "release.sealed")
    verify = ["verify", folder / "1", "--signer", signer]
    assert fails(other, [*verify, "--digest", digest], 4) == "vault.other_release"
    # Release 2 keeps the sealed files of release 1; without the digest, the sidecars that lie here tell.
    assert fails(other, verify, 4) == "vault.sidecar_altered"
    (folder / "1" / "manifest.json").write_text("{}")
    assert fails(other, opening(other), 4).startswith("vault.")
    shutil.rmtree(folder / "1")
    assert fails(other, opening(other), 6) == "vault.release_missing"


def test_a_part_that_was_altered(desk: Desk, tmp_path: Path) -> None:
    other = desk.copy(tmp_path / "desk")
    part = min((other.home / "releases" / "quill-works" / "problems" / "1").glob("*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert other.error(*opening(other), code=4)["code"] == "vault.part_altered"
    assert not (other.folder / "never.jsonl").exists()


def test_nothing_is_asked_for_when_the_output_cannot_be_written(desk: Desk) -> None:
    arguments = opening(desk)[:-1]
    assert fails(desk, [*arguments, desk.folder / "records-300.jsonl"], 7) == "cli.out_exists"
    assert fails(desk, [*arguments, desk.folder / "no-folder" / "out.jsonl"], 6) == "cli.out_folder"
    assert fails(desk, [*arguments, desk.folder / "out.txt"], 2) == "cli.out"
    assert fails(desk, opening(desk, release="quill-works/problems@9"), 6)
    assert fails(desk, opening(desk, release="problems"), 2) == "id.release"


def test_a_grant_out_of_its_time(desk: Desk) -> None:
    for name, begin, until in (("ended", "2020-01-01", "2020-01-02"), ("later", "2250-01-01", "2250-01-02")):
        issue = ["grant", "issue", "quill-works/problems", "--to", HOST, "--from", begin, "--until", until]
        desk(*issue, "--out", desk.folder / f"{name}.json")
        assert refused(desk, opening(desk, f"{name}.json")) == "broker.grant_time"
    narrow = ["grant", "narrow", desk.folder / "g.json", "--until", "2020-01-01", "--out", desk.folder / "past.json"]
    desk(*narrow)
    assert refused(desk, opening(desk, "past.json")) == "broker.grant_denies"
    for until in ("yesterday", "2300-01-01", "+9999999w", "1969-01-01", "+1y"):
        issue = ["grant", "issue", "quill-works/problems", "--to", HOST, "--until", until]
        assert fails(desk, [*issue, "--out", desk.folder / "no.json"], 2) == "cli.time"


def test_a_grant_narrowed_is_never_wide_again(desk: Desk) -> None:
    narrow = ["grant", "narrow", desk.folder / "g.json", "--groups", "where", "--out", desk.folder / "narrow.json"]
    desk(*narrow)
    assert fails(desk, narrow, 7) == "cli.out_exists"
    wide = ["grant", "narrow", desk.folder / "narrow.json", "--groups", "where,text", "--until", "+60d"]
    desk(*wide, "--out", desk.folder / "wide.json")
    for name in ("narrow.json", "wide.json"):
        assert refused(desk, opening(desk, name)) == "broker.grant_denies"  # the lost group is among all that it names
        assert refused(desk, opening(desk, name, "--groups", "text")) == "broker.grant_denies"
        out = desk.folder / f"{name}.out.jsonl"
        opened = desk.json(*opening(desk, name)[:-1], out, "--groups", "where")
        assert (opened["groups"], opened["as_sealed"]) == (["where"], False)
        assert set(json.loads(out.read_text().splitlines()[0])) == {"module", "name"}


def test_a_grant_that_was_altered_or_is_none(desk: Desk) -> None:
    plain = json.loads((desk.folder / "g.json").read_text())
    token = plain["token"]
    for place in (0, len(token) // 2, len(token) - 9):
        other = "A" if token[place] != "A" else "B"
        altered = plain | {"token": token[:place] + other + token[place + 1 :]}
        (desk.folder / "altered.json").write_text(json.dumps(altered))
        assert refused(desk, opening(desk, "altered.json")) == "broker.token_signature"
    assert refused(desk, opening(desk, "g.json", "--purpose", "resale")) == "broker.grant_purpose"
    for garbage in (
        "",
        "{}",
        "\x00\xff",
        "[" * 9000,
        json.dumps(plain | {"grant": "g-1"}),
        json.dumps(plain | {"root": "x"}),
    ):
        (desk.folder / "garbage.json").write_text(garbage)
        assert fails(desk, opening(desk, "garbage.json"), 2) in {"cli.grant_form", "id.grant"}
    assert fails(desk, opening(desk, "no.json"), 6) == "cli.grant_file"


# --- requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, -1])
def test_a_host_whose_clock_is_an_hour_off(desk: Desk, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    class Skewed(Home):
        """The reader's clock is off; the broker's is not."""

        def broker(self, passphrase: Callable[[], str]) -> Broker:
            made = super().broker(passphrase)
            self.clock = lambda: system_clock() + hours * HOUR
            return made

    monkeypatch.setattr(desk, "home_type", Skewed)
    assert refused(desk, opening(desk)) == "broker.stale"
    message = desk.json("log", "list", "--kind", "key.refused", "--last", "1")["entries"][0]["reason"]
    assert f"3600 s {'ahead of' if hours > 0 else 'behind'} the broker's clock" in message


def test_a_request_sent_twice_is_answered_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Replayed(Home):
        """Someone in the middle sends what he saw again, and hands on the second answer."""

        def broker(self, passphrase: Callable[[], str]) -> Any:
            inner = super().broker(passphrase)

            class Door:
                def release_keys(self, body: bytes, proof: Any) -> Any:
                    inner.release_keys(body, proof)
                    return inner.release_keys(body, proof)

            return Door()

    before = size(desk)
    monkeypatch.setattr(desk, "home_type", Replayed)
    error = desk.error(*opening(desk), code=3)
    assert (error["code"], error["entry"]) == ("broker.replayed", before + 1)


def test_hosts_and_keys_that_are_not_known(desk: Desk, tmp_path: Path) -> None:
    SigningKey.generate().save(tmp_path / "stranger")
    arguments = opening(desk)
    assert refused(desk, [*arguments, "--key", tmp_path / "stranger"]) == "broker.proof_key"
    arguments[3] = "north-lab/none"
    assert fails(desk, arguments, 6) == "app.no_key"
    assert refused(desk, [*arguments, "--key", tmp_path / "stranger"]) == "broker.host_unknown"
    arguments[3] = "quill-works/ws-1"
    assert refused(desk, arguments) == "broker.inventory_absent"
    assert fails(desk, [*opening(desk), "--key", tmp_path / "none"], 6)
    assert fails(desk, [*opening(desk), "--key", desk.folder / "g.json"], 2)
    for subject in ("host:north-lab/none", "party:none", "grant:g-0123456789abcdef"):
        assert fails(desk, ["suspend", subject, "--reason", "x"], 6) == "containment.no_subject"
    assert fails(desk, ["suspend", "nonsense", "--reason", "x"], 2) == "id.subject"
    assert fails(desk, ["suspend", f"host:{HOST}", "--reason", "  "], 2) == "containment.reason"
    assert fails(desk, ["lift", f"host:{HOST}", "--reason", "x"], 7) == "containment.not_held"


# --- inventories -------------------------------------------------------------------------------------


def _spool(folder: Path, environment: Path, *more: str) -> Path:
    run_agent(environment, HOST, "main", folder, *more)  # type: ignore[arg-type]  # a host's id
    return folder


def test_inventory_messages_that_are_not_the_hosts_own(desk: Desk, tmp_path: Path) -> None:
    environment, key = make_environment_of(tmp_path / "env", Installed("rich", "15.0.0")), desk.home / "keys" / "hosts"
    spool = _spool(tmp_path / "spool", environment)
    bring = ["inventory", "import", HOST, spool]
    assert fails(desk, bring, 2) == "inventory.unsigned"
    assert fails(desk, [*bring, "--key", key / "quill-works" / "ws-1"], 4) == "ledger.sshsig_key"
    signed = _spool(tmp_path / "signed", environment, "--key", str(key / HOST))
    (message,) = signed.glob("*.json")
    sound = message.read_bytes()
    message.write_bytes(sound.replace(b'"rich"', b'"poor"', 1))
    assert fails(desk, ["inventory", "import", HOST, signed], 4) == "ledger.sshsig_signature"
    message.write_bytes(sound)
    assert fails(desk, ["inventory", "import", "quill-works/ws-1", signed], 4) == "ledger.sshsig_key"
    assert fails(desk, ["inventory", "import", "quill-works/none", signed], 6) == "inventory.host_unknown"
    assert fails(desk, ["inventory", "import", HOST, tmp_path / "none"], 6) == "cli.spool"
    desk("inventory", "import", HOST, signed)
    desk("inventory", "record", HOST, "--environment", desk.folder / "env")


def test_an_inventory_from_the_future_is_refused_and_the_next_one_is_not(desk: Desk) -> None:
    record = ["inventory", "record", HOST, "--environment", desk.folder / "env"]
    assert fails(desk, [*record, "--at", "2200-01-01T00:00:00Z"], 2) == "inventory.future"
    assert desk.json(*record)["messages"][0]["kind"] == "report"
    assert fails(desk, [*record, "--at", "noon"], 2) == "inventory.agent"
    assert fails(desk, [*record[:-1], desk.folder / "none"], 2) == "inventory.agent"
    for name in ("../../..", "..", "A", ""):
        assert fails(desk, [*record, "--name", name], 2) == "cli.environment"
    assert desk.home.is_dir()


# --- advisories --------------------------------------------------------------------------------------


def test_a_broken_advisory_does_not_stop_the_others(desk: Desk, tmp_path: Path) -> None:
    other, folder = desk.copy(tmp_path / "desk"), tmp_path / "advisories"
    shutil.copytree(incident_advisories(tmp_path / "made"), folder)
    good = len(list(folder.glob("*.json")))
    (folder / "broken.json").write_text('{"id": "X-1", "affected": ')
    (folder / "twice.json").write_text('{"id": "X-2", "id": "X-3"}')
    (folder / "other.json").write_text('{"name": "neither"}')
    said = other("advisory", "add", folder, code=2)
    assert said.out.count("NOT READ") == 3
    assert said.out.count("findings (entry") == good
    document = other("advisory", "add", folder, "--json", code=2).document
    assert sorted(Path(one["file"]).name for one in document["failed"]) == ["broken.json", "other.json", "twice.json"]
    assert all(one["known"] for one in document["advisories"])
    only = tmp_path / "only"
    only.mkdir()
    (only / "broken.json").write_text("{")
    assert fails(other, ["advisory", "add", only], 2) == "inventory.no_advisories"
    assert fails(other, ["advisory", "add", tmp_path / "none"], 6) == "inventory.advisory_path"


TRAP: dict[str, Any] = {
    "id": "MAL-2026-0000-ORIGINS-TRAP",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "mistralai"}, "versions": ["2.4.6"]}],
    "database_specific": {"malicious-packages-origins": [{"source": "test", "versions": ["2.4.5", "2.4.6"]}]},
}


def test_the_trap_record_marks_one_version_alone(desk: Desk, tmp_path: Path) -> None:
    other, trap = desk.copy(tmp_path / "desk"), INCIDENT / "MAL-2026-0000-ORIGINS-TRAP.json"
    if not trap.is_file():
        trap = tmp_path / "MAL-2026-0000-ORIGINS-TRAP.json"
        trap.write_text(json.dumps(TRAP))
    for version in ("2.4.5", "2.4.6"):
        environment = make_environment_of(tmp_path / version, Installed("mistralai", version))
        other("inventory", "record", HOST, "--environment", environment, "--name", f"v{version}")
    assert other.json("advisory", "add", trap)["advisories"][0]["findings"] == 1
    found = {
        one["environment"]: [finding["version"] for finding in one["findings"]]
        for one in other.json("inventory", "show", HOST)["inventories"]
    }
    assert found == {"main": [], "v2.4.5": [], "v2.4.6": ["2.4.6"]}
    later = make_environment_of(tmp_path / "later", Installed("mistralai", "2.4.5"), Installed("certifi", "2026.2.25"))
    assert other.json("inventory", "record", HOST, "--environment", later, "--name", "later")["findings"] == 0
    assert refused(other, opening(other)) == "broker.inventory_unclean"


# --- terminals ---------------------------------------------------------------------------------------

HOSTILE = "\x1b]0;owned\x07\x1b[31m \x9b2J \r\n fake: line \u202e \x7f"


def _is_quiet(said: Said) -> None:
    for text in (said.out, said.err):
        assert text.replace("\n", "").isprintable(), text


def test_what_others_wrote_never_reaches_the_terminal_raw(desk: Desk, tmp_path: Path) -> None:
    other = desk.copy(tmp_path / "desk")
    environment = make_environment_of(tmp_path / "env", Installed("litellm", "1.82.8"))
    metadata = next(environment.rglob("litellm-1.82.8.dist-info/METADATA"))
    metadata.write_text("Name: litellm\nVersion: 1.82.8\nRequires-Dist: a\x1b[31m\n")
    (metadata.parent / f"{HOSTILE.replace('/', '')}.pth").write_text("import sys\n")
    advisory = {"id": "X-1", "summary": HOSTILE, "details": HOSTILE, "aliases": [HOSTILE]}
    advisory["affected"] = [{"package": {"ecosystem": "PyPI", "name": "litellm"}, "versions": ["1.82.8", HOSTILE]}]
    (tmp_path / "X-1.json").write_text(json.dumps(advisory))
    listing = {
        "X-2.json": {"windows": [{"source": HOSTILE, "from": "2026-03-24T10:39:00Z", "to": "2026-03-24T16:00:00Z"}]},
    }
    for name, plain in listing.items():
        (tmp_path / name).write_text(json.dumps(plain))
    typed = [
        ["inventory", "record", HOST, "--environment", environment],
        ["advisory", "add", tmp_path / "X-1.json", tmp_path / "X-2.json", "--source", HOSTILE],
        ["suspend", f"host:{HOST}", "--reason", HOSTILE],
        *(["log", "show", str(size(other) + number)] for number in range(6)),
        ["host", "list"], ["advisory", "list"], ["advisory", "show", "X-1"], ["inventory", "show", HOST],
        ["log", "list", "--last", "100"], ["exposure", "X-1"], ["grant", "list"], ["fsck"],
    ]  # fmt: skip
    for arguments in typed:
        _is_quiet(other(*arguments))
        if arguments[0] not in {"suspend", "inventory"}:
            quiet = other(*arguments, "--json")
            _is_quiet(quiet)
            assert quiet.document
    entries = other.json("log", "list", "--last", "100")["entries"]
    assert any(one.get("reason") == HOSTILE for one in entries)  # said in full: only its writing is quiet
    failing = [
        (["seal", tmp_path / HOSTILE.replace("/", ""), "--dataset", "quill-works/problems"], 2),
        (["--home", HOSTILE, "log", "list"], 6), ([HOSTILE], 2), (["party", "add", HOSTILE, "--role", "lab"], 2),
        (["party", "add", "p-1", "--role", HOSTILE], 2), (["party", "add", "p-1", "--role", "lab", "--title", HOSTILE], 2),
        (["member", "add", "north-lab", HOSTILE], 2), (["exposure", HOSTILE], 2), (opening(other, HOSTILE), 6),
        (["open", HOSTILE, *opening(other)[2:]], 2), (opening(other), 3), (["--passphrase-file", HOSTILE, *opening(other)], 6),
    ]  # fmt: skip
    for arguments, code in failing:
        _is_quiet(other(*arguments, code=code))
        _is_quiet(other(*arguments, "--json", code=code))
    page = tmp_path / "report.html"
    other("exposure", "X-1", "--html", page)
    assert page.read_text(encoding="utf-8").replace("\n", "").isprintable()


def test_a_file_name_that_is_no_utf_8_is_told_all_the_same(desk: Desk) -> None:
    for more in ((), ("--json",)):
        out = desk.folder / f"receipt-{len(more)}-\udcff"
        assert "receipt" in desk("log", "receipt", "1", "--out", out, *more).out.encode().decode()
        assert out.is_file()
