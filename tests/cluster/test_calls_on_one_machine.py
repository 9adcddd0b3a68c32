"""Calls between actors of one machine, on a real Ray: they go over sockets, and fail and recover as Ray's do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RaySystemError

from actors.runtime import ray_backend, ray_client, ray_cluster, ray_session
from actors.runtime.deployment import Carried, Deployment
from actors.runtime.ports import ActorUnavailable, CallTimeout
from tests.unit.called import Spoilt

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

    async def spoilt(self) -> Spoilt:
        """What the caller cannot read."""
        return Spoilt()

    async def kind(self, what: object) -> str:
        """The class of what was sent."""
        return type(what).__name__

    async def late(self, what: BaseException) -> None:
        """Raise that."""
        raise what

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


class Ours(StrEnum):
    """A word of the program's own module, as a notebook's."""

    EUR = "EUR_USD"


Ours.__module__ = "__main__"


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


async def called_for_ever(call: Callable[..., Awaitable[Any]], name: str) -> None:
    while True:
        await call(name, "pid", timeout_s=WITHIN_S)


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
        await asyncio.wait_for(
            called_for_ever(runtime.call, "fx/EUR_USD"), WITHIN_S
        )  # its process takes a moment to end


@pytest.mark.parametrize("carried", [None, Carried("fx", 10)], ids=["alone", "in a cell"])
@pytest.mark.parametrize("sockets", [True, False], ids=["over sockets", "through Ray"])
async def test_an_error_of_the_cluster_that_a_method_raised_is_its_own_and_no_reason_to_call_again(
    carried: Carried | None, sockets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not sockets:
        monkeypatch.setattr(ray_backend, "socket_of", lambda *_: None)
    cluster, runtime = await made("fx/LOOKING", carried)
    with pytest.raises(RaySystemError, match="no cluster"):
        await runtime.call("fx/LOOKING", "look", timeout_s=WITHIN_S)
    assert await runtime.call("fx/LOOKING", "looked", timeout_s=WITHIN_S) == 1
    await cluster.kill("fx/LOOKING")


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


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)  # each of its threads stops when it is scheduled
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_stopped_actor_does_not_answer_in_time_and_goes_on() -> None:
    cluster, runtime = await made("stopped")
    pid = await runtime.call("stopped", "pid", timeout_s=WITHIN_S)
    with stopped(pid), pytest.raises(CallTimeout, match=r"no answer within 0\.2 s"):
        await runtime.call("stopped", "pid", timeout_s=0.2)
    assert await runtime.call("stopped", "pid", timeout_s=WITHIN_S) == pid
    await cluster.kill("stopped")


Program = Callable[..., Awaitable[Any]]


def blocking() -> Program:
    program = ray_client.Client(NAMESPACE)

    async def call(*args: object, timeout_s: float = WITHIN_S) -> Any:
        return await asyncio.to_thread(program.call, *args, timeout_s=timeout_s)  # type: ignore[arg-type]  # as given

    return call


def awaiting() -> Program:
    program = ray_client.AwaitingClient(NAMESPACE)

    async def call(*args: object, timeout_s: float = WITHIN_S) -> Any:
        return await program.call(*args, timeout_s=timeout_s)  # type: ignore[arg-type]  # as given

    return call


PROGRAMS = pytest.mark.parametrize("made_by", [blocking, awaiting])


@PROGRAMS
@pytest.mark.parametrize("carried", [None, Carried("fx", 10)], ids=["alone", "in a cell"])
async def test_a_program_s_call_is_no_task_of_ray_either(
    made_by: Callable[[], Program], carried: Carried | None
) -> None:
    cluster, _ = await made("fx/EUR_USD", carried)
    program = made_by()
    await program("fx/EUR_USD", "pid")  # finds it
    assert len({await program("fx/EUR_USD", "task") for _ in range(3)}) == 1
    with pytest.raises(ValueError, match="no"):
        await program("fx/EUR_USD", "refuse", "no")
    with pytest.raises(RaySystemError, match="no cluster"):
        await program("fx/EUR_USD", "look")
    assert await program("fx/EUR_USD", "looked") == 1, "its own error is no reason to call again"
    await cluster.kill("fx/EUR_USD")
    with pytest.raises(ActorUnavailable, match="its process has ended"):
        await asyncio.wait_for(called_for_ever(program, "fx/EUR_USD"), WITHIN_S)  # its process ends soon


@PROGRAMS
async def test_a_program_finds_the_next_actor_of_a_name(made_by: Callable[[], Program]) -> None:
    cluster, _ = await made("next")
    program = made_by()
    former = await program("next", "pid")
    await cluster.create(Deployment("next", Asked, (), begin="pid"), WITHIN_S)
    assert await program("next", "pid") != former
    await cluster.kill("next")


@PROGRAMS
async def test_a_program_waits_for_a_stopped_actor_no_longer_than_it_says(made_by: Callable[[], Program]) -> None:
    cluster, _ = await made("stopped")
    program = made_by()
    pid = await program("stopped", "pid")
    with stopped(pid), pytest.raises(CallTimeout, match=r"no answer within 0\.2 s"):
        await program("stopped", "pid", timeout_s=0.2)
    assert await program("stopped", "pid") == pid
    await cluster.kill("stopped")


@PROGRAMS
async def test_where_there_is_no_socket_a_program_reaches_it_through_ray(
    made_by: Callable[[], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, _ = await made("both")
    for module in (ray_backend, ray_client):
        monkeypatch.setattr(module, "socket_of", lambda *_: None)
    program = made_by()
    assert len({await program("both", "task") for _ in range(3)}) == 3
    await cluster.kill("both")


@PROGRAMS
@pytest.mark.parametrize("sockets", [True, False], ids=["over sockets", "through Ray"])
@pytest.mark.parametrize("carried", [None, Carried("fx", 10)], ids=["alone", "in a cell"])
async def test_a_program_cannot_tell_how_its_call_went(
    made_by: Callable[[], Program], sockets: bool, carried: Carried | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "Ours", Ours, raising=False)
    if not sockets:
        for module in (ray_backend, ray_client):
            monkeypatch.setattr(module, "socket_of", lambda *_: None)
    cluster, _ = await made("fx/EITHER", carried)
    program = made_by()
    await program("fx/EITHER", "pid")
    with pytest.raises(ActorUnavailable, match="invalid literal"):
        await program("fx/EITHER", "spoilt")
    assert await program("fx/EITHER", "kind", Ours.EUR) == "Ours"
    for error in (
        TimeoutError("own"),
        OSError(5, "own"),
        CallTimeout("a", "b", "own"),
        ActorUnavailable("a", "b", "own"),
    ):
        with pytest.raises(type(error)) as found:
            await program("fx/EITHER", "late", error)
        assert str(found.value) == str(error)
    await cluster.kill("fx/EITHER")


def test_a_program_may_end_its_event_loop_and_call_in_another() -> None:
    async def work() -> set[str | None]:
        return {await program.call("loops", "task", timeout_s=WITHIN_S) for _ in range(3)}

    cluster = asyncio.run(made("loops"))[0]
    program = ray_client.AwaitingClient(NAMESPACE)
    gc.collect()  # what other tests left
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(10):
            assert len(asyncio.run(work())) < 3, "the first call finds it"
        gc.collect()
    assert [str(one.message) for one in left] == []
    asyncio.run(cluster.kill("loops"))
