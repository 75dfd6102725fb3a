"""Lists of images become inventories that say what they do not hold."""

from __future__ import annotations

import json

import pytest

from safehold.inventory.advisories import parse_advisory
from safehold.inventory.match import match_inventory
from safehold.inventory.report import InventoryReport, parse_message
from safehold.inventory.sbom import listed_message
from safehold.model.contents import contents_items
from safehold.model.encoding import canonical_bytes, decode_canonical
from safehold.model.errors import InputInvalid
from tests.inventory_kit import HOST

BAD = "ab" * 32
CYCLONEDX = {
    "bomFormat": "CycloneDX", "specVersion": "1.6",
    "components": [
        {"name": "LiteLLM", "purl": "pkg:pypi/LiteLLM@1.82.8", "hashes": [{"alg": "SHA-256", "content": BAD.upper()}],
         "components": [{"purl": "pkg:npm/%40scope/left@1.0.0"}]},
        {"name": "unnamed"},
    ],
}  # fmt: skip
SPDX = {
    "spdxVersion": "SPDX-2.3",
    "packages": [
        {"externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:pypi/litellm@1.82.8?x=y"}],
         "checksums": [{"algorithm": "SHA256", "checksumValue": BAD}]},
        {"externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:npm/%40scope/left@1.0.0"}]},
        {"name": "unnamed"},
    ],
}  # fmt: skip
SYFT = {
    "descriptor": {"name": "syft"},
    "artifacts": [
        {"purl": "pkg:pypi/litellm@1.82.8", "locations": [{"path": "/usr/lib/litellm-1.82.8.dist-info/METADATA"}]},
        {"purl": "pkg:npm/%40scope/left@1.0.0"},
        {"purl": ""},
    ],
}


def _message(plain: object) -> bytes:
    return listed_message(json.dumps(plain).encode(), HOST, "image", 7)  # type: ignore[arg-type]  # a host's id


@pytest.mark.parametrize(("plain", "kind"), [(CYCLONEDX, "cyclonedx"), (SPDX, "spdx"), (SYFT, "syft")])
def test_three_forms_give_the_same_packages(plain: dict, kind: str) -> None:
    data = _message(plain)
    report = parse_message(data)
    assert isinstance(report, InventoryReport)
    assert not report.full
    assert [(one.name, one.version) for one in report.contents.distributions] == [("litellm", "1.82.8")]
    assert [(one.ecosystem, one.name, one.version) for one in report.contents.packages] == [
        ("npm", "@scope/left", "1.0.0")
    ]
    assert [(one.path, one.reason) for one in report.contents.skipped] == [
        (".", f"listed-by-{kind}"),
        ("1", "no-package-url"),
    ]
    items = contents_items(canonical_bytes(decode_canonical(data)["contents"]))
    python = {"id": "A-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "litellm"}, "versions": ["1.82.8"]}]}
    npm = {"id": "A-2", "affected": [{"package": {"ecosystem": "npm", "name": "@scope/left"}, "versions": ["1.0.0"]}]}
    documents = [parse_advisory(json.dumps(one).encode(), "x") for one in (python, npm)]
    assert {one.advisory for one in match_inventory(items, documents)} == {"A-1", "A-2"}


def test_a_hash_of_a_list_is_matched() -> None:
    items = contents_items(canonical_bytes(decode_canonical(_message(CYCLONEDX))["contents"]))
    document = parse_advisory(json.dumps({"files": [{"sha256": BAD}]}).encode(), "signs")
    assert [one.match for one in match_inventory(items, [document])] == ["hash"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"bomFormat":"CycloneDX","components":[1]}', b'{"spdxVersion":"SPDX-3.0"}', b"\xff",
     b'{"bomFormat":"CycloneDX","components":' + b"[" * 5000],
)  # fmt: skip
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(InputInvalid) as caught:
        listed_message(data, HOST, "image", 7)  # type: ignore[arg-type]  # a host's id
    assert caught.value.code == "inventory.list_form"
