"""The report: the same case gives the same bytes; the page carries no foreign text as markup; lines fit."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from safehold.exposure.facts import Span
from safehold.exposure.html import CONTENT_SECURITY_POLICY, report_html
from safehold.exposure.report import FORMAT, report_json
from safehold.exposure.text import text_lines
from safehold.exposure.timeline import lanes_of, timeline_svg, zoom_span
from tests.exposure_kit import BAD, CLEAN, HOUR, MINUTE, WINDOW, History, at

NOW = at("31") + MINUTE
CI = "quill-works/ci-1"


class Page(HTMLParser):
    """Tags in order, attributes and text, as a browser would read them."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report(story):
    return story.report(NOW)


def test_the_headline_says_what_a_manager_asks(report):
    assert report.headline == "2 of 4 releases were exposed; 1 more is unknown."
    assert {line.name: line.verdict for line in report.releases} == {
        "quill-works/word-problems@1": "exposed",
        "quill-works/word-problems@2": "exposed",
        "quill-works/proofs@1": "held",
        "bright-annotators/dialogues@1": "unknown",
    }
    assert {line.host: line.verdict for line in report.hosts} == {
        "quill-works/ci-1": "held",
        "quill-works/desk-1": "not_held",
        "bright-annotators/desk-1": "unknown",
        "north-lab/trainer-1": "not_held",
    }


def test_every_verdict_is_counted(report):
    assert report.counts["releases"] == {"exposed": 2, "unknown": 1, "held": 1, "not_held": 0}
    assert report.counts["hosts"] == {"unknown": 1, "held": 1, "not_held": 2}


def test_json_is_stable_and_says_its_format(story, report):
    plain = report_json(report)
    written = msgspec.json.encode(plain)
    assert next(iter(plain)) == "format"
    assert plain["format"] == FORMAT
    assert msgspec.json.encode(report_json(story.report(NOW))) == written
    assert msgspec.json.decode(written) == plain
    assert plain["checkpoint"]["size"] == 47
    assert [answer["number"] for answer in plain["answers"]] == list(range(1, 24))


def test_json_has_the_members_that_the_specification_lists(report):
    told = (Path(__file__).parents[3] / "docs/spec/exposure.md").read_text(encoding="utf-8")
    for name in report_json(report):
        assert f"`{name}`" in told


def test_the_evidence_is_in_the_ledger(story, report):
    entries = {entry for line in report.releases for entry in line.evidence}
    entries |= {entry for line in report.pairs for entry in line.pair.entries}
    assert all(story.log.entry(entry) for entry in entries)


def test_text_says_it_all_and_fits(report):
    lines = text_lines(report, 72)
    assert all(len(line.text) <= 72 for line in lines if " " in line.text.strip() and "root" not in line.text)
    said = "\n".join(line.text for line in lines)
    assert report.headline in said
    assert "What was not seen" in said
    assert "?? bright-annotators/dialogues@1  unknown (not observed)" in said
    assert len(text_lines(report, tables=False)) < len(lines)


def test_the_page_is_whole_and_fetches_nothing(report):
    page = report_html(report)
    read = Page(page)
    assert read.open == []
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in ("src", "href", "xlink:href")]
    assert ("content", CONTENT_SECURITY_POLICY) in read.attributes
    assert "url(" not in page.replace("url(#hatch", "")
    assert "@import" not in page
    assert report_html(report) == page


def test_the_page_shows_every_verdict_and_every_question(report):
    read = Page(report_html(report))
    for words in ("exposed", "unknown (not observed)", "held", "not held (observed)"):
        assert words in read.text
    for answer in report.answers:
        assert answer.question in read.text
        assert answer.summary in read.text


def test_foreign_text_stays_text(history):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m\u202e"
    history.seal("quill-works/word-problems@1", CI, at("24T12:00"))
    history.observe(CI, BAD, at("24T11:00"), NOW)
    history.advisory(summary=evil, affected=((evil, evil),), windows=((evil, *WINDOW),))
    history.finding(match="path", path=evil)
    history.refuse("quill-works/word-problems@1", CI, 1, at("24T18:00"), evil)
    report = history.report(NOW)
    page = report_html(report)
    read = Page(page)
    assert not {"script", "img"} & set(read.tags)
    assert "<script>alert(1)</script>" in read.text
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert all(line.text.isprintable() for line in text_lines(report))


class TestTimeline:
    def test_lanes_and_marks(self, report):
        picture = timeline_svg(report)
        assert picture.count('class="lane-line"') == 4
        assert 'role="img"' in picture
        assert "<desc" in picture
        for kind in ("observed", "unobserved", "unknown", "outer", "inner", "band", "glyph-key", "glyph-sealed"):
            assert f'class="{kind}"' in picture

    def test_the_close_look_is_at_the_window_and_what_followed(self, report):
        span = zoom_span(report)
        assert span.start <= WINDOW[0] - HOUR
        assert at("25T09:10") < span.end < at("27")

    def test_everything_stands_within_the_picture(self, report):
        picture = timeline_svg(report)
        width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', picture).groups())
        for x, y, w, h in re.findall(
            r'<rect class="[\w-]+" x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)" height="([\d.]+)"', picture
        ):
            assert 0 <= float(x) <= float(x) + float(w) <= width + 1
            assert 0 <= float(y) <= float(y) + float(h) <= height

    def test_labels_of_a_row_do_not_overlap(self, history):
        history.seal("quill-works/word-problems@1", CI, at("10"))
        history.grant(1, "quill-works/word-problems", at("10"), at("30"), party="quill-works")
        for minute in range(0, 300, 7):
            history.open("quill-works/word-problems@1", CI, 1, at("24T11:00") + minute * MINUTE)
        history.observe(CI, CLEAN, at("1"), NOW)
        history.advisory()
        picture = timeline_svg(history.report(NOW))
        rows: dict[str, list[tuple[float, float]]] = {}
        for x, y, text in re.findall(r'<text class="entry" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', picture):
            half = len(text) * 6.1 / 2
            rows.setdefault(y, []).append((float(x) - half, float(x) + half))
        assert rows
        for row in rows.values():
            assert all(a[1] <= b[0] for a, b in zip(sorted(row), sorted(row)[1:], strict=False))

    def test_a_host_that_held_it_or_may_have_always_has_a_lane(self, history):
        for number in range(40):
            history.host(f"quill-works/desk-{number}")
            if number < 35:
                history.observe(f"quill-works/desk-{number}", CLEAN, at("1"), NOW)
        history.observe(CI, BAD, at("24T12:00"), NOW)
        history.advisory()
        history.finding()
        report = history.report(NOW)
        shown = {host.host for host in lanes_of(report)}
        assert {host.host for host in report.hosts if host.verdict != "not_held"} <= shown
        assert len(shown) == 24
        assert "Not drawn: 17 more hosts" in Page(report_html(report)).text

    def test_without_window_hosts_or_marks_there_is_still_a_picture(self, tmp_path):
        history = History(tmp_path)
        history.advisory(windows=())
        report = history.report(NOW)
        assert zoom_span(report).end <= NOW + 1
        assert Page(report_html(report)).open == []

    def test_a_window_of_years_is_drawn(self, history):
        history.advisory(windows=(("hearsay", 0, NOW + 365 * 24 * HOUR),))
        history.observe(CI, CLEAN, at("1"), NOW)
        report = history.report(NOW)
        assert report.window == Span(0, NOW + 365 * 24 * HOUR)
        assert Page(report_html(report)).open == []
