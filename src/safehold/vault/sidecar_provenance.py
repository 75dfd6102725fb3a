"""The provenance sidecar: the elements of the Data & Trust Alliance's Data Provenance Standards 1.0. Pure.

The standards name 22 elements in three parts (source, provenance, use), and no file format; this is a plain JSON object
with an element a member. What a release does not know is null: unknown is not left out, and not made up.
"""

from __future__ import annotations

from typing import Any

from safehold.vault.manifest import Manifest

__all__ = ["provenance"]


def provenance(manifest: Manifest, issued: str | None) -> dict[str, Any]:
    """The document; ``issued`` is the time of sealing, RFC 3339."""
    places = sorted({one.jurisdiction for one in manifest.people})
    return {
        "standardsVersionUsed": "1.0.0",
        "source": {
            "datasetTitle": manifest.dataset,
            "uniqueMetadataIdentifier": f"urn:safehold:release:{manifest.dataset}@{manifest.version}",
            "metadataLocation": "manifest.json",
            "datasetIssuer": manifest.party,
            "descriptionOfDataset": f"{manifest.rows:,} records in {len(manifest.columns)} columns, sealed",
        },
        "provenance": {
            "sourceMetadataForDataset": [
                {"name": source.name, "format": source.format, "sha256": source.sha256.removeprefix("sha256:")}
                for source in manifest.sources
            ],
            "sourceIfDifferentFromIssuer": None,
            "dataOriginGeography": places or None,
            "datasetIssueDate": None if issued is None else issued[:10],
            "previouslyIssuedVersion": manifest.parent,
            "rangeOfDatesForDataGeneration": None,
            "method": None,
            "dataFormat": "Apache Parquet with Parquet Modular Encryption",
        },
        "use": {
            "confidentialityClassification": manifest.classification,
            "consentDocumentationLocation": None,
            "privacyEnhancingTechnologies": ["encryption by column group, keys released to grants alone"],
            "dataProcessingGeographyIncluded": None,
            "dataProcessingGeographyExcluded": None,
            "dataStorageGeographyIncluded": None,
            "dataStorageGeographyExcluded": None,
            "licenseToUse": f"by grant of {manifest.customer} alone",
            "intendedDataUse": [str(purpose) for purpose in manifest.purposes],
            "proprietaryDataPresence": True,
        },
    }
