"""What an incident concerns now: the hosts that were named by a finding or are silent, and what they could still reach.

Reads projections on one view and decides nothing. A host is *concerned* when an inventory of its, old or new, holds
what an advisory of the incident names, or when it has not reported for so long that nobody can say (``silent``).
A pair of host and dataset is *open* while a grant that is alive would let the host ask for keys, and no hold stands
in between: that is what a response can end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from safehold.ledger.storage import View
from safehold.model.errors import NotFound
from safehold.model.ids import DatasetId, GrantId, HostId, PartyId, Subject, party_of
from safehold.state.incidents import find_incident
from safehold.state.standing import active_holds, list_grants, list_hosts, read_inventories

__all__ = ["Concern", "HostConcern", "Lease", "OpenPair", "Stake", "held_by", "load_concern"]

_SILENT_SWEEPS: Final = 3
"""A host is silent when this many sweeps in a row are missing: one late sweep is no alarm."""


class HostConcern(msgspec.Struct, frozen=True, kw_only=True):
    """A host and why it is concerned: what it holds now, whether it ever did, since when it is silent (µs UTC)."""

    host: HostId
    party: PartyId
    holding: tuple[str, ...]
    touched: bool
    silent_since: int | None
    credentials: tuple[str, ...] = ()

    @property
    def concerned(self) -> bool:
        """Whether a response has to speak of it."""
        return bool(self.holding) or self.touched or self.silent_since is not None


class OpenPair(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` may ask for keys of ``dataset`` by ``grant`` until ``until`` (µs UTC)."""

    host: HostId
    dataset: DatasetId
    grant: GrantId
    until: int


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that are out: who holds them until when (µs UTC), and the entry of their release."""

    host: HostId
    dataset: DatasetId
    grant: GrantId
    until: int
    entry: int


class Stake(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset with what hangs on it: its makers and customer, its releases, the runs and models that used it."""

    dataset: DatasetId
    customer: PartyId
    releases: int
    runs: tuple[str, ...]
    models: tuple[str, ...]


