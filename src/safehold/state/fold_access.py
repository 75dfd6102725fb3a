"""The folds of leases, revocations, approvals and what else bears on access; registered by being imported in ``fold``."""

from __future__ import annotations

from safehold.model.statements_access import (
    AccessApproved,
    EnvironmentRetired,
    GrantRevoked,
    KeysRewrapped,
    LeaseEnded,
    LeaseOpened,
    MemberKeyed,
    PolicyRecorded,
)
from safehold.state.fold_base import Place, RowChange, fold_statement, put

__all__: list[str] = []


@fold_statement.register
def _(statement: LeaseOpened, at: Place) -> list[RowChange]:
    return [put("lease", statement, at.index, ended_idx=None, ended_t=None, code=None, reason=None)]


@fold_statement.register
def _(statement: LeaseEnded, at: Place) -> list[RowChange]:
    ended = {"ended_idx": at.index, "ended_t": statement.t, "code": statement.code, "reason": statement.reason}
    return [RowChange("set", "lease", ended, {"lease": statement.lease})]


@fold_statement.register
def _(statement: GrantRevoked, at: Place) -> list[RowChange]:
    return [put("revocation", statement, at.index)]


@fold_statement.register
def _(statement: MemberKeyed, at: Place) -> list[RowChange]:
    return [put("member_key", statement, at.index)]


@fold_statement.register
def _(statement: AccessApproved, at: Place) -> list[RowChange]:
    return [put("approval", statement, at.index)]


@fold_statement.register
def _(statement: EnvironmentRetired, at: Place) -> list[RowChange]:
    return [put("retirement", statement, at.index)]


@fold_statement.register
def _(statement: KeysRewrapped, at: Place) -> list[RowChange]:
    return [put("rewrap", statement, at.index)]


@fold_statement.register
def _(statement: PolicyRecorded, at: Place) -> list[RowChange]:
    return [put("policy", statement, at.index)]
