"""What lies beside the environments of a host: found, named, and never a value told."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from safehold.inventory import agent
from safehold.inventory.agent.host import HostWish, sweep_host
from safehold.inventory.agent.machine import Machine
from safehold.inventory.agent.places import find_places
from safehold.inventory.report import InventoryReport, parse_message
from safehold.model.contents import contents_items
from tests.inventory_kit import HOST, Environment, sha256

KEY = b"k" * 32
PLANTED = {
    "aws": "AKIAPLANTED0000000001", "aws-secret": "plantedAwsSecret/1234567890", "git": "plantedGitToken12345",
    "docker": "cGxhbnRlZDpkb2NrZXJwYXNzd29yZA==", "env": "planted-env-value-0123456789", "npm": "npm_plantedToken0123",
    "pypi": "pypi-plantedToken012345", "gcp": "planted@project.example.invalid", "hf": "hf_plantedToken0123456",
    "netrc": "plantedNetrcPassword1", "cron": "plantedCronPassword12", "short": "plntd7",
}  # fmt: skip


class Files:
    """A host's files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | bytes = "") -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def machine(self, key: bytes = KEY) -> Machine:
        return Machine(str(self.root).encode(), key)

    def sweep(self, *projects: str, **wish: Any) -> dict[str, Any]:
        machine = self.machine()
        given = HostWish(tuple(one.encode() for one in projects), **wish)
        contents = sweep_host(machine, find_places(machine), given)
        said = {"clock": "given", "environment": "host", "full": True, "host": HOST, "observed": 7}
        message = agent.canonical(agent.report(None, contents, **said))
        assert isinstance(parse_message(message), InventoryReport)
        contents_items(agent.canonical(contents))
        return contents


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "host")


def _credentials(files: Files) -> None:
    home = "/root"
    files.write(
        f"{home}/.aws/credentials",
        f"[train]\naws_access_key_id={PLANTED['aws']}\naws_secret_access_key = {PLANTED['aws-secret']}\n",
    )
    files.write(f"{home}/.git-credentials", f"https://bob:{PLANTED['git']}@git.example.invalid\n")
    files.write(f"{home}/.gitconfig", '[credential "https://bob@git.example.invalid"]\n\thelper = store\n')
    auths = {"auths": {"registry.example.invalid": {"auth": PLANTED["docker"]}}, "credsStore": "pass"}
    files.write(f"{home}/.docker/config.json", json.dumps(auths))
    files.write(f"{home}/.env", f"# x\nexport API_KEY='{PLANTED['env']}'\nPIN={PLANTED['short']}\nnot a line\n")
    files.write(f"{home}/.npmrc", f"//registry.example.invalid/:_authToken={PLANTED['npm']}\n")
    files.write(f"{home}/.pypirc", f"[pypi]\nusername = __token__\npassword = {PLANTED['pypi']}\n")
    files.write(f"{home}/.cache/huggingface/token", PLANTED["hf"])
    files.write(f"{home}/.netrc", f"machine api.example.invalid login bob password {PLANTED['netrc']}\n")
    gcp = {"type": "service_account", "client_email": PLANTED["gcp"], "private_key": "planted"}
    files.write(f"{home}/.config/gcloud/application_default_credentials.json", json.dumps(gcp))
    azure = {"subscriptions": [{"id": "planted-subscription", "name": "training"}]}
    files.write(f"{home}/.azure/azureProfile.json", "\ufeff" + json.dumps(azure))
    kube = "apiVersion: v1\ncontexts:\n- context:\n    cluster: c\n    user: planted-user\n  name: prod\n- name: 'dev'\n  context: {}\nusers:\n- name: planted-user\n"
    files.write(f"{home}/.kube/config", kube)


def test_credentials_by_id_and_never_by_value(files: Files) -> None:
    _credentials(files)
    contents = files.sweep()
    named = {(one["kind"], one["name"]) for one in contents["credentials"]}
    assert named == {
        ("aws-profile", "train"), ("git-login", "git.example.invalid"), ("git-helper", "git.example.invalid"),
        ("docker-login", "registry.example.invalid"), ("docker-helper", "pass"), ("env-name", "API_KEY"), ("env-name", "PIN"),
        ("npm-login", "registry.example.invalid"), ("pypi-login", "pypi"), ("huggingface-token", ""),
        ("netrc-login", "api.example.invalid"), ("gcp-account", "service_account"), ("azure-profile", "training"),
        ("kube-context", "prod"), ("kube-context", "dev"),
    }  # fmt: skip
    assert {one["path"] for one in contents["credentials"] if one["kind"] == "aws-profile"} == {"~/.aws/credentials"}


