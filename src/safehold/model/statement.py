"""What every statement has. The kinds stand in ``statements`` and, by topic, in the modules that it gathers."""

from __future__ import annotations

from typing import Literal

import msgspec

from safehold.model.ids import KeyId

__all__ = ["Statement"]


class Statement(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """What every statement has: version, claimed time (µs UTC), key behind it."""

    v: Literal[1] = 1
    t: int
    by: KeyId
