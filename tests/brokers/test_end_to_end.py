"""Simulator, wire, SDK, adapter, account actor, instrument actor, journal: the whole way, in one process.

What a broker does is scripted in its simulator; what is looked at is the verdict and the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from actors.account.actor import Account, AccountSettings
from actors.book.discrepancies import Cause
from actors.book.policy import Policy
from actors.events import EventType
from actors.instrument.actor import CycleTrigger, Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.messages import Connection, CycleReport
from actors.names import AUDIT
from actors.reconciliation.own_reports import FillReport, OrderReport
from actors.runtime.ports import LocalRuntime
from brokers.ib.client import IbBroker
from brokers.kite.client import KiteBroker
from brokers.model import OrderStatus, Side
from brokers.mt5 import Mt5Broker
from brokers.oanda import OandaBroker
from brokers.port import Broker
from brokers.registry import CONVENTIONS
from brokers.simulators.base import Fault, Simulator
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.unit.fakes import found, legs, quantities

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
TIMEOUT_S = 1.0
OANDA_ID, TOKEN = "101-001-1-001", "0123456789abcdef-fedcba9876543210"


class Clock:
    """The system's clock, and ahead of it by what was slept. ``follow`` learns by how many seconds."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self.follow: Callable[[float], None] = lambda _: None

    @property
    def ahead(self) -> timedelta:
        return self._ahead

    @ahead.setter
    def ahead(self, ahead: timedelta) -> None:
        self._ahead = ahead
        self.follow(ahead.total_seconds())

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Runtime(LocalRuntime):
    """Sleeps by moving the clock: MT5's whole seconds go by at once."""

    def __init__(self, clock: Clock) -> None:
        chance = Random(5).random  # noqa: S311 - the same each time
        super().__init__(clock, lambda: clock().timestamp(), chance)
        self.clock = clock

    async def sleep(self, seconds: float) -> None:
        self.clock.ahead += timedelta(seconds=seconds)
        await super().sleep(0)


@dataclass
class World:
    """One broker's simulator, its account actor, and one instrument."""

    name: str
    symbol: str
    lot: Decimal
    simulator: Simulator
    broker: Broker
    runtime: Runtime
    audit: Audit
    account: Account
    instrument: Instrument

    async def verdict(self) -> CycleReport:
        self.runtime.clock.ahead += timedelta(seconds=2)  # whatever was scripted is over by more than a second
        return await self.instrument.reconcile_now()

    async def kinds(self) -> list[EventType]:
        return [r.event.type for r in await self.audit.records(stream=f"{self.name}/{self.symbol}", limit=10_000)]

    def held(self) -> dict[str, Decimal]:
        return {
            leg: quantity for (symbol, leg), quantity in self.simulator.positions().items() if symbol == self.symbol
        }

    def in_step(self, report: CycleReport) -> bool:
        return {leg: D(quantity) for leg, quantity in quantities(report).items()} == self.held()

    def make_instrument(self) -> Instrument:
        policy = Policy(
            confirm_gap=timedelta(seconds=1.1),
            settle=timedelta(seconds=1),
            conventions=CONVENTIONS[next(kind for kind, (name, _, _) in NAMES.items() if name == self.name)],
        )
        made = Instrument(InstrumentSettings(self.name, self.symbol, 300.0, 10.0, policy), self.runtime)
        self.runtime.register(f"{self.name}/{self.symbol}", made)
        return made


def oanda(clock: Clock, token: str = TOKEN) -> tuple[OandaSimulator, Broker]:
    simulator = OandaSimulator(OANDA_ID, TOKEN, instruments=["EUR_USD"], hedging=True)
    return simulator, OandaBroker("fx", OANDA_ID, token, simulator.start(), TIMEOUT_S, clock, backoff_s=0.001)


def mt5(clock: Clock, margin_mode: str | None, base_only: bool = False) -> tuple[Mt5Simulator, Broker]:
    simulator = Mt5Simulator(
        margin_mode=margin_mode, base_only=base_only, instruments=["EURUSD"], clock=clock, echo_request_id=not base_only
    )
    return simulator, Mt5Broker("cfd", simulator.start(), None, TIMEOUT_S, clock, backoff_s=0.001)


