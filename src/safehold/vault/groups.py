"""Which columns share a key.

A column group is the unit that a grant names and a key opens: whoever has its keys reads all of its columns,
whoever has not reads none. Every column is in exactly one group, so nothing is left unprotected by omission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from safehold.model.errors import InputInvalid
from safehold.model.ids import GroupName, parse_group_name
from safehold.vault.manifest import ColumnGroup

__all__ = ["DEFAULT_GROUP", "plan_groups"]

DEFAULT_GROUP: Final = GroupName("data")


def plan_groups(columns: Sequence[str], mapping: Mapping[str, Sequence[str]] | None = None) -> tuple[ColumnGroup, ...]:
    """Return the column groups for ``columns``: as ``mapping`` says (group to columns), or all in ``data``.

    Raises ``InputInvalid``: ``id.group``, ``vault.group_unknown_column``, ``vault.group_twice`` (a column in two
    groups), ``vault.group_empty`` or ``vault.group_missing_column`` (a column in none).
    """
    if mapping is None:
        return (ColumnGroup(name=DEFAULT_GROUP, columns=tuple(columns)),)
    home: dict[str, str] = {}
    for group, members in mapping.items():
        parse_group_name(group)
        if not members:
            raise InputInvalid("vault.group_empty", f"the column group {group} has no columns", "name one, or drop it")
        for column in members:
            if column not in columns:
                raise InputInvalid(
                    "vault.group_unknown_column",
                    f"the column group {group} names {column!r}, which the input does not have",
                    f"its columns are: {_listed(columns)}",
                )
            if column in home:
                raise InputInvalid(
                    "vault.group_twice",
                    f"column {column!r} is in the groups {home[column]} and {group}",
                    "put each column into one group",
                )
            home[column] = group
    missing = [column for column in columns if column not in home]
    if missing:
        raise InputInvalid(
            "vault.group_missing_column",
            f"no column group has {_listed(missing)}",
            "put every column of the input into a group",
        )
    # In the input's order, not the mapping's: the same columns in the same groups are the same plan.
    return tuple(
        ColumnGroup(name=parse_group_name(group), columns=tuple(c for c in columns if home[c] == group))
        for group in dict.fromkeys(home[column] for column in columns)
    )


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(column[:60] for column in columns[:12])
    return shown if len(columns) <= 12 else f"{shown} and {len(columns) - 12} more"
