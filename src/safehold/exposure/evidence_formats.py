"""Outside evidence as it comes: CloudTrail S3 data events, S3 server access logs, CSV with named columns. Pure.

A line that cannot be read is counted and never guessed at: evidence with unread lines is not taken to be complete.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from safehold.model.errors import InputInvalid, SafeholdError
from safehold.model.evidence import EvidenceRow
from safehold.model.ids import HostId, parse_host_id

__all__ = ["COLUMNS", "MAX_FILE_BYTES", "EvidenceFormat", "ReadEvidence", "Reading", "read_evidence"]

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
COLUMNS: Final = ("t", "host", "actor", "act", "object", "detail", "things")

EvidenceFormat = Literal["cloudtrail", "s3-log", "csv"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = 1 << 53
_LONGEST: Final = 2000
_MOST_THINGS: Final = 2000
_S3_LINE: Final = re.compile(
    r"\S+ (?P<bucket>\S+) \[(?P<time>[^\]]+)\] (?P<ip>\S+) (?P<who>\S+) \S+ (?P<act>\S+) (?P<key>\S+)"
    r' (?:"(?:[^"\\]|\\.)*"|-) (?P<status>\S+) \S+ (?P<sent>\S+)'
)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How to read: ``columns`` (CSV) gives the file's name for each of ``COLUMNS``; ``hosts`` what others call ours.

    ``host``: all rows are of this one.
    """

    columns: Mapping[str, str] = {}
    hosts: Mapping[str, HostId] = {}
    host: HostId | None = None

    def host_of(self, *names: str) -> HostId | None:
        """Our host, by any of the names that a line has for it."""
        if self.host is not None:
            return self.host
        for name in names:
            if name in self.hosts:
                return self.hosts[name]
            try:
                return parse_host_id(name)
            except SafeholdError:
                continue
        return None


class ReadEvidence(msgspec.Struct, frozen=True):
    """What a file said: its rows in order of time, how many lines could not be read, how many were of other things."""

    rows: tuple[EvidenceRow, ...]
    unread: int
    other: int


def read_evidence(form: EvidenceFormat, data: bytes, reading: Reading) -> ReadEvidence:
    """Read a file, gzipped or plain. Raises ``InputInvalid``: ``exposure.evidence_size``, ``exposure.evidence_form``,
    ``exposure.evidence_columns``.
    """
    text = _plain(data).decode("utf-8-sig", errors="replace")
    read = {"cloudtrail": _cloudtrail, "s3-log": _s3_log, "csv": _csv}[form](text, reading)
    return ReadEvidence(tuple(sorted(read.rows, key=lambda row: row.t)), read.unread, read.other)


def _plain(data: bytes) -> bytes:
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_FILE_BYTES + 1) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise InputInvalid("exposure.evidence_form", "the file is not whole: it cannot be unpacked") from error
    if len(plain) > MAX_FILE_BYTES:
        raise InputInvalid(
            "exposure.evidence_size", f"the file has more than {MAX_FILE_BYTES:,} bytes", "cut it and import the pieces"
        )
    return plain


def _moment(text: str) -> int:
    """A time in µs UTC; ``ValueError`` for none. Whole numbers are seconds, ms or µs, told apart by their size."""
    plain = text.strip()
    if re.fullmatch(r"[0-9]{9,16}", plain):
        number = int(plain)
        at = number * (1_000_000 if number < 10**11 else 1000 if number < 10**14 else 1)
    else:
        moment = datetime.fromisoformat(plain)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        at = (moment - _EPOCH) // timedelta(microseconds=1)
    if not 0 <= at < _END:
        raise ValueError("out of range")
    return at


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else "" if value is None else str(value)[:_LONGEST]


