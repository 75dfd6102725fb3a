"""``safehold serve``: the broker over HTTP, in two processes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from safehold.cli.context import session_of
from safehold.cli.serve_port import Served, ServeWish
from safehold.cli.witness import parse_listen
from safehold.model.encoding import pretty_json

__all__ = ["command"]


@click.command("serve", epilog="Example: safehold --home my-lab serve --listen 127.0.0.1:8443")
@click.option("--listen", default="127.0.0.1:8443", show_default=True, help="HOST:PORT; port 0 takes any free one.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="The certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--publish-log", is_flag=True, help="Serve entries and payloads to everyone; hashes are served anyway.")
@click.option("--elsewhere", multiple=True, metavar="URL", help="Another broker of this ledger, told to who must wait.")
@click.option(
    "--kms-port", type=click.IntRange(1, 65_535), multiple=True, help="A TCP port that the keys' service is on."
)
@click.pass_context
def command(
    context: click.Context,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    publish_log: bool,
    elsewhere: tuple[str, ...],
    kms_port: tuple[int, ...],
) -> None:
    """Serve the home's broker over HTTP until SIGTERM or Ctrl-C.

    A front speaks HTTP and holds nothing; a vault process beside it decides and holds the keys. Hosts ask with
    `safehold open --broker URL`, or from Python with safehold.readers.connect. Plain HTTP is for this machine alone.
    """
    session = session_of(context)
    host, port = parse_listen(listen)
    wish = ServeWish(
        host=host,
        port=port,
        certificate=tls_cert,
        key=tls_key,
        publish=publish_log,
        elsewhere=elsewhere,
        kms_ports=kms_port,
    )

    def told(served: Served) -> None:
        line = f"Serving {session.home} at {served.url} (vault process {served.vault}, front {served.front})."
        document = {"event": "serving", "url": served.url, "vault": served.vault, "front": served.front}
        sys.stderr.write((pretty_json(document) if session.json else line) + "\n")
        sys.stderr.flush()

    session.factory().serve(session.home, wish, session.read_passphrase, told)
    session.out.result({"home": str(session.home), "served": True}, ["The server has ended; nothing is lost."])
