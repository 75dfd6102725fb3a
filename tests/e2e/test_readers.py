"""The readers over a real home: broker, ledger, holds; and, where torch is, its real DataLoader and distributed ranks."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from safehold.broker.client import KeyOrder
from safehold.broker.key_source import LocalKeys, check_holds
from safehold.cli.grant_file import read_grant_file
from safehold.model.ids import GroupName, HostId, Purpose
from safehold.model.statements import KeyRefused, KeyReleased, decode
from safehold.readers import ReadingStopped, ReadOptions, open_release
from safehold.state.standing import resolve_release
from tests.cli_kit import PASSPHRASE, ROOT, make_desk, make_environment_of, write_texts
from tests.readers_kit import make_release, open_it
from tools import torch_peer

HOST = HostId("north-lab/trainer")


@pytest.fixture
def desk(tmp_path):
    desk = make_desk(tmp_path)
    desk("inventory", "record", HOST, "--environment", make_environment_of(tmp_path / "env"))
    source = write_texts(tmp_path / "texts.jsonl")
    desk("seal", source, "--dataset", "quill-works/problems", "--groups", "names=module+name,text=text")
    out = tmp_path / "grant.json"
    desk("grant", "issue", "quill-works/problems", "--to", HOST, "--until", "+1d", "--out", out)
    return desk


def test_a_release_is_read_with_one_key_release_and_stopped_by_a_hold(desk):
    with desk.session().open_home() as home:
        with home.log.view() as view:
            row = resolve_release(view, "quill-works/problems@1")
        file = read_grant_file(desk.folder / "grant.json")
        order = KeyOrder(
            release=row.release,
            groups=[GroupName("names"), GroupName("text")],
            purpose=Purpose("training"),
            host=HOST,
            member=None,
            grant=file.token,
        )
        root = home.grant_key().public_bytes
        source = LocalKeys(
            home.broker(lambda: PASSPHRASE),
            home.host_key(HOST),
            home.clock,
            lambda asked: check_holds(home.log, root, asked),
        )
        options = ReadOptions(clock=home.clock, check_every=0)
        release = open_release(home.release_folder(row.dataset, row.version), order, source, options)
        expected = [json.loads(line) for line in (desk.folder / "texts.jsonl").read_text().splitlines()]
        assert list(release.records()) == expected
        assert release.to_polars(["name"]).height == len(expected)
        assert kinds(home).count(KeyReleased) == 1

        desk("suspend", f"host:{HOST}", "--reason", "a review")
        with pytest.raises(ReadingStopped) as caught:
            list(release.records())
        assert caught.value.code == "readers.stopped"
        assert caught.value.opened == tuple(part.file for part in release.manifest.parts)
        assert "a review" in caught.value.message
        assert KeyRefused not in kinds(home)  # a look at holds makes no entry
        with pytest.raises(ReadingStopped) as again:
            open_release(home.release_folder(row.dataset, row.version), order, source, options)
        assert again.value.code == "broker.held"
        assert kinds(home)[-1] is KeyRefused


def kinds(home):
    with home.log.view() as view:
        return [type(decode(body)) for body in view.bodies(0, view.size())]


@pytest.fixture(scope="module")
def torch():
    reason = torch_peer.works()
    if reason is not None:
        pytest.skip(reason)
    return torch_peer.environment()


class Job:
    """Runs all ranks of a job as processes of their own."""

    def __init__(self, folder, peer):
        self.folder = folder
        self.peer = peer
        self.runs = 0

    def __call__(self, ranks, workers, steps, batch, state=None, start="fork"):
        self.runs += 1
        place = self.folder / f"run-{self.runs}"
        place.mkdir()
        if state is not None:
            (place / "state").write_text(json.dumps(state))
        errors = (place / "errors").open("wb")
        known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        script = [sys.executable, "-W", "ignore", Path(__file__).with_name("torch_job.py"), self.folder]
        from_state = str(place / "state") if state is not None else "-"
        numbers = [str(one) for one in (ranks, workers, steps, batch)]
        processes = [
            subprocess.Popen(
                [*script, str(rank), *numbers, from_state, str(place / f"out-{rank}"), self.peer["TORCH_PEER"], start],
                env=known | self.peer | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
                stderr=errors,
            )
            for rank in range(ranks)
        ]
        codes = [process.wait(120) for process in processes]
        errors.close()
        assert not any(codes), (place / "errors").read_text()[-2000:]
        return [json.loads((place / f"out-{rank}").read_text()) for rank in range(ranks)]


def test_real_torch_resumes_in_mid_epoch_on_other_ranks_and_workers(torch, tmp_path):
    """Proves, with torch's own DataLoader, worker processes and ``torch.distributed`` ranks, each a process of its own:

    four ranks of two workers stop in mid-epoch, with batches that workers had prepared and training had not taken; all
    four hold the same state, under 1 KB; from it, two ranks and, once more, eight ranks see the rest of the epoch. In each
    case what was seen before and after is the order of one undisturbed reader without workers, so each record came once.
    """
    sealed, _ = make_release(tmp_path)
    release, source, _ = open_it(sealed)
    release.share_keys()
    (tmp_path / "handle").write_bytes(pickle.dumps(release))
    job = Job(tmp_path, torch)
    whole = job(1, 0, 10_000, 1)[0]["seen"]
    order = [one for batch in whole for one in batch]
    assert sorted(order) == list(range(1000))
    first = job(4, 2, 6, 10)
    assert all(len(rank["seen"]) == 6 for rank in first)
    assert first[0]["torch"].startswith("2.") or "LD_LIBRARY_PATH" in torch  # Debian's is 1.13
    states = [rank["state"] for rank in first]
    assert states.count(states[0]) == 4
    assert len(json.dumps(states[0])) <= 1024
    assert in_steps(first) == order[:240]
    for ranks, workers, batch in ((2, 2, 16), (8, 1, 3)):
        rest = job(ranks, workers, 10_000, batch, states[0])
        assert in_steps(rest) == order[240:]
        assert all(rank["state"] == rest[0]["state"] for rank in rest)
        assert (rest[0]["state"]["epoch"], rest[0]["state"]["position"]) == (1, 0)
    assert source.asked >= 15  # every rank asked for its own keys
    source.held = True
    (stopped,) = job(1, 2, 10_000, 10)
    assert stopped["stopped"] == "ReadingStopped broker.held 0"
    release.close()


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_of_real_torch_that_are_not_forked_get_no_keys_and_ask_for_them(torch, tmp_path, start):
    """Proves that a start method other than fork, which later Pythons take by default, changes nothing but who asks."""
    sealed, _ = make_release(tmp_path)
    release, source, _ = open_it(sealed)
    release.share_keys()
    (tmp_path / "handle").write_bytes(pickle.dumps(release))
    job = Job(tmp_path, torch)
    (forked,) = job(1, 2, 12, 10)
    asked = source.asked
    (other,) = job(1, 2, 12, 10, start=start)
    assert other["seen"] == forked["seen"]
    assert len(other["seen"]) == 12
    assert source.asked > asked + 1
    release.close()


def in_steps(ranks):
    steps = itertools.zip_longest(*(rank["seen"] for rank in ranks), fillvalue=[])
    return [one for step in steps for batch in step for one in batch]
