"""A configured name that the broker does not have is a mistake with the nearest names given, and never flat."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from brokers.kit.known_names import mistaken, nearest
from brokers.kite import KiteBroker
from brokers.model import Side, rows_of
from brokers.mt5 import Mt5Broker
from brokers.oanda import OandaBroker
from brokers.simulators.base import Fault
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator

D = Decimal


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize(
    ("name", "known", "nearest_name"),
    [
        ("EURUSD", ["EURUSD.m", "GBPUSD.m"], "EURUSD.m"),
        ("EUR/USD", ["EUR_USD", "EUR_GBP"], "EUR_USD"),
        ("eur_usd", ["EUR_USD", "EUR_GBP"], "EUR_USD"),
        ("EURUSD", ["mEURUSD", "EURUSDm"], "EURUSDm"),
        ("EUR_UDS", ["EUR_USD", "XAU_JPY"], "EUR_USD"),
    ],
)
def test_the_nearest_name_differs_in_case_separator_or_suffix(name: str, known: list[str], nearest_name: str) -> None:
    assert nearest(name, known)[0] == nearest_name
    assert nearest_name in mistaken([name], known)[name]


def test_a_name_like_no_other_is_named_and_an_empty_list_judges_nothing() -> None:
    assert "look" in mistaken(["PALLADIUM"], ["EUR_USD"])["PALLADIUM"].casefold()
    assert mistaken(["EUR_USD"], ["EUR_USD"]) == mistaken(["EUR_USD"], []) == {}


@pytest.mark.parametrize("name", ["EUR/USD", "eur_usd"])
async def test_a_name_that_oanda_does_not_have_is_never_flat(name: str) -> None:
    simulator = OandaSimulator("101-001-1-001", "token", instruments=["EUR_USD"], seed=1)
    broker = OandaBroker("fx", "101-001-1-001", "token", simulator.start(), 1.0, now, instruments=[name])
    try:
        simulator.trade("EUR_USD", Side.BUY, D(100))
        snapshot = await broker.snapshot(None)
        calls = broker.calls
        again = await broker.snapshot(snapshot.fills_cursor)
    finally:
        await broker.close()
        simulator.close()
    assert "Did you mean EUR_USD?" in snapshot.left_out[name]
    assert again.left_out == snapshot.left_out
    assert broker.calls - calls == 1  # the list is read once


async def test_a_list_of_names_that_cannot_be_had_spoils_nothing() -> None:
    simulator = OandaSimulator("101-001-1-001", "token", instruments=["EUR_USD"], seed=1)
    simulator.faults.add(Fault.SERVER_ERROR, times=9, match="AccountInstruments")
    url = simulator.start()
    broker = OandaBroker("fx", "101-001-1-001", "token", url, 1.0, now, backoff_s=0.001, instruments=["EUR/USD"])
    try:
        snapshot = await broker.snapshot(None)
    finally:
        await broker.close()
        simulator.close()
    assert snapshot.left_out == {}


async def test_a_name_that_the_terminal_does_not_have_is_never_flat() -> None:
    simulator = Mt5Simulator(instruments=["EURUSD.m", "GBPUSD.m"])
    broker = Mt5Broker("cfd", simulator.start(), 5001, 1.0, now, instruments=["EURUSD", "GBPUSD.m"])
    try:
        simulator.trade("EURUSD.m", Side.BUY, D("0.1"))
        snapshot = await broker.snapshot(None)
    finally:
        await broker.close()
        simulator.close()
    assert list(snapshot.left_out) == ["EURUSD"]
    assert "EURUSD.m" in snapshot.left_out["EURUSD"]
    assert len(rows_of(snapshot.positions)) == 1


async def test_a_gateway_without_a_list_of_symbols_judges_by_what_is_held() -> None:
    simulator = Mt5Simulator(instruments=["EURUSD.m"], base_only=True)
    broker = Mt5Broker("cfd", simulator.start(), None, 1.0, now, instruments=["EURUSD", "GBPUSD"])
    try:
        simulator.set_position("EURUSD.m", "", D("0.1"), D("1.1"))
        snapshot = await broker.snapshot(None)
    finally:
        await broker.close()
        simulator.close()
    assert list(snapshot.left_out) == ["EURUSD"]


@pytest.mark.parametrize(
    ("name", "nearest_name"), [("nse:infy", "NSE:INFY"), ("INFY", "NSE:INFY"), ("NSE/INFY", "NSE:INFY")]
)
async def test_a_name_that_is_none_of_kites_is_never_flat(name: str, nearest_name: str) -> None:
    simulator = KiteSimulator("an-api-key-0000", "token-of-tests", "AB1234", instruments=["NSE:INFY"])
    url = simulator.start()
    settings: dict[str, Any] = {"instruments": [name, "NSE:TCS"], "requests_per_s": 10_000}
    broker = KiteBroker("eq", "an-api-key-0000", lambda: "token-of-tests", None, url, 1.0, now, **settings)
    try:
        snapshot = await broker.snapshot(None)
    finally:
        await broker.close()
        simulator.close()
    assert list(snapshot.left_out) == [name]
    assert nearest_name in snapshot.left_out[name]
