"""Commands in the documents are run, so that what a reader types works.

A block of this form is run; ``console`` blocks without the mark are only read::

    <!-- tested -->
    ```console
    $ safehold --version
    safehold ...
    $ safehold open nothing
    ...
    [exit 6]
    ```

* All marked blocks of one page run in order in one shell, so that ``cd`` and variables last. It starts in an empty
  folder with ``.venv/bin`` first on the path, its own HOME, and no input.
* Lines after a command are what it prints (both streams), compared line by line. ``...`` within a line stands for
  any text, alone on a line for any lines. A command with no output below it may print what it likes.
* A command succeeds, unless ``[exit N]`` ends its output.
* ``> `` continues the command above, as after a backslash.
* ``<!-- tested: needs PATH -->`` names a file or folder relative to the repository; it is laid at the same relative
  place. If it is not there, the page is not run, and the test says so.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Command", "Page", "read_page", "run_page"]

_BLOCK = re.compile(
    r"^<!-- tested(?:: needs (?P<needs>[^>]+?))? -->\n+```console[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_EXIT = re.compile(r"\[exit (\d+)\]")
_SECONDS = 300


@dataclass
class Command:
    """A command, what it should print (None: anything), and its exit code."""

    line: int
    text: str
    expected: list[str] | None = None
    code: int = 0


@dataclass
class Page:
    """The commands of a page in order, and the paths that it needs."""

    commands: list[Command] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)


def read_page(text: str) -> Page:
    """Read the marked blocks of a page. Raises ``ValueError`` for a block that does not start with a command."""
    page = Page()
    for block in _BLOCK.finditer(text):
        page.needs += (block["needs"] or "").split()
        first = text.count("\n", 0, block.start("body")) + 1
        for number, line in enumerate(block["body"].splitlines(), first):
            if line.startswith("$ "):
                page.commands.append(Command(number, line[2:]))
                continue
            if number == first:
                raise ValueError(f"line {number}: a tested block starts with a command: $ …")
            last = page.commands[-1]
            if line.startswith("> ") and last.expected is None:
                last.text += "\n" + line[2:]
            elif found := _EXIT.fullmatch(line):
                last.code = int(found[1])
            else:
                last.expected = [*(last.expected or []), line]
    return page


def _pattern(lines: list[str]) -> re.Pattern[str]:
    """A pattern for expected lines: ``...`` alone stands for any lines, within a line for any text."""
    parts = []
    for line in lines:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append(r"[^\n]*".join(re.escape(piece) for piece in line.rstrip().split("...")) + r"[ ]*\n")
    return re.compile("".join(parts))


def _lay(root: Path, folder: Path, needs: list[str]) -> Path:
    """Make the folder to run in, with what the page needs at its place beside it; return it."""
    home = folder / "at" / "here"
    home.mkdir(parents=True)
    for name in needs:
        place = Path(os.path.normpath(home / name))
        if not place.is_relative_to(folder):
            raise ValueError(f"{name} lies too far outside the repository")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to((root / name).resolve())
    return home


def run_page(page: Page, root: Path, folder: Path) -> list[str]:
    """Run a page's commands below ``folder``; return what was not as written, a text each."""
    home = _lay(root, folder, page.needs)
    script = [
        f"{{\n{command.text}\n}} >'{folder}/out.{number}' 2>&1 </dev/null\necho $? >'{folder}/code.{number}'"
        for number, command in enumerate(page.commands)
    ]
    (folder / "script").write_text("\n".join(script) + "\n", encoding="utf-8")
    path = f"{root / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, "HOME": str(folder), "LC_ALL": "C.UTF-8", "COLUMNS": "120", "NO_COLOR": "1"}
    shell = ["bash", "--noprofile", "--norc", str(folder / "script")]
    subprocess.run(shell, cwd=home, env=environment, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False)
    return [problem for number, command in enumerate(page.commands) if (problem := _judge(command, folder, number))]


def _judge(command: Command, folder: Path, number: int) -> str:
    where = f"line {command.line}: $ {command.text}"
    if not (folder / f"code.{number}").is_file():
        return f"{where}\nwas not reached"
    code = int((folder / f"code.{number}").read_text(encoding="utf-8"))
    printed = (folder / f"out.{number}").read_text(encoding="utf-8", errors="replace")
    if code != command.code:
        return f"{where}\nended with {code}, not {command.code}:\n{printed}"
    text = printed if printed.endswith("\n") or not printed else printed + "\n"
    if command.expected is not None and not _pattern(command.expected).fullmatch(text):
        return f"{where}\nprinted:\n{printed}\nand not:\n" + "\n".join(command.expected)
    return ""
