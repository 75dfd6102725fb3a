"""What a key is bound to: written out by hand for speed, and still the canonical form."""

from __future__ import annotations

import pytest

from safehold.model.encoding import canonical_bytes
from safehold.model.ids import DatasetId, GroupName, PartyId, parse_dataset_id, parse_group_name
from safehold.vault.part_keys import aad_text


@pytest.mark.parametrize(
    ("dataset", "group", "version", "part"),
    [("quill-works/sums", "text", 1, 0), ("a/b.c-d_e", "0", 999_999_999, 99_999), ("q-1/x", "a.b-c_d", 3, 7)],
)
def test_the_bound_data_is_canonical(dataset: str, group: str, version: int, part: int) -> None:
    parse_dataset_id(dataset)
    parse_group_name(group)
    party = dataset.split("/", maxsplit=1)[0]
    place = {
        "aad": "safehold part v1",
        "party": party,
        "dataset": dataset,
        "version": version,
        "part": part,
        "group": group,
    }
    text = aad_text(PartyId(party), DatasetId(dataset), version, part, GroupName(group))
    assert text.encode() == canonical_bytes(place)
