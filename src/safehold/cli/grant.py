"""``safehold grant``: issue, narrow offline, show as a tree, revoke, list."""

from __future__ import annotations

from pathlib import Path

import click

from safehold.broker.acts import GrantActs, Node, grant_tree
from safehold.broker.grants import Narrowing, narrow_grant
from safehold.broker.issue import GrantOrder, issue_grant
from safehold.cli.context import Home, session_of
from safehold.cli.grant_file import GrantFile, read_grant_file, write_grant_file
from safehold.cli.kinds import DATASET, HOST, MEMBER, parse_moment, words
from safehold.cli.output import iso_time
from safehold.model.errors import Conflict, NotFound
from safehold.model.ids import (
    DatasetId,
    GroupName,
    HostId,
    MemberId,
    parse_grant_id,
    parse_group_name,
    parse_host_id,
    parse_party_id,
    parse_purpose,
    party_of,
)
from safehold.state.standing import list_grants, list_releases
from safehold.state.standing_access import list_revocations

__all__ = ["command"]


@click.group("grant")
def command() -> None:
    """Issue, narrow, show, revoke and list grants."""


@command.command(
    "issue",
    epilog="Example: safehold grant issue quill-works/word-problems --to north-lab/trainer --until +30d --out grant.json",
)
@click.argument("dataset", type=DATASET)
@click.option("--to", "holder", required=True, help="A host (PARTY/NAME), or a party: then any host of it.")
@click.option("--groups", help="Column groups, comma-separated. Without: all of the newest release.")
@click.option("--purposes", default="training", show_default=True, help="What for, comma-separated.")
@click.option("--from", "begin", help="When it begins (default: now).")
@click.option("--until", required=True, help="When it ends: 2026-04-30T12:00:00Z, 2026-04-30 or +30d.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new file that it is written to.")
@click.pass_context
def _issue(
    context: click.Context,
    dataset: DatasetId,
    holder: str,
    groups: str | None,
    purposes: str,
    begin: str | None,
    until: str,
    out: Path,
) -> None:
    """Grant a host or a party to open column groups of DATASET."""
    session = session_of(context)
    host = parse_host_id(holder) if "/" in holder else None
    with session.open_home() as home:
        now = home.clock()
        order = GrantOrder(
            party=party_of(host) if host else parse_party_id(holder),
            host=host,
            dataset=dataset,
            groups=_groups(home, dataset, groups),
            purposes=[parse_purpose(word) for word in words(purposes)],
            not_before=parse_moment(begin, now) if begin else now,
            until=parse_moment(until, now),
        )
        if out.exists():
            raise Conflict("cli.out_exists", f"{out} is there already", "choose another --out")
        issued = issue_grant(home.log, home.grant_key(), order, home.clock, home.registry.by)
        write_grant_file(out, GrantFile(grant=issued.terms.grant, root=issued.root.hex(), token=issued.token))
    told = (
        f"Granted {', '.join(issued.terms.groups)} of {dataset} to {holder} until {iso_time(issued.terms.until)}:"
        f" {issued.terms.grant} in {out} (entry {issued.entry.index})."
    )
    session.out.result(
        {
            "grant": issued.terms.grant,
            "to": holder,
            "dataset": dataset,
            "groups": issued.terms.groups,
            "purposes": issued.terms.purposes,
            "until": iso_time(issued.terms.until),
            "file": str(out),
            "entry": issued.entry.index,
        },
        [told],
    )


def _groups(home: Home, dataset: DatasetId, text: str | None) -> list[GroupName]:
    if text:
        return [parse_group_name(word) for word in words(text)]
    with home.log.view() as view:
        releases = list_releases(view, dataset)
    if not releases:
        raise NotFound("cli.no_release_yet", f"{dataset} has no release yet", "name the column groups with --groups")
    return list(releases[-1].groups)


