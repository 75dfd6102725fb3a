"""Which places an advisory's document names: domains, addresses and pods. Pure.

Read leniently from the document itself, since the entry of an advisory holds packages and windows alone. What is not
found here is not looked for in the evidence, and the answer says which places were.

In OSV only ``database_specific.iocs`` is read: the history of revisions beside it speaks of other things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["document_places", "document_pods"]

_PATTERN: Final = re.compile(r"(?:domain-name|ipv4-addr|ipv6-addr|url):value\s*=\s*'([^']{1,253})'")
_LISTS: Final = ("domains", "addresses", "ips", "urls")
_MOST: Final = 1000


def _plain(document: bytes) -> dict[str, Any]:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _texts(value: Any) -> Iterable[str]:
    return (one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def document_places(document: bytes) -> tuple[str, ...]:
    """Domains and addresses, in lower case."""
    plain = _plain(document)
    special = plain.get("database_specific")
    iocs = special.get("iocs") if isinstance(special, dict) else None
    found = list[str]()
    for place in (plain, iocs if isinstance(iocs, dict) else {}):
        for name in _LISTS:
            found += _texts(place.get(name))
    objects = plain.get("objects")
    for one in objects if isinstance(objects, list) else ():
        pattern = one.get("pattern") if isinstance(one, dict) else None
        found += _PATTERN.findall(pattern) if isinstance(pattern, str) else []
    return tuple(dict.fromkeys(_host_of(text) for text in found[:_MOST] if text.strip()))


def _host_of(text: str) -> str:
    """``https://a.example/x`` is a connection to ``a.example``; defanged dots are dots."""
    plain = text.strip().lower().replace("[.]", ".")
    return re.sub(r"^[a-z]+://", "", plain).split("/", 1)[0]


def document_pods(document: bytes) -> tuple[str, ...]:
    """Beginnings of the names of pods that the thing is said to make."""
    cluster = _plain(document).get("kubernetes")
    prefix = cluster.get("pod_prefix") if isinstance(cluster, dict) else None
    return (prefix,) if isinstance(prefix, str) and prefix else ()
