"""What shape JSON records have: the types of their columns, learned from all of them before any is stored.

Arrow columns have one type, JSON values any. A place gets an Arrow type where that gives every value back exactly:

* one kind of value (null beside it is fine);
* whole numbers within int64. Fractions make it ``double``; whole numbers beside them are fine while they are all
  written alike (``1`` or ``1.0``, not both) and a double holds them exactly;
* a member that is sometimes absent *or* sometimes null, not both: Arrow has one way to say "nothing".

Every other place is stored as the JSON text of its values (``Field.json``), the smallest such place: nothing is lost,
but who reads the column sees text. Refused, with the line and the column: text that UTF-8 cannot hold, names that are
reserved, too many columns, nesting too deep.

Pure: values in, ``Field`` out.
"""

from __future__ import annotations

from typing import Any, Final

from safehold.model.errors import InputInvalid
from safehold.vault.manifest import Field

__all__ = ["MAX_FIELDS", "MAX_NESTING", "RESERVED", "Shape", "ShapeFinder"]

MAX_FIELDS: Final = 2_000
MAX_NESTING: Final = 20
RESERVED: Final = "_safehold_"
"""What no column's or member's name may begin with."""

_MAX_INT64: Final = 2**63
_EXACT_IN_DOUBLE: Final = 2**53
_KINDS: Final[dict[type, str]] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    list: "list",
    dict: "object",
}


class Shape:
    """What was seen at one place of the records: kinds, nulls, numbers, members."""

    __slots__ = (
        "absent_line",
        "fields",
        "fraction_line",
        "free",
        "item",
        "kind",
        "kind_line",
        "largest",
        "null_line",
        "whole_float_line",
        "whole_int_line",
    )

    def __init__(self) -> None:
        self.kind = ""
        self.free = False
        self.kind_line = 0
        self.null_line = 0
        self.absent_line = 0
        self.whole_int_line = 0
        self.whole_float_line = 0
        self.fraction_line = 0
        self.largest = 0
        self.item: Shape | None = None
        self.fields: dict[str, Shape] | None = None


