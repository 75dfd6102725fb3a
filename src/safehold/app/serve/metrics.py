"""What the front counts for Prometheus. Labels are routes and our own codes: a closed set, never what an asker sent."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

__all__ = ["FORM", "Metrics"]

FORM: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_MAX_LABELS: Final = 512


class Metrics:
    """Counters of one front."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "safehold_answers",
            "Answers by route, status and code.",
            ["route", "status", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "safehold_answer_seconds",
            "Seconds from a whole request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.connections = Gauge("safehold_connections", "Open connections.", registry=self._registry)
        self.ready = Gauge("safehold_ready", "1 while keys can be asked for.", registry=self._registry)
        self._known: dict[tuple[str, int, str], Counter] = {}
        self._timed: dict[str, Histogram] = {}

    def count(self, route: str, status: int, code: str, seconds: float) -> None:
        """One answer."""
        key = (route, status, code)
        child = self._known.get(key)
        if child is None:
            if len(self._known) >= _MAX_LABELS:
                key = (route, status, "other")
            child = self._known[key] = self._answers.labels(route, str(status), key[2])
        child.inc()
        timer = self._timed.get(route)
        if timer is None:
            timer = self._timed[route] = self._seconds.labels(route)
        timer.observe(seconds)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
