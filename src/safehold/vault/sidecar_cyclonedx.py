"""The CycloneDX sidecar: a release as a data component, for bills of materials of models and systems. Pure.

CycloneDX 1.6 (ECMA-424). The component's own files stand below it with the SHA-256 of their ciphertext.
"""

from __future__ import annotations

import uuid
from typing import Any

from safehold.vault.manifest import Manifest

__all__ = ["cyclonedx", "stable_uuid"]


def stable_uuid(manifest: Manifest, what: str) -> str:
    """A UUID (version 5) that the release's parts decide, so that the same release is written the same."""
    parts = ",".join(part.sha256 for part in manifest.parts)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:safehold:{what}:{manifest.dataset}:{manifest.version}:{parts}"))


def cyclonedx(manifest: Manifest, issued: str | None) -> dict[str, Any]:
    """The document; ``issued`` is the time of sealing, RFC 3339."""
    reference = f"safehold:{manifest.dataset}@{manifest.version}"
    component: dict[str, Any] = {
        "type": "data",
        "bom-ref": reference,
        "supplier": {"name": manifest.party},
        "name": manifest.dataset,
        "version": str(manifest.version),
        "description": f"{manifest.rows:,} records, sealed",
        "data": [
            {
                "type": "dataset",
                "name": manifest.dataset,
                "classification": manifest.classification,
                "sensitiveData": [f"{one.count} people: {one.category}, {one.jurisdiction}" for one in manifest.people],
                "description": f"Purposes: {', '.join(manifest.purposes) or 'none is named'}",
                "governance": {
                    "custodians": [{"organization": {"name": manifest.customer}}],
                    "owners": [{"organization": {"name": manifest.customer}}],
                    "stewards": [{"organization": {"name": manifest.party}}],
                },
            }
        ],
        "components": [
            {
                "type": "file",
                "bom-ref": f"{reference}/{part.file}",
                "name": part.file,
                "hashes": [{"alg": "SHA-256", "content": part.sha256.removeprefix("sha256:")}],
            }
            for part in manifest.parts
        ],
    }
    if manifest.parent is not None:
        component["pedigree"] = {"notes": f"replaces the release {manifest.parent}"}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{stable_uuid(manifest, 'bom')}",
        "version": 1,
        "components": [component],
    }
    if issued is not None:
        document["metadata"] = {"timestamp": issued}
    return document
