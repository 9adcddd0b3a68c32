"""Kinds: a break that only a state which never comes can end; a count standing for the content."""

from __future__ import annotations

import pytest

from actors.account import snapshot_cache
from actors.account.snapshot_cache import SnapshotCache
from actors.book.discrepancies import DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.messages import SliceRequest, Unchanged
from brokers.clocks import broker_time
from brokers.model import Complete, OrderStatus, Side, Snapshot, Unsupported, rows_of
from tests.unit.builders import ACCOUNT, FAILED, INSTRUMENT, Desk, at, fill, order, order_report, pos, slice_at, types


def test_a_missed_fill_of_a_broker_without_fills_ends_with_its_order() -> None:
    desk, none = Desk(), Unsupported()
    desk.look(slice_at(0, [pos(5)], [], none))
    desk.report(order_report("c1", "B1", quantity=5, side=Side.SELL, status=OrderStatus.OPEN, price=None), at_s=1)
    row = order("B1", 5, 5, OrderStatus.FILLED, client_id="c1", price=None, side=Side.SELL)
    for t in (10, 20):
        assert "MISSED_FILL!" in types(desk.look(slice_at(t, [], [row], none)))
    for t in (30, 40, 50):
        last = desk.look(slice_at(t, [], [], none))
    assert (last.status, types(last)) == ("SUCCESS", [])


def test_at_a_full_cache_a_fill_is_no_less_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_cache, "FILLS_KEPT", 4)
    cache, known, got = SnapshotCache(ACCOUNT, "1"), None, 0
    cache.take(Snapshot(at(0), broker_time(at(0)), Complete(), Complete(), Complete(), 0), None)
    cursor: int | None = 0
    for t in range(1, 11):
        new = (fill(f"B{t}", 7, at_s=t), fill(f"S{t}", 7, at_s=t, side=Side.SELL))
        cache.take(Snapshot(at(t), broker_time(at(t)), Complete(), Complete(), Complete(new), t), t - 1)
        given = cache.slice(SliceRequest(INSTRUMENT, at(t), cursor, known))
        cursor = given.fills_cursor
        if not isinstance(given, Unchanged):
            known, got = given.revision, got + len(rows_of(given.fills))
    assert got == 20


def test_a_missed_fill_stays_open_while_the_fills_are_not_known() -> None:
    desk = Desk(Policy(correct=Correct.ALERT))
    desk.look(slice_at(0))
    missed = fill("F1", 5, at_s=9, order_id="X1")
    assert "MISSED_FILL!" in types(desk.look(slice_at(10, [pos(5)], [], [missed])))
    desk.look(slice_at(20, [pos(5)], [], FAILED))
    assert DiscrepancyType.MISSED_FILL in {kind for kind, _ in desk.book.breaks}
