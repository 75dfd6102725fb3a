"""A contributor's question, as he types it: is my record in this release? And what a stranger can check of the answer."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safehold.ledger.keys import SigningKey
from tests.cli_kit import GSM8K, Desk, make_desk, make_environment_of, write_texts

HOST = "north-lab/trainer"
WHO = ("--host", HOST)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Path]:
    """Two releases of real records: without digests, then with them; and a grant."""
    folder = tmp_path_factory.mktemp("prove")
    desk = make_desk(folder / "desk")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.sweep(HOST, make_environment_of(folder / "env"), now)
    path = GSM8K if GSM8K.exists() else write_texts(folder / "in.jsonl", 900)
    columns = list(json.loads(path.read_text().splitlines()[0]))
    seal = (
        "seal",
        path,
        "--dataset",
        "quill-works/problems",
        "--groups",
        f"first={columns[0]},rest={'+'.join(columns[1:])}",
    )
    desk(*seal)
    assert desk.json(*seal, "--row-digests", "--again")["bytes_sealed_anew"] == 0
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out", desk.folder / "grant.json")
    return desk, path


def _prove(desk: Desk, out: Path, *more: object, version: int = 2) -> tuple[object, ...]:
    name = f"quill-works/problems@{version}"
    return ("prove", "record", name, *WHO, "--grant", desk.folder / "grant.json", "--out", out, *more)


def test_my_record_is_in_it_and_a_stranger_can_check(made: tuple[Desk, Path], tmp_path: Path) -> None:
    desk, path = made
    line = path.read_text().splitlines()[700]
    (tmp_path / "mine.json").write_text(line)
    proved = desk.json(*_prove(desk, tmp_path / "proof.json", "--record", tmp_path / "mine.json"))
    assert proved["place"] == 700
    verifier = desk.json("log", "checkpoint")["verifier"]
    supplier = tmp_path / "supplier.pub"
    supplier.write_text(_supplier_key(desk))
    stranger = make_stranger(tmp_path / "elsewhere")
    found = stranger.json(
        "verify", tmp_path / "proof.json", "--verifier", verifier, "--signer", supplier, "--digest", proved["digest"]
    )
    assert found["record"] == json.loads(line)
    assert (found["place"], found["closed_groups"]) == (700, [])
    assert found["entry"] is not None


def make_stranger(folder: Path) -> Desk:
    """Somebody with no home and no key."""
    return Desk(folder)


def _supplier_key(desk: Desk) -> str:
    return SigningKey.load(desk.home / "keys" / "parties" / "quill-works").public.line


def test_one_group_is_shown_and_the_other_stays_closed(made: tuple[Desk, Path], tmp_path: Path) -> None:
    desk, path = made
    record = json.loads(path.read_text().splitlines()[3])
    first = next(iter(record))
    out = tmp_path / "proof.json"
    desk(*_prove(desk, out, "--where", f"{first}={record[first]}", "--groups", "first"))
    found = desk.json("verify", out)
    assert found["record"] == {first: record[first]}
    assert found["closed_groups"] == ["rest"]
    changed = json.loads(out.read_text())
    changed["record"] += 1
    out.write_text(json.dumps(changed))
    assert desk.error("verify", out, code=4)["code"] == "assembly.proof_record"


def test_what_cannot_be_proved_says_why(made: tuple[Desk, Path], tmp_path: Path) -> None:
    desk, path = made
    out, first = tmp_path / "p.json", next(iter(json.loads(path.read_text().splitlines()[0])))
    where = ("--where", f"{first}=nobody wrote this")
    assert desk.error(*_prove(desk, out, *where, version=1), code=6)["code"] == "assembly.no_row_digests"
    assert desk.error(*_prove(desk, out, *where), code=6)["code"] == "assembly.record_absent"
    assert desk.error(*_prove(desk, out), code=2)["code"] == "assembly.nothing_wanted"
    assert desk.error(*_prove(desk, out, "--where", "novalue"), code=2)["code"] == "cli.where"
    (tmp_path / "bad.json").write_text("[1]")
    assert desk.error(*_prove(desk, out, "--record", tmp_path / "bad.json"), code=2)["code"] == "cli.record"
    assert not out.exists()
    out.write_text("{}")
    assert desk.error(*_prove(desk, out, *where), code=7)["code"] == "cli.out_exists"
    assert desk.error("verify", out, code=4)["code"] == "assembly.proof_form"


def _match(desk: Desk, file: Path, *more: object, version: int = 1) -> tuple[object, ...]:
    name = f"quill-works/problems@{version}"
    return ("prove", "match", file, name, *WHO, "--grant", desk.folder / "grant.json", *more)


def test_a_leak_is_matched_with_a_release_without_digests_and_none_that_is_not_in_it(
    made: tuple[Desk, Path], tmp_path: Path
) -> None:
    desk, path = made
    lines = path.read_text().splitlines()
    first = next(iter(json.loads(lines[0])))
    changed = json.loads(lines[8]) | {first: "never written"}
    leak = tmp_path / "leak.jsonl"
    leak.write_text("\n".join([lines[5], json.dumps(changed), lines[400], lines[5]]) + "\n")
    out = tmp_path / "m.jsonl"
    found = desk.json(*_match(desk, leak, "--out", out))
    assert (found["records"], found["records_in_release"], found["release_records_found"]) == (4, 3, 2)
    assert found["places"] == [5, 400]
    assert sum(found["parts"].values()) == 2
    assert [json.loads(line)["lines"] for line in out.read_text().splitlines()] == [[0, 3], [2]]
    assert desk.error(*_match(desk, leak, "--out", out), code=7)["code"] == "cli.out_exists"
    some = tmp_path / "some.jsonl"  # a leak of one column, of which one group alone is asked for
    some.write_text(json.dumps({first: json.loads(lines[7])[first], "more": 1}) + "\n")
    found = desk.json(*_match(desk, some, "--groups", "first", version=2))
    same = [n for n, line in enumerate(lines) if json.loads(line)[first] == json.loads(lines[7])[first]]
    assert (found["columns"], found["records_in_release"], found["places"]) == ([first], 1, same[:20])


def test_a_leak_with_nothing_in_common_costs_no_key_release(made: tuple[Desk, Path], tmp_path: Path) -> None:
    desk, _ = made
    other = tmp_path / "other.jsonl"
    other.write_text('{"x": 1}\n')
    before = desk.json("log", "checkpoint")["size"]
    assert desk.error(*_match(desk, other), code=2)["code"] == "assembly.nothing_common"
    assert desk.json("log", "checkpoint")["size"] == before


def test_a_dataset_that_asks_for_the_members_signature_is_read_with_it(made: tuple[Desk, Path], tmp_path: Path) -> None:
    desk = made[0].copy(tmp_path / "desk")
    member = desk.json("member", "add", "north-lab", "Ada Byron")["member"]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ada"], check=True)
    desk("member", "key", member, "--key", tmp_path / "ada.pub")
    (tmp_path / "policy.toml").write_text('[[dataset]]\nname = "quill-works/problems"\nmember_signature = true\n')
    desk("policy", "set", tmp_path / "policy.toml")
    reads = ("--host", HOST, "--grant", desk.folder / "grant.json")
    compare = ("diff", "quill-works/problems@1", "quill-works/problems@2", *reads)
    assert desk.error(*compare, code=3)["code"] == "broker.member_needed"
    assert desk.error(*compare, "--member", member, code=3)["code"] == "broker.member_unproven"
    by_member = ("--member", member, "--member-key", tmp_path / "ada")
    assert desk.json(*compare, *by_member)["changed"] == 0
    (tmp_path / "mine.json").write_text(made[1].read_text().splitlines()[0])
    asked = ("--record", tmp_path / "mine.json", *by_member)
    assert desk.json(*_prove(desk, tmp_path / "proof.json", *asked))["place"] == 0
    assert desk.json("prove", "match", made[1], "quill-works/problems@2", *reads, *by_member)["records_in_release"]


def test_releases_that_lie_in_a_store_alone_are_compared_and_proved(made: tuple[Desk, Path], tmp_path: Path) -> None:
    desk, path = made[0].copy(tmp_path / "desk"), made[1]
    store, reads = tmp_path / "store", ("--host", HOST, "--grant", desk.folder / "grant.json")
    lines = path.read_text().splitlines()
    (tmp_path / path.name).write_text("\n".join(lines[:-3]) + "\n")
    columns = list(json.loads(lines[0]))
    groups = f"first={columns[0]},rest={'+'.join(columns[1:])}"
    seal = ("seal", tmp_path / path.name, "--dataset", "quill-works/problems", "--groups", groups)
    desk(*seal, "--store", store, "--no-copy", "--row-digests")
    compare = ("diff", "quill-works/problems@2", "quill-works/problems@3", *reads)
    found = desk.json(*compare)
    assert (found["removed"], found["added"], found["unchanged"]) == (3, 0, len(lines) - 3)
    where = store / "quill-works" / "problems" / "3"
    assert desk.json("diff", "quill-works/problems@2", where, *reads)["removed"] == 3
    (tmp_path / "mine.json").write_text(lines[5])
    proved = desk.json(*_prove(desk, tmp_path / "proof.json", "--record", tmp_path / "mine.json", version=3))
    assert proved["place"] == 5
    told = ("--verifier", desk.json("log", "checkpoint")["verifier"], "--digest", proved["digest"])
    (tmp_path / "supplier.pub").write_text(_supplier_key(desk))
    assert desk.json("verify", tmp_path / "proof.json", *told, "--signer", tmp_path / "supplier.pub")["record"]
    matched = desk.json("prove", "match", path, "quill-works/problems@3", *reads)
    assert matched["records_in_release"] == len({*lines[:-3]})
    shutil.rmtree(store)
    assert desk.error(*compare, code=6)["code"] == "vault.release_missing"
