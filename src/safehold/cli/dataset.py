"""``safehold dataset``: register datasets and list their releases."""

from __future__ import annotations

import click

from safehold.cli.context import session_of
from safehold.cli.kinds import DATASET, PARTY
from safehold.cli.output import iso_time
from safehold.model.ids import DatasetId, PartyId
from safehold.state.standing import list_adopted, list_releases

__all__ = ["command"]


@click.group("dataset")
def command() -> None:
    """Register datasets; list their releases."""


@command.command("add", epilog="Example: safehold dataset add quill-works/word-problems --for north-lab")
@click.argument("dataset", type=DATASET)
@click.option("--for", "customer", type=PARTY, required=True, help="The lab that ordered it.")
@click.option("--title", default="", help="What it is, for people.")
@click.pass_context
def _add(context: click.Context, dataset: DatasetId, customer: PartyId, title: str) -> None:
    """Register a dataset; the part before the slash is the party that makes it."""
    session = session_of(context)
    with session.open_home() as home:
        entry = home.registry.add_dataset(dataset, customer, title or dataset)
    session.out.result(
        {"dataset": dataset, "customer": customer, "entry": entry.index},
        [f"Registered dataset {dataset} for {customer} (entry {entry.index})."],
    )


@command.command("list", epilog="Example: safehold dataset list")
@click.pass_context
def _list(context: click.Context) -> None:
    """All releases of all datasets, and the unsealed data that was adopted."""
    session = session_of(context)
    with session.open_home() as home, home.log.view() as view:
        datasets = [row[0] for row in view.rows("SELECT dataset FROM dataset ORDER BY dataset")]
        releases = list_releases(view)
        adopted = list_adopted(view)
    rows: list[tuple[object, ...]] = [
        (one.name, one.rows, one.size, ", ".join(one.groups), iso_time(one.t), one.idx) for one in releases
    ]
    rows += [
        (name, "", "", "no release yet", "", "") for name in datasets if all(one.dataset != name for one in releases)
    ]
    session.out.table("", ["release", "rows", "bytes", "column groups", "sealed", "entry"], rows)
    if adopted:
        session.out.table(
            "adopted",
            ["dataset", "location", "files", "bytes", "sealed as", "originals", "entry"],
            [
                (one.dataset, one.location, one.files, one.size, one.release or "not sealed",
                 "removed" if one.removed else "lie there", one.idx)
                for one in adopted
            ],
        )  # fmt: skip
    if session.json:
        document = {
            "datasets": datasets,
            "releases": [{"name": one.name, **_plain(one)} for one in releases],
            "adopted": [_plain(one) for one in adopted],
        }
        session.out.result(document)


def _plain(release: object) -> dict[str, object]:
    return {name: getattr(release, name) for name in release.__struct_fields__}  # type: ignore[attr-defined]  # every struct has its fields
