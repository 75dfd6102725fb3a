"""``kill -9`` in the middle of appending, again and again: every entry that was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from safehold.ledger.fsck import check_ledger
from safehold.model.statements import decode
from safehold.state.projection import digest_projections, rebuild
from tests.ledger_kit import VERIFIER, open_log
from tests.outsider_kit import read_as_outsider

KILLS = 200 if os.environ.get("NIGHTLY") else 12  # `make nightly`
ROOT = Path(__file__).parents[3]
APPEND_FOR_EVER = """
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from safehold.ledger.async_log import AsyncLog
from tests.ledger_kit import open_log, party
log = open_log(Path(sys.argv[1]))
def work(worker):
    number = int(sys.argv[2]) * 1000000 + worker * 100000
    while True:
        entries = log.append_statements(*(party(number + more) for more in range(number % 3 + 1)))
        os.write(1, b"".join(b"%d %d\\n" % (entry.index, entry.statement.t) for entry in entries))
        number += 3
async def task(face, worker):
    number = int(sys.argv[2]) * 1000000 + worker * 100000
    while True:
        entries = await face.append_statements(*(party(number + more) for more in range(number % 3 + 1)))
        os.write(1, b"".join(b"%d %d\\n" % (entry.index, entry.statement.t) for entry in entries))
        number += 3
async def tasks():
    async with AsyncLog(log) as face:
        await asyncio.gather(*(task(face, worker) for worker in range(8)))
if sys.argv[3] == "tasks":
    asyncio.run(tasks())
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(4)))
"""


def test_kill_9_again_and_again(tmp_path: Path) -> None:
    chance = random.Random()
    acknowledged: dict[int, int] = {}
    for kill in range(KILLS):
        running = subprocess.Popen(
            [sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path), str(kill), ("threads", "tasks")[kill % 2]],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=subprocess.PIPE,
        )
        assert running.stdout is not None
        said = b""
        wanted = chance.randrange(1, 2000)
        while len(said) < wanted:
            read = os.read(running.stdout.fileno(), 4096)
            assert read, "the process ended by itself"
            said += read
        running.send_signal(signal.SIGKILL)
        said += running.stdout.read()
        running.stdout.close()
        assert running.wait() == -signal.SIGKILL
        for line in said.split(b"\n")[:-1]:
            index, t = map(int, line.split())
            assert acknowledged.setdefault(index, t) == t, "one place, one entry"

        stored = [decode(body).t for body in read_as_outsider(tmp_path / "ledger.db", VERIFIER.text)]
        log = open_log(tmp_path)
        assert log.read_only is None
        log.close()
        assert {index: stored[index] for index in acknowledged} == acknowledged
        assert len(set(stored)) == len(stored), "nothing appears twice"
    log = open_log(tmp_path)
    with log.view() as view:
        assert check_ledger(view, VERIFIER) == []
        kept = digest_projections(view)
    with log.write() as transaction:
        rebuild(transaction)
        assert digest_projections(transaction) == kept
    log.close()
    assert len(acknowledged) >= 10 * KILLS
