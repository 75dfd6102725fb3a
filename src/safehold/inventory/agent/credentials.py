"""Ids of the credentials in reach on a host: what whoever runs code here could have taken. Never a value.

A credential is a kind, a name that is no secret (a profile, a registry, a variable), the file, and an id: the public
fingerprint of an SSH key, else a keyed digest of the secret. So the same credential on two hosts has one id where both
use the same key, and nothing in a report lets anyone use it. Files are read by their form, not by their tools.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from safehold.inventory.agent.base import safe_text
from safehold.inventory.agent.machine import Machine

__all__ = ["find_credentials"]

_SSH_BLOB = re.compile(rb"\s*(?:ssh|ecdsa|sk)-[^ ]+ ([A-Za-z0-9+/=]+)")
_ASSIGNED = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]{0,127})\s*=(.*)")
_WHOLE = (
    ("huggingface-token", b"/.cache/huggingface/token"),
    ("huggingface-token", b"/.huggingface/token"),
    ("vault-token", b"/.vault-token"),
    ("cargo-login", b"/.cargo/credentials.toml"),
    ("gcp-database", b"/.config/gcloud/credentials.db"),
    ("github-login", b"/.config/gh/hosts.yml"),
    ("pgpass", b"/.pgpass"),
    ("kaggle-login", b"/.kaggle/kaggle.json"),
)
_SYSTEM = (("kube-service-account", b"/var/run/secrets/kubernetes.io/serviceaccount/token"),)
_MAX_NAMES = 500
_TELLING = 16  # characters: shorter values are no secrets, and equal by chance

_Found = Iterator[tuple[str, str, bytes, str]]


def find_credentials(machine: Machine, projects: tuple[bytes, ...] = ()) -> list[dict[str, str]]:
    """What is in reach, sorted; ``projects`` are folders with ``.env`` files."""
    found: set[tuple[str, str, str, str]] = set()
    for home in machine.homes:
        for reader in (_aws, _gcp, _azure, _kube, _docker, _git, _ssh, _packages, _whole):
            found |= {(kind, name, machine.shown(path), id_) for kind, name, path, id_ in reader(machine, home)}
    for kind, path in _SYSTEM:
        found |= {(kind, "", machine.shown(path), id_) for kind, _, path, id_ in _one(machine, kind, path)}
    for folder in (*machine.homes, *projects):
        found |= {(kind, name, machine.shown(path), id_) for kind, name, path, id_ in _dotenv(machine, folder)}
    return [{"id": id_, "kind": kind, "name": name, "path": path} for kind, name, path, id_ in sorted(found)]


def _sections(machine: Machine, path: bytes) -> list[tuple[str, dict[str, str]]]:
    """An INI file as its readers read it; what is none is said to be of a bad form."""
    text = machine.text(path)
    parser = configparser.RawConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        parser.read_string(text or "")
    except configparser.Error:
        machine.skip(path, "bad-form")
    return [(name, {key: value or "" for key, value in parser.items(name)}) for name in parser.sections()]


def _json(machine: Machine, path: bytes) -> dict[str, Any]:
    text = machine.text(path)
    try:
        plain = json.loads(text.lstrip("\ufeff")) if text else {}
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        machine.skip(path, "bad-form")
        return {}
    return plain


def _bytes(value: object) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, sort_keys=True)).encode("utf-8", "surrogatepass")


def _secret(machine: Machine, name: str, value: str) -> str:
    """The id of a secret: of its value alone, wherever it stands; a short value (``true``) also of its name."""
    parts = (_bytes(value),) if len(value) >= _TELLING else (_bytes(value), _bytes(name))
    return machine.digest(b"secret", *parts)


def _aws(machine: Machine, home: bytes) -> _Found:
    for name in (b"credentials", b"config"):
        path = home + b"/.aws/" + name
        for section, pairs in _sections(machine, path):
            secret = pairs.get("aws_access_key_id") or pairs.get("sso_account_id") or pairs.get("role_arn") or ""
            yield "aws-profile", safe_text(section), path, machine.digest(b"aws", _bytes(secret or section))
    for path in machine.match(home + b"/.aws/sso/cache", b"*.json"):
        yield "aws-sso", "", path, machine.digest(b"aws-sso", _bytes(_json(machine, path).get("startUrl") or ""))


def _gcp(machine: Machine, home: bytes) -> _Found:
    folder = home + b"/.config/gcloud"
    path = folder + b"/application_default_credentials.json"
    plain = _json(machine, path)
    if plain:
        who = plain.get("client_email") or plain.get("client_id") or ""
        yield "gcp-account", safe_text(plain.get("type")), path, machine.digest(b"gcp", _bytes(who))
    for path in machine.match(folder + b"/configurations", b"config_*"):
        for _, pairs in _sections(machine, path):
            if pairs.get("account"):
                name = path.rpartition(b"config_")[2].decode("utf-8", "replace")
                yield "gcp-profile", safe_text(name), path, machine.digest(b"gcp", _bytes(pairs["account"]))


def _azure(machine: Machine, home: bytes) -> _Found:
    path = home + b"/.azure/azureProfile.json"
    for one in _list(_json(machine, path).get("subscriptions")):
        yield "azure-profile", safe_text(one.get("name")), path, machine.digest(b"azure", _bytes(one.get("id")))


def _list(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)][:_MAX_NAMES] if isinstance(value, list) else []


def _kube(machine: Machine, home: bytes) -> _Found:
    """The names under ``contexts:``. YAML is read line by line: the standard library has no reader of it."""
    path = home + b"/.kube/config"
    text = machine.text(path) or ""
    if text.lstrip().startswith("{"):
        names = [one.get("name") for one in _list(_json(machine, path).get("contexts"))]
    else:
        inside, names = False, []
        for line in text.splitlines():
            if line[:1] not in " -\t#":
                inside = line.startswith("contexts:")
            found = re.fullmatch(r"(?:- |  )?\s{0,2}name:\s*(.+)", line) if inside else None
            names += [found.group(1).strip("'\" ")] if found else []
    for name in names[:_MAX_NAMES]:
        yield "kube-context", safe_text(name), path, machine.digest(b"kube", _bytes(name or ""))


def _docker(machine: Machine, home: bytes) -> _Found:
    path = home + b"/.docker/config.json"
    plain = _json(machine, path)
    for member, kind in (("auths", "docker-login"), ("credHelpers", "docker-helper")):
        held = plain.get(member)
        for name, value in sorted(held.items())[:_MAX_NAMES] if isinstance(held, dict) else ():
            yield kind, safe_text(name), path, machine.digest(b"docker", _bytes(name), _bytes(value))
    if isinstance(plain.get("credsStore"), str):
        yield (
            "docker-helper",
            safe_text(plain["credsStore"]),
            path,
            machine.digest(b"docker", _bytes(plain["credsStore"])),
        )


def _git(machine: Machine, home: bytes) -> _Found:
    path = home + b"/.git-credentials"
    for line in (machine.text(path) or "").splitlines()[:_MAX_NAMES]:
        found = re.fullmatch(r"([a-z]+)://[^@/]*@([^/]+).*", line.strip())
        if found:
            yield "git-login", safe_text(found.group(2)), path, machine.digest(b"git", _bytes(line.strip()))
    path = home + b"/.gitconfig"
    for section, pairs in _sections(machine, path):
        if section.startswith("credential") and "helper" in pairs:
            name = section.partition(" ")[2].strip('"') or "all"
            host = re.sub(r"^[a-z]+://(?:[^@/]*@)?", "", name)  # a user, or worse, may stand before the host
            yield (
                "git-helper",
                safe_text(host),
                path,
                machine.digest(b"git-helper", _bytes(name), _bytes(pairs["helper"])),
            )
    path = home + b"/.netrc"
    for machine_name, secret in re.findall(
        r"machine\s+(\S+)((?:\s+(?:login|password|account)\s+\S+)*)", machine.text(path) or ""
    ):
        yield (
            "netrc-login",
            safe_text(machine_name),
            path,
            machine.digest(b"netrc", _bytes(machine_name), _bytes(secret.strip())),
        )


def _ssh(machine: Machine, home: bytes) -> _Found:
    """Private keys by the fingerprint that ``ssh-keygen -l`` shows; one whose public half is nowhere, by digest."""
    for path in machine.match(home + b"/.ssh", b"*"):
        if machine.kind(path) != "file" or path.endswith(b".pub"):
            continue
        data = machine.read(path, 64 << 10) or b""
        if not re.match(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", data):
            continue
        found = _SSH_BLOB.match(machine.read(path + b".pub", 64 << 10) or b"")
        blob = _public_blob(data) if found is None else _decoded(found.group(1))
        fingerprint = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=") if blob else ""
        name = f"SHA256:{fingerprint}" if blob else ""
        yield "ssh-key", name, path, hashlib.sha256(blob).hexdigest() if blob else machine.digest(b"ssh", data)


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _public_blob(data: bytes) -> bytes:
    """The public half of an ``openssh-key-v1`` file, which stands in the clear also where the key is encrypted."""
    raw = _decoded(b"".join(data.split(b"-----")[2].split()))
    if not raw.startswith(b"openssh-key-v1\0"):
        return b""
    at = 15
    for _ in range(3):  # cipher, key derivation, its options
        at += 4 + int.from_bytes(raw[at : at + 4], "big")
    at += 4  # the number of keys
    size = int.from_bytes(raw[at : at + 4], "big")
    return raw[at + 4 : at + 4 + size] if at + 4 + size <= len(raw) else b""


def _packages(machine: Machine, home: bytes) -> _Found:
    path = home + b"/.pypirc"
    for section, pairs in _sections(machine, path):
        if pairs.get("password"):
            yield "pypi-login", safe_text(section), path, _secret(machine, section, pairs["password"])
    path = home + b"/.npmrc"
    for host, token in re.findall(
        r"(?m)^//([^:\s]+?)/?:_(?:authToken|auth|password)\s*=\s*(\S+)", machine.text(path) or ""
    ):
        yield "npm-login", safe_text(host), path, _secret(machine, host, token)


def _one(machine: Machine, kind: str, path: bytes) -> _Found:
    data = machine.read(path) if machine.kind(path) else None
    if data is not None:
        yield kind, "", path, _secret(machine, kind, data.decode("utf-8", "surrogateescape").strip())


def _whole(machine: Machine, home: bytes) -> _Found:
    for kind, path in _WHOLE:
        yield from _one(machine, kind, home + path)


def _dotenv(machine: Machine, folder: bytes) -> _Found:
    """The names of the variables in ``.env`` files; their values go into the ids alone."""
    for path in machine.match(folder, b".env*"):
        if machine.kind(path) != "file":
            continue
        found = (_ASSIGNED.match(line) for line in (machine.text(path, 1 << 20) or "").splitlines()[:_MAX_NAMES])
        for one in found:
            if one:
                value = one.group(2).strip().strip("'\"")
                yield "env-name", safe_text(one.group(1)), path, _secret(machine, one.group(1), value)
