"""Manifests of version 1, as they stand in releases that were sealed before version 2: read, never written.

Version 1 cut records into parts by the hash of their id and kept each record's place in a hidden column of every part
file, so that one inserted record changed every part after it. Its manifest lacks what version 2 added. Here that is
put in, with the one value that version 1 means by leaving it out; the reader then knows one form. What version 1 did
not know stays refused: a member of version 2 in a manifest of version 1 is no manifest.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["PREDICATE_TYPE_V1", "upgraded"]

PREDICATE_TYPE_V1: Final = "urn:safehold:release:v1"
_LATER: Final = frozenset({"part_rows", "runs", "sidecars"})
_LATER_PART: Final = frozenset({"sealed", "tag", "rows_root"})


def upgraded(predicate: Any) -> Any:
    """The predicate with what version 2 added. What is not of version 1 comes back as it is, and is refused then."""
    if not isinstance(predicate, dict) or predicate.keys() & _LATER:
        return None
    parts, columns = predicate.get("parts"), predicate.get("columns")
    if not isinstance(parts, list) or not isinstance(columns, list):
        return None
    more = {"sealed": predicate.get("version"), "tag": "", "rows_root": None}
    return predicate | {
        "part_rows": 0,
        "runs": [],
        "sidecars": [],
        "parts": [part | more if isinstance(part, dict) and not part.keys() & _LATER_PART else None for part in parts],
        "columns": [_field(column) for column in columns],
    }


def _field(field: Any) -> Any:
    if not isinstance(field, dict) or "json" in field or not isinstance(field.get("fields"), list):
        return None
    return field | {"json": False, "fields": [_field(member) for member in field["fields"]]}