def test_a_report_holds_no_planted_value_in_any_form(files: Files) -> None:
    _credentials(files)
    files.write("/etc/crontab", f"* * * * * root curl -u x:{PLANTED['cron']} https://example.invalid\n")
    told = agent.canonical(files.sweep())
    for name, value in PLANTED.items():
        raw = value.encode()
        for form in (
            raw,
            base64.b64encode(raw),
            raw.hex().encode(),
            hashlib.sha256(raw).hexdigest().encode(),
            raw[:12] if len(raw) > 12 else raw,
        ):
            assert form not in told, name
    assert b"bob" not in told, "a user's name is personal"
    assert b"planted-user" not in told
    assert hashlib.sha256(raw).hexdigest() != files.machine().digest(raw), "ids are keyed"


def test_one_secret_in_two_places_has_one_id_and_another_key_gives_another(files: Files) -> None:
    files.write("/root/.env", "A_TOKEN=the-same-long-secret-value\n")
    files.write("/srv/app/.env.production", 'B_TOKEN="the-same-long-secret-value"\nDEBUG=true\nTRACE=true\n')
    ids = {one["name"]: one["id"] for one in files.sweep("/srv/app")["credentials"]}
    assert ids["A_TOKEN"] == ids["B_TOKEN"]
    assert ids["DEBUG"] != ids["TRACE"], "short values are equal by chance"
    machine = files.machine(b"o" * 32)
    other = sweep_host(machine, [], HostWish((b"/srv/app",)))["credentials"]
    assert ids["A_TOKEN"] not in {one["id"] for one in other}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
def test_ssh_keys_by_the_fingerprint_that_ssh_keygen_shows(files: Files, passphrase: str) -> None:
    key = files.write("/root/.ssh/id_work")
    key.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "bob", "-f", str(key)], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True).stdout
    for _ in range(2):
        (found,) = files.sweep()["credentials"]
        assert (found["kind"], found["name"]) == ("ssh-key", shown.split()[1])
        key.with_suffix(".pub").unlink(missing_ok=True)  # then from the private file, encrypted or not


def test_a_key_whose_public_half_is_nowhere_has_a_keyed_id(files: Files) -> None:
    files.write("/root/.ssh/old", "-----BEGIN {0}-----\nMIIB\n-----END {0}-----\n".format("RSA PRIVATE " + "KEY"))
    files.write("/root/.ssh/config", "Host x\n")
    (found,) = files.sweep()["credentials"]
    assert (found["kind"], found["name"]) == ("ssh-key", "")


def test_several_homes_are_told_apart_without_their_names(files: Files) -> None:
    for name in ("alice", "bernard"):
        files.write(f"/home/{name}/.pypirc", f"[pypi]\npassword = of-{name}-0123456789\n")
    contents = files.sweep()
    assert len({one["path"] for one in contents["credentials"]}) == 2
    assert b"alice" not in agent.canonical(contents)


HASH = "sha256:" + "ab" * 32


