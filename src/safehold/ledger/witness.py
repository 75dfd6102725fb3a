"""The witness: cosigns a checkpoint only if its tree is the one cosigned before, grown (C2SP tlog-witness).

**What a cosignature promises.** For one log there is never a cosignature on two trees that contradict each other, whatever
is sent, in whatever order, by however many at once, and wherever the process dies. The steps, numbered as in the code:

1. read the request (400); 2. the log is known (404); 3. it signed the checkpoint (403); 4. inside the one write transaction:
the old size is the one cosigned last (409), one size has one root (409), the proof holds (422); 5. record, durably: **the
commit point**; 6. sign. A crash between 5 and 6 loses an answer: the log asks again and is told the size.

The time in a cosignature is taken inside the transaction and never runs back, so that "the longest tree that I had seen"
is true of it. Contradictions are kept as evidence before the refusal leaves.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from safehold.ledger.cosignature import Cosigner, check_name
from safehold.ledger.evidence import Evidence, EvidenceFolder, EvidenceKind, bare_note
from safehold.ledger.note import Checkpoint, NoteVerifier, open_checkpoint, read_head, split_note
from safehold.ledger.proof import consistency_roots, verify_consistency
from safehold.ledger.source import Source, read_checkpoint, source_tiles
from safehold.ledger.tree import HASH_BYTES, consistency_proof, tree_root
from safehold.ledger.witness_state import Seen, WitnessState, WitnessTurn
from safehold.model.errors import Conflict, InputInvalid, NotFound, Refused, VerificationFailed

__all__ = [
    "MAX_REQUEST_BYTES",
    "Observed",
    "Witness",
    "WitnessConflict",
    "WitnessRequest",
    "format_request",
    "read_request",
]

MAX_REQUEST_BYTES: Final = 1 << 18
"""Room for a checkpoint with some 64 ML-DSA-44 signatures."""
_MAX_PROOF: Final = 63
_MAX_SIZE: Final = (1 << 62) - 1
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_TRIES: Final = 4


class WitnessConflict(Conflict):
    """Answer 409. ``size`` is that of the latest checkpoint that the witness cosigned."""

    def __init__(self, code: str, message: str, hint: str = "", *, size: int) -> None:
        super().__init__(code, message, hint)
        self.size = size


class WitnessRequest(msgspec.Struct, frozen=True):
    """What is asked: the ``old`` size, the ``proof`` from there, and the signed ``note``. Nothing of it is verified."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes


class Observed(msgspec.Struct, frozen=True):
    """What a look at a source gave: the verified ``checkpoint``, the size known ``before``, and the signature ``lines``."""

    checkpoint: Checkpoint
    before: int
    lines: bytes


def format_request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """The body of ``POST /add-checkpoint``."""
    lines = [f"old {old}", *(base64.b64encode(node).decode() for node in proof), "", ""]
    return "\n".join(lines).encode() + note


