"""A program's calls over real sockets, without a cluster: loops and threads that come and go, and what is left open."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RaySystemError

from actors.runtime import ray_backend, ray_client, ray_places
from actors.runtime.local_calls import NotReached, serve
from actors.runtime.ports import ActorUnavailable, Answer
from actors.runtime.ray_places import ActorPlace
from brokers.model import Side
from tests.unit.called import Actor

WITHIN_S = 30.0


@contextmanager
def served_beside(path: str) -> Iterator[Actor]:
    """An actor in a loop of its own thread, as in another process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    actor = Actor()
    server = asyncio.run_coroutine_threadsafe(serve(path, actor.ask), loop).result(WITHIN_S)
    assert server is not None
    try:
        yield actor
    finally:

        async def end() -> None:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run_coroutine_threadsafe(end(), loop).result(WITHIN_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WITHIN_S)
        loop.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Actor]:
    """An actor named fx, which every program of this process finds and reaches."""
    path = str(tmp_path / "socket")
    for module in (ray_backend, ray_client):
        monkeypatch.setattr(module, "socket_of", lambda *_: path)
    monkeypatch.setattr(ray_client, "_looked_up", lambda *_: ActorPlace(None))
    for module in (ray_places, ray_client):
        monkeypatch.setattr(module, "check_connected", lambda: None)
    with served_beside(path) as actor:
        yield actor


async def ask(program: ray_client.AwaitingClient, number: int) -> Any:
    return await program.call("fx", "say", number, timeout_s=WITHIN_S)


def opened() -> int:
    return len(psutil.Process().net_connections("unix"))


class Busy(asyncio.SelectorEventLoop):
    """Whoever asks whether it is closed is interrupted by a thread with a loop of its own."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], object] | None = meanwhile

    def is_closed(self) -> bool:
        closed = super().is_closed()
        meanwhile, self._meanwhile = self._meanwhile if closed else None, None if closed else self._meanwhile
        if meanwhile is not None:
            thread = threading.Thread(target=meanwhile)
            thread.start()
            thread.join(WITHIN_S)
        return closed


def test_a_loop_may_begin_in_another_thread_while_one_that_ended_is_forgotten(house: Actor) -> None:
    program = ray_client.AwaitingClient("one")
    meanwhile: list[Any] = []
    with asyncio.Runner(loop_factory=lambda: Busy(lambda: meanwhile.append(asyncio.run(ask(program, 2))))) as runner:
        assert runner.run(ask(program, 1)) == ("say", (1,))
    assert asyncio.run(ask(program, 3)) == ("say", (3,))
    assert meanwhile == [("say", (2,))]


def test_loops_of_many_threads_come_and_go_at_the_same_time(house: Actor) -> None:
    program = ray_client.AwaitingClient("one")

    def work(number: int) -> list[Any]:
        return [asyncio.run(ask(program, 100 * number + each)) for each in range(20)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, range(16)))
    assert found == [[("say", (100 * number + each,)) for each in range(20)] for number in range(16)]


async def test_a_client_that_is_let_go_leaves_no_connection_in_a_loop_that_goes_on(house: Actor) -> None:
    gc.collect()
    gc.disable()
    try:
        before = opened()
        for number in range(20):
            assert await ask(ray_client.AwaitingClient("one"), number) == ("say", (number,))
        for _ in range(100):
            if opened() <= before:
                break
            await asyncio.sleep(0.01)  # the other end closes in its own loop, and nothing says when
        assert opened() <= before
    finally:
        gc.enable()


class Ours(StrEnum):
    """A word of the program's own module, of which no other process has the class."""

    EUR = "EUR_USD"


Ours.__module__ = "__main__"


class Reference:
    """As Ray's of an answer: awaited, or given to ``ray.get``."""

    def __await__(self) -> Generator[None, None, str]:
        yield
        return "of Ray"


