"""Output: one JSON document with ``--json``, words and tables without. Progress and errors go to standard error.

A terminal obeys control characters, and much of what is shown was written by others: reasons, names, files. So no
character that is not printable leaves here, except line ends between lines, and colours of our own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from safehold.model.encoding import pretty_json
from safehold.model.errors import SafeholdError

__all__ = ["Output", "Painted", "iso_time", "one_line", "progress_of"]


def iso_time(microseconds: int | None) -> str:
    """µs UTC as RFC 3339 to the second, or an empty text for None."""
    if microseconds is None:
        return ""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Painted(str):
    """A line with colours of our own; what it quotes went through ``one_line`` before it was painted."""

    __slots__ = ()


class Output:
    """Prints results. ``document`` is what ``--json`` shows, ``lines`` is what people see."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def result(self, document: Any, lines: Iterable[str] = ()) -> None:
        """The result of a verb, once."""
        if self.json:
            sys.stdout.write(_safe_json(document) + "\n")
        else:
            for line in lines:
                sys.stdout.write((line if isinstance(line, Painted) else one_line(line)) + "\n")
        sys.stdout.flush()

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table for people; nothing with ``--json``."""
        if self.json:
            return
        # rich is loaded only where a table is drawn: it would double the time of every short verb.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            # Text and not markup: what is shown may come from a hostile file.
            table.add_row(*(Text(one_line(str(cell))) for cell in row))
        console = Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=160)
        console.print(table)

    def progress(self, text: str) -> None:
        """A line about long work, on standard error: rewritten in place on a terminal, printed otherwise."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def progress_done(self) -> None:
        """End a line that was rewritten in place."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def failure(self, error: SafeholdError, **more: Any) -> None:
        """An error: one line and a hint; with ``--json`` also a document on standard output, with ``more`` in it."""
        if self.json:
            shown: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
            entry = getattr(error, "entry", None)
            if entry is not None:
                shown["entry"] = entry
            with suppress(OSError):  # the output may be what failed: then standard error alone says so
                sys.stdout.write(_safe_json({"error": shown, **more}) + "\n")
                sys.stdout.flush()
        entry = getattr(error, "entry", None)
        place = f" (entry {entry})" if entry is not None else ""
        sys.stderr.write(f"safehold: {one_line(error.message)} [{error.code}]{place}\n")
        if error.hint:
            sys.stderr.write(f"  hint: {one_line(error.hint)}\n")


def progress_of(out: Output, act: str, rows: int | None = None, what: str = "records") -> Callable[[int], None]:
    """What takes the number of ``what`` done and shows, once a second, that and the rate; with ``rows`` the time left too."""
    started = last = time.monotonic()

    def show(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1.0:
            last = now
            rate = done / (now - started)
            left = f", about {(rows - done) / rate:,.0f} s left" if rows is not None and rate else ""
            out.progress(f"{act} {done:,} {what}, {rate:,.0f}/s{left}")

    return show


def one_line(text: str) -> str:
    """``text`` with a mark in place of each control character, line end and half of a surrogate pair."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _safe_json(document: Any) -> str:
    """JSON whose strings hold such characters as escapes: the same document, and nothing for a terminal to obey."""
    try:
        text = pretty_json(document)
    except UnicodeEncodeError:  # the name of a file that is no UTF-8: the work is done, and must be told
        text = pretty_json(_encodable(msgspec.to_builtins(document)))
    every = (sys.stdout.encoding or "utf-8").lower().startswith("utf")  # can all that JSON holds be written there?
    if text.replace("\n", "").isprintable() and (every or text.isascii()):
        return text
    # Outside of its strings JSON is ASCII, and its only line ends are the ones that were laid out just now.
    return "".join(
        character
        if character == "\n" or (character.isprintable() and (every or character.isascii()))
        else json.dumps(character)[1:-1]
        for character in text
    )


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    if isinstance(value, dict):
        return {_encodable(name): _encodable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(member) for member in value]
    return value
