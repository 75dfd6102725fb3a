"""Power cuts: whatever moment they come at, the ledger opens, is whole, and holds every acknowledged entry.

And the prover is shown to be one: with weaker settings of SQLite it finds what is lost.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import apsw

from safehold.ledger.fsck import check_ledger
from safehold.ledger.log import Draft
from safehold.ledger.sqlite import SqliteStore
from safehold.ledger.tree import Frontier, leaf_hash
from safehold.model.errors import SafeholdError
from safehold.model.statements import encode
from safehold.state.projection import digest_projections, rebuild
from tests.ledger_kit import CONTENTS, VERIFIER, memory_folder, one_of_each, open_log, party
from tests.vfs_kit import Disk, DiskStore, disk, images

IMAGES = 10_000 if os.environ.get("NIGHTLY") else 400  # `make nightly`
BODIES = [encode(one) for one in (*one_of_each().values(), *(party(number) for number in range(292)))]


def _play(folder: Path, recorder: Disk, synchronous: int) -> list[tuple[Any, ...]]:
    """Append 310 entries in groups of different sizes, twice closed and opened again; return what the disk saw."""
    chance = random.Random(7)
    statements = [*one_of_each().values(), *(party(number) for number in range(292))]
    done = 0
    while done < len(statements):
        log = open_log(folder, lambda path: DiskStore(path, recorder, synchronous=synchronous))
        for _ in range(60):
            group = tuple(statements[done : done + chance.choice((1, 1, 1, 2, 5, 12))])
            if not group:
                break
            log.append(lambda _view, made=group: Draft(made, (CONTENTS, bytes(chance.randrange(3000)))))
            done += len(group)
            recorder.ack(done)
        log.close()
    return recorder.record


def _verdict(files: dict[str, bytes], acknowledged: int, folder: Path, *, deep: bool) -> str:
    """``sound``, or what is wrong with what the power cut left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    try:
        connection = apsw.Connection(str(folder / "ledger.db"))
        checked = connection.pragma("integrity_check")
        connection.close()
        if checked != "ok":
            return "corrupt"
        log = open_log(folder)
    except (apsw.Error, SafeholdError):
        return "corrupt"
    try:
        with log.view() as view:
            bodies = view.bodies(0, view.size())
            frontier = Frontier()
            for body in bodies:
                frontier.append(leaf_hash(body), {})
            if bodies != BODIES[: len(bodies)] or (bodies and log.checkpoint().root != frontier.root()):
                return "corrupt"
            if deep and check_ledger(view, VERIFIER):
                return "corrupt"
            if deep and digest_projections(view) != _folded_again(log):
                return "corrupt"
            return "sound" if len(bodies) >= acknowledged else "lost"
    except SafeholdError:
        return "corrupt"
    finally:
        log.close()


def _folded_again(log: Any) -> str:
    with log.write() as transaction:
        rebuild(transaction)
        return digest_projections(transaction)


def _prove(synchronous: int, count: int, seed: int) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    with memory_folder() as folder, disk(f"power-{synchronous}-{seed}") as recorder:
        record = _play(folder / "run", recorder, synchronous)
        for number, (acknowledged, files) in enumerate(images(record, count, random.Random(seed))):
            verdicts[_verdict(files, acknowledged, folder / "image", deep=number % 8 == 0)] += 1
    return verdicts


def test_no_power_cut_loses_or_bends_anything() -> None:
    seed = random.SystemRandom().randrange(1 << 32)  # another one each time; a failure prints it
    assert _prove(2, IMAGES, seed) == {"sound": IMAGES}, f"seed {seed}"


def test_the_prover_sees_what_synchronous_normal_loses() -> None:
    verdicts = _prove(1, 80, 1)
    assert verdicts["lost"] >= 8
    assert verdicts["corrupt"] == 0, "NORMAL loses, but does not corrupt"


def test_the_prover_sees_what_synchronous_off_destroys() -> None:
    verdicts = _prove(0, 80, 1)
    assert verdicts["corrupt"] + verdicts["lost"] >= 40
    assert verdicts["corrupt"] >= 1


def test_the_record_is_of_what_was_meant(tmp_path: Path) -> None:
    with disk("power-record") as recorder:
        record = _play(tmp_path, recorder, 2)
    kinds = Counter((operation[0], operation[1]) for operation in record if operation[0] != "ack")
    assert kinds["sync", "ledger.db-wal"] >= 60, "one sync a commit"
    assert kinds["write", "ledger.db"] >= 100, "and checkpoints into the file itself"
    assert kinds["delete", "ledger.db-wal"] >= 2, "and the log was closed and opened again"
    assert record[-1][0] != "ack"
    store = SqliteStore(tmp_path / "ledger.db")
    with store.read() as view:
        assert view.bodies(0, 400) == BODIES
    store.close()
