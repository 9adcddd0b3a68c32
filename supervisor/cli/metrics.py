"""``metrics``: the running supervisor's status for Prometheus, from a process of its own, on loopback.

A scrape requests the status document that the supervisor has anyway; no actor keeps a registry, and nothing is added to
a cycle. A supervisor that does not answer is ``reconciliation_supervisor_up 0`` and nothing else.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from actors.runtime.ports import CallError
from supervisor.cli.console import Failure
from supervisor.client.processes import Running, find
from supervisor.config.models import Configuration
from supervisor.errors import NotRunning
from supervisor.presentation.json_contract import EXIT_OK
from supervisor.presentation.metrics import families

ASK_TIMEOUT_S = 3.0
LEAST_AGE_S = 1.0
"""A document up to this old is served again, so that many scrapers cost the supervisor one request a second."""


class StatusCollector(Collector):
    """Collects the metrics from the answer of ``ask``; ``None`` means that the supervisor does not answer."""

    def __init__(self, ask: Callable[[], dict[str, Any] | None], monotonic_s: Callable[[], float]) -> None:
        self._ask = ask
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._document: dict[str, Any] | None = None
        self._asked_at_s: float | None = None

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        with self._lock:
            if self._asked_at_s is None or self._monotonic_s() - self._asked_at_s > LEAST_AGE_S:
                self._document = self._ask()
                self._asked_at_s = self._monotonic_s()
            age_s = self._monotonic_s() - self._asked_at_s
            yield from families(self._document, age_s)


def metrics(configuration: Configuration, *, port: int, host: str) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP. Raises :class:`Failure` where the port is not available."""
    stop = threading.Event()

    def asked(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, asked)
    registry = CollectorRegistry()
    registry.register(StatusCollector(_asking(configuration), time.monotonic))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise Failure(f"{host}:{port} cannot be used: {error.strerror}. Choose another --port") from None
    print(f"http://{host}:{server.server_port}/metrics", flush=True)
    stop.wait()
    server.shutdown()
    server.server_close()
    thread.join()
    return EXIT_OK


def _asking(configuration: Configuration) -> Callable[[], dict[str, Any] | None]:
    """A function that asks the supervisor, and finds it again after each time that it did not answer."""
    running: list[Running] = []

    def ask() -> dict[str, Any] | None:
        try:
            if not running:
                running.append(find(configuration))
            return running[0].status(timeout_s=ASK_TIMEOUT_S)
        except (NotRunning, CallError):
            running.clear()
            return None

    return ask
