"""What a training engineer imports: open a release with keys that live in memory alone, and read it as training does.

``open_release`` gives a ``SealedRelease``: Arrow batches, a scanner, Polars, DuckDB through Arrow, Hugging Face and torch
datasets. ``open_with_broker`` is the older, smaller door of the command line.
"""

from safehold.broker.connection import Connection, connect
from safehold.readers.opening import Opening, open_with_broker
from safehold.readers.order import OrderRule
from safehold.readers.release import OpenPart, ReadOptions, SealedRelease, open_release
from safehold.readers.ring import ReadingStopped

__all__ = [
    "Connection",
    "OpenPart",
    "Opening",
    "OrderRule",
    "ReadOptions",
    "ReadingStopped",
    "SealedRelease",
    "connect",
    "open_release",
    "open_with_broker",
]
