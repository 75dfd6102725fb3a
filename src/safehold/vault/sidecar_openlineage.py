"""The OpenLineage sidecar: the sealing as a run event, for lineage stores. Pure.

OpenLineage 2-0-2 with the facets schema, version, ownership and storage. Inputs are the files that were read, by name and
digest, and the release that is replaced; the output is the release. Written, not sent: who runs a lineage store sends it.
"""

from __future__ import annotations

from typing import Any, Final

from safehold.vault.manifest import Field, Manifest
from safehold.vault.sidecar_cyclonedx import stable_uuid

__all__ = ["openlineage"]

_PRODUCER: Final = "urn:safehold:vault"
_EVENT: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS: Final = "https://openlineage.io/spec/facets/"


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    return {"_producer": _PRODUCER, "_schemaURL": _FACETS + schema, **values}


def openlineage(manifest: Manifest, issued: str) -> dict[str, Any]:
    """The event; ``issued`` is the time of sealing, RFC 3339."""
    space = f"safehold://{manifest.party}"
    inputs = [
        {
            "namespace": f"{space}/input",
            "name": f"{source.name}@{source.sha256}",
            "facets": {"version": _version(source.sha256)},
        }
        for source in manifest.sources
    ]
    if manifest.parent is not None:
        parent = {"version": _version(manifest.parent)}
        inputs.append({"namespace": space, "name": manifest.dataset, "facets": parent})
    return {
        "eventType": "COMPLETE",
        "eventTime": issued,
        "producer": _PRODUCER,
        "schemaURL": _EVENT,
        "run": {"runId": stable_uuid(manifest, "sealing"), "facets": {}},
        "job": {"namespace": space, "name": f"seal {manifest.dataset}", "facets": {}},
        "inputs": inputs,
        "outputs": [
            {
                "namespace": space,
                "name": manifest.dataset,
                "facets": {
                    "schema": _facet(
                        "1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
                        fields=[_field(column) for column in manifest.columns],
                    ),
                    "version": _version(str(manifest.version)),
                    "ownership": _facet(
                        "1-0-1/OwnershipDatasetFacet.json#/$defs/OwnershipDatasetFacet",
                        owners=[
                            {"name": f"party:{manifest.customer}", "type": "OWNER"},
                            {"name": f"party:{manifest.party}", "type": "MAINTAINER"},
                        ],
                    ),
                    "storage": _facet(
                        "1-0-1/StorageDatasetFacet.json#/$defs/StorageDatasetFacet",
                        storageLayer="safehold",
                        fileFormat="parquet, encrypted",
                    ),
                },
                "outputFacets": {
                    "outputStatistics": _facet(
                        "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet",
                        rowCount=manifest.rows,
                        size=manifest.size,
                        fileCount=len(manifest.parts),
                    )
                },
            }
        ],
    }


def _version(text: str) -> dict[str, Any]:
    return _facet("1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet", datasetVersion=text)


def _field(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"name": field.name or "element", "type": field.type}
    if field.fields:
        found["fields"] = [_field(member) for member in field.fields]
    return found
