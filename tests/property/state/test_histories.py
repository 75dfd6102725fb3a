"""Any history, nonsense too: folding entry by entry is the same as folding all again, and a naive twin agrees.

The statements are drawn from a small world, so that ids collide: holds are lifted twice, placed twice, lifted before
they are placed; parties and releases are registered again; inventories have no payload, or one that is no inventory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from safehold.ledger.fsck import check_ledger
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import View
from safehold.model import statements as s
from safehold.model.ids import Subject, sha256_digest
from safehold.model.statements import STATEMENT_TYPES, Statement
from safehold.state.projection import dump_projections, rebuild
from safehold.state.standing import active_holds, read_inventories, request_used
from tests.ledger_kit import BY, CONTENTS, VERIFIER, digest, memory_folder, open_log

TEXT = st.sampled_from(["", "a", "é\0\n", "x'y\"z"])
TIMES = st.integers(0, 9)
PARTIES = st.sampled_from(["p", "q"])
HOSTS = st.sampled_from(["p/h1", "p/h2"])
MEMBERS = st.sampled_from(["p/m-1", "q/m-2"])
DATASETS = st.sampled_from(["p/d1", "p/d2"])
DIGESTS = st.sampled_from([digest(number) for number in range(3)])
REQUESTS = st.sampled_from(["q-1", "q-2", "q-3"])
HOLDS = st.sampled_from(["h-1", "h-2", "h-3"])
ADVISORIES = st.sampled_from(["A-1", "A-2"])
DOCUMENTS = st.sampled_from([digest("one"), digest("two"), digest("three")])
GROUPS = st.lists(st.sampled_from(["g1", "g2"]), max_size=2).map(tuple)
PAYLOADS = [CONTENTS, b'{"distributions":[{"name":"n","version":"2"}]}', b"no inventory"]
INVENTORIES = st.sampled_from([*(sha256_digest(body) for body in PAYLOADS), digest("never here")])
SUBJECTS = st.sampled_from(
    [Subject("party", "p"), Subject("host", "p/h1"), Subject("dataset", "p/d1"), Subject("grant", "g-1")]
)


def _maybe(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | inner


FIELDS: dict[type[Statement], dict[str, Any]] = {
    s.LedgerOpened: {"origin": TEXT, "verifier": TEXT},
    s.LedgerRestored: {
        "size": st.integers(1, 9), "root": TEXT, "taken": TIMES, "witnessed": _maybe(st.integers(1, 9)), "reason": TEXT,
    },
    s.RefusalsCounted: {"code": TEXT, "count": TIMES, "since": TIMES, "until": TIMES},
    s.PartyRegistered: {"party": PARTIES, "role": st.sampled_from(["lab", "supplier"]), "title": TEXT, "key": TEXT},
    s.MemberRegistered: {"member": MEMBERS, "party": PARTIES},
    s.HostRegistered: {"host": HOSTS, "party": PARTIES, "key": TEXT, "expected_every": TIMES},
    s.DatasetRegistered: {"dataset": DATASETS, "party": PARTIES, "customer": PARTIES, "title": TEXT},
    s.ReleaseSealed: {
        "release": DIGESTS, "dataset": DATASETS, "version": st.integers(1, 2), "party": PARTIES, "host": _maybe(HOSTS),
        "parent": _maybe(DIGESTS), "rows": TIMES, "size": TIMES, "parts": TIMES, "groups": GROUPS,
        "classification": TEXT, "purposes": GROUPS,
        "people": st.just((s.SubjectCount(category="c", jurisdiction="DE", count=1),)) | st.just(()),
    },
    s.GrantIssued: {
        "grant": st.sampled_from(["g-1", "g-2"]), "party": PARTIES, "host": _maybe(HOSTS), "dataset": DATASETS,
        "groups": GROUPS, "purposes": GROUPS, "not_before": TIMES, "until": TIMES, "token": DIGESTS, "revocation": TEXT,
    },
    s.InventoryRecorded: {
        "host": HOSTS, "environment": st.sampled_from(["e1", "e2"]), "inventory": INVENTORIES, "report": DIGESTS,
        "observed": TIMES, "distributions": TIMES, "oddities": TIMES,
    },
    s.InventoryConfirmed: {
        "host": HOSTS, "environment": st.sampled_from(["e1", "e2"]), "inventory": INVENTORIES, "report": DIGESTS,
        "since": TIMES, "until": TIMES, "sweeps": TIMES, "largest_gap": TIMES,
    },
    s.AdvisoryRecorded: {
        "advisory": ADVISORIES, "document": DOCUMENTS, "format": st.sampled_from(["osv", "indicators"]), "source": TEXT,
        "aliases": st.just(()), "joined": st.just(("A-2",)), "affected": st.just(()),
        "windows": st.just((s.WindowClaim(source="s", start=1, end=2),)), "summary": TEXT, "first_seen": TIMES,
        "published": _maybe(TIMES), "modified": _maybe(TIMES), "withdrawn": st.booleans(),
    },
    s.FindingRecorded: {
        "advisory": ADVISORIES, "document": DOCUMENTS, "inventory": INVENTORIES,
        "match": st.sampled_from(["version", "hash", "path"]), "name": TEXT, "version": TEXT, "path": TEXT,
    },
    s.KeyReleased: {
        "request": REQUESTS, "release": DIGESTS, "dataset": DATASETS, "groups": GROUPS, "parts": TIMES, "party": PARTIES,
        "host": HOSTS, "member": _maybe(MEMBERS), "grant": st.just("g-1"), "purpose": TEXT,
        "inventories": st.lists(INVENTORIES, max_size=2).map(tuple), "reader": DIGESTS, "until": TIMES,
    },
    s.KeyRefused: {
        "request": _maybe(REQUESTS), "release": _maybe(DIGESTS), "host": _maybe(HOSTS), "grant": _maybe(st.just("g-1")),
        "step": st.integers(1, 11), "code": TEXT, "reason": TEXT, "hint": TEXT,
    },
    s.DecisionMade: {
        "decision": st.sampled_from(["d-1", "d-2"]), "ruling": st.sampled_from(["suspend", "lift"]), "subject": SUBJECTS,
        "reason": TEXT, "member": _maybe(MEMBERS), "advisories": st.lists(DOCUMENTS, max_size=2).map(tuple),
    },
    s.HoldPlaced: {"hold": HOLDS, "subject": SUBJECTS, "reason": TEXT, "decision": TEXT},
    s.HoldLifted: {"hold": HOLDS, "subject": SUBJECTS, "reason": TEXT, "decision": TEXT},
    s.RunDeclared: {
        "run": st.sampled_from(["p/r1", "p/r2"]), "party": PARTIES, "host": _maybe(HOSTS),
        "releases": st.lists(DIGESTS, max_size=3).map(tuple),
    },
    s.ModelDeclared: {
        "model": st.sampled_from(["p/m1", "p/m2"]), "party": PARTIES,
        "runs": st.lists(st.sampled_from(["p/r1", "p/r2"]), max_size=3).map(tuple),
    },
    s.SegmentSealed: {
        "table": st.sampled_from(["entry", "key_release"]), "form": st.integers(1, 2), "begin": TIMES, "end": TIMES,
        "rows": TIMES, "since": _maybe(TIMES), "until": _maybe(TIMES), "size": TIMES, "digest": DIGESTS,
    },
}  # fmt: skip
WHERE_ORDER_MATTERS = (
    s.HoldPlaced,
    s.HoldLifted,
    s.InventoryRecorded,
    s.InventoryConfirmed,
    s.AdvisoryRecorded,
    s.FindingRecorded,
)


def _of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, small enough to collide."""
    match kind:
        case inspect.StrType():
            return TEXT
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return TIMES
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType():
            return st.one_of(*map(_of_type, kind.types))
        case inspect.VarTupleType():
            return st.lists(_of_type(kind.item_type), max_size=2).map(tuple)
        case inspect.StructType() if kind.cls is Subject:
            return SUBJECTS
        case inspect.StructType():
            return st.builds(kind.cls, **{field.name: _of_type(field.type) for field in kind.fields})
    raise TypeError(f"no values for {kind}")


for _kind in STATEMENT_TYPES.values():  # what nobody described above is drawn by its types alone
    if _kind not in FIELDS:
        _info = inspect.type_info(_kind)
        assert isinstance(_info, inspect.StructType)
        FIELDS[_kind] = {one.name: _of_type(one.type) for one in _info.fields if one.name not in ("v", "t", "by")}
BY_KIND = {kind: st.builds(kind, t=TIMES, by=st.just(BY), **fields) for kind, fields in FIELDS.items()}
STATEMENTS = st.one_of(*BY_KIND.values())
TANGLED = st.one_of(*(BY_KIND[kind] for kind in WHERE_ORDER_MATTERS))
HISTORIES = st.lists(st.lists(STATEMENTS | TANGLED, max_size=6), max_size=8)


class Twin:
    """What holds, findings and requests mean, said again in the plainest way: by walking the whole history each time."""

    def __init__(self, history: list[Statement]) -> None:
        self.history = list(enumerate(history))

    def holds(self) -> list[tuple[str, str, int]]:
        held: dict[str, tuple[str, str, int]] = {}
        for index, one in self.history:
            if isinstance(one, s.HoldPlaced):
                held[one.hold] = (one.hold, str(one.subject), index)
            elif isinstance(one, s.HoldLifted):
                held.pop(one.hold, None)
        return sorted(held.values(), key=lambda hold: hold[2])

    def _findings(self, inventory: str) -> list[int]:
        newest = {one.advisory: one for _, one in self.history if isinstance(one, s.AdvisoryRecorded)}
        return [
            index
            for index, one in self.history
            if isinstance(one, s.FindingRecorded)
            and one.inventory == inventory
            and one.advisory in newest
            and newest[one.advisory].document == one.document
            and not newest[one.advisory].withdrawn
        ]

    def inventories(self, host: str) -> list[tuple[str, str, int, list[int]]]:
        newest: dict[str, tuple[int, int, str]] = {}
        for index, one in self.history:
            if isinstance(one, s.InventoryRecorded | s.InventoryConfirmed) and one.host == host:
                until = one.observed if isinstance(one, s.InventoryRecorded) else one.until
                newest[one.environment] = max(
                    newest.get(one.environment, (-1, -1, "", 0)), (min(until, one.t), index, one.inventory, until)
                )
        return [
            (environment, inventory, until, self._findings(inventory))
            for environment, (_, _, inventory, until) in sorted(newest.items())
        ]

    def used(self, request: str) -> bool:
        return any(
            (isinstance(one, s.KeyReleased) and one.request == request)
            or (isinstance(one, s.KeyRefused) and one.request == request and one.step > 3)
            for _, one in self.history
        )


