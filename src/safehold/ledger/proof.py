"""Verifying proofs: pure, small, and the only place where an inclusion or consistency claim becomes a fact.

The algorithms are those of RFC 9162 §2.1.3.2 (inclusion) and §2.1.4.2 (consistency), which run over RFC 6962
trees unchanged. There is no flag to skip a check and no partial result: each function returns the checked root
or raises ``VerificationFailed`` naming which check failed. Lengths are checked exactly, since a verifier that
ignores surplus hashes is how immudb's dual proof was broken (GHSA-672p-m5jq-mrh8).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from safehold.ledger.tree import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash
from safehold.model.errors import VerificationFailed

__all__ = ["consistency_roots", "verify_consistency", "verify_inclusion"]


def verify_inclusion(entry: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bytes:
    """Return ``entry`` if ``path`` proves it at ``index`` in the tree of ``size`` with ``root``.

    Raises ``VerificationFailed``: ``ledger.proof_range``, ``ledger.proof_length`` or ``ledger.inclusion``.
    """
    if not 0 <= index < size:
        raise VerificationFailed("ledger.proof_range", f"the proof names entry {index} of a tree of {size}")
    _check_hashes(path)
    position, last = index, size - 1
    computed, sha256 = leaf_hash(entry), hashlib.sha256  # node_hash, without the call
    for sibling in path:
        if last == 0:
            raise VerificationFailed("ledger.proof_length", "the inclusion proof is longer than the tree is high")
        if position & 1 or position == last:
            computed = sha256(b"\x01" + sibling + computed).digest()
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            computed = sha256(b"\x01" + computed + sibling).digest()
        position >>= 1
        last >>= 1
    if last != 0:
        raise VerificationFailed("ledger.proof_length", "the inclusion proof is shorter than the tree is high")
    if not hmac.compare_digest(computed, root):
        raise VerificationFailed("ledger.inclusion", f"entry {index} is not in the tree with this root")
    return entry


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bytes:
    """Return ``new_root`` if ``proof`` shows that the tree of ``old_size`` is a prefix of that of ``new_size``.

    Raises ``VerificationFailed``: ``ledger.proof_range``, ``ledger.proof_length`` or ``ledger.consistency``.
    """
    if not 0 <= old_size <= new_size:
        raise VerificationFailed("ledger.proof_range", f"the log shrank from {old_size} to {new_size} entries")
    _check_hashes(proof)
    if old_size in (0, new_size):
        if proof:
            raise VerificationFailed("ledger.proof_length", "this consistency proof must be empty")
        if old_size == 0 and old_root != EMPTY_ROOT:
            raise VerificationFailed("ledger.consistency", "the root of the empty tree is wrong")
        if old_size == new_size and old_root != new_root:
            raise VerificationFailed("ledger.consistency", f"two different roots for one size, {new_size}")
        return new_root
    if old_root == new_root:
        raise VerificationFailed("ledger.consistency", "two sizes cannot have one root")
    old, new = consistency_roots(old_size, old_root, new_size, proof)
    if not hmac.compare_digest(old, old_root):
        raise VerificationFailed("ledger.consistency", f"the proof does not lead to the root of size {old_size}")
    if not hmac.compare_digest(new, new_root):
        raise VerificationFailed("ledger.consistency", f"the proof does not lead to the root of size {new_size}")
    return new_root


def consistency_roots(old_size: int, old_root: bytes, new_size: int, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of ``old_size`` and ``new_size`` that a proof leads to, whatever they should be.

    For 0 < ``old_size`` < ``new_size``. Where the size is a power of two the proof itself starts from ``old_root``.
    Raises ``VerificationFailed`` (``ledger.proof_range``, ``ledger.proof_length``).
    """
    if not 0 < old_size < new_size:
        raise VerificationFailed("ledger.proof_range", f"no proof leads from size {old_size} to {new_size}")
    _check_hashes(proof)
    return _walk_consistency(old_size, new_size, [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof))


def _walk_consistency(old_size: int, new_size: int, nodes: list[bytes]) -> tuple[bytes, bytes]:
    if not nodes:
        raise VerificationFailed("ledger.proof_length", "the consistency proof is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old, new = nodes[0], nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise VerificationFailed("ledger.proof_length", "the consistency proof is longer than the tree is high")
        if position & 1 or position == last:
            old = node_hash(node, old)
            new = node_hash(node, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        position >>= 1
        last >>= 1
    if last != 0:
        raise VerificationFailed("ledger.proof_length", "the consistency proof is shorter than the tree is high")
    return old, new


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > 64 or set(map(len, hashes)) - {HASH_BYTES}:
        raise VerificationFailed("ledger.proof_length", "a proof is at most 64 hashes of 32 bytes")
