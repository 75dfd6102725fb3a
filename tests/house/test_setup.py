"""Set-up: what is locked, what is made, and what happens when it is cut short."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import bench, chromium, figures, lock, peers, setup_env, torch_peer

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"


# --- lock files


@pytest.mark.parametrize("name", ["core", "dev"])
def test_each_locked_distribution_has_one_version_and_hashes_and_no_place(name):
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    assert not lock.FORBIDDEN.search(text)
    blocks = re.split(r"\n(?=[a-z0-9])", text.partition("\n")[2])
    assert len(blocks) >= 10
    for block in blocks:
        first, *rest = block.strip().split("\n")
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+)? \\", first)
        assert rest
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in rest)


def test_what_a_lock_must_not_hold_is_recognised():
    for line in ("--index" + "-url https://a", "--find" + "-links x", "a @ file:" + "///x", "-r x\n  --pre"):
        assert lock.FORBIDDEN.search(line), line
    assert not lock.FORBIDDEN.search("a==1 \\\n    --hash=sha256:00\n")


def locked(name):
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==([\w.]+)", text, re.MULTILINE))


def asked(name):
    text = (REQUIREMENTS / f"{name}.in").read_text(encoding="utf-8")
    return re.findall(r"^([a-z0-9-]+)>=([\d.]+)", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["core", "dev"])
def test_the_lock_holds_what_is_asked_for(name):
    from packaging.version import Version

    assert len(asked(name)) >= 8
    for distribution, lowest in asked(name):
        assert Version(locked(name)[distribution]) >= Version(lowest)


def test_dev_agrees_with_core():
    core, dev = locked("core"), locked("dev")
    assert {name: dev[name] for name in core.keys() & dev.keys()} == {
        name: core[name] for name in core.keys() & dev.keys()
    }
    assert not {name for name, _ in asked("dev")} & core.keys()


def test_the_core_is_small_and_a_marker_decides():
    assert (
        len(figures.distributions((REQUIREMENTS / "core.txt").read_text(encoding="utf-8"))) <= figures.MAX_DISTRIBUTIONS
    )
    both = {
        name
        for lock in ("core", "serve")
        for name in figures.distributions((REQUIREMENTS / f"{lock}.txt").read_text(encoding="utf-8"))
    }
    assert len(both) <= figures.MAX_SERVING
    text = "# a==1\na==1 \\\n    --hash=sha256:00\nb==2 ; python_version >= '3' \\\nc==3 ; python_version < '3' \\\n"
    assert figures.distributions(text) == ["a", "b"]


# --- .venv


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository whose installs are only noted: making .venv is real, pip is not run."""
    (tmp_path / "requirements").mkdir()
    for name in ("core", "dev"):
        (tmp_path / "requirements" / f"{name}.txt").write_text(f"{name}\n", encoding="utf-8")
    monkeypatch.setattr(setup_env, "_run", lambda *_: None)
    real = setup_env.subprocess.run

    def run(command, **options):
        if command[1:4] == ["-I", "-m", "venv"]:
            command = [*command[:4], "--without-pip", command[4]]
        return real(command, **options)

    monkeypatch.setattr(setup_env.subprocess, "run", run)
    return tmp_path


def test_set_up_is_done_once(place):
    assert setup_env.ensure(place, "core") == ["core"]
    assert setup_env.ensure(place, "core") == []
    assert setup_env.ensure(place, "dev") == ["dev"]
    assert setup_env.ensure(place, "dev") == []
    assert setup_env.ensure(place, "core") == []


def test_another_lock_file_makes_it_anew(place):
    setup_env.ensure(place, "dev")
    (place / "requirements" / "dev.txt").write_text("dev, newer\n", encoding="utf-8")
    assert setup_env.ensure(place, "core") == []
    assert setup_env.ensure(place, "dev") == ["core", "dev"]
    (place / "requirements" / "core.txt").write_text("core, newer\n", encoding="utf-8")
    assert setup_env.ensure(place, "dev") == ["core", "dev"]


@pytest.mark.parametrize("kind", ["core", "dev"])
def test_a_set_up_that_was_cut_short_is_made_anew(place, monkeypatch, kind):
    def stop(root, venv, lock_name):
        if lock_name == kind:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup_env, "_install", stop)
        with pytest.raises(KeyboardInterrupt):
            setup_env.ensure(place, kind)
    (place / ".venv" / "leftover").touch()
    assert setup_env.ensure(place, kind)[0] == "core"
    assert not (place / ".venv" / "leftover").exists()


def test_an_interpreter_that_is_gone_makes_it_anew(place):
    setup_env.ensure(place, "core")
    python = place / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(place / "gone")
    assert setup_env.ensure(place, "core") == ["core"]