def kite(clock: Clock) -> tuple[KiteSimulator, Broker]:
    simulator = KiteSimulator("key", "session-token", "AB1234", instruments=["NSE:INFY"])
    clock.follow = simulator.set_clock
    broker = KiteBroker(
        "equities",
        "key",
        lambda: "session-token",
        "AB1234",
        simulator.start(),
        TIMEOUT_S,
        clock,
        backoff_s=0.001,
        requests_per_s=1000,
    )
    return simulator, broker


def ib(clock: Clock) -> tuple[IbSimulator, Broker]:
    simulator = IbSimulator("DU1", instruments=["AAPL"], clock=clock)
    host, _, port = simulator.start().rpartition(":")
    broker = IbBroker(
        "options", host, int(port), 17, "DU1", None, TIMEOUT_S, clock, instruments=("AAPL",), backoff_s=0.001
    )
    return simulator, broker


MAKERS: dict[str, Callable[[Clock], tuple[Simulator, Broker]]] = {
    "oanda": oanda,
    "mt5 hedging": lambda clock: mt5(clock, "hedging"),
    "mt5 netting": lambda clock: mt5(clock, "netting"),
    "mt5 base only": lambda clock: mt5(clock, None, base_only=True),
    "kite": kite,
    "ib": ib,
}
NAMES = {
    "oanda": ("fx", "EUR_USD", D(100)),
    "mt5": ("cfd", "EURUSD", D("0.1")),
    "kite": ("equities", "NSE:INFY", D(10)),
    "ib": ("options", "AAPL", D(10)),
}
"""Account, instrument and lot of each."""
WITH_ORDERS = [name for name in MAKERS if name != "mt5 base only"]


@asynccontextmanager
async def a_world(
    directory: Path, which: str, audit: Audit | None = None, runtime: Runtime | None = None, **more: Any
) -> AsyncIterator[World]:
    runtime = runtime if runtime is not None else Runtime(Clock())
    simulator, broker = MAKERS[which](runtime.clock, **more)
    own = audit is None
    if audit is None:
        audit = Audit(f"sqlite:///{directory}/journal.db")
        await audit.open()
        runtime.register(AUDIT, audit)
    name, symbol, lot = NAMES[which.split()[0]]
    settings = AccountSettings(name, which, frozenset({symbol}), patience_s=5.0)
    account = Account(settings, lambda: broker, runtime)
    runtime.register(name, account)
    world = World(name, symbol, lot, simulator, broker, runtime, audit, account, None)  # type: ignore[arg-type]  # made next
    world.instrument = world.make_instrument()
    try:
        yield world
        if own:
            assert (await audit.verify()).ok
    finally:
        await account.close()
        await broker.close()
        simulator.close()
        if own:
            await audit.close()


