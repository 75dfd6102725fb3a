"""The routes of the served broker, in one table: the front serves these and the OpenAPI document is written from them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from safehold.broker.http_form import (
    INVENTORY_PATH,
    HoldsAnswer,
    HoldsQuestion,
    InventoryAnswer,
    InventoryMessage,
    KeysAnswer,
    KeysQuestion,
    LeaseAnswer,
    LeasedAnswer,
    LeasedQuestion,
    LeaseQuestion,
)
from safehold.broker.leases import LEASED_PATH
from safehold.broker.proof import HOLDS_PATH, KEYS_PATH, LEASES_PATH

__all__ = ["CALLS", "READS", "CallRoute", "ReadRoute"]


class CallRoute(msgspec.Struct, frozen=True, kw_only=True):
    """``POST`` with a JSON body. ``kind`` is that of the call; ``proof``: what its headers must carry."""

    path: str
    kind: Any
    summary: str
    question: Any
    answer: Any
    proof: str


class ReadRoute(msgspec.Struct, frozen=True, kw_only=True):
    """``GET`` without a body; ``form`` is the answer's media type."""

    path: str
    name: str
    summary: str
    form: str
    parameter: str = ""


CALLS: Final[tuple[CallRoute, ...]] = (
    CallRoute(
        path=KEYS_PATH,
        kind="keys",
        summary="Ask for the part keys of column groups of a release, all of a read in one request.",
        question=KeysQuestion,
        answer=KeysAnswer,
        proof="signature",
    ),
    CallRoute(
        path=LEASES_PATH,
        kind="lease",
        summary="Open a lease with a full proof: a short session for the next requests.",
        question=LeaseQuestion,
        answer=LeaseAnswer,
        proof="signature",
    ),
    CallRoute(
        path=LEASED_PATH,
        kind="leased",
        summary="Ask for part keys by a lease.",
        question=LeasedQuestion,
        answer=LeasedAnswer,
        proof="lease",
    ),
    CallRoute(
        path=INVENTORY_PATH,
        kind="inventory",
        summary="Hand in a signed message of a host's agent. Sending it again changes nothing.",
        question=InventoryMessage,
        answer=InventoryAnswer,
        proof="none",
    ),
    CallRoute(
        path=HOLDS_PATH,
        kind="holds",
        summary="Ask which holds stop this host or its party.",
        question=HoldsQuestion,
        answer=HoldsAnswer,
        proof="signature",
    ),
)

READS: Final[tuple[ReadRoute, ...]] = (
    ReadRoute(path="/healthz", name="healthz", summary="Whether the front runs.", form="application/json"),
    ReadRoute(path="/readyz", name="readyz", summary="Whether keys can be asked for.", form="application/json"),
    ReadRoute(path="/metrics", name="metrics", summary="Prometheus metrics, to loopback alone.", form="text/plain"),
    ReadRoute(path="/openapi.json", name="openapi", summary="This document.", form="application/json"),
    ReadRoute(
        path="/log/{name}",
        name="log",
        summary="The ledger as static files (C2SP tlog-tiles): checkpoint, verifier, tile/…, payload/….",
        form="application/octet-stream",
        parameter="name",
    ),
)
