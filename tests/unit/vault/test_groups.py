from __future__ import annotations

import pytest

from safehold.model.errors import InputInvalid
from safehold.vault.groups import plan_groups

COLUMNS = ["id", "question", "answer"]


def test_without_a_mapping_all_columns_share_one_group() -> None:
    (group,) = plan_groups(COLUMNS)
    assert (group.name, group.columns) == ("data", ("id", "question", "answer"))


def test_groups_and_columns_stand_in_the_order_of_the_input() -> None:
    mapping = {"labels": ["answer"], "text": ["question", "id"]}
    plan = plan_groups(COLUMNS, mapping)
    assert [(g.name, g.columns) for g in plan] == [("text", ("id", "question")), ("labels", ("answer",))]
    assert plan == plan_groups(COLUMNS, dict(reversed(mapping.items())))


@pytest.mark.parametrize(
    ("mapping", "code"),
    [
        ({"a": ["id", "question"]}, "vault.group_missing_column"),
        ({}, "vault.group_missing_column"),
        ({"a": COLUMNS, "b": ["id"]}, "vault.group_twice"),
        ({"a": [*COLUMNS, "id"]}, "vault.group_twice"),
        ({"a": [*COLUMNS, "nope"]}, "vault.group_unknown_column"),
        ({"a": COLUMNS, "b": []}, "vault.group_empty"),
        ({"../a": COLUMNS}, "id.group"),
        ({"A": COLUMNS}, "id.group"),
    ],
)
def test_a_plan_that_leaves_doubt_is_refused(mapping: dict[str, list[str]], code: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        plan_groups(COLUMNS, mapping)
    assert caught.value.code == code