class Handle:
    """As Ray's of an actor: it keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    @property
    def say(self) -> Handle:
        """A method of it."""
        return self

    def remote(self, *args: object) -> Reference:
        """The answer to be."""
        self.sent.append(args)
        return Reference()


Program = Callable[..., Any]


def blocking(*args: object) -> Any:
    """A call of a program that waits."""
    return ray_client.Client("one").call("fx", *args, timeout_s=WITHIN_S)  # type: ignore[arg-type]  # as given


def awaiting(*args: object) -> Any:
    """A call of a program with an event loop."""
    return asyncio.run(ray_client.AwaitingClient("one").call("fx", *args, timeout_s=WITHIN_S))  # type: ignore[arg-type]


PROGRAMS = pytest.mark.parametrize("program", [blocking, awaiting])


@PROGRAMS
def test_ray_carries_what_has_a_class_of_the_program_s_own(
    house: Actor, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An actor could not read it from a socket: Ray sends the class along."""
    handle = Handle()
    monkeypatch.setattr(sys.modules["__main__"], "Ours", Ours, raising=False)
    monkeypatch.setattr(ray_client, "_looked_up", lambda *_: ActorPlace(handle))
    monkeypatch.setattr(ray, "get", lambda *_, **__: "of Ray")
    for args in ((Ours.EUR,), ({"by": [Ours.EUR]},), (lambda: None,)):
        assert program("say", *args) == "of Ray"
    assert len(handle.sent) == 3
    assert program("say", Side.BUY) == ("say", (Side.BUY,))
    assert house.began == [(Side.BUY,)]


@PROGRAMS
def test_a_call_that_must_not_be_repeated_is_made_once_whatever_the_actor_raises(
    house: Actor, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ray_backend, ray_client):
        monkeypatch.setattr(module, "NEVER_REPEATED", {"spoilt", "refuse"})
    for method in ("spoilt", "refuse"):
        with pytest.raises(ActorUnavailable):
            program(method)
    assert len(house.began) == 2


@PROGRAMS
def test_an_answer_that_cannot_be_read_is_an_actor_that_does_not_answer(house: Actor, program: Program) -> None:
    """So that a permission is refused where it was granted in the words of a newer version."""
    with pytest.raises(ActorUnavailable, match="fx did not answer spoilt: the answer cannot be read"):
        program("spoilt")


@PROGRAMS
def test_who_has_left_the_cluster_calls_nobody(house: Actor, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def left() -> None:
        raise RaySystemError("this process is not connected to a Ray cluster")  # type: ignore[no-untyped-call]  # Ray's

    monkeypatch.setattr(ray_client, "check_connected", left)
    with pytest.raises(ActorUnavailable, match="not connected"):
        program("say")
    assert house.began == []


def test_all_that_one_call_takes_is_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up, the call, and once more both where the actor has gone: a strategy waits for no longer than it
    says."""
    now_s, looked, called = 0.0, list[float](), list[float]()

    def looked_up(actor: str, namespace: str, timeout_s: float) -> ActorPlace:
        nonlocal now_s
        looked.append(timeout_s)
        now_s += 2
        return ActorPlace(None)

    class Gone:
        """A connection to an actor that answers once."""

        is_open = True

        def call(self, method: str, args: tuple[object, ...], timeout_s: float) -> Answer:
            nonlocal now_s
            called.append(timeout_s)
            now_s += 1
            if len(called) > 1:
                raise NotReached("its process has ended")
            return True, "here"

    monkeypatch.setattr(ray_client, "monotonic_s", lambda: now_s)
    monkeypatch.setattr(ray_client, "_looked_up", looked_up)
    monkeypatch.setattr(ray_client, "connect", lambda _: Gone())
    monkeypatch.setattr(ray_client, "socket_of", lambda *_: "")
    monkeypatch.setattr(ray_client, "check_connected", lambda: None)
    client = ray_client.Client("one")
    assert client.call("fx", "say", timeout_s=10.0) == "here"
    with pytest.raises(ActorUnavailable):
        client.call("fx", "say", timeout_s=10.0)
    assert (looked, called) == ([10, 9], [8, 10, 7])


async def test_so_is_all_that_one_call_of_an_actor_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, found, waited = 0.0, list[float](), list[float]()

    class Runtime(ray_backend.RayRuntime):
        """One whose clock goes on when it is waited for, and that finds nobody alive."""

        def monotonic_s(self) -> float:
            """The test's clock."""
            return now_s

        async def _connection(self, process: str) -> None:
            del process

        async def _find(self, actor: str, timeout_s: float) -> ActorPlace:
            nonlocal now_s
            found.append(timeout_s)
            now_s += 2
            place = self._places[actor] = ActorPlace(None)
            return place

    class Within:
        """What is awaited within so many seconds: an actor that ends meanwhile."""

        def __init__(self, timeout_s: float) -> None:
            waited.append(timeout_s)

        async def __aenter__(self) -> None:
            nonlocal now_s
            now_s += 1
            raise NotReached("its process has ended")

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(ray_backend, "within", Within)
    runtime = Runtime("one")
    runtime._places["fx"] = ActorPlace(None)  # noqa: SLF001 - it was called before
    with pytest.raises(ActorUnavailable):
        await runtime.call("fx", "say", timeout_s=10.0)
    assert (found, waited) == ([9], [10, 7])
