"""The page at a supervisor that lives, asked by its local socket: who is signed in is who did it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.book.break_work import BreakAction, BreakRefused
from actors.events import EventType
from actors.journal.store import Journal
from actors.reconciliation.own_reports import PositionReport
from supervisor.config.loader import load
from supervisor.console.desk import Away, RunningDesk, who
from tests.console.living import PATIENCE_S, LivingHouse
from tests.console.test_serve import written
from tests.unit.builders import dec


@pytest.fixture
def house(tmp_path: Path) -> Iterator[LivingHouse]:
    made = LivingHouse(tmp_path)
    yield made
    made.close()


def test_four_eyes_are_two_people_of_the_page_and_the_journal_says_who_and_how(house: LivingHouse) -> None:
    house.report("EUR_USD", PositionReport("EUR_USD", "net", dec(100), dec("1.1")))
    asyncio.run(_worked_on(RunningDesk(house.hall.configuration)))
    journal = Journal.open(house.hall.configuration.journal_url, read_only=True)
    acts = [
        (one.event.type, str(one.event.payload["by"]).partition("@")[0], one.event.payload["via"])
        for one in journal.records(types=[EventType.BREAK_PROPOSED, EventType.BREAK_APPROVED, EventType.TRADING_HALTED])
    ]
    journal.close()
    assert acts == [
        (EventType.TRADING_HALTED, "ann", "page"),
        (EventType.BREAK_PROPOSED, "bob", "page"),
        (EventType.BREAK_APPROVED, "ann", "page"),
    ]


async def _worked_on(desk: RunningDesk) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            _, breaks = await desk.look()
            if breaks and breaks[0]["correction"]:
                break
            await asyncio.sleep(0.01)  # real actors look once a second
    (found,) = breaks
    halted = await desk.halt(who("ann"), "fx", "EUR_USD", "naked")
    assert halted.failure is None
    sides = (found["book_value"], found["broker_value"])
    terms: dict[str, Any] = {"reason": "TEST", "note": None, "until": None, "owner": None}

    async def act(name: str, action: BreakAction) -> None:
        await desk.work_on_break(who(name), action, found["id"], **terms, sides=sides)

    await act("bob", BreakAction.PROPOSE)
    with pytest.raises(BreakRefused, match="bob proposed it, and four_eyes is set"):
        await act("bob", BreakAction.APPROVE)
    await act("ann", BreakAction.APPROVE)


async def test_where_no_supervisor_runs_that_is_said_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Away, match=r"there is no run file .*journal\.db\.run"):
        await RunningDesk(load(written(tmp_path, "{}"))).look()
