"""The agent's command line: one environment (``agent.pyz FOLDER``), one round (``once``), or rounds for ever (``run``)."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

from safehold.inventory.agent.base import AgentError, canonical, microseconds, read_bytes
from safehold.inventory.agent.delivery import Door
from safehold.inventory.agent.environment import sweep
from safehold.inventory.agent.host import HostWish
from safehold.inventory.agent.rounds import Rounds, RoundWish, record_environment
from safehold.inventory.agent.site import Wish
from safehold.inventory.agent.spool import MAX_WAITING_BYTES, Spool, report

__all__ = ["main"]

_EXITS = """Exit codes: 0 swept; 2 wrong use or no environment; 3 too large to report; 4 not signed; 5 not read or not
written; 6 a round in which an environment failed; 7 another sweep is running. After any but 0, nothing is claimed about
this moment: it is unknown."""
_ABOUT = "lists what Python environments hold and would run at start, without running any of it"
_VERBS = """FOLDER is a virtual environment, a prefix, or a site-packages folder. Instead of one folder: `once` (all
environments of this host, and the host itself) and `run` (again every minute); each has its own --help."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given[:1] in (["once"], ["run"]):
            return _rounds(given)
        _one(_parser().parse_args(given))
        return 0
    except AgentError as error:
        code, text = int(error.args[0]), str(error.args[1])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        code, text = (7, "another sweep is running") if isinstance(error, BlockingIOError) else (5, str(error))
    print(f"agent: {text}", file=sys.stderr)
    return code


def _common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", required=True, help="the host's id: PARTY/NAME")
    add("--key", help="sign with this SSH key, by ssh-keygen (default: leave the messages unsigned)")
    add("--confirm-every", type=int, default=600, metavar="SECONDS", help="while nothing changes (default: 600)")
    add("--full", action="store_true", help="hash every file again, whatever its stat says")
    add("--hash-limit", type=int, default=2 << 30, metavar="BYTES", help="hash no larger file (default: 2 GiB)")
    add("--code", type=float, default=0.0, metavar="SECONDS", help="compare compiled code with its source for so long")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent", description=f"{_ABOUT}. {_VERBS}", epilog=_EXITS)
    add = parser.add_argument
    add("folder", help="a virtual environment, a prefix, or a site-packages folder")
    _common(parser)
    add("--name", help="the environment's name on this host (default: derived from its path)")
    add("--spool", help="a folder for messages and state; a message is written when something changed")
    add("--stdout", action="store_true", help="print one report and keep no state (the default without --spool)")
    add("--at", type=microseconds, help="say that it was seen at this time: 2026-03-24T10:39:00Z")
    add("--once", dest="confirm_every", action="store_const", const=0, help="confirm in every run")
    return parser


def _one(given: argparse.Namespace) -> None:
    folder, observed = os.fsencode(given.folder), time.time_ns() // 1000 if given.at is None else given.at
    name = given.name or "env-" + hashlib.sha256(os.path.realpath(folder)).hexdigest()[:12]
    said = {"clock": "system" if given.at is None else "given", "environment": name, "host": given.host}
    wish = Wish(given.hash_limit, given.code)
    if given.spool is None or given.stdout:
        told = report(folder, sweep(folder, None, wish), full=True, observed=observed, **said)
        sys.stdout.buffer.write(canonical(told) + b"\n")
        return
    with Spool(given.spool, said, given.key) as spool:
        record_environment(spool, folder, observed, given.confirm_every * 1_000_000, (wish, given.full))


def _round_parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"agent {verb}", description=f"{_ABOUT}: all of this host.", epilog=_EXITS)
    add = parser.add_argument
    _common(parser)
    add("--spool", required=True, help="a folder for messages and state, one folder in it for each environment")
    add(
        "--environment",
        action="append",
        default=[],
        metavar="FOLDER",
        help="this one (again for more; default: find all)",
    )
    add("--search", action="append", default=[], metavar="FOLDER", help="look for virtual environments here as well")
    add("--project", action="append", default=[], metavar="FOLDER", help="read lockfiles and names in .env files here")
    add("--cache", action="append", default=[], metavar="FOLDER", help="a further cache of pip or uv")
    add("--indicators", metavar="FILE", help="a JSON list of paths to look for, or an indicator file with `paths`")
    add("--root", default="", metavar="FOLDER", help="the host's files are below this folder (side-car container)")
    add("--broker", metavar="URL", help="deliver to this broker; without, the messages wait in the spool")
    add("--spool-limit", type=int, default=MAX_WAITING_BYTES, metavar="BYTES", help="each environment (default: 1 GiB)")
    add("--authority", metavar="FILE", help="trust these certificates (PEM) instead of the system's")
    if verb == "run":
        add("--every", type=float, default=60.0, metavar="SECONDS", help="between two rounds (default: 60)")
        add("--full-every", type=float, default=3600.0, metavar="SECONDS", help="hash every file again (default: 3600)")
        add("--glance-every", type=float, default=1.0, metavar="SECONDS", help="0: never (default: 1)")
    return parser


def _rounds(arguments: list[str]) -> int:
    given = _round_parser(arguments[0]).parse_args(arguments[1:])
    names = {
        name: tuple(map(os.fsencode, getattr(given, name))) for name in ("environment", "search", "project", "cache")
    }
    if given.broker and not given.key:
        raise AgentError(2, "a broker takes signed messages alone: give --key")
    wish = RoundWish(
        given.host,
        given.spool,
        given.key,
        names["environment"],
        names["search"],
        HostWish(tuple(map(os.path.abspath, names["project"])), names["cache"], _indicators(given.indicators)),
        os.fsencode(given.root),
        given.confirm_every * 1_000_000,
        Wish(given.hash_limit, given.code),
        given.spool_limit,
    )
    post = Door(given.broker, given.authority) if given.broker else None
    rounds = Rounds(wish, lambda: time.time_ns() // 1000, post)
    if arguments[0] == "once":
        print(canonical(rounds.once(given.full)).decode())
        return 6 if rounds.failed else 0
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    rounds.run(given.every, given.full_every, given.glance_every, end.wait)
    return 0


def _indicators(path: str | None) -> tuple[bytes, ...]:
    if path is None:
        return ()
    try:
        plain = json.loads(read_bytes(os.fsencode(path), 16 << 20))
        listed = plain.get("paths", []) if isinstance(plain, dict) else plain
        return tuple(one.encode("utf-8", "surrogateescape") for one in listed)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise AgentError(2, f"{path} is no JSON list of paths, and no indicator file") from error
