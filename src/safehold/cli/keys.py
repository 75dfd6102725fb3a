"""Key files as options: a public key to register, a private key to sign with."""

from __future__ import annotations

from pathlib import Path

from safehold.broker.proof import RequestSigner
from safehold.cli.context import Home, Session
from safehold.ledger.keys import PublicKey, SigningKey
from safehold.ledger.ssh_agent import AgentKey
from safehold.model.errors import NotFound
from safehold.model.ids import HostId, PartyId

__all__ = ["host_signer", "made_key", "party_signer", "read_public_key", "request_signer"]

_MAX_BYTES = 16_384


def read_public_key(path: Path) -> PublicKey:
    """The key in a ``.pub`` file. Raises ``NotFound`` (``cli.key_file``) or ``InputInvalid``."""
    try:
        with path.open("rb") as file:
            return PublicKey.parse(file.read(_MAX_BYTES).decode(errors="replace"))
    except OSError as error:
        raise NotFound(
            "cli.key_file", f"the key file {path} cannot be read: {error.strerror}", "name another"
        ) from error


def host_signer(home: Home, host: HostId, path: Path | None) -> SigningKey:
    """The private key of a host: the file given, or the one that this home made."""
    return SigningKey.load(path) if path else home.host_key(host)


def request_signer(session: Session, home: Home, host: HostId, path: Path | None) -> RequestSigner:
    """What signs a host's requests: its private key, or ssh-agent for the key in a ``.pub`` file.

    Raises ``NotFound`` (``cli.no_agent``) where there is no agent to ask, and what reading the key raises.
    """
    if path is None or path.suffix != ".pub":
        return host_signer(home, host, path)
    if session.ssh_agent is None:
        raise NotFound("cli.no_agent", "no ssh-agent is running for this terminal", "start one: eval $(ssh-agent)")
    return AgentKey(session.ssh_agent, read_public_key(path))


def made_key(home: Home, party: PartyId) -> SigningKey | None:
    """The customer signs too where its key was made in this home; elsewhere the lab does it when it takes it in."""
    try:
        return home.party_key(party)
    except NotFound:
        return None


def party_signer(home: Home, party: PartyId, path: Path | None) -> SigningKey:
    """The private key of a party: the file given, or the one that this home made."""
    return SigningKey.load(path) if path else home.party_key(party)
