"""A client id that the server cuts: the order still finds its record, and whoever records it is informed."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.reconciliation.own_reports import OrderReport, cut_id
from brokers.model import OrderStatus
from brokers.registry import CONVENTIONS
from tests.brokers.test_end_to_end import BUY, D, World, a_world
from tests.unit.builders import Desk, at, fill, order, order_report, pos, slice_at, types

LONG = "momentum-EURUSD-2026-11-29-0000000001"
MT5 = CONVENTIONS["mt5"]


def sent(world: World, client_order_id: str) -> OrderReport:
    now = world.runtime.clock()
    return OrderReport(
        world.symbol, client_order_id, None, BUY, world.lot, "LIMIT", D(1), OrderStatus.PENDING_SUBMIT, now
    )


@pytest.mark.parametrize("which", ["mt5 hedging", "mt5 netting", "kite"])
async def test_an_order_whose_client_id_the_server_cut_still_finds_its_record(tmp_path: Path, which: str) -> None:
    async with a_world(tmp_path, which) as world:
        await world.verdict()
        await world.instrument.record([sent(world, LONG)])
        order_id = world.simulator.place_limit(world.symbol, BUY, world.lot, D(1), LONG)
        report = await world.verdict()
        assert [one.found.type for one in report.discrepancies] == ["ORDER_STATUS_MISMATCH"]
        booked = await world.instrument.order_by_ticket(order_id)
        assert booked is not None
        assert (booked.client_order_id, booked.status) == (LONG, OrderStatus.OPEN)
        world.simulator.fill_order(order_id)
        report = await world.verdict()
        assert (report.status, [one.found.type for one in report.discrepancies]) == ("SUCCESS", ["MISSED_FILL"])


@pytest.mark.parametrize("which", ["mt5 hedging", "kite"])
async def test_an_order_that_was_filled_before_it_was_seen_is_looked_up_by_what_is_left_of_its_id(
    tmp_path: Path, which: str
) -> None:
    async with a_world(tmp_path, which) as world:
        await world.verdict()
        await world.instrument.record([sent(world, LONG)])
        order_id = world.simulator.trade(world.symbol, BUY, world.lot, LONG)
        report = await world.verdict()
        assert report.status == "SUCCESS"
        assert "EXTERNAL_ORDER" not in {one.found.type for one in report.discrepancies}
        booked = await world.instrument.order_by_ticket(order_id)
        assert booked is not None
        assert (booked.client_order_id, booked.status) == (LONG, OrderStatus.FILLED)


def test_two_ids_that_are_cut_alike_are_distinguished_by_nothing_and_none_is_guessed() -> None:
    desk = Desk()
    desk.look(slice_at(0, conventions=MT5))
    for last in "12":
        desk.report(order_report(LONG[:-1] + last, submitted_at=at(1)), at_s=1, conventions=MT5)
    found = desk.look(slice_at(10, orders=[order("7", client_id=LONG[:31], submitted_at=at(2))], conventions=MT5))
    assert "EXTERNAL_ORDER" in types(found)
    assert {o.client_order_id: o.broker_order_id for o in desk.book.orders.values()}[LONG] is None


def test_an_id_of_just_the_brokers_length_is_not_taken_for_a_longer_one() -> None:
    desk = Desk()
    desk.look(slice_at(0, conventions=MT5))
    for name in (LONG, LONG[:31]):
        desk.report(order_report(name, submitted_at=at(1)), at_s=1, conventions=MT5)
    done = order("7", 100, 100, OrderStatus.FILLED, client_id=LONG[:31], submitted_at=at(2), average="1.1", leg="7")
    desk.look(
        slice_at(10, [pos(100, leg="7")], [done], [fill("f", 100, at_s=3, order_id="7", leg="7")], conventions=MT5)
    )
    statuses = {o.client_order_id: o.status for o in desk.book.orders.values()}
    assert statuses == {LONG: OrderStatus.PENDING_SUBMIT, LONG[:31]: OrderStatus.FILLED}


def test_recording_says_how_long_an_id_may_be() -> None:
    words = cut_id(order_report(LONG), MT5)
    assert words is not None
    assert f"{len(LONG)} characters" in words
    assert "keeps 31" in words
    assert cut_id(order_report("short"), MT5) is None
    assert cut_id(order_report(LONG), CONVENTIONS["oanda"]) is None