def test_lockfiles(files: Files) -> None:
    files.write("/srv/app/requirements.txt", f"litellm[proxy]==1.82.8 \\\n    --hash={HASH}\n# x==1\nidna>=3\n")
    files.write(
        "/srv/app/uv.lock",
        f'[[package]]\nname = "Telnyx"\nversion = "4.87.1"\nwheels = [{{ url = "u", hash = "{HASH}" }}]\n',
    )
    files.write(
        "/srv/app/a/poetry.lock",
        '[[package]]\nname = "p"\nversion = "1"\nfiles = [{file = "f", hash = "' + HASH + '"}]\n',
    )
    files.write("/srv/app/b/pdm.lock", '[[package]]\nname = "d"\nversion = "2"\nfiles = []\n')
    files.write(
        "/srv/app/c/pylock.toml",
        '[[packages]]\nname = "l"\nversion = "3"\n[packages.sdist]\nhashes = {sha256 = "' + "cd" * 32 + '"}\n',
    )
    files.write("/srv/app/Pipfile.lock", json.dumps({"default": {"f": {"version": "==4", "hashes": [HASH]}}}))
    npm = {
        "packages": {
            "": {"version": "1"},
            "node_modules/@s/n": {"version": "5.0.0"},
            "node_modules/a/node_modules/b": {"version": "6.0.0"},
        }
    }
    files.write("/srv/app/package-lock.json", json.dumps(npm))
    files.write(
        "/srv/app/old/package-lock.json",
        json.dumps({"dependencies": {"o": {"version": "7.0.0", "dependencies": {"q": {"version": "8.0.0"}}}}}),
    )
    files.write("/srv/app/node_modules/x/package-lock.json", json.dumps(npm))
    locked = {
        (one["ecosystem"], one["name"], one["version"]): one["hashes"] for one in files.sweep("/srv/app")["locked"]
    }
    assert set(locked) == {
        ("PyPI", "litellm", "1.82.8"), ("PyPI", "telnyx", "4.87.1"), ("PyPI", "p", "1"), ("PyPI", "d", "2"), ("PyPI", "l", "3"),
        ("PyPI", "f", "4"), ("npm", "@s/n", "5.0.0"), ("npm", "b", "6.0.0"), ("npm", "o", "7.0.0"), ("npm", "q", "8.0.0"),
    }  # fmt: skip
    assert all(
        locked["PyPI", name, version] == ["ab" * 32]
        for name, version in (("litellm", "1.82.8"), ("telnyx", "4.87.1"), ("p", "1"), ("f", "4"))
    )
    assert locked["PyPI", "l", "3"] == ["cd" * 32]


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "package-lock.json", "Pipfile.lock"])
@pytest.mark.parametrize(
    "text", ["{", "[[package]]\nname=1\nversion='1'\n", '{"packages": [1], "default": 3}', "[" * 9999, "\0"]
)
def test_lockfiles_that_are_none_are_said(files: Files, name: str, text: str) -> None:
    files.write(f"/srv/app/{name}", text)
    contents = files.sweep("/srv/app")
    assert {"path": f"/srv/app/{name}", "reason": "bad-form"} in contents["skipped"]


def _wheel(name: str, version: str) -> bytes:
    import io
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "A = 1\n")
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return stream.getvalue()


def test_caches_that_can_serve_a_version_again(files: Files) -> None:
    wheel = _wheel("lite_llm", "1.82.8")
    files.write("/root/.cache/pip/http-v2/a/b/c/d/abcd.body", wheel)
    files.write("/root/.cache/pip/http-v2/a/b/c/d/abcd", "headers")
    files.write("/root/.cache/pip/http-v2/a/b/c/d/page.body", "<html>")
    files.write("/root/.cache/pip/wheels/00/11/22/built-1.0-py3-none-any.whl", wheel)
    files.write("/root/.cache/uv/archive-v0/Xyz/telnyx-4.87.1.dist-info/METADATA", "")
    files.write("/root/.cache/uv/wheels-v5/pypi/idna/3.7-py3-none-any.msgpack", "")
    (files.root / "root/miniconda3/pkgs/numpy-2.0.1-py311_0").mkdir(parents=True)
    index = '\nhash\t{"key":"make-fetch-happen:request-cache:https://registry.example.invalid/@s/n/-/n-1.2.3.tgz","integrity":"sha512-x"}'
    files.write("/root/.npm/_cacache/index-v5/aa/bb/cc", index)
    cached = {(one["ecosystem"], one["name"], one["version"]): one["sha256"] for one in files.sweep()["cached"]}
    assert cached == {
        ("PyPI", "lite-llm", "1.82.8"): sha256(wheel), ("PyPI", "built", "1.0"): sha256(wheel), ("PyPI", "telnyx", "4.87.1"): "",
        ("PyPI", "idna", "3.7"): "", ("conda", "numpy", "2.0.1"): "", ("npm", "@s/n", "1.2.3"): "",
    }  # fmt: skip


def test_what_a_host_runs_by_itself(files: Files) -> None:
    files.write("/root/.config/systemd/user/sysmon.service", "[Service]\n")
    files.write("/etc/systemd/system/multi-user.target.wants/x.service", "[Service]\n")
    files.write("/etc/crontab", "# text\n\n* * * * * root true\n")
    files.write("/var/spool/cron/crontabs/root", "@daily true\n")
    files.write("/root/.bashrc", "true\n")
    found = {(one["kind"], one["path"]) for one in files.sweep()["startup"]}
    assert found == {
        ("systemd-unit", "~/.config/systemd/user/sysmon.service"),
        ("systemd-unit", "/etc/systemd/system/multi-user.target.wants/x.service"),
        ("cron-line", "/etc/crontab:3"),
        ("cron-line", "/var/spool/cron/crontabs/root:1"),
        ("shell", "~/.bashrc"),
    }


