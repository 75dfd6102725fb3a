"""The log: append, checkpoint, prove. The one writer of facts.

**What an append promises.** When ``append`` returns, the entries are durable, have their final place, and are
covered by a signed checkpoint. Entries of one call are adjacent and all or nothing. There are no gaps, and there
are never two roots for one size. What a proposal saw of the state is exactly the state before its entries: this is
how a hold is exact and not merely fast.

**Write order** (five steps; the numbers stand in the code):

1. *propose*: inside the transaction each waiting proposal reads the state and returns statements, or raises;
2. *extend* a copy of the frontier with the hashes of their bytes;
3. *stage* entries, payloads, projections, tiles and the signed checkpoint in the same transaction;
4. *commit*, durably: **the commit point**. A crash before it leaves nothing, a crash after it leaves everything;
5. *publish*: the copy becomes the frontier, the callers get their answers, the lock database advances.

**Group commit** needs no timer: while one commit waits for the disk, proposals queue; then the first of them leads
and commits all of them at once. Each caller waits for its own outcome and not for a lock that all want: with a lock,
whoever has just been answered takes it again before those who sleep, and commits alone.

**Failing.** ``NotAppended``: nothing happened. ``Uncertain``: the commit itself failed and reopening could not show
that nothing happened; this object then refuses further work. A frontier is never swapped before its commit.

Several processes may use one ledger: the write transaction excludes them from one another, and a frontier that
is behind the stored size is rebuilt from tiles (at most one tile a level). Where the store has one leader, the others
read, and their first append after it ended takes over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from safehold.ledger.cosignature import add_signatures
from safehold.ledger.keys import PublicKey, SigningKey
from safehold.ledger.lock import CheckpointLock
from safehold.ledger.note import Checkpoint, NoteSignature, NoteVerifier, open_checkpoint, sign_checkpoint
from safehold.ledger.proof import verify_consistency
from safehold.ledger.receipt import format_receipt
from safehold.ledger.staging import stage_group, stage_tiles
from safehold.ledger.storage import Entry, Projector, Store, Transaction, View
from safehold.ledger.tree import Frontier, TileReader, checked_tile, consistency_proof, inclusion_proof
from safehold.ledger.waiting import Draft, GroupQueue, Proposal, Waiting, answer
from safehold.ledger.witnessed import WitnessedSizes
from safehold.model.errors import (
    NotAppended,
    NotFound,
    Refused,
    SafeholdError,
    StorageFailed,
    Uncertain,
    VerificationFailed,
)
from safehold.model.statements import Statement, decode

__all__ = ["Draft", "Log", "Proposal", "tile_reader"]


_REMEMBERED_TILES: Final = 64
_LISTEN_SECONDS: Final = 0.1


class Log:
    """One ledger, open for appending and proving. With a public key in place of ``signer`` it is a follower's copy:
    see ``Replica``; it refuses to append (``ledger.follower``).

    ``witnessed`` is what witnesses are known to have cosigned: if that is more than the ledger has, it is read-only.
    """

    def __init__(
        self,
        store: Store,
        lock: CheckpointLock,
        signer: SigningKey | PublicKey,
        origin: str,
        projector: Projector,
        witnessed: WitnessedSizes | None = None,
    ) -> None:
        self._store = store
        self._lock_database = lock
        self._signer = signer
        self._projector = projector
        self.verifier = NoteVerifier(origin, signer if isinstance(signer, PublicKey) else signer.public)
        self.queue = GroupQueue()
        self._frontier = Frontier()
        self._read_only: SafeholdError | None = _follower() if isinstance(signer, PublicKey) else None
        self._lock_problem: StorageFailed | None = None
        self._witnessed = witnessed
        self._prepared: int | None = None  # for which tenure
        if store.lead():
            with store.write() as transaction:
                self._prepare(transaction)
                self._prepared = store.tenure
        else:
            with store.read() as view:
                self._load(view)

    @property
    def read_only(self) -> SafeholdError | None:
        """Why this log refuses to append, or None."""
        return self._read_only

    def refuse(self, error: SafeholdError) -> None:
        """Append nothing from now on, for ``error``; a log that refuses already keeps its own reason."""
        if self._read_only is None:
            self._read_only = error

    def resume(self, error: SafeholdError) -> None:
        """End what ``refuse`` began with this very ``error``; any other reason to be read-only stays."""
        if self._read_only is error:
            self._read_only = None

    @property
    def lock_problem(self) -> StorageFailed | None:
        """Why the lock database fell behind at the last append, or None. What was appended is durable all the same."""
        return self._lock_problem

    @property
    def following(self) -> bool:
        """Whether another process leads this ledger: then an append waits for that process to end."""
        return not self._store.lead()

    @property
    def leads(self) -> bool:
        """Whether this process leads, as far as it knows; does not begin to, as ``following`` may."""
        return self._store.leads

    def hand_over(self) -> None:
        """Let another process lead, between two commits. The next append here waits for the lead and goes on."""
        self._store.release_lead()

    def keep_lead_for_others(self, stop: threading.Event, tenure: float = 1.0) -> None:
        """Hand the lead over to whoever asks, until ``stop``; once led, keep it for ``tenure`` seconds. A thread's work.

        Raises ``StorageFailed`` when the store cannot be reached; it may then be begun again.
        """
        while not stop.is_set():
            if self._store.wait_until_asked(_LISTEN_SECONDS) and self._store.leads:
                stop.wait(tenure)  # so that two who append all the time do not change places at every commit
                self.hand_over()

    def _prepare(self, transaction: Transaction) -> None:
        """What is due before the first append: at opening, or later by whoever takes over from another leader."""
        self._projector.prepare(transaction)
        self._load(transaction)
        # Inside the transaction: no other process can append, and so move the lock, between the two looks.
        try:
            self._check_lock(transaction)
            if self._witnessed is not None:
                self._check_witnessed(transaction, self._witnessed)
        except VerificationFailed as error:
            self._read_only = _rolled_back(error.message)

    def _load(self, view: View) -> None:
        """Rebuild the frontier from tiles and hold it against the signed checkpoint of the same size."""
        size = view.size()
        frontier = Frontier.from_tiles(size, tile_reader(view))
        if size:
            note = view.checkpoint()
            checkpoint = open_checkpoint(note or b"", self.verifier)
            if checkpoint.size != size or checkpoint.root != frontier.root():
                raise VerificationFailed(
                    "ledger.head_mismatch",
                    f"the checkpoint of {checkpoint.size} entries does not fit the {size} entries stored",
                    "run `safehold fsck` to see what is damaged",
                )
        self._frontier = frontier

    def _check_lock(self, view: View) -> None:
        note = self._lock_database.latest(self.verifier.name)
        if note is None:
            return
        self._check_known(view, open_checkpoint(note, self.verifier))

    def _check_witnessed(self, view: View, witnessed: WitnessedSizes) -> None:
        for known in witnessed.known():
            if known.size > self._frontier.size:
                raise VerificationFailed(
                    "ledger.witness_knows_more",
                    f"it has {self._frontier.size} entries, but the witness {known.witness} knows {known.size}",
                )
            if known.note:
                self._check_known(view, open_checkpoint(known.note, self.verifier))

    def _check_known(self, view: View, known: Checkpoint) -> None:
        frontier = self._frontier
        if known.size > frontier.size:
            raise VerificationFailed(
                "ledger.shorter", f"it has {frontier.size} entries, but {known.size} were signed before"
            )
        proof = consistency_proof(known.size, frontier.size, tile_reader(view))
        verify_consistency(known.size, known.root, frontier.size, frontier.root(), proof)

    def append(self, proposal: Proposal, *, wait: bool = True) -> tuple[Entry, ...]:
        """Append what ``proposal`` returns; the entries are durable when this returns.

        Where too many wait already, this waits for room, or with ``wait`` False raises ``NotAppended`` (``ledger.busy``).

        Raises what the proposal raises (nothing is appended then), ``NotAppended``, ``Uncertain``, or
        ``StorageFailed`` (``ledger.rolled_back``) on a ledger that is read-only. Safe from many threads.
        """
        return self._append(proposal, wait)

    def _append(self, proposal: Proposal | Draft, wait: bool) -> tuple[Entry, ...]:
        if self._read_only is not None:
            raise self._read_only
        waiting = Waiting(proposal)
        try:
            if not self.queue.enter(waiting, wait=wait):
                waiting.wait()
            if not waiting.done:
                self.commit_waiting(waiting)
        except BaseException:  # re-raises: an interrupt; the others must not wait for a leader that has gone
            self.queue.withdraw(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error
        return waiting.entries

    def commit_waiting(self, leader: Waiting | None) -> None:
        """Commit all that wait, give each its outcome, and hand the lead on. For whoever leads: see ``GroupQueue``."""
        group: list[Waiting] = []
        checkpoint = None
        try:
            group = self.queue.take()
            checkpoint = self._commit_group(group)
        finally:
            if leader is not None:
                leader.leads = False
            undone = [waiting for waiting in group if not waiting.done]
            if undone:  # an interrupt between two steps: nobody can say any more
                self._settle(undone, _interrupted())
            try:
                answer(group, leader)
                if checkpoint is not None:
                    self._advance_lock(checkpoint)
            finally:
                self.queue.hand_on()

    def append_statements(self, *statements: Statement) -> tuple[Entry, ...]:
        """Append statements that depend on nothing."""
        return self._append(Draft(statements), True)

    def _commit_group(self, group: Sequence[Waiting]) -> Checkpoint | None:
        """Commit a group, or give each member its error. Never leaves a member undone. Returns what it signed."""
        if not group:  # all of them were taken back
            return None
        if self._read_only is not None:  # it became so while these waited
            self._settle(group, self._read_only)
            return None
        try:
            frontier, checkpoint = self._stage_and_commit(group)
        except Uncertain as error:
            self._settle(group, self._learn(error))
        except BaseException as error:  # refuses: every waiting caller gets the error, none an answer
            self._settle(group, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._frontier = frontier  # 5 publish: only now, after the commit
            self._settle(group, None)
            return checkpoint
        return None

    def _advance_lock(self, checkpoint: Checkpoint) -> None:
        """Tell the lock database. The entries are durable: a lock that cannot follow must not deny them."""
        try:
            self._lock_database.advance(checkpoint.origin, checkpoint.size, checkpoint.note)
            self._lock_problem = None
        except StorageFailed as error:
            self._lock_problem = error

    def _settle(self, group: Sequence[Waiting], error: BaseException | None) -> None:
        for waiting in group:
            waiting.error = waiting.error or error
            waiting.done = True

    def _stage_and_commit(self, group: Sequence[Waiting]) -> tuple[Frontier, Checkpoint | None]:
        with self._store.write() as transaction:
            size = transaction.size()
            if size < self._frontier.size:
                raise self._stop(
                    _rolled_back(f"it has {size} entries, but {self._frontier.size} were here a moment ago")
                )
            if size > self._frontier.size:
                self._load(transaction)  # another process has appended
            if self._prepared != self._store.tenure:
                self._prepare(transaction)
                if self._read_only is not None:
                    raise self._read_only
                self._prepared = self._store.tenure
            frontier = self._frontier.copy()
            full = stage_group(transaction, group, self._projector, frontier)
            if frontier.size == self._frontier.size:
                return frontier, None
            stage_tiles(transaction, frontier, full)
            if isinstance(self._signer, PublicKey):
                raise _follower()
            checkpoint = sign_checkpoint(self.verifier.name, frontier.size, frontier.root(), self._signer)
            transaction.put_checkpoint(checkpoint.size, checkpoint.note)
        # 4 commit: leaving the block above was the commit point.
        return frontier, checkpoint

    def add_cosignatures(self, size: int, signatures: Sequence[NoteSignature]) -> Checkpoint:
        """Put verified signatures of others on the stored checkpoint of ``size``: from now on it carries them.

        Raises ``NotFound`` (``ledger.no_checkpoint``). The tree and the ledger's own signature stay as they are.
        """
        with self._store.write() as transaction:
            rows = transaction.rows("SELECT note FROM checkpoint WHERE size = ?", size)
            if not rows:
                raise NotFound("ledger.no_checkpoint", f"there is no checkpoint of {size} entries here")
            checkpoint = open_checkpoint(add_signatures(rows[0][0], signatures), self.verifier)
            transaction.put_checkpoint(size, checkpoint.note)
        return checkpoint

    def _learn(self, error: Uncertain) -> SafeholdError:
        """After a failed commit: reopen, and turn *Uncertain* into *NotAppended* if the ledger shows it.

        A full disk is a plain case: what is not seen did not happen. After any other failure that is not enough: while
        another process holds the file open, bytes of the failed commit may lie behind the last one that counts, and
        recovery after a crash would find them. So a commit that changes nothing is made durable over them; only then
        is it certain that nothing happened.
        """
        full = error.code == "ledger.uncertain_full"
        try:
            self._store.reopen()
            with self._store.read() as view:
                size = view.size()
            if not full:
                with self._store.write() as transaction:
                    size = transaction.size()
                    transaction.settle()
            if size == self._frontier.size:
                return _not_appended_full() if full else _not_appended(error)
        except SafeholdError:
            pass  # still uncertain: say so below, and stop
        return self._stop(error)

    def _stop(self, error: StorageFailed) -> StorageFailed:
        """Refuse all further work with ``error``: what is in memory no longer fits what is stored."""
        self._read_only = error
        return error

    @contextmanager
    def _reading(self) -> Iterator[View]:
        with self._store.read() as view:
            yield view

    def view(self) -> AbstractContextManager[View]:
        """A consistent snapshot of ledger and projections."""
        return self._reading()

    def write(self) -> AbstractContextManager[Transaction]:
        """A write transaction that appends nothing: for rebuilding projections."""
        return self._store.write()

    def check_writable(self) -> None:
        """Commit, durably, what changes nothing; raises what an append would raise now, or what opening again raises.

        For whoever waits for a disk to work again. Nothing is uncertain after it fails, since nothing was to happen: so the
        store is opened again, and the next append finds it as a new process would.
        """
        if self._read_only is not None:
            raise self._read_only
        try:
            with self._store.write() as transaction:
                transaction.settle()
        except StorageFailed:
            self._store.reopen()
            raise

    def checkpoint(self) -> Checkpoint:
        """The newest signed checkpoint, verified; ``NotFound`` (``ledger.empty``) before the first entry."""
        with self._store.read() as view:
            note = view.checkpoint()
        if note is None:
            raise NotFound("ledger.empty", "the ledger has no entries yet", "run `safehold init`")
        return open_checkpoint(note, self.verifier)

    def entry(self, index: int) -> Entry:
        """One entry; ``NotFound`` (``ledger.no_entry``) if there is none at ``index``."""
        with self._store.read() as view:
            body = view.body(index) if 0 <= index < 1 << 62 else None
        if body is None:
            raise NotFound("ledger.no_entry", f"there is no entry {index}", "see `safehold log list`")
        return Entry(index, body, decode(body))

    def receipt(self, index: int, note: bytes | None = None) -> bytes:
        """The receipt of one entry against the newest checkpoint, or an older one whose ``note`` is given."""
        entry = self.entry(index)
        with self._store.read() as view:
            checkpoint = open_checkpoint(note or view.checkpoint() or b"", self.verifier)
            path = inclusion_proof(index, checkpoint.size, tile_reader(view))
        return format_receipt(entry.body, index, path, checkpoint)

    def close(self) -> None:
        """Release files. What was acknowledged is durable already."""
        self._store.close()
        self._lock_database.close()


def _not_appended(error: Uncertain) -> NotAppended:
    return NotAppended(
        "ledger.not_appended",
        f"nothing was appended: {error.__cause__}",
        "free some space or check the disk, then run the same command again",
    )


def _not_appended_full() -> NotAppended:
    return NotAppended(
        "ledger.disk_full",
        "the disk is full: nothing was appended",
        "free some space and run the same command again",
    )


def _interrupted() -> Uncertain:
    return Uncertain(
        "ledger.interrupted", "the append was interrupted: it may have happened", "open the ledger again to learn"
    )


def _rolled_back(why: str) -> StorageFailed:
    return StorageFailed(
        "ledger.rolled_back",
        f"the ledger is read-only: {why}",
        "the ledger file was put back to an older state or replaced: restore the newer one",
    )


def _follower() -> Refused:
    return Refused(
        "ledger.follower",
        "this home follows another ledger: nothing is appended here",
        "run the command at the home that it follows; `safehold follow` brings the entry here",
    )


def tile_reader(view: View) -> TileReader:
    """Read tiles through a view; raises ``VerificationFailed`` (``ledger.tile_short``) for missing hashes.

    A proof asks for one tile many times: the last few are remembered, which is safe as long as the view is a snapshot.
    """
    remembered: dict[tuple[int, int], bytes | None] = {}

    def read(level: int, index: int, width: int) -> bytes:
        if (level, index) not in remembered:
            if len(remembered) >= _REMEMBERED_TILES:
                remembered.clear()
            remembered[level, index] = view.tile(level, index)
        return checked_tile(level, index, width, remembered[level, index])

    return read
