"""``safehold evidence``: what happened outside of the guarded data: files of other systems, credentials, clocks, notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast, get_args

import click

from safehold.cli.context import Home, session_of
from safehold.cli.kinds import ADVISORY, HOST, SUBJECT, parse_moment, words
from safehold.cli.output import iso_time
from safehold.exposure.evidence import Evidence, EvidenceFile
from safehold.exposure.evidence_formats import MAX_FILE_BYTES, EvidenceFormat, Reading, read_evidence
from safehold.model.errors import InputInvalid, NotFound
from safehold.model.evidence import EvidenceTopic
from safehold.model.ids import AdvisoryId, HostId, Subject, parse_host_id, sha256_digest
from safehold.model.statements_outside import ClockNoted, CredentialAct, CredentialNoted, CredentialRank, ReleaseChecked
from safehold.state.standing import resolve_release

__all__ = ["command"]

_FORMATS: Final = click.Choice(get_args(EvidenceFormat))
_TOPICS: Final = click.Choice(get_args(EvidenceTopic))
_AT: Final = "When it was (default: now)."


@click.group("evidence")
def command() -> None:
    """Record what happened outside: files of other systems, credentials, clocks, notices, checks."""


def _evidence(home: Home) -> Evidence:
    return Evidence(home.log, home.clock, home.registry.by)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    made = dict[str, str]()
    for text in [one for given in texts for one in words(given)]:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise InputInvalid("cli.pair", f"{text[:80]!r} is not NAME=VALUE", "write it as t=eventTime")
        made[name] = value
    return made


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputInvalid(
                "cli.evidence_size", f"{path} has more than {MAX_FILE_BYTES:,} bytes", "cut it and import the pieces"
            )
        return path.read_bytes()
    except OSError as error:
        raise NotFound("cli.evidence_file", f"{path} cannot be read: {error.strerror}", "name another file") from error


def _covers(text: str | None, now: int) -> tuple[int, int] | None:
    if text is None:
        return None
    start, sign, end = text.partition("..")
    if not sign:
        raise InputInvalid(
            "cli.covers", f"{text[:80]!r} is no span of time", "write FROM..UNTIL: 2026-03-24..2026-03-25"
        )
    return parse_moment(start, now), parse_moment(end, now)


@command.command(
    "import",
    epilog="Example: safehold evidence import trail.json.gz --format cloudtrail --topic storage"
    " --covers 2026-03-24..2026-03-25",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "form", type=_FORMATS, required=True, help="What the file is.")
@click.option("--topic", type=_TOPICS, default="storage", help="What it speaks of. [storage]")
@click.option("--source", help="Whose record it is, in words (default: the name of the file).")
@click.option("--map", "columns", multiple=True, help="CSV: our name for a column, as t=eventTime; may be repeated.")
@click.option("--named", multiple=True, help="What the file calls one of our hosts, as 10.0.0.4=PARTY/NAME.")
@click.option("--host", type=HOST, help="All rows are of this host.")
@click.option("--covers", help="FROM..UNTIL: the time for which the record is complete. Left out: it shows no absence.")
@click.option("--of", "subjects", multiple=True, help="It is complete for these alone: hosts, or beginnings of names.")
@click.option("--dry-run", is_flag=True, help="Read the file and say what is in it; record nothing.")
@click.pass_context
def _import(context: click.Context, /, file: Path, form: str, topic: str, **given: Any) -> None:
    """Record FILE whole, with the rows that were read from it. A file that is recorded already changes nothing."""
    session = session_of(context)
    data = _read(file)
    reading = Reading(
        columns=_pairs(given["columns"]),
        hosts={name: parse_host_id(host) for name, host in _pairs(given["named"]).items()},
        host=given["host"],
    )
    read = read_evidence(cast("EvidenceFormat", form), data, reading)
    document: dict[str, Any] = {
        "topic": topic, "original": sha256_digest(data), "rows": len(read.rows), "unread": read.unread,
        "other": read.other, "with_host": sum(row.host is not None for row in read.rows),
        "since": read.rows[0].t if read.rows else None, "until": read.rows[-1].t if read.rows else None,
    }  # fmt: skip
    said = f"{len(read.rows):,} rows ({document['with_host']:,} of our hosts), {read.unread:,} lines unread"
    said += f", {read.other:,} of other things" if read.other else ""
    if given["dry_run"]:
        session.out.result({**document, "entries": [], "known": False}, [f"Would record {said}."])
        return
    with session.open_home() as home:
        taken = _evidence(home).record_file(
            EvidenceFile(
                topic=cast("EvidenceTopic", topic), source=given["source"] or file.name, form=cast("EvidenceFormat", form),
                data=data, read=read, covers=_covers(given["covers"], home.clock()), subjects=given["subjects"],
            )
        )  # fmt: skip
    known = "Recorded already" if taken.known else "Recorded"
    session.out.result(
        {**document, "entries": taken.entries, "known": taken.known},
        [f"{known}: {said} (entries {', '.join(map(str, taken.entries))})."],
    )


@command.command(
    "credential",
    epilog="Example: safehold evidence credential pypi-token --act reach --host quill-works/ci-1 --rank publishing",
)
@click.argument("credential")
@click.option("--act", type=click.Choice(get_args(CredentialAct)), required=True, help="What happened to it.")
@click.option("--rank", type=click.Choice(get_args(CredentialRank)), default="other", help="What it can do. [other]")
@click.option("--host", type=HOST, help="In whose reach it was, or by whom it was used.")
@click.option("--opens", "subject", type=SUBJECT, help="What it opens: KIND:ID.")
@click.option("--at", help=_AT)
@click.option("--action", default="", help="The one act that revoked it with others.")
@click.option("--proof", type=click.Path(path_type=Path), help="A file that shows it; its digest is recorded.")
@click.option("--words", "said", default="", help="In words.")
@click.pass_context
def _credential(context: click.Context, /, credential: str, act: str, rank: str, **given: Any) -> None:
    """Note something in the life of CREDENTIAL: an id, never its value."""
    session = session_of(context)
    host: HostId | None = given["host"]
    subject: Subject | None = given["subject"]
    with session.open_home() as home:
        now = home.clock()
        note = CredentialNoted(
            t=now, by=home.registry.by, credential=credential, act=cast("CredentialAct", act),
            at=parse_moment(given["at"], now) if given["at"] else now, rank=cast("CredentialRank", rank), host=host,
            subject=subject, action=given["action"],
            proof=sha256_digest(_read(given["proof"])) if given["proof"] else None, words=given["said"],
        )  # fmt: skip
        entry = _evidence(home).note_credential(note)
    session.out.result(
        {"credential": credential, "act": act, "at": note.at, "entry": entry.index},
        [f"Noted: {credential} {act} {iso_time(note.at)} (entry {entry.index})."],
    )


@command.command("clock", epilog="Example: safehold evidence clock awareness PYSEC-2026-2 --at 2026-03-31T09:00:00Z")
@click.argument("clock", type=click.Choice(["alert", "awareness"]))
@click.argument("advisory", type=ADVISORY)
@click.option("--at", help=_AT)
@click.option("--words", "said", default="", help="In words.")
@click.pass_context
def _clock(context: click.Context, clock: str, advisory: AdvisoryId, at: str | None, said: str) -> None:
    """Note when the first alert of ADVISORY's incident was, or when somebody was aware of it."""
    session = session_of(context)
    with session.open_home() as home:
        now = home.clock()
        when = parse_moment(at, now) if at else now
        name = "alert" if clock == "alert" else "awareness"
        entry = _evidence(home).note_clock(
            ClockNoted(t=now, by=home.registry.by, clock=name, advisory=advisory, at=when, words=said)  # type: ignore[arg-type]  # one of the two
        )
    session.out.result(
        {"clock": clock, "advisory": advisory, "at": when, "entry": entry.index},
        [f"Noted: {clock} {iso_time(when)} (entry {entry.index})."],
    )


