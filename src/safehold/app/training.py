"""Reading for training on the machine of an embedded home: the broker is in this process, and nothing is served.

Where a broker is served, ``safehold.readers.open_release`` is given a connection to it instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from safehold.app.settings import read_settings
from safehold.app.stores import open_location
from safehold.app.wiring import Home, HomeFactory
from safehold.broker.client import KeyOrder
from safehold.broker.key_source import LocalKeys, check_holds
from safehold.cli.context import Session
from safehold.cli.grant_file import read_grant_file
from safehold.cli.stores import named_release, recorded_copy
from safehold.model.ids import parse_group_name, parse_host_id, parse_member_id, parse_purpose
from safehold.readers import ReadOptions, SealedRelease, open_release
from safehold.state.standing import ReleaseRow, find_grant
from safehold.vault.store import parse_location
from safehold.vault.stored_release import StoredRelease, load_stored

__all__ = ["Asked", "open_in_home", "stored_at"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what: host, grant file and passphrase of the home; ``groups`` None takes all that the grant names."""

    host: str
    grant: Path
    passphrase: str
    groups: tuple[str, ...] | None = None
    purpose: str = "training"
    member: str | None = None


@contextmanager
def open_in_home(home: Path, release: str, asked: Asked, options: ReadOptions | None = None) -> Iterator[SealedRelease]:
    """Open ``release`` (PARTY/DATASET@VERSION, or where it lies: s3://BUCKET/PREFIX/PARTY/DATASET/VERSION) for the block.

    ``home`` is the folder of the home. A release that lies in a store alone is read from the store; credentials come from
    the environment, as for the command line.

    Raises ``NotFound`` for what the home does not have, ``ReadingStopped`` with the broker's reason, and as
    ``readers.open_release``.
    """
    opened = HomeFactory().open(home)
    try:
        host, file = parse_host_id(asked.host), read_grant_file(asked.grant)
        row, place = _found(opened, release)
        with opened.log.view() as view:
            grant = find_grant(view, file.grant)
        covered = grant.groups if grant is not None else row.groups
        order = KeyOrder(
            release=row.release,
            groups=[parse_group_name(one) for one in asked.groups or row.groups if asked.groups or one in covered],
            purpose=parse_purpose(asked.purpose),
            host=host,
            member=None if asked.member is None else parse_member_id(asked.member),
            grant=file.token,
        )
        root = opened.grant_key().public_bytes
        source = LocalKeys(
            opened.broker(lambda: asked.passphrase),
            opened.host_key(host),
            opened.clock,
            lambda order: check_holds(opened.log, root, order),
        )
        with open_release(place, order, source, options) as found:
            yield found
    finally:
        opened.close()


def stored_at(text: str) -> StoredRelease:
    """The release that lies at ``text`` (s3://BUCKET/PREFIX/PARTY/DATASET/VERSION, or such a folder), for ``open_release``.

    Credentials come from the environment, as for the command line. Only its form is checked here. Raises as
    ``vault.stored_release.load_stored``.
    """
    place = parse_location(text)
    return load_stored(open_location(place.parent.url, read_settings(os.environ)), place.name)


def _found(home: Home, text: str) -> tuple[ReleaseRow, Path | StoredRelease]:
    """The release that ``text`` names, and where it is read: the home's folder, else the first of its stores that answers."""
    settings = read_settings(os.environ)
    session = Session(
        home=home.path,
        passphrase=None,
        passphrase_file=None,
        factory=HomeFactory,
        clock=home.clock,
        open_store=lambda location: open_location(location, settings),
    )
    row, stored = named_release(session, home, text)
    folder = home.release_folder(row.dataset, row.version)
    if stored is None and not folder.is_dir():
        stored = recorded_copy(session, home, row.release)
    return row, stored or folder
