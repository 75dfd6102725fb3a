"""Ids: what is well formed comes back unchanged; what is not says which id it is and how to write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from safehold.model import ids
from safehold.model.errors import InputInvalid

HEX = "0123456789abcdef" * 4
PARSERS: dict[str, tuple[Callable[[str], Any], list[str], list[str]]] = {
    "id.party": (
        ids.parse_party_id,
        ["a", "north-lab", "0", "a" * 63],
        ["", "-a", "a-", "A", "a_b", "a/b", "a" * 64, "é", "a\n", "a b", " a"],
    ),
    "id.host": (
        ids.parse_host_id,
        ["quill-works/ci-1", "a/b.c_d", "a/" + "b" * 64],
        ["a", "a/", "/b", "a/b/c", "a/.b", "a/b.", "a/..", "a/" + "b" * 65, "a/B", "a/b\n"],
    ),
    "id.member": (
        ids.parse_member_id,
        [f"a/m-{HEX[:20]}"],
        ["a/m-", f"a/m-{HEX[:19]}", f"a/m-{HEX[:21]}", f"a/m-{HEX[:19]}G", f"a/n-{HEX[:20]}", f"m-{HEX[:20]}"],
    ),
    "id.dataset": (ids.parse_dataset_id, ["quill-works/word-problems"], ["quill-works", "quill-works/x@1"]),
    "id.run": (ids.parse_run_id, ["north-lab/run-7"], ["run-7"]),
    "id.model": (ids.parse_model_id, ["north-lab/tutor-1"], ["tutor 1"]),
    "id.digest": (
        ids.parse_digest,
        ["sha256:" + HEX],
        [HEX, "sha256:" + HEX[1:], "sha256:" + HEX.upper(), "sha512:" + HEX, "sha256:" + HEX + "0", "sha256:" + HEX + "\n"],
    ),
    "id.grant": (ids.parse_grant_id, ["g-" + HEX[:16]], ["g-", HEX[:16], "h-" + HEX[:16], "g-" + HEX[:17]]),
    "id.hold": (ids.parse_hold_id, ["h-" + HEX[:16]], ["g-" + HEX[:16], "h-" + "G" * 16]),
    "id.lease": (ids.parse_lease_id, ["l-" + HEX[:16]], ["h-" + HEX[:16], "l-" + HEX[:15]]),
    "id.request": (ids.parse_request_id, ["q-" + HEX[:32]], ["q-" + HEX[:31], HEX[:32], "q-" + HEX[:32] + " "]),
    "id.response": (ids.parse_response_id, ["r-" + HEX[:16]], ["r-", HEX[:16], "h-" + HEX[:16], "r-" + HEX[:17]]),
    "id.advisory": (
        ids.parse_advisory_id,
        ["PYSEC-2026-2", "GHSA-xxxx", "CVE-2026-1", "aa", "a" * 128],
        ["", "a", "-a", "a b", "a/b", "a" * 129, "a\nb"],
    ),
    "id.group": (ids.parse_group_name, ["question", "q.a_b-c"], ["", "Q", "a b", ".a"]),
    "id.purpose": (ids.parse_purpose, ["training"], ["Training", "a.b", ""]),
}  # fmt: skip


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, (_, good, _) in PARSERS.items() for text in good])
def test_a_good_id_comes_back(code: str, text: str) -> None:
    assert PARSERS[code][0](text) == text


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, (_, _, bad) in PARSERS.items() for text in bad])
def test_a_bad_id_is_refused_with_its_code_and_a_hint(code: str, text: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        PARSERS[code][0](text)
    assert caught.value.code == code
    assert caught.value.hint


def test_every_parser_is_tested_here() -> None:
    own = {ids.parse_release_name, ids.parse_subject}
    parsers = {value for name, value in vars(ids).items() if name.startswith("parse_")}
    assert parsers == own | {parser for parser, _, _ in PARSERS.values()}


def test_a_very_long_text_is_not_shown() -> None:
    with pytest.raises(InputInvalid) as caught:
        ids.parse_party_id("x" * 100_000)
    assert len(str(caught.value)) < 200


def test_a_release_name_is_split() -> None:
    assert ids.parse_release_name("quill-works/word-problems@12") == ("quill-works/word-problems", 12)


@pytest.mark.parametrize(
    "text", ["a/b", "a/b@", "a/b@0", "a/b@01", "a/b@-1", "a/b@1.0", "a/b@1234567890", "b@1", "a/b@1\n"]
)
def test_a_bad_release_name_is_refused(text: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        ids.parse_release_name(text)
    assert caught.value.code == "id.release"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("party:quill-works", "party"),
        ("host:quill-works/ci-1", "host"),
        (f"member:quill-works/m-{HEX[:20]}", "member"),
        ("dataset:quill-works/word-problems", "dataset"),
        (f"release:sha256:{HEX}", "release"),
        (f"grant:g-{HEX[:16]}", "grant"),
    ],
)
def test_a_subject_is_read_and_written(text: str, kind: str) -> None:
    subject = ids.parse_subject(text)
    assert subject.kind == kind
    assert str(subject) == text


def test_every_subject_kind_can_be_written() -> None:
    codes = set()
    for kind in ids.SUBJECT_KINDS:
        with pytest.raises(InputInvalid) as caught:
            ids.parse_subject(f"{kind}: not an id")
        codes.add(caught.value.code)
    assert codes == {"id.party", "id.host", "id.member", "id.dataset", "id.digest", "id.grant"}


@pytest.mark.parametrize("text", ["", "party", "quill-works", "nobody:quill-works", ":a", "PARTY:a"])
def test_what_names_no_subject_is_refused(text: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        ids.parse_subject(text)
    assert caught.value.code == "id.subject"
    assert all(kind in caught.value.hint for kind in ids.SUBJECT_KINDS)


def test_the_party_of_a_two_part_id() -> None:
    assert ids.party_of(ids.parse_host_id("quill-works/ci-1")) == "quill-works"


def test_a_digest_is_that_of_the_bytes() -> None:
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert ids.sha256_digest(b"") == ids.parse_digest(empty)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", ids.sha256_digest(b"x"))
