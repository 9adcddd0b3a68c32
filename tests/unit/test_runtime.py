"""The local runtime: calls between actors, deaths, deliveries; and the errors that cross from one actor to another."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from loguru import logger

import actors.journal.client
import actors.journal.types
import actors.runtime.ports
import brokers.errors
from actors.journal.types import Stale
from actors.runtime.ports import ActorUnavailable, CallError, CallTimeout, LocalRuntime, deliver_at_once
from tests.unit.fakes import for_ever, until
from tests.unit.virtual_time import virtual_time


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING")
    yield lines
    logger.remove(sink)


class Worker:
    """An actor that counts what reaches it."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self.gate = asyncio.Event()

    async def add(self, a: int, b: int) -> int:
        self.begun += 1
        self.done += 1
        return a + b

    async def wait(self) -> str:
        self.begun += 1
        await self.gate.wait()
        self.done += 1
        return "done"

    async def fail(self) -> None:
        raise brokers.errors.Unreachable("read", "fx", "nobody", "Wait")

    async def run_out_of_time(self) -> None:
        raise TimeoutError("the method's own")


def a_runtime(deliver: Any = deliver_at_once) -> LocalRuntime:
    return LocalRuntime(
        lambda: datetime(2024, 1, 2, tzinfo=UTC), lambda: asyncio.get_running_loop().time(), lambda: 0.25, deliver
    )


@virtual_time
async def test_a_call_gives_the_answer() -> None:
    runtime, worker = a_runtime(), Worker()
    runtime.register("w", worker)
    assert await runtime.call("w", "add", 1, 2, timeout_s=1) == 3
    assert (runtime.now().year, runtime.uniform(), runtime.names()) == (2024, 0.25, ("w",))


@virtual_time
async def test_what_a_method_raises_reaches_the_caller_as_it_is() -> None:
    runtime = a_runtime()
    runtime.register("w", Worker())
    with pytest.raises(brokers.errors.Unreachable, match="nobody"):
        await runtime.call("w", "fail", timeout_s=1)


@virtual_time
async def test_a_time_out_that_a_method_raises_is_no_call_without_an_answer() -> None:
    runtime = a_runtime()
    runtime.register("w", Worker())
    with pytest.raises(TimeoutError, match="the method's own"):
        await runtime.call("w", "run_out_of_time", timeout_s=1)


@virtual_time
async def test_an_unknown_actor_is_unavailable() -> None:
    with pytest.raises(ActorUnavailable, match="there is no such actor"):
        await a_runtime().call("nobody", "add", timeout_s=1)


@virtual_time
async def test_a_call_is_bounded_and_what_it_asked_for_goes_on() -> None:
    """PEERS 7"""
    runtime, worker = a_runtime(), Worker()
    runtime.register("w", worker)
    with pytest.raises(CallTimeout, match="no answer within 3 s"):
        await runtime.call("w", "wait", timeout_s=3)
    worker.gate.set()
    await until(lambda: worker.done == 1)


@virtual_time
async def test_a_killed_actor_does_nothing_more_and_its_callers_are_informed() -> None:
    runtime, worker = a_runtime(), Worker()
    runtime.register("w", worker)
    callers = [asyncio.create_task(runtime.call("w", "wait", timeout_s=60)) for _ in range(2)]
    await until(lambda: worker.begun == 2)
    await runtime.kill("w")
    for caller in callers:
        with pytest.raises(ActorUnavailable, match="it was killed"):
            await caller
    worker.gate.set()
    await asyncio.sleep(1)
    assert worker.done == 0
    with pytest.raises(ActorUnavailable):
        await runtime.call("w", "add", 1, 2, timeout_s=1)


@virtual_time
async def test_a_caller_learns_of_a_death_though_the_next_incarnation_is_there_already() -> None:
    runtime, worker = a_runtime(), Worker()
    runtime.register("w", worker)
    caller = asyncio.create_task(runtime.call("w", "wait", timeout_s=60))
    await until(lambda: worker.begun == 1)
    dying = asyncio.create_task(runtime.kill("w"))
    await asyncio.sleep(0)
    runtime.register("w", Worker())
    await dying
    with pytest.raises(ActorUnavailable):
        await caller
    assert await runtime.call("w", "add", 1, 2, timeout_s=1) == 3


