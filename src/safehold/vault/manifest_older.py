"""Manifests of versions 1 and 2, as they stand in releases that were sealed before version 3: read, never written.

Version 1 cut records into parts by the hash of their id and kept each record's place in a hidden column of every part
file, so that one inserted record changed every part after it. Version 2 knew no tails of part files (``pieces``). What a
version lacks is put in here, with the one value that it means by leaving it out; the reader then knows one form. What a
version did not know stays refused: a member of a later one in it is no manifest.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["PREDICATE_TYPE_V1", "PREDICATE_TYPE_V2", "upgraded"]

PREDICATE_TYPE_V1: Final = "urn:safehold:release:v1"
PREDICATE_TYPE_V2: Final = "urn:safehold:release:v2"
_AFTER_V1: Final = frozenset({"part_rows", "runs", "sidecars"})
_PART_AFTER_V1: Final = frozenset({"sealed", "tag", "rows_root"})
_PART_AFTER_V2: Final = frozenset({"tail"})


def upgraded(kind: str, predicate: Any) -> Any:
    """The predicate with what later versions added. What is not of its version comes back as None, and is refused then."""
    if kind == PREDICATE_TYPE_V1:
        predicate = _from_v1(predicate)
    if not isinstance(predicate, dict) or not isinstance(predicate.get("parts"), list):
        return None
    return predicate | {"parts": [_with(part, {"tail": None}, _PART_AFTER_V2) for part in predicate["parts"]]}


def _with(part: Any, more: dict[str, Any], later: frozenset[str]) -> Any:
    return part | more if isinstance(part, dict) and not part.keys() & later else None


def _from_v1(predicate: Any) -> Any:
    if not isinstance(predicate, dict) or predicate.keys() & _AFTER_V1:
        return None
    parts, columns = predicate.get("parts"), predicate.get("columns")
    if not isinstance(parts, list) or not isinstance(columns, list):
        return None
    more = {"sealed": predicate.get("version"), "tag": "", "rows_root": None}
    return predicate | {
        "part_rows": 0,
        "runs": [],
        "sidecars": [],
        "parts": [_with(part, more, _PART_AFTER_V1) for part in parts],
        "columns": [_field(column) for column in columns],
    }


def _field(field: Any) -> Any:
    if not isinstance(field, dict) or "json" in field or not isinstance(field.get("fields"), list):
        return None
    return field | {"json": False, "fields": [_field(member) for member in field["fields"]]}
