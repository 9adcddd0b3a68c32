"""What an account of Kite has shown today, against which its next answer is judged. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from brokers.clocks import broker_time
from brokers.kite.day_lists import DISBELIEVED_S, Lasting, Orderbook
from brokers.kite.decode import (
    Listing,
    OrderRow,
    PositionRow,
    order_row,
)
from brokers.kite.positions_against_trades import STANDING_S, Agreement, clashes, in_doubt
from brokers.kite.tradebook import OVERLAP_MS, Tradebook
from brokers.model import Complete, Failed, Fill, OrderStatus, Partial, Position, RowProblem, SectionName, Side, rows_of
from tests.brokers.kite_rows import INFY, NOW, TODAY, D, S, order

# -- what the day has shown ----------------------------------------------------------------------------------------


def listing(*keys: str, problems: int = 0) -> Listing[str]:
    bad = tuple(RowProblem(SectionName.ORDERS, None, None, "x") for _ in range(problems))
    return Listing(dict.fromkeys(keys, ""), bad)


def test_rows_that_left_a_list_are_not_believed_gone_until_it_has_said_so_for_a_while() -> None:
    """PEERS 1"""
    lasting = Lasting("orders")

    def doubts(after_s: float, *keys: str, problems: int = 0, days: int = 0) -> bool:
        now = NOW + timedelta(seconds=after_s)
        return lasting.doubt(listing(*keys, problems=problems), TODAY + timedelta(days=days), now) is not None

    assert not doubts(0)
    assert not doubts(1, "a", "b")
    assert doubts(2)
    assert doubts(2 + DISBELIEVED_S - 1)
    assert doubts(12.5, "b")  # another loss, another wait
    assert not doubts(13, problems=1)  # proves nothing, and takes nothing back
    assert doubts(22, "b")
    assert not doubts(12.5 + DISBELIEVED_S, "b")
    assert not doubts(30, "b", "c")
    assert not doubts(31, days=1)  # a new day


def row(order_id: str = "1", **fields: Any) -> OrderRow:
    return order_row(order(order_id=order_id, **fields))


def test_what_is_filled_of_an_order_only_grows() -> None:
    """FEATURES 18"""
    book = Orderbook()
    ahead = row(filled_quantity=6, average_price=D(2))
    behind = row(filled_quantity=2, average_price=D(1))
    assert book.later(ahead, TODAY) == book.later(behind, TODAY) == ahead
    ended = book.later(row(filled_quantity=2, status="CANCELLED"), TODAY).order
    assert (ended.status, ended.filled_quantity, ended.average_fill_price) == (S.CANCELLED, D(6), D(2))
    assert book.later(behind, TODAY).order.status is S.CANCELLED
    assert book.later(row(filled_quantity=10, status="COMPLETE"), TODAY).order.status is S.FILLED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, S.EXPIRED),
        ({"status": "OPEN PENDING"}, S.EXPIRED),
        ({"status": "CANCELLED"}, S.CANCELLED),
        ({"status": "COMPLETE", "filled_quantity": 10}, S.FILLED),
        ({"variety": "amo"}, None),
    ],
    ids=["open", "pending", "cancelled", "complete", "placed for the next day"],
)
def test_an_order_of_yesterday_ended_as_it_did_or_expired(fields: dict[str, Any], expected: OrderStatus | None) -> None:
    book = Orderbook()
    book.take(Listing({"1": row(**fields)}), TODAY, NOW)
    assert book.ended_overnight("1", None, TODAY, broker_time(NOW)) is None
    tomorrow = TODAY + timedelta(days=1)
    assert rows_of(book.take(Listing(), tomorrow, NOW + timedelta(days=1))) == ()
    morning = NOW + timedelta(hours=22)
    ended = [
        book.ended_overnight(order_id, tag, tomorrow, broker_time(morning))
        for order_id, tag in (("1", None), (None, "mine"))
    ]
    assert [found and found.status for found in ended] == [expected] * 2
    assert [found and found.presumed for found in ended] == [expected and expected is S.EXPIRED] * 2
    assert book.ended_overnight("2", None, tomorrow, broker_time(morning)) is None


def test_a_list_that_is_emptied_in_the_morning_still_leaves_yesterdays_orders_expired() -> None:
    """After midnight the list shows yesterday's orders until some time in the morning."""
    book = Orderbook()
    tomorrow = TODAY + timedelta(days=1)
    for at in (NOW, NOW + timedelta(hours=20)):
        book.take(Listing({"1": row()}), tomorrow if at > NOW else TODAY, at)
    emptied = [book.take(Listing(), tomorrow, NOW + timedelta(hours=22, seconds=s)) for s in (0, DISBELIEVED_S)]
    assert [type(section) for section in emptied] == [Failed, Complete]
    found = book.ended_overnight("1", None, tomorrow, broker_time(NOW + timedelta(hours=22)))
    assert found is not None
    assert found.status is S.EXPIRED


# -- which fills were handed out -----------------------------------------------------------------------------------


def fill(number: int, second: int = 0) -> Fill:
    return Fill(INFY, str(number), "1", Side.BUY, D(1), D(1), broker_time(NOW + timedelta(seconds=second)), "MIS")


def at(second: int) -> int:
    return int((NOW + timedelta(seconds=second)).timestamp()) * 1000


