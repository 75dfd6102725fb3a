"""Folders of files that are no tables, sealed and opened in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safehold.vault.file_tree import FileTree, FolderTree
from safehold.vault.manifest import PartFile
from safehold.vault.open import OpenedRelease, open_release
from safehold.vault.seal import ReleaseSpec
from safehold.vault.seal_files import FileSeal, publish_staging
from safehold.vault.verify import check_part
from tests.vault_kit import SPEC, SUPPLIER, MemoryKek, Sealed


def make_files(folder: Path, sizes: dict[str, int] | None = None) -> dict[str, bytes]:
    """Files of random bytes below ``folder``; what is in them, by path."""
    made = {}
    chosen = sizes if sizes is not None else {
        "empty": 0, "one byte": 1, "images/a.png": 3_000, "images/b.png": 70_000, "images/deep/ü (1)+%20.bin": 1_200_000,
        "logs/run.log": 2_500_000, "zz": 5,
    }  # fmt: skip
    for path, size in chosen.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        made[path] = os.urandom(size)
        target.write_bytes(made[path])
    return made


def found_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing(path: Path, part: PartFile) -> None:
    """Keep a part where it is."""


def still_there(path: Path, part: PartFile) -> None:
    check_part(path.parent, part)


def seal_files(
    folder: Path | FileTree,
    target: Path,
    part_bytes: int = 1_000_000,
    keep: Callable[[Path, PartFile], None] = nothing,
    **spec: Any,
) -> Sealed:
    """Seal ``folder`` as the release folder ``target``, going on where an earlier run died."""
    tree = FolderTree(folder) if isinstance(folder, Path) else folder
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | spec
    staging = target.with_name(f".sealing-{target.name}")
    seal = FileSeal(tree, ReleaseSpec(**fields), staging, MemoryKek(), part_bytes)
    try:
        seal.resume(still_there)
        sealed = seal.seal(SUPPLIER, keep)
        publish_staging(seal, sealed, target)
        seal.finished()
    finally:
        seal.release_lock()
    return Sealed(target, sealed.release, sealed.keys, sealed.manifest)


def open_files(sealed: Sealed, *groups: str) -> OpenedRelease:
    return open_release(sealed.folder, sealed.release, sealed.keys, groups or ("names", "content"))
