"""Events of an account or the supervisor on their way into the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from actors.events import EventType
from actors.journal import outbox
from actors.journal.outbox import Outbox
from tests.unit.fakes import House, a_house, for_ever, passes
from tests.unit.virtual_time import virtual_time

NAME = "supervisor"
STARTED, STOPPED = EventType.ACTOR_STARTED, EventType.ACTOR_RESTARTED


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="ERROR")
    yield lines
    logger.remove(sink)


async def written(house: House) -> list[object]:
    return [event.payload["n"] for event in await house.events(NAME)]


@virtual_time
async def test_events_are_journaled_in_their_order(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        box = Outbox(NAME, house.runtime)
        for n in range(3):
            await box.write(STARTED, {"n": n}, "a")
        assert await written(house) == [0, 1, 2]


@virtual_time
async def test_a_second_incarnation_goes_on_behind_the_first(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        first, second = Outbox(NAME, house.runtime), Outbox(NAME, house.runtime)
        await first.write(STARTED, {"n": 0}, "a")
        await second.write(STARTED, {"n": 1}, "a")
        await first.write(STARTED, {"n": 2}, "a")
        assert await written(house) == [0, 1, 2]


@virtual_time
async def test_what_the_journal_does_not_take_is_written_by_itself_when_it_is_back(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        box = Outbox(NAME, house.runtime)
        await house.lose_audit()
        await box.write(STARTED, {"n": 0}, "a")
        await passes(20)
        await box.write(STARTED, {"n": 1}, "b")
        await house.open_audit()
        assert await written(house) == []
        await passes(10)
        assert await written(house) == [0, 1]


@virtual_time
async def test_a_lost_answer_writes_nothing_twice(tmp_path: Path) -> None:
    """It was durable and nobody heard so; more was said before the next try."""
    async with a_house(tmp_path) as house:
        box = Outbox(NAME, house.runtime)
        house.post.after[("audit", "append")] = for_ever
        await box.write(STARTED, {"n": 0}, "a")
        house.post.after.clear()
        await box.write(STOPPED, {"n": 1}, "b")
        await passes(10)
        assert await written(house) == [0, 1]


@virtual_time
async def test_a_repeated_message_writes_nothing_twice(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        box = Outbox(NAME, house.runtime)
        house.post.twice.add(("audit", "append"))
        for n in range(3):
            await box.write(STARTED, {"n": n}, "a")
        assert await written(house) == [0, 1, 2]


@virtual_time
async def test_too_many_that_wait_are_dropped_loudly_and_the_oldest_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Law 7"""
    monkeypatch.setattr(outbox, "WAITING_AT_MOST", 3)
    async with a_house(tmp_path) as house:
        box = Outbox(NAME, house.runtime)
        await house.lose_audit()
        for n in range(5):
            await box.write(STARTED, {"n": n}, "a")
        assert "2 event(s) are lost" in said[-1]
        await house.open_audit()
        await passes(10)
        assert await written(house) == [0, 1, 2]
