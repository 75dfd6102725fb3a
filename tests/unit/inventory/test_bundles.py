"""Signed bundles: taken from who is trusted, whole, and never from before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safehold.inventory.bundles import NAMESPACE, make_bundle
from safehold.inventory.intake import Intake
from safehold.inventory.syncing import Syncing
from safehold.ledger import sshsig
from safehold.ledger.keys import SigningKey
from safehold.ledger.log import Log
from safehold.ledger.source import FolderSource
from safehold.model.errors import SafeholdError
from tests.ledger_kit import open_log

FEED, OTHER = SigningKey.generate(), SigningKey.generate()
TRAP = {
    "id": "MAL-2026-0000-TRAP",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "mistral"}, "versions": ["2.4.6"]}],
    "database_specific": {"malicious-packages-origins": [{"versions": ["1.0.0", "2.4.6"]}]},
}


@pytest.fixture
def log(tmp_path: Path):
    (tmp_path / "log").mkdir()
    opened = open_log(tmp_path / "log")
    _syncing(opened).trust("nobody", SigningKey.generate().public)
    yield opened
    opened.close()


def _syncing(log: Log) -> Syncing:
    by = log.verifier.key.key_id
    return Syncing(log, Intake(log, lambda: 10, by), lambda: 10, by)


def _bundle(folder: Path, number: int, key: SigningKey = FEED, **advisories: dict) -> FolderSource:
    files, out = folder / f"files-{number}", folder / f"bundle-{number}"
    files.mkdir(exist_ok=True)
    for name, plain in (advisories or {"trap": TRAP}).items():
        (files / f"{name}.json").write_text(json.dumps(plain))
    make_bundle(files, out, ("feed", number, 1000 + number), key)
    return FolderSource(out)


def _code(syncing: Syncing, tree: FolderSource, log: Log) -> str:
    before = log.checkpoint().size
    with pytest.raises(SafeholdError) as caught:
        syncing.sync(tree)
    assert log.checkpoint().size == before, "nothing was taken in"
    return caught.value.code


def test_a_bundle_is_taken_once_and_its_entry_comes_last(log: Log, tmp_path: Path) -> None:
    syncing = _syncing(log)
    syncing.trust("feed", FEED.public)
    tree = _bundle(tmp_path, 7)
    synced = syncing.sync(tree)
    assert [one.document.advisory for one in synced.taken] == ["MAL-2026-0000-TRAP"]
    assert synced.taken[0].document.claims[0].versions == ("2.4.6",), "the origins name nothing"
    with log.view() as view:
        assert view.rows("SELECT source, number, files, unread FROM advisory_sync") == [("feed", 7, 1, 0)]
        assert view.rows("SELECT source FROM advisory") == [("feed 7",)]
    size = log.checkpoint().size
    again = syncing.sync(tree)
    assert (again.known, again.taken, log.checkpoint().size) == (True, (), size)


def test_unsigned_foreign_and_altered_bundles_are_refused(log: Log, tmp_path: Path) -> None:
    syncing = _syncing(log)
    tree = _bundle(tmp_path, 1)
    assert _code(syncing, tree, log) == "inventory.bundle_key", "nobody trusts it yet"
    syncing.trust("feed", OTHER.public)
    assert _code(syncing, tree, log) == "inventory.bundle_key"
    syncing.trust("feed", FEED.public)
    (tmp_path / "bundle-1" / "bundle.json").write_bytes((tmp_path / "bundle-1" / "bundle.json").read_bytes() + b" ")
    assert _code(syncing, tree, log) == "inventory.bundle_key"
    (tmp_path / "bundle-1" / "bundle.json.sig").unlink()
    assert _code(syncing, tree, log) == "inventory.bundle_unsigned"
    assert _code(syncing, FolderSource(tmp_path / "none"), log) == "inventory.bundle_missing"


def test_a_key_speaks_for_its_own_source_and_use_alone(log: Log, tmp_path: Path) -> None:
    syncing = _syncing(log)
    syncing.trust("another", FEED.public)
    tree = _bundle(tmp_path, 1)
    assert _code(syncing, tree, log) == "inventory.bundle_key"
    syncing.trust("feed", FEED.public)
    data = (tmp_path / "bundle-1" / "bundle.json").read_bytes()
    (tmp_path / "bundle-1" / "bundle.json.sig").write_text(sshsig.sign(FEED, data, "safehold-inventory"))
    assert _code(syncing, tree, log) == "inventory.bundle_key"
    assert NAMESPACE == "safehold-advisories"


def test_a_file_that_is_gone_or_another_refuses_the_whole(log: Log, tmp_path: Path) -> None:
    syncing = _syncing(log)
    syncing.trust("feed", FEED.public)
    tree = _bundle(tmp_path, 1, a=TRAP, b=TRAP | {"id": "MAL-2"})
    (file, _) = sorted((tmp_path / "bundle-1" / "files").iterdir())
    file.write_bytes(file.read_bytes() + b" ")
    assert _code(syncing, tree, log) == "inventory.bundle_file"
    file.unlink()
    assert _code(syncing, tree, log) == "inventory.bundle_file"


def test_an_older_bundle_and_another_of_one_number_are_refused(log: Log, tmp_path: Path) -> None:
    syncing = _syncing(log)
    syncing.trust("feed", FEED.public)
    older = _bundle(tmp_path, 1)
    syncing.sync(_bundle(tmp_path, 2, a=TRAP | {"summary": "changed"}))
    assert _code(syncing, older, log) == "inventory.bundle_rollback"
    (tmp_path / "files-2" / "b.json").write_text(json.dumps(TRAP | {"id": "MAL-2"}))
    make_bundle(tmp_path / "files-2", tmp_path / "bundle-2", ("feed", 2, 1002), FEED)
    assert _code(syncing, FolderSource(tmp_path / "bundle-2"), log) == "inventory.bundle_rollback"


def test_every_version_of_an_advisory_stays_and_a_return_to_an_older_one_is_a_version(log: Log, tmp_path: Path) -> None:
    syncing = _syncing(log)
    syncing.trust("feed", FEED.public)
    for number, text in enumerate(("one", "two", "one"), 1):
        assert len(syncing.sync(_bundle(tmp_path, number, a=TRAP | {"summary": text})).taken) == 1
    with log.view() as view:
        assert [row[0] for row in view.rows("SELECT summary FROM advisory ORDER BY idx")] == ["one", "two", "one"]


@pytest.mark.parametrize(
    "plain",
    [
        {}, {"files": [], "form": "other", "made": 1, "number": 1, "source": "feed"}, [],
        {"files": [], "form": "safehold-advisories-v1", "made": 1, "number": 0, "source": "feed"},
        {"files": [{"digest": "sha256:" + "0" * 64, "name": "../x"}], "form": "safehold-advisories-v1", "made": 1, "number": 1, "source": "feed"},
    ],
)  # fmt: skip
def test_lists_of_another_form_are_refused_although_they_are_signed(log: Log, tmp_path: Path, plain: object) -> None:
    syncing = _syncing(log)
    syncing.trust("feed", FEED.public)
    data = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    (tmp_path / "bundle.json").write_bytes(data)
    (tmp_path / "bundle.json.sig").write_text(sshsig.sign(FEED, data, NAMESPACE))
    assert _code(syncing, FolderSource(tmp_path), log) == "inventory.bundle_form"


def test_a_source_signs_only_what_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(TRAP))
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(SafeholdError, match="no advisory"):
        make_bundle(tmp_path, tmp_path / "out", ("feed", 1, 1), FEED)
    (tmp_path / "b.json").unlink()
    with pytest.raises(SafeholdError, match="name of a source"):
        make_bundle(tmp_path, tmp_path / "out", ("Not A Name", 1, 1), FEED)
