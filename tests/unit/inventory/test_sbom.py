"""Lists of images become inventories that say what they do not hold."""

from __future__ import annotations

import json

import cyclonedx.output.json
import cyclonedx.schema
import pytest
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from packageurl import PackageURL

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
SPDX_3 = {
    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
    "@graph": [
        {"type": "SpdxDocument", "spdxId": "urn:d", "rootElement": ["urn:p"]},
        {"type": "software_Package", "name": "litellm", "software_packageUrl": "pkg:pypi/litellm@1.82.8",
         "verifiedUsing": [{"type": "Hash", "algorithm": "sha256", "hashValue": BAD}]},
        {"type": "software_Package", "name": "left", "externalIdentifier": [
            {"type": "ExternalIdentifier", "externalIdentifierType": "cpe23", "identifier": "cpe:2.3:a:x"},
            {"type": "ExternalIdentifier", "externalIdentifierType": "packageUrl",
             "identifier": "pkg:npm/%40scope/left@1.0.0"}]},
        {"type": "software_Package", "name": "unnamed", "verifiedUsing": ["_:hash1"], "externalIdentifier": ["_:id1"]},
        {"type": "software_File", "name": "a.py"},
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


@pytest.mark.parametrize(
    ("plain", "kind"), [(CYCLONEDX, "cyclonedx"), (SPDX, "spdx"), (SPDX_3, "spdx"), (SYFT, "syft")]
)
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
     b'{"@graph":[]}', b'{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[7]}',
     b'{"bomFormat":"CycloneDX","components":' + b"[" * 5000],
)  # fmt: skip
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(InputInvalid) as caught:
        listed_message(data, HOST, "image", 7)  # type: ignore[arg-type]  # a host's id
    assert caught.value.code == "inventory.list_form"


@pytest.mark.parametrize("plain", [{**CYCLONEDX, "components": []}, {**SPDX, "packages": [{"name": "x"}]}, {
    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []}, {**SYFT, "artifacts": []}])  # fmt: skip
def test_a_list_in_which_nothing_can_be_read_is_not_clean(plain: dict) -> None:
    with pytest.raises(InputInvalid) as caught:
        _message(plain)
    assert caught.value.code == "inventory.list_empty"


_WITH_JSON = [one for one in cyclonedx.output.json.BY_SCHEMA_VERSION if one.to_version() >= "1.2"]


@pytest.mark.parametrize("schema", _WITH_JSON)
def test_what_the_library_of_cyclonedx_writes(schema: cyclonedx.schema.SchemaVersion) -> None:
    """Every version of the schema that has JSON, with a nested component, a subject and an odd name."""
    inner = Component(name="left", group="@scope", version="1.0.0", purl=PackageURL("npm", "@scope", "left", "1.0.0"))
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=BAD)]
    bad = Component(name="LiteLLM", version="1.82.8", purl=PackageURL("pypi", None, "LiteLLM", "1.82.8"), hashes=hashes)
    bad.components = [inner]
    bom = Bom(components=[bad, Component(name="a\nb\u202e")])
    bom.metadata.component = Component(name="app", version="3", purl=PackageURL("pypi", None, "our.App", "3"))
    bom.register_dependency(bom.metadata.component, [bad])
    text = cyclonedx.output.json.BY_SCHEMA_VERSION[schema](bom).output_as_string()
    report = parse_message(listed_message(text.encode(), HOST, "image", 7))  # type: ignore[arg-type]  # a host's id
    assert isinstance(report, InventoryReport)
    found = [(one.name, one.version, one.origin_hash) for one in report.contents.distributions]
    assert found == [("litellm", "1.82.8", BAD), ("our-app", "3", "")]
    assert [one.name for one in report.contents.packages] == ["@scope/left"]
    assert ("1", "no-package-url") in [(one.path, one.reason) for one in report.contents.skipped]
