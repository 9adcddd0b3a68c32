"""Calls between actors of one machine, on a real Ray: they go over sockets, and fail and recover as Ray's do."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
import ray
from ray.exceptions import RaySystemError

from actors.runtime import ray_backend, ray_client, ray_cluster, ray_session
from actors.runtime.deployment import Carried, Deployment
from actors.runtime.ports import ActorUnavailable, CallTimeout

NAMESPACE = "one-machine"
WITHIN_S = 60.0


class Asked:
    """An actor that says how it was asked."""

    def __init__(self) -> None:
        self._looked = 0

    async def pid(self) -> int:
        """Its process."""
        return os.getpid()

    async def task(self) -> str | None:
        """Ray's task in which this is called, which is another one for each call through Ray."""
        return ray.get_runtime_context().get_task_id()

    async def refuse(self, what: str) -> None:
        """Raise an error of its own."""
        raise ValueError(what)

    async def look(self) -> None:
        """Meet an error of the cluster."""
        self._looked += 1
        raise RaySystemError("no cluster")  # type: ignore[no-untyped-call]  # Ray's

    async def looked(self) -> int:
        """How often it met one."""
        return self._looked


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray_session.start_or_join("local", NAMESPACE, dashboard=False)
    try:
        yield
    finally:
        ray_session.leave()


async def made(name: str, carried: Carried | None = None) -> tuple[ray_cluster.RayCluster, ray_backend.RayRuntime]:
    """An actor with that name, and someone to call it who has called it once."""
    cluster, runtime = ray_cluster.RayCluster(NAMESPACE), ray_backend.RayRuntime(NAMESPACE)
    await cluster.create(Deployment(name, Asked, (), begin="pid", carried=carried), WITHIN_S)
    await runtime.call(name, "pid", timeout_s=WITHIN_S)
    return cluster, runtime


async def called_for_ever(runtime: ray_backend.RayRuntime, name: str) -> None:
    while True:
        await runtime.call(name, "pid", timeout_s=WITHIN_S)


@pytest.mark.parametrize("carried", [None, Carried("fx", 10)], ids=["alone", "in a cell"])
async def test_a_call_is_no_task_of_ray_and_has_the_same_answers(carried: Carried | None) -> None:
    cluster, runtime = await made("fx/EUR_USD", carried)
    tasks = {await runtime.call("fx/EUR_USD", "task", timeout_s=WITHIN_S) for _ in range(3)}
    assert len(tasks) == 1
    with pytest.raises(ValueError, match="no"):
        await runtime.call("fx/EUR_USD", "refuse", "no", timeout_s=WITHIN_S)
    [(well, pid), _] = await runtime.call_many("fx/EUR_USD", "pid", [(), ()], WITHIN_S)
    assert (well, pid) == (True, await runtime.call("fx/EUR_USD", "pid", timeout_s=WITHIN_S))
    await cluster.kill("fx/EUR_USD")
    with pytest.raises(ActorUnavailable):
        await asyncio.wait_for(called_for_ever(runtime, "fx/EUR_USD"), WITHIN_S)  # its process takes a moment to end


async def test_an_error_of_the_cluster_that_a_method_raised_is_its_own_and_no_reason_to_call_again() -> None:
    cluster, runtime = await made("looking")
    await runtime.call("looking", "pid", timeout_s=WITHIN_S)
    with pytest.raises(RaySystemError, match="no cluster"):
        await runtime.call("looking", "look", timeout_s=WITHIN_S)
    assert await runtime.call("looking", "looked", timeout_s=WITHIN_S) == 1
    await cluster.kill("looking")


async def test_a_killed_actor_is_unavailable_at_once_and_the_next_of_its_name_is_found() -> None:
    cluster, runtime = await made("killed")
    pid = await runtime.call("killed", "pid", timeout_s=WITHIN_S)
    process = psutil.Process(pid)
    process.kill()
    await asyncio.to_thread(process.wait, WITHIN_S)
    with pytest.raises(ActorUnavailable, match="its process has ended"):
        await runtime.call("killed", "pid", timeout_s=WITHIN_S)
    await cluster.create(Deployment("killed", Asked, (), begin="pid"), WITHIN_S)
    assert await runtime.call("killed", "pid", timeout_s=WITHIN_S) != pid
    await cluster.kill("killed")


async def test_a_stopped_actor_does_not_answer_in_time_and_goes_on() -> None:
    cluster, runtime = await made("stopped")
    pid = await runtime.call("stopped", "pid", timeout_s=WITHIN_S)
    os.kill(pid, signal.SIGSTOP)
    try:
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.01)  # each of its threads stops when it is scheduled
        with pytest.raises(CallTimeout, match=r"no answer within 0\.2 s"):
            await runtime.call("stopped", "pid", timeout_s=0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await runtime.call("stopped", "pid", timeout_s=WITHIN_S) == pid
    await cluster.kill("stopped")


async def test_a_caller_without_sockets_reaches_it_through_ray() -> None:
    cluster, _ = await made("both")
    program = ray_client.AwaitingClient(NAMESPACE)
    tasks = {await program.call("both", "task", timeout_s=WITHIN_S) for _ in range(3)}
    blocking = ray_client.Client(NAMESPACE)
    tasks |= {await asyncio.to_thread(blocking.call, "both", "task", timeout_s=WITHIN_S) for _ in range(3)}
    assert len(tasks) == 6
    await cluster.kill("both")
