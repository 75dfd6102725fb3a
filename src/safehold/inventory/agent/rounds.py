"""Rounds: every environment of a host and the host itself, once; and again every minute.

A round looks at each environment (stat), sweeps what changed, writes messages into spools of their own below one folder,
and delivers what waits. Between two rounds a glance a second at lists and hooks: a change there starts a round at once,
so what comes and goes within the minute is seen in most cases. One environment that fails does not stop the others: it
is told on stderr, and stays unknown.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from safehold.inventory.agent import base
from safehold.inventory.agent.base import HOST_ENVIRONMENT, AgentError, canonical, contents_digest, read_bytes, shown
from safehold.inventory.agent.delivery import Post, deliver
from safehold.inventory.agent.environment import find_site, glance, look, sweep
from safehold.inventory.agent.host import HostWish, sweep_host
from safehold.inventory.agent.machine import Machine
from safehold.inventory.agent.memory import HASHES, Memory
from safehold.inventory.agent.places import Place, find_places, place_name
from safehold.inventory.agent.site import Wish
from safehold.inventory.agent.spool import MAX_WAITING_BYTES, Spool, report

__all__ = ["RoundWish", "Rounds", "record_environment"]

_FAILURES = (AgentError, OSError, ValueError, subprocess.SubprocessError)


class RoundWish(NamedTuple):
    """What a round does. ``environments`` none: find them all. ``confirm_every`` is in µs."""

    host: str
    spool: str
    key: str | None = None
    environments: tuple[bytes, ...] = ()
    roots: tuple[bytes, ...] = ()
    host_wish: HostWish = HostWish()
    root: bytes = b""
    confirm_every: int = 600_000_000
    wish: Wish = Wish()
    spool_limit: int = MAX_WAITING_BYTES


def record_environment(spool: Spool, site: bytes, observed: int, every: int, how: tuple[Wish, bool]) -> int:
    """Look, or else sweep, one environment into its spool; ``how``: the wish, and whether to hash everything again."""
    wish, full = how
    looking = Memory() if full else Memory.load_look(spool.folder)
    known = None if looking.pending and wish.code else look(site, looking)
    if known is not None and spool.state.get("inventory") == known:
        return spool.record(observed, known, every, dict)
    memory = Memory.load(spool.folder)
    if full:
        memory.distrust()
    fresh = not memory.known[HASHES]
    contents = [sweep(site, memory, wish)]
    said = dict(spool.said, full=fresh, observed=observed)
    written = spool.record(observed, memory.inventory, every, lambda: report(site, contents.pop(), **said))
    contents.clear()  # tens of megabytes, before as many are needed for what follows
    memory.save(spool.folder)
    return written


class Rounds:
    """The rounds of one host. ``clock`` gives µs UTC."""

    def __init__(self, wish: RoundWish, clock: Callable[[], int], post: Post | None = None) -> None:
        self.wish, self.clock, self.post = wish, clock, post
        self.folder = os.path.abspath(wish.spool)
        os.makedirs(self.folder, 0o700, exist_ok=True)
        self.machine_key = _machine_key(self.folder + "/.key")
        self.failed = 0
        self.found: list[Place] = []
        self.seen: dict[bytes, dict[str, Any]] = {}

    def places(self, machine: Machine) -> list[Place]:
        """The environments of this round."""
        if not self.wish.environments:
            return find_places(machine, self.wish.roots)
        sites, gone = list[bytes](), list[AgentError]()
        for folder in self.wish.environments:
            try:
                sites.append(find_site(folder)[1])
            except AgentError as error:
                gone.append(error)
                print(f"agent: {shown(folder)} is unknown: {error.args[1]}", file=sys.stderr)
        if gone and not sites:
            raise gone[0]
        self.failed += len(gone)
        return [Place(place_name(site), "named", site) for site in sites]

    def once(self, full: bool = False) -> dict[str, int]:
        """One round. Returns how many environments were swept, failed, and how many messages were written and sent."""
        machine, written, self.failed = Machine(self.wish.root, self.machine_key), 0, 0
        places = self.found = self.places(machine)
        for place in places:
            with self._told(place.name), self._spool(place.name) as spool:
                how = (self.wish.wish, full)
                written += record_environment(spool, self._site(place), self.clock(), self.wish.confirm_every, how)
        with self._told(HOST_ENVIRONMENT), self._spool(HOST_ENVIRONMENT) as spool:
            written += self._host(spool, machine, places)
        told = {"environments": len(places), "failed": self.failed, "sent": 0, "waiting": 0, "written": written}
        if self.post:
            self._deliver(self.post, told)
        return dict(told, failed=self.failed)

    def _deliver(self, post: Post, told: dict[str, int]) -> None:
        """Send what waits in every spool; one that cannot be read stops no other."""
        for name in sorted(os.listdir(self.folder)):
            if os.path.isdir(self.folder + "/" + name):
                with self._told(name):
                    counts = deliver(self.folder + "/" + name, self.wish.host, post)
                    told["sent"] += counts["sent"]
                    told["waiting"] += counts["waiting"]
                    if counts["why"]:
                        print(f"agent: {name}: {counts['why']}", file=sys.stderr)

    def _host(self, spool: Spool, machine: Machine, places: list[Place]) -> int:
        contents = sweep_host(machine, places, self.wish.host_wish)
        observed, digest = self.clock(), contents_digest(contents)
        said = dict(spool.said, full=True, observed=observed)
        return spool.record(observed, digest, self.wish.confirm_every, lambda: report(None, contents, **said))

    def _site(self, place: Place) -> bytes:
        return place.site if self.wish.environments else self.wish.root + place.site

    def _spool(self, name: str) -> Spool:
        said = {"clock": "system", "environment": name, "host": self.wish.host}
        return Spool(self.folder + "/" + name, said, self.wish.key, self.wish.spool_limit)

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            self.failed += 1
            text = error.args[1] if isinstance(error, AgentError) else error
            print(f"agent: {name} is unknown: {text}", file=sys.stderr)

    def glimpse(self) -> bytes:
        """A digest of all lists and hooks, and of nothing else: when it changes, a round is due."""
        digest = hashlib.sha256()
        for place in self.found:
            try:
                digest.update(canonical(glance(self._site(place), self.seen.setdefault(place.site, {}))))
            except _FAILURES as error:
                digest.update(shown(str(error).encode("utf-8", "surrogatepass")).encode())
        return digest.digest()

    def run(self, every: float, full_every: float, glance_every: float, stopped: Callable[[float], bool]) -> None:
        """Rounds until ``stopped`` (which waits so many seconds and says whether to end) says so."""
        full_at = time.monotonic() + full_every
        while True:
            begin = time.monotonic()
            full = begin >= full_at
            full_at = begin + full_every if full else full_at
            told: dict[str, Any] = self.once(full)
            print(canonical(told).decode(), flush=True)
            before = self.glimpse() if glance_every else b""
            while (left := begin + every - time.monotonic()) > 0:
                if stopped(min(left, glance_every or left)):
                    return
                if glance_every and self.glimpse() != before:
                    break
            else:
                if stopped(0):
                    return


def _machine_key(path: str) -> bytes:
    """The key of digests: made once, 32 random bytes, readable by this user alone. Copy it to join ids across hosts."""
    try:
        key = read_bytes(os.fsencode(path), 64)
    except FileNotFoundError:
        key = os.urandom(32)
        base.write_durable(path, key)
    if len(key) < 32:
        raise AgentError(2, f"{path} holds no key of 32 bytes: remove it")
    return key
