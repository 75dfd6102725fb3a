"""What the questions about other systems share: which evidence there is, whom it names, and when it is complete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from safehold.exposure.facts import Case, Span
from safehold.exposure.facts_outside import EvidenceLine, EvidenceSource
from safehold.exposure.incident import newest_versions
from safehold.exposure.judgement import Judgement
from safehold.exposure.presence import Presence, counting_findings, merge_spans
from safehold.exposure.words import count_words, list_words
from safehold.model.evidence import EvidenceTopic

__all__ = [
    "covers",
    "evidence_coverage",
    "lines_of",
    "mattering",
    "named_things",
    "names_thing",
    "plain_name",
    "sources_of",
    "touched",
]


def touched(judgement: Judgement) -> tuple[Presence, ...]:
    """Hosts that held the thing or may have, by name."""
    return judgement.hosts_with("held", "unknown")


def mattering(presence: Presence) -> tuple[Span, ...]:
    """When the thing was, or may have been, on a host."""
    return merge_spans((*presence.held, *presence.unknown))


def sources_of(case: Case, topic: EvidenceTopic) -> tuple[EvidenceSource, ...]:
    """The files of evidence of one topic."""
    return tuple(one for one in case.evidence if one.topic == topic)


def lines_of(case: Case, topic: EvidenceTopic) -> tuple[EvidenceLine, ...]:
    """The rows of one topic, in order of time."""
    return tuple(one for one in case.evidence_lines if one.topic == topic)


def covers(case: Case, topic: EvidenceTopic, subject: str, spans: Iterable[Span]) -> bool:
    """Whether evidence that is said to be complete covers all of ``spans`` for ``subject``.

    A source with lines that could not be read is not complete, whatever was said of it.
    """
    known = merge_spans(
        Span(one.covers_from, one.covers_until)
        for one in sources_of(case, topic)
        if one.covers_from is not None
        and one.covers_until is not None
        and one.unread == 0
        and (not one.subjects or any(subject.startswith(name) for name in one.subjects))
    )
    return all(any(own.start <= span.start and span.end <= own.end for own in known) for span in spans)


def plain_name(name: str) -> str:
    """Names of packages are equal up to case and ``-``, ``_``, ``.`` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named_things(case: Case) -> dict[str, set[str]]:
    """Packages that the incident names, with their versions as far as they are listed one by one; none: a range."""
    found = dict[str, set[str]]()
    for findings in counting_findings(case).values():
        for one in findings:
            if one.name and one.version:
                found.setdefault(plain_name(one.name), set()).add(one.version)
    for version in newest_versions(case.advisories):
        for claim in () if version.withdrawn else version.affected:
            listed = [text.strip() for text in claim.versions.split(",")]
            known = found.setdefault(plain_name(claim.name), set())
            known.update(
                text.removeprefix("==") for text in listed if re.fullmatch(r"(==)?[0-9][0-9A-Za-z.+!-]*", text)
            )
    return found


def names_thing(things: Sequence[str], named: dict[str, set[str]]) -> bool | None:
    """Whether a list of ``name==version`` has the thing; None: it has its name, and whether the version counts is open."""
    said: bool | None = False
    for thing in things:
        name, _, version = thing.partition("==")
        versions = named.get(plain_name(name))
        if versions is None:
            continue
        if version in versions:
            return True
        said = None if not versions or not version else said
    return said


def evidence_coverage(case: Case, topic: EvidenceTopic, what: str) -> str:
    """One sentence: which evidence of a topic there is, and what in it could not be read."""
    sources = sources_of(case, topic)
    if not sources:
        return f"No {what} is on record."
    unread = sum(one.unread for one in sources)
    rows = sum(one.count for one in sources)
    names = list_words(sorted({one.source for one in sources}), 4)
    rest = f"; {count_words(unread, 'line')} could not be read" if unread else ""
    return f"{count_words(rows, 'row')} from {names}{rest}."
