"""The report as one self-contained HTML file: no script, nothing fetched, all text escaped. Pure.

A reader who knows nothing of Safehold finds, in this order: one sentence, the picture, the releases, the hosts, the
windows that sources claim, each question with its answer, what was not seen, and what stays open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from safehold.exposure.facts import Span
from safehold.exposure.page_style import STYLE
from safehold.exposure.questions.answer import Answer, Table
from safehold.exposure.report import FORMAT, Report, asked_words
from safehold.exposure.timeline import lanes_of, timeline_svg
from safehold.exposure.verdict import VERDICT_WORDS, VERDICTS, Verdict
from safehold.exposure.words import count_words, entries_words, plain_words, span_words, time_words

__all__ = ["CONTENT_SECURITY_POLICY", "report_html"]

CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may do: carry its own style. Not even an escape that failed could run or fetch anything."""

_SIGNS: Final[dict[Verdict, str]] = {"exposed": "✖", "unknown": "?", "held": "▲", "not_held": "✓"}
_LEGEND: Final = (
    ("observed", "observed"),
    ("unobserved", "not observed"),
    ("unknown", "unknown: not observed while it mattered"),
    ("inner", "held: seen"),
    ("outer", "held at most"),
    ("band", "window claimed"),
)
_GLYPHS: Final = (
    ('<g class="glyph-key"><line x1="7" x2="7" y1="4" y2="15"/><circle cx="7" cy="4" r="3.5"/></g>', "key release"),
    ('<rect class="glyph-sealed" x="2.5" y="3" width="9" height="9"/>', "sealed here"),
    ('<path class="glyph-refused" d="M3.5 4l7 7m0 -7l-7 7"/>', "refused"),
    ('<path class="glyph-advisory" d="M7 2l5 5l-5 5l-5 -5z"/>', "advisory first seen"),
    ('<path class="glyph-hold" d="M7 2l5 5l-5 5l-5 -5z"/>', "hold placed"),
    ('<path class="glyph-lift" d="M7 2l5 5l-5 5l-5 -5z"/>', "hold lifted"),
)


