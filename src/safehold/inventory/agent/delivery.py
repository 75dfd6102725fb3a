"""From the spool to the broker, in order: what is there goes first, what cannot go now waits on disk.

A message leaves the spool when the broker has answered that it is an entry. No answer, a busy broker, a broken
connection, or an answer that is not the broker's (of a proxy on the way): everything stays and the next round tries
again, so that nothing is lost and the order holds. A message that the broker refuses for good, and one that is torn on
disk, is kept beside the spool as ``refused``, and its environment reports anew and in full. The newest of these are kept
alone: a host whose every report is refused must not fill its disk with them. Plain HTTP is spoken to this machine alone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

from safehold.inventory.agent.base import AgentError, read_bytes

__all__ = ["PATH", "Door", "Post", "deliver"]

PATH = "/v1/inventory"
_TIMEOUT = 30.0
_ANSWER_BYTES = 1 << 20
_LATER = (408, 425, 429)
_UNREGISTERED = "inventory.host_unknown"
_KEPT = 16  # refused messages

Post = Callable[[dict[str, str]], int]
"""Sends one message, returns the status; ``OSError`` where there was no answer of the broker."""


class Door:
    """The broker's HTTP side. ``authority``: a file of certificates to trust instead of the system's."""

    def __init__(self, url: str, authority: str | None = None) -> None:
        import urllib.parse  # late, as all of the network: most runs have none to talk to, and it takes megabytes

        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise AgentError(2, f"{url} is no address of a broker: https://HOST[:PORT]")
        if parts.scheme == "http" and not _is_this_machine(parts.hostname):
            raise AgentError(2, f"{url}: plain http is spoken to this machine alone; use https")
        self._parts, self._authority = parts, authority

    def __call__(self, body: dict[str, str]) -> int:
        """Post one message."""
        import http.client
        import ssl

        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context(cafile=self._authority)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        try:
            data = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", "User-Agent": "safehold-agent"}
            connection.request("POST", self._parts.path.rstrip("/") + PATH, data, headers)
            answer = connection.getresponse()
            told = answer.read(_ANSWER_BYTES)
            if not 200 <= answer.status < 300 and _code(told) in ("", _UNREGISTERED):
                unknown = "the broker does not know this host yet: register it, and what waits here is taken"
                raise OSError(unknown if _code(told) else f"the answer {answer.status} is not of a broker")
            return answer.status
        except http.client.HTTPException as error:
            raise OSError(f"the broker gave no HTTP answer: {error!r}") from error
        finally:
            connection.close()


def _code(told: bytes) -> str:
    """The code of a broker's problem document (RFC 9457); empty for anything else, which then says nothing of a message."""
    try:
        plain = json.loads(told)
        return str(plain["code"]) if isinstance(plain, dict) else ""
    except (ValueError, KeyError, RecursionError):
        return ""


def _is_this_machine(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def deliver(folder: str, host: str, post: Post) -> dict[str, Any]:
    """Send what waits in one spool, in order. Returns counts: ``sent``, ``waiting``, ``refused``, and why it stopped."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".json") and name[:-5].isdigit())
    told: dict[str, Any] = {"sent": 0, "waiting": len(names), "refused": 0, "why": ""}
    for name in names:
        body = _body(folder, name, host)
        if body is None:
            told["refused"] += 1
            told["waiting"] -= 1
            told["why"] = f"{name} is torn; it is kept in {folder}/refused"
            _set_aside(folder, name)
            continue
        try:
            status = post(body)
        except OSError as error:
            return dict(told, why=str(error))
        if not 200 <= status < 300 and (status >= 500 or status in _LATER):
            return dict(told, why=f"the broker answers {status}")
        told["waiting"] -= 1
        if status < 300:
            told["sent"] += 1
            os.unlink(folder + "/" + name)  # first: a message without its signature would be taken for a torn one
            _unlink(folder + "/" + name[:-5] + ".sig")
        else:
            told["refused"] += 1
            told["why"] = f"the broker refuses {name} ({status}); it is kept in {folder}/refused"
            _set_aside(folder, name)
    return told


def _body(folder: str, name: str, host: str) -> dict[str, str] | None:
    """What to post for a message; None where message or signature are not as they were written (a torn disk)."""
    try:
        message = read_bytes(os.fsencode(folder + "/" + name), 1 << 28).decode()
        signature = read_bytes(os.fsencode(folder + "/" + name[:-5] + ".sig"), 1 << 16).decode()
        json.loads(message)
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return {"host": host, "message": message, "signature": signature} if signature else None


def _set_aside(folder: str, name: str) -> None:
    """Keep a refused message; without a state the next round reports anew, so that nothing rests on what was refused."""
    aside = folder + "/refused"
    os.makedirs(aside, 0o700, exist_ok=True)
    for one in (name, name[:-5] + ".sig", ".state"):
        if os.path.exists(folder + "/" + one):
            os.replace(folder + "/" + one, aside + "/" + one)
    kept = sorted(one for one in os.listdir(aside) if one.endswith(".json"))
    for one in kept[:-_KEPT]:
        _unlink(aside + "/" + one)
        _unlink(aside + "/" + one[:-5] + ".sig")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
