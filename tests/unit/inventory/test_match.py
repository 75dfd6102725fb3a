"""What a finding rests on: version, hash or path, and when each of them is none."""

from __future__ import annotations

import json

import pytest

from safehold.inventory.advisories import AdvisoryDocument, Event, PackageClaim, VersionRange, parse_advisory
from safehold.inventory.match import Finding, claims_version, match_inventory
from safehold.model.contents import Item

BAD = "ab" * 32
OTHER = "cd" * 32


def _range(*events: tuple[str, str], kind: str = "ECOSYSTEM") -> PackageClaim:
    found = VersionRange(kind, tuple(Event(name, version) for name, version in events))  # type: ignore[arg-type]  # read from a table
    return PackageClaim("PyPI", "x", (), (found,))


def _osv(**more: object) -> AdvisoryDocument:
    affected = [{"package": {"ecosystem": "PyPI", "name": "litellm"}, "versions": ["1.82.7", "1.82.8"]}]
    return parse_advisory(json.dumps({"id": "MAL-1", "affected": affected} | more).encode(), "x")


def _indicators() -> AdvisoryDocument:
    files = [{"path": "litellm_init.pth", "sha256": BAD}, {"path": "litellm/server.py", "sha256": BAD}]
    return parse_advisory(json.dumps({"files": files, "paths": ["/tmp/pglog"]}).encode(), "signs")


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        (
            [("introduced", "1.82.7"), ("last_affected", "1.82.8")],
            ["1.82.7", "1.82.8", "1.82.8+cpu", "1.82.7.post1"],
            ["1.82.6", "1.82.9", "1.82.8.post1", "1.82.7rc1"],
        ),
        ([("last_affected", "1.82.8"), ("introduced", "1.82.7")], ["1.82.7", "1.82.8"], ["1.82.6", "1.82.9"]),
        ([("introduced", "0"), ("fixed", "2")], ["0", "0.dev0", "1.9", "2rc1"], ["2", "2.0", "3", "2+cpu"]),
        ([("introduced", "0")], ["0.dev0", "9999"], []),
        (
            [("introduced", "1"), ("fixed", "2"), ("introduced", "3"), ("fixed", "4")],
            ["1", "3.5"],
            ["0.9", "2", "2.5", "4"],
        ),
        (
            [("fixed", "4"), ("introduced", "3"), ("fixed", "2"), ("introduced", "1")],
            ["1", "3.5"],
            ["0.9", "2", "2.5", "4"],
        ),
        ([("introduced", "1"), ("last_affected", "1")], ["1", "1.0.0"], ["0.9", "1.0.1"]),
        ([("introduced", "0"), ("fixed", "2"), ("introduced", "2")], ["1", "2", "3"], []),
        ([("introduced", "0"), ("limit", "2")], ["1"], ["2", "3"]),
        ([("introduced", "0"), ("limit", "*")], ["1", "3"], []),
        ([("introduced", "0"), ("limit", "1"), ("limit", "2")], ["1.5"], ["2"]),
        ([("introduced", "1!0")], ["1!1"], ["2026.1"]),
        ([("introduced", "1"), ("fixed", "never")], [], ["1", "2"]),
        ([], [], ["1"]),
    ],
)
def test_ranges(events: list[tuple[str, str]], inside: list[str], outside: list[str]) -> None:
    claim = _range(*events)
    assert [version for version in inside if not claims_version(claim, version)] == []
    assert [version for version in outside if claims_version(claim, version)] == []


def test_ranges_of_other_types_and_versions_that_are_none_match_nothing() -> None:
    assert not claims_version(_range(("introduced", "0"), kind="GIT"), "1")
    assert not claims_version(_range(("introduced", "0")), "not a version")
    assert not claims_version(_range(("introduced", "0")), "")


def test_listed_versions_are_compared_as_versions_and_as_text() -> None:
    claim = PackageClaim("PyPI", "x", ("v1.0", "legacy-thing", "2.0+local"), ())
    for version in ("1.0", "1", "1.0.0", "v1", "1.0+cpu", "legacy-thing", "2.0+local", "2+LOCAL"):
        assert claims_version(claim, version), version
    for version in ("1.0.1", "legacy_thing", "2.0", "2.0+other"):
        assert not claims_version(claim, version), version
    npm = PackageClaim("npm", "x", ("1.0",), _range(("introduced", "0")).ranges)
    assert claims_version(npm, "1.0")
    assert claims_version(npm, "1.0.0"), "by its range"
    assert not claims_version(PackageClaim("npm", "x", ("1.0",), ()), "1.0.0"), "1.0 is no semantic version"
    other = PackageClaim("crates.io", "x", ("1.0.0",), _range(("introduced", "0")).ranges)
    assert claims_version(other, "1.0.0")
    assert not claims_version(other, "1.0.1"), "its order is not known here"


