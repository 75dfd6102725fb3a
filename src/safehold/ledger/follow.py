"""Following: a second node that tails another ledger's static tree, verifies everything, and keeps the same bytes.

One step: the checkpoint is signed by the expected key; its tree is ours, grown (a consistency proof from the source's
tiles, our own root at the other end); the new entries hash, onto our tree, to the signed root; their payloads have the
digests that name them. Only then are they adopted, in one transaction, by the same fold as at the source. A crash leaves
the step before, and the next run goes on from there. Contradictions are kept as evidence and adopt nothing.

What was fetched waits in an unnamed file in the home: nobody writes to the copy while the network is slow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import msgspec

from safehold.ledger.audit_part import payloads_named, read_bundle
from safehold.ledger.evidence import Evidence, EvidenceFolder, bare_note
from safehold.ledger.log import tile_reader
from safehold.ledger.note import Checkpoint, open_checkpoint, split_note
from safehold.ledger.proof import verify_consistency
from safehold.ledger.replica import Replica
from safehold.ledger.source import MAX_PAYLOAD_BYTES, Source, read_checkpoint, source_bundle, source_tiles
from safehold.ledger.tree import TILE_WIDTH, TileReader, consistency_proof, tile_path, tree_root
from safehold.ledger.witness import WitnessConflict
from safehold.model.errors import SafeholdError, StorageFailed, VerificationFailed
from safehold.model.ids import Digest, sha256_digest
from safehold.model.statements import decode

__all__ = ["Followed", "Follower"]

_LENGTH: Final = 8


class Followed(msgspec.Struct, frozen=True):
    """One step: the size ``before``, the verified ``checkpoint``, and how many payloads the source did not have."""

    before: int
    checkpoint: Checkpoint
    missing: int


class Follower:
    """Brings a follower's log up to a source. ``folder`` holds what was fetched until it is adopted."""

    def __init__(self, log: Replica, source: Source, folder: Path, clock: Callable[[], int]) -> None:
        self._log = log
        self._source = source
        self._folder = folder
        self._evidence = EvidenceFolder(folder / "evidence")
        self._clock = clock

    def step(self) -> Followed:
        """Adopt all that the source's newest checkpoint covers.

        Raises ``VerificationFailed`` (``ledger.source_older``, ``ledger.source_root``, ``ledger.bundle``, ``ledger.entry``,
        ``ledger.payload``, ``ledger.adopted_root``), ``WitnessConflict`` (``ledger.split_view``), what reading the source
        raises, and ``StorageFailed``. The copy is as it was then.
        """
        note = read_checkpoint(self._source)
        checkpoint = open_checkpoint(note, self._log.verifier)
        with self._log.view() as view:
            own = view.checkpoint()
        known = open_checkpoint(own, self._log.verifier) if own else None
        before = known.size if known else 0
        if known is not None and checkpoint.size <= known.size:
            self._not_longer(known, checkpoint)
            return Followed(before, checkpoint, 0)
        tiles = source_tiles(self._source, checkpoint.size)
        if tree_root(checkpoint.size, tiles) != checkpoint.root:
            raise VerificationFailed(
                "ledger.source_root",
                f"the tiles of {self._source.name} do not hash to the root that it signed",
                "the copy is damaged or was altered: ask for a fresh export",
            )
        if known is not None:
            self._check_grown(known, checkpoint, tiles)
        try:
            with tempfile.TemporaryFile(dir=self._folder) as spool:
                missing = self._fetch(spool, before, checkpoint.size)
                spool.seek(0)
                self._log.adopt(checkpoint, before, _unspool(spool))
        except OSError as error:
            raise StorageFailed(
                "ledger.follow", f"what was fetched cannot be kept: {error.strerror}", "free some space, then run again"
            ) from error
        return Followed(before, checkpoint, missing)

    def _not_longer(self, known: Checkpoint, checkpoint: Checkpoint) -> None:
        """Same size: take cosignatures that are new. Smaller: an old copy at best."""
        with self._log.view() as view:
            tiles = tile_reader(view)
            root = tree_root(checkpoint.size, tiles)
            proof = consistency_proof(checkpoint.size, known.size, tiles)
        if root != checkpoint.root:
            self._split(checkpoint, known, root, proof)
        if checkpoint.size < known.size:
            self._keep(
                Evidence(kind="rollback", t=self._clock(), known=self._bare(known), offered=self._bare(checkpoint))
            )
            raise VerificationFailed(
                "ledger.source_older",
                f"the source shows {checkpoint.size} entries of {checkpoint.origin}, but {known.size} were here before",
                "it is an old copy, or entries were taken back: both checkpoints were kept as evidence",
            )
        held = split_note(known.note)[1]
        if fresh := [one for one in split_note(checkpoint.note)[1] if one not in held]:
            self._log.add_cosignatures(checkpoint.size, fresh)

    def _check_grown(self, known: Checkpoint, checkpoint: Checkpoint, tiles: TileReader) -> None:
        proof = consistency_proof(known.size, checkpoint.size, tiles)
        root = tree_root(known.size, tiles)
        verify_consistency(known.size, root, checkpoint.size, checkpoint.root, proof)  # the tiles are of one tree
        if root != known.root:
            self._split(known, checkpoint, root, proof)

    def _split(self, smaller: Checkpoint, larger: Checkpoint, root: bytes, proof: list[bytes]) -> NoReturn:
        """``root`` is that of the larger tree at the smaller one's size."""
        evidence = Evidence(kind="split", t=self._clock(), known=self._bare(smaller), offered=self._bare(larger))
        self._keep(evidence.with_proof(root, proof))
        raise WitnessConflict(
            "ledger.split_view",
            f"the log {smaller.origin} signed two different trees of {smaller.size} entries",
            "both checkpoints were kept as evidence: show them to everyone who relies on this log",
            size=smaller.size,
        )

    def _bare(self, checkpoint: Checkpoint) -> str:
        return bare_note(checkpoint.note, self._log.verifier)

    def _keep(self, evidence: Evidence) -> None:
        self._evidence.keep(evidence)

    def _fetch(self, spool: BinaryIO, begin: int, end: int) -> int:
        """Write entries ``begin`` … ``end`` - 1 and their payloads to the spool; return how many payloads are not there."""
        asked: dict[Digest, bool] = {}
        for index in range(begin // TILE_WIDTH, (end + TILE_WIDTH - 1) // TILE_WIDTH):
            first = index * TILE_WIDTH
            data, width = source_bundle(self._source, index, min(TILE_WIDTH, end - first))
            bodies = read_bundle(data, width, tile_path("entries", index, width))
            for offset in range(max(begin - first, 0), min(end - first, TILE_WIDTH)):
                body = bodies[offset]
                _write(spool, body)
                payloads = list(self._payloads(first + offset, body, asked))
                spool.write(len(payloads).to_bytes(_LENGTH, "big"))
                for payload in payloads:
                    _write(spool, payload)
        return sum(not there for there in asked.values())

    def _payloads(self, index: int, body: bytes, asked: dict[Digest, bool]) -> Iterator[bytes]:
        try:
            statement = decode(body)
        except SafeholdError as error:
            raise VerificationFailed("ledger.entry", f"entry {index} is not a statement: {error.message}") from error
        for digest in payloads_named(statement):
            if digest in asked:
                continue
            name = f"payload/{digest.removeprefix('sha256:')}"
            payload = self._source.read(name, MAX_PAYLOAD_BYTES)
            asked[digest] = payload is not None
            if payload is None:
                continue  # erased by right, or left out: counted, and told
            if sha256_digest(payload) != digest:
                raise VerificationFailed("ledger.payload", f"{name} does not have the digest that names it")
            yield payload


def _write(spool: BinaryIO, data: bytes) -> None:
    spool.write(len(data).to_bytes(_LENGTH, "big") + data)


def _unspool(spool: BinaryIO) -> Iterator[tuple[bytes, list[bytes]]]:
    while head := spool.read(_LENGTH):
        body = spool.read(int.from_bytes(head, "big"))
        count = int.from_bytes(spool.read(_LENGTH), "big")
        yield body, [spool.read(int.from_bytes(spool.read(_LENGTH), "big")) for _ in range(count)]
