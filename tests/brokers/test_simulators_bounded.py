"""A simulator that runs for months stays as large as one that ran for a day: what is long over is reported no more."""

from __future__ import annotations

import contextlib
import os
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zmq

from brokers.model import Complete, Failed, LegScheme, Side
from brokers.oanda.client import OandaBroker
from brokers.simulators.base import DayEnding
from brokers.simulators.demonstration import Demonstration
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from brokers.simulators.oanda_ledger import LOG_KEPT
from tests.brokers.one_look import KINDS, one_look

D = Decimal
ACCOUNT = "101-001-1-001"


def simulator() -> OandaSimulator:
    return OandaSimulator(ACCOUNT, "token-of-a-test", instruments=["EUR_USD"])


def trades(of: OandaSimulator, pairs: int) -> None:
    for _ in range(pairs):
        of.trade("EUR_USD", Side.BUY, D(10))
        of.trade("EUR_USD", Side.SELL, D(10))


def test_its_state_is_bounded_and_what_is_open_stays(tmp_path: Path) -> None:
    one = simulator()
    held = one.trade("EUR_USD", Side.BUY, D(7))
    resting = one.place_limit("EUR_USD", Side.BUY, D(5), D("0.9"), "c1")
    sizes = []
    for _ in range(8):
        trades(one, 250)
        sizes.append(len(one.dump()))
    assert max(sizes[4:]) < 1.2 * max(sizes[:4])
    assert one.positions() == {("EUR_USD", "long"): D(7)}
    restored = simulator()
    restored.load(one.dump())
    assert restored.positions() == one.positions()
    restored.fill_order(resting)
    assert restored.positions() == {("EUR_USD", "long"): D(12)}
    assert held


async def test_a_client_goes_on_over_what_was_forgotten_and_an_old_cursor_is_out_of_range() -> None:
    one = simulator()
    url = one.start()
    broker = OandaBroker("fx", ACCOUNT, "token-of-a-test", url, 5.0, lambda: datetime.now(UTC))
    try:
        await broker.connect()
        cursor = (await broker.snapshot(None)).fills_cursor
        for _ in range(3):
            trades(one, LOG_KEPT // 8)
            snapshot = await broker.snapshot(cursor)
            assert isinstance(snapshot.fills, Complete)
            assert len(snapshot.fills.rows) >= LOG_KEPT // 4
            cursor = snapshot.fills_cursor
        trades(one, LOG_KEPT)
        late = await broker.snapshot(cursor)
        assert isinstance(late.fills, Failed)
        assert isinstance(late.positions, Complete)
    finally:
        await broker.close()
        one.close()


def test_the_requests_it_remembers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokers.simulators.mt5.REQUESTS_KEPT", 5)
    one = Mt5Simulator(login=1, instruments=("EURUSD",))
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.connect(one.start())
        try:
            for number in range(8):
                asking.send_json({"action": f"A{number}"})
                assert asking.poll(5_000)
                asking.recv()
        finally:
            one.close()
    assert one.requests == ("A3", "A4", "A5", "A6", "A7")


@pytest.mark.parametrize("kind", ["kite", "ib"])
def test_a_demonstration_of_many_days_is_as_large_as_one_of_a_few(kind: str) -> None:
    day = ["1"]
    found = KINDS[kind]
    simulated = found.simulator()
    rng = random.Random(3)  # noqa: S311 - a reproducible script
    script = Demonstration(simulated, found.symbols, LegScheme.NET, rng, lot=found.lot, today=lambda: day[0])
    script.seed_world()
    sizes = []
    for number in range(8):
        day[0] = str(number)
        for _ in range(150):
            with contextlib.suppress(ValueError, KeyError):  # a step that fails is logged, and the next one goes on
                script.step()
        sizes.append(len(simulated.dump()))
    assert max(sizes[4:]) < 1.5 * max(sizes[:4])


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="several looks at brokers that limit them: set RUN_SLOW")
@pytest.mark.parametrize("kind", ["kite", "ib"])
async def test_books_are_in_step_over_the_night_of_a_demonstration(kind: str, tmp_path: Path) -> None:
    with one_look(kind, tmp_path) as place:
        simulator: Any = place.simulator
        assert isinstance(simulator, DayEnding)
        symbol = place.kind.symbols[0]
        place.simulator.trade(symbol, Side.BUY, place.kind.lot)
        place.simulator.place_limit(symbol, Side.BUY, place.kind.lot, D("0.5"), "c1")
        more = ", include_holdings: true" if kind == "kite" else ""
        await place.look(more=more)
        simulator.end_day()
        for _ in range(2):
            _, reports = await place.look(more=more)
        found = {name: (report.status.value, report.error) for name, report in reports.items()}
        assert found == dict.fromkeys(place.kind.symbols, ("SUCCESS", None))
