"""Asking witnesses: submit the newest checkpoint, verify what comes back, keep it (the client of C2SP tlog-witness).

A witness is trusted for one thing, its signature. What it answers is bounded in size and time, and counts only if it is a
cosignature by the configured key. That it knows *more* entries than the ledger has is remembered before anything else.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from safehold.ledger.cosignature import (
    Cosignature,
    CosignerKey,
    add_signatures,
    open_cosignatures,
    read_signature_lines,
)
from safehold.ledger.evidence import bare_note
from safehold.ledger.log import Log, tile_reader
from safehold.ledger.note import Checkpoint, open_checkpoint
from safehold.ledger.policy import Policy
from safehold.ledger.source import connect, read_response, split_url
from safehold.ledger.tree import consistency_proof
from safehold.ledger.witness import WitnessConflict, WitnessRequest, format_request
from safehold.ledger.witness_http import ADD_CHECKPOINT
from safehold.ledger.witnessed import KnownSize, WitnessedSizes
from safehold.model.errors import Conflict, Refused, SafeholdError, StorageFailed, VerificationFailed

__all__ = ["Gathered", "Outcome", "add_collected", "gather", "obtain_cosignature", "submit_checkpoint", "witness_id"]

_MAX_ANSWER_BYTES: Final = 1 << 18
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_TRIES: Final = 4


class Outcome(msgspec.Struct, frozen=True):
    """What one witness said: the ``seconds`` of its cosignature, or the ``error``."""

    witness: str
    seconds: int | None
    error: SafeholdError | None


class Gathered(msgspec.Struct, frozen=True):
    """The checkpoint with what was gathered on it, why the policy does not hold or None, and what each witness said."""

    checkpoint: Checkpoint
    lacking: SafeholdError | None
    outcomes: tuple[Outcome, ...]


def witness_id(key: CosignerKey) -> str:
    """A witness's name and key id: what the home remembers it by."""
    return f"{key.name}+{key.key_id.hex()}"


def submit_checkpoint(url: str, request: WitnessRequest, timeout: float = 20.0) -> bytes:
    """``POST`` a request to the witness at a submission prefix; return its signature lines, not verified.

    Raises ``WitnessConflict`` (``ledger.witness_size``) with the size that it knows, ``Refused``
    (``ledger.witness_refused``), ``StorageFailed`` (``ledger.witness_unreachable``), ``InputInvalid`` (``ledger.url``).
    """
    parts = split_url(url)
    connection = connect(parts, timeout)
    body = format_request(request.old, request.proof, request.note)
    try:
        connection.request("POST", parts.path.rstrip("/") + ADD_CHECKPOINT, body, {"User-Agent": "safehold"})
        response = connection.getresponse()
        answer = read_response(response, _MAX_ANSWER_BYTES, time.monotonic() + 2 * timeout, time.monotonic)
    except (OSError, http.client.HTTPException) as error:
        raise StorageFailed(
            "ledger.witness_unreachable",
            f"the witness at {url} does not answer: {type(error).__name__}: {error}",
            "try again later; nothing is lost meanwhile",
        ) from error
    finally:
        connection.close()
    if response.status == 200:
        return answer
    size = _SIZE.fullmatch(answer)
    if response.status == 409 and size and int(size[1]) < 1 << 62:
        raise WitnessConflict(
            "ledger.witness_size", f"the witness at {url} knows {int(size[1])} entries", size=int(size[1])
        )
    told = answer[:120].decode(errors="replace").strip()
    raise Refused("ledger.witness_refused", f"the witness at {url} answered {response.status}: {told}")


