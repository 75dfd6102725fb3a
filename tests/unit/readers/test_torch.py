"""The torch reader without torch: its own classes, workers played one after the other. With torch, see e2e."""

from __future__ import annotations

import itertools
import json

import pytest

from safehold.model.errors import InputInvalid
from safehold.readers import OrderRule
from safehold.readers.torch_reader import SealedLoader, SealedTorch, TorchPlan
from tests.readers_kit import make_release, open_it

RULE = OrderRule(seed=7, lanes=4, chunk=5, window=80)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    sealed, _ = make_release(tmp_path_factory.mktemp("torch"))
    opened, _, _ = open_it(sealed)
    yield opened
    opened.close()


def loader_of(release, rank, ranks, workers, batch, state=None):
    """The batches that a DataLoader of this rank would give: its workers in turn."""
    streams = []
    for worker in range(workers):
        plan = TorchPlan(rule=RULE, batch=batch, rank=rank, ranks=ranks, form="batch", columns=("id",))
        dataset = SealedTorch(release, plan, lambda worker=worker: (worker, workers))
        if state is not None:
            dataset.load_state_dict(state)
        streams.append(iter(dataset))
    for stream in itertools.cycle(streams):
        batch_of = next(stream, None)
        if batch_of is None:
            return
        yield [one["id"] for one in batch_of]


def state_after(release, ranks, batch, steps, state=None):
    dataset = SealedTorch(release, TorchPlan(rule=RULE, batch=batch, rank=0, ranks=ranks))
    if state is not None:
        dataset.load_state_dict(state)
    return json.loads(json.dumps(dataset.state_dict(steps)))


def run(release, ranks, workers, batch, state=None, steps=None):
    """All ranks side by side: for each step, what each rank got."""
    loaders = [loader_of(release, rank, ranks, workers, batch, state) for rank in range(ranks)]
    rows = itertools.zip_longest(*loaders, fillvalue=[])
    return [one for row in itertools.islice(rows, steps) for rank in row for one in rank]


def test_stopped_in_mid_epoch_and_resumed_with_other_ranks_and_workers(release):
    whole = run(release, 1, 1, 1)
    assert sorted(whole) == list(range(1000))
    assert whole != list(range(1000))
    first = run(release, 4, 2, 10, steps=6)
    state = state_after(release, 4, 10, 6)
    assert len(json.dumps(state)) <= 1024
    assert first == whole[:240]
    second = run(release, 3, 1, 8, state, steps=5)
    further = state_after(release, 3, 8, 5, state)
    assert second == whole[240:360]
    for ranks, workers, batch in ((4, 2, 10), (1, 1, 1), (2, 3, 7), (5, 1, 16)):
        assert run(release, ranks, workers, batch, further) == whole[360:]


def test_another_epoch_is_another_order_and_the_same_epoch_the_same(release):
    dataset = SealedTorch(release, TorchPlan(rule=RULE, columns=("id",)))
    first, second = [one["id"] for one in dataset], [one["id"] for one in dataset]
    assert first != second
    assert sorted(first) == sorted(second)
    dataset.set_epoch(0)
    assert [one["id"] for one in dataset] == first
    assert dataset.epoch == 1


def test_state_after_any_record(release):
    dataset = SealedTorch(release, TorchPlan(rule=RULE, columns=("id",)))
    whole = [one["id"] for one in dataset]
    for count in (0, 1, 79, 80, 81, 500, 999, 1000):
        one = SealedTorch(release, TorchPlan(rule=RULE, columns=("id",)))
        seen = [record["id"] for record in itertools.islice(iter(one), count)]
        two = SealedTorch(release, TorchPlan(rule=RULE, columns=("id",)))
        two.load_state_dict(one.state_dict())
        assert seen + [record["id"] for record in two] == whole


def test_the_loader_counts_what_was_taken(release):
    plan = TorchPlan(rule=RULE, batch=30, columns=("id",))
    loader = SealedLoader(release, plan)
    whole = [[one["id"] for one in batch] for batch in loader]
    assert len(whole) == 34
    assert len(whole[-1]) == 10
    loader.set_epoch(0)
    some = [[one["id"] for one in batch] for batch in itertools.islice(loader, 11)]
    state = loader.state_dict()
    assert state["position"] == 330
    rest = [[one["id"] for one in batch] for batch in loader]  # a second iteration goes on
    assert some + rest == whole
    other = SealedLoader(release, plan)
    other.load_state_dict(state)
    assert len(other) == 23
    assert [[one["id"] for one in batch] for batch in other] == rest
    assert other.state_dict()["epoch"] == 1


def test_a_state_of_something_else_is_refused(release, tmp_path):
    state = SealedTorch(release, TorchPlan(rule=RULE)).state_dict()
    with pytest.raises(InputInvalid) as caught:
        SealedTorch(release, TorchPlan()).load_state_dict(state)
    assert caught.value.code == "readers.state_other"
    sealed, _ = make_release(tmp_path, 20)
    other, _, _ = open_it(sealed)
    with pytest.raises(InputInvalid) as caught:
        SealedTorch(other, TorchPlan(rule=RULE)).load_state_dict(state)
    assert caught.value.code == "readers.state_other"
    other.close()
    for wrong in (
        {},
        {**state, "position": 1001},
        {**state, "position": -1},
        {**state, "epoch": "1"},
        {**state, "x": 1},
    ):
        with pytest.raises(InputInvalid) as caught:
            SealedTorch(release, TorchPlan(rule=RULE)).load_state_dict(wrong)
        assert caught.value.code == "readers.state"


def test_what_would_make_a_state_inexact_is_refused(release):
    dataset = SealedTorch(release, TorchPlan(rule=RULE), lambda: (1, 2))
    with pytest.raises(InputInvalid) as caught:
        dataset.state_dict()
    assert caught.value.code == "readers.state_worker"
    assert dataset.state_dict(5)["position"] == 5
    loader = SealedLoader(release, TorchPlan(rule=RULE), workers=2)
    loader.options["in_order"] = False
    with pytest.raises(InputInvalid) as caught:
        next(iter(loader))
    assert caught.value.code == "readers.in_order"


def test_ranks_that_cannot_be_are_refused(release):
    for rank, ranks in ((4, 4), (-1, 2), (0, None)):
        with pytest.raises(InputInvalid) as caught:
            SealedTorch(release, TorchPlan(rank=rank, ranks=ranks))
        assert caught.value.code == "readers.rank"


def test_forms(release):
    arrow = list(SealedTorch(release, TorchPlan(rule=RULE, batch=32, form="arrow")))
    lists = list(SealedTorch(release, TorchPlan(rule=RULE, batch=32, form="batch")))
    single = list(SealedTorch(release, TorchPlan(rule=RULE, batch=32)))
    assert [batch.num_rows for batch in arrow] == [len(batch) for batch in lists] == [32] * 31 + [8]
    assert [one for batch in lists for one in batch] == single
    assert [one for batch in arrow for one in batch.column("id").to_pylist()] == [one["id"] for one in single]