def test_indicator_paths_are_looked_for_in_every_home_and_never_opened(files: Files) -> None:
    files.write("/root/.config/sysmon/sysmon.py", "secret text")
    (files.root / "tmp").mkdir()
    (files.root / "tmp/.pg_state").symlink_to("/etc/passwd")
    wanted = (
        b"~/.config/sysmon/sysmon.py",
        b"/tmp/pglog",
        b"/tmp/.pg_state",
        b"relative",
        b"/a\0b",
        b"/tmp/../tmp/pglog",
    )
    contents = files.sweep(indicators=wanted)
    assert contents["traces"] == [
        {"kind": "link", "path": "/tmp/.pg_state"},
        {"kind": "file", "path": "~/.config/sysmon/sysmon.py"},
    ]
    assert "relative" not in contents["looked"]
    assert "/tmp/pglog" in contents["looked"]
    assert sha256("secret text").encode() not in agent.canonical(contents)


def test_without_indicators_that_is_said(files: Files) -> None:
    assert {"path": "indicators", "reason": "none-given"} in files.sweep()["skipped"]


def test_environments_of_every_kind_are_found_once(files: Files) -> None:
    for path in (
        "usr/lib/python3/dist-packages", "usr/local/lib/python3.11/site-packages", "srv/app/.venv/lib/python3.12/site-packages",
        "root/.local/share/pipx/venvs/black/lib/python3.11/site-packages", "root/.local/share/uv/tools/ruff/lib/python3.13/site-packages",
        "root/miniconda3/envs/train/lib/python3.10/site-packages", "root/.local/lib/python3.11/site-packages",
    ):  # fmt: skip
        (files.root / path).mkdir(parents=True)
    files.write("srv/app/.venv/pyvenv.cfg", "")
    (files.root / "srv/app/.venv/lib64").symlink_to("lib")
    (files.root / "root/miniconda3/envs/train/conda-meta").mkdir()
    (files.root / "srv/loop").symlink_to("/")
    places = find_places(files.machine())
    assert sorted((one.kind, one.site.decode()) for one in places) == [
        ("conda", "/root/miniconda3/envs/train/lib/python3.10/site-packages"),
        ("pipx", "/root/.local/share/pipx/venvs/black/lib/python3.11/site-packages"),
        ("system", "/usr/lib/python3/dist-packages"),
        ("system", "/usr/local/lib/python3.11/site-packages"),
        ("user", "/root/.local/lib/python3.11/site-packages"),
        ("uv-tool", "/root/.local/share/uv/tools/ruff/lib/python3.13/site-packages"),
        ("venv", "/srv/app/.venv/lib/python3.12/site-packages"),
    ]
    names = [one.name for one in places]
    assert len(set(names)) == len(names)
    assert [one.name for one in find_places(files.machine())] == names, "the same names in the next round"


def test_links_and_odd_files_in_place_of_what_is_read(files: Files) -> None:
    import os

    secret = files.write("/secret", "[pypi]\npassword = linked-password-0123\n")
    (files.root / "root").mkdir()
    (files.root / "root/.pypirc").symlink_to(secret)
    os.mkfifo(files.root / "root/.npmrc")
    (files.root / "root/.ssh").symlink_to("/")
    with files.write("/root/.env").open("wb") as stream:
        stream.truncate(10 << 30)
    contents = files.sweep()
    assert contents["credentials"] == []
    said = {(one["path"], one["reason"]) for one in contents["skipped"]}
    assert {
        ("~/.pypirc", "symbolic-link"), ("~/.npmrc", "not-regular"), ("~/.ssh", "symbolic-link"), ("~/.env", "too-large"),
    } <= said  # fmt: skip


def test_the_environment_kit_is_found_by_its_pyvenv(files: Files, tmp_path: Path) -> None:
    Environment(files.root / "srv" / "venv")
    assert [one.kind for one in find_places(files.machine())] == ["venv"]