@command.command(
    "narrow", epilog="Example: safehold grant narrow grant.json --groups question --until +7d --out narrow.json"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--host", type=HOST, help="Only on this host.")
@click.option("--member", type=MEMBER, help="Only for this member.")
@click.option("--groups", help="Only these column groups, comma-separated.")
@click.option("--purpose", help="Only for this purpose.")
@click.option("--until", help="Only until then.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new file that it is written to.")
@click.pass_context
def _narrow(
    context: click.Context,
    file: Path,
    host: HostId | None,
    member: MemberId | None,
    groups: str | None,
    purpose: str | None,
    until: str | None,
    out: Path,
) -> None:
    """Make a narrower grant from FILE: offline, without a home, without any key. It can never be widened again."""
    session = session_of(context)
    grant = read_grant_file(file)
    narrowing = Narrowing(
        host=host,
        member=member,
        groups=tuple(parse_group_name(word) for word in words(groups)) if groups else None,
        purpose=parse_purpose(purpose) if purpose else None,
        until=parse_moment(until, session.clock()) if until else None,
    )
    token = narrow_grant(grant.token, grant.root_bytes, narrowing)
    write_grant_file(out, GrantFile(grant=grant.grant, root=grant.root, token=token))
    session.out.result({"grant": grant.grant, "file": str(out)}, [f"Narrowed {grant.grant} in {out}."])


@command.command("tree", epilog="Example: safehold grant tree grant.json narrow.json")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Do not look into a home for what was revoked.")
@click.pass_context
def _tree(context: click.Context, files: tuple[Path, ...], offline: bool) -> None:
    """Show who narrowed what from which grant: the blocks of FILES as a tree, with what was revoked."""
    session = session_of(context)
    grants = [(str(path), read_grant_file(path)) for path in files]
    trees = grant_tree([(name, grant.token, grant.root_bytes) for name, grant in grants])
    revoked: dict[str, tuple[int, str]] = {}
    if not offline:
        with session.open_home() as home, home.log.view() as view:
            revoked = list_revocations(view)
    lines = [line for tree in trees for line in _branch(tree, revoked, "")]
    session.out.result({"trees": [_shown(tree, revoked) for tree in trees]}, lines)


def _branch(node: Node, revoked: dict[str, tuple[int, str]], indent: str) -> list[str]:
    known = revoked.get(node.revocation)
    state = f"   REVOKED in entry {known[0]}: {known[1]}" if known else ""
    files = f"   [{', '.join(node.files)}]" if node.files else ""
    lines = [f"{indent}block {node.block}: {'; '.join(node.says)}{files}{state}"]
    return lines + [line for child in node.children for line in _branch(child, revoked, indent + "  ")]


def _shown(node: Node, revoked: dict[str, tuple[int, str]]) -> dict[str, object]:
    return {
        "block": node.block,
        "says": node.says,
        "revocation": node.revocation,
        "revoked_in": revoked[node.revocation][0] if node.revocation in revoked else None,
        "files": node.files,
        "children": [_shown(child, revoked) for child in node.children],
    }


@command.command("revoke", epilog="Example: safehold grant revoke narrow.json --block 1 --reason 'left the project'")
@click.argument("grant")
@click.option(
    "--block", type=int, help="Of a grant's file: this block and what was narrowed from it (default: 0, all)."
)
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@click.pass_context
def _revoke(context: click.Context, grant: str, block: int | None, reason: str) -> None:
    """Revoke GRANT, an id or a grant's file. With --block only what was narrowed from that block on."""
    session = session_of(context)
    with session.open_home() as home:
        acts = GrantActs(home.log, home.clock, home.registry.by)
        if grant.startswith("g-") and block is None and not Path(grant).exists():
            entry = acts.revoke_grant(parse_grant_id(grant), reason)
        else:
            file = read_grant_file(Path(grant))
            entry = acts.revoke_block(file.token, file.root_bytes, block or 0, reason)
    what = f"block {block} of {grant}" if block else grant
    session.out.result(
        {"grant": grant, "block": block or 0, "entry": entry.index}, [f"Revoked {what} (entry {entry.index})."]
    )


@command.command("list", epilog="Example: safehold grant list")
@click.pass_context
def _list(context: click.Context) -> None:
    """All grants, as they were issued."""
    session = session_of(context)
    with session.open_home() as home:
        now = home.clock()
        with home.log.view() as view:
            grants = list_grants(view)
            revoked = list_revocations(view)
    rows = [
        (
            one.grant,
            one.host or one.party,
            one.dataset,
            ", ".join(one.groups),
            iso_time(one.until),
            "revoked" if one.revocation in revoked else "alive" if one.not_before <= now < one.until else "not alive",
        )
        for one in grants
    ]
    names = ("grant", "to", "dataset", "groups", "until", "state")
    session.out.table("", names, rows)
    if session.json:
        session.out.result({"grants": [dict(zip(names, row, strict=True)) for row in rows]})
