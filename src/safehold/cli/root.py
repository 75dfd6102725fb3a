"""The root of the command line: global options, the table of verbs, errors and exit codes.

Verbs are loaded when they are called: ``safehold --help`` imports none of them. Exit codes: 0 done · 1 a fault of
Safehold itself · 2 the command or its input cannot be used · 3 refused · 4 a check does not hold · 5 disk or
database · 6 not found · 7 in conflict with what is there · 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from safehold import __version__
from safehold.cli.context import Session
from safehold.cli.output import Output
from safehold.model.errors import SafeholdError, StorageFailed

__all__ = ["VERBS", "cli", "run"]

VERBS: Final[dict[str, tuple[str, str]]] = {
    "init": ("safehold.cli.init", "Make a home: ledger, keys, stores."),
    "demo": ("safehold.cli.demo.verb", "Replay the incident of March 2026 on real records."),
    "party": ("safehold.cli.party", "Register and list parties."),
    "member": ("safehold.cli.member", "Register members; erase their names."),
    "host": ("safehold.cli.host", "Register and list hosts."),
    "dataset": ("safehold.cli.dataset", "Register datasets; list their releases."),
    "grant": ("safehold.cli.grant", "Issue, narrow, show, revoke and list grants."),
    "lease": ("safehold.cli.lease", "List leases; end one."),
    "approval": ("safehold.cli.approval", "Approve access to a dataset as a second member."),
    "policy": ("safehold.cli.policy", "Set and show what the broker decides by."),
    "rekey": ("safehold.cli.rekey", "Move part keys to another key-encryption key, or give a release new data keys."),
    "drill": ("safehold.cli.drill", "Try stolen tokens and keys on a throw-away home; show that all are refused."),
    "seal": ("safehold.cli.seal", "Seal a file as a release of a dataset."),
    "diff": ("safehold.cli.diff", "Compare two releases, by records and columns."),
    "ingest": ("safehold.cli.ingest", "Take in a release that was sealed elsewhere; countersign it."),
    "retire": ("safehold.cli.retire", "Give out no more keys of a release."),
    "erase": ("safehold.cli.erase", "Destroy the keys of a release for good."),
    "open": ("safehold.cli.open", "Open a release with keys from the broker."),
    "serve": ("safehold.cli.serve", "Serve the broker over HTTP."),
    "prove": ("safehold.cli.prove", "Prove that a record belongs to a release; match a leak with one."),
    "adopt": ("safehold.cli.adopt", "Adopt data that lies unsealed; seal it where it lies."),
    "store": ("safehold.cli.store", "Check a store of releases; clear what no release names."),
    "agent": ("safehold.cli.agent", "Sweep this host: environments, caches, credentials in reach."),
    "inventory": ("safehold.cli.inventory", "Record what a host holds."),
    "advisory": ("safehold.cli.advisory", "Take in advisories; match them with inventories."),
    "evidence": ("safehold.cli.evidence", "Record what happened outside: files, credentials, clocks, notices."),
    "exposure": ("safehold.cli.exposure", "Answer what an incident exposed."),
    "report": ("safehold.cli.report", "Write the exposure as STIX, OpenVEX, CSAF, OCSF, JSON, HTML or text."),
    "notice": ("safehold.cli.notice", "See who must be told by when; draft notices."),
    "whatif": ("safehold.cli.whatif", "Compare responses to an incident: what each stops, ends and leaves."),
    "respond": ("safehold.cli.respond", "Decide on a response, carry it out, prove its steps."),
    "suspend": ("safehold.cli.suspend", "Stop a party, host, member, dataset, release or grant."),
    "lift": ("safehold.cli.lift", "End a suspension."),
    "run": ("safehold.cli.run", "Declare a training run."),
    "model": ("safehold.cli.model", "Declare a model."),
    "log": ("safehold.cli.log", "List, show, prove and export entries of the ledger."),
    "witness": ("safehold.cli.witness", "Cosign ledgers of others: verify that they only grow, and keep evidence."),
    "follow": ("safehold.cli.follow", "Keep a read-only copy of another home's ledger, verified."),
    "verify": ("safehold.cli.verify", "Verify an exported ledger, a release or a receipt, without any key."),
    "fsck": ("safehold.cli.fsck", "Check the home's ledger, projections and order."),
    "backup": ("safehold.cli.backup", "Copy the home to a folder, online; verify such a copy."),
    "restore": ("safehold.cli.restore", "Make a home out of a backup; let it append again."),
    "rehearse": ("safehold.cli.rehearse", "Play a history of commands, each at its own time, in a home made for it."),
    "rebuild": ("safehold.cli.rebuild", "Fold the ledger into its projections anew."),
}

_EPILOG: Final = """\b
Start here:
  safehold demo
  safehold --home my-lab init --origin my-lab.example/custody
"""


class _Verbs(click.Group):
    """A group whose commands are modules, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=_Verbs, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", type=click.Path(path_type=Path), help="The home folder (or SAFEHOLD_HOME). [./safehold-home]")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="Its first line opens the key-encryption key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--debug", is_flag=True, help="Show the trace of an error.")
@click.version_option(__version__, prog_name="safehold")
@click.pass_obj
def cli(session: Session, home: Path | None, passphrase_file: Path | None, as_json: bool, debug: bool) -> None:
    """Custody of AI training data: sealed, granted, recorded, and answerable after a breach."""
    if home is not None:
        session.home = home
    if passphrase_file is not None:
        session.passphrase_file = passphrase_file
    session.json = session.json or as_json
    session.debug = session.debug or debug
    session.output = Output(json=session.json)


def run(arguments: Sequence[str], session: Session) -> int:
    """Run one command line; return its exit code. Every error ends here, as one line and a hint."""
    flags, rest = _hoist(arguments)
    session.json = "--json" in flags
    session.debug = "--debug" in flags
    output = Output(json=session.json)
    try:
        result = cli.main(args=rest, prog_name="safehold", obj=session, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except SafeholdError as error:
        if session.debug:
            sys.excepthook(type(error), error, error.__traceback__)
        output.failure(error)
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        output.failure(SafeholdError("cli.interrupted", "interrupted", "run the same command again"))
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        if not session.json:
            sys.stderr.write(error.format_message() + "\n")
            return 2
        output.failure(SafeholdError("cli.usage", "a verb is missing", _usage_hint(error)))
        return 2
    except click.ClickException as error:
        output.failure(SafeholdError("cli.usage", error.format_message(), _usage_hint(error)))
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; saying so would fail as well
        return 1
    except OSError as error:  # mostly our own output: a full disk behind it, or a terminal that has gone
        if session.debug:
            sys.excepthook(type(error), error, error.__traceback__)
        refused = StorageFailed(
            "cli.io",
            f"the system refused to read or write: {error.strerror or error}",
            "check the disk, then run again",
        )
        output.failure(refused)
        return refused.exit_code
    except Exception as error:  # noqa: BLE001 - the last line of defence: a fault of ours, said as such
        if session.debug:
            sys.excepthook(type(error), error, error.__traceback__)
        output.failure(
            SafeholdError(
                "cli.internal",
                f"Safehold failed: {type(error).__name__}: {error}",
                "run it again with --debug and report what it shows",
            )
        )
        return 1


def _hoist(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """``--json`` and ``--debug`` may stand anywhere before ``--``: people write them at the end."""
    flags, rest = set[str](), list[str]()
    for position, argument in enumerate(arguments):
        if argument == "--":
            rest += arguments[position:]
            break
        if argument in ("--json", "--debug"):
            flags.add(argument)
        else:
            rest.append(argument)
    return flags, rest


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "safehold"
    return f"see: {path} --help"
