"""The disk fails at each write and each sync of a commit that many tasks share: each task's answer is true."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from itertools import count
from pathlib import Path

import apsw
import pytest

from safehold.ledger.async_log import AsyncLog
from safehold.ledger.log import Log
from safehold.ledger.storage import Entry
from safehold.model.errors import NotAppended, StorageFailed, Uncertain
from safehold.model.statements import decode
from tests.ledger_kit import VERIFIER, memory_folder, open_log, party
from tests.outsider_kit import read_as_outsider
from tests.vfs_kit import Disk, DiskStore, Fault, disk

TASKS = 12
NUMBERS = count()


async def _append_all(log: Log, first: int) -> list[tuple[Entry, ...] | BaseException]:
    async with AsyncLog(log) as face:
        calls = [face.append_statements(party(first + 2 * n), party(first + 2 * n + 1)) for n in range(TASKS)]
        return await asyncio.gather(*calls, return_exceptions=True)


def _play(folder: Path, made: Disk, fault: Fault) -> tuple[list[tuple[Entry, ...] | BaseException], Log]:
    shutil.rmtree(folder, ignore_errors=True)
    log = open_log(folder, lambda path: DiskStore(path, made))
    log.append_statements(*(party(1000 + number) for number in range(250)))  # so that a tile fills in the next commit
    made.fault = fault
    answers = asyncio.run(_append_all(log, 0))
    made.fault = None
    return answers, log


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_each_task_is_told_what_became_of_its_entries(error: type[apsw.Error], lasting: bool) -> None:
    kinds: Counter[str] = Counter()
    with memory_folder() as folder:
        for at in count(1):
            fault = Fault(error, at, lasting=lasting)
            with disk(f"async-fault-{next(NUMBERS)}") as made:
                answers, log = _play(folder / "run", made, fault)
                log.close()
            stored = [decode(body).t for body in read_as_outsider(folder / "run" / "ledger.db", VERIFIER.text)]
            assert stored[:250] == [1000 + number for number in range(250)]
            for n, answer in enumerate(answers):
                mine = [t for t in stored[250:] if t // 2 == n]
                match answer:
                    case (first, second):
                        kinds["done"] += 1
                        assert mine == [2 * n, 2 * n + 1]
                        assert [stored[first.index], stored[second.index]] == mine
                    case NotAppended():
                        kinds["not appended"] += 1
                        assert mine == []
                    case Uncertain() | StorageFailed():
                        kinds["uncertain"] += 1
                        assert mine in ([], [2 * n, 2 * n + 1]), "all of a call or nothing"
                    case _:
                        pytest.fail(f"no answer of ours: {answer!r}")
            if not fault.failed:
                assert kinds["done"] >= TASKS
                break
    assert kinds["not appended"] + kinds["uncertain"] >= 8 * TASKS, "a commit makes at least so many writes"
