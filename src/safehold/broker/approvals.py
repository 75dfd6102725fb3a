"""Two people: a second member's signed word, before a dataset opens. And the broker's policy as an entry.

An approval is a text in canonical JSON that names dataset, host, the member who will ask, the approver and an end. The
approver signs it with his registered SSH key in the SSHSIG form (namespace ``safehold-approval``), with ``ssh-keygen
-Y sign`` or here. Text and signature are kept as payload; the entry names their digest. Who signs has shown to be the
member, since the key was registered for him; who only writes a member's name has shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from safehold.broker.policy_file import parse_policy
from safehold.ledger import sshsig
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.encoding import canonical_bytes, resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError
from safehold.model.ids import (
    DatasetId,
    HostId,
    KeyId,
    MemberId,
    parse_dataset_id,
    parse_host_id,
    parse_member_id,
    party_of,
    sha256_digest,
)
from safehold.model.statements_access import AccessApproved, PolicyRecorded
from safehold.state.standing_access import find_member_key

__all__ = ["APPROVAL_NAMESPACE", "Approval", "Rulings", "format_approval", "parse_approval"]

APPROVAL_NAMESPACE: Final = "safehold-approval"
_FORMAT: Final = "safehold-approval-v1"
_MAX_BYTES: Final = 4096


class _Text(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["safehold-approval-v1"] = _FORMAT
    dataset: str
    host: str
    member: str
    approver: str
    until: int


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What is approved: that ``member`` opens ``dataset`` on ``host`` until ``until`` (µs UTC). By ``approver``."""

    dataset: DatasetId
    host: HostId
    member: MemberId
    approver: MemberId
    until: int


def format_approval(approval: Approval) -> bytes:
    """The text to sign."""
    return canonical_bytes(_Text(**{name: getattr(approval, name) for name in Approval.__struct_fields__}))


def parse_approval(data: bytes) -> Approval:
    """Read a text that was signed. Raises ``InputInvalid`` (``broker.approval_form``, or an id's own code)."""
    try:
        text = msgspec.json.decode(data[: _MAX_BYTES + 1], type=resolved(_Text))
        canonical = canonical_bytes(text) == data
    except (msgspec.MsgspecError, UnicodeError, SafeholdError) as error:
        raise _no_approval() from error
    if not canonical:
        raise _no_approval()
    return Approval(
        dataset=parse_dataset_id(text.dataset),
        host=parse_host_id(text.host),
        member=parse_member_id(text.member),
        approver=parse_member_id(text.approver),
        until=text.until,
    )


def _no_approval() -> InputInvalid:
    return InputInvalid("broker.approval_form", "this is not an approval", "write one with: safehold approval write")


class Rulings:
    """Records approvals and policies for the operator ``by``. ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    def record_approval(self, text: bytes, signature: str) -> Entry:
        """Verify and record a second member's word.

        Raises ``InputInvalid`` (``broker.approval_form``, ``broker.approval_self``, ``broker.approval_party``,
        ``broker.approval_time``), ``NotFound`` (``broker.approval_key``), ``Conflict`` (``broker.approval_again``), and
        what ``sshsig.verify`` raises.
        """
        approval = parse_approval(text)
        if approval.approver == approval.member:
            raise InputInvalid("broker.approval_self", "nobody approves his own access", "ask a second member")
        payload = canonical_bytes({"approval": text.decode(), "signature": signature})
        digest = sha256_digest(payload)

        def propose(view: View) -> Draft:
            now = self._clock()
            key = find_member_key(view, approval.approver)
            if key is None:
                raise NotFound(
                    "broker.approval_key",
                    f"{approval.approver} has no registered key",
                    "register it: safehold member key MEMBER --key FILE.pub",
                )
            sshsig.verify(signature, text, APPROVAL_NAMESPACE, PublicKey.parse(key))
            _check_approver(view, approval)
            if approval.until <= now:
                raise InputInvalid("broker.approval_time", "the approval has ended already", "write one for later")
            if view.rows("SELECT 1 FROM approval WHERE approval = ?", digest):
                raise Conflict("broker.approval_again", "this approval is recorded already", "nothing is to be done")
            fields = {name: getattr(approval, name) for name in Approval.__struct_fields__}
            return Draft((AccessApproved(t=now, by=self._by, approval=digest, **fields),), (payload,))

        return self._log.append(propose)[0]

    def record_policy(self, data: bytes) -> Entry:
        """Let the broker decide by this policy from here on. Raises ``InputInvalid`` (``broker.policy_form``)."""
        parse_policy(data)
        digest = sha256_digest(data)
        return self._log.append(
            lambda _view: Draft((PolicyRecorded(t=self._clock(), by=self._by, policy=digest),), (data,))
        )[0]


def _check_approver(view: View, approval: Approval) -> None:
    """He is of the party that made the dataset, or of the one it was made for: theirs is the data."""
    rows = view.rows("SELECT party, customer FROM dataset WHERE dataset = ?", approval.dataset)
    if not rows:
        raise NotFound("broker.approval_of", f"{approval.dataset} is not registered", "see: safehold dataset list")
    if party_of(approval.approver) not in rows[0]:
        raise InputInvalid(
            "broker.approval_party",
            f"{approval.approver} is neither of {rows[0][0]} nor of {rows[0][1]}",
            "ask a member of the party that made the data, or of the one it was made for",
        )
