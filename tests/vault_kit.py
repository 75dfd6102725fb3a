"""What the vault's tests share: a signer, an in-memory key-encryption key, and sealing in one call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from safehold.ledger.keys import SigningKey
from safehold.model.errors import InputInvalid, SafeholdError, VerificationFailed
from safehold.model.ids import DatasetId, Digest, PartyId, Purpose
from safehold.vault.manifest import Manifest
from safehold.vault.open import OpenedRelease, open_release
from safehold.vault.output import write_jsonl
from safehold.vault.reuse import Parent
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from safehold.vault.sources import open_source

T = TypeVar("T")
GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "train.jsonl"
SUPPLIER = SigningKey.generate()
LAB = SigningKey.generate()
SPEC = ReleaseSpec(
    dataset=DatasetId("quill-works/word-problems"),
    version=1,
    customer=PartyId("north-lab"),
    classification="internal",
    purposes=(Purpose("training"),),
)


class MemoryKek:
    """The in-memory twin of ``PassphraseKek``."""

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self._key = key
        self.id = "kek-memory-" + hashlib.sha256(key).hexdigest()[:8]

    def wrap(self, key: bytes) -> bytes:
        if len(key) != 32:
            raise InputInvalid("vault.key_length", "a key has 32 bytes")
        return aes_key_wrap(self._key, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        try:
            return aes_key_unwrap(self._key, wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise VerificationFailed("vault.unwrap", "not this key's") from error

    def unwrap_many(self, wrapped: Sequence[bytes]) -> list[bytes]:
        return [self.unwrap(one) for one in wrapped]


class Sealed(NamedTuple):
    folder: Path
    release: Digest
    keys: Mapping[str, bytes]
    manifest: Manifest
    fresh: int = 0

    def parent(self, *, deltas: bool = True) -> Parent:
        return Parent(self.open(), self.keys, deltas)

    def open(self, *groups: str) -> OpenedRelease:
        wanted = groups or tuple(group.name for group in self.manifest.groups)
        return open_release(self.folder, self.release, self.keys, wanted)


def seal(
    path: Path,
    folder: Path,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    options: SealOptions | None = None,
    **spec: Any,
) -> Sealed:
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | {"groups": groups} | spec
    with prepare(open_source(path), ReleaseSpec(**fields), SUPPLIER, folder, options) as prepared:
        prepared.publish()
    return Sealed(folder, prepared.release, prepared.keys, prepared.manifest, prepared.fresh)


def write_lines(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def exact(record: Any) -> str:
    """Tells 1 from 1.0 from true, and an absent member from null."""
    return json.dumps(record, sort_keys=True)


def outcome(call: Callable[[], T]) -> tuple[T | None, str]:
    """What a call gave back, or the code of our error; any other exception passes."""
    try:
        return call(), ""
    except SafeholdError as error:
        return None, error.code


def round_trip(path: Path, folder: Path, **more: Any) -> bytes:
    sealed = seal(path, folder, **more)
    out = folder.with_name(folder.name + ".out")
    write_jsonl(sealed.open(), out)
    return out.read_bytes()
