"""Canonical bytes: one statement, one sequence of bytes, on every machine.

The form is RFC 8785 (JSON Canonicalization Scheme) restricted to what statements use: objects with ASCII
member names sorted by code unit, arrays, strings, booleans, null and integers within ±(2^53 − 1). No floats:
that removes the only hard part of RFC 8785, and money or ratios do not occur in statements.

The ledger hashes *stored bytes*; nothing re-serialises an old entry. ``decode_canonical`` therefore refuses
bytes that are not already in canonical form: otherwise one fact could have two hashes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from types import UnionType
from typing import Any, Final, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from safehold.model.errors import InputInvalid

__all__ = [
    "MAX_ENTRY_BYTES",
    "canonical_bytes",
    "decode_canonical",
    "pretty_json",
    "resolved",
    "typed_bytes",
    "typed_lines",
]

MAX_ENTRY_BYTES: Final = 65_535
"""C2SP tlog-tiles: an entry bundle prefixes each entry with a uint16 length. Larger payloads go by digest."""

_MAX_SAFE_INTEGER: Final = 2**53 - 1
_MAX_DEPTH: Final = 64
_Kind = TypeVar("_Kind")
_encoder: Final = msgspec.json.Encoder(order="sorted")
_resolving: Final = threading.Lock()
_known: Final[set[Any]] = set()
# Where a member's integer beyond ±(2^53 - 1) could be: 2^53 begins with a 9 and has 16 digits. May find what is within,
# never misses what is beyond. Arrays of integers do not occur in statements; a test holds that.
_WIDE_INTEGER: Final = re.compile(rb'":-?(?:9[0-9]{15}|[0-9]{17})')


def _check_plain(value: Any, depth: int = 0) -> None:
    """Raise ``InputInvalid`` for whatever RFC 8785 and we would not write the same way.

    Looks at the value itself and not at what the encoder would make of it: bytes, sets, dates and the like, which
    the encoder would quietly turn into text or into a list in no fixed order, are refused here.
    """
    if depth > _MAX_DEPTH:
        raise InputInvalid("model.too_deep", f"nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int):
        if abs(value) > _MAX_SAFE_INTEGER:
            raise InputInvalid("model.integer_range", "an integer is beyond ±(2^53 - 1)")
    elif isinstance(value, float):
        raise InputInvalid("model.float", "a statement holds no fractional numbers")
    else:
        for member in _members(value):
            _check_plain(member, depth + 1)


def _members(value: Any) -> Iterable[Any]:
    """What a struct, an object or an array holds; ``InputInvalid`` for anything that is none of them."""
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, dict):
        if not all(isinstance(name, str) and name.isascii() for name in value):
            raise InputInvalid("model.member_name", "a member name is not ASCII text")
        return value.values()
    if isinstance(value, list | tuple):
        return value
    raise InputInvalid("model.type", f"{type(value).__name__} has no canonical form")


def canonical_bytes(value: Any) -> bytes:
    """Return the one canonical form of a struct or of plain JSON data.

    Raises ``InputInvalid`` (``model.*``) for floats, unsafe integers, non-ASCII member names, lone surrogates
    and anything that is no JSON.
    """
    try:
        _check_plain(value)
        return _encoder.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise InputInvalid("model.encode", "this value has no canonical form") from error


def typed_bytes(value: msgspec.Struct) -> bytes | None:
    """The canonical form of a struct that came out of a typed decoder, or None where that is not certain.

    A fast way for the many: types without floats, bytes or open objects leave nothing to look for but wide integers.
    None is no refusal; ``canonical_bytes`` then decides.
    """
    body = _encoder.encode(value)
    return None if _WIDE_INTEGER.search(body) else body


def typed_lines(values: Sequence[msgspec.Struct]) -> bytes | None:
    """The canonical forms of structs of known types, a line each, or None where that is not certain.

    As ``typed_bytes``; where a type has all its integers in members of its own, they are looked at and not the bytes.
    """
    try:
        lines = _encoder.encode_lines(values)
        kinds = set(map(type, values))
        for kind in kinds:
            integers = _own_integers(kind)
            if integers is None:
                return None if _WIDE_INTEGER.search(lines) else lines
            these = values if len(kinds) == 1 else [value for value in values if type(value) is kind]
            found = list(chain.from_iterable(map(integers, these)))
            if max(found) > _MAX_SAFE_INTEGER or min(found) < -_MAX_SAFE_INTEGER:
                return None
    except (TypeError, ValueError, RecursionError):
        return None
    return lines


@cache
def _own_integers(kind: type[msgspec.Struct]) -> Callable[[Any], tuple[int, ...]] | None:
    """How to read all integers of a struct; None if some may be absent or stand deeper."""
    types = get_type_hints(kind)
    names = [name for name, hint in types.items() if hint is int]
    if not names or any(_may_hold_integer(hint) for name, hint in types.items() if name not in names):
        return None
    return attrgetter(*names, names[0])  # at least two: of one alone it would not make a tuple


def _may_hold_integer(hint: Any) -> bool:
    """Whether a value of this type may be, or hold, an integer; True where that is not plain."""
    if hint is str or hint is None or hint is type(None) or hint is bool:
        return False
    if isinstance(hint, NewType):
        return _may_hold_integer(hint.__supertype__)
    origin = get_origin(hint)
    if origin is Literal:
        # Small ones, as the version that every statement has, are not wide.
        return any(isinstance(one, int) and abs(one) > _MAX_SAFE_INTEGER for one in get_args(hint))
    if origin in (tuple, Union, UnionType):
        return any(_may_hold_integer(one) for one in get_args(hint) if one is not ...)
    return True


def decode_canonical(data: bytes) -> Any:
    """Return the JSON data in ``data``, or raise ``InputInvalid`` if the bytes are not its canonical form."""
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputInvalid("model.not_json", "these bytes are not JSON") from error
    if canonical_bytes(plain) != data:
        raise InputInvalid("model.not_canonical", "these bytes are JSON, but not in canonical form")
    return plain


def resolved(kind: _Kind) -> _Kind:
    """``kind``, a type to decode to, made ready by one thread while all others wait.

    msgspec looks up what a struct's fields are when the struct is first decoded to, and shows it to other threads half
    done: a second thread that decodes to it at that moment reads through a null pointer, and the process is gone. So
    every type that is decoded to inside a function goes through here; a test of the house looks for others.
    """
    if kind not in _known:
        with _resolving:
            msgspec.json.Decoder(kind)  # looks up all of it, nested structs included
            _known.add(kind)
    return kind


def pretty_json(value: Any) -> str:
    """JSON for people: indented, in the order given. Never hashed, never signed."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
