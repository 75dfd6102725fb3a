"""The six planted cases, each found; and nothing found where nothing is planted."""

from __future__ import annotations

import marshal
import os
import py_compile
from collections.abc import Callable
from pathlib import Path

import pytest

from safehold.inventory import agent
from safehold.inventory.drift import drift_of
from safehold.model.contents import Contents, parse_contents
from tests.inventory_kit import Environment, record_hash


def _unowned_hook(made: Environment) -> None:
    made.write("own.pth", "import sys\n")


def _declared_hook(made: Environment) -> None:
    made.write("case_hook.pth", "import sys\n")
    record = made.site / "case-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + f"case_hook.pth,{record_hash(b'import sys' + bytes([10]))},11\n")


def _altered_cache(made: Environment) -> None:
    cache = next(made.site.rglob("*.pyc"))
    code = compile("A = 'another'\n", "x", "exec", dont_inherit=True)
    cache.write_bytes(cache.read_bytes()[:16] + marshal.dumps(code))


def _altered_source(made: Environment) -> None:
    source = made.site / "case" / "part.py"
    status = source.stat()
    source.write_text("B = 1\n")  # of the same length, with the time that it had: stat and header are as before
    os.utime(source, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _renamed(made: Environment) -> None:
    (made.site / "case-1.0.dist-info").rename(made.site / "case-0.9.dist-info")


def _downgraded(made: Environment) -> None:
    metadata = made.site / "case-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 0.9"))
    _renamed(made)


CASES: dict[str, tuple[Callable[[Environment], None], str]] = {
    "unowned": (_unowned_hook, "hook own.pth: new"),
    "declared": (_declared_hook, "hook case_hook.pth: new"),
    "cache": (_altered_cache, "code-differs"),
    "source": (_altered_source, "altered case/part.py: new"),
    "renamed": (_renamed, "folder case-0.9.dist-info: METADATA says case 1.0"),
    "downgraded": (_downgraded, "version case: down from 1.0 to 0.9"),
}


def _made(root: Path) -> Environment:
    environment = Environment(root)
    environment.install("case", "1.0", {"case/part.py": "A = 1\n"})
    py_compile.compile(str(environment.site / "case/part.py"))
    return environment


def _contents(environment: Environment) -> Contents:
    return parse_contents(agent.canonical(environment.sweep(wish=agent.Wish(code=60.0))))


@pytest.mark.parametrize("case", sorted(CASES))
def test_every_planted_case_is_found(tmp_path: Path, case: str) -> None:
    assert len(CASES) == 6
    environment = _made(tmp_path / "venv")
    before = _contents(environment)
    assert drift_of(before, _contents(environment)) == ()
    plant, expected = CASES[case]
    plant(environment)
    after = _contents(environment)
    said = [str(one) for one in drift_of(before, after)] + [one.problem for one in after.pyc]
    assert any(expected in one for one in said), said


def test_a_host_drifts_by_credentials_caches_and_traces() -> None:
    before = parse_contents(b"{}")
    after = parse_contents(
        b'{"cached":[{"ecosystem":"PyPI","name":"x","version":"1","path":"p"}],'
        b'"credentials":[{"id":"00","kind":"aws-profile","name":"train","path":"~/.aws/config"}],'
        b'"startup":[{"kind":"systemd-unit","path":"~/u.service","sha256":"aa"}],"traces":[{"kind":"file","path":"/tmp/x"}]}'
    )
    assert [one.kind for one in drift_of(before, after)] == ["cached", "credential", "startup", "trace"]
    assert {one.how for one in drift_of(after, before)} == {"gone"}


@pytest.mark.parametrize(
    ("old", "new", "how"), [("1.9", "1.10", "up"), ("1.10", "1.9", "down"), ("odd one", "1", "changed")]
)
def test_which_way_a_version_went(old: str, new: str, how: str) -> None:
    sides = [parse_contents(agent.canonical({"distributions": [{"name": "x", "version": one}]})) for one in (old, new)]
    assert [str(one) for one in drift_of(*sides)] == [f"version x: {how} from {old} to {new}"]
