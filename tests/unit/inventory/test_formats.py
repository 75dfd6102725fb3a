"""GitHub's form, CSAF and STIX: what is taken, and what is said of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from safehold.inventory.advisories import (
    Event,
    FileClaim,
    PackageClaim,
    PathClaim,
    VersionRange,
    merge_aliases,
    parse_advisory,
)
from safehold.inventory.match import match_inventory, match_latent
from safehold.inventory.read_stix import pattern_terms
from safehold.model.contents import Item
from safehold.model.errors import SafeholdError

BAD = "ab" * 32


def _parsed(plain: dict[str, Any], stem: str = "named-so") -> Any:
    return parse_advisory(json.dumps(plain).encode(), stem)


def _ghsa(**more: Any) -> dict[str, Any]:
    vulnerability = {
        "package": {"ecosystem": "pip", "name": "LiteLLM"},
        "vulnerable_version_range": ">= 1.82.7, <= 1.82.8",
        "first_patched_version": "1.83.0",
    }
    return {
        "ghsa_id": "GHSA-5mg7-485q-xm76", "cve_id": None, "summary": "s", "description": "d", "type": "malware",
        "identifiers": [{"value": "GHSA-5mg7-485q-xm76", "type": "GHSA"}, {"value": "PYSEC-2026-2", "type": "X"}],
        "vulnerabilities": [vulnerability], "published_at": "2026-03-25T00:00:00Z", "updated_at": "2026-03-25T00:00:00Z",
        "withdrawn_at": None,
    } | more  # fmt: skip


def test_githubs_form() -> None:
    document = _parsed(_ghsa())
    assert (document.advisory, document.format, document.aliases) == ("GHSA-5mg7-485q-xm76", "ghsa", ("PYSEC-2026-2",))
    events = (Event("introduced", "1.82.7"), Event("last_affected", "1.82.8"))
    assert document.claims == (PackageClaim("PyPI", "litellm", (), (VersionRange("ECOSYSTEM", events),)),)
    assert document.notes == ()


@pytest.mark.parametrize(
    ("text", "inside", "outside", "note"),
    [
        ("= 1.82.8", ["1.82.8"], ["1.82.7"], ""),
        ("< 1.82.8", ["0.1", "1.82.7"], ["1.82.8"], ""),
        ("> 1.82.7, < 1.82.9", ["1.82.7", "1.82.8"], ["1.82.9"], "with its lower end"),
        ("<= 1.82.8", ["1.82.8"], ["1.82.9"], ""),
        ("all of them", [], ["1.82.8"], "cannot be read"),
        ("", [], ["1.82.8"], "no version is named"),
    ],
)
def test_githubs_ranges(text: str, inside: list[str], outside: list[str], note: str) -> None:
    vulnerability = {"package": {"ecosystem": "pip", "name": "litellm"}, "vulnerable_version_range": text}
    document = _parsed(_ghsa(vulnerabilities=[vulnerability]))
    for version in (*inside, *outside):
        item = Item("distribution", "litellm", version, "", "")
        assert bool(match_inventory([item], [document])) == (version in inside), version
    assert any(note in one for one in document.notes) if note else document.notes == ()


def test_npm_packages_of_a_lockfile_and_of_a_list_are_matched_by_their_own_order() -> None:
    vulnerability = {"package": {"ecosystem": "npm", "name": "left"}, "vulnerable_version_range": "< 1.3.0"}
    document = _parsed(_ghsa(vulnerabilities=[vulnerability]))
    locked = Item("locked", "left", "1.3.0-rc.1", "package-lock.json", "", "npm")
    assert [one.item for one in match_latent([locked], [document])] == ["locked"]
    assert match_inventory([locked], [document]) == (), "what is asked for is not installed"
    assert match_inventory([Item("package", "left", "1.2.0", "", "", "npm")], [document])
    assert not match_inventory([Item("distribution", "left", "1.2.0", "", "")], [document]), "another ecosystem"


def _csaf(**more: Any) -> dict[str, Any]:
    helper = {
        "purl": "pkg:pypi/LiteLLM@1.82.8",
        "hashes": [{"filename": "litellm.whl", "file_hashes": [{"algorithm": "sha256", "value": BAD.upper()}]}],
    }
    exact = {"category": "product_version", "name": "1.82.8",
             "product": {"product_id": "P1", "name": "litellm 1.82.8", "product_identification_helper": helper}}  # fmt: skip
    ranged = {"category": "product_version_range", "name": "vers:npm/>=1.0.0|<1.2.0|2.0.0",
              "product": {"product_id": "P2", "name": "x", "product_identification_helper": {"purl": "pkg:npm/%40a/x"}}}  # fmt: skip
    clean = {"category": "product_version", "name": "1", "product": {"product_id": "P3", "name": "clean"}}
    branches = [{"category": "vendor", "name": "v", "branches": [exact, ranged, clean]}]
    status = {"known_affected": ["P1", "P2"], "known_not_affected": ["P3"], "under_investigation": ["P9"]}
    return {
        "document": {"csaf_version": "2.0", "category": "csaf_security_advisory", "title": "t",
                     "tracking": {"id": "NL-2026/7", "initial_release_date": "2026-03-25T00:00:00Z",
                                  "current_release_date": "2026-03-26T00:00:00Z"}},
        "product_tree": {"branches": branches},
        "vulnerabilities": [{"cve": "CVE-2026-1", "ids": [{"system_name": "s", "text": "MAL-2026-2144"}],
                             "product_status": status}],
    } | more  # fmt: skip


def test_csaf() -> None:
    document = _parsed(_csaf())
    assert (document.advisory, document.format) == ("NL-2026-7", "csaf")
    assert document.aliases == ("CVE-2026-1", "MAL-2026-2144")
    range_ = VersionRange("ECOSYSTEM", (Event("introduced", "1.0.0"), Event("fixed", "1.2.0")))
    assert set(document.claims) == {
        FileClaim("litellm.whl", "", BAD, ""),
        PackageClaim("PyPI", "litellm", ("1.82.8",), ()),
        PackageClaim("npm", "@a/x", ("2.0.0",), (range_,)),
    }
    assert any("P9" in note for note in document.notes)
    assert any("under investigation" in note for note in document.notes)
    document_part = _csaf()["document"] | {"category": "csaf_withdrawn"}
    assert _parsed(_csaf(document=document_part)).withdrawn is not None


def _stix(*patterns: str, **more: Any) -> dict[str, Any]:
    indicators = [
        {"type": "indicator", "id": f"indicator--{number}", "name": f"i{number}", "pattern": pattern,
         "pattern_type": "stix", "valid_from": "2026-03-24T10:39:00Z", "modified": "2026-03-25T00:00:00Z"}
        for number, pattern in enumerate(patterns)
    ]  # fmt: skip
    vulnerability = {
        "type": "vulnerability",
        "id": "vulnerability--1",
        "name": "CVE-2026-1",
        "external_references": [{"source_name": "x", "external_id": "MAL-2026-2144"}],
    }
    return {"type": "bundle", "id": "bundle--1", "objects": [*indicators, vulnerability]} | more


def test_stix_indicators() -> None:
    document = _parsed(
        _stix(
            f"[file:hashes.'SHA-256' = '{BAD}' AND file:name = 'litellm-1.82.8-py3-none-any.whl']",
            "[domain-name:value = 'models.example.invalid'] OR [ipv4-addr:value = '192.0.2.1']",
            "[file:name = 'pglog' AND file:parent_directory_ref.path = '/tmp']",
            "[software:name = 'LiteLLM' AND software:version = '1.82.7']",
            "[file:hashes.'SHA-256' = 'aa'] FOLLOWEDBY [file:name = 'x']",
            "[process:name LIKE 'x%']",
        )
    )
    assert (document.advisory, document.format, document.aliases) == (
        "named-so",
        "stix",
        ("CVE-2026-1", "MAL-2026-2144"),
    )
    assert set(document.claims) == {
        FileClaim("litellm-1.82.8-py3-none-any.whl", "", BAD, ""),
        PackageClaim("PyPI", "litellm", ("1.82.8",), ()),
        PackageClaim("PyPI", "litellm", ("1.82.7",), ()),
        PathClaim("/tmp/pglog"),
    }
    assert (document.domains, document.addresses) == (("models.example.invalid",), ("192.0.2.1",))
    assert document.windows == (), "from when to look is not when it could be had"
    assert sum("cannot be asked" in note for note in document.notes) == 2


def test_revoked_stix_matches_nothing() -> None:
    plain = _stix(f"[file:hashes.'SHA-256' = '{BAD}']")
    plain["objects"][0]["revoked"] = True
    document = _parsed(plain)
    assert document.claims == ()
    assert document.withdrawn is not None


@pytest.mark.parametrize(
    "pattern",
    [
        "", "[]", "[a:b = 'c'", "[a:b = 'c'] AND [d:e = 'f']", "[a:b != 'c']", "[a:b = 'c' AND (d:e = 'f')]",
        "[a:b = 'c' AND d:e = 'f' OR g:h = 'i']", "[a:b = 'c'] WITHIN 5 SECONDS", "[NOT a:b = 'c']", "[a:b = 'c'] OR",
        "[a:b IN ('c')]", "x" * 100_000,
    ],
)  # fmt: skip
def test_patterns_that_say_more_are_not_taken(pattern: str) -> None:
    assert pattern_terms(pattern) is None


def test_pattern_values_may_hold_quotes() -> None:
    assert pattern_terms(r"[a:b = 'it\'s \\ so']") == [("OR", [("a:b", "it's \\ so")])]


def test_all_forms_of_one_event_are_merged() -> None:
    group = merge_aliases(
        [_parsed(_ghsa(identifiers=[{"value": "MAL-2026-2144"}])), _parsed(_csaf()), _parsed(_stix("[a:b = 'c']"))]
    )
    assert len(group) == 1


def test_domains_of_a_record_of_malice_are_kept() -> None:
    iocs = {"domains": ["a.example.invalid"], "urls": ["b.example.invalid/x"], "ips": ["192.0.2.9"]}
    document = _parsed({"id": "MAL-1", "database_specific": {"iocs": iocs}})
    assert document.domains == ("a.example.invalid", "b.example.invalid/x")
    assert document.addresses == ("192.0.2.9",)


@pytest.mark.parametrize(
    "plain",
    [
        {"ghsa_id": 1}, {"ghsa_id": "x y"}, {"document": {"csaf_version": "2.0"}}, {"type": "bundle", "objects": [1]},
        {"document": {"csaf_version": "2.0", "tracking": {"id": ""}}}, {"type": "bundle", "objects": {}},
    ],
)  # fmt: skip
def test_wrong_forms_are_refused_with_our_error(plain: dict[str, Any]) -> None:
    with pytest.raises(SafeholdError):
        _parsed(plain)
