"""Parts of ``safehold exposure``: some of the 23 questions, the ten of the public, and the receipts of what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from safehold.cli.context import Home
from safehold.containment import Option, compare, load_concern
from safehold.exposure.questions.answer import Answer
from safehold.exposure.report import Report, report_json
from safehold.exposure.ten import PublicAnswer, answer_ten
from safehold.exposure.words import count_words, entries_words, list_words
from safehold.ledger.export import write_file
from safehold.ledger.receipts import make_receipts
from safehold.model.errors import StorageFailed

__all__ = [
    "chosen_answers",
    "part_document",
    "pause_words",
    "receipts_of",
    "ten_answers",
    "ten_lines",
    "write_receipts",
]

_VERIFIER = "verifier.txt"


def chosen_answers(report: Report, numbers: Sequence[int]) -> Report:
    """The report with these questions alone; all of them where none is named."""
    if not numbers:
        return report
    answers = tuple(answer for answer in report.answers if answer.number in numbers)
    return msgspec.structs.replace(report, answers=answers)


def ten_answers(home: Home, report: Report) -> tuple[PublicAnswer, ...]:
    """The ten, with what pausing the supplier would stop as things stand now."""
    with home.log.view() as view:
        concern = load_concern(view, report.incident[0], home.clock())
    return answer_ten(report, pause_words(compare(concern)[0]))


def pause_words(option: Option) -> str:
    """What suspending the supplier would stop, in a sentence or two."""
    stops = option.stops
    if not option.holds:
        return "Nothing more: no supplier is concerned that is not suspended already."
    customers = f" for {list_words(stops.customers)}" if stops.customers else ""
    held = list_words([str(one) for one in option.holds])
    stopped = ", ".join(
        (
            count_words(len(stops.hosts), "host"),
            f"{count_words(len(stops.datasets), 'dataset')} with {count_words(stops.releases, 'release')}{customers}",
        )
    )
    rest = f"{count_words(len(stops.runs), 'run')} and {count_words(len(stops.models), 'model')} rest on them"
    ways = f"{len(option.ends)} of {count_words(len(option.ends) + len(option.stays), 'open way')} to data"
    leases = f"{count_words(stops.leases, 'lease')} could not be renewed"
    return f"A hold on {held} stops {stopped}; {leases}; {rest}. It ends {ways}."


def ten_lines(answers: Sequence[PublicAnswer]) -> list[str]:
    """The ten for a terminal."""
    lines = list[str]()
    for one in answers:
        reply = "unknown" if one.reply == "unknown" else "answered"
        lines += ["", f"{one.number:>3}  {one.question}  {reply}"]
        lines += [f"     {text}" for text in one.summary]
        lines.append(f"     seen: {one.coverage}")
        if one.evidence:
            lines.append(f"     evidence: {entries_words(one.evidence)}")
        if one.fallback:
            lines.append(f"     look instead at: {one.fallback}")
    return lines


def receipts_of(report: Report, ten: Sequence[PublicAnswer] = ()) -> tuple[int, ...]:
    """The entries that the answers shown rest on."""
    shown: Sequence[Answer | PublicAnswer] = ten or report.answers
    return tuple(sorted({entry for one in shown for entry in one.evidence}))


def write_receipts(home: Home, entries: Sequence[int], folder: Path) -> dict[str, Any]:
    """Write the receipt of each entry into ``folder``, and the verifier line to check them with.

    A receipt that is there already is written anew: it is as good, against a newer checkpoint. Raises ``StorageFailed``.
    """
    with home.log.view() as view:
        receipts = make_receipts(view, home.log.verifier, [home.log.entry(entry) for entry in entries])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry, receipt in zip(entries, receipts, strict=True):
            write_file(folder / f"entry-{entry}.tlog-proof", receipt)
        write_file(folder / _VERIFIER, (home.log.verifier.text + "\n").encode())
    except OSError as error:
        raise StorageFailed(
            "cli.write", f"{folder} cannot be written: {error.strerror}", "choose another folder"
        ) from error
    return {"folder": str(folder), "entries": list(entries), "verifier": home.log.verifier.text}


def part_document(report: Report, ten: Sequence[PublicAnswer]) -> dict[str, Any]:
    """The report as plain data, with the ten where they were asked for."""
    document = report_json(report)
    return document | {"ten": [msgspec.to_builtins(one) for one in ten]} if ten else document
