"""The port's SQL as PostgreSQL understands it, and text that PostgreSQL cannot hold as it is. Pure.

The rooms write one SQL for both stores: what SQLite and PostgreSQL have in common, with ``?`` or ``?1`` for values and
three types, ``INTEGER`` (64 bits), ``TEXT`` (any Unicode, compared by its bytes) and ``BLOB``. Two things differ:

* Placeholders and types have other names. ``translate`` writes them anew, outside of quotes.
* PostgreSQL has no NUL in a text. ``escape`` gives every text one without NUL, and distinct texts distinct ones in the
  same order, so that keys, comparisons and ``ORDER BY`` mean what they mean in SQLite.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Final

__all__ = ["SCHEMA", "channel_of", "escape", "leader_key", "translate", "unescape"]

_TOKEN: Final = re.compile(r"""("[^"]*"|'[^']*')|\?(\d*)|\b(INTEGER|TEXT|BLOB)\b""")
_TYPES: Final = {"INTEGER": "BIGINT", "TEXT": 'TEXT COLLATE "C"', "BLOB": "BYTEA"}

SCHEMA: Final = (
    "CREATE TABLE entry(idx BIGINT PRIMARY KEY, body BYTEA NOT NULL)",
    "CREATE TABLE tile(level BIGINT NOT NULL, idx BIGINT NOT NULL, hashes BYTEA NOT NULL, PRIMARY KEY(level, idx))",
    "CREATE TABLE checkpoint(size BIGINT PRIMARY KEY, note BYTEA NOT NULL)",
    'CREATE TABLE payload(digest TEXT COLLATE "C" PRIMARY KEY, body BYTEA NOT NULL)',
    # Hashes and signatures do not compress: do not try at each commit.
    "ALTER TABLE tile ALTER hashes SET STORAGE EXTERNAL",
    "CREATE TABLE head(one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), origin TEXT NOT NULL, epoch BIGINT NOT NULL, size BIGINT NOT NULL)",
)
"""The four tables of every store, and the head: one row, compared and moved by every commit."""


@cache
def translate(sql: str) -> str:
    """``sql`` with ``$1`` for ``?`` and, where it makes a table, with PostgreSQL's types."""
    makes_table = sql.lstrip().upper().startswith("CREATE TABLE")
    placed = 0

    def put(match: re.Match[str]) -> str:
        nonlocal placed
        quoted, number, kind = match.groups()
        if quoted is not None:
            return str(quoted)
        if kind is not None:
            return _TYPES[kind] if makes_table else str(kind)
        placed += 1
        return f"${number or placed}"

    return _TOKEN.sub(put, sql)


def escape(text: str) -> str:
    """``text`` without NUL; ``unescape`` gives it back. Keeps the order by bytes: NUL < U+0001 < all others."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text


def unescape(text: str) -> str:
    """The text that ``escape`` was given."""
    if "\1" in text:
        return text.replace("\1\1", "\0").replace("\1\2", "\1")
    return text


def leader_key(origin: str) -> int:
    """The advisory lock that whoever leads the ledger ``origin`` holds: 64 bits, signed."""
    return int.from_bytes(_digest(origin)[:8], "big", signed=True)


def channel_of(origin: str) -> str:
    """The channel on which commits to the ledger ``origin`` are told."""
    return "safehold_" + _digest(origin)[:16].hex()


def _digest(origin: str) -> bytes:
    return hashlib.sha256(b"safehold ledger\n" + origin.encode()).digest()
