"""A busy day of 500 hosts, replayed: inventories, full proofs, leases, holds, an advisory, with a clock that runs ahead.

Run: ``python bench/busy_day.py [--hosts 500] [--hours 24]``. Each host confirms its inventory every 20 minutes and opens a
release every half hour; every tenth host works by a lease and asks every ten minutes; once an hour a host is suspended and
lifted again; at noon an advisory names what five hosts hold, and they are refused until they report again. Requests that
fall together go in one call, as the served broker sends them. Shown: entries, answers and refusals, the memory of the
process after each quarter of the day, and the rate. At the end each answer's entry is looked up, ``fsck``'s rule of order
runs over the whole ledger, and memory must not have grown between the second and the last quarter beyond what the caps of
the caches allow.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from safehold.broker.client import KeyOrder
from safehold.broker.lease_client import Lease, open_lease
from safehold.broker.proof import sign_request
from safehold.broker.request import KeyRequest, LeaseWish, SealedKeys, format_request
from safehold.broker.sealing import ReaderKey
from safehold.ledger.keys import SigningKey
from safehold.ledger.storage import Entry
from safehold.model.errors import Refused
from safehold.model.ids import HostId, parse_subject, sha256_digest
from safehold.model.statements import InventoryConfirmed, KeyRefused, KeyReleased, decode
from safehold.state.invariants import check_order
from tests.broker_kit import CLEAN, GROUPS, NOW, SECOND, World, make_world, new_request

__all__ = ["Day", "main"]

MINUTE = 60 * SECOND
MAX_GROWTH_MIB = 64
BAD = b'{"distributions":[{"name":"litellm","version":"1.82.8"}]}'


class Day:
    """The fleet and its day."""

    def __init__(self, world: World, hosts: int, seed: int = 1) -> None:
        self.world = world
        self.random = random.Random(seed)  # noqa: S311 - which host is suspended, and nothing secret
        self.hosts = [HostId(f"quill-works/host-{number}") for number in range(hosts)]
        self.keys = {host: SigningKey.generate() for host in self.hosts}
        self.reader = ReaderKey().public  # one for all: making readers is the clients' work, and not measured
        self.leases: dict[HostId, Lease] = {}
        self.answered: list[int] = []
        self.refused: list[int] = []
        for host in self.hosts:
            world.registry.add_host(host, self.keys[host].public, 60)
            world.report(host)

    def minute(self, number: int) -> None:
        """One minute of the day."""
        world = self.world
        world.now = NOW + number * MINUTE
        self._confirm([host for at, host in enumerate(self.hosts) if at % 20 == number % 20])
        asking = [host for at, host in enumerate(self.hosts) if at % 10 and at % 30 == number % 30]
        self._ask(asking)
        for at, host in enumerate(self.hosts):
            if at % 10 == 0 and at // 10 % 10 == number % 10:
                self._ask_by_lease(host)
        if number % 60 == 30:
            host = self.random.choice(self.hosts)
            world.hold(f"host:{host}")
            self._ask([host])
            world.containment.lift(parse_subject(f"host:{host}"), "a false alarm", despite_findings=True)
        if number == 720:
            held = {world.report(host, contents=BAD) for host in self.hosts[:5]}
            for inventory in held:
                world.advise(inventory)
            self._ask(self.hosts[:5])
            for host in self.hosts[:5]:
                world.report(host)

    def _confirm(self, hosts: list[HostId]) -> None:
        world = self.world
        if hosts:
            world.log.append_statements(
                *[
                    InventoryConfirmed(
                        t=world.now, by=world.by, host=host, environment="main", inventory=sha256_digest(CLEAN),
                        report=sha256_digest(f"{host}{world.now}".encode()), since=world.now - 20 * MINUTE,
                        until=world.now, sweeps=20, largest_gap=MINUTE,
                    )
                    for host in hosts
                ]
            )  # fmt: skip

    def _ask(self, hosts: list[HostId]) -> None:
        asks = [self._request(host) for host in hosts]
        for begin in range(0, len(asks), 64):
            for outcome in self.world.broker.release_many(asks[begin : begin + 64]):
                self._note(outcome)

    def _note(self, outcome: Any) -> None:
        if isinstance(outcome, SealedKeys):
            self.answered.append(outcome.entry)
        elif isinstance(outcome, Refused) and outcome.entry is not None:
            self.refused.append(outcome.entry)
        else:
            raise AssertionError(f"neither answered nor refused with an entry: {outcome}")

    def _request(self, host: HostId) -> tuple[bytes, Any]:
        world, key = self.world, self.keys[host]
        request = KeyRequest(
            request=new_request(), release=world.release, groups=GROUPS, purpose="training", member=None, host=host,
            host_key=key.key_id, grant=world.grant.token, reader=self.reader,
        )  # fmt: skip
        body = format_request(request)
        return body, sign_request(body, request.request, world.now // SECOND, key)

    def _ask_by_lease(self, host: HostId) -> None:
        world = self.world
        try:
            if host not in self.leases or self.leases[host].until <= world.now:
                order = KeyOrder(
                    release=world.release, groups=GROUPS, purpose="training", host=host, member=None,
                    grant=world.grant.token,
                )  # fmt: skip
                self.leases[host] = open_lease(world.broker, order, self.keys[host], world.clock, LeaseWish(300, 1000))
            for _ in range(3):
                self.answered.append(self.leases[host].request_keys(world.release, GROUPS).entry)
        except Refused as error:
            self.refused.append(error.entry or -1)
            self.leases.pop(host, None)

    def check(self) -> int:
        """Each answer and each refusal has its entry, and the order holds; returns the number of entries."""
        with self.world.log.view() as view:
            size = view.size()
            entries = (
                Entry(begin + at, body, decode(body))
                for begin in range(0, size, 4096)
                for at, body in enumerate(view.bodies(begin, min(begin + 4096, size)))
            )
            kept = list(entries)
        released = [entry.index for entry in kept if isinstance(entry.statement, KeyReleased)]
        refused = [entry.index for entry in kept if isinstance(entry.statement, KeyRefused)]
        assert released == sorted(self.answered), "each answer has one entry, and no other key was released"
        assert refused == sorted(self.refused), "each refusal has one entry"
        problems = check_order(kept)
        assert not problems, problems[:3]
        return size


def resident_mib() -> float:
    """Memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Replay, show, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--hours", type=int, default=24)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="safehold-day-") as folder:
        world = make_world(Path(folder))
        world.grant = world.issue(until=NOW + 48 * 60 * MINUTE)
        day, minutes, start = Day(world, arguments.hosts), arguments.hours * 60, time.perf_counter()
        quarters = []
        for number in range(minutes):
            day.minute(number)
            if (number + 1) % max(1, minutes // 4) == 0:
                quarters.append(resident_mib())
                print(
                    f"  hour {(number + 1) / 60:5.1f}: {len(day.answered):7,} answered, {len(day.refused):5,} refused,"
                    f" {quarters[-1]:6.1f} MiB, {time.perf_counter() - start:5.0f} s",
                    flush=True,
                )
        taken = time.perf_counter() - start
        size = day.check()
        world.close()
    growth = quarters[-1] - quarters[min(1, len(quarters) - 1)]
    print(
        f"{arguments.hours} h of {arguments.hosts} hosts in {taken:.0f} s: {size:,} entries, {len(day.answered):,} answers and"
        f" {len(day.refused):,} refusals, each with its entry; memory grew by {growth:.1f} MiB in the second half"
    )
    assert growth < MAX_GROWTH_MIB, "memory grew beyond the caps"


if __name__ == "__main__":
    main()
