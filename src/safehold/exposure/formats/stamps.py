"""What the formats share: times as they write them, and ids that the same case always gets again."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["purl", "stable_uuid", "stamp"]

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "safehold.exposure")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(at: int) -> str:
    """µs UTC as RFC 3339 with milliseconds and ``Z``, as STIX and OpenVEX want it."""
    moment = _EPOCH + timedelta(microseconds=at)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def stable_uuid(*parts: object) -> str:
    """A UUID (version 5) of these parts: a report that is made again has the ids that it had."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(map(str, parts))))


def purl(name: str, version: str) -> str:
    """A package URL of a PyPI distribution."""
    return f"pkg:pypi/{name}@{version}" if version else f"pkg:pypi/{name}"
