"""The front process: uvicorn around ``Front``. Started by the supervisor as ``python -I -m …`` with an empty environment.

It is told everything by its arguments; none of them is a secret. The listening socket is bound here, so that an address
that cannot be used is said at once. SIGTERM drains: ``/readyz`` turns to 503, no new connections are taken, requests on
their way are answered, and then the process ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from safehold import __version__
from safehold.app.serve.front import Front
from safehold.app.serve.hardened import end_with_parent, forbid_programs
from safehold.app.serve.limits import Limits
from safehold.app.serve.link import SocketLink
from safehold.app.serve.metrics import Metrics
from safehold.app.serve.pages import Pages
from safehold.app.serve.plan import FrontPlan, bind
from safehold.app.serve.protocol import bounded_protocol, sweep
from safehold.model.encoding import resolved
from safehold.model.errors import InputInvalid, SafeholdError

__all__ = ["main", "make_server"]


class _Server(uvicorn.Server):
    """Tells the pages when draining begins, says when it listens, and sweeps slow connections."""

    def __init__(self, config: uvicorn.Config, pages: Pages, limits: Limits) -> None:
        super().__init__(config)
        self._pages = pages
        self._limits = limits
        self._sweeper: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._pages.draining = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeper = asyncio.get_running_loop().create_task(sweep(self.server_state.connections, self._limits))
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        await super().shutdown(sockets)


def make_server(plan: FrontPlan, folder: Path, limits: Limits) -> uvicorn.Server:
    """A server for the vault's socket in ``folder``; run it on a socket from ``bind``."""
    metrics = Metrics()
    link = SocketLink(folder, limits.waiting)
    pages = Pages(link, metrics, __version__, publish=plan.publish, begin=link.start)
    front = Front(link, limits, metrics, pages.app, elsewhere=plan.elsewhere)
    config = uvicorn.Config(
        front,
        loop="uvloop",
        http=bounded_protocol(limits, metrics),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=limits.drain_seconds,
        ssl_certfile=plan.certificate,
        ssl_keyfile=plan.key,
        backlog=1024,
    )
    return _Server(config, pages, limits)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Errors are one line on standard error."""
    parser = argparse.ArgumentParser(prog="safehold-front")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--plan", required=True)
    given = parser.parse_args(arguments)
    end_with_parent()
    try:
        plan = msgspec.json.decode(given.plan, type=resolved(FrontPlan))
        with bind(plan) as listener:
            try:
                server = make_server(plan, given.folder, plan.limits)
                server.config.load()
            except (OSError, ValueError) as error:
                raise InputInvalid(
                    "serve.tls",
                    f"the certificate or its key cannot be used: {error}",
                    "give PEM files that belong together",
                ) from error
            forbid_programs()
            gc.freeze()
            server.run(sockets=[listener])
    except SafeholdError as error:
        sys.stderr.write(f"{error.code}\t{error.exit_code}\t{error.message}\t{error.hint}\n")
        return error.exit_code
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
