"""Tampering, by the thousand: every change of a release must be refused, each by its own code, before a record of it is out.

Run: ``python bench/tamper.py [flips]`` (10,000 without). Bits are flipped at random places of every file of a release of
two column groups; beside that, the acts that a person would try: parts swapped within and between releases, cut off,
missing or one too many, an older manifest put back, a column renamed, the key of another group, a manifest signed by
someone unknown. Prints what was refused with which code, and fails if anything was not.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from safehold.ledger.keys import SigningKey
from safehold.model.errors import SafeholdError
from safehold.model.ids import DatasetId, Digest, PartyId, Purpose
from safehold.vault.envelope import sign
from safehold.vault.manifest import Manifest, manifest_bytes
from safehold.vault.open import open_release
from safehold.vault.seal import ReleaseSpec, SealOptions, prepare
from safehold.vault.sources import open_source
from safehold.vault.verify import verify_release

RECORDS = [{"id": n, "q": f"question {n * 7919}", "a": {"text": f"answer {n}", "ok": n % 2 == 0}} for n in range(400)]
GROUPS = {"text": ["id", "q"], "labels": ["a"]}


class Sealed(NamedTuple):
    """A release with its keys and its maker."""

    folder: Path
    release: Digest
    keys: dict[str, bytes]
    manifest: Manifest
    maker: SigningKey


def seal(folder: Path, name: str, maker: SigningKey, version: int = 1) -> Sealed:
    """A release of a few parts in two column groups."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    spec = ReleaseSpec(
        dataset=DatasetId("quill-works/sums"),
        version=version,
        customer=PartyId("north-lab"),
        classification="internal",
        purposes=(Purpose("training"),),
        groups=GROUPS,
    )
    options = SealOptions(part_rows=100, group_rows=50, cut_key=b"k" * 32)
    with prepare(open_source(path), spec, maker, folder / name, options) as prepared:
        prepared.publish()
    return Sealed(folder / name, prepared.release, dict(prepared.keys), prepared.manifest, maker)


def refusal(sealed: Sealed, damaged: str | None = None) -> str:
    """The code with which opening ends; empty if every record came. ``damaged``: no record of that file may come out."""
    given = 0
    try:
        opened = open_release(sealed.folder, sealed.release, sealed.keys, list(GROUPS), [sealed.maker.public])
        for batch in opened.batches():
            given += batch.num_rows
    except SafeholdError as error:
        parts = {part.file: part.part for part in sealed.manifest.parts}
        before = sum(run.rows for run in sealed.manifest.sequence() if run.part < parts.get(damaged or "", 0))
        if given > before:
            return "LEAKED"
        return error.code
    return ""


def verdict(sealed: Sealed) -> str:
    """The code with which verification ends, which has no key; empty if all holds."""
    try:
        verify_release(sealed.folder, sealed.maker.public, expected=sealed.release)
    except SafeholdError as error:
        return error.code
    return ""


def flips(sealed: Sealed, count: int, chance: random.Random) -> Counter[tuple[str, str, str]]:
    """Flip one bit at a time; counts of (file, code of opening, code of verifying)."""
    found: Counter[tuple[str, str, str]] = Counter()
    names = sorted(path.name for path in sealed.folder.iterdir())
    for number in range(count):
        path = sealed.folder / names[number % len(names)]
        data = path.read_bytes()
        place = chance.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        kind = "manifest" if path.name == "manifest.json" else "part" if path.suffix == ".parquet" else "sidecar"
        # A sidecar holds no record and is not read when a release is opened: verification is what looks at it.
        looked = number % 10 == 0 or kind == "sidecar"
        opening = "not read" if kind == "sidecar" else refusal(sealed, path.name)
        found[kind, opening, verdict(sealed) if looked else "-"] += 1
        path.write_bytes(data)
    return found


def acts(home: Path) -> dict[str, tuple[str, str]]:
    """What a person would try: the codes of opening and of verifying, by the name of the act."""
    maker, stranger = SigningKey.generate(), SigningKey.generate()
    first, second = seal(home, "first", maker), seal(home, "second", maker, 2)
    left, right = (part.file for part in first.manifest.files(["text"])[:2])
    results: dict[str, tuple[str, str]] = {}

    def attempt(name: str, change: Callable[[Path], None], keys: dict[str, bytes] | None = None) -> None:
        copy = home / "copy"
        shutil.copytree(first.folder, copy)
        change(copy)
        tried = first._replace(folder=copy, keys=first.keys if keys is None else keys)
        results[name] = (refusal(tried), verdict(tried))
        shutil.rmtree(copy)

    def swap(folder: Path) -> None:
        (folder / left).rename(folder / "x")
        (folder / right).rename(folder / left)
        (folder / "x").rename(folder / right)

    def forged(manifest: Manifest, by: SigningKey) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            (folder / "manifest.json").write_bytes(sign(manifest_bytes(manifest), by).encode())

        return write

    other = next(part.file for part in second.manifest.files(["text"]))
    attempt("parts swapped within the release", swap)
    attempt("a part of another release", lambda folder: void(shutil.copy(second.folder / other, folder / left)))
    attempt("a part cut off", lambda folder: void((folder / left).write_bytes((folder / left).read_bytes()[:-1])))
    attempt("a part missing", lambda folder: (folder / left).unlink())
    attempt("a file too many", lambda folder: void((folder / "more.parquet").write_bytes(b"")))
    attempt(
        "the manifest of another release", lambda folder: void(shutil.copy(second.folder / "manifest.json", folder))
    )
    renamed = tuple(
        msgspec.structs.replace(one, name="Q") if one.name == "q" else one for one in first.manifest.columns
    )
    groups = tuple(
        msgspec.structs.replace(group, columns=tuple("Q" if name == "q" else name for name in group.columns))
        for group in first.manifest.groups
    )
    column = msgspec.structs.replace(first.manifest, columns=renamed, groups=groups)
    attempt("a column renamed, signed by the maker", forged(column, maker))
    attempt("the manifest signed by someone unknown", forged(first.manifest, stranger))
    names = sorted(first.keys)
    attempt(
        "keys of another group", lambda _: None, {name: first.keys[names[-1 - at]] for at, name in enumerate(names)}
    )
    attempt("no key for a part", lambda _: None, {name: key for name, key in first.keys.items() if name != left})
    attempt("nothing changed", lambda _: None)
    return results


def void(_done: object) -> None:
    """Nothing of what was done matters."""


def main() -> int:
    """Print the table; 1 if anything was not refused."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="safehold-tamper-") as home:
        print(f"{'act':42} {'open':24} verify (no keys)")
        table = acts(Path(home))
        for name, (opening, verifying) in table.items():
            print(f"{name:42} {opening or 'opens':24} {verifying or 'verifies'}")
        found = flips(seal(Path(home), "flipped", SigningKey.generate()), count, random.Random(2026))  # noqa: S311 - the same places every time
    print(f"{count:,} bits flipped, one at a time; each tenth, and each of a sidecar, was verified without keys too")
    for (kind, opening, verifying), times in sorted(found.items()):
        print(f"  {kind:9} open: {opening or 'NOT REFUSED':24} verify: {verifying or 'NOT REFUSED':24} {times:6,}")
    bad = [key for key in found if "" in key[1:] or "LEAKED" in key]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
