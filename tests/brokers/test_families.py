"""Stops, targets and triggers belong to the order they came of, and to its strategy; a broker's own do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from actors.book.discrepancies import Cause
from actors.book.policy import Policy
from actors.events import Severity
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.reconciliation.own_reports import OrderReport
from brokers.model import OrderQuery, OrderStatus, Side, rows_of
from brokers.registry import CONVENTIONS
from brokers.simulators.base import Simulator
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.at_kite import INFY, KEY, TOKEN, USER, broker
from tests.brokers.reading import orders
from tests.brokers.test_end_to_end import BUY, SELL, D, World, a_world, at_tws, opened_with
from tests.brokers.test_ib_stories import LONG_CALL, SHORT_CALL, combination


@dataclass(frozen=True)
class Family:
    """``child`` attaches something to an order that was filled, and gives its id."""

    which: str
    child: Callable[[Simulator, World, str], str]


def _oanda(simulator: Simulator, world: World, parent: str) -> str:
    assert isinstance(simulator, OandaSimulator)
    return simulator.place_dependent(world.symbol, "long", "STOP_LOSS", D("0.9"))


def _ib(simulator: Simulator, world: World, parent: str) -> str:
    assert isinstance(simulator, IbSimulator)
    return simulator.attach(parent, SELL, world.lot, D(1), "c1")


def _kite(simulator: Simulator, world: World, parent: str) -> str:
    assert isinstance(simulator, KiteSimulator)
    child = simulator.place_limit(world.symbol, SELL, world.lot, D(1), variety="co")
    simulator.set_order(child, parent=parent)
    return child


FAMILIES = [Family("oanda", _oanda), Family("ib", _ib), Family("kite", _kite)]


async def an_order_of_ours(world: World, *, fills: bool = True) -> str:
    await world.verdict()
    now = world.runtime.clock()
    sent = OrderReport(
        world.symbol, "c1", None, BUY, world.lot, "LIMIT", D(1), OrderStatus.PENDING_SUBMIT, now, strategy="trend"
    )
    await world.instrument.record([sent])
    order_id = world.simulator.place_limit(world.symbol, BUY, world.lot, D(1), "c1")
    await world.verdict()
    if fills:
        world.simulator.fill_order(order_id)
        assert (await world.verdict()).status == "SUCCESS"
    return order_id


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.which)
async def test_a_stop_that_belongs_to_an_order_of_ours_is_its_strategys_and_no_stranger(
    tmp_path: Path, family: Family
) -> None:
    async with a_world(tmp_path, family.which) as world:
        if isinstance(world.simulator, IbSimulator):
            world.simulator.orders_by = 17
        parent = await an_order_of_ours(world)
        child = family.child(world.simulator, world, parent)
        report = await world.verdict()
        (found,) = report.discrepancies
        assert (found.found.strategy, found.found.severity) == ("trend", Severity.INFO)
        adopted = await world.instrument.order_by_ticket(child)
        assert adopted is not None
        assert (adopted.strategy, (adopted.parent,)) == ("trend", found.found.linked)
        assert adopted.parent == (parent if family.which != "oanda" else str(int(parent) + 1))  # the fill: a trade's id
        assert (await world.verdict()).discrepancies == ()


@pytest.mark.parametrize(
    ("why", "cause", "severity"),
    [
        ("sl", Cause.STOP_LOSS, Severity.WARNING),
        ("tp", Cause.TAKE_PROFIT, Severity.INFO),
        ("so", Cause.LIQUIDATION, Severity.CRITICAL),
    ],
)
async def test_what_a_stop_a_target_or_a_stop_out_closed_belongs_to_the_strategy_that_opened_it(
    tmp_path: Path, why: str, cause: Cause, severity: Severity
) -> None:
    async with a_world(tmp_path, "mt5 hedging") as world:
        assert isinstance(world.simulator, Mt5Simulator)
        leg = await an_order_of_ours(world)
        if why == "so":
            world.simulator.stop_out(leg)
        else:
            world.simulator.hit(leg, why)
        report = await world.verdict()
        assert report.status == "SUCCESS"
        assert world.in_step(report)
        closed = [one.found for one in report.discrepancies if one.found.type == "MISSED_FILL"]
        assert [(one.cause, one.severity, one.strategy) for one in closed] == [(cause, severity, "trend")]


async def test_a_position_closed_by_hand_is_still_somebody_elses_doing(tmp_path: Path) -> None:
    async with a_world(tmp_path, "mt5 hedging") as world:
        await an_order_of_ours(world)
        world.simulator.close_by_hand(world.symbol)
        report = await world.verdict()
        assert Cause.EXTERNAL_TRADE in {one.found.cause for one in report.discrepancies}
        assert {one.found.strategy for one in report.discrepancies} == {None}


async def test_a_close_by_order_of_ours_is_found_by_its_ticket_and_both_of_its_deals_are_ours(tmp_path: Path) -> None:
    async with a_world(tmp_path, "mt5 hedging") as world:
        assert isinstance(world.simulator, Mt5Simulator)
        long = world.simulator.trade(world.symbol, BUY, world.lot)
        short = world.simulator.set_position(world.symbol, "", -world.lot, D("1.1"))
        await world.verdict()
        ticket = world.simulator.close_by(long, short)
        now = world.runtime.clock()
        sent = OrderReport(
            world.symbol,
            "c2",
            ticket,
            SELL,
            world.lot,
            "CLOSE_BY",
            None,
            OrderStatus.PENDING_SUBMIT,
            now,
            strategy="trend",
        )
        await world.instrument.record([sent])
        report = await world.verdict()
        assert (report.status, world.held()) == ("SUCCESS", {})
        order = await world.instrument.order_by_ticket(ticket)
        assert order is not None
        assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, world.lot)
        assert {one.found.strategy for one in report.discrepancies} == {"trend"}
        assert Cause.EXTERNAL_TRADE not in {one.found.cause for one in report.discrepancies}


async def test_the_order_of_a_gtt_has_no_tag_and_joins_its_trigger(tmp_path: Path) -> None:
    async with a_world(tmp_path, "kite") as world:
        assert isinstance(world.simulator, KiteSimulator)
        await world.verdict()
        trigger = world.simulator.place_trigger(world.symbol, BUY, D(10), D(1500), product="MIS")
        now = world.runtime.clock()
        sent = OrderReport(
            world.symbol,
            "g1",
            trigger,
            BUY,
            D(10),
            "LIMIT",
            D(1500),
            OrderStatus.HELD,
            now,
            leg="MIS",
            strategy="trend",
        )
        await world.instrument.record([sent])
        assert (await world.verdict()).discrepancies == ()
        order_id = world.simulator.fire_trigger(trigger)
        world.simulator.fill_order(order_id)
        report = await world.verdict()
        assert report.status == "SUCCESS"
        assert {one.found.strategy for one in report.discrepancies} == {"trend"}
        assert Severity.WARNING not in {one.found.severity for one in report.discrepancies}
        placed = await world.instrument.order_by_ticket(order_id)
        assert placed is not None
        assert (placed.strategy, placed.parent, placed.status) == ("trend", trigger, OrderStatus.FILLED)
        assert (await world.verdict()).discrepancies == ()


async def test_triggers_are_read_only_when_an_order_without_a_tag_is_new() -> None:
    sim = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY])
    async with broker(sim) as adapter:
        sim.place_limit(INFY, Side.BUY, D(1), D(1), "tagged")
        await adapter.snapshot(None)
        assert not [request for request in sim.requests if "gtt" in request]
        order_id = sim.fire_trigger(sim.place_trigger(INFY, Side.BUY, D(1), D(1)))
        for _ in range(3):
            snapshot = await adapter.snapshot(None)
        assert len([request for request in sim.requests if "gtt" in request]) == 1
        assert orders(snapshot)[order_id].parent is not None
        assert len(rows_of(snapshot.orders)) == 2
    sim.close()


async def test_a_trigger_is_found_by_its_own_id_until_it_fires() -> None:
    sim = KiteSimulator(KEY, TOKEN, USER, instruments=[INFY])
    async with broker(sim) as adapter:
        trigger = sim.place_trigger(INFY, Side.SELL, D(5), D(1500))
        (waiting, unknown) = await adapter.find_orders([OrderQuery(INFY, trigger, None), OrderQuery(INFY, "7", None)])
        order_id = sim.fire_trigger(trigger)
        (fired,) = await adapter.find_orders([OrderQuery(INFY, trigger, None)])
    sim.close()
    assert waiting.order is not None
    assert (waiting.order.status, waiting.order.quantity, waiting.order.limit_price) == (
        OrderStatus.HELD,
        D(5),
        D(1500),
    )
    assert (unknown.order, unknown.failure) == (None, None)
    assert fired.order is not None
    assert (fired.order.status, fired.order.replaced_by) == (OrderStatus.CANCELLED, order_id)


async def test_a_combinations_leg_fills_carry_the_strategy_that_owns_the_combination(tmp_path: Path) -> None:
    async with a_world(tmp_path, "ib") as world:
        assert isinstance(world.simulator, IbSimulator)
        name = combination(world.simulator)
        async with opened_with(world, at_tws(world, "AAPL", name, LONG_CALL, SHORT_CALL)):
            actors = {symbol: instrument_of(world, symbol) for symbol in (name, LONG_CALL, SHORT_CALL)}
            order_id = world.simulator.place_limit("spread", BUY, D(2), D("3.08"), "c1")
            for actor in actors.values():
                await actor.reconcile_now()
            now = world.runtime.clock()
            sent = OrderReport(
                name, "c1", order_id, BUY, D(2), "LIMIT", D("3.08"), OrderStatus.OPEN, now, strategy="vertical"
            )
            await actors[name].record([sent])
            await actors[name].reconcile_now()
            world.simulator.fill_order(order_id)
            world.runtime.clock.ahead += timedelta(seconds=2)
            for symbol in (LONG_CALL, SHORT_CALL):
                report = await actors[symbol].reconcile_now()
                assert report.status == "SUCCESS"
                rows = [
                    (one.found.type, one.found.cause, one.found.severity, one.found.strategy)
                    for one in report.discrepancies
                ]
                assert rows == [("MISSED_FILL", Cause.MISSED_FILL, Severity.INFO, "vertical")]
                (booked,) = [r for r in await actors[symbol].recent() if r["type"] == "ORDER_FILLED"]
                assert booked["payload"]["strategy"] == "vertical"  # type: ignore[index]  # a document


def instrument_of(world: World, symbol: str) -> Instrument:
    policy = Policy(confirm_gap=timedelta(seconds=1.1), settle=timedelta(seconds=1), conventions=CONVENTIONS["ib"])
    made = Instrument(InstrumentSettings(world.name, symbol, 300.0, 10.0, policy), world.runtime)
    world.runtime.register(f"{world.name}/{symbol}", made)
    return made