def _cloudtrail(text: str, reading: Reading) -> ReadEvidence:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputInvalid(
            "exposure.evidence_form", "this is not a CloudTrail file", "it is JSON with a member Records"
        ) from error
    records = document.get("Records") if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise InputInvalid(
            "exposure.evidence_form", "this is not a CloudTrail file", "it is JSON with a member Records"
        )
    rows, unread, other = list[EvidenceRow](), 0, 0
    for record in records:
        if isinstance(record, dict) and record.get("eventSource") not in (None, "s3.amazonaws.com"):
            other += 1
            continue
        try:
            rows.append(_cloudtrail_row(record, reading))
        except (AttributeError, KeyError, TypeError, ValueError):
            unread += 1
    return ReadEvidence(tuple(rows), unread, other)


def _cloudtrail_row(record: dict[str, Any], reading: Reading) -> EvidenceRow:
    asked = record.get("requestParameters") or {}
    who = record.get("userIdentity") or {}
    address, denied = _text(record.get("sourceIPAddress")), record.get("errorCode")
    more = record.get("additionalEventData") or {}
    sent = more.get("bytesTransferredOut")
    key = f"/{asked['key']}" if "key" in asked else "/"
    actor = _text(who.get("arn") or who.get("principalId") or who.get("type"))
    return EvidenceRow(
        t=_moment(record["eventTime"]),
        host=reading.host_of(address, actor),
        actor=actor,
        act=_text(record["eventName"]) + (f" refused: {_text(denied)}" if denied else ""),
        object=_text(f"s3://{asked['bucketName']}{key}"),
        detail=f"from {address}" + (f", {sent} bytes out" if sent is not None else ""),
    )


def _s3_log(text: str, reading: Reading) -> ReadEvidence:
    rows, unread = list[EvidenceRow](), 0
    for line in text.splitlines():
        if not line.strip():
            continue
        found = _S3_LINE.match(line)
        try:
            if found is None:
                raise ValueError("another form")
            at = datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z")
        except ValueError:
            unread += 1
            continue
        key = "" if found["key"] == "-" else found["key"]
        refused = "" if found["status"].startswith(("2", "3", "-")) else f" refused: {found['status']}"
        rows.append(
            EvidenceRow(
                t=(at - _EPOCH) // timedelta(microseconds=1),
                host=reading.host_of(found["ip"], found["who"]),
                actor=_text(found["who"]),
                act=_text(found["act"]) + refused,
                object=_text(f"s3://{found['bucket']}/{key}"),
                detail=f"from {found['ip']}, {found['sent']} bytes out",
            )
        )
    return ReadEvidence(tuple(rows), unread, 0)


def _csv(text: str, reading: Reading) -> ReadEvidence:
    csv.field_size_limit(1 << 20)
    lines = csv.DictReader(io.StringIO(text, newline=""))
    names = reading.columns or {name: name for name in COLUMNS if name in (lines.fieldnames or ())}
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in names.values() if name not in (lines.fieldnames or ())]
    if unknown or missing or "t" not in names:
        raise InputInvalid(
            "exposure.evidence_columns",
            f"the columns do not fit: {', '.join([*unknown, *missing]) or 'none is the time'}",
            f"give --map {','.join(COLUMNS)} as NAME=COLUMN; the file has {', '.join(lines.fieldnames or ())[:300]}",
        )
    rows, unread = list[EvidenceRow](), 0
    try:
        for line in lines:
            try:
                rows.append(_csv_row(line, names, reading))
            except (AttributeError, ValueError):
                unread += 1
    except csv.Error:
        unread += 1
    return ReadEvidence(tuple(rows), unread, 0)


def _csv_row(line: Mapping[str, str | None], names: Mapping[str, str], reading: Reading) -> EvidenceRow:
    said = {name: _text(line.get(column)).strip() for name, column in names.items()}
    things = re.split(r"[\s,;]+", said.get("things", ""))[:_MOST_THINGS]
    return EvidenceRow(
        t=_moment(said["t"]),
        host=reading.host_of(said.get("host", "")),
        actor=said.get("actor", ""),
        act=said.get("act", ""),
        object=said.get("object", ""),
        detail=said.get("detail", ""),
        things=tuple(thing for thing in things if thing),
    )
