"""Grants: Biscuit tokens that say who may open which column groups of a dataset, for what, until when.

The authority block, signed with the broker's grant key, holds facts (``grant``, ``dataset``, ``group``,
``purpose``) and checks (party or host, host key, time). Its holder can *narrow* it offline by appending blocks of
checks. He cannot widen it: facts in later blocks are not in the scope of our policy, which is Biscuit's rule
(specification, "Scopes") and is tested here.

Appended blocks are a program by whoever appended them, and evaluation looks at its time limit only between rounds: a
token of 1,124 bytes with one hostile rule kept a broker busy for a minute (measured). So blocks are a *closed form*
here: a later block may hold the five checks that ``narrow_grant`` writes and nothing else, and is refused unread
otherwise, before anything of it runs.

A token is bound to keys: what it opens, it opens only with a proof by a registered host's key (``proof``). Stolen
by itself it is worth nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from biscuit_auth import (
    Algorithm,
    AuthorizationError,
    AuthorizerBuilder,
    Biscuit,
    BiscuitBlockError,
    BiscuitBuilder,
    BiscuitBuildError,
    BiscuitSerializationError,
    BiscuitValidationError,
    BlockBuilder,
    Check,
    DataLogError,
    Fact,
    KeyPair,
    PrivateKey,
    PublicKey,
    Rule,
)

from safehold.model.errors import InputInvalid, Refused, VerificationFailed
from safehold.model.ids import (
    DatasetId,
    Digest,
    GrantId,
    GroupName,
    HostId,
    KeyId,
    MemberId,
    PartyId,
    Purpose,
    parse_grant_id,
    sha256_digest,
)

__all__ = [
    "MAX_TOKEN_CHARACTERS",
    "GrantKey",
    "GrantTerms",
    "Narrowing",
    "TokenRequest",
    "VerifiedGrant",
    "narrow_grant",
    "token_blocks",
    "token_digest",
    "verify_grant",
]

MAX_TOKEN_CHARACTERS: Final = 16_384
_MAX_BLOCKS: Final = 16
_SECOND: Final = 1_000_000
_AHEAD: Final = 60
_MAX_ALLOWED: Final = 256
# Biscuit's own default is 1 ms of wall clock, which denies at random on a busy machine (measured). The form of the
# blocks bounds the work; this only bounds the wait.
_MAX_TIME: Final = timedelta(milliseconds=500)
_END_OF_TIME: Final = 253_402_300_800 * 1_000_000
_WORD: Final = '"[A-Za-z0-9._/-]{1,140}"'
# Safe against symbols made to look like these: text outside of a word is fixed, so nothing with a rule, a scope, a
# third predicate or a fact of ours prints in this form, and what else does can only deny.
_NARROWED: Final = re.compile(
    "(?:check (?:"
    rf"if request_(?:host|member|purpose)\({_WORD}\)"
    rf"|all request_group\(\$g\), \{{{_WORD}(?:, {_WORD})*\}}\.contains\(\$g\)"
    r"|if time\(\$t\), \$t < [0-9T:-]{19}Z"
    ");\n)+"
)
_POINTS: Final = {
    "request_party": "party",
    "request_host": "host",
    "host_key": "host key",
    "request_member": "member",
    "group(": "column group",
    "request_purpose": "purpose",
    "time($t)": "time",
}
"""What a failed check speaks of, by the fact in it: a person is not shown Datalog."""
_FOREIGN: Final = (
    AuthorizationError,
    BiscuitValidationError,
    BiscuitSerializationError,
    BiscuitBlockError,
    BiscuitBuildError,
    DataLogError,
    ValueError,
    TypeError,
)


class GrantTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a grant says. ``host`` and ``host_key`` None: any registered host of ``party``. Times in µs UTC."""

    grant: GrantId
    party: PartyId
    host: HostId | None
    host_key: KeyId | None
    dataset: DatasetId
    groups: tuple[GroupName, ...]
    purposes: tuple[Purpose, ...]
    not_before: int
    until: int