@command.command("notice", epilog="Example: safehold evidence notice PYSEC-2026-2 letter.pdf --to north-lab")
@click.argument("advisory", type=ADVISORY)
@click.argument("text", type=click.Path(path_type=Path))
@click.option("--to", required=True, help="To whom: a party, an authority, a category of people.")
@click.option("--duty", default="", help="By which law or contract, in words.")
@click.option("--at", help=_AT)
@click.pass_context
def _notice(context: click.Context, advisory: AdvisoryId, text: Path, to: str, duty: str, at: str | None) -> None:
    """Record that the notice in TEXT was sent; the file is kept as a payload."""
    session = session_of(context)
    data = _read(text)
    with session.open_home() as home:
        now = home.clock()
        entry = _evidence(home).note_notice(advisory, to, duty, data, parse_moment(at, now) if at else now)
    digest = sha256_digest(data)
    session.out.result(
        {"advisory": advisory, "to": to, "document": digest, "entry": entry.index},
        [f"Recorded the notice to {to} (entry {entry.index})."],
    )


@command.command(
    "check", epilog="Example: safehold evidence check quill-works/word-problems@1 --outcome intact --parts 8"
)
@click.argument("release")
@click.option("--outcome", type=click.Choice(["intact", "altered"]), required=True, help="What came of it.")
@click.option("--parts", type=click.IntRange(min=0), default=0, help="How many parts were looked at.")
@click.option("--at", help=_AT)
@click.option("--words", "said", default="", help="In words.")
@click.pass_context
def _check(context: click.Context, /, release: str, outcome: str, **given: Any) -> None:
    """Record that the files of RELEASE (PARTY/DATASET@VERSION) were held against its manifest, as `safehold verify` does."""
    session = session_of(context)
    with session.open_home() as home:
        with home.log.view() as view:
            digest = resolve_release(view, release).release
        now = home.clock()
        check = ReleaseChecked(
            t=now, by=home.registry.by, release=digest, outcome="altered" if outcome == "altered" else "intact",
            parts=given["parts"], at=parse_moment(given["at"], now) if given["at"] else now, words=given["said"],
        )  # fmt: skip
        entry = _evidence(home).note_check(check)
    session.out.result(
        {"release": digest, "outcome": outcome, "at": check.at, "entry": entry.index},
        [f"Recorded: {release} {outcome} (entry {entry.index})."],
    )


@command.command("list", epilog="Example: safehold evidence list")
@click.pass_context
def _list(context: click.Context) -> None:
    """List the files of evidence and what each is said to cover."""
    session = session_of(context)
    names = ("entry", "topic", "source", "rows", "unread", "covers_from", "covers_until", "original")
    with session.open_home() as home, home.log.view() as view:
        rows = view.rows(
            "SELECT idx, topic, source, count, unread, covers_from, covers_until, original FROM evidence ORDER BY idx"
        )
    session.out.result({"evidence": [dict(zip(names, row, strict=True)) for row in rows]})
    shown = [(*row[:5], f"{iso_time(row[5])}..{iso_time(row[6])}" if row[5] is not None else "–") for row in rows]
    session.out.table("Evidence", ("entry", "topic", "source", "rows", "unread", "complete for"), shown)
