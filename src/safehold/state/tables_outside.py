"""The projections of what happened outside, and of each registration of a host."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["OUTSIDE_TABLES"]

OUTSIDE_TABLES: Final[tuple[Table, ...]] = (
    # `host` has the newest registration; silence before it counts too, so every one is kept here.
    Table("host_registration", columns("idx:I host party expected_every:I t:I"), ("idx",), (("host",),)),
    Table(
        "evidence",
        columns(
            "idx:I topic source format original rows count:I unread:I since:I? until:I? covers_from:I? covers_until:I?"
            " subjects t:I"
        ),
        ("idx",),
        (("topic",),),
    ),
    Table(
        "evidence_row",
        columns("idx:I place:I topic t:I host? actor act object detail things"),
        ("idx", "place"),
        (("topic", "t"),),
    ),
    Table(
        "credential_note",
        columns("idx:I credential act at:I rank host? subject_kind? subject_id? action proof? words t:I"),
        ("idx",),
        (("credential",), ("host",)),
    ),
    Table("clock_note", columns("idx:I clock advisory at:I words t:I"), ("idx",)),
    Table("notice", columns("idx:I advisory to duty document at:I t:I"), ("idx",)),
    Table("release_check", columns("idx:I release outcome parts:I at:I words t:I"), ("idx",), (("release",),)),
)
