"""A slice of the busy day of ``bench/busy_day.py``: each answer and each refusal has its entry, whatever comes between."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from tests.broker_kit import make_world

BENCH = Path(__file__).parents[3] / "bench" / "busy_day.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("busy_day", BENCH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_no_entry_is_lost_on_a_busy_day(tmp_path: Path) -> None:
    busy_day = load()
    world = make_world(tmp_path)
    world.grant = world.issue(until=world.now + 48 * 60 * busy_day.MINUTE)
    day = busy_day.Day(world, 20)
    for number in [*range(40), *range(700, 725)]:
        day.minute(number)
    assert day.check() > 100
    assert len(day.answered) > 40
    assert len(day.refused) > 3
    world.close()
