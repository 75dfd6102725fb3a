r"""Lines of a text file, each within a bound, each with its number.

A line longer than the limit is refused after reading one byte more than the limit, however long it is. Only
``\n`` ends a line: other characters that Unicode calls line ends may stand inside a value.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from safehold.model.errors import InputInvalid

__all__ = ["DEFAULT_LINE_LIMIT", "read_lines", "split_line_end"]

DEFAULT_LINE_LIMIT: Final = 64 * 1024 * 1024


def read_lines(file: BinaryIO, name: str, limit: int, seen: Callable[[bytes], None]) -> Iterator[tuple[int, str]]:
    """Yield each line with its number from 1, its line end still on it; ``seen`` gets every byte read.

    Raises ``InputInvalid``: ``vault.line_too_long``, ``vault.byte_order_mark``, ``vault.nul_byte``,
    ``vault.not_utf8``, each naming file and line.
    """
    number = 0
    while line := file.readline(limit + 2):
        number += 1
        if len(line.rstrip(b"\r\n")) > limit:
            raise InputInvalid(
                "vault.line_too_long",
                f"{name}, line {number}: longer than the limit of {limit:,} bytes",
                "split the record into several",
            )
        seen(line)
        if number == 1 and line.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputInvalid(
                "vault.byte_order_mark",
                f"{name}, line 1: the file begins with a byte order mark",
                "save it as plain UTF-8 without a mark",
            )
        if b"\0" in line:
            raise InputInvalid(
                "vault.nul_byte",
                f"{name}, line {number}: there is a NUL byte, so this is no UTF-8 text file",
                "save it as UTF-8 (UTF-16 looks like this), or seal an undamaged copy",
            )
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputInvalid(
                "vault.not_utf8",
                f"{name}, line {number}: byte {error.start + 1} is not valid UTF-8",
                "save the file as UTF-8",
            ) from error


def split_line_end(line: str) -> tuple[str, str]:
    r"""Return the line and its end: ``\n``, ``\r\n`` or nothing (the last line only)."""
    if line.endswith("\r\n"):
        return line[:-2], "\r\n"
    if line.endswith("\n"):
        return line[:-1], "\n"
    return line, ""
