"""Reports that come again, late, or while somebody else writes to the same stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.journal.client import JournalAway
from actors.names import AUDIT
from actors.reconciliation.own_reports import OrderReport, PositionReport
from actors.runtime.ports import ActorUnavailable
from brokers.model import NET, OrderStatus, Side
from tests.unit.builders import Desk, at, dec, order, order_report, slice_at
from tests.unit.fakes import EURUSD, a_house
from tests.unit.virtual_time import virtual_time


def test_a_submission_reported_again_undoes_no_amendment() -> None:
    desk = Desk()
    sent = order_report("c1", quantity=3, submitted_at=at(0))
    desk.report(sent, at_s=0)
    desk.look(slice_at(10, orders=[order("B1", 8, client_id="c1", price="1.2", submitted_at=at(0))]))
    written = len(desk.events)
    desk.report(sent, at_s=11)
    assert len(desk.events) == written
    (now,) = desk.book.open_orders()
    assert (now.quantity, now.status) == (dec(8), OrderStatus.OPEN)


def test_a_submission_reported_again_is_not_that_of_the_order_which_took_its_place() -> None:
    desk = Desk()
    sent = order_report("c1", quantity=3, submitted_at=at(0))
    desk.report(sent, at_s=0)
    desk.look(slice_at(10, orders=[order("B1", 3, client_id="c1", submitted_at=at(0))]))
    rows = [
        order("B1", 3, status=OrderStatus.CANCELLED, client_id="c1", submitted_at=at(0), replaced_by="B2"),
        order("B2", 5, client_id="c1", submitted_at=at(12)),
    ]
    desk.look(slice_at(20, orders=rows))
    written = len(desk.events)
    desk.report(sent, at_s=21)
    assert len(desk.events) == written
    (now,) = desk.book.open_orders()
    assert (now.broker_order_id, now.quantity, now.status) == ("B2", dec(5), OrderStatus.OPEN)


def test_an_order_under_the_same_client_id_sent_at_another_time_is_another_report() -> None:
    desk = Desk()
    sent = order_report("c1", quantity=3, submitted_at=at(0))
    desk.report(sent, at_s=0)
    ended = order("B1", 3, status=OrderStatus.CANCELLED, client_id="c1", submitted_at=at(0))
    desk.look(slice_at(10, orders=[ended]))
    written = len(desk.events)
    desk.report(replace(sent, submitted_at=at(11)), at_s=11)
    assert len(desk.events) == written + 1


@pytest.mark.parametrize(("times", "durable"), [(2, True), (9, False)])
@virtual_time
async def test_who_is_fenced_again_and_again_learns_that_the_report_is_not_known_to_be_in(
    tmp_path: Path, times: int, durable: bool
) -> None:
    async with a_house(tmp_path) as house:
        await house.instrument().book()
        other = house.second()
        left = [times]

        async def somebody_writes_first() -> None:
            if left[0] > 0:
                left[0] -= 1
                del house.post.before[AUDIT, "append"]
                await other.record([PositionReport(EURUSD, NET, dec(left[0] + 1), dec("1.1"))])
                house.post.before[AUDIT, "append"] = somebody_writes_first

        house.post.before[AUDIT, "append"] = somebody_writes_first
        sent = OrderReport(EURUSD, "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
        if durable:
            assert await house.instrument().record([sent]) == 1
        else:
            with pytest.raises(JournalAway):
                await house.instrument().record([sent])
        house.post.before.clear()
        assert await house.instrument().record([sent]) == (0 if durable else 1)
        (order_,) = (await house.instrument().book()).open_orders
        assert order_.client_order_id == "c1"


@virtual_time
async def test_what_became_durable_without_an_answer_is_in_the_book_by_the_next_cycle(tmp_path: Path) -> None:
    """Law 2. Nothing else is written meanwhile, so no fence would show it."""
    async with a_house(tmp_path) as house:
        await house.instrument().reconcile_now()
        sent = OrderReport(EURUSD, "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)

        async def the_answer_is_lost() -> None:
            del house.post.after[AUDIT, "append"]
            raise ActorUnavailable(AUDIT, "append", "its answer was lost")

        house.post.after[AUDIT, "append"] = the_answer_is_lost
        with pytest.raises(JournalAway):
            await house.instrument().record([sent])
        report = await house.instrument().detect_drift()
        assert [order_["client_order_id"] for order_ in report.book["open_orders"]] == ["c1"]  # type: ignore[union-attr,index,call-overload] # JSON
        assert len((await house.instrument().book()).open_orders) == 1
        loads = house.post.sent.count((AUDIT, "load"))
        await house.instrument().reconcile_now()
        assert house.post.sent.count((AUDIT, "load")) == loads, "it is loaded again once"
