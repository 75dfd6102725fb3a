"""Random histories, told to a real ledger: the product and a slow twin answer alike, now and as of an earlier time.

``bench/twin.py`` plays 2,000 of them, and new ones.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehold.exposure.case import load_case
from safehold.exposure.report import answer_all
from safehold.model import statements as s
from tests.exposure_maker_kit import NOW, TICK, Maker
from tests.exposure_twin_kit import Twin, compare, differences, tell
from tests.ledger_kit import memory_folder, open_log

SLICE = 100


@pytest.mark.parametrize("begin", range(0, SLICE, 20))
def test_known_histories_are_answered_as_the_twin_does(begin: int) -> None:
    for seed in range(begin, begin + 20):
        with memory_folder() as folder:
            assert differences(seed, folder) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(10_000, 2**31))
def test_new_histories_are_answered_as_the_twin_does(seed: int) -> None:
    with memory_folder() as folder:
        assert differences(seed, folder) == []


def test_the_histories_have_every_verdict_and_reply() -> None:
    verdicts, replies = Counter[str](), Counter[tuple[int, str]]()
    for seed in range(SLICE):
        maker = Maker(seed)
        twin = Twin(maker.history(), maker.payloads, "A-1")
        verdicts.update(twin.verdicts.values())
        verdicts.update(f"host {one.verdict}" for one in twin.twins.values())
        replies.update(twin.replies().items())
    assert set(verdicts) == {"exposed", "unknown", "held", "not_held", "host held", "host unknown", "host not_held"}
    assert min(verdicts.values()) >= 5, verdicts
    for number in (1, 2, 14, 16, 17, 18, 20):
        assert {reply for one, reply in replies if one == number} >= {"unknown", "yes"} or number == 18, number


def test_a_difference_is_seen() -> None:
    """The twin is told of histories without their bad reports: some answers must differ from the product's."""
    seen = 0
    for seed in range(30):
        maker = Maker(seed)
        with memory_folder() as folder:
            log = open_log(folder)
            statements = tell(log, maker)
            with log.view() as view:
                report = answer_all(load_case(view, "A-1", NOW * TICK))
            log.close()
        fewer = [one for one in statements if not isinstance(one, s.FindingRecorded)]
        seen += bool(compare(report, Twin(fewer, maker.payloads, "A-1")))
    assert seen >= 10
