"""The timeline picture: one inline SVG with a lane a host, and a strip of the whole period below. Pure.

Nothing in it depends on colour alone: what was seen is solid, what may be is dashed, what no one saw is hatched; ticks,
squares and crosses are keys, seals and refusals. Colours come from the page's style by class, so that the picture
follows a dark page and a printed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

import msgspec

from safehold.exposure.axis import Axis, fit_axis, ticks
from safehold.exposure.facts import Span
from safehold.exposure.report import HostLine, Mark, MarkKind, Report
from safehold.exposure.verdict import VERDICT_WORDS
from safehold.exposure.words import duration_words, entries_words, plain_words, span_words, time_words

__all__ = ["lanes_of", "timeline_svg", "zoom_span"]

_WIDTH: Final = 1120
_LEFT: Final = 206
_RIGHT: Final = 12
_ROW: Final = 22
_LANE: Final = 72
_BAR: Final = 14
_STRIP: Final = 9
_HOUR: Final = 3_600_000_000
_LETTER: Final = 6.1
"""Width of a letter of the small type, in px; a little too wide, so that labels keep apart."""

_MOST_LANES: Final = 24
_MARK_WORDS: Final[dict[MarkKind, str]] = {
    "key_release": "key release",
    "sealed": "sealed here",
    "refused": "refused",
    "advisory": "first seen",
    "hold": "hold placed",
    "lift": "hold lifted",
}


class _Glyph(msgspec.Struct, frozen=True):
    """Marks of one kind that fall on one spot."""

    x: float
    marks: tuple[Mark, ...]


def zoom_span(report: Report) -> Span:
    """The period worth a close look: the window and what followed at once, with room on both sides."""
    whole = _whole_span(report)
    moments = [at for host in report.hosts for run in host.held for at in (run.inner.start, run.outer.end)]
    if report.window is not None:
        first, last = report.window.start, report.window.end
        limit = last + 48 * _HOUR
        moments += [mark.t for mark in report.marks if mark.kind in ("advisory", "hold")]
        moments += [span.end for host in report.hosts for span in host.unknown]
        first = min([first, *(run.inner.start for host in report.hosts for run in host.held)])
        last = max([last, *(min(at, limit) for at in moments)])
    elif moments:
        first, last = min(moments), max(moments)
    else:
        return whole
    room = max((last - first) // 8, _HOUR)
    return Span(max(first - room, min(whole.start, first)), max(min(last + room, report.now), last))


def _whole_span(report: Report) -> Span:
    moments = [report.now, *(mark.t for mark in report.marks), *(host.observed_from for host in report.hosts)]
    moments += [report.window.start] if report.window else []
    return Span(min(moments), max(report.now, min(moments) + 1))


def lanes_of(report: Report) -> tuple[HostLine, ...]:
    """The hosts that get a lane: all that held it or may have, and others while there is room."""
    telling = [host for host in report.hosts if host.verdict != "not_held"]
    others = [host for host in report.hosts if host.verdict == "not_held"]
    shown = {host.host for host in (*telling, *others[: max(_MOST_LANES - len(telling), 0)])}
    return tuple(host for host in report.hosts if host.host in shown)


def timeline_svg(report: Report) -> str:
    """The picture as one ``<svg>`` element, its text escaped, with a title and a description for who cannot see it."""
    hosts = lanes_of(report)
    axis = fit_axis(zoom_span(report), _LEFT, _WIDTH - _RIGHT)
    notices, top = _notices(report, axis), 34
    lanes_top = top + _ROW * len(notices) + (10 if notices else 0)
    lanes_end = lanes_top + _LANE * len(hosts)
    height = lanes_end + 58 + _STRIP * len(hosts) + 30
    parts = [_patterns()]
    if report.window is not None:
        parts += _band(report.window, axis, top - 4, lanes_end)
    parts += _axis_lines(axis, top, lanes_end)
    for row, notice in enumerate(notices):
        parts.append(notice(top + _ROW * row))
    for row, host in enumerate(hosts):
        parts += _lane(report, host, axis, lanes_top + _LANE * row)
    parts += _overview(report, hosts, axis, lanes_end + 40)
    described = f"{report.headline} " + " ".join(f"{host.host}: {host.words}." for host in report.hosts)
    return (
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="tl-title tl-desc">'
        f'<title id="tl-title">{_text(report.title)}: hosts over time (UTC)</title>'
        f'<desc id="tl-desc">{_text(described)}</desc>{"".join(parts)}</svg>'
    )


def _text(text: str) -> str:
    return escape(plain_words(text), quote=True)


def _patterns() -> str:
    hatch = (
        '<pattern id="{0}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="{0}-ground" width="6" height="6"/><line class="{0}-line" x1="0" y1="0" x2="0" y2="6"/></pattern>'
    )
    return f"<defs>{hatch.format('hatch')}{hatch.format('hatch-unknown')}</defs>"


def _rect(kind: str, x: float, y: float, size: tuple[float, float], title: str = "") -> str:
    width, height = size
    inner = f"<title>{_text(title)}</title>" if title else ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">{inner}</rect>'


def _label(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_text(text)}</text>'


def _shortened(text: str, letters: int) -> str:
    """Text with its middle left out: names often differ at their end."""
    text = plain_words(text)
    return text if len(text) <= letters else f"{text[: letters - letters // 2 - 1]}…{text[-(letters // 2) :]}"


def _span_rect(kind: str, span: Span, axis: Axis, place: tuple[float, float], title: str) -> str:
    """A bar over ``span``, at least 2 px wide so that a short time is still seen; empty if it is out of view."""
    if span.end < axis.span.start or span.start > axis.span.end:
        return ""
    y, height = place
    start, end = axis.x(span.start), axis.x(span.end)
    return _rect(kind, min(start, axis.right - 2), y, (max(end - start, 2.0), height), title)


def _band(window: Span, axis: Axis, top: float, bottom: float) -> list[str]:
    if window.end < axis.span.start or window.start > axis.span.end:
        return []
    title = f"window: {span_words(window)}"
    return [
        _span_rect("band", window, axis, (top, bottom - top), title),
        *(
            f'<line class="band-edge" x1="{axis.x(at):.1f}" x2="{axis.x(at):.1f}" y1="{top}" y2="{bottom}"/>'
            for at in (window.start, window.end)
            if axis.span.start <= at <= axis.span.end
        ),
    ]


def _axis_lines(axis: Axis, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in ticks(axis, 10):
        x = axis.x(tick.at)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{bottom}"/>')
        parts.append(
            _label(
                "axis strong" if tick.day else "axis",
                x,
                top - 20 if tick.day else top - 8,
                tick.day or tick.clock,
                "middle",
            )
        )
        if tick.day and tick.clock:
            parts.append(_label("axis", x, top - 8, tick.clock, "middle"))
    return parts


def _notices(report: Report, axis: Axis) -> list[Callable[[float], str]]:
    """Rows above the lanes: the window's name, then advisories and holds, each on the first row where it fits."""
    said = list[tuple[float, float, str, Callable[[float, float], str]]]()
    if report.window is not None and axis.shows(report.window):
        words = f"window {span_words(report.window)}"
        said.append(_notice(axis, max(report.window.start, axis.span.start), words, "glyph-window"))
    for mark in report.marks:
        if (
            mark.host is None
            and mark.kind in ("advisory", "hold", "lift")
            and axis.span.start <= mark.t <= axis.span.end
        ):
            what = {"advisory": "first seen:", "hold": "hold on", "lift": "lifted:"}[mark.kind]
            said.append(
                _notice(axis, mark.t, f"{what} {_shortened(mark.words, 36)} #{mark.entry}", f"glyph-{mark.kind}")
            )
    rows = list[list[tuple[float, float, str, Callable[[float, float], str]]]]()
    for one in said:
        row = next((row for row in rows if all(one[1] < other[0] or one[0] > other[1] for other in row)), None)
        if row is None:
            rows.append([one])
        else:
            row.append(one)
    return [_notice_row(row) for row in rows]