def _append(log: Log, statements: list[Statement]) -> None:
    named = {one.inventory for one in statements if isinstance(one, s.InventoryRecorded)}
    payloads = tuple(body for body in PAYLOADS if sha256_digest(body) in named)
    log.append(lambda _view: Draft(tuple(statements), payloads))


def _played(history: list[list[Statement]], check: Callable[[Log, View], None]) -> None:
    with memory_folder() as folder:
        log = open_log(folder)
        for statements in history:
            _append(log, statements)
        with log.view() as view:
            check(log, view)
        log.close()


def test_every_kind_is_drawn() -> None:
    assert set(FIELDS) == set(STATEMENT_TYPES.values())


@settings(max_examples=60)
@given(HISTORIES)
def test_entry_by_entry_is_the_same_as_all_again(history: list[list[Statement]]) -> None:
    def check(log: Log, view: View) -> None:
        kept = list(dump_projections(view))
        assert check_ledger(view, VERIFIER) == []
        with log.write() as transaction:
            assert rebuild(transaction) == sum(map(len, history))
            assert list(dump_projections(transaction)) == kept

    _played(history, check)


@settings(max_examples=40)
@given(HISTORIES, st.integers(0, 50))
def test_how_entries_are_grouped_does_not_matter(history: list[list[Statement]], size: int) -> None:
    def check(_log: Log, view: View) -> None:
        dumps.append(list(dump_projections(view)))

    dumps: list[list[bytes]] = []
    every = [one for statements in history for one in statements]
    _played(history, check)
    _played([every[begin : begin + size + 1] for begin in range(0, len(every), size + 1)], check)
    assert dumps[0] == dumps[1]


@settings(max_examples=60)
@given(st.lists(st.lists(TANGLED | BY_KIND[s.KeyReleased] | BY_KIND[s.KeyRefused], max_size=8), max_size=8))
def test_a_naive_twin_says_the_same(history: list[list[Statement]]) -> None:
    twin = Twin([one for statements in history for one in statements])

    def check(_log: Log, view: View) -> None:
        assert [(row.hold, str(row.subject), row.placed_idx) for row in active_holds(view)] == twin.holds()
        for subject in (Subject("party", "p"), Subject("host", "p/h1")):
            held = [row.hold for row in active_holds(view, [subject])]
            assert held == [hold for hold, about, _ in twin.holds() if about == str(subject)]
        for host in ("p/h1", "p/h2"):
            seen = [
                (one.environment, one.inventory, one.until, [finding.idx for finding in one.findings])
                for one in read_inventories(view, host)  # type: ignore[arg-type]  # a host id made by hand
            ]
            assert seen == twin.inventories(host)
        for request in ("q-1", "q-2", "q-3"):
            assert request_used(view, request) is twin.used(request)  # type: ignore[arg-type]  # a request id made by hand

    _played(history, check)


def test_the_twin_can_tell_the_difference() -> None:
    placed = s.HoldPlaced(t=1, by=BY, hold="h-1", subject=Subject("party", "p"), reason="", decision="")  # type: ignore[arg-type]  # ids made by hand
    lifted = s.HoldLifted(t=1, by=BY, hold="h-1", subject=Subject("party", "p"), reason="", decision="")  # type: ignore[arg-type]  # ids made by hand
    assert Twin([placed]).holds() == [("h-1", "party:p", 0)]
    assert Twin([lifted, placed]).holds() == [("h-1", "party:p", 1)]
    assert Twin([placed, lifted]).holds() == []
