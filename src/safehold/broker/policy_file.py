"""``policy.toml``: what the lab decides once, for all requests. Parsed strictly; the broker denies what it cannot read.

The file is a payload of an entry, so that everyone sees by what the broker decided and since when::

    [limits]
    inventory_max_age = 3600        # seconds
    clock_tolerance = 60            # seconds
    lease = 300                     # seconds, at most 300
    lease_keys = 100000             # part keys
    releases_per_hour = 500         # key releases of one host; left out: no limit

    [response]
    profile = "measured"            # who proposes after an incident: strict, measured or watchful

    [[dataset]]
    name = "quill-works/word-problems"
    purposes = ["training"]         # beside what the grant says; left out: all
    inventory_max_age = 600
    member_signature = true         # the member who asks signs, too
    two_person = true               # a second member has approved
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from safehold.broker.policy import BrokerPolicy, DatasetRule
from safehold.model.errors import InputInvalid
from safehold.model.ids import parse_dataset_id, parse_purpose

__all__ = ["MAX_POLICY_BYTES", "parse_policy"]

MAX_POLICY_BYTES: Final = 64 * 1024
_Count = Annotated[int, Meta(ge=1, le=10**9)]


class _Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    inventory_max_age: _Count = 3600
    clock_tolerance: _Count = 60
    lease: Annotated[int, Meta(ge=1, le=300)] = 300
    lease_keys: _Count = 100_000
    releases_per_hour: _Count | None = None


class _Dataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    purposes: tuple[str, ...] | None = None
    inventory_max_age: _Count | None = None
    member_signature: bool = False
    two_person: bool = False


class _Response(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    profile: Literal["strict", "measured", "watchful"] = "measured"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limits: _Limits = _Limits()
    response: _Response = _Response()
    dataset: tuple[_Dataset, ...] = ()


def parse_policy(data: bytes) -> BrokerPolicy:
    """The policy in a file's bytes. Raises ``InputInvalid`` (``broker.policy_form``, or an id's own code)."""
    if len(data) > MAX_POLICY_BYTES:
        raise _wrong(f"it has more than {MAX_POLICY_BYTES:,} bytes")
    try:
        file = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong("it is no TOML") from error
    except msgspec.ValidationError as error:
        raise _wrong(str(error)[:200]) from error
    names = [rule.name for rule in file.dataset]
    if len(set(names)) != len(names):
        raise _wrong("a dataset is named twice")
    rules = tuple(
        DatasetRule(
            dataset=parse_dataset_id(rule.name),
            purposes=None if rule.purposes is None else tuple(parse_purpose(purpose) for purpose in rule.purposes),
            inventory_max_age=rule.inventory_max_age,
            member_signature=rule.member_signature,
            two_person=rule.two_person,
        )
        for rule in file.dataset
    )
    limits = file.limits
    return BrokerPolicy(
        inventory_max_age=limits.inventory_max_age,
        clock_tolerance=limits.clock_tolerance,
        lease=limits.lease,
        lease_keys=limits.lease_keys,
        releases_per_hour=limits.releases_per_hour,
        datasets=rules,
        response=file.response.profile,
    )


def _wrong(why: str) -> InputInvalid:
    return InputInvalid("broker.policy_form", f"this is not a policy: {why}", "see docs/spec/broker.md for its form")