def read_request(data: bytes) -> WitnessRequest:
    """Read such a body, or raise ``InputInvalid`` (``ledger.witness_request``)."""
    if len(data) > MAX_REQUEST_BYTES:
        raise _bad_request("too large")
    head, separator, note = data.partition(b"\n\n")
    if not separator:
        raise _bad_request("no empty line before the checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _bad_request("not ASCII before the checkpoint") from error
    match = _OLD.fullmatch(lines[0])
    if not match:
        raise _bad_request("the first line is: old SIZE")
    if len(lines) - 1 > _MAX_PROOF:
        raise _bad_request("more than 63 hashes")
    return WitnessRequest(int(match[1]), tuple(_hash(line) for line in lines[1:]), note)


def _hash(line: str) -> bytes:
    try:
        node = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_request("a hash that is not base64") from error
    if len(node) != HASH_BYTES or base64.b64encode(node).decode() != line:
        raise _bad_request("a hash that is no SHA-256 in canonical base64")
    return node


class Witness:
    """One witness: its keys, what it remembers, what it keeps as evidence. Safe from many threads and processes."""

    def __init__(
        self, state: WitnessState, cosigners: Sequence[Cosigner], evidence: EvidenceFolder, clock: Callable[[], int]
    ) -> None:
        """``clock`` gives µs UTC."""
        self._state = state
        self._cosigners = tuple(cosigners)
        self._evidence = evidence
        self._clock = clock
        self._logs: dict[str, tuple[NoteVerifier, ...]] = {}
        self._read_logs()

    def add_log(self, verifier: NoteVerifier) -> None:
        """Cosign for this log from now on. A second key under one name is one more key of the same log."""
        check_name(verifier.name)
        self._state.add_log(verifier.text)
        self._know(verifier)

    def _read_logs(self) -> None:
        for line in self._state.logs():
            self._know(NoteVerifier.parse(line))

    def _know(self, verifier: NoteVerifier) -> None:
        known = self._logs.get(verifier.name, ())
        if verifier not in known:
            self._logs[verifier.name] = (*known, verifier)

    @property
    def logs(self) -> tuple[NoteVerifier, ...]:
        """The logs that this witness knows."""
        return tuple(verifier for known in self._logs.values() for verifier in known)

    def latest(self, origin: str) -> Seen:
        """The newest checkpoint cosigned for a log."""
        with self._state.turn() as turn:
            return turn.latest(origin)

    def add_checkpoint(self, request: bytes) -> bytes:
        """Answer the body of ``POST /add-checkpoint`` with signature lines, or raise what the answer's status says:

        ``InputInvalid`` (``ledger.witness_request``) 400, ``Refused`` (``ledger.witness_signature``) 403, ``NotFound``
        (``ledger.witness_origin``) 404, ``WitnessConflict`` (``ledger.witness_size``, ``ledger.split_view``) 409,
        ``VerificationFailed`` (``ledger.witness_proof``) 422. ``StorageFailed``: nothing was cosigned.
        """
        return self.cosign(read_request(request))

    def cosign(self, asked: WitnessRequest, prefix: bytes | None = None) -> bytes:
        """As ``add_checkpoint``. ``prefix`` is the root at the old size of the tree offered, where that is known."""
        checkpoint, verifier = self._known_log(asked.note)  # 1, 2, 3
        text, origin, size = split_note(asked.note)[0], checkpoint.origin, checkpoint.size
        if asked.old > size:
            raise _bad_request("the old size is larger than the checkpoint's")
        bare = bare_note(asked.note, verifier)
        with self._state.turn() as turn:  # 4
            latest = turn.latest(origin)
            at = max(self._clock(), latest.t)
            offer = _Offer(asked, checkpoint, bare, prefix, at)
            self._judge(turn, latest, offer)
            turn.record(origin, Seen(size, checkpoint.root, bare.encode(), at))
        # 5 commit: leaving the block above was the commit point.
        return "".join(cosigner.cosign(text, at).signature.line for cosigner in self._cosigners).encode()  # 6

    def _known_log(self, note: bytes) -> tuple[Checkpoint, NoteVerifier]:
        """The verified checkpoint in ``note`` and the key that signed it."""
        try:
            origin, size, _ = read_head(split_note(note)[0])
        except VerificationFailed as error:
            raise _bad_request(error.message) from error
        if size > _MAX_SIZE:
            raise _bad_request("a size that no tree has")
        if origin not in self._logs:
            self._read_logs()  # made known while this witness runs
        verifiers = self._logs.get(origin)
        if verifiers is None:
            raise NotFound(
                "ledger.witness_origin",
                f"this witness does not know the log {origin[:200]}",
                "make it known: safehold witness trust VERIFIER",
            )
        return _signed(note, verifiers)

    def _judge(self, turn: WitnessTurn, latest: Seen, offer: _Offer) -> None:
        checkpoint, asked = offer.checkpoint, offer.asked
        if asked.old != latest.size:
            known = turn.at(checkpoint.origin, checkpoint.size)
            if known is not None and known.root != checkpoint.root:
                self._keep("split", known, offer)
                raise _split(checkpoint, latest.size)
            raise WitnessConflict(
                "ledger.witness_size",
                f"the latest checkpoint cosigned here has {latest.size} entries",
                size=latest.size,
            )
        if latest.size == checkpoint.size and latest.root != checkpoint.root:
            self._keep("split", latest, offer)
            raise _split(checkpoint, latest.size)
        try:
            verify_consistency(latest.size, latest.root, checkpoint.size, checkpoint.root, asked.proof)
        except VerificationFailed as error:
            self._keep_inconsistent(latest, offer)
            raise VerificationFailed("ledger.witness_proof", f"the proof does not hold: {error.message}") from error

    def _keep_inconsistent(self, latest: Seen, offer: _Offer) -> None:
        """Proven, if the proof leads to the offered root from another root at the known size; else only suspected."""
        if not 0 < latest.size < offer.checkpoint.size:
            return  # a proof where none belongs: nothing about the tree
        prefix = offer.prefix
        try:
            start = latest.root if prefix is None else prefix
            old, new = consistency_roots(latest.size, start, offer.checkpoint.size, offer.asked.proof)
        except VerificationFailed:
            self._keep("unproven", latest, offer)
            return
        if new == offer.checkpoint.root and old != latest.root:
            self._keep("split", latest, offer, old)
        else:
            self._keep("unproven", latest, offer)

    def _keep(self, kind: EvidenceKind, known: Seen, offer: _Offer, prefix: bytes = b"") -> None:
        if not known.note:
            return
        evidence = Evidence(kind=kind, t=offer.t, known=known.note.decode(), offered=offer.bare)
        self._evidence.keep(evidence.with_proof(prefix, offer.asked.proof) if prefix else evidence)

    def observe(self, source: Source) -> Observed:
        """Read the newest checkpoint of a static tree, verify from its tiles that it only grew, and cosign it.

        Raises what ``cosign`` raises; ``VerificationFailed``: ``ledger.source_older`` (it has fewer entries than were
        cosigned; both checkpoints are kept), ``ledger.source_root`` (its tiles are not its checkpoint's),
        ``ledger.tile_short``; and what reading the source raises.
        """
        note = read_checkpoint(source)
        checkpoint, verifier = self._known_log(note)
        tiles = source_tiles(source, checkpoint.size)
        if tree_root(checkpoint.size, tiles) != checkpoint.root:
            raise VerificationFailed(
                "ledger.source_root",
                f"the tiles of {source.name} do not hash to the root that it signed",
                "the copy is damaged or was altered: ask for a fresh export",
            )
        for last in range(_TRIES):
            latest = self.latest(checkpoint.origin)
            if latest.size > checkpoint.size:
                self._older(latest, checkpoint, verifier)
            proof = tuple(consistency_proof(latest.size, checkpoint.size, tiles))
            try:
                lines = self.cosign(WitnessRequest(latest.size, proof, note), tree_root(latest.size, tiles))
            except WitnessConflict as error:
                if error.code == "ledger.split_view" or last == _TRIES - 1:
                    raise
                continue  # another request was cosigned in between: look again
            return Observed(checkpoint, latest.size, lines)
        raise _bad_request("the log grows too fast")  # not reached: the last round returns or raises

    def _older(self, latest: Seen, checkpoint: Checkpoint, verifier: NoteVerifier) -> None:
        with self._state.turn() as turn:
            known = turn.at(checkpoint.origin, checkpoint.size)
        offer = _Offer(
            WitnessRequest(checkpoint.size, (), checkpoint.note),
            checkpoint,
            bare_note(checkpoint.note, verifier),
            None,
            self._clock(),
        )
        if known is not None and known.root != checkpoint.root:
            self._keep("split", known, offer)
            raise _split(checkpoint, latest.size)
        self._keep("rollback", latest, offer)
        raise VerificationFailed(
            "ledger.source_older",
            f"the source shows {checkpoint.size} entries of {checkpoint.origin}, but {latest.size} were cosigned before",
            "it is an old copy, or entries were taken back: both checkpoints were kept as evidence",
        )


class _Offer(msgspec.Struct, frozen=True):
    """A verified checkpoint on offer, with all that evidence may need."""

    asked: WitnessRequest
    checkpoint: Checkpoint
    bare: str
    prefix: bytes | None
    t: int


def _signed(note: bytes, verifiers: Sequence[NoteVerifier]) -> tuple[Checkpoint, NoteVerifier]:
    refused: VerificationFailed | None = None
    for verifier in verifiers:
        try:
            return open_checkpoint(note, verifier), verifier
        except VerificationFailed as error:
            refused = error
    raise Refused(
        "ledger.witness_signature", "the checkpoint is not signed by a key that this witness knows for the log"
    ) from refused


def _split(checkpoint: Checkpoint, size: int) -> WitnessConflict:
    return WitnessConflict(
        "ledger.split_view",
        f"the log {checkpoint.origin} signed two different trees of {checkpoint.size} entries",
        "both checkpoints were kept as evidence: show them to everyone who relies on this log",
        size=size,
    )


def _bad_request(why: str) -> InputInvalid:
    return InputInvalid("ledger.witness_request", f"this is no request to a witness: {why}")
