"""The unit, the side-car and the CI step of the guide: what they call is what the agent understands."""

from __future__ import annotations

import argparse
import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from safehold.inventory.agent.program import _round_parser

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "hosts.md").read_text()
UNIT = re.search(r"```ini\n(.*?)```", GUIDE, re.DOTALL)[1]


def _parsed(words: list[str]) -> argparse.Namespace:
    """What stands behind ``python3 -I -S agent.pyz``, by the agent's own parser: an unknown option ends the test."""
    place = next(at for at, word in enumerate(words) if word.endswith("agent.pyz"))
    assert words[place - 3 : place] == [words[place - 3], "-I", "-S"], "isolated and without site"
    assert words[place - 3].endswith("python3")
    assert words[place + 1] in ("once", "run")
    return _round_parser(words[place + 1]).parse_args(words[place + 2 :])


def test_the_systemd_unit_says_what_the_agent_understands_and_keeps_its_state() -> None:
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str
    unit.read_string(UNIT.replace("\\\n", " "))
    service = dict(unit["Service"])
    given = _parsed(shlex.split(service["ExecStart"]))
    assert (given.every, given.broker, bool(given.key)) == (60, "https://broker.example", True)
    assert given.spool == service["ReadWritePaths"] == f"/var/lib/{service['StateDirectory']}"
    assert service["Restart"] == "always"
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} == set(service["RestrictAddressFamilies"].split())
    assert not {"ProtectHome", "PrivateTmp", "PrivateNetwork"} & service.keys(), "they hide what is looked for"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    python = shutil.which("python3") or "python3"
    (tmp_path / "safehold-agent.service").write_text(UNIT.replace("/usr/bin/python3", python))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "safehold-agent.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "safehold-agent.service:" not in done.stderr, done.stderr


def test_the_side_car_reads_below_a_folder_and_writes_to_its_volume() -> None:
    listed = re.search(r"command: \[(.*?)\]", GUIDE, re.DOTALL)[1]
    given = _parsed([word.strip().strip('"') for word in listed.split(",")])
    mounts = {
        name: (path, flag)
        for name, path, flag in re.findall(r"\{name: (\w+), mountPath: ([/\w]+)(, readOnly: true)?\}", GUIDE)
    }
    assert mounts["files"] == (given.root, ", readOnly: true")
    assert mounts["spool"] == (given.spool, "")
    assert given.key.startswith(mounts["key"][0] + "/")


def test_the_ci_step_makes_one_round_and_delivers() -> None:
    line = re.search(r"^- run: (.*)$", GUIDE, re.MULTILINE)[1]
    given = _parsed(shlex.split(line))
    assert (given.environment, given.project, given.broker) == ([".venv"], ["."], "https://broker.example")
    assert given.key == "$KEY"