def _notice_row(row: Sequence[tuple[float, float, str, Callable[[float, float], str]]]) -> Callable[[float], str]:
    return lambda y: "".join(draw(y, start) for start, _, _, draw in row)


def _notice(axis: Axis, at: int, words: str, kind: str) -> tuple[float, float, str, Callable[[float, float], str]]:
    """What one notice takes of its row (from, to), and how it is drawn; near the right edge its text stands left."""
    shown, x = _shortened(words, 52), axis.x(at)
    wide = len(shown) * _LETTER + 14
    left = x + wide > axis.right
    span = (x - wide, x + 6) if left else (x - 6, x + wide)
    title = f"{words}, {time_words(at)}"

    def draw(y: float, _start: float) -> str:
        middle = y + 9
        shape = (
            f'<path class="{kind}" d="M{x:.1f} {middle - 5:.1f}l5 5l-5 5l-5 -5z"><title>{_text(title)}</title></path>'
        )
        return shape + _label("note", x - 9 if left else x + 9, middle + 4, shown, "end" if left else "start")

    return (*span, kind, draw)


def _lane(report: Report, host: HostLine, axis: Axis, top: float) -> list[str]:
    bar, parts = top + 36, list[str]()
    parts.append(f'<line class="lane-line" x1="0" x2="{_WIDTH}" y1="{top:.1f}" y2="{top:.1f}"/>')
    name = host.host.removeprefix(f"{host.party}/")
    parts.append(_label("axis", 4, top + 26, _shortened(host.party, 32)))
    parts.append(_label("host", 4, top + 42, _shortened(name, 24)))
    parts.append(_label(f"verdict {host.verdict}", 4, top + 57, VERDICT_WORDS[host.verdict]))
    known = Span(host.observed_from, report.now)
    parts.append(_span_rect("observed", known, axis, (bar, _BAR), f"{host.host}: observed"))
    for span in host.unobserved:
        parts.append(_span_rect("unobserved", span, axis, (bar, _BAR), f"not observed: {span_words(span)}"))
    for span in host.unknown:
        long = duration_words(span.end - span.start)
        parts.append(_span_rect("unknown", span, axis, (bar, _BAR), f"unknown: {span_words(span)} ({long})"))
        parts += _inside(span, axis, bar, "unknown")
    for run in host.held:
        parts.append(
            _span_rect("outer", run.outer, axis, (bar - 2, _BAR + 4), f"held at most: {span_words(run.outer)}")
        )
    for run in host.held:
        parts.append(_span_rect("inner", run.inner, axis, (bar - 2, _BAR + 4), f"seen: {span_words(run.inner)}"))
        parts += _inside(run.inner, axis, bar, "held")
    own = [mark for mark in report.marks if mark.host == host.host and axis.span.start <= mark.t <= axis.span.end]
    parts += _glyphs([mark for mark in own if mark.kind in ("key_release", "sealed")], axis, bar, above=True)
    parts += _glyphs([mark for mark in own if mark.kind in ("refused", "hold", "lift")], axis, bar, above=False)
    return parts


