"""Reading for training on the machine of an embedded home: the broker is in this process, and nothing is served.

Where a broker is served, ``safehold.readers.open_release`` is given a connection to it instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from safehold.app.wiring import HomeFactory
from safehold.broker.client import KeyOrder
from safehold.broker.key_source import LocalKeys, check_holds
from safehold.cli.grant_file import read_grant_file
from safehold.model.ids import parse_group_name, parse_host_id, parse_member_id, parse_purpose
from safehold.readers import ReadOptions, SealedRelease, open_release
from safehold.state.standing import find_grant, resolve_release

__all__ = ["Asked", "open_in_home"]


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
    """Open ``release`` (PARTY/DATASET@VERSION) of the home in that folder, for the block.

    Raises ``NotFound`` for what the home does not have, ``ReadingStopped`` with the broker's reason, and as
    ``readers.open_release``.
    """
    opened = HomeFactory().open(home)
    try:
        host, file = parse_host_id(asked.host), read_grant_file(asked.grant)
        with opened.log.view() as view:
            row, grant = resolve_release(view, release), find_grant(view, file.grant)
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
        with open_release(opened.release_folder(row.dataset, row.version), order, source, options) as found:
            yield found
    finally:
        opened.close()
