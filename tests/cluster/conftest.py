"""One small Ray cluster for each test, with a whole supervisor on it, and nothing left behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.runtime.ports import CallError
from actors.runtime.ray_environment import prepare
from supervisor.client import processes
from supervisor.client.processes import Running
from supervisor.config.loader import load
from supervisor.config.models import Configuration

CONFIGURATION = """
ray: {{address: local, namespace: test}}
journal: {{url: "sqlite:///{directory}/journal.db"}}
defaults: {{interval_s: 1, confirm_gap_ms: 50, settle_ms: 100, timeout_ms: 2000}}
supervision: {{intensity: 5, period_s: 600, backoff_s: [0.1, 1]}}
accounts:
  - {{name: fx, broker: oanda, simulator: true, instruments: [GBP_JPY, EUR_USD]}}
  - {{name: cfd, broker: mt5, simulator: true, instruments: [EURUSD]}}
"""

PATIENCE_S = 60.0

prepare(None)  # before anything of a test imports Ray


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """Two simulated accounts with three instruments, checked every second."""
    path = tmp_path / "accounts.yaml"
    path.write_text(CONFIGURATION.format(directory=tmp_path))
    return load(path)


@pytest.fixture
def supervisor(configuration: Configuration) -> Iterator[Running]:
    """A running supervisor, ended in order; afterwards no process of its cluster lives."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with processes.started(configuration, detach=False, on_step=lambda _: None, dashboard=False) as started:
        yield started
    assert living([c for c in psutil.Process().children(recursive=True) if c.pid not in before]) == []


def living(processes_: list[psutil.Process], within_s: float = PATIENCE_S) -> list[str]:
    """Those of some processes that have not ended in time, by their names."""
    _, alive = psutil.wait_procs(processes_, timeout=within_s)
    found = []
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
    return found


def until(supervisor: Running, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """The first status for which it holds; fails with the last one after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = status = supervisor.status()
            if holds(status):
                return status
        except CallError as error:
            last = error  # the supervisor itself is being restarted
        time.sleep(0.2)  # there is no event for it outside the cluster
    raise AssertionError(f"{what}: {last}")


def instruments(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The instruments of a status document by actor name."""
    return {f"{a['account']}/{i['instrument']}": i for a in status["accounts"] for i in a["instruments"]}


def actors(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of the supervisor's actors by name."""
    return {row["name"]: row for row in status["supervisor"]["actors"]}


def all_verified(status: dict[str, Any]) -> bool:
    """Every instrument has finished a cycle in step at least once, its actor is up, and every actor has reported which
    process it is: a new supervisor knows that only from the first report of each."""
    rows = instruments(status).values()
    in_step = bool(rows) and all(row["health"]["verified_at"] and row["health"]["state"] == "UP" for row in rows)
    return in_step and all(row["pid"] for row in actors(status).values())
