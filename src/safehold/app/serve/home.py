"""From the command line's wish to the two processes; loaded only when something is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safehold.app.serve.plan import FrontPlan
from safehold.app.serve.supervisor import Serving, serve
from safehold.cli.serve_port import Served, ServeWish
from safehold.model.errors import NotFound

__all__ = ["serve_home"]


def serve_home(path: Path, wish: ServeWish, passphrase: Callable[[], str], told: Callable[[Served], None]) -> None:
    """Serve the home at ``path``. Raises ``NotFound`` (``app.no_serve``) without the extra, and what ``serve`` raises."""
    try:
        import uvicorn  # noqa: F401 - asked for here so that its absence is one line and not two processes' traces
    except ImportError as error:
        raise NotFound(
            "app.no_serve",
            "the libraries for serving are not installed here",
            "install Safehold with its extra: safehold[serve]",
        ) from error
    plan = FrontPlan(
        host=wish.host,
        port=wish.port,
        certificate=str(wish.certificate.absolute()) if wish.certificate else None,
        key=str(wish.key.absolute()) if wish.key else None,
        publish=wish.publish,
        elsewhere=wish.elsewhere,
    )

    def say(serving: Serving) -> None:
        told(Served(serving.url, serving.vault, serving.front))

    serve(path, plan, passphrase(), say, wish.kms_ports)