class ShapeFinder:
    """Learns the shape of one file's records; ``name`` is the file's, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._line = 0
        self._root = Shape()
        self._count = 0

    def add(self, record: dict[str, Any], line: int, *, escapes: bool) -> None:
        r"""Take one record. ``escapes``: its text holds a ``\u`` escape, so surrogates must be looked for."""
        self._line = line
        if escapes:
            self._check_text(record)
        self._observe(self._root, record, ())

    def fields(self) -> tuple[Field, ...]:
        """The columns; raises ``InputInvalid`` for what was found to have no exact form (see the module)."""
        return self._members(self._root, ())

    def _observe(self, shape: Shape, value: Any, path: tuple[str, ...]) -> None:
        if value is None:
            shape.null_line = shape.null_line or self._line
            return
        if shape.free:
            self._check_names(value, path)
            return
        kind = _KINDS[type(value)]
        if shape.kind != kind:
            if shape.kind:
                shape.free = True
                self._check_names(value, path)
                return
            shape.kind = kind
        if kind == "number":
            self._observe_number(shape, value)
        elif kind == "object":
            self._observe_object(shape, value, path)
        elif kind == "list":
            self._observe_list(shape, value, path)

    def _observe_number(self, shape: Shape, value: float) -> None:
        if type(value) is int:
            shape.whole_int_line = shape.whole_int_line or self._line
            shape.largest = max(shape.largest, value, -value - 1)
        elif value.is_integer():
            shape.whole_float_line = shape.whole_float_line or self._line
        else:
            shape.fraction_line = shape.fraction_line or self._line

    def _observe_list(self, shape: Shape, value: list[Any], path: tuple[str, ...]) -> None:
        if shape.item is None:
            shape.item = self._new(path)
        inner = (*path, "[]")
        for item in value:
            self._observe(shape.item, item, inner)

    def _observe_object(self, shape: Shape, value: dict[str, Any], path: tuple[str, ...]) -> None:
        first = shape.fields is None
        fields = shape.fields if shape.fields is not None else {}
        previous: str | None = None
        for name, member in value.items():
            known = fields.get(name)
            if known is None:
                known = self._new((*path, name))
                known.absent_line = 0 if first else self._line
                fields = _inserted(fields, name, known, previous)
            self._observe(known, member, (*path, name))
            previous = name
        if len(value) < len(fields):
            for name, known in fields.items():
                if name not in value:
                    known.absent_line = known.absent_line or self._line
        shape.fields = fields

    def _check_names(self, value: Any, path: tuple[str, ...]) -> None:
        """JSON text may not nest deeper than columns may."""
        if len(path) > MAX_NESTING:
            raise self._too_deep()
        if isinstance(value, dict):
            for name, member in value.items():
                self._check_names(member, (*path, name))
        elif isinstance(value, list):
            for item in value:
                self._check_names(item, (*path, "[]"))

    def _too_deep(self) -> InputInvalid:
        return InputInvalid(
            "vault.too_deep", f"{self._name}, line {self._line}: nested deeper than {MAX_NESTING} levels"
        )

    def _new(self, path: tuple[str, ...]) -> Shape:
        self._count += 1
        if self._count > MAX_FIELDS:
            raise InputInvalid(
                "vault.too_many_columns",
                f"{self._name}, line {self._line}: more than {MAX_FIELDS:,} columns, nested ones counted",
                "objects whose member names are data belong into a list of name and value",
            )
        if len(path) > MAX_NESTING:
            raise self._too_deep()
        if path and (path[-1].startswith(RESERVED) or len(path[-1]) > 1024):
            raise InputInvalid(
                "vault.column_name",
                f"{self._name}, line {self._line}: the name {path[-1][:60]!r} is reserved or too long",
                f"rename it: at most 1,024 characters, not beginning with {RESERVED}",
            )
        return Shape()

    def _check_text(self, value: Any) -> None:
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InputInvalid(
                    "vault.lone_surrogate",
                    f"{self._name}, line {self._line}: a text holds half of a surrogate pair, which is no character",
                    "repair the text where it was cut",
                ) from error
        elif isinstance(value, dict):
            for name, member in value.items():
                self._check_text(name)
                self._check_text(member)
        elif isinstance(value, list):
            for item in value:
                self._check_text(item)

    def _members(self, shape: Shape, path: tuple[str, ...]) -> tuple[Field, ...]:
        return tuple(self._field(name, member, (*path, name)) for name, member in (shape.fields or {}).items())

    def _field(self, name: str, shape: Shape, path: tuple[str, ...]) -> Field:
        omit = bool(shape.absent_line)
        kind, integers = _leaf_type(shape)
        if not kind or (omit and shape.null_line):
            return _field(name, "string", omit=omit, json=True)
        members: tuple[Field, ...] = ()
        if kind == "list":
            members = (self._field("element", shape.item or Shape(), (*path, "[]")),)
        elif kind == "struct":
            # Parquet has no empty struct: a hidden member that is always null stands in for "no members".
            members = self._members(shape, path) or (_field(RESERVED + "empty", "null"),)
        return _field(name, kind, omit=omit, integers=integers, fields=members)


def _leaf_type(shape: Shape) -> tuple[str, bool]:
    """The Arrow type, and whether whole numbers in it were written as integers; no type where none is exact."""
    plain = {"": "null", "text": "string", "true or false": "bool", "list": "list", "object": "struct"}
    if shape.free:
        return "", False
    if shape.kind != "number":
        return plain[shape.kind], False
    if not shape.whole_int_line:
        return "double", False
    if not shape.fraction_line and not shape.whole_float_line:
        return ("int64" if shape.largest < _MAX_INT64 else ""), False
    if shape.whole_float_line or shape.largest > _EXACT_IN_DOUBLE:
        return "", False
    return "double", True


def _field(
    name: str,
    kind: str,
    *,
    omit: bool = False,
    integers: bool = False,
    json: bool = False,
    fields: tuple[Field, ...] = (),
) -> Field:
    return Field(name=name, type=kind, nullable=True, omit=omit, integers=integers, json=json, fields=fields)


def _inserted(fields: dict[str, Shape], name: str, shape: Shape, after: str | None) -> dict[str, Shape]:
    """``fields`` with a new member where this record has it, so that the order of most records is kept."""
    if not fields or (after is not None and after == next(reversed(fields))):
        fields[name] = shape
        return fields
    ordered: dict[str, Shape] = {} if after is not None else {name: shape}
    for known, member in fields.items():
        ordered[known] = member
        if known == after:
            ordered[name] = shape
    return ordered


def _shown(path: tuple[str, ...]) -> str:
    return repr(".".join(path))[:120]