def test_a_fill_is_handed_out_once_to_each_cursor_however_late_it_is_reported() -> None:
    book = Tradebook()
    none, first = book.hand_out(Complete((fill(1), fill(2))), None, at(0))
    assert (none, first) == (Complete(), at(1) + OVERLAP_MS)
    late = Complete((fill(1), fill(2), fill(3, -3600)))
    handed_out, second = book.hand_out(late, first, at(5))
    assert handed_out == Complete((fill(3, -3600),))
    assert second is not None
    assert second > (first or 0)
    assert book.hand_out(late, second, at(6)) == (Complete(), second)
    assert book.hand_out(late, first, at(7)) == (handed_out, second)


def test_an_incomplete_section_keeps_the_cursor_so_that_the_same_is_asked_again() -> None:
    book = Tradebook()
    _, first = book.hand_out(Complete(()), None, at(0))
    problem = RowProblem(SectionName.FILLS, None, "9", "x")
    part: Partial[Fill] = Partial((fill(1, 1),), (problem,))
    assert book.hand_out(part, first, at(2)) == (part, first)
    assert book.hand_out(Failed("no answer"), first, at(3)) == (Failed("no answer"), first)
    whole = Complete((fill(1, 1), fill(9, 1)))
    assert book.hand_out(whole, first, at(4))[0] == whole


def test_a_new_connection_reaches_back_behind_its_cursor_and_not_behind_the_first() -> None:
    """PEERS 15"""
    _, first = Tradebook().hand_out(Complete((fill(1, -1),)), None, at(0))
    day = Complete((fill(1, -1), fill(2, 0), fill(3, 100)))
    assert Tradebook().hand_out(day, first, at(110))[0] == Complete((fill(2, 0), fill(3, 100)))
    _, ahead = Tradebook().hand_out(Complete((fill(1, -1), fill(2, 0))), None, at(-1))
    assert Tradebook().hand_out(day, ahead, at(110))[0] == Complete((fill(3, 100),))
    assert Tradebook().hand_out(day, at(120), at(120))[0] == Complete((fill(3, 100),))
    assert Tradebook().hand_out(day, at(161), at(161))[0] == Complete()


def test_an_id_that_the_exchange_uses_again_on_another_day_is_another_fill() -> None:
    book = Tradebook()
    cursor: int | None = None
    for hours in range(25):  # it was there all the time
        day = Complete((fill(1),) if hours < 20 else ())
        found, cursor = book.hand_out(day, cursor, at(hours * 3600))
        assert found == Complete()
    assert book.hand_out(Complete((fill(1, 86_400),)), cursor, at(86_401))[0] == Complete((fill(1, 86_400),))


@pytest.mark.parametrize(
    ("listed", "hours", "lost"),
    [
        ((), 1, False),
        ((), 15, True),
        ((fill(1, 40_000),), 15, False),
        ((fill(1, 86_400),), 25, True),
        ((fill(1, 60),), 25, False),
    ],
    ids=["the same day", "an empty list", "yesterday's list", "today's list", "yesterday's list, late"],
)
def test_what_was_traded_before_the_list_begins_is_not_known(listed: tuple[Fill, ...], hours: int, lost: bool) -> None:
    """PEERS 1: an absence in a list that does not reach back is no absence, and the positions have to show it."""
    _, cursor = Tradebook().hand_out(Complete(()), None, at(0))
    book, now = Tradebook(), at(hours * 3600)
    assert (book.gap(Complete(listed), cursor, now) is not None) is lost
    _, following = book.hand_out(Complete(listed), cursor, now)
    assert book.gap(Complete(listed), following, now) is None


# -- positions against trades --------------------------------------------------------------------------------------


def net(bought: int | None, sold: int | None, held: int = 1) -> Listing[PositionRow]:
    traded = None if bought is None else D(bought), None if sold is None else D(sold)
    return Listing({f"{INFY}/MIS": PositionRow(INFY, "MIS", Position(INFY, "MIS", D(held), D(1)), *traded)})


@pytest.mark.parametrize(
    ("listing", "count", "agree"),
    [
        (net(2, 0), 2, True),
        (net(1, 0), 2, False),
        (net(3, 0), 2, False),
        (net(2, 1), 2, False),
        (net(None, None), 0, True),
        (net(None, None), 1, False),
        (Listing(), 0, True),
        (Listing(), 1, False),
        (Listing({}, (RowProblem(SectionName.POSITIONS, INFY, None, "x"),)), 1, True),
    ],
    ids=[
        "equal",
        "a trade more",
        "a trade less",
        "a sale nobody reported",
        "not reported",
        "not reported, and traded",
        "nothing",
        "no row of what was traded",
        "unreadable",
    ],
)
def test_what_a_position_traded_today_is_the_sum_of_its_trades(
    listing: Listing[PositionRow], count: int, agree: bool
) -> None:
    """PEERS 11"""
    fills = Complete(tuple(fill(number) for number in range(count)))
    assert (clashes(listing, fills) == frozenset()) is agree
    assert clashes(listing, Failed("no answer")) == frozenset()


def test_a_difference_is_in_doubt_until_it_has_stood_for_a_while() -> None:
    agreement, found = Agreement(), clashes(net(1, 0), Complete((fill(1), fill(2))))
    held = Complete((Position(INFY, "MIS", D(1), D(1)), Position("NSE:SBIN", "MIS", D(1), D(1))))
    assert agreement.fresh(found, NOW) == found
    agreement.note(found, NOW)
    doubted = in_doubt(held, agreement.fresh(found, NOW + timedelta(seconds=STANDING_S - 1)))
    assert isinstance(doubted, Partial)
    assert [problem.instrument for problem in doubted.problems] == [INFY]
    assert in_doubt(held, agreement.fresh(found, NOW + timedelta(seconds=STANDING_S))) == held
    assert in_doubt(Failed("no answer"), found) == Failed("no answer")
