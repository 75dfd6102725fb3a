"""Whatever bytes come: our error, or a value that holds its promises."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.inventory import agent
from safehold.inventory.advisories import parse_advisory
from safehold.inventory.agent import compiled
from safehold.inventory.match import match_inventory
from safehold.inventory.read_stix import pattern_terms
from safehold.inventory.report import InventoryReport, parse_message
from safehold.inventory.sbom import listed_message
from safehold.model.contents import Item, contents_items
from safehold.model.encoding import canonical_bytes
from safehold.model.errors import SafeholdError
from tests.inventory_kit import HOST, Environment

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["PyPI", "1.0", "0", "A-1", "2026-03-24T10:39:00Z", "aa" * 32, "x-1.0.tar.gz"]),
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "id", "affected", "package", "ecosystem", "name", "versions", "ranges", "type", "events", "introduced", "fixed",
        "aliases", "published", "withdrawn", "files", "sha256", "path", "paths", "windows", "source", "from", "to", "summary",
    ]
)  # fmt: skip
JSON = st.recursive(
    ATOMS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=25,
)
EVENTS = st.lists(
    st.dictionaries(st.sampled_from(["introduced", "fixed", "x"]), st.sampled_from(["0", "1", "?"]), max_size=2),
    max_size=3,
)
AFFECTED = st.fixed_dictionaries(
    {},
    optional={
        "package": st.one_of(JSON, st.just({"ecosystem": "PyPI", "name": "x"})),
        "versions": st.one_of(JSON, st.lists(st.text(max_size=6), max_size=3)),
        "ranges": st.one_of(
            JSON, st.lists(st.fixed_dictionaries({"type": st.just("ECOSYSTEM"), "events": EVENTS}), max_size=2)
        ),
    },
)
OSV = st.fixed_dictionaries(
    {"id": st.just("A-1")}, optional={"affected": st.lists(AFFECTED, max_size=3), "aliases": JSON, "summary": JSON}
)


@given(st.one_of(st.binary(max_size=200), st.one_of(JSON, OSV).map(lambda plain: json.dumps(plain).encode())))
def test_any_advisory(body: bytes) -> None:
    with contextlib.suppress(SafeholdError):
        document = parse_advisory(body, "stem-of-it")
        assert document.body == body
        canonical_bytes([document.summary, document.details, document.aliases, document.notes, document.published])
        match_inventory([], [document])


FORMS = ["ghsa", "csaf", "stix", "indicators"]
MEMBERS = {
    "ghsa": {
        "vulnerabilities": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "package": st.one_of(JSON, st.just({"ecosystem": "npm", "name": "x"})),
                    "vulnerable_version_range": st.one_of(JSON, st.text("<>=1., x", max_size=20)),
                },
            ),
            max_size=3,
        ),
        "identifiers": JSON,
        "published_at": ATOMS,
        "withdrawn_at": ATOMS,
    },
    "csaf": {
        "product_tree": st.fixed_dictionaries(
            {},
            optional={
                "branches": st.lists(
                    st.fixed_dictionaries(
                        {"category": st.just("product_version_range"), "name": st.text("vers:npm/<>=1|.", max_size=20)},
                        optional={
                            "product": st.one_of(
                                JSON,
                                st.fixed_dictionaries(
                                    {"product_id": st.sampled_from(["P", "Q"])},
                                    optional={
                                        "product_identification_helper": st.fixed_dictionaries(
                                            {},
                                            optional={"purl": st.one_of(ATOMS, st.text("pkg:npm/@%4x1", max_size=20))},
                                        )
                                    },
                                ),
                            ),
                            "branches": st.lists(JSON, max_size=2),
                        },
                    ),
                    max_size=3,
                ),
                "relationships": JSON,
            },
        ),
        "vulnerabilities": st.one_of(
            JSON, st.just([{"product_status": {"known_affected": ["P", "Q"], "last_affected": ["R"]}}])
        ),
    },
    "stix": {
        "objects": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["indicator", "report", "x"])},
                optional={
                    "pattern": st.one_of(JSON, st.text("[]a:b='\\\\ ORAND", max_size=40)),
                    "id": ATOMS,
                    "modified": ATOMS,
                    "revoked": st.booleans(),
                },
            ),
            max_size=3,
        )
    },
    "indicators": {"files": JSON, "windows": JSON, "paths": JSON, "domains": JSON},
}
FIXED = {
    "ghsa": {"ghsa_id": "GHSA-1"},
    "csaf": {"document": {"csaf_version": "2.0", "tracking": {"id": "A-1"}}},
    "stix": {"type": "bundle", "objects": []},
    "indicators": {"files": []},
}


@given(data=st.data())
def test_any_members_of_every_form(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(FORMS))
    plain = FIXED[form] | data.draw(st.fixed_dictionaries({}, optional=MEMBERS[form]))
    with contextlib.suppress(SafeholdError, UnicodeEncodeError):
        document = parse_advisory(json.dumps(plain).encode(), "stem-of-it")
        assert document.format == form
        canonical_bytes([document.summary, document.aliases, document.notes, document.domains, document.published])
        items = [Item("distribution", "x", "1.0", "", ""), Item("package", "x", "1.0.0", "", "aa" * 32, "npm")]
        match_inventory(items, [document])


@given(st.text("[]a:b='\\\\ ORANDfile", max_size=60))
def test_any_pattern(text: str) -> None:
    found = pattern_terms(text)
    assert found is None or all(terms for _, terms in found)


@given(st.binary(max_size=200))
def test_any_marshalled_bytes(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(compiled.digest(data)) == 20


@settings(max_examples=150)
@given(
    st.sampled_from(
        [
            {"bomFormat": "CycloneDX"},
            {"spdxVersion": "SPDX-2.3"},
            {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []},
            {"artifacts": [], "descriptor": {}},
        ]
    ),
    st.dictionaries(st.sampled_from(["components", "packages", "@graph", "artifacts"]), st.lists(JSON, max_size=3)),
)
def test_any_list_of_packages(fixed: dict, members: dict) -> None:
    with contextlib.suppress(SafeholdError):
        message = listed_message(json.dumps(fixed | members).encode(), HOST, "image", 7)  # type: ignore[arg-type]  # a host's id
        assert isinstance(parse_message(message), InventoryReport)


@pytest.fixture(scope="module")
def made() -> Iterator[Environment]:
    root = Path(tempfile.mkdtemp())
    environment = Environment(root / "venv")
    environment.install("tool", "1", {"tool.py": "", "tool.pth": "import sys\n"})
    yield environment
    shutil.rmtree(root)


@given(st.binary(max_size=300))
def test_any_message(data: bytes) -> None:
    with contextlib.suppress(SafeholdError):
        parse_message(data)


@given(data=st.data())
def test_a_message_with_one_value_replaced(made: Environment, data: st.DataObject) -> None:
    said = {"clock": "given", "environment": "ci", "full": True, "host": HOST, "observed": 7}
    plain = agent.report(str(made.root).encode(), made.sweep(), **said)
    holder: dict | list = plain
    while True:
        keys = sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(JSON)
    if data.draw(st.booleans()):
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            plain["inventory"] = agent.contents_digest(plain["contents"])
    try:
        encoded = agent.canonical(plain)
    except ValueError:
        return
    with contextlib.suppress(SafeholdError):
        message = parse_message(encoded)
        assert isinstance(message, InventoryReport)
        contents_items(canonical_bytes(plain["contents"]), files=True)
        assert message.oddities >= 0


LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"tool.py,,", b"../x,sha256=a,", b'"', b"import sys", b"Name: x", b"Version: 1", b""]),
    ),
    max_size=6,
).map(b"\n".join)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["RECORD", "METADATA", "INSTALLER", "direct_url.json", "../x.pth", "../x.pyc"]),
    st.one_of(LINES, JSON.map(lambda plain: json.dumps(plain).encode())),
)
def test_any_bytes_in_any_file_of_an_environment(where: str, text: bytes) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        environment = Environment(root / "venv")
        environment.install("tool", "1", {"tool.py": ""})
        environment.write(f"tool-1.dist-info/{where}", text)
        said = {"clock": "given", "environment": "ci", "full": True, "host": HOST, "observed": 7}
        plain = agent.report(str(environment.root).encode(), environment.sweep(), **said)
        assert isinstance(parse_message(agent.canonical(plain)), InventoryReport)
    finally:
        shutil.rmtree(root)
