"""The index of claims against a naive twin that asks every claim of every item."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safehold.inventory.advisories import (
    AdvisoryDocument,
    Claim,
    Event,
    FileClaim,
    PackageClaim,
    PathClaim,
    VersionRange,
    merge_aliases,
)
from safehold.inventory.match import Finding, claims_version, match_inventory
from safehold.model.contents import Item
from safehold.model.ids import AdvisoryId, Digest

VERSIONS = ["0", "0.1.dev1", "1", "1.0", "1.0rc1", "1.1", "1.1+cpu", "1.1.post1", "2", "1!0.5", "odd one", ""]
NAMES = ["alpha", "beta", ""]
PATHS = ["a.pth", "b/c.py", "d.py", "alpha-1.1.dist-info", "Beta-2.dist-info"]
FOLDERS = {"alpha-1.1.dist-info": ("alpha", "1.1"), "Beta-2.dist-info": ("beta", "2")}
HASHES = ["aa" * 32, "bb" * 32]
KINDS = ["distribution", "file", "hook", "unowned", "altered", "missing", "pyc", "skipped"]

events = st.builds(
    Event, st.sampled_from(["introduced", "fixed", "last_affected", "limit"]), st.sampled_from([*VERSIONS, "*"])
)
ranges = st.builds(
    VersionRange, st.sampled_from(["ECOSYSTEM", "ECOSYSTEM", "GIT"]), st.lists(events, max_size=4).map(tuple)
)
packages = st.builds(
    PackageClaim,
    st.sampled_from(["PyPI", "PyPI", "npm"]),
    st.sampled_from(NAMES[:2]),
    st.lists(st.sampled_from(VERSIONS), max_size=2).map(tuple),
    st.lists(ranges, max_size=2).map(tuple),
)
files = st.builds(FileClaim, st.just(""), st.sampled_from(["", *PATHS]), st.sampled_from(HASHES), st.just(""))
claims = st.one_of(packages, files, st.builds(PathClaim, st.sampled_from(PATHS)))
items = st.builds(
    Item,
    st.sampled_from(KINDS),
    st.sampled_from(NAMES),
    st.sampled_from(VERSIONS),
    st.sampled_from(PATHS),
    st.sampled_from(["", *HASHES]),
)


def _document(
    number: int, found: tuple[Claim, ...], withdrawn: int | None, aliases: tuple[str, ...] = ()
) -> AdvisoryDocument:
    return AdvisoryDocument(
        advisory=AdvisoryId(f"A-{number}"), format="osv", aliases=tuple(map(AdvisoryId, aliases)), summary="", details="",
        published=None, modified=None, withdrawn=withdrawn, digest=Digest(f"sha256:{number:064x}"), body=b"", claims=found,
        windows=(), domains=(), addresses=(), notes=(),
    )  # fmt: skip


documents = st.lists(
    st.tuples(st.lists(claims, max_size=3).map(tuple), st.sampled_from([None, None, 1])), max_size=4
).map(lambda many: [_document(number, *one) for number, one in enumerate(many)])


def _parsed(text: str) -> Version | None:
    return None if text in {"odd one", ""} else Version(text)


def _naive_range(found: VersionRange, version: Version) -> bool:
    """The last event that applies decides; each limit is a strict upper bound, and one of them suffices."""

    def position(event: Event) -> tuple[bool, Version, int]:
        rank = ["fixed", "introduced", "last_affected"].index(event.kind)
        if event == Event("introduced", "0"):
            return (False, Version("0"), rank)
        return (True, Version(event.version), rank)

    bounds = [event for event in found.events if event.kind != "limit"]
    limits = [event.version for event in found.events if event.kind == "limit"]
    if any(event.version in {"odd one", "", "*"} for event in bounds):
        return False
    if limits and not any(
        limit == "*" or (_parsed(limit) is not None and version < Version(limit)) for limit in limits
    ):
        return False
    last = None
    for event in sorted(bounds, key=position):
        at_least, at = position(event)[0], position(event)[1]
        if not at_least or at < version or (at == version and event.kind != "last_affected"):
            last = event.kind
    return last == "introduced"


def _naive_version(claim: PackageClaim, text: str) -> bool:
    parsed = _parsed(text)
    if text in claim.versions or claim.ecosystem != "PyPI" or parsed is None:
        return text in claim.versions
    both = [parsed, Version(parsed.public)]
    listed = [_parsed(version) for version in claim.versions]
    return any(one in listed for one in both) or any(
        one.type == "ECOSYSTEM" and any(_naive_range(one, version) for version in both) for one in claim.ranges
    )


def _naive(given_items: list[Item], given_documents: list[AdvisoryDocument]) -> set[Finding]:
    found: set[Finding] = set()
    for item in given_items:
        for document in given_documents:
            for claim in document.claims if document.withdrawn is None else ():
                match = None
                if isinstance(claim, PackageClaim):
                    for name, version in {(item.name, item.version), FOLDERS.get(item.path, (item.name, item.version))}:
                        named = item.kind == "distribution" and claim.ecosystem == "PyPI" and claim.name == name
                        if named and _naive_version(claim, version):
                            found.add(Finding(document.advisory, document.digest, "version", name, version, item.path))
                elif isinstance(claim, FileClaim) and item.sha256 == claim.sha256:
                    match = "hash"
                elif claim.path == item.path and (
                    item.kind in {"hook", "unowned", "altered", "missing", "skipped"}
                    or (item.kind == "file" and not item.sha256)
                ):
                    match = "path"
                if match:
                    name = "" if item.kind == "skipped" else item.name
                    found.add(Finding(document.advisory, document.digest, match, name, item.version, item.path))
    hashed = {(one.document, one.path) for one in found if one.match == "hash"}
    return {one for one in found if one.match != "path" or (one.document, one.path) not in hashed}


@given(st.lists(items, max_size=6), documents)
def test_the_index_finds_what_the_naive_twin_finds(
    given_items: list[Item], given_documents: list[AdvisoryDocument]
) -> None:
    assert set(match_inventory(given_items, given_documents)) == _naive(given_items, given_documents)


@given(packages, st.sampled_from(VERSIONS))
def test_versions_and_ranges_agree_with_the_naive_twin(claim: PackageClaim, version: str) -> None:
    assert claims_version(claim, version) == _naive_version(claim, version)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_plain_ranges_agree_with_specifiers(low: int, high: int, asked: int) -> None:
    low, high = sorted((low, high))
    for kind, sign in (("fixed", "<"), ("last_affected", "<=")):
        if low == high and kind == "fixed":
            continue  # an empty range: OSV's evaluation leaves it open, and so do we
        claim = PackageClaim(
            "PyPI", "x", (), (VersionRange("ECOSYSTEM", (Event("introduced", f"1.{low}"), Event(kind, f"1.{high}"))),)
        )  # type: ignore[arg-type]  # from the table above
        assert claims_version(claim, f"1.{asked}") == SpecifierSet(f">=1.{low},{sign}1.{high}").contains(f"1.{asked}")


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=8))
def test_alias_groups_are_the_connected_components(links: list[list[int]]) -> None:
    given_documents = [
        _document(number, (), None, tuple(f"A-{other}" for other in others)) for number, others in enumerate(links)
    ]
    groups = merge_aliases(given_documents)
    reach = {number: {number, *others} for number, others in enumerate(links)}
    for _ in range(20):
        for number, found in reach.items():
            reach[number] = found.union(*(other for other in reach.values() if other & found))
    expected = {frozenset(f"A-{member}" for member in found) for found in reach.values()}
    assert {frozenset(group.ids) for group in groups} == expected
    assert sum(len(group.documents) for group in groups) == len(given_documents)
