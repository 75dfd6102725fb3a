"""The report of one exposure: all answers and all that they rest on, as one frozen value and as JSON.

``report_json`` is the format ``safehold-exposure-v1`` (``docs/spec/exposure.md`` §7): the same case gives the same
bytes. All times are integers of µs UTC.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from safehold.exposure.facts import AdvisoryVersion, Case, Span, Window
from safehold.exposure.incident import incident_title
from safehold.exposure.judgement import Judged, Judgement, judge
from safehold.exposure.presence import HeldRun, Presence
from safehold.exposure.questions import QUESTIONS
from safehold.exposure.questions.answer import Answer, coverage_of
from safehold.exposure.reach import Pair
from safehold.exposure.verdict import VERDICTS, Verdict
from safehold.exposure.words import count_words, list_words, span_words, time_words

__all__ = [
    "FORMAT",
    "HostLine",
    "Mark",
    "MarkKind",
    "PairLine",
    "ReleaseLine",
    "Report",
    "answer_all",
    "asked_words",
    "report_json",
    "report_schema",
]

FORMAT: Final = "safehold-exposure-v1"

MarkKind = Literal["key_release", "sealed", "refused", "advisory", "hold", "lift"]


class HostLine(msgspec.Struct, frozen=True, kw_only=True):
    """A host in the report. ``observed_from``: since when the ledger knows it; the rest as in ``Presence``."""

    host: str
    party: str
    verdict: Verdict
    words: str
    observed_from: int
    last_report: int | None
    held: tuple[HeldRun, ...]
    unknown: tuple[Span, ...]
    unobserved: tuple[Span, ...]
    environments: tuple[str, ...]


class ReleaseLine(msgspec.Struct, frozen=True, kw_only=True):
    """A release in the report: its verdict and by what."""

    release: str
    name: str
    verdict: Verdict
    reasons: tuple[str, ...]
    hosts: tuple[str, ...]
    rows: int
    evidence: tuple[int, ...]


class PairLine(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of host and release in the report."""

    name: str
    pair: Pair


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at ``t``: on one host, or (``host`` None) to all. ``entry`` is its place."""

    kind: MarkKind
    t: int
    host: str | None
    words: str
    entry: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. ``size`` and ``root`` are the checkpoint that it stands on; ``now`` the time of asking."""

    title: str
    headline: str
    now: int
    size: int
    root: str
    incident: tuple[str, ...]
    advisories: tuple[AdvisoryVersion, ...]
    windows: tuple[Window, ...]
    window: Span | None
    window_source: str
    counts: dict[str, dict[str, int]]
    hosts: tuple[HostLine, ...]
    releases: tuple[ReleaseLine, ...]
    pairs: tuple[PairLine, ...]
    answers: tuple[Answer, ...]
    marks: tuple[Mark, ...]
    coverage: str
    open_points: tuple[str, ...]


def answer_all(case: Case) -> Report:
    """Judge the case and answer every question. Pure: the same case gives the same report."""
    judgement = judge(case)
    names = {release.release: release.name for release in case.releases}
    answers = tuple(question(case, judgement) for question in QUESTIONS)
    return Report(
        title=f"Exposure to {incident_title(case.advisories)}",
        headline=_headline(judgement),
        now=case.now,
        size=case.size,
        root=case.root,
        incident=case.incident,
        advisories=case.advisories,
        windows=case.windows,
        window=case.window,
        window_source=case.window_source,
        counts=_counts(judgement),
        hosts=tuple(_host_line(presence) for presence in judgement.presences),
        releases=tuple(_release_line(judged) for judged in judgement.releases),
        pairs=tuple(PairLine(name=names[pair.release], pair=pair) for pair in judgement.pairs),
        answers=answers,
        marks=_marks(case, names),
        coverage=coverage_of(case, judgement),
        open_points=_open_points(case, judgement, answers),
    )


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data in a fixed order, to be written as JSON; its first member is its format."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(report))
    plain["pairs"] = [{"name": line["name"], **line["pair"]} for line in plain["pairs"]]
    plain["checkpoint"] = {"size": plain.pop("size"), "root": plain.pop("root")}
    return {"format": FORMAT, **plain}


