"""``safehold rekey --release``: the records of a release under new keys, and the end of the old release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from safehold.assembly.file_delivery import FilesKeys
from safehold.assembly.rekey_end import RekeyEnd, RekeyEnding
from safehold.assembly.rekeying import Progress, Rekeyed, Rekeying, RekeyPlaces, RekeyPlan, RekeyWish
from safehold.assembly.retirement import Retirement
from safehold.cli.context import Home, Session
from safehold.cli.keys import made_key, party_signer
from safehold.cli.output import iso_time, progress_of
from safehold.cli.stores import dataset_store, lying_place
from safehold.model.errors import InputInvalid, NotFound
from safehold.model.ids import HostId
from safehold.state.standing import ReleaseRow, release_stores
from safehold.state.standing_access import ReadingRow, list_readings
from safehold.vault.seal import SealOptions
from safehold.vault.store import Store, parse_location
from safehold.vault.store_probe import probe_store
from safehold.vault.stored_release import StoredRelease

__all__ = ["ReleaseOptions", "finish_release", "rekey_release"]


class ReleaseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed; ``stores`` None: those that have the old release."""

    name: str
    reason: str | None
    host: HostId | None
    key: Path | None
    stores: tuple[str, ...] | None
    workers: int
    yes: bool
    dry_run: bool


def rekey_release(session: Session, options: ReleaseOptions) -> None:
    """Seal the records of a release anew, or with ``--dry-run`` say what that would be."""
    if not options.reason and not options.dry_run:
        raise InputInvalid("cli.rekey_reason", "new keys need a reason, for the ledger", "give it: --reason WHY")
    wish = RekeyWish(name=options.name, reason=options.reason or "", host=options.host)
    with session.open_home() as home:
        rekeying = Rekeying(home.log, home.release_folder, home.clock, home.registry.by)
        plan = rekeying.plan(wish)
        if options.dry_run:
            _show_plan(session, home, plan)
            return
        if plan.done is None:
            signer = party_signer(home, plan.old.party, options.key)
            keys = FilesKeys(home.part_keys(session.read_passphrase), signer, partial(made_key, home))
            places = _places(session, home, plan.old, options.stores)
            chosen = SealOptions(cut_key=home.cut_key(plan.old.dataset), workers=options.workers)
            unit = "bytes" if plan.manifest.chunked else "records"
            done = rekeying.rekey(wish, places, keys, chosen, _progress(session, unit))
            session.out.progress_done()
            if not places.folder:
                # The entry names the stores' copies; a crash here leaves a copy too many.
                shutil.rmtree(home.release_folder(done.new.dataset, done.new.version), ignore_errors=True)
        else:
            done = rekeying.known(plan.old)
        readings = _readings(home, plan.old)
    _show(session, done, readings)


def finish_release(session: Session, options: ReleaseOptions) -> None:
    """End the old release: retire it, and destroy its keys once no lease on them runs."""
    if not (options.dry_run or options.yes):
        raise InputInvalid(
            "cli.rekey_finish", "ending a release has no way back", "look with --finish --dry-run, then give --yes"
        )
    with session.open_home() as home:
        end = RekeyEnd(home.log, home.clock, home.registry.by)
        eraser = home.key_store()
        ending = end.plan(options.name, eraser)
        if not options.dry_run and ending.erased is None:
            place = _place(session, home, ending.new)
            keys = home.part_keys(session.read_passphrase)
            reason = options.reason or f"its records are under new keys in {ending.new.name}"
            ending = end.finish(options.name, place, keys, eraser, reason)
    _show_ending(session, ending, dry_run=options.dry_run)


def _place(session: Session, home: Home, row: ReleaseRow) -> Path | StoredRelease:
    """Where a release lies: its folder in the home, or a copy that the ledger names."""
    place = lying_place(session, home, (row, None))
    if isinstance(place, Path) and not place.is_dir():
        raise NotFound(
            "cli.release_gone", f"{row.name} lies neither in this home nor in a store", "put its folder back in place"
        )
    return place


def _places(session: Session, home: Home, old: ReleaseRow, chosen: tuple[str, ...] | None) -> RekeyPlaces:
    """The new release goes where the old one lies: into the home if it is there, and into each store that has a copy."""
    place = _place(session, home, old)
    stores: tuple[Store, ...]
    if chosen is not None:
        stores = tuple(dataset_store(session, root, old.dataset) for root in dict.fromkeys(chosen))
    else:
        with home.log.view() as view:
            locations = [parse_location(text).parent.url for text in release_stores(view, old.release)]
        stores = tuple(probe_store(session.open_store(url)) for url in dict.fromkeys(locations))
    return RekeyPlaces(old=place, stores=stores, folder=isinstance(place, Path) or not stores)


def _progress(session: Session, unit: str) -> Progress:
    """A line a second for each thing that is done: sealed, then compared."""
    shown: dict[str, Callable[[int], None]] = {}

    def show(act: str, done: int, total: int) -> None:
        if act not in shown:
            shown[act] = progress_of(session.out, act, total, unit)
        shown[act](done)

    return show


def _readings(home: Home, row: ReleaseRow) -> tuple[ReadingRow, ...]:
    with home.log.view() as view:
        return list_readings(view, row.release, home.clock())


