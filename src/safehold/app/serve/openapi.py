"""The OpenAPI 3.1 document, written from the table of routes and from the very types that are decoded."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from safehold.app.serve.routes import CALLS, READS, CallRoute
from safehold.broker.http_form import PROBLEM_TYPE, Problem

__all__ = ["openapi_document"]

_REF: Final = "#/components/schemas/{name}"
_SIGNED: Final = (
    ("Content-Digest", r"^sha-256=:[A-Za-z0-9+/]{43}=:$", "The body's SHA-256 (RFC 9530)."),
    (
        "Signature-Input",
        (
            r'^safehold=\("@method" "@path" "content-digest"\);created=[0-9]{1,15};nonce="[a-z0-9-]{1,64}";'
            r'keyid="SHA256:[A-Za-z0-9+/]{43}";alg="ed25519"$'
        ),
        "What is signed (RFC 9421): these three components, the time in seconds, the request's id, the key's fingerprint.",
    ),
    ("Safehold-Member", r"^:[A-Za-z0-9+/]{86}==:$", "Ed25519 by the named member's key, where the policy asks for it."),
    ("Signature", r"^safehold=:[A-Za-z0-9+/]{86}==:$", "Ed25519 by the host's SSH key (RFC 9421)."),
)
_LEASED: Final = (("Safehold-Lease", r"^[A-Za-z0-9+/]{43}=$", "HMAC-SHA-256 by the lease's session key."),)
_PROOFS: Final = {"signature": _SIGNED, "lease": _LEASED, "none": ()}


def openapi_document(version: str) -> bytes:
    """The document in JSON."""
    types = {kind for route in CALLS for kind in (route.question, route.answer)} | {Problem}
    _, schemas = msgspec.json.schema_components(sorted(types, key=lambda kind: kind.__name__), ref_template=_REF)
    paths: dict[str, Any] = {route.path: {"post": _post(route)} for route in CALLS}
    for read in READS:
        operation: dict[str, Any] = {
            "operationId": read.name,
            "summary": read.summary,
            "responses": {"200": {"description": "As asked.", "content": {read.form: {}}}, "default": _problem()},
        }
        if read.parameter:
            operation["parameters"] = [
                {"name": read.parameter, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            ]
        paths[read.path] = {"get": operation}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Safehold broker",
            "version": version,
            "description": "Keys by proof. Every answer and every proven refusal is an entry of the ledger.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return msgspec.json.encode(document, order="sorted")


def _post(route: CallRoute) -> dict[str, Any]:
    return {
        "operationId": route.kind,
        "summary": route.summary,
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": name != "Safehold-Member",
                "description": said,
                "schema": {"type": "string", "pattern": pattern},
            }
            for name, pattern, said in _PROOFS[route.proof]
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(route.question)}}},
        "responses": {
            "200": {
                "description": "As asked.",
                "content": {"application/json": {"schema": _reference(route.answer)}},
            },
            "default": _problem(),
        },
    }


def _problem() -> dict[str, Any]:
    return {
        "description": "Refused, or not served: RFC 9457.",
        "content": {PROBLEM_TYPE: {"schema": _reference(Problem)}},
    }


def _reference(kind: Any) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