def report_html(report: Report) -> str:
    """The whole page. The same report gives the same bytes."""
    body = (
        _head(report),
        _section("timeline", "What happened when (UTC)", _figure(report)),
        _section("releases", "Releases: what could have been taken", _releases(report)),
        _section("hosts", "Hosts: where the thing was", _hosts(report)),
        _section("windows", "Windows: when it could be had, and who says so", _windows(report)),
        _section("questions", "Questions and answers", "".join(_answer(answer) for answer in report.answers)),
        _section("unseen", "What was not seen", f"<p>{_text(report.coverage)}</p>"),
        _section("open", "Open points", _list(report.open_points) or "<p>None.</p>"),
        _foot(report),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(CONTENT_SECURITY_POLICY, quote=True)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(plain_words(text), quote=True)


def _section(name: str, title: str, inner: str) -> str:
    return f'<section id="{name}"><h2>{_text(title)}</h2>{inner}</section>'


def _badge(verdict: Verdict) -> str:
    return (
        f'<span class="badge {verdict}"><span class="sign" aria-hidden="true">{_SIGNS[verdict]}</span>'
        f"{_text(VERDICT_WORDS[verdict])}</span>"
    )


def _entries(entries: Sequence[int]) -> str:
    return f'<span class="entries">{_text(entries_words(entries) or "–")}</span>'


def _list(items: Iterable[str]) -> str:
    rows = "".join(f"<li>{_text(item)}</li>" for item in items)
    return f"<ul>{rows}</ul>" if rows else ""


def _head(report: Report) -> str:
    counts = "".join(
        f'<li class="{verdict}"><b>{report.counts["releases"][verdict]}</b><span>'
        f'<span class="sign" aria-hidden="true">{_SIGNS[verdict]}</span>{_text(VERDICT_WORDS[verdict])}</span></li>'
        for verdict in VERDICTS
    )
    advisories = sorted({version.advisory for version in report.advisories})
    about = f"{asked_words(report)}. Advisories: {', '.join(advisories)}."
    return (
        f'<header><p class="eyebrow">{_text(report.title)}</p><h1>{_text(report.headline)}</h1>'
        f'<p class="about">{_text(about)}</p>'
        f'<ul class="counts" aria-label="releases by verdict">{counts}</ul></header>'
    )


def _figure(report: Report) -> str:
    bars = "".join(
        f'<li><svg width="28" height="14" aria-hidden="true"><rect class="{kind}" x="1" y="1" width="26" height="12"/></svg>'
        f"{_text(words)}</li>"
        for kind, words in _LEGEND
    )
    glyphs = "".join(
        f'<li><svg width="14" height="16" aria-hidden="true">{shape}</svg>{_text(words)}</li>'
        for shape, words in _GLYPHS
    )
    hidden = len(report.hosts) - len(lanes_of(report))
    note = (
        f"<p>Not drawn: {_text(count_words(hidden, 'more host'))}, observed throughout and never there.</p>"
        if hidden
        else ""
    )
    return (
        f'<figure><div class="scroll">{timeline_svg(report)}</div>'
        f'<figcaption>{note}<ul class="legend">{bars}{glyphs}</ul></figcaption></figure>'
    )


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table; its cells are HTML already."""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _releases(report: Report) -> str:
    ordered = sorted(report.releases, key=lambda one: (VERDICTS.index(one.verdict), one.name))
    rows = (
        (
            f'<span class="name">{_text(one.name)}</span><small>{_text(count_words(one.rows, "row"))}</small>',
            _badge(one.verdict),
            _reasons(one.reasons, one.hosts),
            _entries(one.evidence),
        )
        for one in ordered
    )
    return _grid(("release", "verdict", "by what", "evidence"), rows, "verdicts") if ordered else "<p>None.</p>"


def _reasons(reasons: Sequence[str], hosts: Sequence[str]) -> str:
    """A line a host; its name stands out."""
    rows = []
    for reason in reasons:
        host = next((host for host in hosts if reason.startswith(f"{host}: ")), "")
        rows.append(f"<li>{f'<b>{_text(host)}</b> ' if host else ''}{_text(reason.removeprefix(f'{host}: '))}</li>")
    return f"<ul>{''.join(rows)}</ul>"


def _hosts(report: Report) -> str:
    rows = (
        (
            f'<span class="name">{_text(host.host)}</span>',
            _badge(host.verdict),
            _text(host.words),
            _text("never" if host.last_report is None else time_words(host.last_report)),
            _entries([entry for run in host.held for entry in run.entries]),
        )
        for host in sorted(report.hosts, key=lambda one: (VERDICTS.index(one.verdict), one.host))
    )
    columns = ("host", "verdict", "what is known", "last report", "evidence")
    return _grid(columns, rows, "verdicts") if report.hosts else "<p>No host is registered.</p>"


def _windows(report: Report) -> str:
    said = "No source claims a window: presence counts whenever it was observed."
    if report.window is not None:
        said = f"In force: {span_words(report.window)} ({report.window_source}). A window is a claim, not a fact."
    rows = (
        (
            _text(claim.source),
            _text(span_words(Span(claim.start, claim.end))),
            _text(claim.advisory),
            _text("yes" if claim.current else "no longer"),
            _entries([claim.idx]),
        )
        for claim in report.windows
    )
    table = _grid(("source", "window", "advisory", "claimed now", "evidence"), rows) if report.windows else ""
    return f"<p>{_text(said)}</p>{table}"


def _answer(answer: Answer) -> str:
    reply = (
        _badge(answer.verdict) if answer.verdict else f'<span class="badge plain">{_text(answer.reply_words)}</span>'
    )
    notes = [f"<dt>evidence</dt><dd>{_entries(answer.evidence)}</dd>" if answer.evidence else ""]
    notes.append(f"<dt>coverage</dt><dd>{_text(answer.coverage)}</dd>")
    if answer.reply == "unknown":
        notes.append(f"<dt>look instead at</dt><dd>{_text(answer.fallback)}</dd>")
    return (
        f'<article><h3><span class="number">{answer.number}</span>{_text(answer.question)} {reply}</h3>'
        f'<p class="summary">{_text(answer.summary)}</p>{_answer_table(answer.table)}<dl>{"".join(notes)}</dl></article>'
    )


def _answer_table(table: Table) -> str:
    return _grid(table.columns, ([_text(cell) for cell in row] for row in table.rows)) if table.rows else ""


def _foot(report: Report) -> str:
    return (
        f"<footer><p>{_text(asked_words(report))}; all times are UTC. Checkpoint root "
        f'<span class="entries">{_text(report.root or "(none)")}</span>. A number like #12 is a place in that ledger.</p>'
        f"<p>Exposed: a way from the thing to the data is on record. Held: the thing was there, and no way to the data "
        f"is. Not held: looked at throughout, and not there. Unknown: nobody looked; it never counts as not affected."
        f"</p><p>{_text(FORMAT)}</p></footer>"
    )