class Concern(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a response is weighed on, as of ``now`` (µs UTC) and the first ``size`` entries."""

    incident: tuple[str, ...]
    now: int
    size: int
    hosts: tuple[HostConcern, ...]
    pairs: tuple[OpenPair, ...]
    leases: tuple[Lease, ...]
    stakes: tuple[Stake, ...]
    suppliers: tuple[PartyId, ...]
    holds: tuple[Subject, ...]

    @property
    def concerned(self) -> tuple[HostConcern, ...]:
        """The hosts that the incident concerns."""
        return tuple(host for host in self.hosts if host.concerned)

    @property
    def parties(self) -> tuple[PartyId, ...]:
        """The suppliers of those hosts. A lab cannot suspend itself: of its own hosts, those concerned are held."""
        return tuple(sorted({host.party for host in self.concerned if host.party in self.suppliers}))


def load_concern(view: View, advisory: str, now: int) -> Concern:
    """Read it. Raises ``NotFound`` (``containment.no_advisory``) for an advisory that no entry names."""
    incident = find_incident(view, advisory)
    if not incident:
        raise NotFound(
            "containment.no_advisory", f"no advisory {advisory} is known here", "see: safehold advisory list"
        )
    holds = tuple(hold.subject for hold in active_holds(view))
    hosts = tuple(_host(view, row.host, row.party, row.expected_every, incident, now) for row in list_hosts(view))
    return Concern(
        incident=incident,
        now=now,
        size=view.size(),
        hosts=hosts,
        pairs=tuple(_pairs(view, hosts, holds, now)),
        leases=_leases(view, now),
        stakes=_stakes(view),
        suppliers=tuple(row[0] for row in view.rows("SELECT party FROM party WHERE role = 'supplier' ORDER BY party")),
        holds=holds,
    )


def held_by(subjects: Iterable[Subject], host: HostId, dataset: DatasetId, grant: GrantId) -> bool:
    """Whether a hold on one of ``subjects`` refuses keys of ``dataset`` to ``host`` by ``grant``.

    As the broker decides: a party's hold stops its hosts, and its data in everybody's hands.
    """
    stopped = {
        Subject("host", host),
        Subject("dataset", dataset),
        Subject("grant", grant),
        Subject("party", party_of(host)),
        Subject("party", party_of(dataset)),
    }
    return not stopped.isdisjoint(subjects)


def _host(view: View, host: HostId, party: PartyId, every: int, incident: tuple[str, ...], now: int) -> HostConcern:
    inventories = read_inventories(view, host)
    holding = sorted(
        {finding.what for seen in inventories for finding in seen.findings if finding.advisory in incident}
    )
    last = [min(seen.until, seen.t) for seen in inventories]
    since = view.rows("SELECT t FROM host WHERE host = ?", host)[0][0] if not last else min(last)
    silent = now - since > _SILENT_SWEEPS * every * 1_000_000
    marks = ", ".join("?" * len(incident))
    touched = view.rows(
        "SELECT 1 FROM observation o JOIN finding f ON f.inventory = o.inventory"
        f" WHERE o.host = ? AND f.advisory IN ({marks}) AND f.document IN (SELECT a.document FROM advisory a"
        " WHERE a.advisory = f.advisory AND a.withdrawn = 0"
        " AND a.idx = (SELECT max(b.idx) FROM advisory b WHERE b.advisory = a.advisory)) LIMIT 1",
        host,
        *incident,
    )
    reach = view.rows(
        "SELECT i.name FROM item i JOIN observation o ON o.inventory = i.inventory"
        " WHERE o.host = ?1 AND i.kind = 'credential' UNION"
        " SELECT credential FROM credential_note WHERE host = ?1 AND act = 'reach' ORDER BY 1 LIMIT 200",
        host,
    )
    return HostConcern(
        host=host,
        party=party,
        holding=tuple(holding),
        touched=bool(touched),
        silent_since=since if silent else None,
        credentials=tuple(row[0] for row in reach),
    )


def _pairs(view: View, hosts: tuple[HostConcern, ...], holds: tuple[Subject, ...], now: int) -> Iterable[OpenPair]:
    for grant in list_grants(view):
        if grant.until <= now:
            continue
        for host in hosts:
            allowed = grant.host == host.host or (grant.host is None and grant.party == host.party)
            if allowed and not held_by(holds, host.host, grant.dataset, grant.grant):
                yield OpenPair(host=host.host, dataset=grant.dataset, grant=grant.grant, until=grant.until)


def _leases(view: View, now: int) -> tuple[Lease, ...]:
    rows = view.rows('SELECT host, dataset, "grant", until, idx FROM key_release WHERE until > ? ORDER BY idx', now)
    return tuple(Lease(host=row[0], dataset=row[1], grant=row[2], until=row[3], entry=row[4]) for row in rows)


def _stakes(view: View) -> tuple[Stake, ...]:
    stakes = []
    for dataset, customer in view.rows("SELECT dataset, customer FROM dataset ORDER BY dataset"):
        releases = view.rows("SELECT count(*) FROM release WHERE dataset = ?", dataset)[0][0]
        runs = view.rows(
            "SELECT DISTINCT u.run FROM run_release u JOIN release r ON r.release = u.release"
            " WHERE r.dataset = ? ORDER BY u.run",
            dataset,
        )
        models = view.rows(
            "SELECT DISTINCT m.model FROM model_run m JOIN run_release u ON u.run = m.run"
            " JOIN release r ON r.release = u.release WHERE r.dataset = ? ORDER BY m.model",
            dataset,
        )
        stakes.append(
            Stake(
                dataset=dataset,
                customer=customer,
                releases=releases,
                runs=tuple(row[0] for row in runs),
                models=tuple(row[0] for row in models),
            )
        )
    return tuple(stakes)
