"""Actors that share a process: each is reached by its own name, lives and ends by itself, and calls travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.runtime.cell import Seats
from actors.runtime.deployment import Carried, Deployment, LocalCluster
from actors.runtime.ports import ActorUnavailable, Answer, CallTimeout, LocalRuntime, Runtime
from actors.runtime.together import Together
from tests.unit.test_runtime import a_runtime
from tests.unit.virtual_time import virtual_time


class Desk:
    """An actor that can work, fail, wait for ever, and call others."""

    def __init__(self, name: str, runtime: Runtime, *, broken: bool = False) -> None:
        if broken:
            raise ValueError("no desk can be made of this")
        self.name = name
        self.runtime = runtime
        self.ticks = 0

    async def start(self) -> None:
        self.runtime.spawn(self.name, self._tick())

    async def _tick(self) -> None:
        while True:
            await self.runtime.sleep(1)
            self.ticks += 1

    async def health(self) -> int:
        return self.ticks

    async def fail(self) -> None:
        raise ValueError(f"{self.name} fails")

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def ask(self, other: str, method: str, *args: object) -> Any:
        return await self.runtime.call(other, method, *args, timeout_s=5)


class Counter:
    """Somebody outside who counts messages and calls."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def slice(self, what: str) -> str:
        self.asked.append(what)
        if what == "bad":
            raise LookupError(what)
        return what.upper()


def desk(name: str, runtime: LocalRuntime, size: int = 2, **named: Any) -> Deployment:
    def make(name: str, runtime: Runtime) -> Desk:
        return Desk(name, runtime, **named)

    return Deployment(name, make, (name, runtime), carried=Carried("fx", size))


async def opened(*names: str, size: int = 2) -> tuple[LocalRuntime, LocalCluster]:
    runtime = a_runtime()
    cluster = LocalCluster(runtime)
    for name in names:
        await cluster.create(desk(name, runtime, size), 5)
    return runtime, cluster


@virtual_time
async def test_each_is_reached_by_its_own_name_and_cells_are_no_bigger_than_asked_for() -> None:
    runtime, cluster = await opened("fx/A", "fx/B", "fx/C")
    assert set(await cluster.living()) == {"fx/A", "fx/B", "fx/C"}
    assert set(runtime.names()) == {"fx~1", "fx~2"}
    await asyncio.sleep(3.5)
    assert [await runtime.call(name, "health", timeout_s=1) for name in ("fx/A", "fx/B", "fx/C")] == [3, 3, 3]


@virtual_time
async def test_what_one_raises_is_its_callers_alone() -> None:
    runtime, _ = await opened("fx/A", "fx/B")
    with pytest.raises(ValueError, match="fx/A fails"):
        await runtime.call("fx/A", "fail", timeout_s=1)
    with pytest.raises(ValueError, match="fx/A fails"):
        await runtime.call("fx/B", "ask", "fx/A", "fail", timeout_s=1)
    with pytest.raises(CallTimeout):
        await runtime.call("fx/A", "wait", timeout_s=1)
    assert await runtime.call("fx/B", "ask", "fx/A", "health", timeout_s=1) == 1


@virtual_time
async def test_one_that_is_ended_stops_and_its_neighbour_goes_on() -> None:
    runtime, cluster = await opened("fx/A", "fx/B")
    await asyncio.sleep(2.5)
    waiting = asyncio.ensure_future(runtime.call("fx/A", "wait", timeout_s=60))
    await asyncio.sleep(0.1)
    await cluster.kill("fx/A")
    with pytest.raises(ActorUnavailable):
        await waiting
    with pytest.raises(ActorUnavailable):
        await runtime.call("fx/A", "health", timeout_s=1)
    await asyncio.sleep(2)
    assert await runtime.call("fx/B", "health", timeout_s=1) == 4
    await cluster.create(desk("fx/A", runtime), 5)
    assert await runtime.call("fx/A", "health", timeout_s=1) == 0, "it begins anew"


@virtual_time
async def test_one_that_cannot_be_made_leaves_nothing_and_disturbs_nobody() -> None:
    runtime, cluster = await opened("fx/A")
    with pytest.raises(ValueError, match="no desk"):
        await cluster.create(desk("fx/B", runtime, broken=True), 5)
    assert await cluster.living() == ("fx/A",)
    assert await runtime.call("fx/A", "health", timeout_s=1) == 0


@virtual_time
async def test_a_cell_ends_with_the_last_it_carries_and_all_end_with_their_cell() -> None:
    runtime, cluster = await opened("fx/A", "fx/B", "fx/C")
    await cluster.kill("fx/C")
    assert set(runtime.names()) == {"fx~1"}
    await runtime.kill("fx~1")
    for name in ("fx/A", "fx/B"):
        with pytest.raises(ActorUnavailable):
            await runtime.call(name, "health", timeout_s=1)
    await cluster.create(desk("fx/A", runtime), 5)
    assert await runtime.call("fx/A", "health", timeout_s=1) == 0


@virtual_time
async def test_one_may_get_a_process_of_its_own_and_go_back() -> None:
    runtime, cluster = await opened("fx/A", "fx/B")
    alone = Deployment("fx/A", Desk, ("fx/A", runtime))
    await cluster.create(alone, 5)
    assert set(runtime.names()) == {"fx~1", "fx/A"}
    await cluster.create(desk("fx/A", runtime), 5)
    assert set(runtime.names()) == {"fx~1"}
    assert set(await cluster.living()) == {"fx/A", "fx/B"}


