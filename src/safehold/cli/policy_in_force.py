"""The policy in force, for verbs that follow it: the broker's limits, and who proposes after an incident."""

from __future__ import annotations

from safehold.broker.policy import BrokerPolicy
from safehold.broker.policy_file import parse_policy
from safehold.containment import Profile
from safehold.ledger.storage import View
from safehold.state.standing_access import find_policy

__all__ = ["chosen_profile", "policy_in_force"]


def policy_in_force(view: View) -> tuple[BrokerPolicy, bytes, int | None]:
    """The policy, its file's bytes and its entry; without one, what is built in, no bytes and None."""
    found = find_policy(view)
    data = b"" if found is None else view.payload(found.policy) or b""
    return parse_policy(data), data, None if found is None else found.idx


def chosen_profile(view: View, wish: Profile | None) -> tuple[Profile, str]:
    """The profile that proposes, and who chose it, in words: whoever asks, the policy, or nobody."""
    policy, _, entry = policy_in_force(view)
    if wish is not None:
        beside = f"; the policy says {policy.response}" if wish != policy.response else ""
        return wish, f"chosen by --profile{beside}"
    return policy.response, "built in" if entry is None else f"by the policy of entry {entry}"
