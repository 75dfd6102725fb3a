"""Releases in stores of either kind: published once, whole, found again; and what does not fit is refused by name."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from safehold.model.errors import Conflict, NotFound, StorageFailed, VerificationFailed
from safehold.vault.open import open_release
from safehold.vault.output import write_jsonl
from safehold.vault.seal import SealOptions
from safehold.vault.store import Store
from safehold.vault.stored_release import (
    ORPHAN_AGE,
    countersign_stored,
    fetch_release,
    find_orphans,
    load_stored,
    publish_folder,
    remove_orphans,
    verify_stored,
)
from tests.object_store_kit import fresh_store
from tests.vault_kit import LAB, SUPPLIER, Sealed, outcome, seal, write_lines

RECORDS = [{"question": f"How much is {n} + {n}?", "answer": str(n + n), "tag": f"t{n % 7}"} for n in range(600)]
GROUPS = {"text": ["question", "tag"], "labels": ["answer"]}
OPTIONS = SealOptions(part_rows=100, cut_key=b"k" * 32)


def _now() -> int:
    return time.time_ns() // 1000


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return fresh_store(request.param, tmp_path)


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    return _seal(tmp_path, "r")


def _seal(folder: Path, name: str, **more: Any) -> Sealed:
    path = folder / f"{name}.jsonl"
    write_lines(path, RECORDS)
    return seal(path, folder / name, groups=GROUPS, options=OPTIONS, **more)


def _names(sealed: Sealed) -> set[str]:
    """What a release puts below ``parts``: its part files and its sidecars, by digest."""
    made = (*sealed.manifest.parts, *sealed.manifest.sidecars)
    return {"parts/" + one.sha256.removeprefix("sha256:") for one in made}


class _Wrapped:
    """A store of which single calls are replaced."""

    def __init__(self, store: Store, **replaced: Any) -> None:
        self._store = store
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._store, name)


def test_published_verified_fetched_and_opened(store: Store, sealed: Sealed, tmp_path: Path) -> None:
    seen: list[int] = []
    stored = publish_folder(sealed.folder, store, _now(), seen.append)
    assert seen[-1] == sealed.manifest.size + sum(one.size for one in sealed.manifest.sidecars)
    assert (stored.digest, stored.version) == (sealed.release, "1")
    report = verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)
    assert (report.files, report.size, report.signers) == (
        len(sealed.manifest.parts),
        sealed.manifest.size,
        (SUPPLIER.key_id,),
    )
    folder = fetch_release(stored, tmp_path / "fetched")
    opened = open_release(folder, sealed.release, sealed.keys, ["text", "labels"])
    written = write_jsonl(opened, tmp_path / "out.jsonl")
    assert written.as_source
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "r.jsonl").read_bytes()


def test_only_the_groups_asked_for_are_fetched(store: Store, sealed: Sealed, tmp_path: Path) -> None:
    folder = fetch_release(publish_folder(sealed.folder, store, _now()), tmp_path / "f", ["labels"])
    assert sorted(os.listdir(folder)) == [
        *sorted(part.file for part in sealed.manifest.files(["labels"])),
        *sorted(["manifest.json", *(one.name for one in sealed.manifest.sidecars)]),
    ]
    keys = {name: key for name, key in sealed.keys.items() if "labels" in name}
    assert [r["answer"] for r in open_release(folder, sealed.release, keys, ["labels"]).records()] == [
        record["answer"] for record in RECORDS
    ]


def test_publishing_again_changes_nothing(store: Store, sealed: Sealed) -> None:
    publish_folder(sealed.folder, store, _now())
    before = sorted((one.name, one.size) for one in store.list())
    broken = _Wrapped(store, upload=None, create=None)
    assert publish_folder(sealed.folder, broken, _now()).digest == sealed.release  # type: ignore[arg-type]  # a stand-in
    assert sorted((one.name, one.size) for one in store.list()) == before


def test_of_two_sealers_of_one_version_one_wins(store: Store, tmp_path: Path) -> None:
    rivals = [_seal(tmp_path, f"rival-{n}") for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda one: outcome(lambda: publish_folder(one.folder, store, _now()))[1], rivals))
    assert sorted(told) == [""] + ["vault.release_exists"] * 5
    winner = rivals[told.index("")]
    verify_stored(store, "1", SUPPLIER.public, expected=winner.release)
    orphans = find_orphans(store, _now() + 10, age=0)
    lost = set().union(*(_names(one) for one in rivals if one is not winner)) - _names(winner)
    assert {one.name for one in orphans} == lost
    assert find_orphans(store, _now()) == []  # too young: their sealer may be at work
    assert find_orphans(store, _now() + 2 * ORPHAN_AGE) == orphans
    assert remove_orphans(store, orphans) == sum(one.size for one in orphans)
    verify_stored(store, "1", SUPPLIER.public, expected=winner.release)
    assert find_orphans(store, _now() + 2 * ORPHAN_AGE) == []


def test_a_publisher_that_dies_before_the_manifest_has_published_nothing(store: Store, sealed: Sealed) -> None:
    def die(name: str, data: bytes) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_folder(sealed.folder, _Wrapped(store, create=die), _now())  # type: ignore[arg-type]  # a stand-in
    with pytest.raises(NotFound) as missing:
        load_stored(store, "1")
    assert missing.value.code == "vault.release_missing"
    uploads: list[str] = []
    counted = _Wrapped(store, upload=lambda name, path: uploads.append(name))
    publish_folder(sealed.folder, counted, _now())  # type: ignore[arg-type]  # a stand-in
    assert uploads == []  # what was there was kept
    verify_stored(store, "1", SUPPLIER.public, expected=sealed.release)


def test_old_parts_that_nobody_names_are_uploaded_anew(store: Store, sealed: Sealed) -> None:
    publish_folder(sealed.folder, store, _now())
    store.delete("1/manifest.json")
    uploads: list[str] = []

    def upload(name: str, path: Path) -> None:
        uploads.append(name)
        store.upload(name, path)

    publish_folder(sealed.folder, _Wrapped(store, upload=upload), _now() + ORPHAN_AGE)  # type: ignore[arg-type]  # a stand-in
    assert set(uploads) == _names(sealed)


def test_a_part_that_vanishes_after_its_upload_stops_publishing(store: Store, sealed: Sealed) -> None:
    lossy = _Wrapped(store, upload=lambda name, path: None)
    with pytest.raises(StorageFailed) as lost:
        publish_folder(sealed.folder, lossy, _now())  # type: ignore[arg-type]  # a stand-in
    assert lost.value.code == "vault.store_lost"
    assert list(store.list()) == []


def test_a_cleaner_leaves_what_was_published_meanwhile(store: Store, sealed: Sealed) -> None:
    publish_folder(sealed.folder, store, _now())
    manifest, _ = store.read("1/manifest.json", 1 << 20)
    store.delete("1/manifest.json")
    orphans = find_orphans(store, _now() + 10, age=0)
    store.create("1/manifest.json", manifest)
    assert {one.name for one in orphans} == _names(sealed)
    assert remove_orphans(store, orphans) == 0


def test_a_cleaner_stops_at_a_manifest_that_it_cannot_read(store: Store, sealed: Sealed) -> None:
    publish_folder(sealed.folder, store, _now())
    store.create("2/manifest.json", b"{}")
    with pytest.raises(VerificationFailed):
        find_orphans(store, _now() + 2 * ORPHAN_AGE)


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "lose", "swap"])
def test_parts_that_are_not_what_was_sealed(store: Store, sealed: Sealed, tmp_path: Path, harm: str) -> None:
    stored = publish_folder(sealed.folder, store, _now())
    names = ["parts/" + part.sha256.removeprefix("sha256:") for part in sealed.manifest.parts]
    size = sealed.manifest.parts[0].size
    data = bytearray(store.read_range(names[0], 0, size))
    data[size // 2] ^= 1
    forms = {"flip": bytes(data), "cut": bytes(data[:-1]), "grow": store.read_range(names[0], 0, size) + b"x",
             "swap": store.read_range(names[1], 0, 1 << 20)}  # fmt: skip
    store.delete(names[0])
    if harm != "lose":
        store.create(names[0], forms[harm])
    expected = {"cut": {"vault.part_truncated"}, "lose": {"vault.part_missing"}}.get(
        harm, {"vault.part_altered", "vault.part_truncated"} if harm == "swap" else {"vault.part_altered"}
    )
    for number, call in enumerate((
        lambda: verify_stored(store, "1", SUPPLIER.public),
        lambda: fetch_release(stored, tmp_path / "fetched"),
    )):  # fmt: skip
        code = outcome(call)[1]
        assert code in expected, number
    assert not (tmp_path / "fetched" / "manifest.json").exists()
    assert not (tmp_path / "fetched" / sealed.manifest.parts[0].file).exists()


def test_another_release_in_its_place_and_another_signer(store: Store, sealed: Sealed, tmp_path: Path) -> None:
    publish_folder(sealed.folder, store, _now())
    other = _seal(tmp_path, "other")
    assert (
        outcome(lambda: verify_stored(store, "1", SUPPLIER.public, expected=other.release))[1] == "vault.other_release"
    )
    assert outcome(lambda: verify_stored(store, "1", LAB.public))[1] == "vault.manifest_unsigned"
    with pytest.raises(Conflict):
        publish_folder(other.folder, store, _now())


def test_countersigners_at_once_all_stand(store: Store, sealed: Sealed) -> None:
    publish_folder(sealed.folder, store, _now())
    signers = [LAB, *(type(LAB).generate() for _ in range(3))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: countersign_stored(store, "1", one), signers))
    report = verify_stored(store, "1", SUPPLIER.public, [one.public for one in signers], sealed.release)
    assert len(report.signers) == 5


def test_no_secret_is_in_what_is_stored(store: Store, sealed: Sealed) -> None:
    publish_folder(sealed.folder, store, _now())
    for one in store.list():
        data = store.read_range(one.name, 0, one.size)
        assert b"test-key-id" not in data
        assert b"test-secret" not in data
        for key in sealed.keys.values():
            assert key not in data
        if one.name in {f"parts/{part.sha256.removeprefix('sha256:')}" for part in sealed.manifest.parts}:
            assert b"How much" not in data
            assert b"question" not in data
