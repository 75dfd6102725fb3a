"""Sidecars: what other tools read about a release, beside its parts and bound by the manifest.

========================  ==============================================
``croissant.jsonld``      Croissant 1.1 with RAI terms: catalogues, loaders
``cyclonedx.json``        CycloneDX 1.6 data component: bills of materials
``openlineage.json``      OpenLineage run event of the sealing
``provenance.json``       Data & Trust Alliance provenance elements
========================  ==============================================

They say nothing that the manifest does not say, in the words of others: names, counts and digests, never a value. The
manifest holds the SHA-256 of each, so the supplier's signature covers them, and ``verify`` checks them without keys.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from safehold.model.encoding import canonical_bytes
from safehold.model.ids import sha256_digest
from safehold.vault.manifest import Manifest, Sidecar
from safehold.vault.sidecar_croissant import croissant
from safehold.vault.sidecar_cyclonedx import cyclonedx
from safehold.vault.sidecar_openlineage import openlineage
from safehold.vault.sidecar_provenance import provenance

__all__ = ["SIDECARS", "bound", "make_sidecars"]

SIDECARS: Final = ("croissant.jsonld", "cyclonedx.json", "openlineage.json", "provenance.json")


def make_sidecars(manifest: Manifest, sealed_at: int | None) -> dict[str, bytes]:
    """The bytes of each sidecar by name. ``sealed_at`` is µs UTC; without it there is no event of the sealing, since an
    event has a time.
    """
    issued = None
    if sealed_at is not None:
        issued = datetime.fromtimestamp(sealed_at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    documents = {
        "croissant.jsonld": croissant(manifest, issued),
        "cyclonedx.json": cyclonedx(manifest, issued),
        "provenance.json": provenance(manifest, issued),
    }
    if issued is not None:
        documents["openlineage.json"] = openlineage(manifest, issued)
    return {name: canonical_bytes(documents[name]) for name in SIDECARS if name in documents}


def bound(files: dict[str, bytes]) -> tuple[Sidecar, ...]:
    """What the manifest says of these files."""
    return tuple(Sidecar(name=name, sha256=sha256_digest(data), size=len(data)) for name, data in sorted(files.items()))