def test_a_version_match_names_the_distribution() -> None:
    items = [
        Item("distribution", "litellm", "1.82.8", "litellm-1.82.8.dist-info", ""),
        Item("distribution", "litellm", "1.82.6", "litellm-1.82.6.dist-info", ""),
        Item("distribution", "telnyx", "1.82.8", "telnyx-1.82.8.dist-info", ""),
        Item("file", "litellm", "1.82.8", "litellm/x.py", OTHER),
    ]
    document = _osv()
    assert match_inventory(items, [document]) == (
        Finding(document.advisory, document.digest, "version", "litellm", "1.82.8", "litellm-1.82.8.dist-info"),
    )


def test_withdrawn_documents_and_other_ecosystems_match_nothing() -> None:
    items = [Item("distribution", "litellm", "1.82.8", "litellm-1.82.8.dist-info", "")]
    assert match_inventory(items, [_osv(withdrawn="2026-04-01T00:00:00Z")]) == ()
    npm = [{"package": {"ecosystem": "npm", "name": "litellm"}, "versions": ["1.82.8"]}]
    assert match_inventory(items, [_osv(affected=npm)]) == ()


@pytest.mark.parametrize(
    ("name", "version", "folder"),
    [
        ("litellm", "1.82.8", "quiet_tool-1.0.dist-info"),
        ("quiet-tool", "1.0", "LiteLLM-1.82.8.dist-info"),
        ("litellm", "1.82.6", "litellm-1.82.8.dist-info"),
        ("litellm", "", "litellm-1.82.8-py3.11.egg-info"),
    ],
)
def test_a_renamed_folder_and_changed_metadata_both_tell(name: str, version: str, folder: str) -> None:
    (finding,) = match_inventory([Item("distribution", name, version, folder, "")], [_osv()])
    assert (finding.name, finding.version, finding.path) == ("litellm", "1.82.8", folder)


def test_the_reason_of_a_skipped_path_is_no_name() -> None:
    (finding,) = match_inventory([Item("skipped", "unreadable", "", "litellm/server.py", "")], [_indicators()])
    assert finding.name == ""


@pytest.mark.parametrize("kind", ["distribution", "file", "hook", "unowned", "altered", "pyc"])
def test_a_hash_matches_whatever_has_it(kind: str) -> None:
    item = Item(kind, "renamed", "0", "some/where.py", BAD)  # type: ignore[arg-type]  # from the table above
    (finding,) = match_inventory([item], [_indicators()])
    assert (finding.match, finding.path) == ("hash", "some/where.py")


@pytest.mark.parametrize(
    ("item", "match"),
    [
        (Item("hook", "litellm", "", "litellm_init.pth", OTHER), "path"),
        (Item("hook", "litellm", "", "litellm_init.pth", BAD), "hash"),
        (Item("skipped", "", "", "litellm/server.py", ""), "path"),
        (Item("missing", "litellm", "", "litellm/server.py", ""), "path"),
        (Item("altered", "litellm", "", "litellm/server.py", OTHER), "path"),
        (Item("unowned", "", "", "litellm/server.py", OTHER), "path"),
        (Item("file", "litellm", "1.82.6", "litellm/server.py", ""), "path"),
        (Item("file", "litellm", "1.82.6", "litellm/server.py", OTHER), None),
        (Item("file", "litellm", "1.82.6", "other/litellm/server.py", ""), None),
    ],
)
def test_a_path_alone_is_a_weak_word(item: Item, match: str | None) -> None:
    found = match_inventory([item], [_indicators()])
    assert [one.match for one in found] == ([match] if match else [])


def test_findings_come_sorted_and_once() -> None:
    items = [Item("hook", "", "", "litellm_init.pth", OTHER)] * 3 + [Item("distribution", "litellm", "1.82.7", "a", "")]
    documents = [_indicators(), _osv(), _osv()]
    found = match_inventory(items, documents)
    assert found == tuple(sorted(set(found)))
    assert [one.match for one in found] == ["version", "path"]
