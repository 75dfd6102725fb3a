"""What the readers' tests share: a sealed release, a source of keys that can be told to refuse, and a clock that stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safehold.broker.client import KeyOrder, OpenedKeys
from safehold.model.errors import Refused
from safehold.model.ids import GroupName, HostId, Purpose
from safehold.readers import ReadOptions, SealedRelease, open_release
from safehold.vault.seal import SealOptions
from tests.vault_kit import Sealed, seal, write_lines

SECOND = 1_000_000
LEASE = 300 * SECOND
GROUPS = {"text": ["id", "text"], "chats": ["chat"]}


class Clock:
    """µs that pass when a test says so."""

    def __init__(self) -> None:
        self.at = 1_774_310_400_000_000

    def __call__(self) -> int:
        return self.at


class Keys:
    """A source of keys; ``held`` makes it refuse, ``asked`` and ``checked`` count."""

    def __init__(self, sealed: Sealed, clock: Clock) -> None:
        self.sealed = sealed
        self.clock = clock
        self.held = False
        self.asked = self.checked = 0

    def request(self, order: KeyOrder) -> OpenedKeys:
        self.asked += 1
        self.check(order)
        self.checked -= 1
        keys = {
            part.file: self.sealed.keys[part.file] for part in self.sealed.manifest.parts if part.group in order.groups
        }
        return OpenedKeys(keys, self.clock() + LEASE, self.asked, b"receipt")

    def check(self, order: KeyOrder) -> None:
        self.checked += 1
        if self.held:
            raise Refused("broker.held", "host:north-lab/trainer is suspended", "ask the lab", entry=7)


def make_records(count: int) -> list[dict[str, Any]]:
    """Records of texts and chats, nested, with members that are absent and null."""
    made: list[dict[str, Any]] = []
    for number in range(count):
        turns = [{"role": "user", "content": f"secret question {number}"}, {"role": "expert", "content": None}]
        made.append({"id": number, "text": f"secret answer {number} " * (number % 5), "chat": turns[: number % 3]})
    return made


def make_release(folder: Path, count: int = 1000, part_rows: int = 150) -> tuple[Sealed, list[dict[str, Any]]]:
    """A release of two column groups in several parts, and its records."""
    made = make_records(count)
    source = write_lines(folder / "records.jsonl", made)
    sealed = seal(source, folder / "release", groups=GROUPS, options=SealOptions(part_rows=part_rows, group_rows=64))
    source.unlink()
    return sealed, made


def order_of(sealed: Sealed, groups: Sequence[str] = ("text", "chats")) -> KeyOrder:
    return KeyOrder(
        release=sealed.release,
        groups=[GroupName(group) for group in groups],
        purpose=Purpose("training"),
        host=HostId("north-lab/trainer"),
        member=None,
        grant="a grant",
    )


def open_it(
    sealed: Sealed, *, groups: Sequence[str] = ("text", "chats"), cache: Path | None = None, check_every: int = 0
) -> tuple[SealedRelease, Keys, Clock]:
    clock = Clock()
    source = Keys(sealed, clock)
    options = ReadOptions(clock=clock, cache=cache, check_every=check_every)
    return open_release(sealed.folder, order_of(sealed, groups), source, options), source, clock
