"""From the spool to the broker, in order: what is there goes first, what cannot go now waits on disk.

A message leaves the spool when the broker has answered that it is an entry. No answer, a busy broker or a broken
connection: everything stays and the next round tries again, so that nothing is lost and the order holds. A message that
the broker refuses for good is kept beside the spool as ``refused``, and its environment reports anew and in full.
Plain HTTP is spoken to this machine alone.
"""

from __future__ import annotations

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
_UNREGISTERED = b"inventory.host_unknown"

Post = Callable[[dict[str, str]], int]
"""Sends one message, returns the status; ``OSError`` where there was no answer."""


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
            if answer.status == 404 and _UNREGISTERED in told:
                raise OSError("the broker does not know this host yet: register it, and what waits here is taken")
            return answer.status
        except http.client.HTTPException as error:
            raise OSError(f"the broker gave no HTTP answer: {error!r}") from error
        finally:
            connection.close()


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
        message, signature = folder + "/" + name, folder + "/" + name[:-5] + ".sig"
        body = {
            "host": host,
            "message": read_bytes(os.fsencode(message), 1 << 28).decode(),
            "signature": read_bytes(os.fsencode(signature), 1 << 16).decode(),
        }
        try:
            status = post(body)
        except OSError as error:
            return dict(told, why=str(error))
        if not 200 <= status < 300 and (status >= 500 or status in _LATER):
            return dict(told, why=f"the broker answers {status}")
        told["waiting"] -= 1
        if status < 300:
            told["sent"] += 1
            os.unlink(message)
            os.unlink(signature)
        else:
            told["refused"] += 1
            told["why"] = f"the broker refuses {name} ({status}); it is kept in {folder}/refused"
            _set_aside(folder, name)
    return told


def _set_aside(folder: str, name: str) -> None:
    """Keep a refused message; without a state the next round reports anew, so that nothing rests on what was refused."""
    os.makedirs(folder + "/refused", 0o700, exist_ok=True)
    for one in (name, name[:-5] + ".sig"):
        os.replace(folder + "/" + one, folder + "/refused/" + one)
    state = folder + "/.state"
    if os.path.exists(state):
        os.replace(state, folder + "/refused/.state")
