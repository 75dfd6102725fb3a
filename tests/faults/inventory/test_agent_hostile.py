"""An environment that wants to harm, fool or stop the agent."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from safehold.inventory import agent
from safehold.inventory.agent import site
from safehold.inventory.report import parse_message, path_bytes
from tests.inventory_kit import AGENT, HOST, Environment, paths, reasons, record_hash, run_agent


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv")
    made.install("quiet-tool", "1.0", {"quiet.py": "A = 1\n"})
    return made


def test_nothing_of_the_environment_runs(environment: Environment, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    line = f"open({str(marker)!r}, 'w').close()\n"
    environment.write("stand-in.pth", "import sys; " + line)
    for name in ("sitecustomize", "usercustomize", "json", "argparse", "quiet", "re", "os"):
        environment.write(f"{name}.py", line)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(AGENT), ".", "--host", HOST],
        cwd=environment.site,
        env={
            "PYTHONPATH": str(environment.site),
            "PYTHONSTARTUP": str(environment.site / "quiet.py"),
            "PATH": os.defpath,
        },
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
    hooks = {one["path"]: one["runs"] for one in json.loads(done.stdout)["contents"]["hooks"]}
    assert hooks == {"sitecustomize.py": True, "stand-in.pth": True, "usercustomize.py": True}
    # The marker works: a Python that does read the folder leaves it.
    code = f"import site; site.addsitedir({str(environment.site)!r})"
    subprocess.run([sys.executable, "-S", "-c", code], check=True, capture_output=True)
    assert marker.exists()


def test_loops_sockets_fifos_and_devices_are_listed_and_never_opened(environment: Environment) -> None:
    site = environment.site
    (site / "loop").symlink_to(".")
    (site / "up").symlink_to("../..")
    (site / "dangling.py").symlink_to("nowhere")
    (site / "linked.pth").symlink_to("quiet.py")
    os.mkfifo(site / "pipe.py")
    os.mkfifo(site / "pipe.pth")
    os.mkfifo(site / "sly-1.dist-info")
    listener = socket.socket(socket.AF_UNIX)
    old = Path.cwd()
    os.chdir(site)
    try:
        listener.bind("sock")
    finally:
        os.chdir(old)
        listener.close()
    contents = environment.sweep()
    assert reasons(contents) == {
        ("loop", "symbolic-link"),
        ("up", "symbolic-link"),
        ("dangling.py", "symbolic-link"),
        ("linked.pth", "symbolic-link"),
        ("pipe.py", "not-regular"),
        ("pipe.pth", "not-regular"),
        ("sly-1.dist-info", "not-regular"),
        ("sock", "not-regular"),
    }
    hooks = {one["path"]: (one["runs"], one["sha256"]) for one in contents["hooks"]}
    assert hooks == {"linked.pth": (True, ""), "pipe.pth": (True, "")}, "what cannot be read is taken to run"


@pytest.mark.parametrize("where", ["RECORD", "METADATA", "INSTALLER", "direct_url.json"])
def test_metadata_files_that_are_fifos_or_links_do_not_stop_it(
    environment: Environment, where: str, tmp_path: Path
) -> None:
    folder = environment.site / "quiet_tool-1.0.dist-info"
    (folder / where).unlink(missing_ok=True)
    os.mkfifo(folder / where)
    contents = environment.sweep()
    assert (f"{folder.name}/{where}", "not-regular") in reasons(contents)
    assert contents["distributions"][0]["name"] == "quiet-tool"
    assert f"{folder.name}/{where}" not in paths(contents, "missing")


def test_other_ways_into_an_environment_are_listed_or_said_to_be_unknown(environment: Environment) -> None:
    """Latin-1 metadata, archives that Python imports from, links of old editable installs, namespace packages, conda."""
    latin = environment.site / "caf\u00e9-1.dist-info"
    latin.mkdir()
    (latin / "METADATA").write_bytes("Name: caf\u00e9\nVersion: 1\n\n".encode("latin-1"))
    environment.write("old-2.0-py3.11.egg", b"PK\x05\x06" + bytes(18))
    environment.write("easy-install.pth", "./old-2.0-py3.11.egg\n/srv/checkout\n")
    environment.write("linked.egg-link", "/srv/checkout\n.\n")
    environment.write("space/part.py", "A = 1\n")
    (environment.root / "conda-meta").mkdir()
    contents = environment.sweep()
    assert [(one["name"], one["record"]) for one in contents["distributions"]] == [
        ("caf\\xe9", "absent"),
        ("quiet-tool", "checked"),
    ]
    assert {
        ("caf\u00e9-1.dist-info/RECORD", "no-record"),
        ("easy-install.pth", "adds-folders"),
        ("../conda-meta", "conda-packages"),
    } <= reasons(contents)
    assert {"old-2.0-py3.11.egg", "linked.egg-link", "space/part.py"} <= set(paths(contents, "unowned"))


def test_a_sparse_file_of_ten_gigabytes(environment: Environment) -> None:
    with environment.write("huge.bin").open("wb") as file:
        file.truncate(10 << 30)
    with (environment.site / "huge.pth").open("wb") as file:
        file.truncate(10 << 30)
    contents = environment.sweep()
    assert {("huge.bin", "too-large"), ("huge.pth", "too-large")} <= reasons(contents)
    assert contents["unowned"] == [{"path": "huge.bin", "sha256": "", "size": 10 << 30}]
    assert [(one["runs"], one["sha256"]) for one in contents["hooks"]] == [(True, "")]


def test_metadata_and_record_of_a_gigabyte_are_read_in_part(environment: Environment) -> None:
    folder = environment.site / "quiet_tool-1.0.dist-info"
    for name in ("METADATA", "RECORD", "INSTALLER", "direct_url.json"):
        with (folder / name).open("wb") as file:
            file.truncate(1 << 30)
    limit = 600 << 20
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(AGENT), str(environment.root), "--host", HOST, "--hash-limit", "1000000"],
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    contents = json.loads(done.stdout)["contents"]
    assert (f"{folder.name}/METADATA", "too-large") in reasons(contents)
    assert (f"{folder.name}/RECORD", "bad-form") in reasons(contents)
    assert contents["distributions"][0]["record"] == "unreadable"


NAMES = [
    b"a\nb.py",
    b"\xff\xfe.py",
    b"back\\slash.py",
    b"\\x41.py",
    "r\u202eyp.exe".encode(),
    b"\x1b[31m.py",
    "é.py".encode(),
    "e\u0301.py".encode(),
]


def test_hostile_names_come_back_byte_for_byte_and_print_safely(environment: Environment) -> None:
    for name in NAMES:
        (Path(os.fsdecode(os.fsencode(environment.site) + b"/" + name))).touch()
    done = run_agent(environment.root, "--host", HOST)
    assert done.returncode == 0, done.stderr
    report = parse_message(done.stdout.removesuffix(b"\n"))
    shown = paths(json.loads(done.stdout)["contents"], "unowned")
    assert sorted(path_bytes(path) for path in shown) == sorted(NAMES)
    assert len(set(shown)) == len(NAMES)
    assert all(path.isprintable() or "\u0301" in path for path in shown)
    assert report.inventory == agent.contents_digest(environment.sweep())


def test_hostile_names_in_record_and_metadata(environment: Environment) -> None:
    folder = "sly-1.dist-info"
    data = b"Name: s\xffl\x00y\x1b[2J\nVersion: 1\xff\nName: other\nRequires-Dist: \xff\nRequires-Dist: a_B.c>1\n\n"
    environment.write(f"{folder}/METADATA", data)
    rows = [
        ["\udcff.py", record_hash(b""), ""],
        [f"{folder}/METADATA", record_hash(data), ""],
        ["", "", ""],
        ["x" * 9999, "", ""],
    ]
    environment.write_record(folder, rows)
    (Path(os.fsdecode(os.fsencode(environment.site) + b"/\xff.py"))).touch()
    done = run_agent(environment.root, "--host", HOST)
    assert done.returncode == 0, done.stderr
    parse_message(done.stdout.removesuffix(b"\n"))
    contents = json.loads(done.stdout)["contents"]
    sly = next(one for one in contents["distributions"] if one["folder"] == folder)
    assert (sly["raw_name"], sly["version"], sly["requires"]) == ("s\\xffl\\x00y\\x1b[2J", "1\\xff", ["a-b-c"])
    assert ["\\xff.py", hashlib.sha256().hexdigest()] in sly["files"]
    assert contents["unowned"] == [
        {"path": f"{folder}/RECORD", "sha256": contents["unowned"][0]["sha256"], "size": contents["unowned"][0]["size"]}
    ]
    assert "x" * 9999 in paths(contents, "missing") or ("x" * 9999, "unreadable") in reasons(contents)


@pytest.mark.parametrize(
    "text",
    [b"\0\0\0", b'"open', b"a,b\n" * 10, b'"' + b"x" * 200_000 + b'",,', b"\xff,\xff,\xff\n", b"/,,\n..,,\n.,,\n"],
)
def test_any_record(environment: Environment, text: bytes) -> None:
    environment.write("quiet_tool-1.0.dist-info/RECORD", text)
    contents = environment.sweep()
    agent.canonical(contents)
    assert "quiet.py" in paths(contents, "unowned"), "what RECORD does not vouch for is unowned"


def test_a_tree_deeper_than_a_path_may_be(environment: Environment) -> None:
    folder = os.open(environment.site, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=folder)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    contents = environment.sweep()
    assert [one["reason"] for one in contents["skipped"]] == ["unreadable"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_is_unknown_for_a_user(environment: Environment) -> None:
    environment.install("hidden", "1", {"hidden/a.py": ""})
    (environment.site / "hidden").chmod(0)
    try:
        contents = environment.sweep()
    finally:
        (environment.site / "hidden").chmod(0o700)
    assert ("hidden", "unreadable") in reasons(contents)
    assert contents["missing"] == []


def test_what_cannot_be_read_is_unknown_not_missing(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.install("hidden", "1", {"hidden/a.py": "", "closed.py": ""})
    scan, opened = os.scandir, os.open

    def scandir(path: bytes):
        if path.endswith(b"/hidden/"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    def open_(path, *rest, **named):
        if isinstance(path, bytes) and path.endswith(b"/closed.py"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "open", open_)
    contents = environment.sweep()
    assert {("hidden", "unreadable"), ("closed.py", "unreadable")} <= reasons(contents)
    assert contents["missing"] == []
    assert contents["altered"] == []


def test_files_that_change_or_vanish_during_the_sweep(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.write("moving.py", "1")
    environment.write("fleeting.py", "1")
    walk = site.Site.walk

    def then_change(swept: site.Site) -> None:
        walk(swept)
        environment.write("moving.py", "22")
        (environment.site / "fleeting.py").unlink()

    monkeypatch.setattr(site.Site, "walk", then_change)
    contents = environment.sweep()
    assert {("moving.py", "changed-while-read"), ("fleeting.py", "unreadable")} <= reasons(contents)


def test_a_site_folder_that_vanishes_is_unknown(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def gone(path: bytes):
        if path.endswith(b"site-packages/"):
            raise FileNotFoundError(2, "gone")
        return scan(path)

    monkeypatch.setattr(os, "scandir", gone)
    contents = environment.sweep()
    assert reasons(contents) == {(".", "unreadable")}
    assert contents["distributions"] == []
