"""What a thief would try with what he took: requests made from a stolen token, key or answer, each with what must come.

Only requests are made here; nothing is asked. ``safehold drill`` sends them to a broker over a throw-away home and
shows what came; tests do the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from biscuit_auth import Algorithm, Biscuit, BlockBuilder, PublicKey

from safehold.broker.proof import Proof, sign_request
from safehold.broker.request import READER_KEY_BYTES, KeyRequest, format_request
from safehold.broker.sealing import ReaderKey
from safehold.ledger.keys import SigningKey
from safehold.model.ids import Digest, GrantId, GroupName, HostId, KeyId, Purpose, parse_request_id

__all__ = ["Loot", "Theft", "honest_request", "thefts", "thefts_on_host"]

_X25519_BYTES: Final = 32
_SECOND: Final = 1_000_000


class Loot(msgspec.Struct, frozen=True, kw_only=True):
    """What was stolen: a host's grant (token and root key), its key, and what an honest request asked for.

    ``narrowed`` is a token two of whose blocks were appended, the middle one of which has been revoked. ``other_host`` is
    another machine of the same party whose key the thief has, too. ``clock`` gives µs UTC.
    """

    release: Digest
    groups: tuple[GroupName, ...]
    purpose: Purpose
    host: HostId
    key: SigningKey
    grant: GrantId
    token: str
    root: bytes
    narrowed: str
    other_host: HostId
    other_key: SigningKey
    clock: Callable[[], int]


class Theft(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: in words, the codes of which one must come, and the request that makes it."""

    words: str
    codes: tuple[str, ...]
    ask: tuple[bytes, Proof]


def honest_request(loot: Loot) -> tuple[bytes, Proof]:
    """What the host itself would send: the control of the drill."""
    return _signed(loot, loot.key, {})


def thefts(loot: Loot, answered: tuple[bytes, Proof]) -> list[Theft]:
    """The attempts that need no change on the host. ``answered`` is an honest request that was answered before."""
    return [
        Theft(
            words="the token alone, signed by a key of the thief's own",
            codes=("broker.proof_key",),
            ask=_signed(loot, SigningKey.generate(), {}),
        ),
        Theft(
            words="the token with the key of another host of the same party",
            codes=("broker.grant_holder",),
            ask=_signed(loot, loot.other_key, {"host": loot.other_host}),
        ),
        Theft(
            words="the other host's key under the name of the first",
            codes=("broker.proof_key",),
            ask=_signed(loot, loot.other_key, {}),
        ),
        Theft(words="an old request, answered before, sent again", codes=("broker.replayed",), ask=answered),
        Theft(
            words="an old proof under a new reader's key",
            codes=("ledger.signature",),
            ask=(_body(loot, loot.key.key_id, {"request": answered[1].nonce}), answered[1]),
        ),
        Theft(
            words="the token, widened by a block with another column group",
            codes=("broker.token_form",),
            ask=_signed(loot, loot.key, {"grant": _widened(loot)}),
        ),
        Theft(
            words="the token with one character changed",
            codes=("broker.token_signature", "broker.token_form"),
            ask=_signed(loot, loot.key, {"grant": _altered(loot.token)}),
        ),
        Theft(
            words="a narrowed token whose middle block was revoked",
            codes=("broker.grant_revoked",),
            ask=_signed(loot, loot.key, {"grant": loot.narrowed}),
        ),
        Theft(
            words="a request dated an hour ahead, kept for later",
            codes=("broker.stale",),
            ask=_signed(loot, loot.key, {}, ahead=3600),
        ),
        Theft(
            words="a request dated an hour ago",
            codes=("broker.stale",),
            ask=_signed(loot, loot.key, {}, ahead=-3600),
        ),
        Theft(
            words="a reader's key of the older suite, without ML-KEM",
            codes=("broker.request_reader",),
            ask=_signed(loot, loot.key, {"reader": secrets.token_bytes(_X25519_BYTES)}),
        ),
        Theft(
            words="a reader's key that is no key of the suite",
            codes=("broker.request_reader",),
            ask=_signed(loot, loot.key, {"reader": b"\xff" * (READER_KEY_BYTES - 1)}),
        ),
    ]


def thefts_on_host(loot: Loot) -> list[Theft]:
    """The attempt from the host itself, when it holds what an advisory names."""
    return [
        Theft(
            words="token and key, on the host itself, which holds the bad package",
            codes=("broker.inventory_unclean",),
            ask=honest_request(loot),
        )
    ]


def _signed(loot: Loot, key: SigningKey, changed: dict[str, object], ahead: int = 0) -> tuple[bytes, Proof]:
    body = _body(loot, key.key_id, changed)
    nonce = msgspec.json.decode(body)["request"]
    return body, sign_request(body, nonce, loot.clock() // _SECOND + ahead, key)


def _body(loot: Loot, key: KeyId, changed: dict[str, object]) -> bytes:
    request = KeyRequest(
        request=parse_request_id("q-" + secrets.token_hex(16)),
        release=loot.release,
        groups=loot.groups,
        purpose=loot.purpose,
        member=None,
        host=loot.host,
        host_key=key,
        grant=loot.token,
        reader=ReaderKey().public,
    )
    return format_request(msgspec.structs.replace(request, **changed))


def _widened(loot: Loot) -> str:
    biscuit = Biscuit.from_base64(loot.token, PublicKey.from_bytes(loot.root, Algorithm.Ed25519))
    return str(biscuit.append(BlockBuilder('group("everything"); purpose("resale")')).to_base64())


def _altered(token: str) -> str:
    place = len(token) // 2
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
