"""How a text file was written, and how to write it that way again.

Sealing keeps values, not bytes. But nearly every JSONL and CSV file comes from a library that writes one way
throughout. ``StyleFinder`` tests each line against those ways; if one fits every line, the manifest records
it and ``open`` can give back a file with the same SHA-256.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from safehold.vault.manifest import TextStyle

__all__ = ["CSV_FORMS", "JSON_FORMS", "StyleFinder", "TextForm", "render_csv", "render_json"]

TextForm = Literal["json", "json-compact", "json-utf8", "json-utf8-compact", "csv", "csv-quoted"]

JSON_FORMS: Final[tuple[TextForm, ...]] = ("json-utf8", "json", "json-utf8-compact", "json-compact")
CSV_FORMS: Final[tuple[TextForm, ...]] = ("csv", "csv-quoted")

_JSON_ENCODERS: Final = {
    "json": json.JSONEncoder(allow_nan=False),
    "json-compact": json.JSONEncoder(allow_nan=False, separators=(",", ":")),
    "json-utf8": json.JSONEncoder(allow_nan=False, ensure_ascii=False),
    "json-utf8-compact": json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")),
}


def render_json(record: Mapping[str, Any], form: TextForm) -> str:
    """One record as a line of JSON without its end. ``json`` is what Python's ``json.dumps`` writes by default."""
    return _JSON_ENCODERS[form].encode(record)


def render_csv(cells: Sequence[str], form: TextForm) -> str:
    """One row of CSV without its line end: cells quoted where needed (``csv``), or all (``csv-quoted``)."""
    out = io.StringIO()
    quoting: Literal[0, 1] = csv.QUOTE_ALL if form == "csv-quoted" else csv.QUOTE_MINIMAL
    # With this terminator both \r and \n in a cell get it quoted; before Python 3.13 only its own would.
    csv.writer(out, quoting=quoting, lineterminator="\r\n").writerow(cells)
    return out.getvalue()[:-2]


class StyleFinder:
    """Learns line by line which style, if any, a whole text file has."""

    def __init__(self, forms: Sequence[TextForm]) -> None:
        self._forms: tuple[TextForm, ...] = tuple(forms)
        self._crlf: bool | None = None
        self._last_line_ends = True

    def json_line(self, record: Mapping[str, Any], line: str, end: str) -> None:
        """Take one record, as it will come back from the sealed form, and the line that it was read from."""
        self._note_end(end)
        if len(self._forms) == 1 or not line.isascii() or "\\u" in line:
            self._forms = tuple(form for form in self._forms if render_json(record, form) == line)
        elif self._forms:
            # An ASCII line without escapes is the same in the ASCII and the UTF-8 form: render one of each pair.
            same = {form for form in JSON_FORMS[::2] if render_json(record, form) == line}
            self._forms = tuple(form for form in self._forms if _utf8_twin(form) in same)

    def csv_line(self, cells: Sequence[str], line: str, end: str) -> None:
        """Take one row and the text that it was read from."""
        self._note_end(end)
        self._forms = tuple(form for form in self._forms if render_csv(cells, form) == line)

    def found(self) -> TextStyle | None:
        """The style that fits every line so far, or None."""
        if not self._forms:
            return None
        return TextStyle(form=self._forms[0], crlf=bool(self._crlf), last_line_ends=self._last_line_ends)

    def _note_end(self, end: str) -> None:
        if not end:
            self._last_line_ends = False
        elif self._crlf is None:
            self._crlf = end == "\r\n"
        elif self._crlf != (end == "\r\n"):
            self._forms = ()


def _utf8_twin(form: TextForm) -> TextForm:
    return "json-utf8-compact" if form.endswith("compact") else "json-utf8"
