"""OSV records and indicator files as claims; what of them is not understood is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from safehold.inventory.advisories import (
    MAX_ADVISORY_BYTES,
    AdvisoryDocument,
    Event,
    FileClaim,
    PackageClaim,
    PathClaim,
    VersionRange,
    Window,
    merge_aliases,
    parse_advisory,
    pep440,
    read_advisories,
)
from safehold.model.errors import InputInvalid, NotFound
from safehold.model.ids import sha256_digest

TRAP = {
    "id": "MAL-2026-0000-TRAP",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "Some.Package"}, "versions": ["2.4.6"]}],
    "database_specific": {
        "malicious-packages-origins": [{"versions": ["1.0.0", "2.4.5", "2.4.6"]}],
        "affected": [{"versions": ["9"]}],
    },
}
INDICATORS = {
    "files": [
        {"name": "litellm-1.82.8-py3-none-any.whl", "sha256": "D2" * 32, "version": "1.82.8"},
        {"name": "litellm-1.82.7.tar.gz", "sha256": "8a" * 32, "version": "1.82.7"},
        {"name": "dropper.tar.gz", "sha256": "33" * 32},
        {"path": "litellm_init.pth", "sha256": "71" * 32, "size": 34628, "version": "1.82.8"},
    ],
    "domains": ["models.litellm.cloud"],
    "addresses": ["192.0.2.1"],
    "paths": ["/tmp/pglog"],
    "kubernetes": {"namespace": "kube-system"},
    "windows": [{"source": "vendor", "from": "2026-03-24T10:39:00Z", "to": "2026-03-24T11:19:00Z"}],
}


def _parse(plain: Any, stem: str = "some-indicators") -> AdvisoryDocument:
    return parse_advisory(json.dumps(plain).encode(), stem)


def _osv(
    name: str, versions: list[str], *, package: str = "litellm", aliases: tuple[str, ...] = (), **more: Any
) -> AdvisoryDocument:
    affected = [{"package": {"ecosystem": "PyPI", "name": package}, "versions": versions}]
    return _parse({"id": name, "aliases": list(aliases), "affected": affected} | more)


def _code(body: bytes) -> str:
    with pytest.raises(InputInvalid) as caught:
        parse_advisory(body, "some-file")
    return caught.value.code


def test_only_the_root_affected_names_versions() -> None:
    document = _parse(TRAP)
    assert document.claims == (PackageClaim("PyPI", "some-package", ("2.4.6",), ()),)
    assert document.notes == ()


def test_every_member_of_an_osv_record() -> None:
    plain = {
        "id": "PYSEC-2026-2",
        "aliases": ["MAL-2026-2144", "MAL-2026-2144"],
        "summary": "a summary",
        "details": "more",
        "published": "2026-03-24T16:15:08.809028Z",
        "modified": "2026-03-24T22:41:32Z",
        "withdrawn": "2026-03-25T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "a"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1"}]}],
            }
        ],
    }
    body = json.dumps(plain, indent=3).encode()
    document = parse_advisory(body, "x")
    assert (document.advisory, document.aliases, document.format) == ("PYSEC-2026-2", ("MAL-2026-2144",), "osv")
    assert document.published == 1_774_368_908_809_028
    assert (document.modified, document.withdrawn) == (1_774_392_092_000_000, 1_774_396_800_000_000)
    assert (document.body, document.digest) == (body, sha256_digest(body))
    events = (Event("introduced", "0"), Event("fixed", "1"))
    assert document.claims == (PackageClaim("PyPI", "a", (), (VersionRange("ECOSYSTEM", events),)),)


@pytest.mark.parametrize(
    ("affected", "note"),
    [
        ({}, "names no package"),
        ({"package": {"ecosystem": "crates.io", "name": "x"}, "versions": ["1"]}, "crates.io x: kept"),
        ({"package": {"ecosystem": "npm", "name": "x"}, "versions": ["1"]}, "x: '1' is no semantic version"),
        ({"package": {"ecosystem": "PyPI", "name": "x"}}, "no version is named"),
        ({"package": {"ecosystem": "PyPI", "name": "x"}, "versions": ["not one"]}, "exact text alone"),
        ({"package": {"ecosystem": "PyPI", "name": "x"}, "ranges": [{"type": "GIT", "events": []}]}, "type GIT"),
        (
            {
                "package": {"ecosystem": "PyPI", "name": "x"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "?"}]}],
            },
            "no version",
        ),
        (
            {
                "package": {"ecosystem": "PyPI", "name": "x"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"someday": "1"}]}],
            },
            "unknown kind",
        ),
    ],
)
def test_what_cannot_be_matched_is_noted(affected: dict[str, Any], note: str) -> None:
    assert any(note in one for one in _parse({"id": "X-1", "affected": [affected]}).notes)


def test_a_record_without_packages_says_so_and_a_bad_alias_hides_nothing() -> None:
    document = _parse({"id": "X-1", "aliases": ["GOOD-1", "b a d", "y" * 500]})
    assert document.aliases == ("GOOD-1",)
    assert len(document.notes) == 3
    many = _parse({"id": "X-1", "aliases": [f"A-{number}" for number in range(300)]})
    assert len(many.aliases) == 256
    assert any("300 aliases" in note for note in many.notes)


def test_an_indicator_file() -> None:
    document = _parse(INDICATORS, "litellm-indicators")
    assert (document.advisory, document.format) == ("litellm-indicators", "indicators")
    assert document.claims[0] == PackageClaim("PyPI", "litellm", ("1.82.7", "1.82.8"), ())
    assert FileClaim("", "litellm_init.pth", "71" * 32, "1.82.8") in document.claims
    assert FileClaim("litellm-1.82.8-py3-none-any.whl", "", "d2" * 32, "1.82.8") in document.claims
    assert PathClaim("/tmp/pglog") in document.claims
    assert document.windows == (Window("vendor", 1_774_348_740_000_000, 1_774_351_140_000_000),)
    assert (document.domains, document.addresses) == (("models.litellm.cloud",), ("192.0.2.1",))
    assert "kubernetes: kept, not understood" in document.notes


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "inventory.advisory_json"),
        (b"\xff\xfe{}", "inventory.advisory_json"),
        (b"[]", "inventory.advisory_json"),
        (b"[" * 200_000, "inventory.advisory_json"),
        (b'{"id":"A-1","id":"B-1"}', "inventory.advisory_json"),
        (b'{"id":"A-1","x":NaN}', "inventory.advisory_json"),
        (b'{"id":"A-1","summary":"\\ud800"}', "inventory.advisory_json"),
        (b'{"id":"A-1","x":' + b"1" * 5000 + b"}", "inventory.advisory_json"),
        (b"{}", "inventory.advisory_form"),
        (b'{"id":1}', "inventory.advisory_form"),
        (b'{"id":"A-1","affected":{}}', "inventory.advisory_form"),
        (b'{"id":"A-1","affected":[{"package":{"name":"x"}}]}', "inventory.advisory_form"),
        (b'{"id":"A-1","affected":[{"versions":[1]}]}', "inventory.advisory_form"),
        (b'{"id":"A 1"}', "id.advisory"),
        (b'{"id":"A-1","published":"yesterday"}', "inventory.advisory_time"),
        (b'{"id":"A-1","published":"9999-01-01T00:00:00Z"}', "inventory.advisory_time"),
        (b'{"files":[{"sha256":"zz"}]}', "inventory.advisory_form"),
        (
            b'{"windows":[{"source":"x","from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}]}',
            "inventory.advisory_window",
        ),
        (b'{"windows":[{"source":"x","from":"2026-01-02T00:00:00Z"}]}', "inventory.advisory_form"),
        (b" " * (MAX_ADVISORY_BYTES + 1), "inventory.advisory_size"),
    ],
)
def test_what_is_no_advisory(body: bytes, code: str) -> None:
    assert _code(body) == code


def test_a_byte_order_mark_is_no_fault_and_stays_in_the_digest() -> None:
    plain, marked = b'{"id":"A-1"}', b'\xef\xbb\xbf{"id":"A-1"}'
    assert parse_advisory(plain, "x").digest != parse_advisory(marked, "x").digest


def test_a_broken_file_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "deep" / "b.json").write_text(json.dumps(TRAP))
    (tmp_path / "readme.txt").write_text("not read")
    (tmp_path / "link.json").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.json")
    reading = read_advisories(tmp_path)
    assert [one.advisory for one in reading.documents] == ["MAL-2026-0000-TRAP"]
    assert [(Path(path).name, error.code) for path, error in reading.failures] == [
        ("a.json", "inventory.advisory_json"),
        ("link.json", "inventory.advisory_read"),
        ("pipe.json", "inventory.advisory_file"),
    ]


def test_zero_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="none of 0 files") as caught:
        read_advisories(tmp_path)
    assert caught.value.code == "inventory.no_advisories"
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputInvalid, match="the first: a is not JSON"):
        read_advisories(tmp_path / "a.json")
    with pytest.raises(NotFound):
        read_advisories(tmp_path / "none")


def test_aliases_join_to_any_distance_and_in_either_direction() -> None:
    chain = [
        _osv("A-1", ["1"], aliases=("B-1",)),
        _osv("C-1", ["1"], aliases=("B-1", "D-1")),
        _osv("D-1", ["1"]),
        _osv("E-1", ["1"], package="other"),
    ]
    for documents in (chain, chain[::-1]):
        groups = merge_aliases(documents)
        assert [group.ids for group in groups] == [("A-1", "B-1", "C-1", "D-1"), ("E-1",)]
        assert sum(len(group.documents) for group in groups) == 4


def test_versions_of_one_record_stay_together_and_all_stay() -> None:
    old, new = _osv("A-1", ["1"]), _osv("A-1", ["1", "2"])
    (group,) = merge_aliases([old, new])
    assert group.documents == (old, new)


def test_indicators_join_the_records_of_the_same_event_alone() -> None:
    indicators = _parse(INDICATORS, "litellm-indicators")
    same = _osv("PYSEC-2026-2", ["1.82.7", "v1.82.8"])
    malicious = _osv("MAL-2026-1", ["1.82.6", "1.82.7"])
    unrelated = _osv("PYSEC-2024-9", ["1.0", "1.82.7"])
    elsewhere = _osv("MAL-2026-2", ["1.82.7"], package="telnyx")
    groups = merge_aliases([indicators, same, malicious, unrelated, elsewhere])
    assert [group.ids for group in groups] == [
        ("MAL-2026-1", "PYSEC-2026-2", "litellm-indicators"),
        ("MAL-2026-2",),
        ("PYSEC-2024-9",),
    ]


@pytest.mark.parametrize("text", ["", "x", "1." * 100, "1" * 5000, "1.0\u0661?"])
def test_what_is_no_version(text: str) -> None:
    assert pep440(text) is None


INCIDENT = Path(__file__).resolve().parents[4] / "shared" / "incident" / "advisories"


@pytest.mark.skipif(not INCIDENT.is_dir(), reason="the records of the incident are not beside the repository")
def test_the_records_of_the_incident() -> None:
    reading = read_advisories(INCIDENT)
    assert reading.failures == ()
    groups = {group.ids[0]: group for group in merge_aliases(reading.documents)}
    assert groups["GHSA-5mg7-485q-xm76"].ids == (
        "GHSA-5mg7-485q-xm76",
        "MAL-2026-2144",
        "PYSEC-2026-2",
        "litellm-indicators",
    )
    trap = next(one for one in reading.documents if "TRAP" in one.advisory)
    assert trap.claims == (PackageClaim("PyPI", "mistralai", ("2.4.6",), ()),)
