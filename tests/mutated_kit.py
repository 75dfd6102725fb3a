"""Mutations of requests for keys, by a grammar of token, body, signature and headers; and requests by schemathesis."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from safehold.broker.proof import HOLDS_PATH, KEYS_PATH
from safehold.ledger.keys import SigningKey
from tests.broker_kit import DESK, World, new_request
from tests.serve_kit import Answered, Place

BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ODD = [
    "",
    "\x00",
    "\u202e",
    "😀",
    "A" * 70_000,
    "../..",
    "{{7*7}}",
    "' OR 1=1 --",
    "\ud800",
    "%00",
    "null",
    "-1",
    "1e999",
]
VALUES: list[Any] = [None, True, False, 0, -1, 2**63, 2**200, 1.5, "", [], {}, [[]], {"a": {}}, *ODD]


class Mutator:
    """Makes bad requests out of a good one and sends them."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self._place = place
        self._world: World = place.world
        self._chance = chance
        self._mutations: list[Callable[[], Answered]] = [
            self._token_bytes,
            self._token_cut,
            self._token_blocks,
            self._field_value,
            self._field_gone,
            self._field_more,
            self._not_canonical,
            self._body_bytes,
            self._body_other,
            self._signature_bytes,
            self._signature_of_another,
            self._claims,
            self._headers_gone,
            self._headers_odd,
            self._path,
            self._length,
        ]

    def unchanged(self) -> Answered:
        return self._place.ask()

    def mutated(self) -> tuple[str, Answered]:
        mutation = self._chance.choice(self._mutations)
        return mutation.__name__, mutation()

    def _body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._world.body())
        return found

    def _send(self, fields: Any, **changed: Any) -> Answered:
        """Signed well: the attacker has the host's key, and asks for what he may not."""
        return self._ask(_canonical(fields), **changed)

    def _ask(self, body: bytes, **changed: Any) -> Answered:
        changed.setdefault("nonce", new_request())
        return self._place.ask(body, **changed)

    def _token(self, token: str) -> Answered:
        fields = self._body()
        if token == fields["grant"]:
            token += "A"
        return self._send(fields | {"grant": token}, nonce=fields["request"])

    def _token_bytes(self) -> Answered:
        raw = bytearray(base64.urlsafe_b64decode(self._world.grant.token + "=="))
        for _ in range(self._chance.choice([1, 1, 2, 8])):
            raw[self._chance.randrange(len(raw))] ^= self._chance.randrange(1, 256)
        return self._token(base64.urlsafe_b64encode(bytes(raw)).decode())

    def _token_cut(self) -> Answered:
        token = self._world.grant.token
        at = self._chance.randrange(len(token))
        cut = self._chance.choice([token[:at], token[at:], token[:at] + self._chance.choice(BASE64) + token[at:]])
        return self._token(self._chance.choice([cut, token * 2, cut + "=", token[::-1], "", "A" * 16_385]))

    def _token_blocks(self) -> Answered:
        """Protobuf fields put in, doubled or of the wrong type."""
        raw = base64.urlsafe_b64decode(self._world.grant.token + "==")
        at = self._chance.randrange(len(raw))
        more = self._chance.choice(
            [b"\x12\x00", b"\x0a\xff\xff\xff\xff\x0f", b"\x08\x96\x01", b"\x1a\x02\x0a\x00", raw[:at]]
        )
        return self._token(base64.urlsafe_b64encode(raw[:at] + more + raw[at:]).decode())

    def _field_value(self) -> Answered:
        fields = self._body()
        name = self._chance.choice([one for one in fields if one != "member"])
        value = self._chance.choice([one for one in VALUES if one != fields[name]])
        return self._send(fields | {name: value})

    def _field_gone(self) -> Answered:
        fields = self._body()
        del fields[self._chance.choice(list(fields))]
        return self._send(fields)

    def _field_more(self) -> Answered:
        return self._send(self._body() | {self._chance.choice(["x", "format ", "Grant", "__proto__", ""]): 1})

    def _not_canonical(self) -> Answered:
        body = _canonical(self._body())
        text = body.decode()
        other = self._chance.choice(
            [
                text + " ",
                " " + text,
                text.replace(":", ": ", 1),
                "\ufeff" + text,
                text[:-1] + ',"request":"q"}',
                text + text,
            ]
        )
        return self._ask(other.encode())

    def _body_bytes(self) -> Answered:
        body = bytearray(self._world.body())
        for _ in range(self._chance.choice([1, 2, 16])):
            body[self._chance.randrange(len(body))] = self._chance.randrange(256)
        if bytes(body) == self._world.body():
            body += b" "
        headers = self._place.signed(self._world.body())
        return self._place.post(KEYS_PATH, bytes(body), headers)

    def _body_other(self) -> Answered:
        odd = self._chance.choice(
            [b"", b"[]", b"null", b"\xff" * 9, b"[" * 30_000, b"{" * 9, b'"a"', b"1" * 5000, b"NaN"]
        )
        return self._ask(odd)

    def _signature_bytes(self) -> Answered:
        body = self._world.body()
        headers = self._place.signed(body)
        name = self._chance.choice(["signature", "signature-input", "content-digest"])
        value = headers[name]
        at = self._chance.randrange(len(value))
        other = self._chance.choice('ABab09+/=;"() :')
        made = value[:at] + other + value[at + (value[at] != other) :]
        return self._place.post(KEYS_PATH, body, headers | {name: made if made != value else value[:-1]})

    def _signature_of_another(self) -> Answered:
        signers = [SigningKey.generate(), self._world.host_keys[DESK]]
        made = [{"signer": self._chance.choice(signers)}, {"path": HOLDS_PATH}, {"nonce": new_request()}]
        return self._place.ask(self._world.body(), **self._chance.choice(made))

    def _claims(self) -> Answered:
        times = [0, 1, 10**14, self._world.now // 1_000_000 + 3600, self._world.now // 1_000_000 - 61]
        return self._place.ask(self._world.body(), created=self._chance.choice(times))

    def _headers_gone(self) -> Answered:
        body = self._world.body()
        headers = self._place.signed(body)
        del headers[self._chance.choice(list(headers))]
        return self._place.post(KEYS_PATH, body, headers)

    def _headers_odd(self) -> Answered:
        body = self._world.body()
        headers = self._place.signed(body)
        name = self._chance.choice([*headers, "content-type", "content-length"])
        odd = self._chance.choice([one for one in ODD if one.isascii()])
        return self._place.post(KEYS_PATH, body, headers | {name: odd})

    def _path(self) -> Answered:
        body = self._world.body()
        method, path = self._chance.choice(
            [("GET", KEYS_PATH), ("PUT", KEYS_PATH), ("POST", KEYS_PATH + "/"), ("POST", KEYS_PATH + "?a"), ("POST", "/"),
             ("POST", "//v1/keys"), ("POST", "/v1/keys%20"), ("DELETE", "/log/checkpoint"), ("POST", HOLDS_PATH)]
        )  # fmt: skip
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self._place.signed(body)}
        return self._place.call(method, path, headers, body)

    def _length(self) -> Answered:
        body = self._world.body()
        odd = self._chance.choice(["0", str(len(body) - 1), str(len(body) + 1), "-1", "1e3", "９", "9" * 30])
        return self._place.call(
            "POST", KEYS_PATH, {"content-type": "application/json", **self._place.signed(body)}, body,
            raw=[(b"content-length", odd.encode())],
        )  # fmt: skip