class Narrowing(msgspec.Struct, frozen=True, kw_only=True):
    """Further conditions on a grant; None leaves a point as it is."""

    host: HostId | None = None
    member: MemberId | None = None
    groups: tuple[GroupName, ...] | None = None
    purpose: Purpose | None = None
    until: int | None = None


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a token is asked to allow, as proven by the steps before; ``now`` in µs UTC."""

    party: PartyId
    host: HostId
    host_key: KeyId
    member: MemberId | None
    dataset: DatasetId
    groups: tuple[GroupName, ...]
    purpose: Purpose
    now: int


class VerifiedGrant:
    """A token whose chain of signatures was verified. Made by ``verify_grant`` and by nothing else."""

    def __init__(self, token: Biscuit, grant: GrantId, revocations: tuple[str, ...]) -> None:
        self._token = token
        self.grant = grant
        self.revocations = revocations
        self._allowed: dict[TokenRequest, tuple[int, int]] = {}

    def sources(self) -> list[str]:
        """The text of each block."""
        return [str(self._token.block_source(number)) for number in range(self._token.block_count())]

    def authorize(self, request: TokenRequest) -> None:
        """Raise ``Refused`` (``broker.grant_denies``) naming the failed checks, unless every block allows this.

        What was allowed in two seconds is allowed in those between them: each block bounds the time by a span, the first
        one from both sides, later ones from above. So an answer is remembered with its span, and the token is asked a
        minute ahead. Only what was allowed is remembered.
        """
        second = request.now // _SECOND
        asked = msgspec.structs.replace(request, now=0)
        since, until = self._allowed.get(asked, (second + 1, second - 1))
        if since <= second <= until:
            return
        self._evaluate(request)
        if len(self._allowed) >= _MAX_ALLOWED:
            self._allowed.clear()
        since, until = min(since, second), max(until, second)
        self._allowed[asked] = (since, until)
        try:
            self._evaluate(msgspec.structs.replace(request, now=(second + _AHEAD) * _SECOND))
        except (Refused, InputInvalid):
            return  # it ends within the minute: then each new second is asked for
        self._allowed[asked] = (since, max(until, second + _AHEAD))

    def _evaluate(self, request: TokenRequest) -> None:
        try:
            builder = AuthorizerBuilder(
                "request_party({party}); request_host({host}); host_key({key}); request_dataset({dataset});"
                " request_purpose({purpose}); time({now});"
                " allow if grant($g), dataset($d), request_dataset($d), purpose($p), request_purpose($p)",
                {
                    "party": request.party,
                    "host": request.host,
                    "key": request.host_key,
                    "dataset": request.dataset,
                    "purpose": request.purpose,
                    "now": _moment(request.now),
                },
            )
            for group in request.groups:
                builder.add_fact(Fact("request_group({group})", {"group": group}))
                builder.add_check(Check("check if group({group})", {"group": group}))
            if request.member is not None:
                builder.add_fact(Fact("request_member({member})", {"member": request.member}))
            _bounded(builder).build(self._token).authorize()
        except AuthorizationError as error:
            failed = str(error).partition("checks failed: ")[2]
            points = [words for fact, words in _POINTS.items() if fact in failed]
            raise Refused(
                "broker.grant_denies",
                f"the grant as narrowed does not allow this {', nor this '.join(points) or 'request'}",
                "ask for less (column groups: --groups), or ask whoever narrowed the grant",
            ) from error
        except _FOREIGN as error:
            raise Refused("broker.grant_denies", "the grant cannot be evaluated", "ask for a new grant") from error


class GrantKey:
    """The root key of all grants of a broker: 32 bytes of Ed25519, used for Biscuit alone."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise InputInvalid("broker.grant_key", "the grant key must be 32 bytes")
        self._private = PrivateKey.from_bytes(seed, Algorithm.Ed25519)
        self.public_bytes = bytes(KeyPair.from_private_key(self._private).public_key.to_bytes())

    def issue(self, terms: GrantTerms) -> str:
        """The token for ``terms``, URL-safe base64. Raises ``InputInvalid`` (``broker.grant_terms``)."""
        if not terms.groups or not terms.purposes:
            raise InputInvalid("broker.grant_terms", "a grant names at least one column group and one purpose")
        if terms.until <= terms.not_before:
            raise InputInvalid("broker.grant_terms", "a grant must end after it begins", "give a later --until")
        if (terms.host is None) != (terms.host_key is None):
            # With one of them alone the token would be bound to nothing, and look as if it were.
            raise InputInvalid("broker.grant_terms", "a grant to a host names the host and its key")
        builder = BiscuitBuilder(
            "grant({grant}); dataset({dataset}); check if request_party({party});"
            " check if time($t), $t >= {not_before}, $t < {until}",
            {
                "grant": terms.grant,
                "dataset": terms.dataset,
                "party": terms.party,
                "not_before": _moment(terms.not_before),
                "until": _moment(terms.until),
            },
        )
        for group in terms.groups:
            builder.add_fact(Fact("group({group})", {"group": group}))
        for purpose in terms.purposes:
            builder.add_fact(Fact("purpose({purpose})", {"purpose": purpose}))
        if terms.host is not None and terms.host_key is not None:
            builder.add_check(Check("check if request_host({host})", {"host": terms.host}))
            builder.add_check(Check("check if host_key({key})", {"key": terms.host_key}))
        token: str = builder.build(self._private).to_base64()
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise InputInvalid(
                "broker.grant_terms", "the grant is too large", "name fewer column groups, or issue several grants"
            )
        return token


