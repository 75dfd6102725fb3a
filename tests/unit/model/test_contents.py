"""Contents of an inventory: items in a fixed order; a newer agent's fields are no obstacle; nonsense is refused."""

from __future__ import annotations

import pytest

from safehold.model.contents import MAX_CONTENTS_BYTES, Item, contents_items, parse_contents
from safehold.model.errors import InputInvalid
from tests.ledger_kit import CONTENTS


def test_items_come_in_a_fixed_order_and_newer_fields_are_ignored() -> None:
    assert contents_items(CONTENTS) == (
        Item("distribution", "quill", "1.0", "site", ""),
        Item("hook", "", "", "a.pth", "00"),
        Item("skipped", "not readable", "", "b", ""),
    )


def test_every_group_becomes_items_of_its_kind() -> None:
    groups = ("unowned", "altered", "missing", "pyc")
    data = "{" + ",".join(f'"{name}":[{{"path":"{name}.py","owner":"q"}}]' for name in groups) + "}"
    assert [(item.kind, item.path, item.name) for item in contents_items(data.encode())] == [
        (name, f"{name}.py", "q") for name in groups
    ]


def test_the_files_of_distributions_come_only_when_asked_for() -> None:
    data = b'{"distributions":[{"name":"q","version":"1","files":[["q.py","00"]]}]}'
    assert len(contents_items(data)) == 1
    assert Item("file", "q", "1", "q.py", "00") in contents_items(data, files=True)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"hooks":1}', b'{"hooks":[{}]}', b"\xff", b'{"distributions":[{"name":"q"}]}', b"[" * 100_000],
)
def test_what_are_no_contents_is_refused(data: bytes) -> None:
    with pytest.raises(InputInvalid) as caught:
        parse_contents(data)
    assert caught.value.code == "model.contents"


def test_contents_have_a_largest_size() -> None:
    with pytest.raises(InputInvalid) as caught:
        parse_contents(b" " * (MAX_CONTENTS_BYTES + 1))
    assert caught.value.code == "model.contents"
