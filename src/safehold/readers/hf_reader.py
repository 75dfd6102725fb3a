"""A sealed release for Hugging Face ``datasets``: an ``IterableDataset`` with features, never a map-style one.

Map-style datasets write plaintext Arrow files to a cache folder; an iterable one reads as it goes. What the
library shares out is the release's units (parts, cut where they are few), so its own ``shuffle``, ``split_dataset_by_node``,
``state_dict`` and torch workers do what they do elsewhere. Its resume is the library's, not
ours: after a shuffle it can lose records that were in its buffer. For exact resume use the torch reader.

Blocks are made in a thread ahead of their use (``ahead``): after a hold, the two or three that were read before it still come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from safehold.readers.ahead import read_ahead
from safehold.readers.extras import datasets
from safehold.readers.order import OrderRule, unit_blocks
from safehold.readers.release import SealedRelease
from safehold.vault.maps import without_maps, without_maps_schema

__all__ = ["hf_dataset"]


class _Tables:
    """Makes the tables of units; a class, so that it can be sent to a worker that is started and not forked."""

    def __init__(
        self, release: SealedRelease, columns: Sequence[str] | None, rule: OrderRule, schema: pa.Schema
    ) -> None:
        self._release = release
        self._columns = columns
        self._rule = rule
        self._schema = schema

    @property
    def units(self) -> int:
        """How many there are."""
        return len(unit_blocks(self._release.runs, self._rule))

    def __call__(self, numbers: list[int]) -> Iterator[tuple[tuple[int, int], pa.Table]]:
        return read_ahead(self._made(numbers))

    def _made(self, numbers: list[int]) -> Iterator[tuple[tuple[int, int], pa.Table]]:
        units = unit_blocks(self._release.runs, self._rule)
        for number in numbers:
            blocks = self._release.blocks(self._columns, 1)
            for place, block in enumerate(units[number]):
                batches = [without_maps(batch, self._schema) for batch in blocks.read(block)]
                yield (number, place), pa.Table.from_batches(batches)


def hf_dataset(release: SealedRelease, columns: Sequence[str] | None = None, rule: OrderRule | None = None) -> Any:
    """The dataset; ``rule`` gives the size of blocks and the least number of units; None: parts. Maps come as lists of pairs.

    Raises ``NotFound`` (``readers.no_datasets``), ``InputInvalid`` (``readers.column``), and what reading raises.
    """
    library = datasets()
    release.share_keys()
    release.fields(columns)
    schema = release.schema if columns is None else pa.schema([release.schema.field(name) for name in columns])
    plain = without_maps_schema(schema)
    tables = _Tables(release, columns, rule if rule is not None else OrderRule(lanes=1), plain)

    from datasets.iterable_dataset import ArrowExamplesIterable  # what the library's own Parquet reader is made of

    examples = ArrowExamplesIterable(tables, {"numbers": list(range(tables.units))})
    return library.IterableDataset(
        ex_iterable=examples, info=library.DatasetInfo(features=library.Features.from_arrow_schema(plain))
    )
