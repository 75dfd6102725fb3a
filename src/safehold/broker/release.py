"""Releasing keys: record, then act. The eleven steps of design §6, numbered here as there.

 1 parse and bound sizes · 2 verify the grant's chain · 3 verify possession of the host's key ·
 4 freshness and replay · 5 inventory known, recent, clean · 6 no hold · 7 column groups and purpose within the grant ·
 8 append, durable (**no entry, no key**) · 9 unwrap · 10 seal to the reader · 11 answer

Steps 4 to 8 happen inside one ledger transaction: the decision is made on the state at the very place where its
entry will stand. A hold that is committed before has been seen; one that comes after has a higher place.

**Many at a time.** Each step is taken for all requests of a call before the next one, so that one commit, one read of
the key store and one checkpoint serve them all. Each still has its own entry and its own fate.

**Exceptions deny.** Whatever is raised in any step, expected or not, ends in a refusal, and a refusal is an entry. The
only failure without an entry is a ledger that cannot be written, and then no key leaves either. After step 8 a failure
is recorded as a further entry: the release stays in the ledger, since the keys might have left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final, Protocol, TypeVar

from safehold.broker.attempt import Attempt, guarded, not_recorded, refusal
from safehold.broker.deciding import Moment, decide_attempt, lease_end
from safehold.broker.grants import VerifiedGrant, verify_grant
from safehold.broker.leases import LeaseProof, Leases, Session
from safehold.broker.policy import BrokerPolicy, Denial
from safehold.broker.policy_file import parse_policy
from safehold.broker.proof import KEYS_PATH, LEASES_PATH, Proof, verify_member, verify_proof
from safehold.broker.refusals import UNPROVEN_STEP, RefusalCounter
from safehold.broker.repeats import find_repeated, without
from safehold.broker.request import (
    KeyRequest,
    LeasedKeys,
    SealedKeys,
    SealedLease,
    parse_lease_request,
    parse_leased_request,
    parse_request,
    wants_lease,
)
from safehold.broker.sealing import LEASE_PURPOSE, seal_keys
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.receipts import make_receipts
from safehold.ledger.storage import Entry, View
from safehold.model.errors import InputInvalid, SafeholdError, StorageFailed, VerificationFailed
from safehold.model.ids import Digest, GroupName, KeyId, RequestId, sha256_digest
from safehold.model.statements import KeyReleased, Statement
from safehold.model.statements_access import LeaseOpened
from safehold.state.remembered import Remembered, Standing
from safehold.state.standing import HostRow, find_host, requests_used
from safehold.state.standing_access import find_member_key
from safehold.vault.manifest import parse_manifest

__all__ = ["Answer", "Broker", "PartKeys"]

Answer = SealedKeys | SealedLease | LeasedKeys
"""What an asker gets: keys, a lease, or keys by a lease."""

_Kind = TypeVar("_Kind")
_Name = TypeVar("_Name")
_Value = TypeVar("_Value")
_MAX_TOKENS: Final = 1024
_MAX_KEYS: Final = 4096
_MAX_MANIFESTS: Final = 1024
_WORTH_SHARING: Final = 4


class PartKeys(Protocol):
    """Where the broker gets part keys from: the key store with its key-encryption key behind it."""

    def unwrap(self, release: Digest, files: Sequence[str]) -> Mapping[str, bytes]:
        """The 32-byte keys of these part files, or ``NotFound`` if they were erased."""
        ...


class _Round:
    """One append of many answers: what the last run of its proposal saw and said."""

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.places: list[int] = []  # of each attempt's own statement among those of the draft


class Broker:
    """Decides on requests for keys. ``grant_root`` is the public grant key, ``clock`` gives µs UTC, ``by`` signs for it.

    Safe from many threads.
    """

    def __init__(
        self,
        log: Log,
        keys: PartKeys,
        grant_root: bytes,
        clock: Callable[[], int],
        by: KeyId,
        policy: BrokerPolicy | None = None,
    ) -> None:
        self._log = log
        self._keys = keys
        self._grant_root = grant_root
        self._clock = clock
        self._by = by
        self._policy = policy or BrokerPolicy()
        self._parsed: tuple[Digest | None, BrokerPolicy] = (None, self._policy)
        self._executor: Executor | None = None
        self._counter: RefusalCounter | None = None
        self._again = False
        self._remembered = Remembered()
        self._leases = Leases()
        self._tokens: dict[str, VerifiedGrant] = {}
        self._host_keys: dict[str, PublicKey] = {}
        self._files: dict[tuple[Digest, tuple[GroupName, ...]], tuple[str, ...]] = {}

    def share_work(self, executor: Executor) -> None:
        """Let ``executor`` check half of the signatures of a call: on another core, since that lets go of Python's lock."""
        self._executor = executor

    def count_unproven(self, counter: RefusalCounter) -> None:
        """From now on refusals of steps 1 to 3 stand singly only as far as ``counter`` allows: see ``refusals``."""
        self._counter = counter

    def answer_again(self) -> None:
        """From now on a request that was answered with keys is answered again, by the release of then: see ``repeats``."""
        self._again = True

    def release_keys(self, body: bytes, proof: Proof) -> SealedKeys:
        """Answer one request for keys. Raises ``Refused`` with the refusal's entry, or ``StorageFailed`` if nothing can
        be recorded.
        """
        return _expect(self.release_many([(body, proof)])[0], SealedKeys)

    def open_lease(self, body: bytes, proof: Proof) -> SealedLease:
        """Answer one request for a lease; raises like ``release_keys``."""
        return _expect(self.release_many([(body, proof)])[0], SealedLease)

    def release_leased(self, body: bytes, proof: LeaseProof) -> LeasedKeys:
        """Answer one request by a lease; raises like ``release_keys``."""
        return _expect(self.release_many([(body, proof)])[0], LeasedKeys)

    def release_many(self, asks: Sequence[tuple[bytes, Proof | LeaseProof]]) -> list[Answer | SafeholdError]:
        """Answer requests with one commit: for each its answer, or the ``Refused`` or ``StorageFailed`` that it gets.

        Raises ``StorageFailed`` if nothing could be recorded: then none is answered.
        """
        attempts = [Attempt(body, proof) for body, proof in asks]
        for attempt in attempts:
            with guarded(attempt):
                self._understand(attempt)  # 1 - 3, all but the signature
        self._check_proofs([attempt for attempt in attempts if attempt.open and attempt.session is None])  # 3
        self._decide_and_append(self._without_counted(attempts))  # 4 - 8
        self._unwrap_and_seal([attempt for attempt in attempts if attempt.open])  # 9, 10
        self._answer([attempt for attempt in attempts if attempt.open])  # 11
        self._record_refusals(attempts)
        return [_outcome(attempt) for attempt in attempts]

    def _without_counted(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """All but those that proved nothing and are counted in place of an entry: they have failed already."""
        for attempt in attempts if self._counter is not None else ():
            denial = attempt.denial
            if denial is not None and denial.step <= UNPROVEN_STEP and self._counter is not None:
                attempt.failure = None if self._counter.stands_singly(denial.code) else denial
        return [attempt for attempt in attempts if attempt.failure is None]

    def _understand(self, attempt: Attempt) -> None:
        if isinstance(attempt.proof, LeaseProof):
            self._understand_leased(attempt, attempt.proof)
            return
        if wants_lease(attempt.body):
            request, attempt.wish = parse_lease_request(attempt.body)
        else:
            request = parse_request(attempt.body)  # 1
        attempt.request = request
        attempt.step = 2
        token = self._tokens.get(request.grant)
        if token is None:
            token = verify_grant(request.grant, self._grant_root)
            _remember(self._tokens, request.grant, token, _MAX_TOKENS)  # by its bytes: the same bytes verify again
        attempt.token, attempt.grant = token, token.grant
        attempt.step = 3
        attempt.host = self._find_host(request)

    def _understand_leased(self, attempt: Attempt, proof: LeaseProof) -> None:
        asked = parse_leased_request(attempt.body)  # 1
        attempt.step = 3
        session = self._leases.find(asked.lease)
        session.keys.verify(attempt.body, proof)
        attempt.grant = session.token.grant
        attempt.request, attempt.counter = session.take(asked), asked.counter
        attempt.token, attempt.host, attempt.session = session.token, session.host, session
        attempt.member_key = session.member_key

    def _find_host(self, request: KeyRequest) -> HostRow:
        """The host as it was a moment ago; whether it still is so is asked again inside the transaction."""
        host = self._remembered.known_host(request.host)
        if host is None or self._host_key(host).key_id != request.host_key:
            with self._log.view() as view:
                host = find_host(view, request.host)
        if host is None:
            raise Denial(
                3, "broker.host_unknown", f"{request.host} is not registered", "register it: safehold host add"
            )
        return host

    def _host_key(self, host: HostRow) -> PublicKey:
        key = self._host_keys.get(host.key)
        if key is None:
            key = PublicKey.parse(host.key)
            _remember(self._host_keys, host.key, key, _MAX_KEYS)
        return key

    def _check_proofs(self, attempts: Sequence[Attempt]) -> None:  # 3
        if self._executor is None or len(attempts) < _WORTH_SHARING:
            self._check_some(attempts)
            return
        half = len(attempts) // 2
        others = self._executor.submit(self._check_some, attempts[half:])
        self._check_some(attempts[:half])
        others.result()

    def _check_some(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            with guarded(attempt):
                self._verify_possession(attempt)

    def _verify_possession(self, attempt: Attempt) -> None:
        request, host, proof = attempt.request, attempt.host, attempt.proof
        if request is None or host is None or not isinstance(proof, Proof):
            raise Denial(3, "broker.internal", "the request was not understood")
        path = KEYS_PATH if attempt.wish is None else LEASES_PATH
        verify_proof(attempt.body, proof, self._host_key(host), path)
        if proof.nonce != request.request or proof.key != request.host_key:
            raise Denial(
                3, "broker.proof_request", "the proof was made for another request", "sign the request as sent"
            )
        if proof.member_signature is not None:
            attempt.member_key = self._verify_member(attempt.body, proof, request, path)

    def _verify_member(self, body: bytes, proof: Proof, request: KeyRequest, path: str) -> str:
        """The registered key by which the member has signed; whether it still is his is asked again in the transaction."""
        with self._log.view() as view:
            key = None if request.member is None else find_member_key(view, request.member)
        if key is None:
            raise Denial(
                3,
                "broker.member_key",
                f"{request.member or 'no member'} has no registered key, and the request is signed by one",
                "register it: safehold member key MEMBER --key FILE.pub",
            )
        verify_member(body, proof, PublicKey.parse(key), path)
        return key

    def _decide_and_append(self, attempts: Sequence[Attempt]) -> None:
        """Decide inside the transaction; each attempt ends with its release or its refusal appended."""
        if not attempts:
            return
        early = [attempt.denial for attempt in attempts]
        told = _Round()

        def propose(view: View) -> Draft:
            for attempt, denial in zip(attempts, early, strict=True):  # it may run more than once
                attempt.denial = denial
            return Draft(tuple(self._statements(view, attempts, told)))

        for attempt in attempts:
            attempt.step = max(attempt.step, 4) if attempt.open else attempt.step
        try:
            entries = self._log.append(propose)  # 8
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001 - refuses: each of them, by the same guard as everywhere
            _deny_all([attempt for attempt in attempts if attempt.open], error)
            self._record_refusals(attempts)
            return
        for attempt, place in zip(attempts, told.places, strict=True):
            self._take_entry(attempt, attempt.repeated or entries[place])
        try:
            if told.standing is not None and entries:
                self._remembered.keep(told.standing, entries[-1].index + 1)
        except Exception as error:  # noqa: BLE001 - refuses: each of them, by the same guard as everywhere
            _deny_all([attempt for attempt in attempts if attempt.open], error)

    def _statements(self, view: View, attempts: Sequence[Attempt], told: _Round) -> list[Statement]:
        now = self._clock()
        wanted = [attempt.request.request for attempt in attempts if attempt.open and attempt.request]
        used: set[RequestId] = set()
        moment = None
        if wanted:
            told.standing = self._remembered.at(view)
            used = requests_used(view, wanted)
            policy = self._policy_at(told.standing)
            moment = Moment(standing=told.standing, now=now, used=used, policy=policy, by=self._by)
        made: list[Statement] = []
        ended: set[str] = set()
        told.places = []
        for attempt in attempts:
            attempt.repeated = None
            if attempt.open and moment is not None:
                with guarded(attempt):
                    prior = find_repeated(view, attempt, moment) if self._again else None
                    attempt.statement = decide_attempt(attempt, moment if prior is None else without(moment, attempt))
                    attempt.repeated = prior
            if attempt.request is not None and attempt.step > 3:
                used.add(attempt.request.request)  # two of one id in one call: the second is a replay
            told.places.append(len(made))
            denial = attempt.denial
            if denial is None and attempt.repeated is not None and isinstance(attempt.repeated.statement, KeyReleased):
                attempt.statement = attempt.repeated.statement  # decided anew, and recorded before: it adds no entry
                continue
            if denial is None and attempt.statement is not None:
                made.append(attempt.statement)
                continue
            denial = denial or Denial(attempt.step, "broker.internal", "the request was not decided")
            attempt.denial = denial
            made.append(refusal(attempt, denial, now, self._by))
            end = lease_end(attempt, denial, moment) if moment else None
            if end is not None and end.lease not in ended:
                ended.add(end.lease)
                made.append(end)
        return made

    def _policy_at(self, standing: Standing) -> BrokerPolicy:
        """The policy in force at this place. One that cannot be read denies everything."""
        digest, data = standing.policy()
        if digest is None:
            return self._policy
        if self._parsed[0] != digest:
            if sha256_digest(data) != digest:
                raise VerificationFailed(
                    "broker.policy_lost", "the policy in force is not kept here", "set it again: safehold policy set"
                )
            self._parsed = (digest, parse_policy(data))
        return self._parsed[1]

    def _take_entry(self, attempt: Attempt, entry: Entry) -> None:
        attempt.entry = entry
        if attempt.denial is not None:
            attempt.settle(entry.index)
            if attempt.session is not None and attempt.denial.step in (4, 5, 6):
                self._drop_ended(attempt, attempt.denial)
        elif entry.statement == attempt.statement:
            attempt.step = 9
        else:
            attempt.deny(Denial(8, "broker.internal", "the ledger returned another entry than was asked for"))

    def _drop_ended(self, attempt: Attempt, denial: Denial) -> None:
        if attempt.session is not None and denial.code not in ("broker.replayed", "broker.internal"):
            self._leases.drop(attempt.session.lease)

    def _unwrap_and_seal(self, attempts: Sequence[Attempt]) -> None:
        """Steps 9 and 10. Unwrapped keys live for this call alone, and those of one file are unwrapped once in it.

        Where keys cannot be had, the others of this call are told the same: each would wait as long for a service that hangs.
        """
        opened: dict[tuple[Digest, tuple[GroupName, ...]], Mapping[str, bytes]] = {}
        away: StorageFailed | None = None
        for attempt in attempts:
            with guarded(attempt):
                attempt.step = 9
                statement, request = attempt.statement, attempt.request
                if request is None:
                    raise Denial(9, "broker.internal", "the request was not understood")
                if isinstance(statement, LeaseOpened):
                    attempt.step = 10
                    attempt.sealed = self._seal_session(attempt, request, statement)
                elif isinstance(statement, KeyReleased):
                    place = (statement.release, statement.groups)
                    if place not in opened and away is not None:
                        raise away
                    if place not in opened:
                        try:
                            opened[place] = self._unwrap(statement)
                        except StorageFailed as error:
                            away = error
                            raise
                    attempt.step = 10
                    attempt.sealed = _seal(attempt, request, opened[place])

    def _unwrap(self, released: KeyReleased) -> Mapping[str, bytes]:  # 9
        place = (released.release, released.groups)
        files = self._files.get(place)
        if files is None:
            files = self._part_files(released)
            _remember(self._files, place, files, _MAX_MANIFESTS)  # by the digest of the manifest: it never changes
        keys = self._keys.unwrap(released.release, list(files))
        if not files or keys.keys() != set(files):
            raise Denial(9, "broker.keys", "the key store gave other keys than were asked for", "run safehold fsck")
        return keys

    def _part_files(self, released: KeyReleased) -> tuple[str, ...]:
        with self._log.view() as view:
            body = view.payload(released.release) or b""
        # The payload table is not proven by the tree; its digest is. A manifest put in its place names no file here.
        manifest = parse_manifest(body)
        if sha256_digest(body) != released.release or manifest.dataset != released.dataset:
            raise Denial(9, "broker.manifest", "the manifest kept here is not that of the release", "run safehold fsck")
        return tuple(part.file for part in manifest.files(released.groups))

    def _seal_session(self, attempt: Attempt, request: KeyRequest, opened: LeaseOpened) -> bytes:  # 10
        if attempt.token is None or attempt.host is None:
            raise Denial(10, "broker.internal", "the request was not proven")
        session = Session(opened.lease, request, attempt.token, attempt.host)
        session.member_key, session.until = attempt.member_key, opened.until
        secret = {"session": session.secret}
        sealed = seal_keys(secret, request.reader, request.request, request.release, LEASE_PURPOSE)
        self._leases.add(session, opened.t)
        return sealed

    def _answer(self, attempts: Sequence[Attempt]) -> None:  # 11
        receipts: dict[int, bytes] = {}
        proving = [one.entry for one in attempts if one.session is None and one.entry is not None]
        for attempt in attempts:
            attempt.step = 11
        try:
            if proving:
                with self._log.view() as view:
                    made = make_receipts(view, self._log.verifier, proving)
                receipts = {entry.index: receipt for entry, receipt in zip(proving, made, strict=True)}
        except Exception as error:  # noqa: BLE001 - refuses: each of them, by the same guard as everywhere
            _deny_all(attempts, error)
            return
        for attempt in attempts:
            with guarded(attempt):
                attempt.answer = _answer_of(attempt, receipts)

    def _record_refusals(self, attempts: Sequence[Attempt]) -> None:
        """Append the refusals that have no entry yet; who cannot be told by an entry is told so."""
        waiting = [(attempt, attempt.denial) for attempt in attempts if attempt.failure is None and attempt.denial]
        if not waiting:
            return
        try:
            now = self._clock()
            entries = self._log.append_statements(
                *[refusal(attempt, denial, now, self._by) for attempt, denial in waiting]
            )
            for (attempt, _), entry in zip(waiting, entries, strict=True):
                attempt.settle(entry.index)
        except StorageFailed as error:
            for attempt, _ in waiting:
                attempt.failure = error
        except Exception as error:  # noqa: BLE001 - refuses: nothing leaves, and the caller learns that nothing was recorded
            for attempt, _ in waiting:
                attempt.failure = not_recorded(error)


def _deny_all(attempts: Sequence[Attempt], error: Exception) -> None:
    for attempt in attempts:
        with guarded(attempt):
            raise error


def _seal(attempt: Attempt, request: KeyRequest, keys: Mapping[str, bytes]) -> bytes:  # 10
    session = attempt.session
    if session is None:
        return seal_keys(keys, request.reader, request.request, request.release)
    return session.keys.seal(keys, session.lease, attempt.counter, request.release)


def _answer_of(attempt: Attempt, receipts: Mapping[int, bytes]) -> Answer:
    request, entry, statement, session = attempt.request, attempt.entry, attempt.statement, attempt.session
    if request is None or entry is None:
        raise Denial(11, "broker.internal", "the request was not recorded")
    common: dict[str, Any] = {"release": request.release, "entry": entry.index, "sealed": attempt.sealed}
    if isinstance(statement, LeaseOpened):
        told: dict[str, Any] = {"request": request.request, "until": statement.until, "receipt": receipts[entry.index]}
        return SealedLease(lease=statement.lease, keys=statement.keys, **told, **common)
    if not isinstance(statement, KeyReleased):
        raise Denial(11, "broker.internal", "there is no answer")
    if session is not None:
        return LeasedKeys(lease=session.lease, counter=attempt.counter, until=statement.until, **common)
    return SealedKeys(request=request.request, until=statement.until, receipt=receipts[entry.index], **common)


def _outcome(attempt: Attempt) -> Answer | SafeholdError:
    """Its answer, if nothing ended it; what ended it otherwise, and never both."""
    if attempt.failure is not None:
        return attempt.failure
    if attempt.denial is None and attempt.answer is not None:
        return attempt.answer
    return attempt.denial or Denial(attempt.step, "broker.internal", "the request was not answered", "ask again")


def _expect(outcome: Answer | SafeholdError, kind: type[_Kind]) -> _Kind:
    if isinstance(outcome, kind):
        return outcome
    if isinstance(outcome, SafeholdError):
        raise outcome
    raise InputInvalid("broker.request_form", "this request asks for something else", "send it to its own path")


def _remember(known: dict[_Name, _Value], key: _Name, value: _Value, most: int) -> None:
    if len(known) >= most:
        known.clear()
    known[key] = value