def report_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of ``report_json``, made from the types that it is made of."""
    (root,), parts = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    report = parts[root["$ref"].rpartition("/")[2]]
    properties = {"format": {"const": FORMAT}, **report["properties"]}
    size, head = properties.pop("size"), properties.pop("root")
    properties["checkpoint"] = {
        "type": "object",
        "properties": {"size": size, "root": head},
        "required": ["size", "root"],
        "additionalProperties": False,
    }
    line = parts["PairLine"]["properties"]
    pair = parts["Pair"]
    parts["PairLine"] = {**pair, "title": "PairLine", "properties": {"name": line["name"], **pair["properties"]}}
    parts["PairLine"]["required"] = ["name", *pair["required"]]
    wanted = [name for name in report["required"] if name not in ("size", "root")]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FORMAT,
        "type": "object",
        "properties": properties,
        "required": ["format", *wanted, "checkpoint"],
        "additionalProperties": False,
        "$defs": parts,
    }


def _counts(judgement: Judgement) -> dict[str, dict[str, int]]:
    """How many releases and hosts have each verdict; every verdict is there, with 0 too."""
    releases = [judged.verdict for judged in judgement.releases]
    hosts = [presence.verdict for presence in judgement.presences]
    return {
        "releases": {verdict: releases.count(verdict) for verdict in VERDICTS},
        "hosts": {verdict: hosts.count(verdict) for verdict in VERDICTS if verdict != "exposed"},
    }


def _headline(judgement: Judgement) -> str:
    """One sentence for a manager: how many releases were exposed, and how many are not known."""
    exposed, unknown = len(judgement.releases_with("exposed")), len(judgement.releases_with("unknown"))
    every = count_words(len(judgement.releases), "release")
    if not judgement.releases:
        return "There are no releases to judge."
    if not exposed and not unknown:
        return f"None of {every} was exposed, and every host that could open them was observed."
    said = f"{exposed or 'None'} of {every} {'were' if exposed > 1 else 'was'} exposed"
    more = "more " if exposed else ""
    return f"{said}; {unknown} {more}{'is' if unknown == 1 else 'are'} unknown." if unknown else f"{said}."


def _host_line(presence: Presence) -> HostLine:
    said = []
    for run in presence.runs:
        remark = " (path only)" if run.path_only else ""
        said.append(f"{list_words(run.things, 4)}{remark}, at most {span_words(run.outer)}")
    if presence.unknown:
        said.append(f"not observed {list_words([span_words(span) for span in presence.unknown], 4)}")
    return HostLine(
        host=presence.host,
        party=presence.party,
        verdict=presence.verdict,
        words="; ".join(said) or "observed throughout, never there",
        observed_from=presence.begin,
        last_report=presence.last,
        held=presence.runs,
        unknown=presence.unknown,
        unobserved=presence.unobserved,
        environments=presence.environments,
    )


def _release_line(judged: Judged) -> ReleaseLine:
    return ReleaseLine(
        release=judged.release.release,
        name=judged.release.name,
        verdict=judged.verdict,
        reasons=judged.reasons,
        hosts=judged.hosts,
        rows=judged.release.rows,
        evidence=judged.entries,
    )


def _marks(case: Case, names: dict[str, str]) -> tuple[Mark, ...]:
    """What a timeline shows beside presence, in order of time."""
    marks = [
        Mark(kind="key_release", t=one.t, host=one.host, words=names[one.release], entry=one.idx)
        for one in case.key_releases
    ]
    marks += [
        Mark(kind="sealed", t=one.t, host=one.host, words=one.name, entry=one.idx)
        for one in case.releases
        if one.idx is not None and one.host is not None
    ]
    marks += [
        Mark(kind="refused", t=one.t, host=one.host, words=one.reason, entry=one.idx)
        for one in case.refusals
        if one.host is not None
    ]
    first = {one.advisory: one for one in sorted(case.advisories, key=lambda one: -one.idx)}
    marks += [
        Mark(kind="advisory", t=one.first_seen, host=None, words=one.advisory, entry=one.idx) for one in first.values()
    ]
    for hold in case.holds:
        subject, host = (
            f"{hold.subject_kind}:{hold.subject_id}",
            hold.subject_id if hold.subject_kind == "host" else None,
        )
        marks.append(Mark(kind="hold", t=hold.placed_t, host=host, words=subject, entry=hold.placed_idx))
        if hold.lifted_idx is not None and hold.lifted_t is not None:
            marks.append(Mark(kind="lift", t=hold.lifted_t, host=host, words=subject, entry=hold.lifted_idx))
    return tuple(sorted(marks, key=lambda mark: (mark.t, mark.entry)))


def _open_points(case: Case, judgement: Judgement, answers: tuple[Answer, ...]) -> tuple[str, ...]:
    """What stays to be found out, each with where to look."""
    points = [
        f"Question {one.number}, {one.question} Not fully on record; {_instead(one)}."
        for one in answers
        if one.reply == "unknown"
    ]
    for presence in judgement.presences:
        points += [
            f"{presence.host} held it before the window that the sources claim ({span_words(run.inner)}): is the window right?"
            for run in presence.runs
            if run.early
        ]
        if presence.runs and all(run.path_only for run in presence.runs):
            points.append(f"{presence.host} is held by file paths alone: check the files by hand.")
        points += [
            f"{presence.host} was not observed {span_words(span)}: what it did then is not known."
            for span in presence.unknown
        ]
    if case.window is None:
        points.append("No source claims a window: presence counts whenever it was observed.")
    late = [host.host for host in case.hosts if host.idx is None]
    if late:
        points.append(f"Named by entries, but never registered: {list_words(late)}.")
    if any(version.withdrawn for version in case.advisories):
        points.append("A version of an advisory was withdrawn: its findings do not count while it is the newest.")
    return tuple(points)


def _instead(answer: Answer) -> str:
    return "there is no other source" if answer.fallback in ("none", "–") else f"look at: {answer.fallback}"


def asked_words(report: Report) -> str:
    """When the report was made and on what: one line for head and foot."""
    return f"As of {time_words(report.now)} UTC, on {report.size:,} entries of the ledger"
