"""A sealed release for PyTorch: an ``IterableDataset``, and a loader with exact resume.

**Order and resume.** An epoch has one global order (``order``). Step *t* of all ranks takes ``batch × ranks`` places of it.
So "where we are" is one number, and a job that stops after some steps and goes on with the state, on any number of ranks
and workers, sees every record that was not seen, and none twice. ``state_dict`` is small and says which release, seed,
epoch and rule it is for; loading it into another release is refused.

**Two ways to use it.** ``SealedTorch`` is the dataset: give it to any ``DataLoader`` with ``batch_size=None`` (it makes its
batches itself, since which worker makes which batch is part of the order), or with ``form="record"`` and the loader's
``batch_size`` equal to the plan's. ``SealedLoader`` wraps a ``DataLoader``, counts the steps that training has *taken* (not
those that workers have prepared), moves on to the next epoch, and raises a worker's ``ReadingStopped`` as such.

Without torch the same classes work with no worker processes. Rank and number of ranks come from ``torch.distributed``
where it is initialised, else they are 0 of 1; give them in the plan for anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from safehold.model.encoding import resolved
from safehold.model.errors import InputInvalid, SafeholdError
from safehold.model.ids import Digest
from safehold.readers.desk import Carried
from safehold.readers.extras import torch_data
from safehold.readers.feed import Feed, one_batch
from safehold.readers.order import EpochOrder, OrderRule, Share
from safehold.readers.release import SealedRelease
from safehold.vault.fields import records

_Base: Any = object
try:
    from torch.utils.data import IterableDataset

    _Base = IterableDataset
except ImportError:
    pass  # the classes below work without it; extras.torch_data says so where it is needed

__all__ = ["SealedLoader", "SealedTorch", "TorchPlan"]

_STATE: Final = "safehold-position-v1"


class TorchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to read for training: the order, the share of this process, and the form of what comes.

    ``form``: ``record`` (one dict at a time), ``batch`` (lists of dicts) or ``arrow`` (record batches). ``tail``: see
    ``order.Share``; with several ranks that must take equally many steps, use ``drop`` or ``repeat``.
    """

    rule: OrderRule = OrderRule()
    batch: int = 1
    rank: int | None = None
    ranks: int | None = None
    tail: Literal["keep", "drop", "repeat"] = "keep"
    form: Literal["record", "batch", "arrow"] = "record"
    columns: tuple[str, ...] | None = None


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    form: str
    release: Digest
    rule: OrderRule
    epoch: int
    position: int


def _worker() -> tuple[int, int]:
    """Which worker of how many this process is, as torch says."""
    try:
        info = torch_data().get_worker_info()
    except SafeholdError:
        return 0, 1
    return (0, 1) if info is None else (int(info.id), int(info.num_workers))


def _rank(plan: TorchPlan) -> tuple[int, int]:
    """Rank and number of ranks: the plan's, else those of torch.distributed, else 0 of 1."""
    if plan.rank is not None and plan.ranks is not None:
        return plan.rank, plan.ranks
    if (plan.rank is None) != (plan.ranks is None):
        raise InputInvalid("readers.rank", "rank and ranks are given together, or neither", "give both in the plan")
    try:
        from torch import distributed
    except ImportError:
        return 0, 1
    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    return 0, 1