@pytest.fixture(params=list(MAKERS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path, request.param) as made:
        yield made


@pytest.fixture(params=WITH_ORDERS)
async def trading(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path, request.param) as made:
        yield made


async def test_a_zombie_is_recovered_and_a_second_look_says_nothing(world: World) -> None:
    """FEATURES 1, FEATURES 10, PEERS 5"""
    world.simulator.trade(world.symbol, BUY, world.lot)
    report = await world.verdict()
    assert report.status == "SUCCESS"
    assert [kind for kind in found(report) if kind != "EXTERNAL_ORDER"] == ["MISSING_LOCALLY"]
    assert world.in_step(report)
    before = await world.kinds()
    assert (await world.verdict()).status == "SUCCESS"
    assert await world.kinds() == before


async def test_a_ghost_is_closed_only_after_two_looks(world: World) -> None:
    """FEATURES 10, law 4"""
    leg = world.simulator.set_position(world.symbol, "", world.lot, D("1.1"))
    await world.verdict()
    world.simulator.set_position(world.symbol, leg, D(0), D(0))
    world.runtime.clock.ahead += timedelta(seconds=2)
    first = await world.instrument.cycle(CycleTrigger(world.runtime.now()))
    assert (list(quantities(first)), found(first)) == ([leg], ["NAKED_POSITION!"])
    report = await world.verdict()
    assert (report.status, quantities(report)) == ("SUCCESS", {})
    assert found(report) == ["NAKED_POSITION"]


def at_tws(world: World, *instruments: str, sec_types: tuple[str, ...] | None = None) -> Broker:
    assert isinstance(world.simulator, IbSimulator)
    port, clock = world.simulator.port, world.runtime.clock
    given = {"instruments": instruments or ("AAPL",), "backoff_s": 0.001}
    return IbBroker("options", "127.0.0.1", port, 18, "DU1", sec_types, TIMEOUT_S, clock, **given)  # type: ignore[arg-type]  # keywords


def at_kite(world: World, *, include_holdings: bool) -> Broker:
    url, clock = world.simulator.start(), world.runtime.clock  # it is serving, and says where
    return KiteBroker(
        "equities", "key", lambda: "session-token", "AB1234", url, TIMEOUT_S, clock, include_holdings=include_holdings
    )


@asynccontextmanager
async def opened_with(world: World, broker: Broker) -> AsyncIterator[None]:
    """The same account and the same book, after a change of the configuration."""
    settings = AccountSettings(world.name, "changed", frozenset({world.symbol}), patience_s=5.0)
    account = Account(settings, lambda: broker, world.runtime)
    world.runtime.register(world.name, account)
    world.instrument = world.make_instrument()
    try:
        yield
    finally:
        await account.close()
        await broker.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda world: at_tws(world, sec_types=("OPT",)), "Add STK to `sec_types`"),
        (lambda world: at_tws(world, "AAPL", str(world.simulator.contract("AAPL").con_id)), None),
    ],
    ids=["its type is filtered", "a second name for it"],
)
async def test_no_book_is_closed_for_what_the_configuration_hides(
    tmp_path: Path, change: Callable[[World], Broker], words: str | None
) -> None:
    """FEATURES 25, law 1: what a filter leaves out is unknown, and never flat."""
    async with a_world(tmp_path, "ib") as world:
        world.simulator.set_position("AAPL", "net", D(100), D("1.1"))
        world.simulator.place_limit("AAPL", BUY, D(5), D("1.0"))
        before = await world.verdict()
        async with opened_with(world, change(world)):
            for _ in range(3):
                report = await world.verdict()
                assert (report.status, report.book) == ("PARTIAL", before.book)
                assert {kind.strip("!") for kind in found(report)} <= {"MALFORMED_DATA"}
                assert words is None or words in str(report.error)
        async with opened_with(world, at_tws(world)):
            assert (await world.verdict()).status == "SUCCESS"


async def test_holdings_that_are_no_longer_taken_up_are_not_closed(tmp_path: Path) -> None:
    """Law 1: they are looked at all the same, so what the book has of them is in step while enough is there."""
    async with a_world(tmp_path, "kite") as world:
        assert isinstance(world.simulator, KiteSimulator)
        world.simulator.set_holding("NSE:INFY", D(24), D("56.35"))
        async with opened_with(world, at_kite(world, include_holdings=True)):
            assert quantities(await world.verdict()) == {"holdings": "24"}
        async with opened_with(world, at_kite(world, include_holdings=False)):
            world.simulator.trade("NSE:INFY", BUY, D(2), product="MIS")
            for _ in range(3):
                report = await world.verdict()
                assert (report.status, quantities(report)) == ("SUCCESS", {"holdings": "24", "MIS": "2"})
        async with opened_with(world, at_kite(world, include_holdings=True)):
            assert (await world.verdict()).status == "SUCCESS"


async def test_a_purchase_is_delivered_overnight_in_one_settlement_by_the_default_settings(tmp_path: Path) -> None:
    """No ghost and no zombie: the holdings are looked at whatever is configured."""
    async with a_world(tmp_path, "kite") as world:
        assert isinstance(world.simulator, KiteSimulator)
        world.simulator.set_holding("NSE:INFY", D(500), D("56.35"))
        async with opened_with(world, at_kite(world, include_holdings=False)):
            assert (await world.verdict()).status == "SUCCESS"
            world.simulator.trade("NSE:INFY", BUY, D(10), product="CNC")
            assert quantities(await world.verdict()) == {"CNC": "10"}
            world.simulator.next_day()
            world.runtime.clock.ahead += timedelta(days=1)
            report = await world.verdict()
            assert (report.status, quantities(report)) == ("SUCCESS", {"holdings": "10"})
            assert [one.found.cause for one in report.discrepancies] == [Cause.SETTLEMENT]
            assert (await world.verdict()).discrepancies == ()


