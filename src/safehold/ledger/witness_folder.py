"""A witness in a folder: its name, keys, state and evidence. It needs nothing of a home, and no passphrase.

::

    witness/
      witness.json        form and name
      ed25519             OpenSSH private key, 0600, if it signs with Ed25519
      ml-dsa-44           32 secret bytes in hex, 0600, if it signs with ML-DSA-44
      state.db            what was cosigned last for each log; never put back an older copy
      evidence/           checkpoints that contradict each other
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from safehold.ledger.cosignature import ED25519, ML_DSA_44, Cosigner, SignatureKind, check_name
from safehold.ledger.disk import sync_folder
from safehold.ledger.evidence import EvidenceFolder
from safehold.ledger.export import write_file
from safehold.ledger.keys import SigningKey
from safehold.ledger.witness import Witness
from safehold.ledger.witness_state import WitnessState
from safehold.model.encoding import resolved
from safehold.model.errors import Conflict, NotFound, StorageFailed

__all__ = ["OpenWitness", "create_witness", "open_witness"]

_FORM: Final = "safehold-witness-v1"
_FILE: Final = "witness.json"


class _WitnessFile(msgspec.Struct, frozen=True):
    form: str
    name: str


class OpenWitness(msgspec.Struct, frozen=True):
    """An open witness: the logic, its keys, and its evidence. ``close`` releases its state."""

    witness: Witness
    cosigners: tuple[Cosigner, ...]
    evidence: EvidenceFolder
    state: WitnessState

    def close(self) -> None:
        """Release files."""
        self.state.close()


def create_witness(folder: Path, name: str, kinds: frozenset[SignatureKind]) -> None:
    """Make a witness with a key of each kind. Raises ``Conflict`` (``ledger.witness_exists``), ``InputInvalid``, ``StorageFailed``.

    The name file is written last: a folder without it is no witness yet, and may be made again after removing it.
    """
    check_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict("ledger.witness_exists", f"{folder} is there already and is not empty", "choose another folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ED25519 in kinds:
            SigningKey.generate().save(folder / "ed25519")
        if ML_DSA_44 in kinds:
            descriptor = os.open(folder / "ml-dsa-44", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        (folder / "evidence").mkdir(mode=0o700)
        WitnessState(folder / "state.db").close()
        sync_folder(folder)
        write_file(folder / _FILE, msgspec.json.encode(_WitnessFile(_FORM, name)))
        sync_folder(folder)
    except OSError as error:
        raise StorageFailed(
            "ledger.witness_folder", f"the witness {folder} cannot be made: {error.strerror}", "choose another folder"
        ) from error


def open_witness(folder: Path, clock: Callable[[], int]) -> OpenWitness:
    """Open the witness in ``folder``; ``clock`` gives µs UTC. Raises ``NotFound`` (``ledger.no_witness``), ``StorageFailed``.

    A witness whose state file is gone does not open: it would cosign anything.
    """
    try:
        file = msgspec.json.decode((folder / _FILE).read_bytes(), type=resolved(_WitnessFile))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            "ledger.no_witness", f"there is no witness at {folder}", "make one: safehold witness init --name NAME"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise _damaged(folder, _FILE) from error
    if file.form != _FORM or not (folder / "state.db").is_file():
        raise _damaged(folder, "state.db" if file.form == _FORM else _FILE)
    cosigners = []
    if (folder / "ed25519").exists():
        cosigners.append(Cosigner.ed25519(file.name, SigningKey.load(folder / "ed25519")))
    if (folder / "ml-dsa-44").exists():
        try:
            seed = bytes.fromhex((folder / "ml-dsa-44").read_text(encoding="ascii").strip())
            cosigners.append(Cosigner.ml_dsa_44(file.name, seed))
        except (OSError, ValueError) as error:
            raise _damaged(folder, "ml-dsa-44") from error
    if not cosigners:
        raise _damaged(folder, "ed25519")
    state, evidence = WitnessState(folder / "state.db"), EvidenceFolder(folder / "evidence")
    return OpenWitness(Witness(state, cosigners, evidence, clock), tuple(cosigners), evidence, state)


def _damaged(folder: Path, name: str) -> StorageFailed:
    return StorageFailed(
        "ledger.witness_folder",
        f"the witness {folder} cannot be opened: {name} is missing or damaged",
        "make a new witness with a new name: one that forgot what it cosigned must not sign again",
    )
