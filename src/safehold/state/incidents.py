"""Which advisories speak of one incident: those joined by aliases, or by naming the same thing, to any distance."""

from __future__ import annotations

import msgspec

from safehold.ledger.storage import View

__all__ = ["find_incident"]


def find_incident(view: View, advisory: str) -> tuple[str, ...]:
    """All ids of the incident that ``advisory`` belongs to, sorted; empty if no entry names it."""
    links = list[set[str]]()
    for name, aliases, joined in view.rows("SELECT advisory, aliases, joined FROM advisory ORDER BY idx"):
        links.append({name, *msgspec.json.decode(aliases), *msgspec.json.decode(joined)})
    found = {advisory} if any(advisory in link for link in links) else set[str]()
    grown = True
    while grown:
        grown = False
        for link in links:
            if found & link and not link <= found:
                found |= link
                grown = True
    return tuple(sorted(found))
