"""Items come in order from their thread, errors in their place, and whoever stops taking ends the thread."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safehold.readers.ahead import read_ahead


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@given(st.lists(st.integers() | st.none(), max_size=40), st.integers(1, 5))
def test_what_comes_out_is_what_went_in(items: list[int | None], depth: int) -> None:
    assert list(read_ahead(iter(items), depth)) == items
    assert not _threads()


@pytest.mark.parametrize("before", [0, 1, 2, 7])
def test_an_error_comes_after_the_items_before_it(before: int) -> None:
    def failing() -> Iterator[int]:
        yield from range(before)
        raise ValueError("from the thread")

    items = read_ahead(failing())
    assert [next(items) for _ in range(before)] == list(range(before))
    with pytest.raises(ValueError, match="from the thread"):
        next(items)
    assert not _threads()


def test_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    items = read_ahead(counted(), 2)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) <= 5
    items.close()
    assert len(made) <= 6
    assert not _threads()


def test_who_lets_go_of_it_ends_its_thread() -> None:
    items = read_ahead(iter(range(1000)))
    assert next(items) == 0
    del items
    gc.collect()
    assert not _threads()


def test_one_that_was_never_begun_has_no_thread() -> None:
    read_ahead(iter(range(3))).close()
    assert not _threads()