def obtain_cosignature(
    url: str, key: CosignerKey, checkpoint: Checkpoint, prove: Callable[[int], Sequence[bytes]], old: int
) -> Cosignature:
    """A verified cosignature by ``key`` on a checkpoint. ``prove`` makes the consistency proof from a size; ``old`` is a guess.

    Raises ``WitnessConflict``: ``ledger.witness_ahead`` (it knows more entries), ``ledger.witness_split`` (it knows another
    tree of a size that was offered); ``VerificationFailed`` (``ledger.cosignature``); and what ``submit_checkpoint`` raises.
    """
    for _ in range(_TRIES):
        try:
            answer = submit_checkpoint(url, WitnessRequest(old, tuple(prove(old)), checkpoint.note))
        except WitnessConflict as error:
            if error.size > checkpoint.size:
                raise WitnessConflict(
                    "ledger.witness_ahead",
                    f"the witness {key.name} knows {error.size} entries, but there are {checkpoint.size} here",
                    "entries were taken back here, or this is an old copy: find the newer ledger",
                    size=error.size,
                ) from error
            if error.size == old:
                raise WitnessConflict(
                    "ledger.witness_split",
                    f"the witness {key.name} knows another tree of this ledger at {old} entries",
                    "compare checkpoints with the witness's operator: two histories were signed",
                    size=error.size,
                ) from error
            old = error.size
            continue
        note = add_signatures(checkpoint.note, read_signature_lines(answer))
        found = open_cosignatures(note, [key])
        if key not in found:
            raise VerificationFailed(
                "ledger.cosignature", f"the answer holds no cosignature by {key.name} with its key"
            )
        return found[key]
    raise Conflict("ledger.witness_busy", f"the witness {key.name} changes faster than it can be asked", "run it again")


def gather(log: Log, policy: Policy, sizes: WitnessedSizes) -> Gathered:
    """Submit the newest checkpoint to every witness of the policy that has a URL; store what they cosigned.

    What a witness fails at is told in its outcome; it stops no other. Raises what reading the ledger raises.
    """
    policy.check_log(log.verifier)
    newest = log.checkpoint()
    bare = open_checkpoint(bare_note(newest.note, log.verifier).encode(), log.verifier)
    known = {one.witness: one.size for one in sizes.known()}

    def prove(old: int) -> Sequence[bytes]:
        with log.view() as view:
            return consistency_proof(old, bare.size, tile_reader(view))

    outcomes, made = [], []
    for witness in policy.witnesses:
        if not witness.url:
            continue
        name = witness_id(witness.key)
        try:
            guess = min(known.get(name, 0), bare.size)
            cosignature = obtain_cosignature(witness.url, witness.key, bare, prove, guess)
        except SafeholdError as error:
            if isinstance(error, WitnessConflict) and error.code == "ledger.witness_ahead":
                sizes.advance(KnownSize(name, error.size, b""))
            outcomes.append(Outcome(name, None, error))
            continue
        outcomes.append(Outcome(name, cosignature.seconds, None))
        made.append(cosignature)
    return Gathered(*_store(_Kept(log, policy, sizes), bare.size, made), tuple(outcomes))


def add_collected(log: Log, policy: Policy, sizes: WitnessedSizes, lines: bytes) -> Gathered:
    """Take signature lines that came by another way, a file or a mail, for the newest checkpoint.

    Raises ``VerificationFailed`` (``ledger.cosignature``) if they hold no valid cosignature by a witness of the policy.
    """
    policy.check_log(log.verifier)
    newest = log.checkpoint()
    bare = open_checkpoint(bare_note(newest.note, log.verifier).encode(), log.verifier)
    note = add_signatures(bare.note, read_signature_lines(lines))
    made = list(open_cosignatures(note, [witness.key for witness in policy.witnesses]).values())
    if not made:
        raise VerificationFailed(
            "ledger.cosignature",
            f"the lines hold no cosignature on the newest checkpoint, of {bare.size} entries, by a witness of the policy",
            "export again, let the witness cosign that, and bring its lines before more is appended",
        )
    outcomes = tuple(Outcome(witness_id(one.key), one.seconds, None) for one in made)
    return Gathered(*_store(_Kept(log, policy, sizes), bare.size, made), outcomes)


class _Kept(msgspec.Struct, frozen=True):
    """Where cosignatures are put."""

    log: Log
    policy: Policy
    sizes: WitnessedSizes


def _store(kept: _Kept, size: int, made: Sequence[Cosignature]) -> tuple[Checkpoint, SafeholdError | None]:
    """Put cosignatures on the stored checkpoint, then remember the sizes: a crash in between forgets, and never invents."""
    checkpoint = kept.log.add_cosignatures(size, [one.signature for one in made])
    for one in made:
        kept.sizes.advance(KnownSize(witness_id(one.key), size, checkpoint.note))
    try:
        kept.policy.witnessed(checkpoint)
    except VerificationFailed as error:
        return checkpoint, error
    kept.sizes.set_complete(checkpoint.origin, size, checkpoint.note)
    return checkpoint, None
