"""The receiving side of the agent: a message is bounded, canonical, true to its own digest and signed by its host.

Nothing here trusts the agent beyond its signature: every form is checked, the digest of the contents is computed
again, and numbers that contradict each other are refused. What a hostile host can still do is to say less than it
holds; that is why its word alone never lifts a hold.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

from safehold.inventory.agent import MAX_MESSAGE_BYTES, NAMESPACE
from safehold.ledger import sshsig
from safehold.ledger.keys import PublicKey
from safehold.model.encoding import canonical_bytes, decode_canonical, resolved
from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.model.ids import Digest, HostId, parse_digest, parse_host_id, sha256_digest

__all__ = [
    "MAX_MESSAGE_BYTES",
    "NAMESPACE",
    "Altered",
    "Compiled",
    "Contents",
    "Credential",
    "Distribution",
    "FoundEnvironment",
    "Hook",
    "Interpreter",
    "InventoryConfirmation",
    "InventoryReport",
    "Locked",
    "Missing",
    "Skipped",
    "Startup",
    "Trace",
    "Unowned",
    "Versioned",
    "parse_message",
    "path_bytes",
    "verify_message",
]

_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")]
"""64 lower-case hex digits; empty where the agent could not hash the file (then it is among ``skipped``)."""
_Count = Annotated[int, msgspec.Meta(ge=0)]
_ENVIRONMENT: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every member named and no other."""


class Distribution(_Strict, frozen=True):
    """An installed distribution as its metadata folder describes it.

    ``name`` is normalised (PEP 503), ``raw_name`` as written. ``files`` are (path, SHA-256) of what RECORD lists, as
    found. ``origin`` is what direct_url.json (PEP 610) names: archive, vcs, dir or nothing; ``origin_hash`` the
    archive's SHA-256 or the commit. ``record`` says whether RECORD could be checked at all.
    """

    files: tuple[tuple[str, _Sha256], ...]
    folder: str
    installer: str
    name: str
    origin: Literal["", "archive", "vcs", "dir"]
    origin_hash: str
    raw_name: str
    record: Literal["checked", "absent", "unreadable"]
    requested: bool
    requires: tuple[str, ...]
    version: str


class Hook(_Strict, frozen=True):
    """Something that Python reads at every start. ``runs``: it executes code; ``adds``: lines that name folders."""

    adds: _Count
    kind: Literal["pth", "sitecustomize", "usercustomize"]
    owner: str
    path: str
    runs: bool
    sha256: _Sha256
    size: _Count


class Unowned(_Strict, frozen=True):
    """A file that no distribution's RECORD lists."""

    path: str
    sha256: _Sha256
    size: _Count


class Altered(_Strict, frozen=True):
    """A file whose hash is not the one in RECORD; ``expected`` as RECORD writes it (base64url)."""

    expected: str
    owner: str
    path: str
    sha256: _Sha256
    size: _Count


class Missing(_Strict, frozen=True):
    """A file of RECORD that is not there."""

    owner: str
    path: str


class Compiled(_Strict, frozen=True):
    """A compiled file whose header does not match its source, or that has none."""

    path: str
    problem: Literal["source-differs", "hash-based", "no-source", "sourceless", "code-differs"]
    sha256: _Sha256


class Skipped(_Strict, frozen=True):
    """What the agent could not look at, and why: unknown, never clean."""

    path: str
    reason: str


class Versioned(_Strict, frozen=True):
    """A package with a version, in a cache or named by an outside list; ``ecosystem`` as OSV writes it."""

    ecosystem: str
    name: str
    path: str
    sha256: _Sha256
    version: str


class Locked(_Strict, frozen=True):
    """What a lockfile asks for, with the SHA-256 of the files that it accepts."""

    ecosystem: str
    hashes: tuple[_Sha256, ...]
    name: str
    path: str
    version: str


class Credential(_Strict, frozen=True):
    """A credential in reach. ``id``: an SSH key's public fingerprint (hex), else a keyed digest."""

    id: _Sha256
    kind: str
    name: str
    path: str


class FoundEnvironment(_Strict, frozen=True):
    """A Python environment of the host, by the name under which it reports."""

    kind: str
    name: str
    path: str


class Startup(_Strict, frozen=True):
    """A unit, a cron line (keyed digest), an autostart or shell file: what the host runs by itself."""

    kind: str
    path: str
    sha256: _Sha256


class Trace(_Strict, frozen=True):
    """An indicator path that exists on the host."""

    kind: Literal["file", "folder", "link", "other", "unknown"]
    path: str


