"""Power cuts and failing disks below a witness: what it cosigned, it knows; and what it cannot keep, it does not cosign."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from safehold.ledger.cosignature import Cosigner
from safehold.ledger.evidence import EvidenceFolder
from safehold.ledger.witness import Witness
from safehold.ledger.witness_state import WitnessState
from safehold.model.errors import SafeholdError, StorageFailed
from tests.ledger_kit import ORIGIN, VERIFIER, memory_folder
from tests.vfs_kit import Disk, Fault, as_written, disk, images
from tests.witness_kit import WITNESS_KEY, WITNESS_NAME, ShownLog, entries

IMAGES = 120
LOG = ShownLog(entries(90))


class _Weaker(WitnessState):
    """A state whose commits are not made durable."""

    def _open(self) -> apsw.Connection:
        connection = super()._open()
        connection.pragma("synchronous", 0)
        return connection


def _witness(
    folder: Path, state: Callable[..., WitnessState], made: Disk | None = None
) -> tuple[Witness, WitnessState]:
    opened = state(folder / "state.db", vfs=made.vfs_name if made else None)
    witness = Witness(opened, [Cosigner.ed25519(WITNESS_NAME, WITNESS_KEY)], EvidenceFolder(folder / "e"), lambda: 0)
    return witness, opened


def _play(folder: Path, made: Disk, state: Callable[..., WitnessState]) -> list[tuple[Any, ...]]:
    folder.mkdir()
    witness, opened = _witness(folder, state, made)
    witness.add_log(VERIFIER)
    for size in range(1, 91):
        witness.add_checkpoint(LOG.request(size - 1, size))
        made.ack(size)  # the cosignature is out
    opened.close()
    return made.record


def _verdict(files: dict[str, bytes], acknowledged: int, folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    try:
        witness, opened = _witness(folder, WitnessState)
        latest = witness.latest(ORIGIN)
        opened.close()
    except (SafeholdError, apsw.Error):
        return "corrupt"
    if latest.size < acknowledged:
        return "forgot"
    return "sound" if latest.root == LOG.tree.roots[latest.size] else "corrupt"


def _prove(state: Callable[..., WitnessState], count: int, seed: int) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    with memory_folder() as folder, disk(f"witness-{state.__name__}-{seed}") as made:
        record = _play(folder / "run", made, state)
        for acknowledged, files in images(record, count, random.Random(seed)):
            verdicts[_verdict(files, acknowledged, folder / "image")] += 1
    return verdicts


def test_no_power_cut_makes_a_witness_forget() -> None:
    seed = random.SystemRandom().randrange(1 << 32)  # another one each time; a failure prints it
    assert _prove(WitnessState, IMAGES, seed) == {"sound": IMAGES}, f"seed {seed}"


def test_the_prover_sees_a_witness_that_forgets() -> None:
    verdicts = _prove(_Weaker, 40, 1)
    assert verdicts["forgot"] + verdicts["corrupt"] >= 10


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
def test_each_failing_write_in_turn(error: type[apsw.Error]) -> None:
    """Cosigned means known to whoever opens the file next; refused means that asking again is enough."""
    outcomes: Counter[str] = Counter()
    with memory_folder() as folder, disk(f"failing-{error.__name__}") as made:
        for at in range(1, 60):
            home = folder / str(at)
            home.mkdir()
            witness, opened = _witness(home, WitnessState, made)
            witness.add_log(VERIFIER)
            witness.add_checkpoint(LOG.request(0, 3))
            made.fault = Fault(error, at)
            try:
                witness.add_checkpoint(LOG.request(3, 7))
                outcome = "cosigned"
            except StorageFailed:
                outcome = "refused"
            fault, made.fault = made.fault, None
            outcomes[outcome] += 1
            opened.close()
            again, reopened = _witness(home, WitnessState)
            known = again.latest(ORIGIN).size
            assert known == 7 if outcome == "cosigned" else known in {3, 7}
            assert again.add_checkpoint(LOG.request(known, 7))
            reopened.close()
            if not fault.failed:
                break
    assert outcomes["refused"] >= 2
    assert outcomes["cosigned"] >= 1


def test_the_record_is_of_what_was_meant(tmp_path: Path) -> None:
    with disk("witness-record") as made:
        record = _play(tmp_path / "run", made, WitnessState)
    assert Counter(one[:2] for one in record if one[0] == "sync")["sync", "state.db-wal"] >= 90, (
        "one sync a cosignature"
    )
    assert "state.db" in as_written(record)
