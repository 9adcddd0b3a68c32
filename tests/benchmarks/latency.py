"""From a fill at the broker to its durable event, through the stream, on Ray.

    python -m tests.benchmarks.latency [EVENTS]

One OANDA simulator in this process, twenty instruments. Prints p50 and p99 over 500 fills unless said otherwise
(targets: 25 ms and 150 ms) beside three calls of a bare Ray actor: of fills that come alone, each when the look after
the one before is long over, and of a burst, each made once the one before is in the journal.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.names import SUPERVISOR
from actors.runtime.ray_environment import prepare

prepare(None)

import ray  # noqa: E402 - what prepare sets must be set before Ray is imported

from actors.events import EventType  # noqa: E402 - as above
from actors.runtime import ray_backend, ray_client, ray_cluster, ray_session  # noqa: E402 - as above
from actors.runtime.deployment import Deployment  # noqa: E402 - as above
from brokers.model import Side  # noqa: E402 - as above
from brokers.simulators.oanda import OandaSimulator  # noqa: E402 - as above
from supervisor.client.processes import Running  # noqa: E402 - as above
from supervisor.config.loader import load  # noqa: E402 - as above
from supervisor.supervision.actor import Supervisor  # noqa: E402 - as above
from tests.benchmarks.cluster import Empty  # noqa: E402 - as above
from tests.benchmarks.form import Figure, show  # noqa: E402 - as above

NAMESPACE = "latency"
ACCOUNT_ID, TOKEN = "101-001-0000001-001", "benchmark-token"
INSTRUMENTS = 20
QUICK = 3
SETTLED_AFTER_S = 6.0
"""The stream is live a moment after the first cycle, for which there is no event out here; and a fill from within five
seconds of a position that may have it in it is left to the look."""
ALONE_S = 0.2
GIVE_UP_AFTER_S = 5.0
LOOK_EVERY_S = 0.0005
_FILL = "SELECT seq, time FROM journal_records WHERE seq > ? AND stream = ? AND type = ? ORDER BY seq LIMIT 1"


def _three_calls_ms(rounds: int = 200) -> float:
    remote: Any = ray.remote(Empty)
    actor = remote.options(num_cpus=0, max_concurrency=1000).remote()
    ray.get(actor.pid.remote())
    taken = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        for _ in range(3):
            ray.get(actor.pid.remote())
        taken.append((time.perf_counter() - began_s) * 1000)
    ray.kill(actor)
    return statistics.median(taken)


def _configuration(directory: Path, rest: str, stream: str, names: list[str]) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "defaults: {interval_s: 300}\n"
        f"accounts: [{{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: {TOKEN}, "
        f"rest_url: '{rest}', stream_url: '{stream}', instruments: [{', '.join(names)}]}}]\n"
    )
    return path


def _wait_until_up(running: Running) -> None:
    while True:
        rows = [row for account in running.status()["accounts"] for row in account["instruments"]]
        if rows and all(row["health"]["verified_at"] for row in rows):
            return
        time.sleep(0.2)


def _measure(
    simulator: OandaSimulator, url: str, names: list[str], events: int, pause_s: float
) -> list[tuple[float, float]]:
    """Milliseconds until each fill was decided on, by the time in its event, and until it was durable."""
    with contextlib.closing(sqlite3.connect(f"file:{url.partition('sqlite:///')[2]}?mode=ro", uri=True)) as journal:
        (seq,) = journal.execute("SELECT max(seq) FROM journal_records").fetchone()
        taken: list[tuple[float, float]] = []
        for number in range(events):
            name = names[number % len(names)]
            time.sleep(pause_s)
            began, began_s = datetime.now(UTC), time.perf_counter()
            simulator.trade(name, Side.BUY if number // len(names) % 2 else Side.SELL, Decimal(100))
            seq, decided = _next_fill(journal, seq, f"fx/{name}", began_s)
            taken.append(((decided - began).total_seconds() * 1000, (time.perf_counter() - began_s) * 1000))
    return taken


def _next_fill(journal: sqlite3.Connection, seq: int, stream: str, began_s: float) -> tuple[int, datetime]:
    """Wait for a fill of the stream; its place and time. Nothing more is read: this process has the broker's threads in
    it, too, and none of them works while it reads."""
    while time.perf_counter() - began_s < GIVE_UP_AFTER_S:
        found = journal.execute(_FILL, (seq, stream, EventType.ORDER_FILLED.value)).fetchone()
        if found is not None:
            return found[0], datetime.fromisoformat(found[1])
        time.sleep(LOOK_EVERY_S)
    raise AssertionError(f"a fill of {stream} was not seen within {GIVE_UP_AFTER_S:g} s")


def figures(*, quick: bool = False, events: int = 500) -> Iterator[Figure]:
    """Fills of so many instruments in turn."""
    names = [f"PAIR_{number:03d}" for number in range(QUICK if quick else INSTRUMENTS)]
    events = 40 if quick else events
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=names, hedging=False)
    rest, stream = simulator.start(), simulator.start_stream()
    ray_session.start_or_join("local", NAMESPACE, dashboard=False)
    try:
        floor_ms = _three_calls_ms()
        with tempfile.TemporaryDirectory() as directory:
            configuration = load(_configuration(Path(directory), rest, stream, names))
            runtime, cluster = ray_backend.RayRuntime(NAMESPACE), ray_cluster.RayCluster(NAMESPACE)
            made = Deployment(SUPERVISOR, Supervisor, (configuration, runtime, cluster), immortal=True)
            ray_cluster.create(made, NAMESPACE)
            running = Running(ray_client.Client(NAMESPACE))
            _wait_until_up(running)
            time.sleep(SETTLED_AFTER_S)
            alone = _measure(simulator, configuration.journal_url, names, events, ALONE_S)
            burst = _measure(simulator, configuration.journal_url, names, events, 0.0)
            running.stop()
            ray_cluster.kill(SUPERVISOR, NAMESPACE)
    finally:
        ray_session.leave()
        simulator.close()
    name = f"fill on the socket to durable event, {len(names)} instruments"
    for which, taken in ((name, alone), (f"{name}, in a burst", burst)):
        yield from _percentiles(which, taken, floor_ms)


def _percentiles(name: str, taken: Sequence[tuple[float, float]], floor_ms: float) -> Iterator[Figure]:
    decided, durable = (sorted(times) for times in zip(*taken, strict=True))
    for words, place, target in (("p50", 0.5, "25 ms"), ("p99", 0.99, "150 ms")):
        at = int(len(taken) * place)
        yield Figure(f"{name}, {words}", durable[at], "ms", floor_ms, "three bare calls", target)
        yield Figure(f"the same until it was decided on, {words}", decided[at], "ms", floor_ms, "three bare calls")


def main(events: int) -> None:
    """Measure and print."""
    show(figures(events=events))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
