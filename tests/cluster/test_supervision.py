"""What the supervisor does on a real cluster about actors that hang, that nobody wants, and that keep dying."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from functools import partial
from typing import Any

import psutil
import pytest

from actors.journal.actor import Audit
from actors.runtime import ray_cluster
from actors.runtime.deployment import Deployment
from supervisor.client import processes
from supervisor.client.processes import AlreadyRunning, Running
from supervisor.config.models import Configuration
from tests.cluster.conftest import actors, all_verified, instruments, until

NAMESPACE = "test"
LOOPBACKS = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def _kill(status: dict[str, Any], name: str, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(actors(status)[name]["pid"], how)


def _restarted(name: str, times: int, status: dict[str, Any]) -> bool:
    row = actors(status)[name]
    return bool(row["restarts"] >= times and row["state"] == "UP") and all_verified(status)


def _gone(name: str, status: dict[str, Any]) -> bool:
    return name not in actors(status) and name not in _living()


def _living() -> set[str]:
    return set(asyncio.run(ray_cluster.RayCluster(NAMESPACE).living()))


def test_a_hung_actor_is_replaced_an_orphan_is_swept_and_a_second_supervisor_is_refused(
    supervisor: Running, configuration: Configuration
) -> None:
    status = until(supervisor, all_verified, "everything comes up")

    every_port = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # Ray ends workers that it does not need
            listening = [one for one in process.net_connections(kind="tcp") if one.status == psutil.CONN_LISTEN]
            every_port += [one.laddr.ip for one in listening]
    assert every_port
    assert set(every_port) <= LOOPBACKS, "Ray's servers must not be reachable from outside this machine"

    with (
        pytest.raises(AlreadyRunning, match="is its writer already"),
        processes.started(configuration, detach=False, on_step=lambda _: None),
    ):
        pytest.fail("a second supervisor must not start on this journal")

    _kill(status, "fx/GBP_JPY", signal.SIGSTOP)
    until(supervisor, partial(_restarted, "fx/GBP_JPY", 1), "the hung actor is killed and restarted")

    ray_cluster.create(Deployment("fx/NOBODY", Audit, ("sqlite:////nowhere/journal.db",)), NAMESPACE)
    assert "fx/NOBODY" in _living()
    os.kill(supervisor.pid(), signal.SIGKILL)
    status = until(supervisor, all_verified, "the supervisor comes back")
    until(supervisor, partial(_gone, "fx/NOBODY"), "the orphan is swept")
    assert set(instruments(status)) == {"fx/GBP_JPY", "fx/EUR_USD", "cfd/EURUSD"}


def test_an_actor_that_keeps_dying_is_quarantined_alone_until_an_operator_restarts_it(
    supervisor: Running,
) -> None:
    """PEERS 17: a fleet with one bad account or instrument goes on without it."""
    status = until(supervisor, all_verified, "everything comes up")
    for times in range(1, 6):
        _kill(status, "cfd/EURUSD")
        status = until(supervisor, partial(_restarted, "cfd/EURUSD", times), f"restart {times}")
    _kill(status, "cfd/EURUSD")
    status = until(
        supervisor, lambda s: actors(s)["cfd/EURUSD"]["state"] == "QUARANTINED", "the sixth death is one too many"
    )

    assert "quarantine" in instruments(status)["cfd/EURUSD"]["error"]
    assert status["status"] == "DEGRADED"
    others = {name: row["state"] for name, row in actors(status).items() if name != "cfd/EURUSD"}
    assert set(others.values()) == {"UP"}

    assert supervisor.restart("cfd/EURUSD")
    until(supervisor, all_verified, "the operator's restart ends the quarantine")
