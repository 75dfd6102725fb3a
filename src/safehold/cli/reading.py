"""What verbs share that read a release of this home: who reads, by which grant, and one request to the broker."""

from __future__ import annotations

from pathlib import Path

import msgspec

from safehold.broker.client import KeyOrder
from safehold.cli.context import Home, Session
from safehold.cli.grant_file import read_grant_file
from safehold.cli.keys import host_signer
from safehold.cli.kinds import words
from safehold.model.ids import HostId, parse_group_name, parse_purpose
from safehold.readers import open_with_broker
from safehold.readers.opening import Opening
from safehold.state.standing import ReleaseRow, find_grant

__all__ = ["Reader"]


class Reader(msgspec.Struct, frozen=True):
    """Who reads, and by which grant; ``groups`` None takes all that the grant names."""

    home: Home
    session: Session
    host: HostId
    grant: Path
    groups: str | None
    purpose: str
    key: Path | None

    def open(self, row: ReleaseRow) -> Opening:
        """A release of this home with keys from the broker. Raises what ``open_with_broker`` raises."""
        file = read_grant_file(self.grant)
        with self.home.log.view() as view:
            grant = find_grant(view, file.grant)
        covered = [group for group in row.groups if grant is None or group in grant.groups]
        chosen = words(self.groups) if self.groups else covered
        order = KeyOrder(
            release=row.release,
            groups=[parse_group_name(group) for group in chosen] or list(row.groups),
            purpose=parse_purpose(self.purpose),
            host=self.host,
            member=None,
            grant=file.token,
        )
        broker = self.home.broker(self.session.read_passphrase)
        folder = self.home.release_folder(row.dataset, row.version)
        return open_with_broker(folder, order, broker, host_signer(self.home, self.host, self.key), self.home.clock)
