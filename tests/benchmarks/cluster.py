"""How long a fleet takes to come up, and what an instrument actor weighs, beside empty Ray actors in the same run.

    python -m tests.benchmarks.cluster [INSTRUMENTS]

Prints, for 50 instruments of one simulated account unless said otherwise: the time until as many empty actors have
answered their first call, the time until the supervisor and every instrument are up and verified, the ratio (target: at
most 1.3), the private memory of both kinds of actor (target: at most 10 MB apart), and the fetches and broker requests
of one interval.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.names import SUPERVISOR
from actors.runtime.ray_environment import prepare

prepare(None)

import psutil  # noqa: E402 - what prepare sets must be set before Ray is imported
import ray  # noqa: E402 - as above

from actors.runtime import ray_backend, ray_client, ray_cluster, ray_session  # noqa: E402 - as above
from actors.runtime.deployment import Deployment  # noqa: E402 - as above
from brokers.model import Side  # noqa: E402 - as above
from brokers.simulators.oanda import OandaSimulator  # noqa: E402 - as above
from supervisor.client.processes import Running  # noqa: E402 - as above
from supervisor.config.loader import load  # noqa: E402 - as above
from supervisor.supervision.actor import Supervisor  # noqa: E402 - as above
from tests.benchmarks.form import Figure, show  # noqa: E402 - as above

NAMESPACE = "benchmark"
INTERVAL_S = 15
INTERVALS = 2
LOOK_EVERY_S = 0.25
QUIET_PERCENT, QUIET_FOR_S, QUIET_WITHIN_S = 10, 1.0, 30.0
ACCOUNT_ID, TOKEN = "101-001-0000001-001", "benchmark-token"


class Empty:
    """An actor that does nothing."""

    async def pid(self) -> int:
        """Where it lives."""
        return os.getpid()


@contextmanager
def _a_cluster() -> Iterator[None]:
    """One for each fleet, as `start` makes it, so that none finds processes that another has used up or left behind."""
    ray_session.start_or_join("local", NAMESPACE, dashboard=False)
    try:
        yield
    finally:
        ray_session.leave()


def _await_quiet() -> None:
    """Let what came before come to its end: Ray's own start, processes that die."""
    give_up_s = time.perf_counter() + QUIET_WITHIN_S
    while psutil.cpu_percent(QUIET_FOR_S) > QUIET_PERCENT and time.perf_counter() < give_up_s:
        pass


def _private_mb(pid: int) -> float:
    memory = psutil.Process(pid).memory_full_info()
    return float(memory.uss) / 1e6


def _empty_fleet(count: int) -> tuple[float, float]:
    _await_quiet()
    began_s = time.perf_counter()
    remote: Any = ray.remote(Empty)
    fleet = [remote.options(num_cpus=0, max_concurrency=1000).remote() for _ in range(count)]
    pids = ray.get([actor.pid.remote() for actor in fleet])
    took_s = time.perf_counter() - began_s
    memory = sorted(_private_mb(pid) for pid in pids)[count // 2]
    for actor in fleet:
        ray.kill(actor)
    return took_s, memory


def _configuration(directory: Path, rest_url: str, names: list[str], interval_s: float) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        f"defaults: {{interval_s: {interval_s}}}\n"
        f"accounts: [{{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: {TOKEN}, rest_url: '{rest_url}', "
        f"instruments: [{', '.join(names)}]}}]\n"
    )
    return path


def _rows(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for account in status["accounts"] for row in account["instruments"]]


def _calls(status: dict[str, Any]) -> int:
    return int(status["accounts"][0]["broker_calls"])


def _await_the_middle_of_an_interval(running: Running, interval_s: float) -> None:
    """So that whole intervals are counted: from half an interval after all of them ticked together."""
    time.sleep(interval_s)
    before = _calls(running.status())
    while _calls(running.status()) == before:
        time.sleep(LOOK_EVERY_S)
    time.sleep(interval_s / 2)


def _our_fleet(directory: Path, count: int, interval_s: float) -> tuple[float, float, float]:
    names = [f"PAIR_{number:03d}" for number in range(count)]
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=names)
    for name in names:
        simulator.trade(name, Side.BUY, Decimal(100))
    configuration = load(_configuration(directory, simulator.start(), names, interval_s))
    running = Running(ray_client.Client(NAMESPACE))
    _await_quiet()
    began_s = time.perf_counter()
    runtime, cluster = ray_backend.RayRuntime(NAMESPACE), ray_cluster.RayCluster(NAMESPACE)
    made = Deployment(SUPERVISOR, Supervisor, (configuration, runtime, cluster), immortal=True)
    ray_cluster.create(made, NAMESPACE)
    while True:
        status = running.status()
        rows = _rows(status)
        if rows and all(row["health"]["verified_at"] for row in rows):
            break
        time.sleep(LOOK_EVERY_S)
    took_s = time.perf_counter() - began_s
    _await_the_middle_of_an_interval(running, interval_s)
    before = _calls(running.status())
    began_s = time.perf_counter()
    time.sleep(INTERVALS * interval_s)
    status = running.status()
    intervals = (time.perf_counter() - began_s) / interval_s
    calls = (_calls(status) - before) / intervals
    memory = sorted(_private_mb(row["health"]["pid"]) for row in _rows(status))[count // 2]
    running.stop()
    ray_cluster.kill(SUPERVISOR, NAMESPACE)
    simulator.close()
    return took_s, memory, calls


def figures(*, quick: bool = False, instruments: int = 50) -> Iterator[Figure]:
    """A fleet of so many, between two of as many empty actors."""
    count = 4 if quick else instruments
    with _a_cluster():
        empty_s, empty_mb = _empty_fleet(count)
    with _a_cluster(), tempfile.TemporaryDirectory() as directory:
        ours_s, ours_mb, calls = _our_fleet(Path(directory), count, 2 if quick else INTERVAL_S)
    with _a_cluster():
        again_s, _ = _empty_fleet(count)
    floor_s = (empty_s + again_s) / 2
    empty = f"{count} empty actors"
    yield Figure(f"{count} instruments up and verified", ours_s, "s", floor_s, empty, "1.3 x")
    yield Figure("private memory of an instrument actor", ours_mb, "MB", empty_mb, "an empty actor", "10 MB more")
    yield Figure("broker requests per interval", calls, "", 1.0, "one")


def main(count: int) -> None:
    """Measure and print."""
    show(figures(instruments=count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
