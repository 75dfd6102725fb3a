"""The Croissant sidecar: a release as dataset catalogues and loaders describe data. Pure.

Croissant 1.1 (http://mlcommons.org/croissant/1.1) with the terms of its RAI vocabulary 1.0. It lists the sealed files
with the SHA-256 of their ciphertext, and the columns by name and type. A Croissant loader can check the files; it
cannot read them, since it has no keys.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from safehold.vault.manifest import Field, Manifest

__all__ = ["croissant"]

_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_PARQUET: Final = "application/vnd.apache.parquet"
_TYPES: Final = {
    "string": "sc:Text",
    "large_string": "sc:Text",
    "bool": "sc:Boolean",
    "double": "sc:Float",
    "float": "sc:Float",
    **{f"{sign}int{bits}": "sc:Integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def croissant(manifest: Manifest, issued: str | None) -> dict[str, Any]:
    """The JSON-LD document; ``issued`` is the time of sealing, RFC 3339."""
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": str(manifest.dataset).replace("/", "-"),
        "alternateName": manifest.dataset,
        "description": f"{manifest.rows:,} records of {manifest.dataset}, sealed: opened with keys from a broker alone.",
        "url": f"urn:safehold:dataset:{manifest.dataset}",
        "version": f"{manifest.version}.0.0",
        "license": f"By grant of {manifest.customer} alone, for: {', '.join(manifest.purposes)}",
        "creator": {"@type": "sc:Organization", "name": manifest.party, "url": f"urn:safehold:party:{manifest.party}"},
        "publisher": {"@type": "sc:Organization", "name": manifest.customer},
        "isLiveDataset": False,
        "distribution": [*_files(manifest), *_sets(manifest)],
        "recordSet": [_records(manifest, place) for place in range(len(manifest.groups))],
    }
    if issued is not None:
        document["datePublished"] = issued[:10]
    return document | _responsible(manifest)


def _files(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": part.file,
            "name": part.file,
            "description": "Parquet, encrypted whole (Parquet Modular Encryption); the SHA-256 is of the ciphertext.",
            "contentUrl": part.file,
            "contentSize": f"{part.size} B",
            "encodingFormat": _PARQUET,
            "sha256": part.sha256.removeprefix("sha256:"),
        }
        for part in manifest.parts
    ]


def _sets(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"group-{group.name}",
            "name": f"group-{group.name}",
            "description": f"The sealed files of the column group {group.name}: one key a file.",
            "encodingFormat": _PARQUET,
            "includes": f"[0-9]*-[0-9][0-9][0-9][0-9][0-9]-{group.name}.parquet",
        }
        for group in manifest.groups
    ]


def _records(manifest: Manifest, place: int) -> dict[str, Any]:
    group = manifest.groups[place]
    name = f"records-{group.name}"
    fields = {column.name: column for column in manifest.columns}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The columns of the group {group.name}; records of all groups stand in the same order.",
        "field": [_field(name, group.name, fields[column]) for column in group.columns],
    }


def _field(records: str, group: str, field: Field) -> dict[str, Any]:
    inner = field.fields[0] if field.type == "list" and field.fields[0].type in _TYPES else None
    found: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{records}/{quote(field.name, safe='')}",
        "name": field.name,
        "description": f"Arrow type {_written_type(field)}",
        "dataType": _TYPES.get(field.type if inner is None else inner.type, "sc:Text"),
        "source": {"fileSet": {"@id": f"group-{group}"}, "extract": {"column": field.name}},
    }
    if inner is not None:
        found |= {"isArray": True, "arrayShape": "-1"}
    return found


def _written_type(field: Field) -> str:
    """A field's type as Arrow writes it, nested ones spelled out."""
    if field.type in {"list", "map"}:
        return f"{field.type}<{', '.join(_written_type(member) for member in field.fields)}>"
    if field.type == "struct":
        return f"struct<{', '.join(f'{member.name}: {_written_type(member)}' for member in field.fields)}>"
    return field.type


def _responsible(manifest: Manifest) -> dict[str, Any]:
    order = "" if manifest.order is None else f" under order {manifest.order}"
    people = [f"{one.count:,} people: {one.category}, {one.jurisdiction}" for one in manifest.people]
    return {
        "rai:dataCollection": f"Made by {manifest.party} for {manifest.customer}{order}.",
        "rai:dataUseCases": [str(purpose) for purpose in manifest.purposes] or ["none is named"],
        "rai:personalSensitiveInformation": people or ["the supplier has counted no people"],
        "rai:dataReleaseMaintenancePlan": "A release never changes. A later version names the one that it replaces.",
    }
