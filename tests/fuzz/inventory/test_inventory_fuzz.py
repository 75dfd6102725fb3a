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
from safehold.inventory.match import match_inventory
from safehold.inventory.report import InventoryReport, parse_message
from safehold.model.contents import contents_items
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
