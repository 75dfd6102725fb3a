"""Standing: what is true of a party, host, grant or release *now*, as values that a decision can be made on.

Reads projections, decides nothing. The broker calls this inside the transaction that appends its answer; what it
reads is then exactly the state before that answer, and no hold can slip in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from safehold.ledger.storage import View
from safehold.model.errors import NotFound
from safehold.model.ids import (
    DatasetId,
    Digest,
    GrantId,
    GroupName,
    HoldId,
    HostId,
    PartyId,
    Purpose,
    RequestId,
    Subject,
    SubjectKind,
    parse_release_name,
)

__all__ = [
    "AdoptedRow",
    "CurrentFinding",
    "CurrentInventory",
    "GrantRow",
    "HoldRow",
    "HostRow",
    "RekeyedRow",
    "ReleaseRow",
    "active_holds",
    "erased_at",
    "find_dataset_party",
    "find_grant",
    "find_host",
    "find_party_key",
    "find_rekeyed",
    "find_release",
    "list_adopted",
    "list_grants",
    "list_hosts",
    "list_releases",
    "read_inventories",
    "readable_as",
    "release_stores",
    "request_used",
    "requests_used",
    "resolve_release",
]


class HostRow(msgspec.Struct, frozen=True):
    """A registered host: its party, its OpenSSH public key, seconds between its sweeps."""

    host: HostId
    party: PartyId
    key: str
    expected_every: int


class ReleaseRow(msgspec.Struct, frozen=True):
    """A sealed release and the entry that says so (``idx``); ``retired``: the entry that ended it, or None.

    ``rekeyed_as``: the version that holds the same records under new keys, or None.
    """

    release: Digest
    dataset: DatasetId
    version: int
    party: PartyId
    rows: int
    size: int
    parts: int
    groups: tuple[GroupName, ...]
    idx: int
    t: int
    retired: int | None = None
    rekeyed_as: int | None = None

    @property
    def name(self) -> str:
        """``PARTY/DATASET@VERSION``."""
        return f"{self.dataset}@{self.version}"

    @property
    def successor(self) -> str | None:
        """The name of the release that holds the same records under new keys."""
        return None if self.rekeyed_as is None else f"{self.dataset}@{self.rekeyed_as}"


class GrantRow(msgspec.Struct, frozen=True):
    """A grant as issued; ``host`` None means any host of ``party``. Times in µs UTC."""

    grant: GrantId
    party: PartyId
    host: HostId | None
    dataset: DatasetId
    groups: tuple[GroupName, ...]
    purposes: tuple[Purpose, ...]
    not_before: int
    until: int
    token: Digest
    revocation: str
    idx: int


class HoldRow(msgspec.Struct, frozen=True):
    """A hold in force since entry ``placed_idx``."""

    hold: HoldId
    subject: Subject
    reason: str
    placed_idx: int
    placed_t: int


class CurrentFinding(msgspec.Struct, frozen=True):
    """An item of an inventory that the newest version of an advisory names."""

    advisory: str
    match: str
    name: str
    version: str
    path: str
    idx: int

    @property
    def what(self) -> str:
        """The item in words: ``litellm 1.82.8`` or the path."""
        return f"{self.name} {self.version}" if self.version else self.path or self.name


class CurrentInventory(msgspec.Struct, frozen=True):
    """The newest observation of one environment: seen until ``until`` (host's clock), received at ``t`` (ours).

    ``readable`` False: its contents are not kept, so nothing was matched against them.
    """

    environment: str
    inventory: Digest
    until: int
    t: int
    findings: tuple[CurrentFinding, ...]
    readable: bool = True


def _names(text: str) -> tuple[Any, ...]:
    return tuple(msgspec.json.decode(text))


def find_host(view: View, host: HostId) -> HostRow | None:
    """The host, or None if it was never registered."""
    rows = view.rows("SELECT host, party, key, expected_every FROM host WHERE host = ?", host)
    return HostRow(*rows[0]) if rows else None


def list_hosts(view: View, party: PartyId | None = None) -> tuple[HostRow, ...]:
    """All hosts, or those of one party, by name."""
    sql = "SELECT host, party, key, expected_every FROM host WHERE party = ?1 OR ?1 IS NULL ORDER BY host"
    return tuple(HostRow(*row) for row in view.rows(sql, party))


def find_party_key(view: View, party: PartyId) -> str | None:
    """The OpenSSH public key that signs for a party."""
    rows = view.rows("SELECT key FROM party WHERE party = ?", party)
    return rows[0][0] if rows else None


def find_dataset_party(view: View, dataset: DatasetId) -> PartyId | None:
    """The party that makes a dataset."""
    rows = view.rows("SELECT party FROM dataset WHERE dataset = ?", dataset)
    return PartyId(rows[0][0]) if rows else None


_RELEASE_COLUMNS = (
    'release, dataset, version, party, "rows", size, parts, groups, idx, t,'
    " (SELECT r.idx FROM retired AS r WHERE r.release = release.release) AS retired_idx,"
    " (SELECT n.version FROM rekeyed AS k JOIN release AS n ON n.release = k.release"
    ' WHERE k."before" = release.release) AS rekeyed_as'
)


def _release(row: Sequence[Any]) -> ReleaseRow:
    release, dataset, version, party, rows, size, parts, groups, *rest = row
    return ReleaseRow(release, dataset, version, party, rows, size, parts, _names(groups), *rest)


def find_release(view: View, release: Digest) -> ReleaseRow | None:
    """The release with this manifest digest."""
    rows = view.rows(f"SELECT {_RELEASE_COLUMNS} FROM release WHERE release = ?", release)
    return _release(rows[0]) if rows else None


def list_releases(view: View, dataset: DatasetId | None = None) -> tuple[ReleaseRow, ...]:
    """All releases, or those of one dataset, in ledger order."""
    sql = f"SELECT {_RELEASE_COLUMNS} FROM release WHERE dataset = ?1 OR ?1 IS NULL ORDER BY idx"
    return tuple(_release(row) for row in view.rows(sql, dataset))


def resolve_release(view: View, name: str) -> ReleaseRow:
    """The release written ``PARTY/DATASET@VERSION``; ``NotFound`` (``state.no_release``) if it was never sealed."""
    dataset, version = parse_release_name(name)
    sql = f"SELECT {_RELEASE_COLUMNS} FROM release WHERE dataset = ? AND version = ? ORDER BY idx"
    rows = view.rows(sql, dataset, version)
    if not rows:
        known = ", ".join(release.name for release in list_releases(view, dataset)) or "none yet"
        raise NotFound("state.no_release", f"there is no release {name}", f"releases of {dataset}: {known}")
    return _release(rows[0])


def erased_at(view: View, release: Digest) -> int | None:
    """The entry that says that the keys of a release were destroyed, or None."""
    rows = view.rows("SELECT idx FROM erased WHERE release = ?", release)
    return int(rows[0][0]) if rows else None


class RekeyedRow(msgspec.Struct, frozen=True):
    """The entry that says that ``release`` holds the records of ``before`` under new keys."""

    before: Digest
    release: Digest
    keys: int
    reason: str
    idx: int


def find_rekeyed(view: View, before: Digest) -> RekeyedRow | None:
    """What became of a release under new keys, or None."""
    sql = 'SELECT "before", release, keys, reason, idx FROM rekeyed WHERE "before" = ?'
    rows = view.rows(sql, before)
    return RekeyedRow(*rows[0]) if rows else None


def readable_as(view: View, release: Digest) -> Digest:
    """``release``, or where its keys were destroyed the one that holds its records under new keys, if there is one."""
    while erased_at(view, release) is not None:
        known = find_rekeyed(view, release)
        if known is None:
            break
        release = known.release
    return release


class AdoptedRow(msgspec.Struct, frozen=True):
    """Unsealed data that was adopted; ``release`` once it was sealed, ``removed`` once its originals were."""

    listing: Digest
    dataset: DatasetId
    location: str
    files: int
    size: int
    rows: int | None
    release: Digest | None
    removed: bool
    idx: int


def list_adopted(view: View) -> tuple[AdoptedRow, ...]:
    """All adoptions, in ledger order."""
    names = ("listing", "dataset", "location", "files", "size", "rows", "release", "removed_idx", "idx")
    found = view.rows(f"SELECT {', '.join(names)} FROM adopted ORDER BY idx")
    rows = [dict(zip(names, row, strict=True)) for row in found]
    return tuple(AdoptedRow(removed=row.pop("removed_idx") is not None, **row) for row in rows)


def release_stores(view: View, release: Digest) -> tuple[str, ...]:
    """The locations of copies of a release that entries name, the newest first."""
    sql = "SELECT location FROM release_store WHERE release = ? ORDER BY idx DESC"
    return tuple(str(row[0]) for row in view.rows(sql, release))


_GRANT_COLUMNS = '"grant", party, host, dataset, groups, purposes, not_before, until, token, revocation, idx'


def _grant(row: Sequence[Any]) -> GrantRow:
    grant, party, host, dataset, groups, purposes, *rest = row
    not_before, until, token, revocation, idx = rest
    return GrantRow(
        grant, party, host, dataset, _names(groups), _names(purposes), not_before, until, token, revocation, idx
    )


def find_grant(view: View, grant: GrantId) -> GrantRow | None:
    """The grant with this id."""
    rows = view.rows(f'SELECT {_GRANT_COLUMNS} FROM "grant" WHERE "grant" = ?', grant)
    return _grant(rows[0]) if rows else None


def list_grants(view: View, party: PartyId | None = None) -> tuple[GrantRow, ...]:
    """All grants, or those to one party, in ledger order."""
    sql = f'SELECT {_GRANT_COLUMNS} FROM "grant" WHERE party = ?1 OR ?1 IS NULL ORDER BY idx'
    return tuple(_grant(row) for row in view.rows(sql, party))


def active_holds(view: View, subjects: Iterable[Subject] | None = None) -> tuple[HoldRow, ...]:
    """Holds in force on any of ``subjects`` (None: all of them), oldest first."""
    sql = "SELECT hold, subject_kind, subject_id, reason, placed_idx, placed_t FROM hold WHERE lifted_idx IS NULL"
    wanted = None if subjects is None else set(subjects)
    held = []
    for hold, kind, name, reason, idx, t in view.rows(sql + " ORDER BY placed_idx"):
        subject = Subject(_kind(kind), name)
        if wanted is None or subject in wanted:
            held.append(HoldRow(hold, subject, reason, idx, t))
    return tuple(held)


def _kind(text: str) -> SubjectKind:
    kind: SubjectKind = text  # type: ignore[assignment]  # the fold stores what Subject parsed
    return kind


_NEWEST_FINDINGS = (
    "SELECT f.advisory, f.match, f.name, f.version, f.path, f.idx FROM finding f"
    " JOIN advisory a ON a.advisory = f.advisory AND a.document = f.document"
    " WHERE f.inventory = ? AND a.withdrawn = 0"
    " AND a.idx = (SELECT max(b.idx) FROM advisory b WHERE b.advisory = a.advisory)"
    " ORDER BY f.idx"
)


def read_inventories(view: View, host: HostId) -> tuple[CurrentInventory, ...]:
    """The newest observation of each environment of a host, with what is found in it."""
    found: list[CurrentInventory] = []
    sql = "SELECT min(environment) FROM observation WHERE host = ?"
    rows = view.rows(sql, host)
    while True:  # from one environment to the next by the index, however much was ever reported
        environment = rows[0][0]
        if environment is None:
            return tuple(found)
        newest = _newest_observation(view, host, environment)
        if newest is not None:
            inventory, until, t = newest
            seen = (_findings(view, inventory), _readable(view, inventory))
            found.append(CurrentInventory(environment, inventory, until, t, *seen))
        rows = view.rows(sql + " AND environment > ?", host, environment)


_PAGE = 32


def _newest_observation(view: View, host: HostId, environment: str) -> tuple[Digest, int, int] | None:
    """Digest, ``until`` and ``t`` of the newest report since the environment was last retired.

    Newest by the older of the two clocks: a host whose clock was ahead for a while must not hide what it says later, and
    an old report that arrives late must not replace a newer one. Read from the latest ``until`` down: no report is newer
    than its ``until``, so the first page has the answer unless many clocks were ahead.
    """
    rows = view.rows("SELECT idx FROM retirement WHERE host = ? AND environment = ?", host, environment)
    retired, begin = rows[0][0] if rows else -1, 0
    best: tuple[int, int, Digest, int, int] | None = None
    sql = (
        "SELECT idx, inventory, until, t FROM observation WHERE host = ? AND environment = ?"
        f" ORDER BY until DESC, idx DESC LIMIT {_PAGE} OFFSET ?"
    )
    while True:
        page = view.rows(sql, host, environment, begin)
        for idx, inventory, until, t in page:
            if best is not None and until < best[0]:
                return best[2:]
            if idx > retired and (best is None or (min(until, t), idx) > best[:2]):
                best = (min(until, t), idx, inventory, until, t)
        if len(page) < _PAGE:
            return best[2:] if best else None
        begin += _PAGE


def _findings(view: View, inventory: Digest) -> tuple[CurrentFinding, ...]:
    return tuple(CurrentFinding(*row) for row in view.rows(_NEWEST_FINDINGS, inventory))


def _readable(view: View, inventory: Digest) -> bool:
    """Whether the contents are here: without them nothing was matched, and silence is not cleanness."""
    return bool(view.rows("SELECT 1 FROM payload WHERE digest = ?", inventory))


_MAX_MARKS = 256


def requests_used(view: View, requests: Sequence[RequestId]) -> set[RequestId]:
    """Those of ``requests`` that were answered before: see ``request_used``."""
    used: set[RequestId] = set()
    for begin in range(0, len(requests), _MAX_MARKS):
        some = requests[begin : begin + _MAX_MARKS]
        # Few lengths, so that few statements need preparing: the last one is asked for several times.
        asked = [*some, *[some[-1]] * ((1 << (len(some) - 1).bit_length()) - len(some))]
        marks = ", ".join(f"?{number}" for number in range(1, len(asked) + 1))
        sql = (
            f"SELECT request FROM key_release WHERE request IN ({marks}) UNION ALL"
            f" SELECT request FROM key_refusal WHERE request IN ({marks}) AND step > 3 UNION ALL"
            f" SELECT request FROM lease WHERE request IN ({marks})"
        )
        used.update(row[0] for row in view.rows(sql, *asked))
    return used


def request_used(view: View, request: RequestId) -> bool:
    """Whether this request id was answered before, by keys or by a refusal after possession was proven (step > 3).

    Refusals up to step 3 do not count: whoever sent those had not shown that the id is his to use up.
    """
    return bool(
        view.rows(
            "SELECT 1 FROM key_release WHERE request = ?1 UNION ALL"
            " SELECT 1 FROM key_refusal WHERE request = ?1 AND step > 3 LIMIT 1",
            request,
        )
    )
