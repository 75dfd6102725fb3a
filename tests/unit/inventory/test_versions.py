"""Semantic versions against the specification's own examples (semver.org, 2.0.0)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from safehold.inventory.advisories import Event, PackageClaim, VersionRange
from safehold.inventory.match import claims_version
from safehold.inventory.versions import order_of, semver

# Clause 11, and the regular expression's test cases that the specification links to (valid, then invalid).
ORDERED = [
    "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
    "1.0.0", "2.0.0", "2.1.0", "2.1.1",
]  # fmt: skip
VALID = [
    "0.0.4", "1.2.3", "10.20.30", "1.1.2-prerelease+meta", "1.1.2+meta", "1.1.2+meta-valid", "1.0.0-alpha",
    "1.0.0-alpha.beta", "1.0.0-alpha.beta.1", "1.0.0-alpha.1", "1.0.0-alpha0.valid", "1.0.0-alpha.0valid",
    "1.0.0-alpha-a.b-c-somethinglong+build.1-aef.1-its-okay", "1.0.0-rc.1+build.1", "2.0.0-rc.1+build.123",
    "1.2.3-beta", "10.2.3-DEV-SNAPSHOT", "1.2.3-SNAPSHOT-123", "2.0.0+build.1848", "2.0.1-alpha.1227",
    "1.0.0-alpha+beta", "1.2.3----RC-SNAPSHOT.12.9.1--.12+788", "1.2.3----R-S.12.9.1--.12+meta",
    "1.2.3----RC-SNAPSHOT.12.9.1--.12", "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
    "99999999999999999999999.999999999999999999.99999999999999999", "1.0.0-0A.is.legal",
]  # fmt: skip
INVALID = [
    "1", "1.2", "1.2.3-0123", "1.2.3-0123.0123", "1.1.2+.123", "+invalid", "-invalid", "-invalid+invalid",
    "-invalid.01", "alpha", "alpha.beta", "alpha.beta.1", "alpha.1", "alpha+beta", "alpha_beta", "alpha.", "alpha..",
    "beta", "1.0.0-alpha_beta", "-alpha.", "1.0.0-alpha..", "1.0.0-alpha..1", "1.0.0-alpha...1", "01.1.1", "1.01.1",
    "1.1.01", "1.2.3.DEV", "1.2-SNAPSHOT", "1.2.31.2.3----RC-SNAPSHOT.12.09.1--..12+788", "1.2-RC-SNAPSHOT",
    "-1.0.3-gamma+b7718", "+justmeta", "9.8.7+meta+meta", "9.8.7-whatever+meta+meta", "1.0.0\n", "v1.0.0", "",
    "9" * 200 + ".0.0",
]  # fmt: skip


def test_the_specifications_order() -> None:
    assert [len(ORDERED), len(VALID), len(INVALID)] == [11, 27, 38]
    for lower, higher in pairwise(ORDERED):
        assert semver(lower) < semver(higher), (lower, higher)  # type: ignore[operator]  # both are versions


def test_build_metadata_counts_not() -> None:
    assert semver("1.0.0+a") == semver("1.0.0+b") == semver("1.0.0")


@pytest.mark.parametrize("text", VALID)
def test_valid(text: str) -> None:
    assert semver(text) is not None


@pytest.mark.parametrize("text", INVALID)
def test_invalid(text: str) -> None:
    assert semver(text) is None


@pytest.mark.parametrize("kind", ["SEMVER", "ECOSYSTEM"])
def test_ranges_of_npm(kind: str) -> None:
    events = (Event("introduced", "1.0.0-beta.2"), Event("fixed", "2.0.0"))
    claim = PackageClaim("npm", "x", (), (VersionRange(kind, events),))
    inside = [version for version in ORDERED if claims_version(claim, version)]
    assert inside == ["1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"]


def test_only_two_orders_are_known() -> None:
    assert order_of("PyPI") is not None
    assert order_of("crates.io") is None