def _plain(readings: tuple[ReadingRow, ...]) -> list[dict[str, object]]:
    return [{"host": one.host, "until": iso_time(one.until), "key_releases": one.releases} for one in readings]


def _leases(readings: tuple[ReadingRow, ...], name: str) -> str:
    if not readings:
        return f"  No lease on keys of {name} runs."
    last = iso_time(max(one.until for one in readings))
    hosts = ", ".join(one.host for one in readings)
    return f"  Leases on keys of {name} run until {last}: {hosts}."


def _show_plan(session: Session, home: Home, plan: RekeyPlan) -> None:
    readings = _readings(home, plan.old)
    with home.log.view() as view:
        stores = release_stores(view, plan.old.release)
    ending = (
        None
        if plan.done is not None
        else Retirement(home.log, home.clock, home.registry.by).plan(plan.old.name, home.key_store())
    )
    name = plan.done.name if plan.done is not None else f"{plan.old.dataset}@{plan.version}"
    manifest = plan.manifest
    document = {
        "dry_run": True,
        "release": plan.old.name,
        "successor": name,
        "done": plan.done is not None,
        "rows": manifest.rows,
        "parts": plan.old.parts,
        "files": len(manifest.parts),
        "bytes": manifest.size,
        "groups": [group.name for group in manifest.groups],
        "stores": stores,
        "leases": _plain(readings),
        "shared_with": [] if ending is None else [one.name for one in ending.shared],
    }
    what = f"{manifest.rows:,} records, {len(manifest.parts)} files in {plan.old.parts} parts, {manifest.size:,} bytes"
    told = f"Would seal {what} of {plan.old.name} anew as {name}. Nothing was written."
    if plan.done is not None:
        told = f"{name} holds the records of {plan.old.name} under new keys already. Nothing was written."
    lines = [told, f"  column groups: {', '.join(group.name for group in manifest.groups)}"]
    if document["shared_with"]:
        shared = ", ".join(one.name for one in ending.shared) if ending is not None else ""
        lines.append(
            f"  NOTE: {shared} share files with it and their keys: end those too, or the old keys stay in use."
        )
    session.out.result(document, [*lines, _leases(readings, plan.old.name)])


def _show(session: Session, done: Rekeyed, readings: tuple[ReadingRow, ...]) -> None:
    old, new = done.old, done.new
    following = f"safehold rekey --release {old.name} --finish --yes"
    document = {
        "release": old.name,
        "successor": new.name,
        "digest": new.release,
        "rows": new.rows,
        "parts": new.parts,
        "bytes": new.size,
        "entry": done.entry,
        "earlier": done.earlier,
        "leases": _plain(readings),
        "next": None if old.retired is not None else following,
    }
    how = "holds the records of" if done.earlier else "now holds the records of"
    lines = [f"{new.name} {how} {old.name} under new keys (entry {done.entry}).", f"  {new.release}"]
    if not done.earlier:
        lines.append(f"  {new.rows:,} records, {new.size:,} bytes in {new.parts} parts, compared with the old ones.")
    lines.append(_leases(readings, old.name))
    if old.retired is None:
        lines.append(f"  Both can be opened. Let readers go on to {new.name}, then: {following}")
    session.out.result(document, lines)


def _show_ending(session: Session, ending: RekeyEnding, *, dry_run: bool) -> None:
    old, new = ending.old, ending.new
    shared = [] if ending.ending is None else [one.name for one in ending.ending.shared]
    document = {
        "dry_run": dry_run,
        "release": old.name,
        "successor": new.name,
        "retired": ending.retired,
        "erased": ending.erased,
        "destroyed": ending.destroyed,
        "keys": 0 if ending.ending is None else ending.ending.keys,
        "files_still_readable": 0 if ending.ending is None else ending.ending.kept,
        "shared_with": shared,
        "leases": _plain(ending.readings),
        "until": iso_time(ending.until) or None,
    }
    session.out.result(document, _ending_lines(ending, shared, dry_run=dry_run))


def _ending_lines(ending: RekeyEnding, shared: list[str], *, dry_run: bool) -> list[str]:
    old, new, what = ending.old, ending.new, ending.ending
    if what is None:
        return [f"{old.name} was ended before: its keys were destroyed in entry {ending.erased}."]
    lines = []
    if dry_run:
        first = "" if ending.retired is not None else f"retire {old.name}, and then "
        lines.append(f"Would check {new.name}, {first}destroy {what.keys} keys. Nothing was changed.")
    elif ending.erased is None:
        lines.append(
            f"Retired {old.name} (entry {ending.retired}): no key of it leaves; readers open {new.name}."
            f" Its keys are kept until the last lease has ended: run this again after {iso_time(ending.until)}."
        )
    else:
        lines.append(
            f"Retired {old.name} (entry {ending.retired}) and destroyed {ending.destroyed} keys (entry {ending.erased})."
        )
    lines.append(_leases(ending.readings, old.name))
    if shared:
        lines.append(
            f"  NOTE: {what.kept} of its {what.files} files belong to {', '.join(shared)} too and open with those keys."
        )
    return lines
