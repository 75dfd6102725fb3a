"""The demo's world: a home with a replayed clock, four hosts with real folders, and the acts of its people.

Every act goes through the same public calls that the other verbs make. The clock is the only thing that is not real:
it stands where the story is and moves on by a millisecond whenever it is read.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from safehold.assembly.delivery import Delivered, Delivery, DeliveryOrder
from safehold.broker.client import KeyOrder
from safehold.broker.issue import GrantOrder, IssuedGrant, issue_grant
from safehold.cli.context import Home, HomeFactory
from safehold.cli.demo import replay
from safehold.cli.demo.environments import Installed, make_environment
from safehold.cli.output import iso_time
from safehold.inventory.agent_file import write_agent
from safehold.inventory.sweeps import take_spool
from safehold.model.errors import InputInvalid, Refused
from safehold.model.ids import DatasetId, GroupName, HostId, Purpose, parse_group_name, party_of
from safehold.model.statements import SubjectCount
from safehold.readers import Opening, open_with_broker
from safehold.state.standing import resolve_release
from safehold.vault.output import Written, write_records
from safehold.vault.sources import open_source

__all__ = ["Clock", "DemoHost", "World", "moment"]

_MICROSECONDS: Final = 1_000_000
_QUIET_EVERY: Final = 3600
_BUSY_EVERY: Final = 1200
_TRAINING: Final = Purpose("training")


def moment(text: str) -> int:
    """RFC 3339 as µs UTC."""
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * _MICROSECONDS


class Clock:
    """The story's time in µs UTC: set by the story, one millisecond further at each reading."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self) -> int:
        """The time, moved on by a millisecond."""
        self.at += 1000
        return self.at


class DemoHost(msgspec.Struct):
    """A host of the story: its folder, how far it was swept, and when its agent did not run."""

    host: HostId
    folder: Path
    swept: int
    last_sweep: int = 0
    silent: tuple[int, int] | None = None


_PEOPLE: Final = (
    SubjectCount(category="writer", jurisdiction="DE", count=14),
    SubjectCount(category="checker", jurisdiction="FR", count=3),
)
"""Who wrote and checked the demo's records, as a supplier would count them."""


