"""What the tests of the served broker share: the ASGI application over a small world, and real servers of two processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safehold import __version__
from safehold.app.serve.desk import VaultDesk
from safehold.app.serve.front import Front
from safehold.app.serve.limits import Limits
from safehold.app.serve.link import LocalLink, SocketLink
from safehold.app.serve.metrics import Metrics
from safehold.app.serve.pages import Pages
from safehold.app.serve.vault_process import VaultServer
from safehold.broker.http_form import proof_headers
from safehold.broker.proof import KEYS_PATH, sign_request
from safehold.broker.refusals import RefusalCounter
from safehold.inventory.intake import Intake
from safehold.model.ids import RequestId
from tests.broker_kit import CI, SECOND, World, decode_request
from tests.cli_kit import SAFEHOLD, Desk, Installed, make_desk, make_environment_of, write_texts

ROOMY = Limits(address_rate=1e9, address_burst=10**9, host_rate=1e9, host_burst=10**9)


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Place:
    """A world behind the ASGI application, in this process: the same seam as with two."""

    def __init__(self, world: World, limits: Limits = ROOMY, *, publish: bool = False, singly: int = 10**9) -> None:
        self.world = world
        self.log, self.clock = world.log, world.clock
        self.intake = Intake(world.log, world.clock, world.by)
        self.counter = RefusalCounter(world.log, world.clock, world.by, singly=singly)
        world.broker.count_unproven(self.counter)
        world.broker.answer_again()
        self.desk = VaultDesk(self, world.broker, self.counter)
        self.metrics = Metrics()
        link = LocalLink(self.desk, threads=1)
        self.pages = Pages(link, self.metrics, __version__, publish=publish)
        self.front = Front(link, limits, self.metrics, self.pages.app, elsewhere=("https://other.example",))

    def call(self, method: str, path: str, stated: Mapping[str, str] = {}, body: bytes = b"", **scope: Any) -> Answered:
        return asyncio.run(self._call(method, path, stated, body, scope))

    async def _call(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, more: dict[str, Any]
    ) -> Answered:
        said: list[Any] = []
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw += more.pop("raw", [])
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": raw, "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 80), "state": {},
        } | more  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        await self.front(scope, receive, send)
        found = {name.decode(): value.decode() for name, value in said[0]["headers"]}
        return Answered(said[0]["status"], found, b"".join(one.get("body", b"") for one in said[1:]))

    def post(self, path: str, body: bytes, headers: Mapping[str, str] = {}, **scope: Any) -> Answered:
        stated = {"content-type": "application/json", "content-length": str(len(body))}
        stated |= {name.lower(): value for name, value in headers.items()}
        return self.call("POST", path, stated, body, **scope)

    def signed(self, body: bytes, *, path: str = KEYS_PATH, **changed: Any) -> dict[str, str]:
        """The headers of a proof by the CI host."""
        signer = changed.get("signer", self.world.host_keys[CI])
        nonce = changed.get("nonce") or RequestId(str(decode_request(body)))
        proof = sign_request(body, nonce, changed.get("created", self.world.now // SECOND), signer, path)
        return {name.lower(): value for name, value in proof_headers(proof, body).items()}

    def ask(self, body: bytes | None = None, **changed: Any) -> Answered:
        body = self.world.body() if body is None else body
        return self.post(KEYS_PATH, body, self.signed(body, **changed))


class Seam(Place):
    """A place whose front and vault talk over the Unix socket, as two processes do; a thread stands for the vault's."""

    def __init__(self, world: World, folder: Path, **more: Any) -> None:
        super().__init__(world, **more)
        self.folder = folder
        self.server = VaultServer(folder, self.desk)
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()

    async def _call(self, *asked: Any) -> Answered:
        link = SocketLink(self.folder, 64)
        self.front._link = self.pages._link = link
        link.start()
        try:
            return await super()._call(*asked)
        finally:
            await link.close()

    def close(self) -> None:
        self.server.end()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.world.close()


def ready_desk(folder: Path) -> Desk:
    """A desk with a sealed release, a clean lab host and a grant for it."""
    desk = make_desk(folder)
    texts = write_texts(folder / "texts.jsonl", 60)
    desk("seal", texts, "--dataset", "quill-works/problems")
    environment = make_environment_of(folder / "environment", Installed("litellm", "1.82.6"))
    desk("inventory", "record", "north-lab/trainer", "--environment", environment)
    desk(
        "grant",
        "issue",
        "quill-works/problems",
        "--to",
        "north-lab/trainer",
        "--until",
        "+30d",
        "--out",
        folder / "grant.json",
    )
    return desk


class Running(NamedTuple):
    """A real server: the supervisor, and what it told."""

    process: subprocess.Popen[str]
    url: str
    vault: int
    front: int


@contextlib.contextmanager
def running(desk: Desk, *options: str) -> Iterator[Running]:
    """`safehold serve` over a desk's home, on a free port of loopback."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("SAFEHOLD_")}
    command = [SAFEHOLD, "--home", desk.home, "--passphrase-file", desk.passphrase_file, "--json", "serve"]
    with (desk.folder / "served.out").open("w+") as words:
        process = subprocess.Popen(
            [*map(str, command), "--listen", "127.0.0.1:0", *options],
            env=known, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            document = json.loads(_json_text(process.stderr))
            yield Running(process, document["url"], document["vault"], document["front"])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)
            process.stderr.close()


def _json_text(stream: Any) -> str:
    lines = []
    for line in stream:
        lines.append(line)
        if line.startswith("}"):
            return "".join(lines)
    raise AssertionError(f"the server said: {''.join(lines)}")
