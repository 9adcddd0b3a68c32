"""How long an instrument whose process was killed is away, beside an empty actor that is made again.

    python -m tests.benchmarks.recovery [INSTRUMENTS]

Kills the processes (SIGKILL) of 20 instruments of one simulated account, unless said otherwise, one after another, and
prints the median and the longest time until each is verified again, which a supervisor noticed and a broker was asked
for. The floor is the median of as many empty actors: killed, found dead by this process, made again under the same
name, and heard of (target: at most 2 x).
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.names import SUPERVISOR
from actors.runtime.ray_environment import prepare

prepare(None)

import ray  # noqa: E402 - what prepare sets must be set before Ray is imported
from ray.exceptions import RayActorError  # noqa: E402 - as above

from actors.runtime import ray_backend, ray_client, ray_cluster, ray_session  # noqa: E402 - as above
from actors.runtime.deployment import Deployment  # noqa: E402 - as above
from brokers.model import Side  # noqa: E402 - as above
from brokers.simulators.oanda import OandaSimulator  # noqa: E402 - as above
from supervisor.client.processes import Running  # noqa: E402 - as above
from supervisor.config.loader import load  # noqa: E402 - as above
from supervisor.supervision.actor import Supervisor  # noqa: E402 - as above
from tests.benchmarks.cluster import Empty  # noqa: E402 - as above
from tests.benchmarks.form import Figure, show  # noqa: E402 - as above

NAMESPACE = "recovery"
ACCOUNT_ID, TOKEN = "101-001-0000001-001", "benchmark-token"
LOOK_EVERY_S = 0.02
BETWEEN_S = 1.0
"""After each, so that none is measured while the one before still imports."""
WITHIN_S = 60.0


def _empty(name: str) -> Any:
    return ray_cluster.create(Deployment(name, Empty, (), begin=None), NAMESPACE)


def _empties_s(count: int) -> list[float]:
    handles = {f"empty/{number}": _empty(f"empty/{number}") for number in range(count)}
    pids = dict(zip(handles, ray.get([handle.pid.remote() for handle in handles.values()]), strict=True))
    taken = []
    for name, handle in handles.items():
        time.sleep(BETWEEN_S)
        noticed = handle.until_the_end.remote()
        began_s = time.perf_counter()
        os.kill(pids[name], signal.SIGKILL)
        try:
            ray.get(noticed)
        except RayActorError:
            ray_cluster.kill(name, NAMESPACE)
        ray.get(_empty(name).pid.remote())
        taken.append(time.perf_counter() - began_s)
        ray_cluster.kill(name, NAMESPACE)
    return taken


def _rows(running: Running) -> dict[str, dict[str, Any]]:
    rows = (row for account in running.status()["accounts"] for row in account["instruments"])
    return {row["instrument"]: row["health"] for row in rows}


def _await_verified(running: Running, instrument: str, killed: int | None) -> int:
    """Wait until the instrument runs in another process and is verified; its process."""
    give_up_s = time.perf_counter() + WITHIN_S
    while time.perf_counter() < give_up_s:
        health = _rows(running).get(instrument)
        if health is not None and health["verified_at"] and health["pid"] not in (None, killed):
            return int(health["pid"])
        time.sleep(LOOK_EVERY_S)
    raise AssertionError(f"{instrument} was not verified within {WITHIN_S:g} s")


def _instruments_s(count: int, directory: Path) -> list[float]:
    names = [f"PAIR_{number:03d}" for number in range(count)]
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=names)
    for name in names:
        simulator.trade(name, Side.BUY, Decimal(100))
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "defaults: {interval_s: 15}\n"
        f"accounts: [{{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: {TOKEN}, "
        f"rest_url: '{simulator.start()}', instruments: [{', '.join(names)}]}}]\n"
    )
    running = Running(ray_client.Client(NAMESPACE))
    runtime, cluster = ray_backend.RayRuntime(NAMESPACE), ray_cluster.RayCluster(NAMESPACE)
    made = Deployment(SUPERVISOR, Supervisor, (load(path), runtime, cluster), immortal=True)
    ray_cluster.create(made, NAMESPACE)
    taken = []
    try:
        pids = {name: _await_verified(running, name, None) for name in names}
        for name in names:
            time.sleep(BETWEEN_S)
            began_s = time.perf_counter()
            os.kill(pids[name], signal.SIGKILL)
            _await_verified(running, name, pids[name])
            taken.append(time.perf_counter() - began_s)
    finally:
        running.stop()
        ray_cluster.kill(SUPERVISOR, NAMESPACE)
        simulator.close()
    return taken


def figures(*, quick: bool = False, instruments: int = 20) -> Iterator[Figure]:
    """So many of both, in one cluster."""
    count = 3 if quick else instruments
    ray_session.start_or_join("local", NAMESPACE, dashboard=False)
    try:
        empty_s = statistics.median(_empties_s(count))
        with tempfile.TemporaryDirectory() as directory:
            ours_s = _instruments_s(count, Path(directory))
    finally:
        ray_session.leave()
    floor = "an empty actor killed and made again"
    yield Figure(
        "an instrument from kill -9 to verified, median", statistics.median(ours_s), "s", empty_s, floor, "2 x"
    )
    yield Figure(f"the longest of {count}", max(ours_s), "s", empty_s, floor)


def main(count: int) -> None:
    """Measure and print."""
    show(figures(instruments=count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