def test_it_is_made_anew_from_within_itself(place):
    setup_env.ensure(place, "core")
    (place / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup_env.py", place / "tools")
    (place / "requirements" / "core.txt").write_text("# nothing\n", encoding="utf-8")
    program = (
        "import sys; sys.path.insert(0, 'tools'); import setup_env; from pathlib import Path\n"
        "setup_env._run = lambda *_: None\n"
        "print(setup_env.ensure(Path.cwd(), 'core'))"
    )
    python = str(place / ".venv" / "bin" / "python")
    done = subprocess.run([python, "-c", program], cwd=place, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["['core']"], done.stderr


def test_a_moved_folder_makes_it_anew(place, tmp_path_factory):
    setup_env.ensure(place, "core")
    moved = tmp_path_factory.mktemp("moved") / "it"
    shutil.copytree(place, moved, symlinks=True)
    assert setup_env.ensure(moved, "core") == ["core"]


def test_the_launcher_runs_from_a_folder_with_spaces(tmp_path):
    package = tmp_path / "a folder" / "safehold" / "app"
    package.mkdir(parents=True)
    (package / "main.py").write_text(
        "import sys\ndef main():\n    print(sys.argv[1:])\n    return 3\n", encoding="utf-8"
    )
    launcher = tmp_path / "a folder" / "safehold-command"
    python = tmp_path / "a folder" / "python"
    python.symlink_to(sys.executable)
    launcher.write_text(setup_env._LAUNCHER.format(python=python), encoding="utf-8")
    launcher.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.parents[1])}
    done = subprocess.run([str(launcher), "a b", "c"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "['a b', 'c']\n")


def test_pip_that_fails_says_what_to_do(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise setup_env.SetupFailed("no index")

    monkeypatch.setattr(setup_env, "ensure", fail)
    assert setup_env.main(["core"]) == 1
    assert capsys.readouterr().err == "set-up: no index\n"
    assert setup_env.main(["all"]) == 2


# --- the Makefile


def make(*arguments, path=None, **variables):
    environment = {"PATH": path or "/usr/bin:/bin", **variables}
    return subprocess.run(
        ["make", "-s", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_help_lists_the_targets():
    done = make("help")
    assert done.returncode == 0
    for target in ("help", "demo", "test", "check", "bench", "serve", "lock", "docs", "clean"):
        assert re.search(rf"^  make {target} ", done.stdout, re.MULTILINE), target


def test_serve_sets_up_what_it_needs_and_serves_a_home_that_is_made_if_it_is_not_there():
    # Asked what it would do, and not to do it: it would make .venv anew under the tests that run in it.
    done = subprocess.run(["make", "-s", "-n", "serve"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tools/setup_env.py serve" in done.stdout
    assert " init --origin " in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].split()[-2] == "serve"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("case $2 in *version_info*) exit 1;; esac; echo Python 3.9.2", "is Python 3.9.2"),
        ("case $2 in *ensurepip*) exit 1;; esac", "no venv module"),
    ],
)
def test_what_is_missing_is_said(tmp_path, body, words):
    python = tmp_path / "python-stand-in"
    python.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    python.chmod(0o755)
    done = make("python", f"PYTHON={python}")
    assert done.returncode == 2
    assert words in done.stderr


def test_a_python_that_is_not_there_is_said():
    done = make("python", "PYTHON=no-such-python")
    assert done.returncode == 2
    assert "'no-such-python' is not on the path" in done.stderr


# --- the rest


def test_a_measurement_that_fails_is_named_and_the_others_run(tmp_path, capfd):
    (tmp_path / "a.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    (tmp_path / "b.py").write_text("print('b ran')\n", encoding="utf-8")
    (tmp_path / "_shared.py").write_text("raise SystemExit(4)\n", encoding="utf-8")
    assert bench.run(tmp_path) == ["a.py"]
    said = capfd.readouterr().out
    assert "a.py FAILED with exit code 3" in said
    assert "b ran" in said


def test_chromium_never_fails(monkeypatch, capsys):
    monkeypatch.setattr(chromium, "browser", lambda: None)
    monkeypatch.setattr(chromium, "may_install", lambda: None)
    assert chromium.main() == 0
    assert "cannot be installed by this user" in capsys.readouterr().out
    monkeypatch.setattr(chromium, "may_install", lambda: ["/no/such/program"])
    assert chromium.main() == 0
    assert "could not be installed" in capsys.readouterr().out


def test_a_peer_that_cannot_be_had_leaves_nothing_and_says_why(tmp_path, monkeypatch, capsys):
    with pytest.raises(subprocess.SubprocessError, match="No matching distribution"):
        peers.make_pinned(tmp_path / "peer", ["safehold-nothing==1"], ["--no-index"])
    assert not (tmp_path / "peer").exists()
    monkeypatch.setattr(torch_peer, "_PEER", tmp_path)
    monkeypatch.setattr(torch_peer, "make_pinned", _fails)
    assert torch_peer.main(["--wheel"]) == 0  # `make test` goes on, and the tests that need it skip
    assert "it cannot be had here" in capsys.readouterr().err
    assert "torch==" in (torch_peer.works() or "")


def _fails(*_given, **_named):
    raise subprocess.SubprocessError("it cannot be had here")


def test_a_peer_is_made_once_and_anew_for_other_versions(tmp_path, monkeypatch):
    python = peers.make_pinned(tmp_path / "peer", [], ["--help"])  # pip has nothing to install, and says how it would
    monkeypatch.setattr(peers.subprocess, "run", _fails)
    assert peers.make_pinned(tmp_path / "peer", [], ["--help"]) == python
    with pytest.raises(subprocess.SubprocessError, match="cannot be had"):
        peers.make_pinned(tmp_path / "peer", ["other==2"], ["--no-index"])


def test_the_wheel_is_built_offline_and_holds_the_package_alone(tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"safehold = safehold.app.main:main" in zipfile.ZipFile(wheel).read(entry_points)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"safehold"}
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert modules <= set(names)
    assert "safehold/py.typed" in names
