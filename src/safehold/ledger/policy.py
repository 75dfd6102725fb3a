"""Witness policies: which cosignatures make a checkpoint count (C2SP tlog-policy).

A policy is a small text that people agree on and keep: the logs, the witnesses with their keys, groups of them with a
threshold, and one quorum. ``witnessed`` answers with the cosignatures that fulfil it, or raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from safehold.ledger.cosignature import Cosignature, CosignerKey, open_cosignatures
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint
from safehold.model.errors import InputInvalid, SafeholdError, VerificationFailed

__all__ = ["Policy", "PolicyGroup", "PolicyLog", "PolicyWitness", "parse_policy"]

_NONE: Final = "none"
_MAX_POLICY_BYTES: Final = 1 << 20
_MAX_NAMES: Final = 1024
_BAD_BYTE: Final = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")


class PolicyLog(msgspec.Struct, frozen=True):
    """A log that the policy accepts; ``url`` may be empty."""

    verifier: NoteVerifier
    url: str


class PolicyWitness(msgspec.Struct, frozen=True):
    """A witness under its ``name`` in this policy; ``url`` is its submission prefix, or empty."""

    name: str
    key: CosignerKey
    url: str


class PolicyGroup(msgspec.Struct, frozen=True):
    """A group witnesses a checkpoint if at least ``least`` of its ``members`` do."""

    name: str
    least: int
    members: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """A parsed policy. ``groups`` stand in the order of the text: each names only what stands before it."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str

    def check_log(self, verifier: NoteVerifier) -> NoteVerifier:
        """Return ``verifier`` if the policy accepts this log or names none; else ``ledger.policy_log``."""
        if self.logs and verifier not in [log.verifier for log in self.logs]:
            raise VerificationFailed(
                "ledger.policy_log", f"the policy does not name the log {verifier.name} with this key"
            )
        return verifier

    def witnessed(self, checkpoint: Checkpoint) -> tuple[Cosignature, ...]:
        """The cosignatures on a checkpoint by witnesses of this policy, if its quorum holds.

        Raises ``VerificationFailed``: ``ledger.not_witnessed``, or ``ledger.cosignature`` for one that does not hold.
        """
        found = open_cosignatures(checkpoint.note, [witness.key for witness in self.witnesses])
        said = {_NONE} | {witness.name for witness in self.witnesses if witness.key in found}
        for group in self.groups:
            if sum(member in said for member in group.members) >= group.least:
                said.add(group.name)
        if self.quorum not in said:
            names = ", ".join(sorted(witness.name for witness in self.witnesses if witness.key in found)) or "none"
            raise VerificationFailed(
                "ledger.not_witnessed",
                f"the checkpoint of {checkpoint.size} entries lacks the quorum {self.quorum}; witnesses on it: {names}",
                "ask the ledger's operator for a copy with the cosignatures of its witnesses",
            )
        return tuple(found.values())

    def open(self, note: bytes) -> tuple[Checkpoint, tuple[Cosignature, ...]]:
        """The checkpoint in ``note`` if a log of the policy signed it and the quorum holds.

        Raises what ``open_checkpoint`` and ``witnessed`` raise, and ``InputInvalid`` (``ledger.policy_form``) without logs.
        """
        refused: SafeholdError = _bad_policy("it names no log, so it cannot say whose checkpoint this is")
        for log in self.logs:
            try:
                checkpoint = open_checkpoint(note, log.verifier)
            except VerificationFailed as error:
                refused = error
                continue
            return checkpoint, self.witnessed(checkpoint)
        raise refused


class _Reading:
    """The state while lines are read."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[PolicyGroup] = []
        self.names: set[str] = set()
        self.used: set[str] = set()
        self.quorum: str | None = None

    def log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise _bad_policy("a line for a log is: log KEY [URL]")
        try:
            verifier = NoteVerifier.parse(words[0])
        except InputInvalid as error:
            raise _bad_policy("a line for a log without its key") from error
        if verifier.key in [log.verifier.key for log in self.logs]:
            raise _bad_policy("one key for two logs")
        self.logs.append(PolicyLog(verifier, "".join(words[1:])))

    def witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise _bad_policy("a witness line is: witness NAME KEY [URL]")
        try:
            key = CosignerKey.parse(words[1])
        except InputInvalid as error:
            raise _bad_policy("a witness line without a witness's key") from error
        if key.raw in [witness.key.raw for witness in self.witnesses]:
            raise _bad_policy("one key for two witnesses")
        self._define(words[0])
        self.witnesses.append(PolicyWitness(words[0], key, "".join(words[2:])))

    def group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise _bad_policy("a group line is: group NAME all|any|K MEMBER...")
        name, threshold, *members = words
        for member in members:
            if member not in self.names:
                raise _bad_policy(f"the group {name[:40]} names {member[:40]}, which stands on no line before it")
            if member in self.used:
                raise _bad_policy(f"{member[:40]} is a member twice")  # else one witness could count more than once
            self.used.add(member)
        if threshold in ("all", "any"):
            least = len(members) if threshold == "all" else 1
        elif _NUMBER.fullmatch(threshold) and int(threshold) <= len(members):
            least = int(threshold)
        else:
            raise _bad_policy(f"the group {name[:40]} needs all, any, or a number from 1 to {len(members)}")
        self._define(name)
        self.groups.append(PolicyGroup(name, least, tuple(members)))

    def set_quorum(self, words: list[str]) -> None:
        if len(words) != 1 or self.quorum is not None or words[0] not in self.names | {_NONE}:
            raise _bad_policy("exactly one quorum line names a witness, a group, or none, defined before it")
        self.quorum = words[0]

    def _define(self, name: str) -> None:
        if name in self.names or name == _NONE or len(self.names) >= _MAX_NAMES:
            raise _bad_policy(f"the name {name[:40]} is taken, reserved, or one too many")
        self.names.add(name)


def parse_policy(data: bytes) -> Policy:
    """Read a policy's bytes, or raise ``InputInvalid`` (``ledger.policy_form``).

    Limits: 1 MiB and 1,024 names. Names are opaque bytes: what is no UTF-8 is kept as it is.
    """
    if len(data) > _MAX_POLICY_BYTES:
        raise _bad_policy("larger than 1 MiB")
    if _BAD_BYTE.search(data):
        raise _bad_policy("a control character in it")
    reading = _Reading()
    acts: dict[str, Callable[[list[str]], None]] = {
        "log": reading.log, "witness": reading.witness, "group": reading.group, "quorum": reading.set_quorum,
    }  # fmt: skip
    for line in data.decode(errors="surrogateescape").split("\n"):
        # space and tab only: str.split() would also split at what other scripts count as space
        words = [word for word in re.split("[ \t]+", line) if word]
        if not words or words[0].startswith("#"):
            continue
        if words[0] not in acts:
            raise _bad_policy(f"a line that starts with {words[0][:40]!r}")
        acts[words[0]](words[1:])
    if reading.quorum is None:
        raise _bad_policy("no quorum line")
    return Policy(tuple(reading.logs), tuple(reading.witnesses), tuple(reading.groups), reading.quorum)


def _bad_policy(why: str) -> InputInvalid:
    shown = why.encode(errors="replace").decode()
    return InputInvalid("ledger.policy_form", f"this is not a witness policy: {shown}", "see docs/spec/witness.md")
