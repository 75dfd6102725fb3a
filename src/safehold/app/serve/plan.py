"""What is to be served where, checked before anything starts: plain HTTP leaves this machine under no circumstances."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import msgspec

from safehold.app.serve.limits import Limits
from safehold.model.errors import InputInvalid, NotFound, StorageFailed

__all__ = ["FrontPlan", "bind", "checked_plan"]


class FrontPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` and ``port`` to listen on (0: any free port), TLS files, whether entries are published, other brokers."""

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    publish: bool = False
    elsewhere: tuple[str, ...] = ()
    limits: Limits = Limits()


def checked_plan(plan: FrontPlan) -> FrontPlan:
    """The plan, if it can be served. Raises ``InputInvalid`` (``serve.plain_http``, ``serve.tls``), ``NotFound``."""
    if (plan.certificate is None) != (plan.key is None):
        raise InputInvalid("serve.tls", "TLS needs a certificate and its key", "give --tls-cert and --tls-key")
    for name in (plan.certificate, plan.key):
        if name is not None and not Path(name).is_file():
            raise NotFound("serve.tls_file", f"there is no file {name}", "name the PEM file")
    if plan.certificate is None and not _is_loopback(plan.host):
        raise InputInvalid(
            "serve.plain_http",
            f"{plan.host} is not this machine alone, and plain HTTP does not leave it",
            "give --tls-cert and --tls-key, or listen on 127.0.0.1",
        )
    return plan


def bind(plan: FrontPlan) -> socket.socket:
    """The listening socket of a checked plan. Raises ``StorageFailed`` (``serve.address``)."""
    checked_plan(plan)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(plan.host, plan.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(False)
    except (OSError, OverflowError) as error:
        raise StorageFailed(
            "serve.address", f"{plan.host}:{plan.port} cannot be used: {error}", "choose another --listen"
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
