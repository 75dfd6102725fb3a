"""The agent over an environment of 44,000 files, beside pip-audit, cyclonedx-py and GuardDog on the same one.

Figures: lists and hooks (``glance``), the stat of everything (``look``), a full hash; memory of the built file in a process
of its own; six planted cases and who finds them. Peers run offline in environments of their own below ``.peers/`` (made
on first use; ``--no-peers`` leaves them out) as far as that goes: a case counts as found by a peer if its output is not
what it was before the case was planted. GuardDog reads sources, and so is given one distribution for the cases and at
most ``--guarddog-seconds`` for the whole.

Beside the look stands what bounds it: ``find`` printing the same stats, in C. A look that asks the stat of every file
cannot be faster than the kernel answers, so 30 times a peer that opens no file but METADATA is out of reach wherever
``find`` is below it; the figure is printed. Alternating with the peer, list and hooks are taken before and after it.

Run: ``python bench/agent.py [--files 44000] [--no-peers]``, some two minutes, and a minute more to install the peers for
the first time. Everything is made in a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import marshal
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safehold.inventory import agent
from safehold.inventory.agent import compiled
from safehold.inventory.agent_file import write_agent
from safehold.inventory.drift import drift_of
from safehold.inventory.report import InventoryReport, parse_message
from safehold.model.contents import contents_items, parse_contents

__all__ = ["main"]

_PER_DISTRIBUTION = 220  # half sources, half compiled caches, as pip leaves them
_SOURCE_BYTES = 7_000
_PEERS = Path(__file__).resolve().parent.parent / ".peers"
_PEER_PACKAGES = {"pip-audit": "pip-audit", "cyclonedx-py": "cyclonedx-bom", "guarddog": "guarddog"}
_SETTLE = 2.1  # seconds: so that every stat is settled and may be remembered
_NOISE = re.compile(rb'"(?:serialNumber|timestamp)":\s*"[^"]*"|urn:uuid:[0-9a-f-]+')


# --- an environment ----------------------------------------------------------------------------------


def _make(root: Path, files: int) -> Path:
    """A virtual environment of distributions of generated text, each with RECORD and honest caches; its site folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    site = next((root / "lib").glob("python*")) / "site-packages"
    for number in range(files // _PER_DISTRIBUTION):
        _distribution(site, f"made_{number}", _PER_DISTRIBUTION // 2, number)
    return site


def _distribution(site: Path, name: str, sources: int, seed: int) -> None:
    rows = []
    for at in range(sources):
        path = f"{name}/part_{at % 10}/module_{at}.py"
        text = (f"VALUE = {seed * 1000 + at}\n" * (_SOURCE_BYTES // 16)).encode()
        file = site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
        cache = file.parent / "__pycache__" / f"module_{at}.{sys.implementation.cache_tag}.pyc"
        cache.parent.mkdir(exist_ok=True)
        cache.write_bytes(_header(file) + bytes(4000))
        digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")
        rows += [f"{path},sha256={digest},{len(text)}", f"{cache.relative_to(site)},,"]
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n")
    (folder / "RECORD").write_text("\n".join([*rows, f"{folder.name}/METADATA,,", f"{folder.name}/RECORD,,", ""]))


def _header(source: Path) -> bytes:
    status = source.stat()
    return compiled.MAGIC + bytes(4) + int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")


# --- the six cases: harmless stand-ins ------------------------------------------------------------------


def _unowned_hook(site: Path) -> None:
    (site / "own.pth").write_text("import sys\n")


def _declared_hook(site: Path) -> None:
    """A hook that its distribution declares with the right hash: RECORD vouches for it."""
    (site / "case_hook.pth").write_text("import sys\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"import sys\n").digest()).decode().rstrip("=")
    with (site / "case-1.0.dist-info" / "RECORD").open("a") as file:
        file.write(f"case_hook.pth,sha256={digest},11\n")


def _altered_cache(site: Path) -> None:
    """Other code under the header that was there."""
    cache = next((site / "case").rglob("*.pyc"))
    cache.write_bytes(
        cache.read_bytes()[:16] + marshal.dumps(compile("VALUE = 'another'\n", "x", "exec", dont_inherit=True))
    )


def _altered_source(site: Path) -> None:
    source = next((site / "case").rglob("*.py"))
    source.write_bytes(source.read_bytes().replace(b"VALUE", b"OTHER", 1))


def _renamed(site: Path) -> None:
    (site / "case-1.0.dist-info").rename(site / "case-0.9.dist-info")


def _downgraded(site: Path) -> None:
    metadata = site / "case-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 0.9"))
    (site / "case-1.0.dist-info").rename(site / "case-0.9.dist-info")


_CASES: dict[str, Callable[[Path], None]] = {
    "unowned .pth": _unowned_hook,
    "declared but new .pth": _declared_hook,
    "altered .pyc": _altered_cache,
    "altered source": _altered_source,
    "renamed dist-info": _renamed,
    "version downgraded": _downgraded,
}


def _small(root: Path, plant: Callable[[Path], None] | None) -> Path:
    """An environment of one distribution with honest caches, and one case in it or none."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    site = next((root / "lib").glob("python*")) / "site-packages"
    _distribution(site, "case", 3, 7)
    for source in sorted((site / "case").rglob("*.py")):
        os.utime(source, (1_700_000_000, 1_700_000_000))
        cache = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        code = compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
        cache.write_bytes(_header(source) + marshal.dumps(code))
    if plant is not None:
        plant(site)
    return site


def _found_by_agent(before: dict[str, Any], site: Path) -> list[str]:
    """What one sweep with comparing of code says, and what is different from the baseline."""
    after = agent.sweep(os.fsencode(site), None, agent.Wish(code=60.0))
    said = [f"{one['path']}: hook that no distribution owns" for one in after["hooks"] if not one["owner"]]
    said += [f"{name}: {one['path']}" for name in ("altered", "pyc") for one in after[name]]
    old, new = (parse_contents(agent.canonical(one)) for one in (before, after))
    return said + [str(one) for one in drift_of(old, new)]


# --- peers ----------------------------------------------------------------------------------------------


def _peer(name: str) -> Path | None:
    """The program of a peer in an environment of its own; None, and said, where it cannot be had."""
    folder = _PEERS / name
    program = folder / "bin" / name
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(folder / "bin" / "pip"), "install", "-q", "--only-binary", ":all:", _PEER_PACKAGES[name]]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            print(f"{name}: cannot be installed here, left out")
            return None
    return program


def _command(name: str, program: Path, site: Path) -> list[str]:
    if name == "pip-audit":
        return [str(program), "--path", str(site), "--format", "json", "--progress-spinner", "off", "--dry-run"]
    if name == "cyclonedx-py":
        return [str(program), "environment", "--output-reproducible", str(site.parents[2] / "bin" / "python")]
    return [str(program), "pypi", "scan", str(site), "--no-sandbox", "--output-format", "json"]


def _run_peer(name: str, program: Path, site: Path, limit: float) -> tuple[float, bytes | None]:
    """Seconds and output; None where it did not end in time."""
    start = time.perf_counter()
    try:
        done = subprocess.run(_command(name, program, site), capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return time.perf_counter() - start, None
    lines = [line for line in done.stderr.splitlines() if b"etwork error" not in line and b"Failed to down" not in line]
    output = _NOISE.sub(b"", done.stdout + b"\n".join(lines)).replace(os.fsencode(site.parents[2]), b"ENV")
    return time.perf_counter() - start, output


# --- measuring ------------------------------------------------------------------------------------------


def _timed(what: str, act: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = act()
        best = min(best, time.perf_counter() - start)
    print(f"{what:<52} {best * 1000:8.1f} ms (best of {times})")
    return best, result


def _figures(site: Path) -> tuple[float, float]:
    """The agent's own figures; returns seconds of a remembered glance and of a look."""
    folder, memory, seen = os.fsencode(site), agent.Memory(), dict[str, Any]()
    _timed("full hash, nothing remembered", lambda: agent.sweep(folder), times=2)
    contents = agent.sweep(folder, memory)
    _timed("lists and hooks, nothing remembered", lambda: agent.glance(folder), times=5)
    glance, _ = _timed("lists and hooks, as every second", lambda: agent.glance(folder, seen), times=20)
    look, known = _timed("with the stat of everything, as every minute", lambda: agent.look(folder, memory))
    assert known == agent.contents_digest(contents), "a look must hold while nothing changed"
    command = ["find", os.fsdecode(site), "-printf", "%s %T@ %C@ %i\\n"]
    _timed("  find, printing the same stats", lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))
    _timed("a sweep of which all is remembered", lambda: agent.sweep(folder, memory), times=2)
    said = {"clock": "given", "environment": "bench", "full": True, "host": "north-lab/bench", "observed": 1}
    message = agent.canonical(agent.report(folder, contents, **said))
    print(f"{'message':<52} {len(message) / 1e6:8.2f} MB")
    _, parsed = _timed("receiving it: parse and digest", lambda: parse_message(message))
    assert isinstance(parsed, InventoryReport)
    _timed("reading its items", lambda: contents_items(agent.canonical(contents), files=True))
    return glance, look


def _memory(site: Path, folder: Path) -> None:
    """The built file in a process of its own: full hash into a spool, and again."""
    command = [
        sys.executable,
        "-I",
        "-S",
        str(write_agent(folder / "agent.pyz")),
        str(site),
        "--host",
        "north-lab/bench",
    ]
    # Between the two a small process of its own: a child's peak begins with what its parent had when it forked.
    code = (
        "import resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True);"
        " used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    for what in ("full hash, message and state", "again, nothing changed"):
        between = [sys.executable, "-I", "-S", "-c", code, *command, "--spool", str(folder / "spool")]
        done = subprocess.run(between, check=True, capture_output=True, text=True)
        seconds, peak = map(float, done.stdout.split())
        print(f"{'a whole process, ' + what:<52} {seconds:8.2f} s CPU, {peak * 1024 / 1e6:.1f} MB")


def _beside_peers(site: Path, folder: Path, figures: tuple[float, float], limit: float) -> None:
    (glance, look), own = figures, dict[str, Any]()
    seconds: dict[str, float] = {}
    programs = {name: program for name in _PEER_PACKAGES if (program := _peer(name)) is not None}
    for name, program in programs.items():
        runs = [_run_peer(name, program, site, limit) for _ in range(1 if name == "guarddog" else 4)]
        best, output = min(runs, key=lambda run: run[0])
        seconds[name] = best
        agent.glance(os.fsencode(site), own)  # the files' stats in the caches, as the peer had them
        glance = min(
            glance, _timed("lists and hooks, again", lambda: agent.glance(os.fsencode(site), own), times=50)[0]
        )
        more = "" if output is not None else f" and was not done: stopped after {limit:.0f} s"
        print(f"{name + ', offline':<52} {best:8.2f} s{more}")
    for name, took in sorted(seconds.items(), key=lambda pair: pair[1]):
        print(
            f"  against {name:<12} lists and hooks {took / glance:9,.0f} ×, with the stat of everything {took / look:7,.1f} ×"
        )
    clean = _small(folder / "clean", None)
    before = {name: _run_peer(name, program, clean, limit)[1] for name, program in programs.items()}
    base = agent.sweep(os.fsencode(clean), None, agent.Wish(code=60.0))
    counts = dict.fromkeys(("agent", *programs), 0)
    for number, (case, plant) in enumerate(_CASES.items()):
        planted = _small(folder / f"case-{number}", plant)
        found = {"agent": bool(_found_by_agent(base, planted))}
        for name, program in programs.items():
            found[name] = _run_peer(name, program, planted, limit)[1] != before[name]
        counts = {name: counts[name] + found[name] for name in counts}
        print(f"  {case:<24} " + ", ".join(f"{name} {'yes' if found[name] else 'no'}" for name in found))
    assert not _found_by_agent(base, clean), "nothing is found where nothing is planted"
    print("found of 6: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    assert counts["agent"] == len(_CASES)


def main() -> None:
    """Make, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=44_000)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--guarddog-seconds", type=float, default=30.0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="safehold-bench-"))
    try:
        site = _make(folder / "large", given.files)
        time.sleep(_SETTLE)
        print(
            f"{sum(len(names) for _, _, names in os.walk(site)):,} files in {given.files // _PER_DISTRIBUTION} distributions"
        )
        figures = _figures(site)
        _memory(site, folder)
        if not given.no_peers:
            _beside_peers(site, folder, figures, given.guarddog_seconds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