@virtual_time
async def test_a_new_cluster_finds_whom_the_cells_carry() -> None:
    runtime, _ = await opened("fx/A", "fx/B")
    again = LocalCluster(runtime)
    assert set(await again.living()) == {"fx/A", "fx/B"}
    await again.create(desk("fx/C", runtime), 5)
    assert set(runtime.names()) == {"fx~1", "fx~2"}, "a full cell takes nobody more"
    await again.kill("fx/A")
    assert set(await again.living()) == {"fx/B", "fx/C"}


@virtual_time
async def test_what_many_ask_of_one_at_one_moment_travels_together_and_each_has_its_own_answer() -> None:
    names = [f"fx/{number}" for number in range(10)]
    runtime, _ = await opened(*names, size=10)
    outside = Counter()
    runtime.register("fx", outside)
    messages = 0
    many = runtime.call_many

    async def counted(actor: str, method: str, calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
        nonlocal messages
        messages += 1
        return await many(actor, method, calls, timeout_s)

    runtime.call_many = counted  # type: ignore[method-assign]  # the cell's way out, watched
    words = [*"abcdefghi", "bad"]
    asked = [
        runtime.call(name, "ask", "fx", "slice", word, timeout_s=9) for name, word in zip(names, words, strict=True)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[:9] == list("ABCDEFGHI")
    assert isinstance(answers[9], LookupError)
    assert (messages, len(outside.asked)) == (1, 10)


class TestTogether:
    @virtual_time
    async def test_a_message_that_is_lost_is_reported_to_everybody_who_waits(self) -> None:
        async def send(key: Any, calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
            raise ActorUnavailable("fx", "slice", "it is gone")

        together = Together(send)
        found = await asyncio.gather(*[together.call("k", (n,), 1.0) for n in range(3)], return_exceptions=True)
        assert [type(one) for one in found] == [ActorUnavailable] * 3

    @virtual_time
    async def test_one_that_stopped_waiting_is_not_asked_for_and_shifts_no_answer(self) -> None:
        async def send(key: Any, calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
            return [(True, call[0]) for call in calls]

        together = Together(send)
        tasks = [asyncio.ensure_future(together.call("k", (n,), 1.0)) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await tasks[0] == 0
        assert await tasks[2] == 2

    @given(st.lists(st.sampled_from(["waits", "gives up at once", "gives up meanwhile"]), max_size=8))
    def test_whoever_gives_up_at_whatever_moment_the_others_get_their_own_answers(self, fates: list[str]) -> None:
        """One that gives up while the message is under way (its time is over, its actor is ended) must not move the
        answers of those behind it: an instrument would take another one's book or slice for its own."""

        async def story() -> None:
            under_way, may_answer = asyncio.Event(), asyncio.Event()

            async def send(key: Any, calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
                under_way.set()
                await may_answer.wait()
                return [(True, call[0]) for call in calls]

            together = Together(send)
            tasks = [asyncio.ensure_future(together.call("k", (number,), 1.0)) for number in range(len(fates))]
            await asyncio.sleep(0)
            for fate in ("gives up at once", "gives up meanwhile"):
                for task, own in zip(tasks, fates, strict=True):
                    if own == fate:
                        task.cancel()
                if set(fates) - {"gives up at once"}:
                    await under_way.wait()
            may_answer.set()
            for number, (task, fate) in enumerate(zip(tasks, fates, strict=True)):
                if fate == "waits":
                    assert await task == number
                else:
                    with pytest.raises(asyncio.CancelledError):
                        await task

        asyncio.run(story())

    @pytest.mark.parametrize("came", [0, 1, 3])
    @virtual_time
    async def test_of_fewer_or_more_answers_than_calls_none_is_anybody_s(self, came: int) -> None:
        async def send(key: Any, calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
            return [(True, "whose?")] * came

        together = Together(send)
        found = await asyncio.gather(*[together.call("k", (n,), 1.0) for n in range(2)], return_exceptions=True)
        assert [str(one) for one in found] == [f"{came} answers came back for 2 calls of k"] * 2


@given(st.lists(st.tuples(st.sampled_from("ABCDEFGH"), st.booleans()), max_size=40), st.integers(1, 3))
def test_a_seat_is_kept_and_no_cell_is_overfull(steps: list[tuple[str, bool]], size: int) -> None:
    seats = Seats()
    for name, takes in steps:
        before = seats.cell_of(name)
        if takes:
            cell = seats.take(name, "fx", size)
            assert before in (None, cell)
        else:
            seats.leave(name)
            assert seats.cell_of(name) is None
        assert all(0 < len(members) <= size for members in seats.cells.values())
        assert {name for members in seats.cells.values() for name in members} == {
            name for name in "ABCDEFGH" if seats.cell_of(name)
        }


def test_a_cell_that_has_ended_has_no_seats() -> None:
    seats = Seats()
    seats.found("fx~1", ["fx/A", "fx/B"])
    seats.forget("fx~1")
    assert (seats.cell_of("fx/A"), dict(seats.cells)) == (None, {})
