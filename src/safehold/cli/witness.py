"""``safehold witness``: cosign the checkpoints of other people's ledgers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from safehold.cli.context import Session, session_of
from safehold.cli.output import iso_time, one_line
from safehold.ledger.cosignature import ED25519, ML_DSA_44, SignatureKind, add_signatures, read_signature_lines
from safehold.ledger.export import write_file
from safehold.ledger.note import NoteVerifier
from safehold.ledger.source import open_source
from safehold.ledger.witness import Observed
from safehold.ledger.witness_folder import OpenWitness, create_witness, open_witness
from safehold.ledger.witness_http import WitnessServer
from safehold.model.errors import InputInvalid, StorageFailed

__all__ = ["command", "parse_listen"]

_KINDS: Final[dict[str, frozenset[SignatureKind]]] = {
    "ed25519": frozenset({ED25519}),
    "ml-dsa-44": frozenset({ML_DSA_44}),
    "both": frozenset({ED25519, ML_DSA_44}),
}
_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("safehold-witness"),
    show_default=True,
    help="The witness.",
)


@click.group("witness")
def command() -> None:
    """Verify that ledgers only grow, cosign their checkpoints, keep evidence of those that do not."""


@contextmanager
def _opened(session: Session, folder: Path) -> Iterator[OpenWitness]:
    opened = open_witness(folder, session.clock)
    try:
        yield opened
    finally:
        opened.close()


def _document(opened: OpenWitness) -> dict[str, Any]:
    return {
        "keys": [cosigner.key.text for cosigner in opened.cosigners],
        "logs": [verifier.text for verifier in opened.witness.logs],
        "evidence": [str(path) for path in opened.evidence.files()],
    }


@command.command("init", epilog="Example: safehold witness init --name third-party.example/w1")
@click.option("--name", required=True, help="The witness's name for ever, like a URL without its scheme.")
@click.option("--signs", type=click.Choice(list(_KINDS)), default="ed25519", show_default=True, help="Signature kinds.")
@_FOLDER
@click.pass_context
def _init(context: click.Context, name: str, signs: str, folder: Path) -> None:
    """Make a witness. Give the lines that this prints to those who run ledgers and to those who check them."""
    session = session_of(context)
    create_witness(folder, name, _KINDS[signs])
    with _opened(session, folder) as opened:
        document = {"folder": str(folder), "name": name, **_document(opened)}
        lines = [cosigner.key.text for cosigner in opened.cosigners]
    session.out.result(document, [f"Made the witness {folder}. For policies:", *lines])


@command.command("trust", epilog="Example: safehold witness trust 'my-lab.example/custody+1a2b3c4d+AbCd…'")
@click.argument("verifier")
@_FOLDER
@click.pass_context
def _trust(context: click.Context, verifier: str, folder: Path) -> None:
    """Cosign for one more ledger, known by its VERIFIER line."""
    session = session_of(context)
    known = NoteVerifier.parse(verifier)
    with _opened(session, folder) as opened:
        opened.witness.add_log(known)
        document = {"log": known.text, **_document(opened)}
    session.out.result(document, [f"This witness cosigns for {known.name} from now on."])


@command.command("show", epilog="Example: safehold witness show")
@_FOLDER
@click.pass_context
def _show(context: click.Context, folder: Path) -> None:
    """Keys, ledgers with the size cosigned last, and evidence."""
    session = session_of(context)
    with _opened(session, folder) as opened:
        document = _document(opened)
        origins = dict.fromkeys(verifier.name for verifier in opened.witness.logs)
        latest = {origin: opened.witness.latest(origin) for origin in origins}
    sizes = {
        origin: {"size": seen.size, "time": iso_time(seen.t) if seen.note else ""} for origin, seen in latest.items()
    }
    lines = [f"  {origin}: {seen.size} entries" for origin, seen in latest.items()]
    shown = [*document["keys"], *lines, *(f"  EVIDENCE {path}" for path in document["evidence"])]
    session.out.result({**document, "latest": sizes}, shown)


@command.command("check", epilog="Example: safehold witness check ledger-copy/ --out cosigned")
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), help="Write the checkpoint with the cosignatures to this file.")
@_FOLDER
@click.pass_context
def _check(context: click.Context, source: str, out: Path | None, folder: Path) -> None:
    """Look once at SOURCE, a folder or URL of an exported ledger: verify that it only grew, and cosign it."""
    session = session_of(context)
    with _opened(session, folder) as opened:
        observed = _observe(opened, source, out)
    session.out.result(_told(observed), observed.lines.decode().splitlines())


@command.command("follow", epilog="Example: safehold witness follow https://ledger.my-lab.example/ --every 60")
@click.argument("source")
@click.option("--every", type=click.IntRange(1, 86_400), default=60, show_default=True, help="Seconds between looks.")
@click.option("--looks", type=click.IntRange(1), help="End after so many. Without: until interrupted.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep the newest checkpoint with cosignatures in this file."
)
@_FOLDER
@click.pass_context
def _follow(context: click.Context, source: str, every: int, looks: int | None, out: Path | None, folder: Path) -> None:
    """Look at SOURCE again and again; cosign what grew. A split or a rollback ends it; the evidence stays."""
    session = session_of(context)
    done, pause = 0, threading.Event()
    told: dict[str, Any] = {}
    with _opened(session, folder) as opened:
        while True:
            try:
                observed = _observe(opened, source, out)
            except StorageFailed as error:
                if error.code != "ledger.source" or looks == 1:
                    raise
                _say(str(error))  # a network that fails for a while is no reason to stop looking
            else:
                told = _told(observed)
                _say(f"{observed.checkpoint.origin}: {observed.before} to {observed.checkpoint.size} entries, cosigned")
            done += 1
            if looks is not None and done >= looks:
                break
            pause.wait(every)
    session.out.result(told, [f"Looked {done} times."])


@command.command("run", epilog="Example: safehold witness run --listen 127.0.0.1:8470")
@click.option(
    "--listen", default="127.0.0.1:8470", show_default=True, help="Address and port; port 0 takes a free one."
)
@_FOLDER
@click.pass_context
def _run(context: click.Context, listen: str, folder: Path) -> None:
    """Answer POST /add-checkpoint (C2SP tlog-witness) until interrupted. Put TLS in front of it before others reach it."""
    session = session_of(context)
    address = parse_listen(listen)
    with _opened(session, folder) as opened, WitnessServer(address, opened.witness, _say) as server:
        host, port = server.server_address[:2]
        shown = f"http://{host!s}:{port}/"
        session.out.result({"url": shown, **_document(opened)}, [f"Listening at {shown}"])
        server.serve_forever(poll_interval=0.2)


def parse_listen(text: str) -> tuple[str, int]:
    """``HOST:PORT``, or ``InputInvalid`` (``cli.listen``)."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise InputInvalid("cli.listen", f"{text!r} is no address", "use a form like 127.0.0.1:8470")
    return host, int(port)


def _observe(opened: OpenWitness, where: str, out: Path | None) -> Observed:
    source = open_source(where)
    try:
        observed = opened.witness.observe(source)
    finally:
        source.close()
    if out is not None:
        note = add_signatures(observed.checkpoint.note, read_signature_lines(observed.lines))
        try:
            write_file(out, note)
        except OSError as error:
            raise StorageFailed(
                "cli.write", f"{out} cannot be written: {error.strerror}", "choose another --out"
            ) from error
    return observed


def _told(observed: Observed) -> dict[str, Any]:
    found = observed.checkpoint
    lines = observed.lines.decode()
    return {
        "origin": found.origin,
        "before": observed.before,
        "size": found.size,
        "root": found.root.hex(),
        "lines": lines,
    }


def _say(text: str) -> None:
    sys.stderr.write(one_line(text) + "\n")
    sys.stderr.flush()
