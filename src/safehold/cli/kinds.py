"""Parameters of the command line that are Safehold's own: ids, times, durations, subjects."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from safehold.model import ids
from safehold.model.errors import InputInvalid

__all__ = [
    "ADVISORY",
    "DATASET",
    "ENVIRONMENT",
    "HOST",
    "LEASE",
    "MEMBER",
    "MODEL",
    "PARTY",
    "RESPONSE",
    "RUN",
    "SUBJECT",
    "Parsed",
    "parse_moment",
    "words",
]

_SPAN: Final = re.compile(r"\+([1-9][0-9]{0,6})([smhdw])")
_ENVIRONMENT_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = 1 << 53
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Parsed(click.ParamType[Any]):
    """A parameter read by one of the model's parsers; its error keeps our code and hint."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; a value that is parsed already passes."""
        return self._parse(value) if isinstance(value, str) else value


PARTY: Final = Parsed("party", ids.parse_party_id)
HOST: Final = Parsed("party/host", ids.parse_host_id)
LEASE: Final = Parsed("l-…", ids.parse_lease_id)
MEMBER: Final = Parsed("party/m-…", ids.parse_member_id)
DATASET: Final = Parsed("party/dataset", ids.parse_dataset_id)
RESPONSE: Final = Parsed("r-…", ids.parse_response_id)
RUN: Final = Parsed("party/run", ids.parse_run_id)
MODEL: Final = Parsed("party/model", ids.parse_model_id)
ADVISORY: Final = Parsed("advisory", ids.parse_advisory_id)
SUBJECT: Final = Parsed("kind:id", ids.parse_subject)


def _environment(text: str) -> str:
    """It becomes the name of a folder, and must be one of a message: checked before either."""
    if not _ENVIRONMENT_NAME.fullmatch(text):
        raise InputInvalid(
            "cli.environment",
            f"{text[:80]!r} is no name of an environment",
            "lower-case letters, digits and - . _ , at most 64 characters: main",
        )
    return text


ENVIRONMENT: Final = Parsed("name", _environment)


def parse_moment(text: str, now: int) -> int:
    """A time in µs UTC: RFC 3339, a date (its first moment, UTC), or ``+30d`` (s m h d w) from ``now``.

    Raises ``InputInvalid`` (``cli.time``).
    """
    span = _SPAN.fullmatch(text)
    if span:
        return _within(now + int(span[1]) * _SECONDS[span[2]] * 1_000_000, text)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00") if text.endswith("Z") else text)
    except ValueError as error:
        raise InputInvalid(
            "cli.time", f"{text[:40]!r} is not a time", "write 2026-04-30T12:00:00Z, 2026-04-30 or +30d"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _within((moment - _EPOCH) // timedelta(microseconds=1), text)


def _within(at: int, text: str) -> int:
    """A ledger's times are whole numbers that every JSON reader holds exactly: up to the year 2255."""
    if not 0 <= at < _END:
        raise InputInvalid("cli.time", f"{text[:40]!r} is not between 1970 and 2255", "write a time in that span")
    return at


def words(text: str | None) -> list[str]:
    """A comma-separated list, spaces around its words dropped."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