async def test_a_conversion_is_one_event_and_never_shows_the_quantity_twice(tmp_path: Path) -> None:
    async with a_world(tmp_path, "kite") as world:
        assert isinstance(world.simulator, KiteSimulator)
        await world.verdict()
        world.simulator.trade("NSE:INFY", BUY, D(10), product="MIS")
        await world.verdict()
        world.simulator.convert("NSE:INFY", "MIS", "CNC", D(10))
        report = await world.verdict()
        assert (report.status, quantities(report)) == ("SUCCESS", {"CNC": "10"})
        assert [one.found.cause for one in report.discrepancies] == [Cause.CONVERSION]


async def test_drift_is_corrected(world: World) -> None:
    """FEATURES 10, PEERS 9: the quantity, then the price alone"""
    leg = world.simulator.set_position(world.symbol, "", world.lot, D("1.1"))
    await world.verdict()
    world.simulator.set_position(world.symbol, leg, 2 * world.lot, D("1.1"))
    report = await world.verdict()
    assert found(report) == ["POSITION_MISMATCH"]
    assert world.in_step(report)
    world.simulator.set_position(world.symbol, leg, 2 * world.lot, D("1.2"))
    report = await world.verdict()
    assert (report.status, found(report)) == ("SUCCESS", ["PRICE_MISMATCH"])
    assert [price for _, price in legs(report).values()] == ["1.2"]


async def test_fills_explain_what_changed(trading: World) -> None:
    """FEATURES 5, PEERS 14: a trade by somebody else is no drift"""
    await trading.verdict()
    trading.simulator.trade(trading.symbol, BUY, trading.lot)
    report = await trading.verdict()
    assert trading.in_step(report)
    assert report.status == "SUCCESS"
    assert found(report) == ["MISSED_FILL", "EXTERNAL_ORDER"]
    assert EventType.ORDER_FILLED in await trading.kinds()


async def test_our_order_is_followed_to_its_end_though_nobody_reported_it(trading: World) -> None:
    """FEATURES 18, FEATURES 23: filled in part or whole while we were away"""
    await trading.verdict()
    now = trading.runtime.now()
    sent = OrderReport(trading.symbol, "c1", None, BUY, trading.lot, "LIMIT", D("1.0"), OrderStatus.PENDING_SUBMIT, now)
    number = trading.simulator.place_limit(trading.symbol, BUY, trading.lot, D("1.0"), "c1")
    await trading.instrument.record([sent])
    report = await trading.verdict()
    rows: Any = report.book["open_orders"]
    assert [(row["broker_order_id"], row["status"]) for row in rows] == [(number, "OPEN")]
    trading.simulator.fill_order(number)
    trading.instrument = trading.make_instrument()
    report = await trading.verdict()
    assert (report.status, report.book["open_orders"]) == ("SUCCESS", [])
    assert trading.in_step(report)
    assert (await trading.kinds()).count(EventType.ORDER_FILLED) == 1


@pytest.mark.parametrize("how", ["CANCELLED", "EXPIRED", "REJECTED"])
async def test_an_order_that_ended_while_we_were_away_is_ended(trading: World, how: str) -> None:
    """FEATURES 18"""
    number = trading.simulator.place_limit(trading.symbol, BUY, trading.lot, D("1.0"), "c1")
    report = await trading.verdict()
    assert len(report.book["open_orders"]) == 1  # type: ignore[arg-type]  # a list
    trading.simulator.end_order(number, how)
    report = await trading.verdict()
    assert (report.status, report.book["open_orders"]) == ("SUCCESS", [])
    assert EventType(f"ORDER_{how}") in await trading.kinds()


async def test_a_fill_we_reported_ourselves_is_not_counted_again(trading: World) -> None:
    """PEERS 4, PEERS 15"""
    await trading.verdict()
    number = trading.simulator.place_limit(trading.symbol, BUY, trading.lot, D("1.0"))
    await trading.verdict()
    fill_id = trading.simulator.fill_order(number)
    (leg,) = trading.held()
    now = trading.runtime.now()
    fill = FillReport(trading.symbol, fill_id, number, BUY, trading.lot, D("1.0"), now, leg=leg)
    assert await trading.instrument.record([fill]) == 1
    report = await trading.verdict()
    assert report.status == "SUCCESS"
    assert trading.in_step(report)


