"""Patterns in texts that look like personal data: counted before sealing, so that nobody is surprised afterwards.

Patterns, not findings: an e-mail address is recognised by its form, a card number by its form and check digit, and a name
is not recognised at all. A count of 0 is no proof that nobody can be named. No value is kept or shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["PATTERNS", "PatternCounter"]

PATTERNS: Final[dict[str, str]] = {
    "e-mail": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "phone": r"(^|[^0-9 .-]|(^|[^0-9])[ .-])(\+[0-9]{1,3}[ .-]?)?(\([0-9]{2,4}\)|[0-9]{2,4})[ .-][0-9]{3,4}[ .-][0-9]{3,4}"
    r"($|[^0-9 .-]|[ .-]($|[^0-9]))",
    "IP address": r"(^|[^0-9.])(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}"
    r"($|[^0-9.]|\.($|[^0-9]))",
    "card number": r"\b[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}\b",
}
"""Name and expression (RE2) of each pattern; a card number must have the right check digit too."""

_CARD: Final = re.compile(PATTERNS["card number"])


class PatternCounter:
    """Counts, for each column and pattern, the texts in which the pattern was seen."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Texts by column and pattern; a pair that was not seen is not there."""
        return dict(self._counts)

    def add(self, batch: pa.RecordBatch) -> None:
        """Look through the texts of a batch, nested ones too."""
        for field, column in zip(batch.schema, batch.columns, strict=True):
            for texts in _texts(column):
                for name, expression in PATTERNS.items():
                    seen = _count(texts, name, expression)
                    if seen:
                        key = (field.name, name)
                        self._counts[key] = self._counts.get(key, 0) + seen


def _texts(column: Any) -> Iterator[Any]:
    """The arrays of texts in a column."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield column
    elif pa.types.is_map(kind):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(column.flatten())
    elif pa.types.is_struct(kind):
        for member in column.flatten():
            yield from _texts(member)


def _count(texts: Any, name: str, expression: str) -> int:
    hits = pc.fill_null(pc.match_substring_regex(texts, expression), False)
    if name != "card number":
        return int(pc.sum(hits).as_py() or 0)
    likely = texts.filter(hits).to_pylist()
    return sum(any(_checked(found.group()) for found in _CARD.finditer(text)) for text in likely)


def _checked(text: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= 13 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