def _canonical(fields: Any) -> bytes:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", errors="surrogatepass")


def is_answered_well(said: Answered, codes: set[str]) -> bool:
    """A 4xx problem with a code of the reference, that holds nothing else."""
    if not 400 <= said.status < 500 or said.headers.get("content-type") != "application/problem+json":
        return False
    document = said.document
    return document["status"] == said.status and document["code"] in codes and "sealed" not in document


def schema_cases(place: Place, each: int) -> Iterator[tuple[str, Answered]]:
    """Requests that schemathesis makes from the document, good and bad by its own schema, and their answers."""
    document = place.call("GET", "/openapi.json").document
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            yield from _cases(place, found.ok(), mode, each)


def _cases(place: Place, operation: Any, mode: Any, each: int) -> list[tuple[str, Answered]]:
    said: list[tuple[str, Answered]] = []

    @settings(
        max_examples=each, database=None, phases=[Phase.generate], derandomize=True, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        said.append((f"{case.method.upper()} {operation.path}", _send(place, case)))

    try:
        send()
    except Exception as error:  # a request without parameters has no bad form by its schema
        if type(error).__name__ not in ("Unsatisfiable", "SkipTest", "InvalidArgument"):
            raise
    return said


def _send(place: Place, case: Any) -> Answered:
    headers = {
        str(name).lower(): re.sub(r"[^\x20-\x7e]", "?", str(value)) for name, value in dict(case.headers or {}).items()
    }
    path = case.path
    for name, value in dict(case.path_parameters or {}).items():
        path = path.replace("{" + name + "}", quote(str(value), errors="replace"))
    body = b""
    if not _is_absent(case.body):
        body = json.dumps(case.body).encode() if not isinstance(case.body, bytes) else case.body
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
    return place.call(case.method.upper(), path, headers, body)


def _is_absent(body: Any) -> bool:
    return type(body).__name__ == "NotSet"