@pytest.mark.parametrize(
    "fault",
    [fault for fault in Fault if fault not in (Fault.MALFORMED_ROW, Fault.EMPTY)],
    ids=lambda fault: fault.value,
)
@pytest.mark.parametrize("which", ["oanda", "mt5 hedging"])
async def test_a_failed_answer_never_shrinks_the_book(tmp_path: Path, which: str, fault: Fault) -> None:
    """PEERS 1, PEERS 7, FEATURES 12"""
    async with a_world(tmp_path, which) as world:
        world.simulator.trade(world.symbol, BUY, world.lot)
        before = quantities(await world.verdict())
        assert before
        world.simulator.close_by_hand(world.symbol)
        world.simulator.faults.add(fault, times=1_000)
        for _ in range(2):
            report = await world.verdict()
            assert quantities(report) == before
            assert report.status == "DEGRADED"
            assert report.error
            assert TOKEN not in report.error
        world.simulator.faults.clear()
        world.runtime.clock.ahead += timedelta(minutes=2)
        report = await world.verdict()
        assert (report.status, quantities(report)) == ("SUCCESS", {})


@pytest.mark.parametrize("which", list(MAKERS))
async def test_one_empty_answer_after_an_error_closes_nothing(tmp_path: Path, which: str) -> None:
    """PEERS 1"""
    async with a_world(tmp_path, which) as world:
        world.simulator.trade(world.symbol, BUY, world.lot)
        before = quantities(await world.verdict())
        world.simulator.faults.add(Fault.EMPTY, times=1)
        world.runtime.clock.ahead += timedelta(seconds=2)
        report = await world.instrument.cycle(CycleTrigger(world.runtime.now()))
        assert quantities(report) == before
        report = await world.verdict()
        assert (report.status, quantities(report)) == ("SUCCESS", before)


async def test_one_broker_down_costs_the_other_nothing(tmp_path: Path) -> None:
    """PEERS 8"""
    async with a_world(tmp_path, "oanda") as fx, a_world(tmp_path, "mt5 hedging", fx.audit, fx.runtime) as cfd:
        fx.simulator.trade(fx.symbol, BUY, fx.lot)
        cfd.simulator.close()
        down = await cfd.verdict()
        up = await fx.verdict()
        assert (down.status, up.status) == ("DEGRADED", "SUCCESS")
        assert fx.in_step(up)


async def test_a_wrong_token_says_so_and_is_not_tried_in_a_tight_loop(tmp_path: Path) -> None:
    """Whatever a broker says, the sentence names account and remedy, and the book is untouched."""
    async with a_world(tmp_path, "oanda", token="wrong-token-1234") as fx:
        for _ in range(20):
            report = await fx.instrument.cycle(CycleTrigger(fx.runtime.now()))
            assert report.status == "DEGRADED"
            assert "wrong-token-1234" not in (report.error or "")
        health = await fx.account.health()
        assert health.connection is Connection.REFUSED
        assert "token" in (health.error or "")
        assert health.broker_calls == 1


async def test_a_sell_by_hand_opens_the_other_leg_of_a_hedged_account(tmp_path: Path) -> None:
    """PEERS 6: two legs on one instrument"""
    for which in ("oanda", "mt5 hedging"):
        (tmp_path / which).mkdir()
        async with a_world(tmp_path / which, which) as world:
            world.simulator.trade(world.symbol, BUY, world.lot)
            await world.verdict()
            world.simulator.trade(world.symbol, SELL, 2 * world.lot)
            report = await world.verdict()
            assert world.in_step(report)
            assert len(quantities(report)) == 2


async def test_a_gateway_with_the_base_protocol_alone_succeeds_without_orders_and_fills(tmp_path: Path) -> None:
    """FEATURES 16: what is UNSUPPORTED does not count against it"""
    async with a_world(tmp_path, "mt5 base only") as world:
        world.simulator.trade(world.symbol, BUY, world.lot)
        report = await world.verdict()
        assert report.status == "SUCCESS"
        assert report.broker == {"positions": "COMPLETE", "orders": "UNSUPPORTED", "fills": "UNSUPPORTED"}
