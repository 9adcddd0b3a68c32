"""What a fleet costs where each instrument has a process of its own, and where cells carry them, in one run.

    python -m tests.benchmarks.cells [INSTRUMENTS [INTERVAL_S [PER_ACTOR ...]]]

For 100 instruments of three simulated accounts at 2 s, first with ``instruments_per_actor: 1`` and then with 500,
unless said otherwise: the time until all are up and verified; the private memory of the processes that carry
instruments, and of all our actors; the cores that both keep busy while everything is in step; and the share of the
cycles due in that time which ran. The simulated brokers run in this process and do not count.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.names import SUPERVISOR
from actors.runtime.ray_environment import prepare

prepare(None)

import psutil  # noqa: E402 - what prepare sets must be set before Ray is imported

from actors.runtime import ray_backend, ray_client, ray_cluster, ray_session  # noqa: E402 - as above
from actors.runtime.deployment import Deployment  # noqa: E402 - as above
from brokers.model import Side  # noqa: E402 - as above
from brokers.simulators.oanda import OandaSimulator  # noqa: E402 - as above
from supervisor.client.processes import Running  # noqa: E402 - as above
from supervisor.config.loader import load  # noqa: E402 - as above
from supervisor.supervision.actor import Supervisor  # noqa: E402 - as above
from tests.benchmarks.form import Figure, show  # noqa: E402 - as above

NAMESPACE = "cells-benchmark"
ACCOUNTS = 3
LOOK_EVERY_S = 0.5
SETTLED_AFTER = 2
MEASURED_FOR_S = 30.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one fleet, in seconds, MB and cores: ``mine`` of those that carry instruments, ``all`` of all actors."""

    up_s: float
    mine_mb: float
    mine_cores: float
    all_mb: float
    all_cores: float
    processes: int
    cycles: float


@contextmanager
def _brokers(count: int) -> Iterator[list[tuple[str, str, list[str]]]]:
    share = [count // ACCOUNTS + (number < count % ACCOUNTS) for number in range(ACCOUNTS)]
    made = []
    simulators = []
    for number, many in enumerate(share):
        names = [f"PAIR{number}_{one:04d}" for one in range(many)]
        simulator = OandaSimulator(f"101-001-000000{number}-001", "benchmark-token", instruments=names)
        for name in names:
            simulator.trade(name, Side.BUY, Decimal(100))
        simulators.append(simulator)
        made.append((f"101-001-000000{number}-001", simulator.start(), names))
    try:
        yield made
    finally:
        for simulator in simulators:
            simulator.close()


def _configuration(
    directory: Path, brokers: list[tuple[str, str, list[str]]], interval_s: float, per_actor: str
) -> Path:
    accounts = "".join(
        f"  - {{name: fx{number}, broker: oanda, account_id: {login}, token: benchmark-token, rest_url: '{url}', "
        f"instruments: [{', '.join(names)}]}}\n"
        for number, (login, url, names) in enumerate(brokers)
    )
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        f"defaults: {{interval_s: {interval_s:g}, instruments_per_actor: {per_actor}}}\naccounts:\n{accounts}"
    )
    return path


def _rows(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for account in status["accounts"] for row in account["instruments"]]


def _cycles(status: dict[str, Any]) -> int:
    return sum(int(row["health"]["cycles"]) for row in _rows(status))


def _memory_mb(pids: set[int]) -> float:
    return sum(float(psutil.Process(pid).memory_full_info().uss) for pid in pids) / 1e6


def _worked_s(pids: set[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times)


def _fleet(count: int, interval_s: float, per_actor: str, measured_s: float) -> Costs:
    ray_session.start_or_join("local", NAMESPACE, dashboard=False)
    try:
        with _brokers(count) as brokers, tempfile.TemporaryDirectory() as directory:
            configuration = load(_configuration(Path(directory), brokers, interval_s, per_actor))
            running = Running(ray_client.Client(NAMESPACE))
            began_s = time.perf_counter()
            runtime, cluster = ray_backend.RayRuntime(NAMESPACE), ray_cluster.RayCluster(NAMESPACE)
            ray_cluster.create(
                Deployment(SUPERVISOR, Supervisor, (configuration, runtime, cluster), immortal=True), NAMESPACE
            )
            while True:
                status = running.status()
                rows = _rows(status)
                if len(rows) == count and all(row["health"]["verified_at"] for row in rows):
                    break
                time.sleep(LOOK_EVERY_S)
            up_s = time.perf_counter() - began_s
            time.sleep(SETTLED_AFTER * interval_s)
            status = running.status()
            mine = {int(row["health"]["pid"]) for row in _rows(status)}
            everybody = mine | {int(row["pid"]) for row in status["supervisor"]["actors"] if row["pid"]}
            everybody.add(int(status["supervisor"]["pid"]))
            cycles = _cycles(status)
            before, began_s = (_worked_s(mine), _worked_s(everybody)), time.perf_counter()
            time.sleep(max(measured_s, 2 * interval_s))
            passed_s = time.perf_counter() - began_s
            cores = [
                (after - worked) / passed_s
                for after, worked in zip((_worked_s(mine), _worked_s(everybody)), before, strict=True)
            ]
            due = passed_s / interval_s * count
            ran = (_cycles(running.status()) - cycles) / due
            costs = Costs(up_s, _memory_mb(mine), cores[0], _memory_mb(everybody), cores[1], len(mine), ran)
            running.stop()
            ray_cluster.kill(SUPERVISOR, NAMESPACE)
            return costs
    finally:
        ray_session.leave()


FORMS = ("1", "500")
COSTS: tuple[tuple[str, str, Callable[[Costs], float]], ...] = (
    ("up and verified", "s", lambda of: of.up_s),
    ("processes", "", lambda of: of.processes),
    ("their private memory", "MB", lambda of: of.mine_mb),
    ("their CPU", "cores", lambda of: of.mine_cores),
    ("memory of all actors", "MB", lambda of: of.all_mb),
    ("CPU of all actors", "cores", lambda of: of.all_cores),
)


def figures(
    *, quick: bool = False, instruments: int = 100, interval_s: float = 2.0, forms: Sequence[str] = FORMS
) -> Iterator[Figure]:
    """Of each form; those after the first beside it."""
    count, interval_s, measured_s = (6, 1.0, 5.0) if quick else (instruments, interval_s, MEASURED_FOR_S)
    first: Costs | None = None
    for per_actor in forms:
        found = _fleet(count, interval_s, per_actor, measured_s)
        name = f"{count} instruments at {interval_s:g} s, {per_actor} a process"
        beside = "" if first is None else f"{forms[0]} a process"
        for words, unit, of in COSTS:
            yield Figure(f"{name}: {words}", of(found), unit, None if first is None else of(first), beside)
        yield Figure(f"{name}: cycles run of those due", found.cycles, "", target="1")
        first = first or found


def main(count: int, interval_s: float, forms: Sequence[str]) -> None:
    """Measure and print."""
    show(figures(instruments=count, interval_s=interval_s, forms=forms))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 100,
        float(sys.argv[2]) if len(sys.argv) > 2 else 2.0,
        sys.argv[3:] or FORMS,
    )
