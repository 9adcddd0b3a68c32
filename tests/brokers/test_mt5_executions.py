"""Deals that a gateway publishes with their rows: executions, where it is sure whose and when they are."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from queue import Queue
from typing import Any

import pytest

from brokers.clocks import ahead_of_ours
from brokers.executions import ReportsFills
from brokers.model import OrderStatus, Side, StreamedFill, rows_of
from brokers.mt5 import Mt5Broker
from brokers.mt5.serve import Watch
from brokers.port import StreamState
from brokers.simulators.mt5 import Mt5Simulator
from tests.brokers.following import eventually
from tests.brokers.metatrader import StandIn, deal, order
from tests.brokers.reading import now
from tests.brokers.test_mt5_serve import made

D = Decimal
HOUR = timedelta(hours=1)


@asynccontextmanager
async def followed(sim: Mt5Simulator, **kwargs: Any) -> AsyncIterator[tuple[Mt5Broker, Queue[StreamedFill], list[Any]]]:
    """An account whose events are followed: its adapter, the executions that are reported, and whom events wake."""
    executed: Queue[StreamedFill] = Queue()
    woken: list[Any] = []
    sim.start()
    broker = Mt5Broker("cfd", sim.start(), kwargs.pop("login", 5001), 1.0, now, events_endpoint=sim.events_endpoint)
    stream: object = broker.stream()
    try:
        await broker.connect()
        assert isinstance(stream, ReportsFills)
        stream.report_fills_to(executed.put)
        follows = broker.stream()
        assert follows is not None
        follows.start(woken.append)
        await eventually(lambda: follows.state is StreamState.LIVE and sim.events.subscribers == 1)
        yield broker, executed, woken
    finally:
        await broker.close()
        sim.close()


async def test_a_deal_is_reported_with_the_row_of_its_order_and_the_client_id_that_stands_there() -> None:
    sim = Mt5Simulator(margin_mode="netting", clock=lambda: now() + 3 * HOUR)  # the server's zone
    async with followed(sim) as (broker, executed, woken):
        sim.trade("EURUSD", Side.BUY, D("0.3"), "mine")
        await eventually(lambda: not executed.empty())
        streamed = executed.get()
        assert streamed.order is not None
        assert (streamed.fill.client_order_id, streamed.order.client_order_id, streamed.order.status) == (
            "mine",
            "mine",
            OrderStatus.FILLED,
        )
        assert abs(ahead_of_ours(streamed.fill.time, now())) < timedelta(minutes=1), "in UTC"
        await eventually(lambda: "EURUSD" in woken)
        snapshot = await broker.snapshot(0)
        assert streamed.fill in rows_of(snapshot.fills)


def _row(**changed: object) -> dict[str, object]:
    row = {
        "ticket": 77, "order": 76, "position_id": 76, "symbol": "EURUSD", "type": "buy", "entry": "in", "volume": 0.1,
        "price": 1.1, "time": int(now().timestamp()),
    }  # fmt: skip
    return row | changed


UNSURE: dict[str, Callable[[], dict[str, object]]] = {
    "of another login": lambda: {"login": 5002, "deal": _row()},
    "of no login": lambda: {"deal": _row()},
    "without its row": lambda: {"login": 5001},
    "whose row is none": lambda: {"login": 5001, "deal": [1]},
    "whose row cannot be read": lambda: {"login": 5001, "deal": _row(volume="many")},
    "that moves only money": lambda: {"login": 5001, "deal": _row(type="balance", symbol="", volume=0)},
    "of the future": lambda: {"login": 5001, "deal": _row(time=int((now() + HOUR).timestamp()))},
    "with the row of another order": lambda: {
        "login": 5001,
        "deal": _row(),
        "order": {"ticket": 75, "symbol": "EURUSD", "type": "buy", "state": "FILLED", "volume_initial": 0.1,
                  "volume_current": 0.0, "price_open": 1.1, "time_setup": 0, "time_done": 1, "comment": "", "magic": 0},
    },
}  # fmt: skip


@pytest.mark.parametrize("event", UNSURE.values(), ids=UNSURE)
async def test_a_deal_that_is_not_surely_ours_and_whole_is_no_execution(event: Callable[[], dict[str, object]]) -> None:
    sim = Mt5Simulator()
    async with followed(sim) as (_, executed, woken):
        for fields in (event(), {"login": 5001, "deal": _row(ticket=78)}):
            sim.events.say(json.dumps({"event": "deal", "symbol": "EURUSD", "ticket": 77, **fields}).encode())
        await eventually(lambda: not executed.empty())
        assert executed.get().fill.fill_id == "78"
        await eventually(lambda: "EURUSD" in woken)


def test_the_gateway_publishes_a_deal_with_its_row_and_its_login() -> None:
    stand_in = StandIn()
    watch = Watch(made(stand_in))
    watch.events()
    stand_in.ended = [order(9, time_setup=int(time.time()), state=4, volume_current=0.0)]
    stand_in.deals = [deal(10, int(time.time()), order=9)]
    [event] = [one for one in watch.events() if one["event"] == "deal"]
    assert (event["login"], event["deal"]["ticket"], event["order"]["comment"]) == (5001, 10, "c1")