class World:
    """The home, the hosts, and what can be done there."""

    def __init__(
        self, factory: HomeFactory, folder: Path, clock: Clock, passphrase: str, busy: tuple[int, int]
    ) -> None:
        self.folder = folder
        self.clock = clock
        self._passphrase = passphrase
        self._busy = busy
        self.home: Home = factory.create(folder / "home", "north-lab.example/custody", passphrase, clock)
        self.delivery = Delivery(self.home.log, self.home.release_folder, clock, self.home.registry.by)
        self.keys = self.home.part_keys(self.passphrase)
        self.broker = self.home.broker(self.passphrase)
        self.agent = write_agent(folder / "agent.pyz")
        self.hosts: dict[HostId, DemoHost] = {}
        self.sweeps = 0

    def passphrase(self) -> str:
        """What opens the key-encryption key."""
        return self._passphrase

    def go_to(self, text: str) -> None:
        """Move the clock forward and let all agents catch up."""
        at = moment(text)
        if at < self.clock.at:
            raise InputInvalid("cli.demo_clock", f"the story's clock cannot go back to {text}")
        self.clock.at = at
        self._catch_up(*self.hosts.values())

    def add_host(self, host: HostId, distributions: tuple[Installed, ...]) -> DemoHost:
        """Register a host with a key of its own, make its environment, and let it report for the first time."""
        folder = make_environment(self.folder / "hosts" / host / "env", distributions)
        key = self.home.new_host_key(host)
        self.home.registry.add_host(host, key.public, _QUIET_EVERY)
        made = DemoHost(host, folder, self.clock.at - 1)
        self.hosts[host] = made
        self._catch_up(made)
        return made

    def _catch_up(self, *hosts: DemoHost) -> None:
        """Run the agents for every sweep since the last, ending now, side by side; then take in what they wrote."""
        with ThreadPoolExecutor(len(hosts) or 1) as pool:
            self.sweeps += sum(pool.map(self._sweep, hosts))
        for host in hosts:
            take_spool(self.home.intake, host.host, self._spool(host), self.home.host_key(host.host), remove=True)

    def _spool(self, host: DemoHost) -> Path:
        return self.folder / "hosts" / host.host / "spool"

    def _sweep(self, host: DemoHost) -> int:
        """The sweeps of one host, by a process of its own; returns how many."""
        now = self.clock.at
        times = [at for at in self._sweep_times(host.swept, now) if not _within(at, host.silent)]
        last_sweep, host.swept = host.last_sweep, now
        host.last_sweep = times[-1] if times else last_sweep
        if not times:
            return 0
        command = [sys.executable, "-I", "-S", replay.__file__, str(self.agent), _with_marks(times, last_sweep)]
        command += [str(host.folder), "--host", host.host, "--name", "main", "--spool", str(self._spool(host))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise InputInvalid("cli.demo_agent", f"the agent on {host.host} stopped: {done.stderr.strip()[-300:]}")
        return len(times)

    def _sweep_times(self, after: int, now: int) -> list[int]:
        times: list[int] = []
        at = after
        while True:
            every = _BUSY_EVERY if _within(at, self._busy) else _QUIET_EVERY
            at = (at // (every * _MICROSECONDS) + 1) * every * _MICROSECONDS
            if at >= now:
                return [*times, now // _MICROSECONDS * _MICROSECONDS]
            times.append(at)

    def seal(self, records: Path, dataset: DatasetId, host: HostId) -> Delivered:
        """A supplier seals a file as the next release; the lab countersigns what it takes in."""
        source = open_source(records)
        names = [column.name for column in source.columns]
        groups: dict[str, list[str]] | None = (
            {_group(name): [name] for name in names} if len({_group(name) for name in names}) == len(names) else None
        )
        order = DeliveryOrder(
            dataset=dataset, groups=groups, host=host, purposes=(_TRAINING,), again=True, people=_PEOPLE
        )
        signer = self.home.party_key(party_of(dataset))
        return self.delivery.deliver(source, order, self.keys, signer, customer_key=self.home.party_key)

    def grant(
        self, host: HostId, dataset: DatasetId, groups: tuple[GroupName, ...], begin: str, until: str
    ) -> IssuedGrant:
        """The lab grants a host to open a dataset for training."""
        order = GrantOrder(
            party=party_of(host),
            host=host,
            dataset=dataset,
            groups=groups,
            purposes=[_TRAINING],
            not_before=moment(begin),
            until=moment(until),
        )
        return issue_grant(self.home.log, self.home.grant_key(), order, self.clock, self.home.registry.by)

    def open(self, release: str, host: HostId, grant: IssuedGrant) -> Opening:
        """A host opens a release with keys from the broker. Raises ``Refused`` with the entry of the refusal."""
        with self.home.log.view() as view:
            row = resolve_release(view, release)
        order = KeyOrder(
            release=row.release, groups=row.groups, purpose=_TRAINING, host=host, member=None, grant=grant.token
        )
        folder = self.home.release_folder(row.dataset, row.version)
        return open_with_broker(folder, order, self.broker, self.home.host_key(host), self.clock)

    def write_opened(self, opening: Opening, name: str) -> Written:
        """Write an opened release to a file, in the form it came in."""
        path = self.folder / "opened" / name
        path.parent.mkdir(exist_ok=True)
        form = opening.opened.manifest.sources[0].format
        return write_records(
            opening.opened, path, "csv" if form == "csv" else "parquet" if form == "parquet" else "jsonl"
        )

    def refused(self, release: str, host: HostId, grant: IssuedGrant) -> Refused:
        """A host asks and is refused; anything else is a fault of the story."""
        try:
            self.open(release, host, grant)
        except Refused as error:
            return error
        raise InputInvalid("cli.demo_story", f"{host} was given the keys of {release}, and should not have been")


def _group(column: str) -> GroupName:
    """A column group named after its column."""
    plain = "".join(character if character.isalnum() else "-" for character in column.lower() if character.isascii())
    return parse_group_name(plain.strip("-")[:40].strip("-") or "data")


def _with_marks(times: list[int], before: int) -> str:
    """Moments for ``replay``, confirmed at the end and on both sides of a silence: so it is not spread over its hours."""
    marked = []
    for place, at in enumerate(times):
        earlier = times[place - 1] if place else before
        later = times[place + 1] if place + 1 < len(times) else None
        quiet = 2 * _QUIET_EVERY * _MICROSECONDS
        confirm = later is None or later - at > quiet or (earlier and at - earlier > quiet)
        marked.append(iso_time(at) + ("!" if confirm else ""))
    return ",".join(marked)


def _within(at: int, span: tuple[int, int] | None) -> bool:
    return span is not None and span[0] <= at < span[1]
