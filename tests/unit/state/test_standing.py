"""Standing: what is true now, read from projections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from safehold.ledger.log import Draft, Log
from safehold.model import statements as s
from safehold.model.errors import InputInvalid, NotFound
from safehold.model.ids import Subject
from safehold.state import standing
from safehold.state.standing_access import ReadingRow, list_readings
from tests.ledger_kit import BY, CONTENTS, digest, hold, lift, one_of_each, open_log

SAMPLES: dict[str, Any] = one_of_each()
HOST: Any = "quill-works/ci-1"
DATASET: Any = "quill-works/word-problems"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(tmp_path)
    opened.append(lambda _view: Draft(tuple(SAMPLES.values()), (CONTENTS,)))
    yield opened
    opened.close()


def _advisory(number: int, document: str, *, withdrawn: bool = False) -> s.AdvisoryRecorded:
    return s.AdvisoryRecorded(
        t=number, by=BY, advisory="PYSEC-2026-2", document=digest(document), format="osv", source="osv", aliases=(),
        joined=(), affected=(), windows=(), summary="", first_seen=number, published=None, modified=None,
        withdrawn=withdrawn,
    )  # fmt: skip


def _finding(document: str, version: str = "1.0", path: str = "") -> s.FindingRecorded:
    return s.FindingRecorded(
        t=1, by=BY, advisory="PYSEC-2026-2", document=digest(document), inventory=SAMPLES["inventory.recorded"].inventory,
        match="version", name="quill" if version else "", version=version, path=path,
    )  # fmt: skip


def _confirmed(until: int, environment: str = "ci", contents: str = "x") -> s.InventoryConfirmed:
    return s.InventoryConfirmed(
        t=until, by=BY, host=HOST, environment=environment, inventory=digest(contents), report=digest("r"), since=0,
        until=until, sweeps=1, largest_gap=0,
    )  # fmt: skip


def test_who_and_what_is_registered(log: Log) -> None:
    with log.view() as view:
        host = standing.find_host(view, HOST)
        assert host is not None
        assert (host.party, host.expected_every) == ("quill-works", 60)
        assert standing.find_host(view, "quill-works/ci-2") is None  # type: ignore[arg-type]  # a host id made by hand
        assert standing.list_hosts(view) == (host,) == standing.list_hosts(view, host.party)
        assert standing.list_hosts(view, "north-lab") == ()  # type: ignore[arg-type]  # a party id made by hand
        assert standing.find_party_key(view, host.party) == SAMPLES["party.registered"].key
        assert standing.find_party_key(view, "nobody") is None  # type: ignore[arg-type]  # a party id made by hand
        assert standing.find_dataset_party(view, DATASET) == "quill-works"
        assert standing.find_dataset_party(view, "a/b") is None  # type: ignore[arg-type]  # a dataset id made by hand


def test_releases_by_digest_and_by_name(log: Log) -> None:
    with log.view() as view:
        release = standing.find_release(view, SAMPLES["release.sealed"].release)
        assert release is not None
        assert (release.name, release.groups, release.idx) == (f"{DATASET}@1", ("question", "answer"), 5)
        assert standing.resolve_release(view, f"{DATASET}@1") == release
        assert standing.list_releases(view) == (release,) == standing.list_releases(view, DATASET)
        assert standing.list_releases(view, "a/b") == ()  # type: ignore[arg-type]  # a dataset id made by hand
        assert standing.find_release(view, digest("none")) is None
        with pytest.raises(NotFound) as missing:
            standing.resolve_release(view, f"{DATASET}@2")
        assert (missing.value.code, f"{DATASET}@1" in missing.value.hint) == ("state.no_release", True)
        with pytest.raises(NotFound) as missing:
            standing.resolve_release(view, "a/b@1")
        assert "none yet" in missing.value.hint
        with pytest.raises(InputInvalid):
            standing.resolve_release(view, DATASET)


def test_grants(log: Log) -> None:
    with log.view() as view:
        grant = standing.find_grant(view, SAMPLES["grant.issued"].grant)
        assert grant is not None
        assert (grant.groups, grant.purposes, grant.until, grant.idx) == (("question",), ("training",), 2**53 - 1, 6)
        assert standing.list_grants(view) == (grant,) == standing.list_grants(view, grant.party)
        assert standing.list_grants(view, "north-lab") == ()  # type: ignore[arg-type]  # a party id made by hand
        assert standing.find_grant(view, "g-0000000000000000") is None  # type: ignore[arg-type]  # a grant id made by hand


def test_holds_in_force(log: Log) -> None:
    one, two = Subject("party", "quill-works"), Subject("host", HOST)
    log.append_statements(hold(1, one), hold(2, two), hold(3, one), lift(1, one))
    with log.view() as view:
        assert [row.hold[-1] for row in standing.active_holds(view)] == ["2", "3"]
        assert [row.subject for row in standing.active_holds(view, [one])] == [one]
        assert standing.active_holds(view, [Subject("host", "quill-works")]) == ()
        assert standing.active_holds(view, []) == ()
        assert len(standing.active_holds(view, [one, two, one])) == 2


def test_the_newest_observation_of_each_environment(log: Log) -> None:
    log.append_statements(_confirmed(50, "ci", "b"), _confirmed(40, "ci", "c"), _confirmed(30, "laptop", "d"))
    with log.view() as view:
        assert [(one.environment, one.inventory, one.until) for one in standing.read_inventories(view, HOST)] == [
            ("ci", digest("b"), 50),
            ("laptop", digest("d"), 30),
        ]
        assert standing.read_inventories(view, "a/b") == ()  # type: ignore[arg-type]  # a host id made by hand
    log.append_statements(_confirmed(50, "ci", "e"))
    with log.view() as view:
        assert standing.read_inventories(view, HOST)[0].inventory == digest("e"), "of equal times, the later entry"


def test_findings_are_those_of_the_newest_version_that_is_not_withdrawn(log: Log) -> None:
    def found() -> list[str]:
        with log.view() as view:
            return [finding.what for one in standing.read_inventories(view, HOST) for finding in one.findings]

    assert found() == ["quill 1.0"]
    log.append_statements(_advisory(1, "second"))
    assert found() == [], "the new version names nothing here yet"
    log.append_statements(_finding("second", "2.0"), _finding("second", "", "a.pth"))
    assert found() == ["quill 2.0", "a.pth"]
    log.append_statements(_advisory(2, "third", withdrawn=True), _finding("third"))
    assert found() == []
    log.append_statements(_advisory(3, "second"))
    assert found() == ["quill 2.0", "a.pth"], "the older document came back"


@pytest.mark.parametrize(("step", "used"), [(1, False), (3, False), (4, True), (11, True)])
def test_a_request_is_used_up_by_keys_and_by_late_refusals(log: Log, step: int, used: bool) -> None:
    refused: Any = "q-" + "1" * 32
    log.append_statements(
        s.KeyRefused(
            t=1, by=BY, request=refused, release=None, host=None, grant=None, step=step, code="c", reason="r", hint=""
        )
    )
    with log.view() as view:
        assert standing.request_used(view, SAMPLES["key.released"].request)
        assert standing.request_used(view, refused) is used
        assert not standing.request_used(view, "q-" + "2" * 32)  # type: ignore[arg-type]  # a request id made by hand


def _sealed(version: int) -> s.ReleaseSealed:
    made: s.ReleaseSealed = SAMPLES["release.sealed"]
    return msgspec.structs.replace(made, release=digest(f"r{version}"), version=version)


def _rekeyed(before: int, after: int) -> s.ReleaseRekeyed:
    return s.ReleaseRekeyed(t=1, by=BY, release=digest(f"r{after}"), before=digest(f"r{before}"), keys=2, reason="why")


def _erased(version: int) -> s.ReleaseErased:
    return s.ReleaseErased(t=1, by=BY, release=digest(f"r{version}"), keys=2, kept=0, shared=(), reason="why")


def test_records_under_new_keys_are_found_from_the_old_release(log: Log) -> None:
    log.append_statements(_sealed(11), _sealed(12), _sealed(13), _rekeyed(11, 12), _rekeyed(12, 13))
    log.append_statements(_rekeyed(11, 13))  # the first word counts
    with log.view() as view:
        first, second, third = (standing.find_release(view, digest(f"r{version}")) for version in (11, 12, 13))
        assert first is not None
        assert second is not None
        assert third is not None
        assert (first.rekeyed_as, first.successor) == (12, f"{DATASET}@12")
        assert (second.rekeyed_as, third.rekeyed_as, third.successor) == (13, None, None)
        known = standing.find_rekeyed(view, first.release)
        assert known is not None
        assert (known.release, known.keys, known.reason) == (second.release, 2, "why")
        assert standing.find_rekeyed(view, third.release) is None
        assert standing.readable_as(view, first.release) == first.release
    log.append_statements(_erased(11), _erased(12))
    with log.view() as view:
        assert standing.readable_as(view, first.release) == third.release
    log.append_statements(_erased(13))
    with log.view() as view:
        assert standing.readable_as(view, first.release) == third.release, "nothing has the keys: the last is told"


def test_who_may_hold_keys_of_a_release(log: Log) -> None:
    released: s.KeyReleased = SAMPLES["key.released"]
    release = digest("read")
    given = [
        msgspec.structs.replace(released, release=release, host=host, until=until, request=f"q-{number}")  # type: ignore[arg-type]  # ids made by hand
        for number, (host, until) in enumerate((("a/x", 10), ("a/x", 30), ("b/y", 20), ("b/z", 5)))
    ]
    log.append_statements(*given)
    with log.view() as view:
        assert list_readings(view, release, 10) == (ReadingRow("a/x", 30, 1), ReadingRow("b/y", 20, 1))  # type: ignore[arg-type]  # ids made by hand
        assert list_readings(view, release, 4)[0].releases == 2
        assert list_readings(view, release, 30) == ()
        assert list_readings(view, digest("another"), 0) == ()
