"""Versions and how ecosystems order them: PEP 440 for PyPI, Semantic Versioning 2.0.0 for npm.

``packaging`` knows the first. The second is small and closed (https://semver.org, clause 11), and no kept library for it
is in the core: its order is written here, held by the specification's own examples.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from packaging.version import Version

__all__ = ["Order", "order_of", "pep440", "semver"]

Order = Callable[[str], Any]
"""A version's key for comparison, or None for a text that is no version."""

_MAX_VERSION: Final = 128
_SEMVER: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)


@lru_cache(maxsize=65_536)
def pep440(text: str) -> Version | None:
    """The PEP 440 version in ``text``, or None. Longer ones than 128 characters are none: no release has such."""
    try:
        return Version(text) if len(text) <= _MAX_VERSION else None
    except ValueError:  # InvalidVersion
        return None


@lru_cache(maxsize=65_536)
def semver(text: str) -> tuple[Any, ...] | None:
    """The precedence of a semantic version as a tuple that compares as it does, or None. Build metadata counts not."""
    found = _SEMVER.fullmatch(text) if len(text) <= _MAX_VERSION else None
    if found is None:
        return None
    numbers = tuple(int(part) for part in found.groups()[:3])
    if found[4] is None:
        return (*numbers, 1, ())  # a release comes after all its pre-releases
    # Numeric identifiers come before others, and compare as numbers; a longer list comes after its own beginning.
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in found[4].split("."))
    return (*numbers, 0, parts)


def order_of(ecosystem: str) -> Order | None:
    """How versions of an ecosystem are compared; None: not known here, so that equal text alone matches."""
    return {"PyPI": pep440, "npm": semver}.get(ecosystem)
