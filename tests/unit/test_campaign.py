"""A house in which everything goes wrong by chance: messages are lost, late and doubled, actors die at any await, the
broker lies by silence. In the end the book is the broker's, and the journal's."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actors.book.checkpoint import checkpoint, replay
from actors.events import EventType
from actors.journal.client import JournalAway
from actors.reconciliation.own_reports import FillReport, OrderReport
from actors.runtime.ports import ActorUnavailable, CallError
from brokers.clocks import shown
from brokers.model import Failed, Fill, OrderStatus, SectionName, Side
from tests.unit.fakes import EURUSD, QUICK, House, a_house, malformed, passes, quantities, unreachable
from tests.unit.virtual_time import virtual_time

SEEDS = range(int(os.environ.get("CAMPAIGN_SEEDS", "12")))
POLICY = replace(QUICK, settle=timedelta(seconds=2), confirm_gap=timedelta(milliseconds=500))


class Weather:
    """What becomes of a message, by chance."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.fair = False

    async def __call__(self, actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        if self.fair:
            return await send()
        luck = self._chance.random()
        if luck < 0.04:
            raise ActorUnavailable(actor, method, "lost on its way")
        if luck < 0.10:
            await asyncio.sleep(self._chance.random() * 3)
        if luck < 0.14 and method != "cancel_order":
            await send()
        answer = await send()
        if 0.96 < luck < 0.98:
            await asyncio.sleep(self._chance.random() * 30)
        if luck >= 0.98:
            raise ActorUnavailable(actor, method, "its answer was lost")
        return answer


async def report(house: House, fill: Fill) -> None:
    """Our side has a fill, and reports it."""
    ours = FillReport(
        EURUSD, fill.fill_id, fill.broker_order_id, fill.side, fill.quantity, fill.price, shown(fill.time), leg=fill.leg
    )
    try:
        await house.instrument().record([ours])
    except JournalAway:
        return


async def step(house: House, chance: Random, number: int) -> None:
    broker = house.broker
    what = chance.randrange(12)
    side = Side.BUY if chance.random() < 0.6 else Side.SELL
    if what < 3:
        fill = broker.trade(chance.randint(1, 9), side=side)
        if chance.random() < 0.5:
            await report(house, fill)
    elif what == 3:
        quantity = Decimal(chance.randint(5, 50))
        sent = OrderReport(
            EURUSD, f"c{number}", None, side, quantity, "LIMIT", Decimal("1.1"), OrderStatus.PENDING_SUBMIT
        )
        if chance.random() < 0.8:
            with contextlib.suppress(JournalAway):
                await house.instrument().record([replace(sent, submitted_at=house.clock())])
        broker.order(str(number), quantity, client_id=f"c{number}", side=side)
    elif what in (4, 5) and any(not row.status.terminal for row in broker.rows.values()):
        row = next(row for row in broker.rows.values() if not row.status.terminal)
        part = min(row.quantity - row.filled_quantity, Decimal(chance.randint(1, 20)))
        fill = broker.trade(part, side=row.side, order_id=row.broker_order_id)
        if chance.random() < 0.5:
            await report(house, fill)
    elif what == 6 and any(not row.status.terminal for row in broker.rows.values()):
        row = next(row for row in broker.rows.values() if not row.status.terminal)
        broker.rows[row.broker_order_id] = replace(row, status=OrderStatus.CANCELLED)
    elif what == 7:
        broker.hold(chance.randint(-5, 5), "1.3")
    elif what == 8:
        broker.failing = chance.choice([unreachable(), malformed(), KeyError("x"), None])
    elif what == 9:
        name = chance.choice(list(SectionName))
        broker.sections = chance.choice([{}, {}, {name: Failed("timed out")}])
    elif what == 10:
        await house.replace_account()
        await house.account.start()
    else:
        await (await house.replace_instrument()).start()


@pytest.mark.parametrize("seed", SEEDS)
@virtual_time
async def test_whatever_happens_the_book_is_the_broker_s_and_the_journal_s(tmp_path: Path, seed: int) -> None:
    """PEERS 1, 3, 4, 5, 11, 12, 13, 15; laws 1, 2, 4, 5, 8; FEATURES 12, 21"""
    chance = Random(seed)  # noqa: S311 - the same campaign each time
    async with a_house(tmp_path, interval_s=7.0, policy=POLICY) as house:
        weather = Weather(chance)
        house.runtime.deliver = weather
        await house.start()
        for number in range(60):
            with contextlib.suppress(CallError):
                await step(house, chance, number)
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
            await passes(chance.random() * 4)
        house.broker.failing, house.broker.sections = None, {}
        weather.fair = True
        await passes(120)
        first = await house.instrument().reconcile_now()
        second = await house.instrument().reconcile_now()
        held = house.broker.held.get((EURUSD, "net"))
        assert quantities(second) == ({} if held is None else {"net": f"{held.quantity:f}"}), (first, second)
        assert second.status == "SUCCESS", second
        open_here = {order["broker_order_id"] for order in second.book["open_orders"]}  # type: ignore[union-attr, index, call-overload]  # JSON
        assert open_here == {row.broker_order_id for row in house.broker.rows.values() if not row.status.terminal}
        events = await house.events()
        count = len(events)
        assert (await house.instrument().reconcile_now()).status == "SUCCESS"
        assert len([e for e in (await house.events())[count:] if e.type is not EventType.RECONCILED]) == 0
        applied = [e.payload["fill_id"] for e in events if e.type in (EventType.ORDER_FILLED, EventType.FILL_RECORDED)]
        assert len(applied) == len(set(applied)), "a fill was applied twice"
        book = house.instrument().keeper.book
        assert book is not None
        records = await house.audit.records(stream=f"fx/{EURUSD}", limit=100_000)
        assert checkpoint(replay("fx", EURUSD, records)) == checkpoint(book)
