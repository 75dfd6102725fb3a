from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safehold.model.encoding import canonical_bytes, decode_canonical
from safehold.model.errors import InputInvalid, VerificationFailed
from safehold.vault.envelope import Envelope, check_signature, parse_envelope, sign
from safehold.vault.manifest import manifest_bytes, parse_manifest, release_digest
from safehold.vault.seal import SealOptions
from tests.vault_kit import LAB, SUPPLIER, Sealed, seal, write_lines


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("manifest")
    path = write_lines(folder / "in.jsonl", [{"q": f"q{n}", "a": {"x": n}} for n in range(20)])
    return seal(
        path, folder / "r", groups={"q": ["q"], "a": ["a"]}, options=SealOptions(part_rows=10, cut_key=b"k" * 32)
    )


def test_it_is_an_in_toto_statement_of_its_parts(sealed: Sealed) -> None:
    body = manifest_bytes(sealed.manifest)
    plain = json.loads(body)
    assert plain["_type"] == "https://in-toto.io/Statement/v1"
    assert plain["predicateType"] == "urn:safehold:release:v3"
    assert [s["name"] for s in plain["subject"]] == [p.file for p in sealed.manifest.parts]
    assert all(len(s["digest"]["sha256"]) == 64 for s in plain["subject"])
    assert release_digest(body) == sealed.release
    assert parse_manifest(body) == sealed.manifest


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(plain: Any) -> None:
        for step in path[:-1]:
            plain = plain[step]
        plain[path[-1]] = to

    return change


def _rename(plain: Any) -> None:
    for place in (plain["subject"][0], plain["predicate"]["parts"][0]):
        place["name" if "name" in place else "file"] = "../1-00000-q.parquet"


def _drop_part(plain: Any) -> None:
    del plain["subject"][0]
    del plain["predicate"]["parts"][0]


def _double_part(plain: Any) -> None:
    plain["subject"].insert(0, plain["subject"][0])
    plain["predicate"]["parts"].insert(0, plain["predicate"]["parts"][0])


def _swap_parts(plain: Any) -> None:
    for listed in (plain["subject"], plain["predicate"]["parts"]):
        listed[0], listed[1] = listed[1], listed[0]


P = "predicate"
CHANGES: dict[str, Callable[[Any], None]] = {
    "type": _set("_type", to="https://in-toto.io/Statement/v0.1"),
    "unknown field": _set(P, "note", to="x"),
    "unknown field of a part": _set(P, "parts", 0, "note", to="x"),
    "path as a name": _rename,
    "part dropped": _drop_part,
    "part doubled": _double_part,
    "parts swapped": _swap_parts,
    "no parts": lambda plain: (plain["subject"].clear(), plain[P]["parts"].clear(), None)[-1],
    "subject of another file": _set("subject", 0, "name", to="1-00009-q.parquet"),
    "subject of another digest": _set("subject", 0, "digest", "sha256", to="0" * 64),
    "part of no group": _set(P, "parts", 0, "group", to="z"),
    "part of another number": _set(P, "parts", 0, "part", to=7),
    "negative rows": _set(P, "parts", 0, "rows", to=-1),
    "rows differ": _set(P, "parts", 0, "rows", to=3),
    "rows do not add up": _set(P, "rows", to=21),
    "AAD of another place": _set(P, "parts", 0, "aad", to="{}"),
    "bad commitment": _set(P, "parts", 0, "commitment", to="sha256:xyz"),
    "bad digest": _set(P, "parts", 0, "sha256", to="md5:00"),
    "bad party": _set(P, "party", to="Quill Works"),
    "other party": _set(P, "party", to="bright-annotators"),
    "bad dataset": _set(P, "dataset", to="../x"),
    "bad version": _set(P, "version", to=0),
    "version as text": _set(P, "version", to="1"),
    "bad purpose": _set(P, "purposes", to=["a b"]),
    "bad parent": _set(P, "parent", to="sha256:0"),
    "bad host": _set(P, "host", to="ci"),
    "column in no group": _set(P, "groups", 0, "columns", to=["q", "zz"]),
    "column in two groups": _set(P, "groups", 0, "columns", to=["q", "a"]),
    "group without columns": _set(P, "groups", 0, "columns", to=[]),
    "group name a path": _set(P, "groups", 0, "name", to="../q"),
    "column twice": lambda plain: plain[P]["columns"].append(plain[P]["columns"][0]),
    "struct without members": _set(P, "columns", 1, "fields", to=[]),
    "text with members": _set(P, "columns", 0, "fields", to=[{}]),
    "record id of no column": _set(P, "record_id", to={"rule": "column", "column": "zz"}),
    "record id rule without column": _set(P, "record_id", to={"rule": "column", "column": None}),
    "people below zero": _set(P, "people", to=[{"category": "annotators", "jurisdiction": "DE", "count": -1}]),
    "source as a path": _set(P, "sources", 0, "name", to="/etc/passwd"),
    "size too large": _set(P, "parts", 0, "size", to=2**60),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_not_well_formed_is_refused(case: str, sealed: Sealed) -> None:
    plain = copy.deepcopy(decode_canonical(manifest_bytes(sealed.manifest)))
    CHANGES[case](plain)
    try:
        body = canonical_bytes(plain)
    except InputInvalid:
        body = json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()
    with pytest.raises(VerificationFailed) as caught:
        parse_manifest(body)
    assert caught.value.code == "vault.manifest_altered"


def test_a_manifest_of_the_future_is_named_as_such(sealed: Sealed) -> None:
    plain = decode_canonical(manifest_bytes(sealed.manifest))
    plain["predicateType"] = "urn:safehold:release:v4"
    plain["predicate"]["more"] = 1
    with pytest.raises(InputInvalid, match="manifest_version"):
        parse_manifest(canonical_bytes(plain))


def test_other_bytes_of_the_same_json_are_refused(sealed: Sealed) -> None:
    body = manifest_bytes(sealed.manifest)
    with pytest.raises(VerificationFailed):
        parse_manifest(body + b"\n")
    with pytest.raises(VerificationFailed):
        parse_manifest(json.dumps(json.loads(body)).encode())


def test_too_large_a_manifest_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputInvalid, match="manifest_size"):
        parse_manifest(b" " * (64 * 1024 * 1024 + 1))