def _inside(span: Span, axis: Axis, bar: float, word: str) -> list[str]:
    """A word inside a bar that is wide enough for it."""
    start, end = axis.x(span.start), axis.x(span.end)
    if end - start < len(word) * _LETTER + 12:
        return []
    return [_label(f"inside {word}", (start + end) / 2, bar + 11, word, "middle")]


def _gather(marks: Iterable[Mark], axis: Axis) -> list[_Glyph]:
    """Marks of one kind closer than a glyph is wide are drawn as one."""
    glyphs = list[_Glyph]()
    for mark in sorted(marks, key=lambda mark: (mark.kind, mark.t)):
        x = axis.x(mark.t)
        if glyphs and glyphs[-1].marks[0].kind == mark.kind and x - glyphs[-1].x < 7:
            glyphs[-1] = _Glyph(glyphs[-1].x, (*glyphs[-1].marks, mark))
        else:
            glyphs.append(_Glyph(x, (mark,)))
    return sorted(glyphs, key=lambda glyph: glyph.x)


def _glyphs(marks: Iterable[Mark], axis: Axis, bar: float, *, above: bool) -> list[str]:
    parts, taken = list[str](), [-1e9, -1e9]
    for glyph in _gather(marks, axis):
        first = glyph.marks[0]
        title = "; ".join(f"#{mark.entry} {time_words(mark.t)} {mark.words}" for mark in glyph.marks[:12])
        what = _MARK_WORDS[first.kind]
        parts.append(_shape(first.kind, glyph.x, bar, f"{what}: {title}"))
        label = f"#{first.entry}" if len(glyph.marks) == 1 else f"{len(glyph.marks)}×"
        half = len(label) * _LETTER / 2
        # Two rows of labels; one that would run into both its neighbours is left out: the glyph has it as its title.
        row = next((row for row, free in enumerate(taken) if glyph.x - half > free + 3 and (above or not row)), None)
        if row is not None:
            y = bar - 15 - 10 * row if above else bar + _BAR + 17
            parts.append(_label("entry", glyph.x, y, label, "middle"))
            taken[row] = glyph.x + half
    return parts


