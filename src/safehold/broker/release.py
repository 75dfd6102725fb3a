"""Releasing keys: record, then act. The eleven steps of design §6, numbered here as there.

 1 parse and bound sizes · 2 verify the grant's chain · 3 verify possession of the host's key ·
 4 freshness and replay · 5 inventory known, recent, clean · 6 no hold · 7 column groups and purpose within the grant ·
 8 append, durable (**no entry, no key**) · 9 unwrap · 10 seal to the reader · 11 answer

Steps 4 to 8 happen inside one ledger transaction: the decision is made on the state at the very place where its
entry will stand. A hold that is committed before has been seen; one that comes after has a higher place.

**Exceptions deny.** Whatever is raised in any step, expected or not, ends in a refusal, and a refusal is an entry. The
only failure without an entry is a ledger that cannot be written, and then no key leaves either. After step 8 a failure
is recorded as a further entry: the release stays in the ledger, since the keys might have left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from safehold.broker.grants import VerifiedGrant, verify_grant
from safehold.broker.policy import BrokerPolicy, Denial, Facts, decide, hold_subjects
from safehold.broker.proof import Proof, verify_proof
from safehold.broker.refusals import UNPROVEN_STEP, RefusalCounter
from safehold.broker.request import KeyRequest, SealedKeys, parse_request
from safehold.broker.sealing import seal_keys
from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import View
from safehold.model.errors import SafeholdError, StorageFailed
from safehold.model.ids import Digest, GrantId, KeyId, sha256_digest
from safehold.model.statements import KeyRefused, KeyReleased
from safehold.state.standing import (
    HostRow,
    active_holds,
    find_grant,
    find_host,
    find_release,
    read_inventories,
    request_used,
)
from safehold.vault.manifest import parse_manifest

__all__ = ["Broker", "PartKeys"]

_MICROSECONDS = 1_000_000


class PartKeys(Protocol):
    """Where the broker gets part keys from: the key store with its key-encryption key behind it."""

    def unwrap(self, release: Digest, files: Sequence[str]) -> Mapping[str, bytes]:
        """The 32-byte keys of these part files, or ``NotFound`` if they were erased."""
        ...


class _Progress:
    """How far a request came, for the refusal that may follow."""

    def __init__(self) -> None:
        self.step = 1
        self.request: KeyRequest | None = None
        self.grant: GrantId | None = None


class Broker:
    """Decides on requests for keys. ``grant_root`` is the public grant key, ``clock`` gives µs UTC, ``by`` signs for it."""

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
        self._counter: RefusalCounter | None = None

    def count_unproven(self, counter: RefusalCounter) -> None:
        """From now on refusals of steps 1 to 3 stand singly only as far as ``counter`` allows: see ``refusals``."""
        self._counter = counter

    def release_keys(self, body: bytes, proof: Proof) -> SealedKeys:
        """Answer one request. Raises ``Refused`` with the refusal's entry, or ``StorageFailed`` if nothing can be recorded."""
        progress = _Progress()
        try:
            return self._release(body, proof, progress)
        except StorageFailed as error:
            if progress.step <= 8:
                raise  # not recorded, so not released: there is nothing to refuse into
            failed = Denial(progress.step, "broker.internal", "the keys could not be read", "ask again")
            return self._refuse(progress, failed, error)
        except Denial as denial:
            return self._refuse(progress, denial)
        except SafeholdError as error:
            return self._refuse(progress, Denial(progress.step, error.code, error.message, error.hint), error)
        except Exception as error:  # noqa: BLE001 - refuses: the unexpected denies like everything else
            unexpected = Denial(
                progress.step,
                "broker.internal",
                f"the broker failed in step {progress.step}",
                "ask again; if it stays, show this entry to whoever runs the broker",
            )
            return self._refuse(progress, unexpected, error)

    def _release(self, body: bytes, proof: Proof, progress: _Progress) -> SealedKeys:
        request = parse_request(body)  # 1
        progress.request = request
        progress.step = 2
        token = verify_grant(request.grant, self._grant_root)
        progress.grant = token.grant
        progress.step = 3
        host = self._verify_possession(body, request, proof)
        progress.step = 4
        released, entry = self._decide_and_append(request, proof, token, host, progress)  # 4 - 8
        progress.step = 9
        keys = self._unwrap(request, released)
        progress.step = 10
        sealed = seal_keys(keys, request.reader, request.request, request.release)
        progress.step = 11
        return SealedKeys(
            request=request.request,
            release=request.release,
            entry=entry,
            until=released.until,
            sealed=sealed,
            receipt=self._log.receipt(entry),
        )

    def _unwrap(self, request: KeyRequest, released: KeyReleased) -> Mapping[str, bytes]:  # 9
        with self._log.view() as view:
            body = view.payload(request.release) or b""
        # The payload table is not proven by the tree; its digest is. A manifest put in its place names no file here.
        manifest = parse_manifest(body)
        if sha256_digest(body) != request.release or manifest.dataset != released.dataset:
            raise Denial(9, "broker.manifest", "the manifest kept here is not that of the release", "run safehold fsck")
        files = [part.file for part in manifest.files(request.groups)]
        keys = self._keys.unwrap(request.release, files)
        if not files or keys.keys() != set(files):
            raise Denial(9, "broker.keys", "the key store gave other keys than were asked for", "run safehold fsck")
        return keys

    def _verify_possession(self, body: bytes, request: KeyRequest, proof: Proof) -> HostRow:  # 3
        with self._log.view() as view:
            host = find_host(view, request.host)
        if host is None:
            raise Denial(
                3, "broker.host_unknown", f"{request.host} is not registered", "register it: safehold host add"
            )
        verify_proof(body, proof, PublicKey.parse(host.key))
        if proof.nonce != request.request or proof.key != request.host_key:
            raise Denial(
                3, "broker.proof_request", "the proof was made for another request", "sign the request as sent"
            )
        return host

    def _decide_and_append(
        self, request: KeyRequest, proof: Proof, token: VerifiedGrant, host: HostRow, progress: _Progress
    ) -> tuple[KeyReleased, int]:
        """Decide inside the transaction; append the release, or raise the denial with its entry already appended."""
        denials: list[Denial] = []

        def propose(view: View) -> Draft:
            now = self._clock()
            denials.clear()
            try:
                return Draft((self._decide(view, request, proof, token, host, now),))
            except Denial as denial:
                denials.append(denial)
                return Draft((self._refusal(denial, request, token.grant, now),))

        entry = self._log.append(propose)[0]  # 8
        if denials:
            raise _recorded(denials[0], entry.index)
        progress.step = 8
        statement = entry.statement
        if not isinstance(statement, KeyReleased):
            raise Denial(8, "broker.internal", "the ledger returned another entry than was asked for")
        return statement, entry.index

    def _decide(
        self, view: View, request: KeyRequest, proof: Proof, token: VerifiedGrant, host: HostRow, now: int
    ) -> KeyReleased:
        release = find_release(view, request.release)
        grant = find_grant(view, token.grant)
        subjects = hold_subjects(request, host, release, token.grant)
        facts = Facts(
            request=request,
            created=proof.created,
            now=now,
            replayed=request_used(view, request.request),
            host=host,
            release=release,
            grant=grant,
            token=token,
            inventories=read_inventories(view, request.host),
            holds=active_holds(view, subjects),
            policy=self._policy,
        )
        inventories = decide(facts)  # 4 - 7
        if release is None or grant is None:  # decided above; said again for whoever changes the decision
            raise Denial(7, "broker.no_release", "there is no such release")
        return KeyReleased(
            t=now,
            by=self._by,
            request=request.request,
            release=request.release,
            dataset=release.dataset,
            groups=request.groups,
            parts=release.parts,
            party=host.party,
            host=host.host,
            member=request.member,
            grant=token.grant,
            purpose=request.purpose,
            inventories=inventories,
            reader=sha256_digest(request.reader),
            until=min(now + self._policy.lease * _MICROSECONDS, grant.until),
        )

    def _refusal(self, denial: Denial, request: KeyRequest | None, grant: GrantId | None, now: int) -> KeyRefused:
        return KeyRefused(
            t=now,
            by=self._by,
            request=request.request if request else None,
            release=request.release if request else None,
            host=request.host if request else None,
            grant=grant,
            step=denial.step,
            code=denial.code,
            reason=_plain(denial.message),
            hint=_plain(denial.hint),
        )

    def _refuse(self, progress: _Progress, denial: Denial, cause: BaseException | None = None) -> SealedKeys:
        """Record a refusal unless it is recorded already, and raise it."""
        counter = self._counter if denial.step <= UNPROVEN_STEP else None
        if counter is not None and not counter.stands_singly(denial.code):
            raise denial from cause
        if denial.entry is None:
            try:
                statement = self._refusal(denial, progress.request, progress.grant, self._clock())
                denial = _recorded(denial, self._log.append_statements(statement)[0].index)
            except StorageFailed:
                raise
            except Exception as error:  # refuses: nothing leaves, and the caller learns that nothing was recorded
                raise StorageFailed(
                    "broker.not_recorded",
                    "the request was refused, and its refusal could not be recorded",
                    "show this to whoever runs the broker",
                ) from error
        raise denial from cause


def _plain(text: str) -> str:
    """One line in bounds: a reason may quote what the asker sent, and people read it in terminals and pages."""
    return "".join(character if character.isprintable() else "?" for character in text[:1000])


def _recorded(denial: Denial, entry: int) -> Denial:
    denial.entry = entry
    return denial
