"""Another implementation of the standards reads what we write, and witnesses it (`make interop`).

Skipped where its environment is not made: it needs Python 3.12 (tools/peers.py). What it wrote once is read in
``tests/vectors/ledger/test_another_writer.py``, everywhere.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from safehold.ledger.cosignature import CosignerKey, open_cosignatures
from safehold.ledger.export import export_ledger
from safehold.ledger.log import Log
from safehold.ledger.note import open_checkpoint
from safehold.ledger.policy import parse_policy
from safehold.ledger.witness_client import gather, obtain_cosignature
from safehold.ledger.witnessed import WitnessedSizes
from safehold.model.errors import SafeholdError
from tests.ledger_kit import ORIGIN, VERIFIER, one_of_each, open_log, party
from tests.witness_kit import ShownLog, entries

ROOT = Path(__file__).parents[3]
PEER = ROOT / ".peers" / "tlog" / "bin" / "python"
SCRIPT = ROOT / "tests" / "tlog_peer.py"

pytestmark = pytest.mark.skipif(not PEER.exists(), reason="the other implementation is not installed: make interop")


def _ask(*arguments: object) -> Any:
    done = subprocess.run(
        [PEER, "-I", SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


@contextmanager
def _witness(folder: Path) -> Iterator[Any]:
    folder.mkdir()
    command = [PEER, "-I", SCRIPT, "witness", folder, ORIGIN, VERIFIER.text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield json.loads(running.stdout.readline())
        finally:
            running.communicate()


def _export(log: Log, folder: Path) -> None:
    with log.view() as view:
        export_ledger(view, VERIFIER, folder)


@pytest.mark.parametrize("size", [28, 255, 256, 257, 513, 700])
def test_it_reads_every_tile_bundle_and_proof_of_ours(tmp_path: Path, size: int) -> None:
    log = open_log(tmp_path)
    made = [*one_of_each().values(), *(party(number) for number in range(size))][:size]
    log.append_statements(*made)
    _export(log, tmp_path / "export")
    said = _ask("read", tmp_path / "export", VERIFIER.text)
    head = log.checkpoint()
    assert (said["ok"], said["origin"], said["size"], said["root"]) == (True, ORIGIN, size, head.root.hex())
    assert (said["bundles"], said["first"].encode()) == (-(-size // 256), log.entry(0).body)
    log.close()


def test_it_refuses_what_we_refuse(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append_statements(*(party(number) for number in range(300)))
    _export(log, tmp_path / "export")
    log.close()
    for name in ("checkpoint", "tile/0/000", "tile/entries/001.p/44"):
        path = tmp_path / "export" / name
        original = path.read_bytes()
        path.write_bytes(
            original.replace(b"300", b"299") if name == "checkpoint" else bytes([original[0] ^ 1]) + original[1:]
        )
        with suppress(subprocess.CalledProcessError):  # it raised, in words of its own
            assert _ask("read", tmp_path / "export", VERIFIER.text)["ok"] is False, name
        path.write_bytes(original)
    assert _ask("read", tmp_path / "export", VERIFIER.text)["ok"] is True


def test_its_witness_cosigns_our_ledger_as_it_grows_and_refuses_a_fork(tmp_path: Path) -> None:
    log = open_log(tmp_path / "home")
    with _witness(tmp_path / "witness") as peer:
        key = CosignerKey.parse(peer["witness"])
        policy = parse_policy(f"log {VERIFIER.text}\nwitness w1 {peer['witness']} {peer['url']}\nquorum w1\n".encode())
        sizes = WitnessedSizes(tmp_path / "witnessed.db")
        for size in (1, 2, 300, 301):
            log.append_statements(*(party(number) for number in range(log_size(log), size)))
            gathered = gather(log, policy, sizes)
            assert list(open_cosignatures(gathered.checkpoint.note, [key])) == [key]
            assert gathered.checkpoint.size == size
        # Another history of the same ledger, signed by the same key: the witness keeps to what it has seen.
        fork = ShownLog([b"another", *entries(400)])
        shown = open_checkpoint(fork.note(400), VERIFIER)
        with pytest.raises(SafeholdError) as caught:
            obtain_cosignature(peer["url"], key, shown, lambda old: fork.proof(old, 400), 301)
        assert caught.value.code == "ledger.witness_refused"
        assert log_size(log) == 301
    log.close()


def log_size(log: Log) -> int:
    """The number of entries."""
    with log.view() as view:
        return view.size()
