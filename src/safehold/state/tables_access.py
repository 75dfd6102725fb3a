"""The tables of leases, revocations, approvals and what else bears on access; gathered in ``tables``."""

from __future__ import annotations

from typing import Final

from safehold.state.table import Table, columns

__all__ = ["ACCESS_TABLES"]

ACCESS_TABLES: Final[tuple[Table, ...]] = (
    Table(
        "lease",
        columns(
            "lease request party host member? grant dataset purpose inventories reader until:I keys:I idx:I t:I"
            " ended_idx:I? ended_t:I? code? reason?"
        ),
        ("lease",),
        (("request",), ("host",)),
    ),
    Table("revocation", columns("revocation grant reason idx:I t:I"), ("revocation",)),
    Table("member_key", columns("member key idx:I t:I"), ("member",)),
    Table(
        "approval",
        columns("idx:I dataset host member approver until:I approval t:I"),
        ("idx",),
        (("dataset", "host"), ("approval",)),
    ),
    Table("retirement", columns("host environment reason idx:I t:I"), ("host", "environment")),
    Table("rewrap", columns("idx:I release kek keys:I of t:I"), ("idx",), (("release",),)),
    Table("policy", columns("idx:I policy t:I"), ("idx",)),
)
