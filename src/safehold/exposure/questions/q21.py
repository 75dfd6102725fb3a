"""Question 21: a file surfaces: whose copy is it? Marks would say; without them the ledger names who had one."""

from __future__ import annotations

from typing import Final

from safehold.exposure.facts import Case
from safehold.exposure.judgement import Judged, Judgement
from safehold.exposure.questions.answer import Answer, Table, entries_of
from safehold.exposure.verdict import VERDICT_WORDS
from safehold.exposure.words import count_words, entries_words, time_words

__all__ = ["FALLBACK", "NUMBER", "QUESTION", "answer"]

NUMBER: Final = 21
QUESTION: Final = "A file surfaces: whose copy is it?"
FALLBACK: Final = "none"


def answer(case: Case, judgement: Judgement) -> Answer:
    """Always *unknown* here: no mark was recorded. The table names every host that had an affected release."""
    affected = (*judgement.releases_with("exposed"), *judgement.releases_with("unknown"))
    rows, entries = list[tuple[str, ...]](), list[int]()
    opened = dict[str, dict[str, list[int]]]()
    for one in case.key_releases:
        opened.setdefault(one.release, {}).setdefault(one.host, []).append(one.idx)
    for judged in affected:
        for host, words, own in _holders(opened.get(judged.release.release, {}), judged):
            rows.append((judged.release.name, VERDICT_WORDS[judged.verdict], host, words, entries_words(own)))
            entries += own
    hosts = len({row[2] for row in rows})
    releases = count_words(len(affected), "affected release")
    said = (
        f"{count_words(hosts, 'host')} had {releases} in plaintext" if rows else f"No host is on record for {releases}"
    )
    return Answer(
        number=NUMBER,
        question=QUESTION,
        reply="unknown",
        verdict="unknown",
        summary=f"No mark of a recipient is on record, so a copy cannot be told from another. {said}.",
        table=Table(("release", "verdict", "host", "had it by", "evidence"), tuple(rows)),
        evidence=entries_of(entries),
        coverage="Key releases and seals are complete; what became of the plaintext afterwards is not on record.",
        fallback=FALLBACK,
    )


def _holders(opened: dict[str, list[int]], judged: Judged) -> list[tuple[str, str, list[int]]]:
    """Hosts that had the plaintext: who sealed it, and who got keys."""
    found = list[tuple[str, str, list[int]]]()
    release = judged.release
    if release.host is not None and release.idx is not None:
        found.append((release.host, f"sealed there {time_words(release.t)}", [release.idx]))
    found += [(host, count_words(len(entries), "key release"), entries) for host, entries in sorted(opened.items())]
    return found