@virtual_time
async def test_a_caller_that_is_cancelled_is_no_death_of_the_other() -> None:
    runtime, worker = a_runtime(), Worker()
    runtime.register("w", worker)
    caller = asyncio.create_task(runtime.call("w", "wait", timeout_s=60))
    await until(lambda: worker.begun == 1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    worker.gate.set()
    await until(lambda: worker.done == 1)


@virtual_time
async def test_a_caller_that_is_ended_together_with_whom_it_asked_goes_on_with_no_answer() -> None:
    """Else a loop would live on after its actor was killed."""
    runtime, worker = a_runtime(), Worker()
    for name in ("w", "asks"):
        runtime.register(name, worker)
    went_on: list[Exception] = []

    async def ask() -> None:
        try:
            await runtime.call("w", "wait", timeout_s=60)
        except CallError as error:
            went_on.append(error)

    runtime.spawn("asks", ask())
    await until(lambda: worker.begun == 1)
    await asyncio.gather(runtime.kill("w"), runtime.kill("asks"))
    assert went_on == []


@virtual_time
async def test_a_loop_ends_with_its_actor() -> None:
    runtime = a_runtime()
    runtime.register("w", Worker())
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await runtime.sleep(1)
            ticks.append(runtime.monotonic_s())

    runtime.spawn("w", tick())
    await asyncio.sleep(3.5)
    await runtime.kill("w")
    await asyncio.sleep(10)
    assert len(ticks) == 3


@virtual_time
async def test_a_loop_that_ends_in_an_error_says_so(said: list[str]) -> None:
    """Nothing fails silently (law 7)."""

    async def broken() -> None:
        raise ValueError("a bug of ours")

    runtime = a_runtime()
    runtime.spawn("fx/EURUSD", broken())
    await until(lambda: bool(said))
    assert "fx/EURUSD" in said[0]
    assert "a bug of ours" in said[0]


async def lose(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
    await for_ever()


async def lose_the_answer(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
    await send()
    await for_ever()


async def repeat(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
    await send()
    return await send()


async def delay(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
    await asyncio.sleep(2)
    return await send()


@pytest.mark.parametrize(
    ("deliver", "answer", "reached"),
    [(lose, CallTimeout, 0), (lose_the_answer, CallTimeout, 1), (repeat, 3, 2), (delay, 3, 1)],
    ids=["lost", "answer lost", "repeated", "late"],
)
@virtual_time
async def test_a_delivery_may_lose_repeat_and_delay(deliver: Any, answer: Any, reached: int) -> None:
    runtime, worker = a_runtime(deliver), Worker()
    runtime.register("w", worker)
    if isinstance(answer, int):
        assert await runtime.call("w", "add", 1, 2, timeout_s=5) == answer
    else:
        with pytest.raises(answer):
            await runtime.call("w", "add", 1, 2, timeout_s=5)
    assert worker.begun == reached


def errors_of(module: ModuleType) -> list[type[Exception]]:
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Exception)]
    return [error for error in found if error.__module__ == module.__name__]


ARGUMENTS: dict[type[Exception], tuple[object, ...]] = {
    actors.journal.client.JournalAway: ("disk full",),
    actors.journal.client.Fenced: (Stale("fx/EURUSD", 3, 5),),
}
MODULES = (brokers.errors, actors.journal.types, actors.runtime.ports, actors.journal.client)
ERRORS = [error for module in MODULES for error in errors_of(module)]


def an_error(kind: type[Exception]) -> Exception:
    texts = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    return kind(*ARGUMENTS.get(kind, tuple(texts)))


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_an_error_crosses_from_one_actor_to_another_as_it_is(kind: type[Exception]) -> None:
    """An exception whose args do not match its constructor would arrive as something else."""
    error = an_error(kind)
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(there) is kind
    assert str(there) == str(error)
    assert vars(there) == vars(error)
    assert all(str(text) in str(error) for text in ARGUMENTS.get(kind, ())[:1] if isinstance(text, str))


def test_every_kind_of_error_is_among_them() -> None:
    assert {CallError, CallTimeout, actors.journal.client.Fenced, brokers.errors.Malformed} <= set(ERRORS)
    assert len(ERRORS) >= 15
