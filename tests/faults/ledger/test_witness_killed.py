"""``kill -9`` between the record and the answer, at any moment, and in the middle of following: never two histories."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from safehold.ledger.export import export_ledger
from safehold.ledger.follow import Follower
from safehold.ledger.fsck import check_ledger
from safehold.ledger.source import FolderSource
from safehold.model.errors import SafeholdError
from safehold.state.projection import digest_projections
from tests.ledger_kit import ORIGIN, VERIFIER, open_log, party
from tests.unit.ledger.test_follow import make_replica
from tests.witness_kit import AT, Desk, ShownLog, cosigned, entries, forked

ROOT = Path(__file__).parents[3]
LOG = ShownLog(entries(60))
DIE_BEFORE_THE_ANSWER = """
import os, signal, sys
from pathlib import Path
from safehold.ledger import cosignature
from tests.witness_kit import Desk, ShownLog, entries
cosignature.Cosigner.cosign = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Desk(Path(sys.argv[1])).witness.add_checkpoint(ShownLog(entries(60)).request(int(sys.argv[2]), int(sys.argv[3])))
"""
COSIGN_FOR_EVER = """
import os, sys
from pathlib import Path
from tests.ledger_kit import ORIGIN
from tests.witness_kit import Desk, ShownLog, entries
desk, log = Desk(Path(sys.argv[1])), ShownLog(entries(2000))
while True:
    old = desk.witness.latest(ORIGIN).size
    size = old % 2000 + 1 if old < 2000 else 2000
    desk.witness.add_checkpoint(log.request(old, size))
    os.write(1, b"%d\\n" % size)
"""
FOLLOW_FOR_EVER = """
import os, sys
from pathlib import Path
from safehold.ledger.follow import Follower
from safehold.ledger.source import FolderSource
from tests.unit.ledger.test_follow import make_replica
copy = Path(sys.argv[1])
replica = make_replica(copy)
os.write(1, b"open\\n")
Follower(replica, FolderSource(Path(sys.argv[2])), copy, lambda: 0).step()
os.write(1, b"done\\n")
"""


def _start(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)


def test_killed_between_record_and_answer(tmp_path: Path) -> None:
    desk = Desk(tmp_path, VERIFIER)
    desk.witness.add_checkpoint(LOG.request(0, 9))
    desk.close()
    running = _start(DIE_BEFORE_THE_ANSWER, tmp_path, 9, 20)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    again = Desk(tmp_path)
    assert again.witness.latest(ORIGIN).size == 20, "recorded before anything was signed"
    with pytest.raises(SafeholdError):
        again.witness.add_checkpoint(ShownLog(forked(10, 20)).request(9))
    assert cosigned(LOG.note(20), again.witness.add_checkpoint(LOG.request(20, 20)), again.key) == AT // 1_000_000
    again.close()


def test_kill_9_again_and_again(tmp_path: Path) -> None:
    Desk(tmp_path, VERIFIER).close()
    chance, answered = random.Random(), 0
    for _ in range(5):
        running = _start(COSIGN_FOR_EVER, tmp_path)
        assert running.stdout is not None
        said = b""
        while len(said) < chance.randrange(2, 120):
            read = os.read(running.stdout.fileno(), 4096)
            assert read, "the process ended by itself"
            said += read
        running.send_signal(signal.SIGKILL)
        said += running.stdout.read()
        running.stdout.close()
        assert running.wait() == -signal.SIGKILL
        sizes = [int(line) for line in said.split(b"\n")[:-1]]
        assert sizes == sorted(set(sizes))
        assert sizes[0] > answered, "what was cosigned is not cosigned again from below"
        answered = sizes[-1]
        desk = Desk(tmp_path)
        assert desk.witness.latest(ORIGIN).size in {answered, answered + 1}
        desk.close()


def test_a_follower_killed_goes_on(tmp_path: Path) -> None:
    chance = random.Random()
    log, copy, out = open_log(tmp_path / "home"), tmp_path / "copy", tmp_path / "out"
    for at in range(4):
        log.append_statements(*(party(at * 1000 + number) for number in range(chance.randrange(300, 900))))
        with log.view() as view:
            export_ledger(view, VERIFIER, out)
        running = _start(FOLLOW_FOR_EVER, copy, out)
        assert running.stdout is not None
        assert running.stdout.readline() == b"open\n"
        for _ in range(chance.randrange(0, 20_000)):
            pass  # some moment in the middle; which one does not matter
        running.send_signal(signal.SIGKILL)
        running.stdout.close()
        running.wait()
        replica = make_replica(copy)
        with replica.view() as view:
            assert check_ledger(view, VERIFIER) == []
            assert view.size() in {0, log.checkpoint().size} or at
        Follower(replica, FolderSource(out), copy, lambda: AT).step()
        with replica.view() as ours, log.view() as theirs:
            assert digest_projections(ours) == digest_projections(theirs)
            assert ours.checkpoint() == theirs.checkpoint()
        assert [path for path in copy.iterdir() if path.name.startswith("tmp")] == [], (
            "what was fetched leaves nothing behind"
        )
        replica.close()
    log.close()
