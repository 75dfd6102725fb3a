"""The spool: what sweeps mean as messages, in order, durable, signed, sent again after a crash; changes alone travel.

A message is a file ``NNNNNNNN.json`` with its signature ``NNNNNNNN.sig`` beside it. Message and signature are durable
before the state advances: a crash between the two sends the same again under a new number, and its digest tells.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from safehold.inventory.agent import base
from safehold.inventory.agent.base import (
    CONFIRMATION_FORMAT,
    NAMESPACE,
    REPORT_FORMAT,
    AgentError,
    canonical,
    contents_blocks,
    contents_digest,
    load_json,
)
from safehold.inventory.agent.environment import interpreter

__all__ = ["MAX_WAITING_BYTES", "VERSION", "Spool", "advance", "report"]

VERSION = "2"
MAX_WAITING_BYTES = 1 << 30
"""What one environment's messages may take on disk while they wait."""
_NOWHERE = {"site": "", "system_packages": False, "version": ""}


def report(folder: bytes | None, contents: dict[str, Any], **said: Any) -> dict[str, Any]:
    """A report message; ``said`` are its host, environment, clock, observed (µs) and full. No folder: of the host."""
    said.update(agent={"python": sys.version.split()[0], "version": VERSION}, format=REPORT_FORMAT)
    told = _NOWHERE if folder is None else interpreter(folder)
    return dict(said, contents=contents, interpreter=told, inventory=contents_digest(contents))


def advance(state: dict[str, Any], inventory: str, observed: int, every: int) -> tuple[Any, bool, dict[str, Any]]:
    """What a sweep means: (a confirmation or None, whether to report, the next state). Pure; times in µs.

    A clock that went back starts anew: no interval is claimed across it.
    """
    same = state.get("inventory") == inventory and observed >= state["until"]
    if same:
        gap = max(state["largest_gap"], observed - state["until"])
        state = dict(state, largest_gap=gap, sweeps=state["sweeps"] + 1, until=observed)
    due = state.get("sweeps", 0) > 1 and (not same or observed - state["since"] >= every)
    told = {name: state[name] for name in ("inventory", "largest_gap", "since", "sweeps", "until")} if due else None
    if due or not same:
        state = {"inventory": inventory, "largest_gap": 0, "since": observed, "sweeps": 1, "until": observed}
    return told, not same, state


def _encoded(message: dict[str, Any]) -> bytes | bytearray:
    """The canonical bytes of a message, its contents put in as they were made for their digest."""
    if "contents" not in message:
        return canonical(message)
    mark = b'"contents":'
    head, tail = canonical(dict(message, contents=0)).split(mark + b"0", 1)
    data = bytearray(head + mark)
    for block in contents_blocks(message["contents"]):
        data += block
    return data + tail


class Spool:
    """One environment's messages and state. ``said``: its host, environment and clock; ``limit``: bytes that may wait."""

    def __init__(self, folder: str, said: dict[str, str], key: str | None, limit: int = MAX_WAITING_BYTES) -> None:
        self.folder, self.said, self.key, self.limit = os.path.abspath(folder), said, key, limit
        os.makedirs(self.folder, 0o700, exist_ok=True)
        self._lock = open(self.folder + "/.lock", "ab")  # noqa: SIM115 - it is held for as long as the spool is
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = load_json(self.folder + "/.state")
            known = {"environment", "host", "number", *advance({}, "", 0, 0)[2]} == state.keys()
            self.state: dict[str, Any] = state if known else {}
            self._check_owner()
        except BaseException:
            self._lock.close()
            raise

    def _check_owner(self) -> None:
        for name in ("host", "environment"):
            if self.state.get(name, self.said[name]) != self.said[name]:
                raise AgentError(2, f"{self.folder} belongs to another host or environment: give each its own --spool")

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def record(self, observed: int, inventory: str, every: int, make: Callable[[], dict[str, Any]]) -> int:
        """Write what a sweep means; ``make`` gives the report where one is due. Returns how many messages that were."""
        told, changed, after = advance(self.state, inventory, observed, every)
        messages = [] if told is None else [dict(told, format=CONFIRMATION_FORMAT, **self.said)]
        messages += [make()] if changed else []
        number = max([self.state.get("number", 0), *self.numbers()])
        for message in messages:
            number += 1
            self.send(f"{self.folder}/{number:08d}.json", message)
        # The commit point: a crash before it sends these messages again, under new numbers.
        self.state = dict(after, environment=self.said["environment"], host=self.said["host"], number=number)
        base.write_durable(self.folder + "/.state", canonical(self.state))
        return len(messages)

    def numbers(self) -> list[int]:
        """The numbers of the messages that wait here or were set aside as refused: none of them is given again."""
        names = os.listdir(self.folder)
        if "refused" in names:
            names += os.listdir(self.folder + "/refused")
        return [int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()]

    def check_room(self, size: int) -> None:
        """Raise ``AgentError`` where what waits has no room for so many bytes more: then this moment stays unknown."""
        with os.scandir(self.folder) as entries:
            waiting = sum(one.stat(follow_symlinks=False).st_size for one in entries if one.name.endswith(".json"))
        if waiting + size > self.limit:
            raise AgentError(5, f"the spool is full: {waiting:,} bytes wait for the broker. This moment stays unknown")

    def send(self, path: str, message: dict[str, Any]) -> None:
        """A message as a file; its signature first, so that no reader sees it without one."""
        data = _encoded(message)
        if len(data) > base.MAX_MESSAGE_BYTES:
            raise AgentError(3, "the contents are too large for a message: this environment stays unknown")
        self.check_room(len(data))
        if self.key is not None:
            base.write_durable(path[:-5] + ".sig", _signature(data, self.key))
        base.write_durable(path, data)


def _signature(data: bytes | bytearray, key: str) -> bytes:
    command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", key]
    # No prompt, and no PATH of the caller's: an active environment could bring an ssh-keygen of its own.
    known = {"PATH": os.defpath, "SSH_ASKPASS_REQUIRE": "never", "SSH_AUTH_SOCK": os.getenv("SSH_AUTH_SOCK", "")}
    done = subprocess.run(command, input=data, capture_output=True, env=known, timeout=60, check=False)
    if done.returncode:
        raise AgentError(4, f"ssh-keygen did not sign: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
