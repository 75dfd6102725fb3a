"""Registering: one entry each, names once, and only on what is there already."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from safehold.ledger.keys import SigningKey
from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError
from safehold.model.ids import sha256_digest
from safehold.model.statements import (
    DatasetRegistered,
    HostRegistered,
    MemberRegistered,
    ModelDeclared,
    PartyRegistered,
    RunDeclared,
)
from tests.broker_kit import CI, DESK, LAB, MEMBER, NOW, SUPPLIER, TRAINER, WORDS, World

Act = Callable[[World], Any]
NEW_KEY = SigningKey.generate().public


def add(**given: Any) -> Act:
    """``add(host=(…))``: call the registry's ``add_host`` or ``declare_run`` with these arguments."""
    ((name, arguments),) = given.items()
    return lambda world: getattr(world.registry, f"{'declare' if name in ('run', 'model') else 'add'}_{name}")(
        *arguments
    )


def test_each_registration_is_one_entry_with_its_fields(world: World) -> None:
    registry: Any = world.registry
    party = registry.add_party("new-party", "supplier", "Ä party", NEW_KEY)
    member = registry.add_member("new-party/m-" + "0" * 20)
    host = registry.add_host("new-party/h", NEW_KEY, 60)
    dataset = registry.add_dataset("new-party/d", LAB, "D")
    run = registry.declare_run("north-lab/run-7", (world.release, world.release), TRAINER)
    model = registry.declare_model("north-lab/tutor-1", ("north-lab/run-7", "north-lab/run-7"))
    common: dict[str, Any] = {"t": NOW, "by": world.by}
    assert [entry.statement for entry in (party, member, host, dataset, run, model)] == [
        PartyRegistered(**common, party="new-party", role="supplier", title="Ä party", key=NEW_KEY.line),
        MemberRegistered(**common, member="new-party/m-" + "0" * 20, party="new-party"),
        HostRegistered(**common, host="new-party/h", party="new-party", key=NEW_KEY.line, expected_every=60),
        DatasetRegistered(**common, dataset="new-party/d", party="new-party", customer=LAB, title="D"),
        RunDeclared(**common, run="north-lab/run-7", party=LAB, host=TRAINER, releases=(world.release,)),
        ModelDeclared(**common, model="north-lab/tutor-1", party=LAB, runs=("north-lab/run-7",)),
    ]
    assert world.entries()[-6:] == [party, member, host, dataset, run, model]


REFUSED: dict[str, tuple[type[SafeholdError], str, Act]] = {
    "party again": (Conflict, "registry.exists", add(party=(SUPPLIER, "supplier", "", NEW_KEY))),
    "host again": (Conflict, "registry.exists", add(host=(CI, NEW_KEY, 60))),
    "dataset again": (Conflict, "registry.exists", add(dataset=(WORDS, LAB, ""))),
    "member again": (Conflict, "registry.exists", add(member=(MEMBER,))),
    "a host's key twice": (
        Conflict, "registry.key_taken", lambda world: add(host=("quill-works/h", world.host_keys[CI].public, 60))(world),
    ),
    "a host's key twice, in another party": (
        Conflict, "registry.key_taken", lambda world: add(host=("north-lab/h", world.host_keys[CI].public, 60))(world),
    ),
    "member of nobody": (NotFound, "registry.missing", add(member=("no-one/m-" + "0" * 20,))),
    "host of nobody": (NotFound, "registry.missing", add(host=("no-one/h", NEW_KEY, 60))),
    "dataset of nobody": (NotFound, "registry.missing", add(dataset=("no-one/d", LAB, ""))),
    "dataset for nobody": (NotFound, "registry.missing", add(dataset=("quill-works/d", "no-one", ""))),
    "run of nobody": (NotFound, "registry.missing", lambda world: add(run=("no-one/r", (world.release,)))(world)),
    "run on nothing sealed": (
        NotFound, "registry.missing", lambda world: add(run=("north-lab/r", (world.release, sha256_digest(b""))))(world),
    ),
    "run on no host": (
        NotFound, "registry.missing", lambda world: add(run=("north-lab/r", (world.release,), "north-lab/no"))(world),
    ),
    "run on nothing": (InputInvalid, "registry.run_empty", add(run=("north-lab/r", ()))),
    "model of no run": (NotFound, "registry.missing", add(model=("north-lab/m", ("north-lab/r",)))),
    "model of nothing": (InputInvalid, "registry.model_empty", add(model=("north-lab/m", ()))),
    "sweeps every 0 s": (InputInvalid, "registry.expected_every", add(host=("quill-works/h", NEW_KEY, 0))),
    "sweeps in 8 days": (InputInvalid, "registry.expected_every", add(host=("quill-works/h", NEW_KEY, 604_801))),
    "a long title": (InputInvalid, "registry.title", add(dataset=("quill-works/d", LAB, "x" * 201))),
    "a title of two lines": (InputInvalid, "registry.title", add(dataset=("quill-works/d", LAB, "x\ny"))),
    "a title that moves the cursor": (InputInvalid, "registry.title", add(party=("p", "lab", "x\x9b2J", NEW_KEY))),
    "a title with half a character": (InputInvalid, "registry.title", add(party=("p", "lab", "\udc80", NEW_KEY))),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_changes_nothing(world: World, case: str) -> None:
    kind, code, act = REFUSED[case]
    size = len(world.entries())
    with pytest.raises(kind) as caught:
        act(world)
    assert caught.value.code == code
    assert len(world.entries()) == size


def test_two_parties_do_not_share_a_key(world: World) -> None:
    add(party=("first", "supplier", "", NEW_KEY))(world)
    with pytest.raises(Conflict, match=r"first has this key already.*registry\.key_taken"):
        add(party=("second", "supplier", "", NEW_KEY))(world)


def test_a_missing_thing_is_named_with_the_verb_that_makes_it(world: World) -> None:
    with pytest.raises(NotFound) as caught:
        add(host=("no-one/h", NEW_KEY, 60))(world)
    assert (caught.value.message, caught.value.hint) == (
        "party no-one is not registered",
        "register it first: safehold party add",
    )


def test_one_name_registered_by_many_at_once_is_one_entry(world: World) -> None:
    outcomes: list[str] = []

    def register() -> None:
        try:
            add(dataset=("quill-works/new", LAB, ""))(world)
            outcomes.append("registered")
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["registered"] + ["registry.exists"] * 7
    assert [one.dataset for one in world.statements(DatasetRegistered)].count("quill-works/new") == 1


def test_hosts_of_two_parties_may_have_one_name(world: World) -> None:
    name = DESK.partition("/")[2]
    add(host=(f"north-lab/{name}", NEW_KEY, 60))(world)
    assert world.statements(HostRegistered)[-1].host == f"north-lab/{name}"
