"""Incidents: which advisories speak of the same thing, and which window counts. Pure; ``docs/spec/exposure.md`` §2.

Advisories are one incident when they are connected by the aliases of a document or by what was found joined when
it arrived, over all versions of all documents: a link that a later version drops has still been claimed. What
*counts* is the newest version of each advisory, unless it is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safehold.exposure.facts import AdvisoryVersion, Span, Window
from safehold.exposure.words import count_words, list_words
from safehold.model.errors import InputInvalid, NotFound

__all__ = ["choose_incident", "choose_window", "find_claims", "find_incidents", "incident_title", "newest_versions"]


def find_incidents(versions: Sequence[AdvisoryVersion]) -> tuple[tuple[str, ...], ...]:
    """The groups of connected advisory ids, aliases too, each sorted; in order of their first entry."""
    group_of = dict[str, set[str]]()
    for version in versions:
        merged = {version.advisory, *version.aliases, *version.joined}
        for name in tuple(merged):
            merged |= group_of.get(name, set())
        for name in merged:
            group_of[name] = merged
    seen = {id(group_of[version.advisory]): group_of[version.advisory] for version in versions}
    return tuple(tuple(sorted(group)) for group in seen.values())


def choose_incident(
    versions: Sequence[AdvisoryVersion], asked: str | None, with_findings: Iterable[str]
) -> tuple[str, ...]:
    """The ids of the incident that ``asked`` names; None: the only one, or the only one with findings.

    Raises ``NotFound`` (``exposure.no_advisory``) for an id that no document names, or if there is no advisory at
    all, and ``InputInvalid`` (``exposure.which``) if None leaves a choice.
    """
    incidents = find_incidents(versions)
    if asked is not None:
        for incident in incidents:
            if asked in incident:
                return incident
        known = list_words(sorted({version.advisory for version in versions})) or "none yet"
        raise NotFound("exposure.no_advisory", f"no advisory {asked} is known here", f"known: {known}")
    if not incidents:
        raise NotFound("exposure.no_advisory", "no advisory is known here", "add one with `safehold advisory add`")
    found = set(with_findings)
    left = [incident for incident in incidents if found.intersection(incident)] or list(incidents)
    if len(left) == 1:
        return left[0]
    names = [next(v.advisory for v in versions if v.advisory in incident) for incident in left]
    raise InputInvalid(
        "exposure.which", f"there are {count_words(len(left), 'incident')}", f"name one of {list_words(names, 20)}"
    )


def newest_versions(versions: Iterable[AdvisoryVersion]) -> tuple[AdvisoryVersion, ...]:
    """The newest version of each advisory, withdrawn ones too, in ledger order."""
    newest = {version.advisory: version for version in sorted(versions, key=lambda version: version.idx)}
    return tuple(sorted(newest.values(), key=lambda version: version.idx))


def find_claims(versions: Sequence[AdvisoryVersion]) -> tuple[Window, ...]:
    """Every window that was ever claimed, each once a document; ``current`` where it still is."""
    standing = {version.idx for version in newest_versions(versions) if not version.withdrawn}
    return tuple(
        Window(claim.source, claim.start, claim.end, version.advisory, version.idx, version.idx in standing)
        for version in sorted(versions, key=lambda version: version.idx)
        for claim in version.windows
    )


def choose_window(claims: Sequence[Window], source: str | None) -> tuple[Span | None, str]:
    """The window in force and whose it is: the widest of the current claims, or all that ``source`` claims.

    Raises ``InputInvalid`` (``exposure.window``) for a source that claims none.
    """
    current = [claim for claim in claims if claim.current]
    if source is None:
        chosen, words = current, "the widest of all sources"
    else:
        # A source that has since dropped its claim may still be chosen by name: who asks knows why.
        chosen = [claim for claim in current if claim.source == source]
        chosen = chosen or [claim for claim in claims if claim.source == source]
        words = source
        if not chosen:
            known = "; ".join(sorted({claim.source for claim in claims})) or "none"
            raise InputInvalid(
                "exposure.window", f"no window is claimed by {source!r}", f"the sources of windows are: {known}"
            )
    if not chosen:
        return None, "no source claims a window"
    # A claim with its ends the wrong way round still names both: the widest reading of it counts.
    ends = [end for claim in chosen for end in (claim.start, claim.end)]
    return Span(min(ends), max(ends)), words


def incident_title(versions: Sequence[AdvisoryVersion]) -> str:
    """What the incident is about: the packages that its newest versions name, or the advisories themselves."""
    named = dict[str, set[str]]()
    for version in newest_versions(versions):
        for claim in version.affected if not version.withdrawn else ():
            named.setdefault(claim.name, set()).add(claim.versions)
    # A list of versions says more than a range: it starts with a digit.
    said = [
        f"{name} {max(texts, key=lambda text: (text[:1].isdigit(), len(text), text))}"
        for name, texts in sorted(named.items())
    ]
    ids = sorted({version.advisory for version in versions})
    return list_words([text.strip() for text in said], 4) or list_words(ids, 4)
