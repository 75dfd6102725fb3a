"""Part files as one Arrow dataset, each fragment with its own key. For queries: projection and filters reach the pages.

What Arrow reads from here is authenticated page by page, and every part's SHA-256 was checked before. The keys are in
Arrow's memory as long as the dataset lives; it asks nobody, so a hold does not stop it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet.encryption as pe
from pyarrow import fs

from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.vault.manifest import Manifest, PartFile, walk_fields

__all__ = ["part_dataset"]


def part_dataset(
    folder: Path, manifest: Manifest, files: Sequence[PartFile], keys: Callable[[], Mapping[str, bytes]]
) -> Any:
    """A union of the files, in this order; ``keys`` is called once, when it is clear that there will be one.

    Raises ``InputInvalid`` (``readers.no_dataset``), ``VerificationFailed`` (``vault.part_altered``), and as ``keys``.
    """
    reason = _why_not(manifest, files)
    if reason is not None:
        raise InputInvalid("readers.no_dataset", f"files alone are not this release: {reason}", "use scanner()")
    local = fs.LocalFileSystem()
    known = keys()
    made = []
    for file in files:
        properties = pe.create_decryption_properties(known[file.file], aad_prefix=file.aad.encode())
        form = ds.ParquetFileFormat(
            default_fragment_scan_options=ds.ParquetFragmentScanOptions(decryption_properties=properties)
        )
        try:
            fragment = form.make_fragment(str(folder / file.file), filesystem=local)
            schema = fragment.physical_schema
        except (pa.ArrowException, OSError) as error:
            raise VerificationFailed(
                "vault.part_altered",
                f"the part {file.file} does not decrypt: it is not what was sealed with its key",
                "fetch the release again",
            ) from error
        made.append(ds.FileSystemDataset([fragment], schema, form, local))
    return made[0] if len(made) == 1 else ds.UnionDataset(made[0].schema, made)


def _why_not(manifest: Manifest, files: Sequence[PartFile]) -> str | None:
    if len({file.group for file in files}) > 1:
        return "its open columns are in several column groups, which are files of their own"
    taken: dict[int, int] = {}
    for run in manifest.sequence():
        taken[run.part] = taken.get(run.part, 0) + run.rows
    if any(taken[file.part] != file.rows for file in files):
        return "some records of its parts do not belong to it any more"
    group = next(group for group in manifest.groups if group.name == files[0].group)
    fields = tuple(column for column in manifest.columns if column.name in group.columns)
    if any(field.type == "map" for field, _ in walk_fields(fields)):
        return "it has a map, which is sealed as a list of pairs"
    return None