def verify_grant(token: str, root: bytes) -> VerifiedGrant:
    """Check the chain of signatures from ``root`` (32 bytes) on; what the token *allows* is for ``authorize``.

    Raises ``InputInvalid`` (``broker.token_form``) or ``VerificationFailed`` (``broker.token_signature``).
    """
    if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        raise InputInvalid("broker.token_form", f"a grant has at most {MAX_TOKEN_CHARACTERS} characters of base64")
    try:
        biscuit = Biscuit.from_base64(token, PublicKey.from_bytes(root, Algorithm.Ed25519))
        if str(biscuit.to_base64()) != token:
            # Fields that nobody signs and nobody reads would make a second text of the same grant.
            raise InputInvalid("broker.token_form", "the grant is not in its one form", "use the file as it was given")
        _check_blocks(biscuit)
        found = _bounded(AuthorizerBuilder("allow if true")).build(biscuit).query(Rule("id($g) <- grant($g)"))
        revocations = tuple(biscuit.revocation_ids)
    except _FOREIGN as error:
        raise VerificationFailed(
            "broker.token_signature", "this is not a grant of this broker", "use the file that `grant issue` wrote"
        ) from error
    if len(found) != 1:
        raise VerificationFailed("broker.token_signature", "the grant does not name itself once")
    return VerifiedGrant(biscuit, parse_grant_id(str(found[0].terms[0])), revocations)


def narrow_grant(token: str, root: bytes, narrowing: Narrowing) -> str:
    """Append a block of checks: offline, with no private key and no broker; ``root`` is the broker's public grant key.

    What it returns is checked as the broker will check it. Raises ``InputInvalid`` (``broker.narrow``,
    ``broker.grant_terms`` for a time out of range, ``broker.token_form`` for too many blocks).
    """
    if narrowing == Narrowing() or narrowing.groups == ():
        raise InputInvalid(
            "broker.narrow", "nothing to narrow", "give --host, --member, --groups, --purpose or --until"
        )
    block = BlockBuilder("")
    if narrowing.host is not None:
        block.add_check(Check("check if request_host({host})", {"host": narrowing.host}))
    if narrowing.member is not None:
        block.add_check(Check("check if request_member({member})", {"member": narrowing.member}))
    if narrowing.groups is not None:
        block.add_check(Check("check all request_group($g), {groups}.contains($g)", {"groups": set(narrowing.groups)}))
    if narrowing.purpose is not None:
        block.add_check(Check("check if request_purpose({purpose})", {"purpose": narrowing.purpose}))
    if narrowing.until is not None:
        block.add_check(Check("check if time($t), $t < {until}", {"until": _moment(narrowing.until)}))
    try:
        biscuit = Biscuit.from_base64(token, PublicKey.from_bytes(root, Algorithm.Ed25519))
        narrowed = str(biscuit.append(block).to_base64())
        verify_grant(narrowed, root)
    except (VerificationFailed, *_FOREIGN) as error:
        raise InputInvalid("broker.narrow", "this is not a grant", "use the file that `grant issue` wrote") from error
    return narrowed


def token_blocks(token: str, root: bytes) -> list[tuple[str, tuple[str, ...]]]:
    """Each block of a verified token: its revocation id, and what it says in words. Raises like ``verify_grant``."""
    verified = verify_grant(token, root)
    sources = verified.sources()
    return [
        (revocation, tuple(_words(line) for line in source.strip().splitlines()))
        for revocation, source in zip(verified.revocations, sources, strict=True)
    ]


_SPOKEN: Final = (
    (re.compile(r'(grant|dataset|group|purpose)\("(.*)"\);'), r"\1 \2"),
    (re.compile(r'check if request_(party|host|member|purpose)\("(.*)"\);'), r"only \1 \2"),
    (re.compile(r'check if host_key\("(.*)"\);'), r"only the host key \1"),
    (re.compile(r"check all request_group\(\$g\), \{(.*)\}\.contains\(\$g\);"), r"only the groups \1"),
    (re.compile(r"check if time\(\$t\), \$t >= (\S+), \$t < (\S+);"), r"from \1 until \2"),
    (re.compile(r"check if time\(\$t\), \$t < (\S+);"), r"until \1"),
)


def _words(line: str) -> str:
    """One line of a block for people, who are not shown Datalog where we know what it says."""
    for form, words in _SPOKEN:
        if form.fullmatch(line):
            return form.sub(words, line).replace('"', "")
    return line


def token_digest(token: str) -> Digest:
    """SHA-256 of the token's text."""
    return sha256_digest(token.encode())


def _check_blocks(biscuit: Biscuit) -> None:
    """Raise ``InputInvalid`` (``broker.token_form``) unless every later block is of the form ``narrow_grant`` writes."""
    if biscuit.block_count() > _MAX_BLOCKS:
        raise InputInvalid("broker.token_form", f"a grant has at most {_MAX_BLOCKS} blocks", "narrow the original")
    for index in range(1, biscuit.block_count()):
        if biscuit.block_external_key(index) is not None or not _NARROWED.fullmatch(biscuit.block_source(index)):
            raise InputInvalid(
                "broker.token_form",
                f"block {index} of the grant holds something else than the conditions that narrow a grant",
                "narrow the original with: safehold grant narrow",
            )


def _bounded(builder: AuthorizerBuilder) -> AuthorizerBuilder:
    limits = builder.limits()
    limits.max_time = _MAX_TIME
    builder.set_limits(limits)
    return builder


def _moment(microseconds: int) -> datetime:
    """Whole seconds, rounded down. Biscuit counts from 1970; ``datetime`` ends with the year 9999."""
    if not 0 <= microseconds < _END_OF_TIME:
        raise InputInvalid("broker.grant_terms", "a time of a grant lies between the years 1970 and 9999")
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC)