def test_the_signed_bytes_are_those_of_dsse() -> None:
    seen: list[bytes] = []

    class Recorder:
        key_id = "k"

        def sign(self, data: bytes) -> bytes:
            seen.append(data)
            return b"s"

    sign(b"hello world", Recorder())
    # protocol.md of DSSE: PAE("http://example.com/HelloWorld", "hello world") with our type in place of theirs.
    assert seen == [b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"]


def test_two_sign_and_the_payload_stays() -> None:
    first = sign(b"{}", SUPPLIER)
    both = sign(first.body, LAB, first.signatures)
    again = sign(both.body, SUPPLIER, both.signatures)
    assert [s.keyid for s in both.signatures] == [SUPPLIER.key_id, LAB.key_id]
    assert {s.keyid for s in again.signatures} == {SUPPLIER.key_id, LAB.key_id}
    assert first.body == both.body == again.body
    for key in (SUPPLIER, LAB):
        assert check_signature(parse_envelope(again.encode()), key.public).keyid == key.key_id


def test_signatures_that_do_not_hold_are_told_apart() -> None:
    envelope = sign(b"{}", SUPPLIER)
    with pytest.raises(VerificationFailed, match="manifest_unsigned"):
        check_signature(envelope, LAB.public)
    other = Envelope(base64.b64encode(b"[]").decode(), envelope.payload_type, envelope.signatures)
    with pytest.raises(VerificationFailed, match="manifest_signature"):
        check_signature(other, SUPPLIER.public)


def test_an_envelope_has_one_form() -> None:
    data = sign(b"{}", SUPPLIER).encode()
    plain = json.loads(data)
    loose = [
        data + b" ",
        json.dumps(plain).encode(),
        canonical_bytes(plain | {"note": 1}),
        canonical_bytes(plain | {"payloadType": "text/plain"}),
        canonical_bytes(plain | {"signatures": []}),
        canonical_bytes(plain | {"signatures": plain["signatures"] * 2}),
        canonical_bytes(plain | {"payload": plain["payload"].rstrip("=")}),
        canonical_bytes(plain | {"payload": plain["payload"] + "\n"}),
        canonical_bytes(plain | {"payload": "e31="}),  # the unused bits of the last character are set
        canonical_bytes(plain | {"payload": "*"}),
    ]
    for changed in loose:
        with pytest.raises(VerificationFailed, match="manifest_altered"):
            parse_envelope(changed).body  # noqa: B018 - the payload is decoded on reading


def test_manifest_bytes_refuses_what_no_reader_would_take(sealed: Sealed) -> None:
    import msgspec

    with pytest.raises(VerificationFailed):
        manifest_bytes(msgspec.structs.replace(sealed.manifest, rows=7))


def test_file_names_come_from_numbers_and_groups_alone(sealed: Sealed, tmp_path: Path) -> None:
    numbers = {part.part for part in sealed.manifest.parts}
    assert len(numbers) > 1
    assert {part.file for part in sealed.manifest.parts} == {
        f"1-{number:05d}-{group}.parquet" for number in numbers for group in ("a", "q")
    }
