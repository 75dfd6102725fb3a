from __future__ import annotations

import pytest

from tests.exposure_kit import History, tell_story


@pytest.fixture
def history(tmp_path):
    """An empty ledger with one supplier's host and one dataset; its windows and findings are for the test to add."""
    made = History(tmp_path)
    made.party("quill-works")
    made.party("north-lab", "lab")
    made.host("quill-works/ci-1")
    made.dataset("quill-works/word-problems")
    yield made
    made.close()


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    """The incident of March 2026, told once."""
    made = History(tmp_path_factory.mktemp("story"))
    tell_story(made)
    yield made
    made.close()
