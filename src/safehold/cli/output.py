"""Output: one JSON document with ``--json``, words and tables without. Progress and errors go to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from safehold.model.encoding import pretty_json
from safehold.model.errors import SafeholdError

__all__ = ["Output", "iso_time"]


def iso_time(microseconds: int | None) -> str:
    """µs UTC as RFC 3339 to the second, or an empty text for None."""
    if microseconds is None:
        return ""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Output:
    """Prints results. ``document`` is what ``--json`` shows, ``lines`` is what people see."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def result(self, document: Any, lines: Iterable[str] = ()) -> None:
        """The result of a verb, once."""
        if self.json:
            sys.stdout.write(pretty_json(document) + "\n")
        else:
            for line in lines:
                sys.stdout.write(line + "\n")
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
            table.add_row(*(Text(str(cell)) for cell in row))
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

    def failure(self, error: SafeholdError) -> None:
        """An error: one line and a hint; with ``--json`` also a document on standard output."""
        if self.json:
            shown: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
            entry = getattr(error, "entry", None)
            if entry is not None:
                shown["entry"] = entry
            sys.stdout.write(pretty_json({"error": shown}) + "\n")
            sys.stdout.flush()
        entry = getattr(error, "entry", None)
        place = f" (entry {entry})" if entry is not None else ""
        sys.stderr.write(f"safehold: {_one_line(error.message)} [{error.code}]{place}\n")
        if error.hint:
            sys.stderr.write(f"  hint: {_one_line(error.hint)}\n")


def _one_line(text: str) -> str:
    """Control characters out: an error may quote a hostile file, and a terminal obeys escape sequences."""
    return "".join(character if character.isprintable() else "�" for character in text)
