"""Inventories of images and machines without an agent: CycloneDX, SPDX and Syft JSON as an unsigned message of a host.

What such a list names becomes distributions (PyPI) and packages (all else), with the hashes that it gives. It names no
start-up hooks, no unowned files and no traces, and nobody knows whether it was complete: that is ``skipped``, so that it
is never taken for a sweep; a list in which nothing can be read is refused. Formats: CycloneDX 1.x JSON, SPDX 2.x JSON,
SPDX 3.0 JSON-LD, Syft's own JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from safehold.inventory import agent
from safehold.inventory.read_csaf import parse_purl
from safehold.model.errors import InputInvalid
from safehold.model.ids import HostId

__all__ = ["MAX_LIST_BYTES", "listed_message"]

MAX_LIST_BYTES: Final = 256 << 20
_SHA256: Final = re.compile("[0-9A-Fa-f]{64}")


class _Found(NamedTuple):
    purl: str
    sha256: str
    path: str


def listed_message(data: bytes, host: HostId, environment: str, observed: int) -> bytes:
    """The message of a list, in the agent's form; ``observed`` (µs UTC): when the list was made.

    Raises ``InputInvalid`` (``inventory.list_size``, ``inventory.list_form``, ``inventory.list_empty``).
    """
    if len(data) > MAX_LIST_BYTES:
        raise InputInvalid("inventory.list_size", f"a list of {len(data):,} bytes exceeds {MAX_LIST_BYTES:,}")
    try:
        plain = json.loads(data.decode("utf-8-sig"))
        kind, found = _read(plain)
        contents = _contents(found, kind)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InputInvalid(
            "inventory.list_form",
            f"this is no list of packages in a known form: {type(error).__name__}: {error}",
            "give CycloneDX, SPDX 2 or 3, or Syft JSON",
        ) from error
    if not contents["distributions"] and not contents["packages"]:
        raise InputInvalid(
            "inventory.list_empty",
            f"of {len(found)} things in this list none has a package URL: to record it would look clean",
            "let the tool that makes the list write package URLs (purl)",
        )
    said = {"clock": "given", "environment": environment, "full": False, "host": host, "observed": observed}
    message = dict(
        said,
        agent={"python": "", "version": kind},
        contents=contents,
        format=agent.REPORT_FORMAT,
        interpreter={"site": "", "system_packages": False, "version": ""},
        inventory=agent.contents_digest(contents),
    )
    try:
        return agent.canonical(message)
    except UnicodeEncodeError as error:
        raise InputInvalid("inventory.list_form", "the list holds half a surrogate pair") from error


def _read(plain: dict[str, Any]) -> tuple[str, list[_Found]]:
    if plain.get("bomFormat") == "CycloneDX":
        subject = (plain.get("metadata") or {}).get("component") or {}
        named = [subject] if subject.get("purl") else []
        return "cyclonedx", list(_cyclonedx([*named, *(plain.get("components") or [])], 0))
    if str(plain.get("spdxVersion", "")).startswith("SPDX-2"):
        return "spdx", list(_spdx(plain.get("packages") or []))
    if "@graph" in plain and "spdx.org/rdf/3" in json.dumps(plain.get("@context")):
        return "spdx", list(_spdx_graph(plain["@graph"] or []))
    if "artifacts" in plain and "descriptor" in plain:
        return "syft", list(_syft(plain["artifacts"] or []))
    raise ValueError("neither bomFormat, spdxVersion, a graph of SPDX 3, nor artifacts")


def _text(value: object) -> str:
    return agent.shown(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else ""


def _cyclonedx(components: list[Any], depth: int) -> Iterator[_Found]:
    for one in components if depth < 64 else ():
        hashes = [found.get("content") for found in one.get("hashes") or [] if found.get("alg") == "SHA-256"]
        places = [found.get("location") for found in (one.get("evidence") or {}).get("occurrences") or []]
        yield _Found(str(one.get("purl") or ""), _hash(hashes), _text(next(iter(places), "")))
        yield from _cyclonedx(one.get("components") or [], depth + 1)


def _spdx(packages: list[Any]) -> Iterator[_Found]:
    for one in packages:
        purls = [
            ref.get("referenceLocator") for ref in one.get("externalRefs") or [] if ref.get("referenceType") == "purl"
        ]
        hashes = [
            found.get("checksumValue") for found in one.get("checksums") or [] if found.get("algorithm") == "SHA256"
        ]
        yield _Found(str(next(iter(purls), "") or ""), _hash(hashes), "")


def _spdx_graph(elements: list[Any]) -> Iterator[_Found]:
    for one in elements:
        if str(one.get("type") or one.get("@type")) not in (
            "software_Package",
            "dataset_DatasetPackage",
            "ai_AIPackage",
        ):
            continue
        more = [
            found.get("identifier")
            for found in one.get("externalIdentifier") or []
            if isinstance(found, dict) and found.get("externalIdentifierType") == "packageUrl"  # or a node's name
        ]
        hashes = [
            found.get("hashValue")
            for found in one.get("verifiedUsing") or []
            if isinstance(found, dict) and found.get("algorithm") == "sha256"
        ]
        yield _Found(str(one.get("software_packageUrl") or next(iter(more), "") or ""), _hash(hashes), "")


def _syft(artifacts: list[Any]) -> Iterator[_Found]:
    for one in artifacts:
        places = [found.get("path") for found in one.get("locations") or []]
        yield _Found(str(one.get("purl") or ""), "", _text(next(iter(places), "")))


def _hash(values: list[Any]) -> str:
    return next((one.lower() for one in values if isinstance(one, str) and _SHA256.fullmatch(one)), "")


def _contents(found: list[_Found], kind: str) -> dict[str, Any]:
    distributions, packages, unnamed = list[Any](), list[Any](), 0
    for one in found:
        package = parse_purl(one.purl)
        if package is None:
            unnamed += 1
            continue
        ecosystem, name, version = (_text(part) for part in package)
        if ecosystem == "PyPI":
            distributions.append(
                {
                    "files": [], "folder": one.path, "installer": "", "name": name, "origin": "archive" if one.sha256 else "",
                    "origin_hash": one.sha256, "raw_name": name, "record": "absent", "requested": False, "requires": [],
                    "version": version,
                }
            )  # fmt: skip
        else:
            packages.append(
                {"ecosystem": ecosystem, "name": name, "path": one.path, "sha256": one.sha256, "version": version}
            )
    skipped = [{"path": ".", "reason": f"listed-by-{kind}"}]  # hooks, files, caches: nobody looked
    skipped += [{"path": str(unnamed), "reason": "no-package-url"}] if unnamed else []
    empty: dict[str, Any] = {name: [] for name in ("altered", "hooks", "missing", "pyc", "unowned")}
    return empty | {
        "distributions": _unique(distributions),
        "packages": _unique(packages),
        "skipped": skipped,
    }


def _unique(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(one) for one in sorted({json.dumps(one, sort_keys=True) for one in items})]
