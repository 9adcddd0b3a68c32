"""A simulator that runs for months stays as large as one that ran for a day: what is long over is told no more."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from brokers.model import Complete, Failed, Side
from brokers.oanda.client import OandaBroker
from brokers.simulators.base import REQUESTS_KEPT
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from brokers.simulators.oanda_ledger import LOG_KEPT

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
        trades(one, 500)
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


def test_the_requests_it_remembers_are_bounded() -> None:
    one = Mt5Simulator(login=1, instruments=("EURUSD",))
    for number in range(REQUESTS_KEPT + 5):
        one._requests.append(str(number))
    assert len(one.requests) == REQUESTS_KEPT