class Contents(_Strict, frozen=True):
    """What the inventory digest is taken of. The lists with a default are those of a host, or of an imported list."""

    altered: tuple[Altered, ...]
    distributions: tuple[Distribution, ...]
    hooks: tuple[Hook, ...]
    missing: tuple[Missing, ...]
    pyc: tuple[Compiled, ...]
    skipped: tuple[Skipped, ...]
    unowned: tuple[Unowned, ...]
    cached: tuple[Versioned, ...] = ()
    credentials: tuple[Credential, ...] = ()
    environments: tuple[FoundEnvironment, ...] = ()
    locked: tuple[Locked, ...] = ()
    looked: tuple[str, ...] = ()
    packages: tuple[Versioned, ...] = ()
    startup: tuple[Startup, ...] = ()
    traces: tuple[Trace, ...] = ()


class Interpreter(_Strict, frozen=True):
    """What pyvenv.cfg says; ``site`` is the site folder relative to the environment."""

    site: str
    system_packages: bool
    version: str


class _Agent(_Strict, frozen=True):
    python: str
    version: str


class InventoryReport(_Strict, frozen=True, tag_field="format", tag="safehold-inventory-report-v1"):
    """What one sweep found. ``observed`` in µs UTC by ``clock``; ``full``: every file was hashed in this sweep."""

    agent: _Agent
    clock: Literal["system", "given"]
    contents: Contents
    environment: str
    full: bool
    host: HostId
    interpreter: Interpreter
    inventory: Digest
    observed: _Count

    @property
    def oddities(self) -> int:
        """Files unowned, altered or missing, and start-up hooks that no distribution owns."""
        contents = self.contents
        hooks = sum(not hook.owner for hook in contents.hooks)
        return len(contents.unowned) + len(contents.altered) + len(contents.missing) + hooks


class InventoryConfirmation(_Strict, frozen=True, tag_field="format", tag="safehold-inventory-confirmation-v1"):
    """The host swept ``sweeps`` times from ``since`` to ``until`` (µs UTC, both included) and found ``inventory``."""

    clock: Literal["system", "given"]
    environment: str
    host: HostId
    inventory: Digest
    largest_gap: _Count
    since: _Count
    sweeps: _Count
    until: _Count


@lru_cache(maxsize=1)
def _types() -> Any:
    # Late: resolving the union costs milliseconds that other verbs must not pay.
    return InventoryReport | InventoryConfirmation


def parse_message(data: bytes) -> InventoryReport | InventoryConfirmation:
    """Return the message in ``data``. Its signature is not looked at: see ``verify_message``.

    Raises ``InputInvalid``: ``inventory.message_size``, ``inventory.message_form`` (not canonical JSON of a known
    format), ``inventory.message_interval``, ``id.*``; or ``VerificationFailed`` (``inventory.digest``).
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise InputInvalid("inventory.message_size", f"a message of {len(data):,} bytes exceeds {MAX_MESSAGE_BYTES:,}")
    try:
        plain = decode_canonical(data)
        message = msgspec.convert(plain, type=resolved(_types()))
    except (InputInvalid, msgspec.ValidationError, RecursionError) as error:
        raise InputInvalid(
            "inventory.message_form",
            f"this is no inventory message: {error}",
            "send the agent's file as it is; an agent newer than this Safehold may need an update here",
        ) from error
    parse_host_id(message.host)
    parse_digest(message.inventory)
    if not _ENVIRONMENT.fullmatch(message.environment):
        raise InputInvalid(
            "inventory.environment",
            "the environment's name is not usable",
            "lower-case letters, digits and - . _ , at most 64 characters: agent.pyz FOLDER --name ci",
        )
    if isinstance(message, InventoryConfirmation):
        return _check_interval(message)
    if sha256_digest(canonical_bytes(plain["contents"])) != message.inventory:
        raise VerificationFailed(
            "inventory.digest",
            "the contents are not those that the message's digest names",
            "the message was changed, or made by something that is not the agent",
        )
    return message  # type: ignore[no-any-return]  # convert() was given the union


def verify_message(data: bytes, signature: str | bytes, key: PublicKey) -> InventoryReport | InventoryConfirmation:
    """Return the message in ``data`` if ``key``, the one registered for its host, signed these bytes.

    The signature is checked first, so that no other byte of a stranger is parsed. Raises what ``parse_message``
    raises, and ``VerificationFailed`` (``ledger.sshsig_*``). The caller compares ``host`` with the key's host.
    """
    sshsig.verify(signature, data, NAMESPACE, key)
    return parse_message(data)


def path_bytes(text: str) -> bytes:
    r"""The path that the agent showed as ``text``: ``\xNN`` back to one byte."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())


def _check_interval(message: InventoryConfirmation) -> InventoryConfirmation:
    length, steps = message.until - message.since, message.sweeps - 1
    # n sweeps leave n − 1 gaps: the largest is at least their mean and at most their sum.
    if length < 0 or steps < 0 or message.largest_gap > length or message.largest_gap * steps < length:
        raise InputInvalid(
            "inventory.message_interval",
            "the confirmation's sweeps, times and largest gap contradict each other",
            "the message was not made by the agent",
        )
    return message
