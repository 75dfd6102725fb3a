"""Whatever file is imported as evidence: rows in order of time, or our error, and nothing is taken for read that was not."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.exposure.duties import parse_duties
from safehold.exposure.evidence_formats import Reading, read_evidence
from safehold.model.errors import SafeholdError

FORMS = st.sampled_from(["cloudtrail", "s3-log", "csv"])
EVENT = {
    "eventTime": "2026-03-24T12:00:00Z",
    "eventName": "GetObject",
    "userIdentity": {"arn": "arn:aws:iam::1:user/ci"},
    "sourceIPAddress": "192.0.2.1",
    "requestParameters": {"bucketName": "data", "key": "a.jsonl"},
    "additionalEventData": {"bytesTransferredOut": 5},
}
LINE = (
    "79a5 data [24/Mar/2026:12:00:00 +0000] 192.0.2.1 arn:aws:iam::1:user/ci 3E57 REST.GET.OBJECT a.jsonl "
    '"GET /a.jsonl HTTP/1.1" 200 - 5 5 1 1 "-" "curl" - x y z\n'
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def check(form: str, data: bytes) -> None:
    try:
        read = read_evidence(form, data, Reading())
    except SafeholdError as error:
        assert error.code.startswith("exposure.")  # noqa: PT017 - the point is that no other error passes
        return
    assert [row.t for row in read.rows] == sorted(row.t for row in read.rows)
    assert read.unread >= 0


@settings(max_examples=300)
@given(form=FORMS, data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(form: str, data: bytes) -> None:
    check(form, data)


@settings(max_examples=200)
@given(form=FORMS, cut=st.integers(0, 200), flip=st.integers(0, 400), bit=st.integers(1, 255))
def test_a_packed_file_that_was_damaged(form: str, cut: int, flip: int, bit: int) -> None:
    whole = {"cloudtrail": json.dumps({"Records": [EVENT]}), "s3-log": LINE, "csv": "t,object\n1774353600,a\n"}[form]
    data = bytearray(gzip.compress(whole.encode()))
    data[flip % len(data)] ^= bit
    check(form, bytes(data[: len(data) - cut % len(data)]))


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(EVENT)), value=JSON, whole=st.booleans())
def test_any_value_in_any_field_of_an_event(name: str, value: object, whole: bool) -> None:
    record = value if whole else {**EVENT, name: value}
    check("cloudtrail", json.dumps({"Records": [record, EVENT]}).encode())


@settings(max_examples=200)
@given(at=st.integers(0, len(LINE) - 1), put=st.text(max_size=5), cut=st.integers(0, 30))
def test_a_line_of_a_server_log_changed(at: int, put: str, cut: int) -> None:
    check("s3-log", (LINE[:at] + put + LINE[at + cut :] + LINE).encode(errors="replace"))


@settings(max_examples=200)
@given(text=st.text(alphabet='t,object\n"0123456789\r;\x00é', max_size=120))
def test_any_table(text: str) -> None:
    check("csv", ("t,object,things\n" + text).encode())


def test_good_files_are_read() -> None:
    for form, text in (
        ("cloudtrail", json.dumps({"Records": [EVENT]})),
        ("s3-log", LINE),
        ("csv", "t,object\n1774353600,a\n"),
    ):
        read = read_evidence(form, gzip.compress(text.encode()), Reading())
        assert (len(read.rows), read.unread) == (1, 0), form
        assert read.rows[0].t == 1_774_353_600_000_000


@settings(max_examples=200)
@given(
    text=st.text(max_size=80)
    | st.sampled_from(["[[duty]]\n", "duty = []\n"]).flatmap(
        lambda head: st.text(max_size=40).map(lambda rest: head + rest)
    )
)
def test_any_text_as_duties(text: str) -> None:
    try:
        parse_duties(text, "contracts.toml")
    except SafeholdError as error:
        assert error.code == "exposure.duties"  # noqa: PT017 - the point is that no other error passes
    with pytest.raises(SafeholdError):
        parse_duties("[[duty]]\nid = 1", "contracts.toml")
