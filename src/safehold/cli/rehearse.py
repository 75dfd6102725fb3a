"""``safehold rehearse``: play a history of commands, each at its own time, in a home made for it.

What it is for: to try a response before the day, and to hold the answers against histories whose truth one knows. Every line is
a command as one would type it, run by the same code; only the clock is another. Such a home is no place of record: its
ledger's name begins with ``rehearsal``, and that name stands in every checkpoint, receipt and report.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec

from safehold.cli.context import Home, HomeFactory, Session, session_of
from safehold.cli.kinds import parse_moment
from safehold.cli.output import progress_of
from safehold.cli.root import VERBS, run
from safehold.model.encoding import resolved
from safehold.model.errors import Conflict, InputInvalid, NotFound, StorageFailed

__all__ = ["command"]

_NOT_HERE: Final = frozenset({"init", "demo", "serve", "follow", "witness", "restore", "rehearse", "drill", "agent"})
"""Verbs that make other homes, or go on by the real clock."""
_ORIGIN: Final = re.compile(r"rehearsal[a-z0-9.-]*(/[A-Za-z0-9._~-]+)*")
_MAX_LINE: Final = 1 << 20
_NOT_SAID: Final = frozenset({"--home", "--passphrase-file", "--watch"})
"""Options that name another home, or never end."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One act: ``do`` the words after ``safehold``, ``at`` a time, ``code`` the exit code that it must have."""

    at: str
    do: list[str]
    code: int = 0


class _Clock:
    """Stands where the script puts it, and moves on by a microsecond whenever it is read: no two entries have one time."""

    def __init__(self) -> None:
        self._at = self._line = 0

    def set(self, at: int, line: int) -> None:
        if at < self._line:
            raise InputInvalid(
                "cli.rehearsal_time", f"line {line} is earlier than what was done before it", "put the lines in order"
            )
        self._line = at
        self._at = max(self._at, at)  # lines of one time follow one another

    def __call__(self) -> int:
        self._at += 1
        return self._at


class _Factory:
    """Makes and opens the one home, by the rehearsal's clock."""

    def __init__(self, real: HomeFactory, clock: Callable[[], int]) -> None:
        self._real = real
        self._clock = clock

    def open(self, path: Path, _clock: Callable[[], int] | None = None) -> Home:
        return self._real.open(path, self._clock)

    def __getattr__(self, name: str) -> Any:
        raise InputInvalid("cli.rehearsal_verb", "a rehearsal makes no other home", "leave that line out")


@click.command("rehearse", epilog="Example: safehold --home try-out rehearse history.jsonl --out said.jsonl")
@click.argument("script", type=click.Path(path_type=Path))
@click.option("--origin", default="rehearsal.example/custody", show_default=True, help="The ledger's name; it begins with rehearsal.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write what each command answered, a JSON document a line."
)
@click.pass_context
def command(context: click.Context, script: Path, origin: str, out: Path | None) -> None:
    """Play SCRIPT in a new home: a JSON object a line, {"at": TIME, "do": [WORD, …]}, optionally "code" (its exit code).

    WORDs are what one types after `safehold`. Times do not go back. It stops at the first line that ends otherwise than
    it must, and says which. Then ask: safehold --home HOME exposure ….
    """
    session = session_of(context)
    if not _ORIGIN.fullmatch(origin):
        raise InputInvalid("cli.rehearsal_origin", f"{origin[:80]!r} does not begin with rehearsal", "name it so")
    if out is not None and out.exists():
        raise Conflict("cli.out_exists", f"{out} is there already", "choose another --out")
    acts = _acts(script)
    progress = progress_of(session.out, "played", len(acts), "acts")
    clock = _Clock()
    played = 0
    try:
        with contextlib.ExitStack() as ending:
            sink = ending.enter_context(out.open("xb")) if out is not None else None
            for number, at, line in acts:
                clock.set(at, number)
                if not played:
                    session.factory().create(session.home, origin, session.read_passphrase(), clock).close()
                _play(session, clock, number, line, sink)
                played += 1
                progress(played)
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error
    session.out.progress_done()
    with session.open_home() as home:
        size = home.log.checkpoint().size
    session.out.result(
        {"home": str(session.home), "origin": origin, "acts": played, "entries": size},
        [f"Played {played:,} acts in {session.home}: {size:,} entries of {origin}."],
    )


def _acts(script: Path) -> Sequence[tuple[int, int, _Line]]:
    """The lines with their numbers and times. Raises before anything is played if one cannot be read."""
    decoder = msgspec.json.Decoder(resolved(_Line))
    acts = list[tuple[int, int, _Line]]()
    try:
        with script.open("rb") as file:
            for number, text in enumerate(iter(lambda: file.readline(_MAX_LINE + 1), b""), start=1):
                if text.strip():
                    line = _checked(decoder, text, number)
                    acts.append((number, parse_moment(line.at, 0), line))
    except OSError as error:
        raise NotFound("cli.rehearsal_file", f"{script} cannot be read: {error.strerror}", "name another") from error
    if not acts:
        raise InputInvalid("cli.rehearsal_line", f"{script} holds no act", "see docs/guide/lab.md for its form")
    return acts


def _checked(decoder: msgspec.json.Decoder[_Line], text: bytes, number: int) -> _Line:
    try:
        line = decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputInvalid(
            "cli.rehearsal_line", f"line {number} is no act: {str(error)[:200]}", 'write {"at": "2026-03-24T11:30:00Z", "do": ["party", "list"]}'
        ) from error  # fmt: skip
    verb = line.do[0] if line.do else ""
    if verb not in VERBS or verb in _NOT_HERE or _NOT_SAID & set(line.do):
        raise InputInvalid(
            "cli.rehearsal_verb", f"line {number}: {verb[:40]!r} cannot be rehearsed", "leave that line out"
        )
    return line


def _play(session: Session, clock: _Clock, number: int, line: _Line, sink: BinaryIO | None) -> None:
    factory = _Factory(session.factory(), clock)
    own = Session(
        home=session.home,
        passphrase=session.passphrase,
        passphrase_file=session.passphrase_file,
        factory=lambda: factory,
        clock=clock,
        open_store=session.open_store,
    )
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        code = run([*line.do, "--json"], own)
    if sink is not None:
        found = said.getvalue().strip()
        document = msgspec.json.decode(found) if found else None
        sink.write(msgspec.json.encode({"line": number, "at": line.at, "code": code, "said": document}) + b"\n")
    if code != line.code:
        last = (told.getvalue().strip().splitlines() or ["it said nothing"])[0]
        raise InputInvalid(
            "cli.rehearsal_failed",
            f"line {number} ended with {code} and not with {line.code}: {last[:300]}",
            "correct it, remove the home, and play the script again",
        )
