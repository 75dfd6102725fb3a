"""Registering: one entry each, refused if the name is taken or what it builds on is missing.

Every check runs inside the append, on the state just before it: two registrations of one name cannot both pass.
Registering the very same thing again is a ``Conflict`` that says so, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from safehold.ledger.keys import PublicKey
from safehold.ledger.log import Draft, Log
from safehold.ledger.storage import Entry, View
from safehold.model.errors import Conflict, InputInvalid, NotFound
from safehold.model.ids import DatasetId, Digest, HostId, KeyId, MemberId, ModelId, PartyId, RunId, party_of
from safehold.model.statements import (
    DatasetRegistered,
    HostRegistered,
    MemberRegistered,
    ModelDeclared,
    PartyRegistered,
    RunDeclared,
    Statement,
)
from safehold.model.statements_access import EnvironmentRetired, MemberKeyed
from safehold.registry.people import control_characters

__all__ = ["Registry"]

_MAX_TITLE = 200
_MAX_EXPECTED_EVERY = 7 * 86_400


class Registry:
    """Appends registrations, signed for by the operator ``by``. ``clock`` gives µs UTC."""

    def __init__(self, log: Log, clock: Callable[[], int], by: KeyId) -> None:
        self._log = log
        self._clock = clock
        self._by = by

    @property
    def by(self) -> KeyId:
        """The key that stands behind what is registered here."""
        return self._by

    def add_party(self, party: PartyId, role: Literal["lab", "supplier"], title: str, key: PublicKey) -> Entry:
        """A party and the key that signs for it. Raises ``Conflict`` (``registry.exists``, ``registry.key_taken``)."""
        _check_title(title)

        def check(view: View) -> None:
            _absent(view, "party", party)
            taken = view.rows("SELECT party FROM party WHERE key = ?", key.line)
            if taken:
                # What one of them signs would stand as the other's word.
                raise Conflict(
                    "registry.key_taken", f"{taken[0][0]} has this key already", "give each party a key of its own"
                )

        return self._append(
            PartyRegistered(t=self._clock(), by=self._by, party=party, role=role, title=title, key=key.line), check
        )

    def add_member(self, member: MemberId) -> Entry:
        """A person by keyed digest; the party must be registered."""

        def check(view: View) -> None:
            _present(view, "party", party_of(member))
            _absent(view, "member", member)

        return self._append(
            MemberRegistered(t=self._clock(), by=self._by, member=member, party=party_of(member)), check
        )

    def add_host(self, host: HostId, key: PublicKey, expected_every: int) -> Entry:
        """A machine with its SSH key; ``expected_every`` is the number of seconds between its sweeps (1 … 7 days)."""
        if not 1 <= expected_every <= _MAX_EXPECTED_EVERY:
            raise InputInvalid(
                "registry.expected_every", "a host sweeps every 1 second to 7 days", "the agent's default is 60 seconds"
            )

        def check(view: View) -> None:
            _present(view, "party", party_of(host))
            _absent(view, "host", host)
            taken = view.rows("SELECT host FROM host WHERE key = ?", key.line)
            if taken:
                # One key for two hosts would let either of them report, and open, as the other.
                raise Conflict(
                    "registry.key_taken", f"{taken[0][0]} has this key already", "give each host a key of its own"
                )

        statement = HostRegistered(
            t=self._clock(), by=self._by, host=host, party=party_of(host), key=key.line, expected_every=expected_every
        )
        return self._append(statement, check)

    def add_dataset(self, dataset: DatasetId, customer: PartyId, title: str) -> Entry:
        """A dataset that its party makes for ``customer``; both must be registered."""
        _check_title(title)

        def check(view: View) -> None:
            _present(view, "party", party_of(dataset))
            _present(view, "party", customer)
            _absent(view, "dataset", dataset)

        statement = DatasetRegistered(
            t=self._clock(), by=self._by, dataset=dataset, party=party_of(dataset), customer=customer, title=title
        )
        return self._append(statement, check)

    def declare_run(self, run: RunId, releases: Sequence[Digest], host: HostId | None = None) -> Entry:
        """A training run and the releases that went into it; all must be known."""
        if not releases:
            raise InputInvalid("registry.run_empty", "a run names at least one release", "add --release NAME")

        def check(view: View) -> None:
            _present(view, "party", party_of(run))
            _absent(view, "run", run)
            for release in releases:
                _present(view, "release", release)
            if host is not None:
                _present(view, "host", host)

        statement = RunDeclared(
            t=self._clock(),
            by=self._by,
            run=run,
            party=party_of(run),
            host=host,
            releases=tuple(dict.fromkeys(releases)),
        )
        return self._append(statement, check)

    def declare_model(self, model: ModelId, runs: Sequence[RunId]) -> Entry:
        """A model and the runs that made it; all must be declared."""
        if not runs:
            raise InputInvalid("registry.model_empty", "a model names at least one run", "add --run NAME")

        def check(view: View) -> None:
            _present(view, "party", party_of(model))
            _absent(view, "model", model)
            for run in runs:
                _present(view, "run", run)

        statement = ModelDeclared(
            t=self._clock(), by=self._by, model=model, party=party_of(model), runs=tuple(dict.fromkeys(runs))
        )
        return self._append(statement, check)

    def set_member_key(self, member: MemberId, key: PublicKey) -> Entry:
        """The key that a registered member signs with from here on; an earlier one counts no more."""
        statement = MemberKeyed(t=self._clock(), by=self._by, member=member, key=key.line)
        return self._append(statement, lambda view: _present(view, "member", member))

    def retire_environment(self, host: HostId, environment: str, reason: str) -> Entry:
        """Say that a host has this environment no more. Raises ``NotFound`` (``registry.no_environment``) if it was never
        seen there, ``InputInvalid`` (``registry.reason``).
        """
        if not reason.strip() or len(reason) > _MAX_TITLE:
            raise InputInvalid("registry.reason", f"say why in at most {_MAX_TITLE} characters", 'add --reason "…"')

        def check(view: View) -> None:
            _present(view, "host", host)
            sql = "SELECT 1 FROM observation WHERE host = ? AND environment = ? LIMIT 1"
            if not view.rows(sql, host, environment):
                raise NotFound(
                    "registry.no_environment",
                    f"{host} has never reported an environment {environment[:80]}",
                    "see: safehold host list",
                )

        statement = EnvironmentRetired(t=self._clock(), by=self._by, host=host, environment=environment, reason=reason)
        return self._append(statement, check)

    def _append(self, statement: Statement, check: Callable[[View], None]) -> Entry:
        def propose(view: View) -> Draft:
            check(view)
            return Draft((statement,))

        return self._log.append(propose)[0]


_Kind = Literal["party", "member", "host", "dataset", "release", "run", "model"]


def _exists(view: View, kind: _Kind, name: str) -> int | None:
    rows = view.rows(f'SELECT idx FROM "{kind}" WHERE "{kind}" = ?', name)
    return rows[0][0] if rows else None


def _absent(view: View, kind: _Kind, name: str) -> None:
    index = _exists(view, kind, name)
    if index is not None:
        raise Conflict(
            "registry.exists", f"{kind} {name} is registered already", f"see it with: safehold log show {index}"
        )


def _present(view: View, kind: _Kind, name: str) -> None:
    if _exists(view, kind, name) is None:
        verb = {"run": "run declare", "model": "model declare", "release": "seal"}.get(kind, f"{kind} add")
        raise NotFound("registry.missing", f"{kind} {name} is not registered", f"register it first: safehold {verb}")


def _check_title(title: str) -> None:
    if len(title) > _MAX_TITLE or control_characters(title):
        raise InputInvalid("registry.title", f"a title is one line of at most {_MAX_TITLE} characters")