def _shape(kind: str, x: float, bar: float, title: str) -> str:
    inner = f"<title>{_text(title)}</title>"
    if kind == "sealed":
        return f'<rect class="glyph-sealed" x="{x - 4.5:.1f}" y="{bar - 12:.1f}" width="9" height="9">{inner}</rect>'
    if kind in ("hold", "lift"):
        return f'<path class="glyph-{kind}" d="M{x:.1f} {bar + _BAR:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z">{inner}</path>'
    if kind == "refused":
        y = bar + _BAR + 1
        return f'<path class="glyph-refused" d="M{x - 3.5:.1f} {y:.1f}l7 7m0 -7l-7 7">{inner}</path>'
    return (
        f'<g class="glyph-key">{inner}<line x1="{x:.1f}" x2="{x:.1f}" y1="{bar - 8:.1f}" y2="{bar + _BAR:.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{bar - 8:.1f}" r="3.5"/></g>'
    )


def _overview(report: Report, hosts: Sequence[HostLine], zoomed: Axis, top: float) -> list[str]:
    """The whole period in thin lanes, with the part that is shown above in a frame."""
    axis = fit_axis(_whole_span(report), _LEFT, _WIDTH - _RIGHT)
    height = _STRIP * len(hosts)
    parts = [_label("axis strong", 4, top + height / 2 + 4, "the whole period")]
    for row, host in enumerate(hosts):
        place = (top + _STRIP * row + 1.5, _STRIP - 3)
        parts.append(_span_rect("observed", Span(host.observed_from, report.now), axis, place, host.host))
        parts += [_span_rect("unobserved", span, axis, place, "not observed") for span in host.unobserved]
        parts += [_span_rect("unknown", span, axis, place, "unknown") for span in host.unknown]
        parts += [_span_rect("inner", run.outer, axis, place, "held") for run in host.held]
    start, end = axis.x(zoomed.span.start), axis.x(zoomed.span.end)
    parts.append(_rect("frame", start, top - 4, (max(end - start, 3), height + 8), "the part shown above"))
    parts += [
        f'<path class="glyph-{mark.kind}" d="M{axis.x(mark.t):.1f} {top - 13:.1f}l4 4l-4 4l-4 -4z">'
        f"<title>{_text(f'{mark.kind} {mark.words} {time_words(mark.t)} {entries_words([mark.entry])}')}</title></path>"
        for mark in report.marks
        if mark.kind in ("hold", "lift", "advisory")
    ]
    parts += [
        _label("axis", axis.x(tick.at), top + height + 20, tick.day or tick.clock, "middle") for tick in ticks(axis, 9)
    ]
    return parts
