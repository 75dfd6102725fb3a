"""Verdicts and their order. Unknown never becomes "not affected": it outranks *held* and *not held*."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

__all__ = ["VERDICTS", "VERDICT_WORDS", "Verdict", "worst"]

Verdict = Literal["exposed", "unknown", "held", "not_held"]
"""``exposed``: a way from the thing to the data is on record. ``unknown``: there may be one, where nobody looked.
``held``: the thing was there, and no way to the data is on record. ``not_held``: looked at throughout, not there."""

VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
"""Worst first."""

VERDICT_WORDS: Final[dict[Verdict, str]] = {
    "exposed": "exposed",
    "unknown": "unknown (not observed)",
    "held": "held",
    "not_held": "not held (observed)",
}
"""As people read them."""


def worst(verdicts: Iterable[Verdict], default: Verdict) -> Verdict:
    """The worst of ``verdicts``, or ``default`` if there is none."""
    return min(verdicts, key=VERDICTS.index, default=default)
