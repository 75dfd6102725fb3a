"""What the agent sees of an ordinary environment, and of one that was tampered with."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
from pathlib import Path

import pytest

from safehold.inventory import agent
from safehold.inventory.agent import site
from safehold.model.encoding import canonical_bytes
from safehold.model.ids import sha256_digest
from tests.inventory_kit import Environment, paths, reasons, record_hash, sha256


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv")
    made.install("Quiet_Tool", "1.0", {"quiet/__init__.py": "A = 1\n", "quiet/more.py": ""}, requires="idna requests")
    made.install("litellm", "1.82.8", {"litellm/__init__.py": "", "litellm_init.pth": "# stands in for a hook\n"})
    return made


def _nothing_odd(contents: dict) -> None:
    assert [contents[name] for name in ("altered", "missing", "pyc", "skipped", "unowned")] == [[]] * 5


def test_distributions_hooks_and_nothing_else_in_a_clean_environment(environment: Environment) -> None:
    contents = environment.sweep()
    _nothing_odd(contents)
    litellm, quiet = (
        contents["distributions"][::-1]
        if contents["distributions"][0]["name"] == "quiet-tool"
        else contents["distributions"]
    )
    assert (quiet["name"], quiet["raw_name"], quiet["version"]) == ("quiet-tool", "Quiet_Tool", "1.0")
    assert (quiet["installer"], quiet["requires"], quiet["record"]) == ("pip", ["idna", "requests"], "checked")
    assert ["quiet/__init__.py", sha256("A = 1\n")] in quiet["files"]
    assert litellm["name"] == "litellm"
    assert contents["hooks"] == [
        {
            "adds": 0, "kind": "pth", "owner": "litellm", "path": "litellm_init.pth", "runs": False,
            "sha256": sha256("# stands in for a hook\n"), "size": 23,
        }
    ]  # fmt: skip


def test_the_digest_is_that_of_the_models_canonical_bytes(environment: Environment) -> None:
    environment.write("ümlaut-\x7f-😀.txt", "x")
    contents = environment.sweep()
    assert agent.canonical(contents) == canonical_bytes(contents)
    assert agent.contents_digest(contents) == sha256_digest(canonical_bytes(contents))


def test_the_digest_depends_on_contents_alone(environment: Environment, tmp_path: Path) -> None:
    first = agent.contents_digest(environment.sweep())
    shutil.copytree(environment.root, tmp_path / "elsewhere" / "other", symlinks=True)
    assert agent.contents_digest(agent.sweep(os.fsencode(tmp_path / "elsewhere" / "other"))) == first
    assert agent.contents_digest(agent.sweep(os.fsencode(environment.site))) == first
    shutil.copytree(environment.site, tmp_path / "bare")
    assert agent.contents_digest(agent.sweep(os.fsencode(tmp_path / "bare"))) == first
    environment.write("quiet/more.py", " ")
    assert agent.contents_digest(environment.sweep()) != first


def test_altered_missing_and_unowned_files(environment: Environment) -> None:
    environment.write("quiet/__init__.py", "A = 2\n")
    (environment.site / "quiet/more.py").unlink()
    environment.write("quiet/extra.py", "B = 1\n")
    contents = environment.sweep()
    assert contents["altered"] == [
        {
            "expected": record_hash(b"A = 1\n")[7:], "owner": "quiet-tool", "path": "quiet/__init__.py",
            "sha256": sha256("A = 2\n"), "size": 6,
        }
    ]  # fmt: skip
    assert contents["missing"] == [{"owner": "quiet-tool", "path": "quiet/more.py"}]
    assert contents["unowned"] == [{"path": "quiet/extra.py", "sha256": sha256("B = 1\n"), "size": 6}]


@pytest.mark.parametrize(
    ("text", "runs", "adds"),
    [
        (b"", False, 0),
        (b"# import sys\n", False, 0),
        (b"import sys\n", True, 0),
        (b"import\tsys\n", True, 0),
        (b" import sys\n", False, 1),
        (b"../elsewhere\n", False, 1),
        (b"# x\rimport sys\r", True, 0),
        (b"# x\x0cimport sys", True, 0),
        (b"\xef\xbb\xbfimport sys\n", True, 0),
        ("# x\u2028import sys".encode(), True, 0),
        (b"# \xff\nimport sys\n", True, 0),
        (b"important\n", False, 1),
    ],
)
def test_what_a_pth_file_would_do(environment: Environment, text: bytes, runs: bool, adds: int) -> None:
    environment.write("stand-in.pth", text)
    contents = environment.sweep()
    hook = next(one for one in contents["hooks"] if one["path"] == "stand-in.pth")
    assert (hook["runs"], hook["adds"], hook["owner"], hook["sha256"]) == (runs, adds, "", sha256(text))
    assert (("stand-in.pth", "adds-folders") in reasons(contents)) == bool(adds)
    assert contents["unowned"] == [], "an unowned hook is listed once, as a hook"


@pytest.mark.parametrize(
    "path",
    [
        "sitecustomize.py",
        "usercustomize.py",
        "sitecustomize/__init__.py",
        "usercustomize.abi3.so",
        "../sitecustomize.py",
    ],
)
def test_customize_modules_are_hooks_wherever_python_finds_them(environment: Environment, path: str) -> None:
    environment.write(path, "# harmless\n")
    hooks = [one for one in environment.sweep()["hooks"] if one["kind"] != "pth"]
    assert [(one["path"], one["runs"], one["owner"]) for one in hooks] == [(path, True, "")]


def test_names_that_only_resemble_hooks_are_ordinary_files(environment: Environment) -> None:
    for path in ("quiet/inner.pth", "sitecustomize_notes.py", "mysitecustomize.py", "x.pth.bak"):
        environment.write(path)
    contents = environment.sweep()
    assert len(contents["hooks"]) == 1
    assert len(contents["unowned"]) == 4


def test_compiled_files_against_their_source(environment: Environment) -> None:
    source = environment.site / "quiet/__init__.py"
    cached = Path(py_compile.compile(str(source)))
    _nothing_odd(environment.sweep(wish=agent.Wish(code=60.0)))
    assert reasons(environment.sweep()) == {(".", "code-unchecked")}, "what was not compared is said"
    os.utime(source, ns=(1, 1))
    assert environment.sweep()["pyc"][0]["problem"] == "source-differs"
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert environment.sweep()["pyc"][0]["problem"] == "hash-based"
    cached.rename(cached.with_name(cached.name.replace("__init__", "gone")))
    assert environment.sweep()["pyc"][0]["problem"] == "no-source"
    environment.write("alone.pyc", b"\0" * 16)
    contents = environment.sweep()
    assert {one["path"]: one["problem"] for one in contents["pyc"]}["alone.pyc"] == "sourceless"
    assert paths(contents, "unowned") == ["alone.pyc"], (
        "Python would import it; a cache without its source it would not"
    )


def test_a_module_with_a_dot_in_its_name_has_a_source(environment: Environment) -> None:
    source = environment.write("quiet/hook-a.b.py", "A = 1\n")
    for level in (0, 1):
        py_compile.compile(str(source), optimize=level)
    assert environment.sweep(wish=agent.Wish(code=60.0))["pyc"] == []


def test_a_cache_that_was_cleared_is_not_missing(environment: Environment) -> None:
    folder = environment.install("cached", "1", {"cached.py": ""})
    rows = folder.joinpath("RECORD").read_text() + "__pycache__/cached.cpython-311.pyc,,\n"
    folder.joinpath("RECORD").write_text(rows)
    _nothing_odd(environment.sweep())


def test_a_renamed_folder_and_a_folder_without_metadata(environment: Environment) -> None:
    (environment.site / "litellm-1.82.8.dist-info").rename(environment.site / "litellm-1.82.6.dist-info")
    environment.write("orphan-2.0.dist-info/INSTALLER", "pip")
    contents = environment.sweep()
    listed = {one["folder"]: (one["name"], one["version"], one["record"]) for one in contents["distributions"]}
    assert listed["litellm-1.82.6.dist-info"] == ("litellm", "1.82.8", "checked")
    assert listed["orphan-2.0.dist-info"] == ("orphan", "2.0", "absent")
    assert ("orphan-2.0.dist-info/METADATA", "no-metadata") in reasons(contents)
    assert ("orphan-2.0.dist-info/RECORD", "no-record") in reasons(contents)
    assert "litellm-1.82.8.dist-info/METADATA" in paths(contents, "missing")


def test_two_versions_of_one_distribution_are_both_listed(environment: Environment) -> None:
    environment.install("litellm", "1.82.6")
    versions = [one["version"] for one in environment.sweep()["distributions"] if one["name"] == "litellm"]
    assert sorted(versions) == ["1.82.6", "1.82.8"]


@pytest.mark.parametrize("as_file", [True, False])
def test_old_egg_info_is_listed_and_what_it_cannot_prove_is_said(environment: Environment, as_file: bool) -> None:
    environment.write("Old-0.3-py3.11.egg-info" + ("" if as_file else "/PKG-INFO"), "Name: Old\n\n")
    contents = environment.sweep()
    old = next(one for one in contents["distributions"] if one["name"] == "old")
    assert (old["version"], old["record"]) == ("0.3", "absent")
    assert ("Old-0.3-py3.11.egg-info/RECORD", "no-record") in reasons(contents)


def test_origin_keeps_hashes_and_never_the_url(environment: Environment) -> None:
    secret = "https://user:hunter2@mirror.invalid/x.whl"
    for number, (name, value) in enumerate(
        {
            "archive_info": {"hashes": {"sha256": "AB" * 32}},
            "vcs_info": {"vcs": "git", "commit_id": "c" * 40},
            "dir_info": {"editable": True},
        }.items()
    ):
        environment.install(f"from-{number}", "1", **{"direct_url.json": json.dumps({"url": secret, name: value})})
    environment.install(
        "from-3",
        "1",
        **{"direct_url.json": json.dumps({"url": secret, "archive_info": {"hash": "sha256=" + "d" * 64}})},
    )
    environment.install("from-4", "1", **{"direct_url.json": "[" * 5000})
    contents = environment.sweep()
    origins = {one["name"]: (one["origin"], one["origin_hash"]) for one in contents["distributions"]}
    assert origins["from-0"] == ("archive", "ab" * 32)
    assert origins["from-1"] == ("vcs", "c" * 40)
    assert origins["from-2"] == ("dir", "")
    assert origins["from-3"] == ("archive", "d" * 64)
    assert origins["from-4"] == ("", "")
    assert ("from_2-1.dist-info", "editable") in reasons(contents)
    assert ("from_4-1.dist-info/direct_url.json", "bad-form") in reasons(contents)
    assert b"hunter2" not in agent.canonical(contents)


def test_record_rows_without_a_hash_are_unknown_not_clean(environment: Environment) -> None:
    folder = environment.install("loose", "1", {"loose.py": "x", "odd.py": "y"})
    rows = [
        ["loose.py", "", ""],
        ["odd.py", "md5=abc", ""],
        [f"{folder.name}/METADATA", "sha256=@@@", ""],
        [f"{folder.name}/RECORD", "", ""],
    ]
    environment.write_record(folder.name, [*rows, [f"{folder.name}/INSTALLER", "sha256=", ""]])
    contents = environment.sweep()
    assert {("loose.py", "no-hash"), ("odd.py", "hash-algorithm")} <= reasons(contents)
    assert paths(contents, "altered") == [f"{folder.name}/INSTALLER", f"{folder.name}/METADATA"]
    assert contents["unowned"] == []


def test_record_paths_that_leave_the_environment_are_never_opened(environment: Environment, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not to be hashed")
    (environment.site / "link").symlink_to(tmp_path)
    (environment.root / "bin" / "tool").write_text("#!script\n")
    folder = environment.install("sly", "1")
    names = [
        str(secret),
        "../../../../secret",
        "link/secret",
        "quiet/../../../../../secret",
        "../../../bin/../../secret",
        "a\0b",
    ]
    good = [["../../../bin/tool", record_hash(b"#!script\n"), ""], ["../../../bin/gone", record_hash(b""), ""]]
    environment.write_record(folder.name, [[name, record_hash(b"x"), ""] for name in names] + good)
    contents = environment.sweep()
    assert sha256("not to be hashed") not in agent.canonical(contents).decode()
    assert {(str(secret), "outside"), ("../../../../secret", "outside"), ("link", "symbolic-link")} <= reasons(contents)
    sly = next(one for one in contents["distributions"] if one["name"] == "sly")
    assert ["../../../bin/tool", sha256("#!script\n")] in sly["files"]
    assert "../../../bin/gone" in paths(contents, "missing")
    assert "link/secret" not in paths(contents, "missing"), "behind a link it is unknown, not missing"


def test_an_environment_that_also_uses_the_systems_packages_says_so(environment: Environment) -> None:
    (environment.root / "pyvenv.cfg").write_text("include-system-site-packages = true\nversion_info = 3.11.7\n")
    assert ("pyvenv.cfg", "system-packages") in reasons(environment.sweep())
    assert agent.interpreter(os.fsencode(environment.root))["system_packages"] is True


def test_a_folder_that_is_no_environment_or_has_several(environment: Environment, tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(agent.AgentError, match=r"not one site-packages folder, but \[\]"):
            agent.sweep(os.fsencode(folder))
    (environment.root / "lib/python3.12/site-packages").mkdir(parents=True)
    with pytest.raises(agent.AgentError, match=r"not one.*python3.11.*python3.12"):
        environment.sweep()
    (environment.root / "lib64").symlink_to("lib")
    with pytest.raises(agent.AgentError, match="not one site-packages folder, but"):
        environment.sweep()


def test_too_many_files_for_a_message_leave_the_lists_out_and_say_so(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "_MAX_LISTED", 3)
    contents = environment.sweep()
    assert all(one["files"] == [] for one in contents["distributions"])
    assert (".", "file-lists-left-out") in reasons(contents)


def test_too_many_files_to_look_at_are_unknown(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_MAX_FILES", 1)
    contents = environment.sweep()
    assert (".", "too-many-files") in reasons(contents)
    assert contents["missing"] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-03-24T10:39:00Z", 1_774_348_740_000_000),
        ("2026-03-24T12:39:00.000001+02:00", 1_774_348_740_000_001),
        ("1969-12-31T23:59:59.999Z", -1_000),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert agent.microseconds(text) == expected


@pytest.mark.parametrize("text", ["", "2026-03-24", "2026-03-24T10:39:00", "2026-02-30T00:00:00Z", "now"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        agent.microseconds(text)