class SealedTorch(_Base):  # type: ignore[misc]  # the base is torch's where there is one
    """The records of one rank, epoch after epoch.

    Each iteration is one epoch from where ``load_state_dict`` put it; after its end the next one begins at 0. ``worker``
    tells which worker of how many this process is; None asks torch.
    """

    def __init__(
        self,
        release: SealedRelease,
        plan: TorchPlan | None = None,
        worker: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.release = release
        self.plan = plan if plan is not None else TorchPlan()
        self._worker = worker if worker is not None else _worker
        self._rank, self._ranks = _rank(self.plan)
        if not 0 <= self._rank < self._ranks or self.plan.batch < 1:
            raise InputInvalid(
                "readers.rank",
                f"rank {self._rank} of {self._ranks}, batches of {self.plan.batch}: that cannot be",
                "ranks count from 0, and a batch has at least one record",
            )
        self._fields = release.fields(self.plan.columns)
        self._epoch = self._position = self._taken = 0
        release.share_keys()

    def set_epoch(self, epoch: int) -> None:
        """Begin ``epoch`` at its first record, unless it is the one that is being read."""
        if epoch != self._epoch:
            self._epoch, self._position, self._taken = epoch, 0, 0

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration reads."""
        return self._epoch

    @property
    def steps(self) -> int:
        """How many steps are left in this epoch for the rank that has the most."""
        stride = self.plan.batch * self._ranks
        left = max(0, self.release.rows - self._position)
        return left // stride if self.plan.tail == "drop" else -(-left // stride)

    def state_dict(self, steps: int | None = None) -> dict[str, Any]:
        """Where training is, in under 1 KB of JSON. ``steps``: how many it has taken since this epoch was begun or
        resumed; None: as many as this object has given out itself, which is right without worker processes. One worker of
        several knows its own steps alone, and is refused: raises ``InputInvalid`` (``readers.state_worker``).
        """
        if steps is None and self._worker()[1] > 1:
            raise InputInvalid(
                "readers.state_worker",
                "one worker of several does not know how many steps training has taken",
                "take the state from SealedLoader, or in the training process from state_dict(steps)",
            )
        taken = steps * self.plan.batch if steps is not None else self._taken
        position = min(self._position + taken * self._ranks, self.release.rows)
        state = _State(
            form=_STATE,
            release=self.release.digest,
            rule=self.plan.rule,
            epoch=self._epoch,
            position=position,
        )
        known: dict[str, Any] = msgspec.to_builtins(state)
        return known

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` says. Raises ``InputInvalid`` (``readers.state``, ``readers.state_other``)."""
        try:
            known = msgspec.convert(state, resolved(_State))
        except msgspec.ValidationError as error:
            raise InputInvalid(
                "readers.state", f"this is no state of a reader: {error}", "give what state_dict() returned"
            ) from error
        if known.form != _STATE or not 0 <= known.position <= self.release.rows or known.epoch < 0:
            raise InputInvalid("readers.state", "this is no state of a reader", "give what state_dict() returned")
        if known.release != self.release.digest or known.rule != self.plan.rule:
            other = "release" if known.release != self.release.digest else "order"
            raise InputInvalid(
                "readers.state_other",
                f"the state is for another {other}; from here on the records would not be those that are left",
                "open the release and give the rule that the state names, or begin the epoch anew",
            )
        self._epoch, self._position, self._taken = known.epoch, known.position, 0

    def __iter__(self) -> Iterator[Any]:
        order = EpochOrder(self.release.runs, self.plan.rule, self._epoch)
        worker, workers = self._worker()
        share = Share(
            batch=self.plan.batch,
            rank=self._rank,
            ranks=self._ranks,
            worker=worker,
            workers=workers,
            tail=self.plan.tail,
        )
        feed = Feed(self.release.blocks(self.plan.columns, len(order.lanes) + 1), order)
        for pieces in feed.batches(share, self._position):
            if self.plan.form == "arrow":
                self._taken += self.plan.batch
                yield one_batch(pieces)
                continue
            found = [record for piece in pieces for record in records(piece, self._fields)]
            if self.plan.form == "batch":
                self._taken += self.plan.batch
                yield found
                continue
            for record in found:
                self._taken += 1
                yield record
        self._epoch, self._position, self._taken = self._epoch + 1, 0, 0


class _Guarded(_Base):  # type: ignore[misc]  # its base is torch's, too
    """In a worker: an error of ours travels as a value, since torch would make a nameless one of it."""

    def __init__(self, dataset: SealedTorch) -> None:
        super().__init__()
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._dataset
        except SafeholdError as error:
            yield Carried(error)


def _as_it_is(value: Any) -> Any:
    return value


class SealedLoader:
    """Batches of one rank through torch's ``DataLoader``.

    An iteration is one epoch, or what is left of it. ``state_dict`` may be called after any batch. A plan with
    ``form="record"`` gives lists of records here. Options are handed to the ``DataLoader`` by ``options``; with
    ``in_order=False`` an iteration raises ``InputInvalid`` (``readers.in_order``).
    """

    def __init__(self, release: SealedRelease, plan: TorchPlan | None = None, workers: int = 0) -> None:
        chosen = plan if plan is not None else TorchPlan()
        if chosen.form == "record":
            chosen = msgspec.structs.replace(chosen, form="batch")
        self.dataset = SealedTorch(release, chosen)
        self.options: dict[str, Any] = {}
        self._workers = workers
        self._steps = 0

    def __len__(self) -> int:
        return self.dataset.steps

    def set_epoch(self, epoch: int) -> None:
        """As the dataset's."""
        self.dataset.set_epoch(epoch)
        self._steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Where training is: after the batches that it has taken."""
        return self.dataset.state_dict(self._steps)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the dataset's."""
        self.dataset.load_state_dict(state)
        self._steps = 0

    def __iter__(self) -> Iterator[Any]:
        self.dataset.load_state_dict(self.state_dict())  # go on from the batch after the last one taken
        self._steps = 0
        for batch in self._batches():
            if isinstance(batch, Carried):
                raise batch.remade()
            self._steps += 1
            yield batch
        self.dataset.set_epoch(self.dataset.epoch + 1 if self._workers else self.dataset.epoch)
        self._steps = 0

    def _batches(self) -> Iterator[Any] | Sequence[Any]:
        if not self._workers:
            return iter(self.dataset)
        if not self.options.get("in_order", True):  # a count of steps would not say which batches were taken
            raise InputInvalid(
                "readers.in_order",
                "batches that come as workers finish them have no position to resume from",
                "leave in_order at True",
            )
        loader: Iterator[Any] = torch_data().DataLoader(
            _Guarded(self.dataset),
            batch_size=None,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            **self.options,
        )
        return iter(loader)
