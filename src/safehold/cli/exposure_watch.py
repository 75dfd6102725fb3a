"""``safehold exposure --watch``: answer again whenever the ledger has grown, and say what is different."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from safehold.exposure.report import Report
from safehold.exposure.verdict import VERDICT_WORDS
from safehold.ledger.log import Log

__all__ = ["differences", "follow_head"]


def differences(before: Report, after: Report) -> list[str]:
    """What changed between two answers, a line each; empty if only the time did."""
    said = [] if before.headline == after.headline else [after.headline]
    for what, old, new in (
        (
            "release",
            {one.name: one.verdict for one in before.releases},
            {one.name: one.verdict for one in after.releases},
        ),
        ("host", {one.host: one.verdict for one in before.hosts}, {one.host: one.verdict for one in after.hosts}),
    ):
        for name in sorted(old.keys() | new.keys()):
            was, now = old.get(name), new.get(name)
            if was != now:
                first = VERDICT_WORDS[was] if was else "not there"
                said.append(f"{what} {name}: {first} → {VERDICT_WORDS[now] if now else 'not there'}")
    replies = {one.number: one for one in before.answers}
    for answer in after.answers:
        old_answer = replies.get(answer.number)
        if old_answer is not None and (old_answer.reply, old_answer.summary) != (answer.reply, answer.summary):
            said.append(f"question {answer.number}: {answer.reply_words}. {answer.summary}")
    return said


def follow_head(log: Log, every: float, wait: Callable[[float], None] = time.sleep) -> Iterator[int]:
    """The size of the ledger, now and whenever it has grown; looks every ``every`` seconds, and never ends by itself."""
    known = -1
    while True:
        with log.view() as view:
            size = view.size()
        if size != known:
            known = size
            yield size
        wait(every)
