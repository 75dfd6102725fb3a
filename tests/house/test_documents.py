"""Commands in the documents are run, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import committed
from tools.console_blocks import read_page, run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))) if path.exists()]
MARKDOWN = [path for path in committed.committed_files(ROOT) if path.suffix == ".md"]

SAMPLE = """
<!-- tested -->
```console
$ name=world; mkdir there; cd there
$ echo "hello $name"
hello world
$ printf 'one\\ntwo\\nthree\\n'
one
...
three
$ echo size 31 bytes
size ... bytes
$ ls nothing
...
[exit 2]
$ echo first \\
> second
first second
```

```console
$ this-is-only-read
```

<!-- tested: needs ../shared/list.txt -->
```console
$ cat ../../shared/list.txt
apples
```
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "main").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "list.txt").write_text("apples\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    return tmp_path / "main", tmp_path / "run"


def test_marked_blocks_are_run_in_one_shell_and_compared(repository):
    page = read_page(SAMPLE)
    assert [command.text for command in page.commands][-1] == "cat ../../shared/list.txt"
    assert page.needs == ["../shared/list.txt"]
    assert len(page.commands) == 7
    assert run_page(page, *repository) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hello world", "hello there", "printed:\nhello world"),
        ("[exit 2]", "[exit 3]", "ended with 2, not 3"),
        ("[exit 2]\n", "", "ended with 2, not 0"),
        ("one\n...\nthree", "one\nthree", "printed:\none\ntwo"),
        ("$ name=world; mkdir there; cd there", "$ exit 0", "was not reached"),
    ],
)
def test_what_is_not_as_written_is_found(repository, old, new, words):
    assert old in SAMPLE
    problems = run_page(read_page(SAMPLE.replace(old, new, 1)), *repository)
    assert words in problems[0]


def test_a_block_that_starts_with_output_is_refused():
    with pytest.raises(ValueError, match="starts with a command"):
        read_page("<!-- tested -->\n```console\nhello\n```\n")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_commands_of_a_page_do_what_it_says(path, tmp_path):
    page = read_page(path.read_text(encoding="utf-8"))
    missing = [name for name in page.needs if not (ROOT / name).exists()]
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    assert "\n\n".join(run_page(page, ROOT, tmp_path)) == ""


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []
