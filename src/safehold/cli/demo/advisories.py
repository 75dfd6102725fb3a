"""The advisories of the incident as the demo plays them: public facts, each with the moment it could first be seen.

Windows are claims with their sources; they differ, and all are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from safehold.model.encoding import pretty_json

__all__ = ["ARRIVALS", "Arrival", "write_advisory"]

_PACKAGE: Final = {"ecosystem": "PyPI", "name": "litellm"}


class Arrival(msgspec.Struct, frozen=True):
    """A document, the name of its file, and when it could first be seen (RFC 3339)."""

    first_seen: str
    file: str
    body: dict[str, Any]


ARRIVALS: Final = (
    Arrival(
        "2026-03-24T16:15:08Z",
        "PYSEC-2026-2.json",
        {
            "schema_version": "1.7.4",
            "id": "PYSEC-2026-2",
            "published": "2026-03-24T16:15:08.809028Z",
            "modified": "2026-03-24T22:41:32.746566Z",
            "aliases": ["MAL-2026-2144"],
            "summary": "litellm 1.82.7 and 1.82.8 contain a credential stealer",
            "details": "Two releases were uploaded with a stolen publishing token.",
            "affected": [{"package": _PACKAGE, "versions": ["1.82.7", "1.82.8"]}],
        },
    ),
    Arrival(
        "2026-03-24T22:11:35Z",
        "MAL-2026-2144.json",
        {
            "schema_version": "1.7.4",
            "id": "MAL-2026-2144",
            "published": "2026-03-24T11:15:14Z",
            "modified": "2026-03-26T09:53:17Z",
            "aliases": ["PYSEC-2026-2"],
            "summary": "Malicious code in litellm (PyPI)",
            "details": "Its published time is earlier than the moment at which it was first imported.",
            "affected": [{"package": _PACKAGE, "versions": ["1.82.7", "1.82.8"]}],
        },
    ),
    Arrival(
        "2026-03-25T09:00:00Z",
        "litellm-indicators.json",
        {
            "note": "Indicators of the litellm releases; windows are claims with their sources",
            "files": [
                {
                    "name": "litellm-1.82.7-py3-none-any.whl",
                    "sha256": "8395c3268d5c5dbae1c7c6d4bb3c318c752ba4608cfcd90eb97ffb94a910eac2",
                    "version": "1.82.7",
                },
                {
                    "name": "litellm-1.82.8-py3-none-any.whl",
                    "sha256": "d2a0d5f564628773b6af7b9c11f6b86531a875bd2d186d7081ab62748a800ebb",
                    "version": "1.82.8",
                },
                {
                    "path": "litellm_init.pth",
                    "sha256": "71e35aef03099cd1f2d6446734273025a163597de93912df321ef118bf135238",
                    "version": "1.82.8",
                },
            ],
            "domains": ["models.litellm.cloud", "checkmarx.zone"],
            "windows": [
                {
                    "source": "vendor, first statement",  # words: the source calls itself so
                    "from": "2026-03-24T10:39:00Z",
                    "to": "2026-03-24T11:19:00Z",
                },
                {"source": "PyPI incident report", "from": "2026-03-24T10:39:00Z", "to": "2026-03-24T13:11:00Z"},
                {
                    "source": "vendor, 'affected if installed'",  # words: as above
                    "from": "2026-03-24T10:39:00Z",
                    "to": "2026-03-24T16:00:00Z",
                },
            ],
        },
    ),
    Arrival(
        "2026-03-25T12:00:00Z",
        "GHSA-5mg7-485q-xm76.json",
        {
            "schema_version": "1.7.4",
            "id": "GHSA-5mg7-485q-xm76",
            "published": "2026-03-25T00:00:00Z",
            "modified": "2026-03-25T00:00:00Z",
            "aliases": ["PYSEC-2026-2"],
            "summary": "litellm: malicious releases",
            "affected": [
                {
                    "package": _PACKAGE,
                    "ranges": [
                        {
                            "type": "ECOSYSTEM",
                            "events": [{"introduced": "1.82.7"}, {"last_affected": "1.82.8"}],
                        }
                    ],
                }
            ],
        },
    ),
    Arrival(
        "2026-03-27T04:26:10Z",
        "MAL-2026-2254.json",
        {
            "schema_version": "1.7.4",
            "id": "MAL-2026-2254",
            "published": "2026-03-27T04:26:10Z",
            "modified": "2026-03-27T06:00:32Z",
            "aliases": ["PYSEC-2026-3"],
            "summary": "Malicious code in telnyx (PyPI)",
            "affected": [{"package": {"ecosystem": "PyPI", "name": "telnyx"}, "versions": ["4.87.1", "4.87.2"]}],
        },
    ),
)


def write_advisory(arrival: Arrival, folder: Path) -> Path:
    """The document as a file, as a feed would have brought it."""
    path = folder / arrival.file
    path.write_text(pretty_json(arrival.body) + "\n", encoding="utf-8")
    return path
