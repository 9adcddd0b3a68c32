"""Kite Connect's objects become rows, or say why they cannot; what the day has shown is remembered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from brokers.kit.foreign_row import BadAnswer, BadRow
from brokers.kite.day_lists import DISBELIEVED_S, Lasting, Orderbook
from brokers.kite.decode import (
    Listing,
    OrderRow,
    PositionRow,
    fill_row,
    history,
    holding_row,
    holdings,
    moment,
    order_row,
    orders,
    position_row,
    positions,
    trades,
)
from brokers.kite.positions_against_trades import STANDING_S, Agreement, clashes, in_doubt
from brokers.kite.tradebook import OVERLAP_MS, Tradebook
from brokers.model import Complete, Failed, Fill, OrderStatus, Partial, Position, RowProblem, SectionName, Side, rows_of

D = Decimal
INFY = "NSE:INFY"
S = OrderStatus
NOW = datetime(2025, 11, 20, 5, 0, tzinfo=UTC)
TODAY = date(2025, 11, 20)


def position(**fields: Any) -> dict[str, Any]:
    row = {
        "tradingsymbol": "INFY",
        "exchange": "NSE",
        "product": "MIS",
        "quantity": 10,
        "overnight_quantity": 4,
        "multiplier": 1,
        "average_price": D("1500.25"),
        "day_buy_quantity": 9,
        "day_sell_quantity": 3,
    }
    return {key: value for key, value in {**row, **fields}.items() if value is not None}


def order(**fields: Any) -> dict[str, Any]:
    row = {
        "order_id": "2042130686722629633",
        "parent_order_id": None,
        "exchange_order_id": None,
        "status": "OPEN",
        "status_message": None,
        "order_timestamp": "2025-11-20 10:00:00",
        "exchange_update_timestamp": "2025-11-20 10:00:01",
        "variety": "regular",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "validity": "DAY",
        "validity_ttl": 0,
        "product": "CNC",
        "quantity": 10,
        "price": D("1500.5"),
        "trigger_price": 0,
        "average_price": 0,
        "filled_quantity": 0,
        "pending_quantity": 10,
        "cancelled_quantity": 0,
        "tag": "mine",
    }
    return {**row, **fields}


def trade(**fields: Any) -> dict[str, Any]:
    row = {
        "trade_id": "10000000",
        "order_id": "200000000017717",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "product": "CNC",
        "average_price": D("310.7"),
        "quantity": 1,
        "transaction_type": "BUY",
        "fill_timestamp": "2025-11-20 09:16:39",
        "order_timestamp": "09:16:39",
        "exchange_timestamp": "2025-11-20 09:16:40",
    }
    return {key: value for key, value in {**row, **fields}.items() if value is not None}


# -- positions and holdings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (position(), Position(INFY, "MIS", D(10), D("1500.25"))),
        (position(quantity=-10), Position(INFY, "MIS", D(-10), D("1500.25"))),
        (position(quantity=0, average_price=0), None),
        (position(quantity="10"), Position(INFY, "MIS", D(10), D("1500.25"))),
        (position(average_price=D("-2884")), Position(INFY, "MIS", D(10), D("-2884"))),
        (
            position(exchange="MCX", tradingsymbol="GOLDM25DECFUT", product="NRML", multiplier=10, quantity=2),
            Position("MCX:GOLDM25DECFUT", "NRML", D(2), D("1500.25")),
        ),
        (position(tradingsymbol="M&M"), Position("NSE:M&M", "MIS", D(10), D("1500.25"))),
    ],
    ids=["long", "short", "flat", "number in a string", "negative price", "multiplier changes nothing", "symbol"],
)
def test_a_row_of_net_is_a_leg_named_by_its_product(row: object, expected: Position | None) -> None:
    read = position_row(row)
    assert read.position == expected
    assert (read.bought, read.sold) == (D(9), D(3))


BAD_POSITIONS = {
    "no exchange": position(exchange=None),
    "no tradingsymbol": position(tradingsymbol=""),
    "no product": position(product=None),
    "no quantity": position(quantity=None),
    "quantity is a word": position(quantity="abc"),
    "quantity is a float": position(quantity=1.5),
    "quantity is true": position(quantity=True),
    "price is NaN": position(average_price="NaN"),
    "price is infinite": position(average_price=D("Infinity")),
    "quantity beyond reason": position(quantity=D("1e40")),
    "digits of another script": position(quantity="١٢"),
    "no price of something held": position(average_price=None),
    "a list": [1],
    "null": None,
}


@pytest.mark.parametrize("case", BAD_POSITIONS)
def test_a_position_that_cannot_be_read_whole_is_a_problem(case: str) -> None:
    with pytest.raises(BadRow):
        position_row(BAD_POSITIONS[case])
    read = positions({"net": [BAD_POSITIONS[case], position(product="CNC")], "day": []})
    assert list(read.rows) == ["NSE:INFY/CNC"]
    assert len(read.problems) == 1
    assert read.problems[0].section is SectionName.POSITIONS


@pytest.mark.parametrize("data", [None, [], {}, {"day": []}, {"net": None}, {"net": {}}, "net"])
def test_positions_without_net_are_no_positions(data: object) -> None:
    """PEERS 1"""
    with pytest.raises(BadAnswer):
        positions(data)


def test_the_days_activity_is_not_what_is_held() -> None:
    read = positions({"net": [position(quantity=10)], "day": [position(quantity=6)]})
    assert [row.position and row.position.quantity for row in read.rows.values()] == [D(10)]


def test_a_row_told_twice_is_read_once_if_both_agree_and_not_at_all_if_they_differ() -> None:
    """PEERS 6"""
    assert len(positions({"net": [position(), position()]}).rows) == 1
    read = positions({"net": [position(), position(quantity=7), position(product="CNC")]})
    assert list(read.rows) == ["NSE:INFY/CNC"]
    assert "twice" in read.problems[0].text
    assert read.problems[0].instrument == INFY


@pytest.mark.parametrize(
    ("fields", "quantity"),
    [
        ({"quantity": 11, "t1_quantity": 1, "used_quantity": 0}, 12),
        ({"quantity": 0, "t1_quantity": 4, "used_quantity": 0}, 4),
        ({"quantity": 11, "t1_quantity": 0, "used_quantity": 3, "opening_quantity": 11}, 11),
        ({"quantity": 8, "t1_quantity": 0, "used_quantity": 3, "opening_quantity": 11}, 11),
        ({"quantity": 0, "t1_quantity": 0, "collateral_quantity": 40}, 40),
        ({"quantity": 60, "t1_quantity": 5, "collateral_quantity": 40}, 105),
        ({"quantity": 5}, 5),
        ({"quantity": 0, "t1_quantity": 0}, None),
    ],
    ids=[
        "both",
        "not delivered yet",
        "some sold today",
        "some sold today and gone",
        "pledged",
        "pledged in part",
        "no t1",
        "none",
    ],
)
def test_delivered_and_undelivered_stock_is_one_leg(fields: dict[str, Any], quantity: int | None) -> None:
    row = {"exchange": "BSE", "tradingsymbol": "BHEL", "product": "CNC", "average_price": D("56.35"), **fields}
    expected = None if quantity is None else Position("BSE:BHEL", "holdings", D(quantity), D("56.35"))
    assert holding_row(row).position == expected
    with pytest.raises(BadAnswer):
        holdings({"BSE:BHEL": row})


# -- orders --------------------------------------------------------------------------------------------------------


def test_an_order_is_read_whole() -> None:
    read = order_row(order(filled_quantity=4, average_price=D("1500.1"), variety="amo", status_message="why"))
    assert read.variety == "amo"
    found = read.order
    assert (found.instrument, found.broker_order_id, found.client_order_id) == (INFY, "2042130686722629633", "mine")
    assert (found.side, found.quantity, found.filled_quantity) == (Side.BUY, D(10), D(4))
    assert (found.status, found.order_type, found.limit_price) == (S.PARTIALLY_FILLED, "LIMIT", D("1500.5"))
    assert (found.average_fill_price, found.leg, found.reason) == (D("1500.1"), "CNC", "why")
    assert found.submitted_at == datetime(2025, 11, 20, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "filled", "expected"),
    [
        ("PUT ORDER REQ RECEIVED", 0, S.PENDING_SUBMIT),
        ("PUT ORDER REQUEST RECEIVED", 0, S.PENDING_SUBMIT),
        ("AMO REQ RECEIVED", 0, S.PENDING_SUBMIT),
        ("AMO REQUEST RECEIVED", 0, S.PENDING_SUBMIT),
        ("VALIDATION PENDING", 0, S.PENDING_SUBMIT),
        ("OPEN PENDING", 0, S.PENDING_SUBMIT),
        ("OPEN PENDING", 4, S.PARTIALLY_FILLED),
        ("OPEN", 0, S.OPEN),
        ("OPEN", 4, S.PARTIALLY_FILLED),
        ("open", 0, S.OPEN),
        ("TRIGGER PENDING", 0, S.OPEN),
        ("MODIFIED", 0, S.OPEN),
        ("MODIFIED", 4, S.PARTIALLY_FILLED),
        ("MODIFY PENDING", 0, S.OPEN),
        ("MODIFY VALIDATION PENDING", 4, S.PARTIALLY_FILLED),
        ("CANCEL PENDING", 4, S.PENDING_CANCEL),
        ("UPDATE", 0, S.OPEN),
        ("UPDATE", 4, S.PARTIALLY_FILLED),
        ("UPDATE", 10, S.FILLED),
        ("COMPLETE", 10, S.FILLED),
        ("REJECTED", 0, S.REJECTED),
        ("CANCELLED", 0, S.CANCELLED),
        ("CANCELLED AMO", 0, S.CANCELLED),
        ("CANCEL", 4, S.CANCELLED),
    ],
)
def test_every_status_of_the_documentation_is_known_by_its_first_words(
    word: str, filled: int, expected: OrderStatus
) -> None:
    """FEATURES 18"""
    assert order_row(order(status=word, filled_quantity=filled)).order.status is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "GALACTIC"},
        {"status": "OPENISH"},
        {"status": ""},
        {"status": None},
        {"status": 5},
        {"status": "COMPLETE", "filled_quantity": 3},
        {"filled_quantity": 11},
        {"filled_quantity": -1},
        {"filled_quantity": None},
        {"quantity": 0},
        {"quantity": "NaN"},
        {"transaction_type": "HOLD"},
        {"order_id": None},
        {"order_timestamp": "yesterday"},
        {"product": None},
        {"tag": 5},
    ],
    ids=lambda fields: ",".join(f"{key}={value}" for key, value in fields.items()),
)
def test_an_order_that_cannot_be_read_whole_is_a_problem_that_names_it(fields: dict[str, Any]) -> None:
    """FEATURES 18: its status is not guessed, and the book keeps it as it was."""
    read = orders([order(**fields), order(order_id="7")])
    assert list(read.rows) == ["7"]
    assert read.problems[0].instrument == INFY
    assert read.problems[0].key == (None if "order_id" in fields else "2042130686722629633")


@pytest.mark.parametrize(
    ("pending", "cancelled", "filled"), [(1, 1, 9), (10, 10, 0), (0, 6, 4)], ids=["both 1", "both all", "apart"]
)
def test_pending_and_cancelled_are_never_summed(pending: int, cancelled: int, filled: int) -> None:
    row = order(status="CANCELLED", pending_quantity=pending, cancelled_quantity=cancelled, filled_quantity=filled)
    read = order_row(row).order
    assert (read.status, read.quantity, read.filled_quantity) == (S.CANCELLED, D(10), D(filled))


def test_a_complete_order_of_which_the_rest_was_cancelled_is_cancelled() -> None:
    read = order_row(order(status="COMPLETE", filled_quantity=4, cancelled_quantity=6)).order
    assert (read.status, read.filled_quantity) == (S.CANCELLED, D(4))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"validity": "IOC"}, S.EXPIRED),
        ({"validity": "IOC", "filled_quantity": 4}, S.EXPIRED),
        ({"validity": "TTL", "validity_ttl": 5, "exchange_update_timestamp": "2025-11-20 10:05:00"}, S.EXPIRED),
        ({"validity": "TTL", "validity_ttl": 5, "exchange_update_timestamp": "2025-11-20 10:04:00"}, S.CANCELLED),
        ({"validity": "TTL", "validity_ttl": None, "exchange_update_timestamp": "2025-11-20 10:05:00"}, S.CANCELLED),
        ({"exchange_update_timestamp": "2025-11-20 15:30:05"}, S.EXPIRED),
        ({"exchange_update_timestamp": "2025-11-20 15:29:00"}, S.CANCELLED),
        ({"exchange": "MCX", "exchange_update_timestamp": "2025-11-20 15:45:00"}, S.CANCELLED),
        ({"exchange": "MCX", "exchange_update_timestamp": "2025-11-20 23:31:00"}, S.EXPIRED),
        ({"exchange": "CDS", "exchange_update_timestamp": "2025-11-20 17:00:00"}, S.EXPIRED),
        (
            {"order_timestamp": "2025-11-20 16:00:00", "exchange_update_timestamp": "2025-11-20 16:30:00"},
            S.CANCELLED,
        ),
        ({"exchange_update_timestamp": None}, S.CANCELLED),
    ],
    ids=[
        "IOC",
        "IOC filled in part",
        "TTL is over",
        "TTL is not over",
        "TTL not told",
        "DAY at the close",
        "DAY before the close",
        "MCX goes on",
        "MCX closes",
        "currencies close",
        "placed after the close",
        "no time told",
    ],
)
def test_kite_has_no_word_for_expired_so_it_is_inferred(fields: dict[str, Any], expected: OrderStatus) -> None:
    """FEATURES 18"""
    assert order_row(order(status="CANCELLED", **fields)).order.status is expected


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({}, D("1500.5")),
        ({"order_type": "MARKET"}, None),
        ({"order_type": "SL", "trigger_price": D("1499")}, D("1500.5")),
        ({"order_type": "SL-M", "price": 0, "trigger_price": D("1499")}, D("1499")),
        ({"price": 0}, None),
    ],
    ids=["limit", "market", "stop-loss", "stop-loss market", "no price"],
)
def test_the_limit_price_is_the_price_the_order_works_at(fields: dict[str, Any], price: Decimal | None) -> None:
    assert order_row(order(**fields)).order.limit_price == price


def test_of_a_history_the_state_that_is_furthest_on_is_taken() -> None:
    states = [
        order(status="PUT ORDER REQ RECEIVED"),
        order(status="OPEN", filled_quantity=6, average_price=1),
        order(status="OPEN", filled_quantity=2, average_price=1),
    ]
    assert history(states, "2042130686722629633").order.filled_quantity == D(6)
    wrongs: list[object] = [[], None, {}, [order(order_id="7")], [order(), order(status="GALACTIC")]]
    for wrong in wrongs:
        with pytest.raises(BadRow):
            history(wrong, "2042130686722629633")


# -- trades and times ----------------------------------------------------------------------------------------------


def test_a_trade_is_a_fill_at_the_time_of_the_exchange_and_names_its_leg() -> None:
    assert fill_row(trade()) == Fill(
        instrument=INFY,
        fill_id="10000000",
        broker_order_id="200000000017717",
        side=Side.BUY,
        quantity=D(1),
        price=D("310.7"),
        time=datetime(2025, 11, 20, 3, 46, 39, tzinfo=UTC),
        leg="CNC",
    )
    assert fill_row(trade(fill_timestamp=None)).time.second == 40


@pytest.mark.parametrize(
    "fields",
    [
        {"trade_id": None},
        {"order_id": None},
        {"quantity": 0},
        {"quantity": -1},
        {"transaction_type": None},
        {"average_price": "NaN"},
        {"fill_timestamp": "09:16:39"},
        {"fill_timestamp": None, "exchange_timestamp": None},
        {"product": ""},
    ],
    ids=lambda fields: ",".join(f"{key}={value}" for key, value in fields.items()),
)
def test_a_trade_that_cannot_be_read_whole_is_a_problem(fields: dict[str, Any]) -> None:
    read = trades([trade(**fields), trade(trade_id="7")])
    assert (list(read.rows), len(read.problems)) == (["7"], 1)


def test_two_exchanges_may_use_the_same_trade_id() -> None:
    read = trades(
        [
            trade(order_id="9", fill_timestamp="2025-11-20 09:17:00", exchange="BSE"),
            trade(order_id="8", fill_timestamp="2025-11-20 09:16:00"),
            trade(order_id="8", fill_timestamp="2025-11-20 09:16:00"),
        ]
    )
    assert {fill_id: fill.instrument for fill_id, fill in read.rows.items()} == {
        "10000000": INFY,
        "10000000:9": "BSE:INFY",
    }
    assert [fill.fill_id for fill in read.rows.values()] == ["10000000", "10000000"], "an id stays its fill's"


@pytest.mark.parametrize(
    "value",
    ["", "09:16:39", "2025-11-20", "2025-13-01 00:00:00", "2025-11-20T09:16:39", None, 5, datetime(2025, 1, 1)],  # noqa: DTZ001 - what the SDK makes of a time
)
def test_a_time_that_cannot_be_read_is_refused(value: object) -> None:
    with pytest.raises(BadRow):
        moment(value)


def test_naive_times_are_ist() -> None:
    assert moment("2025-11-20 00:00:00") == datetime(2025, 11, 19, 18, 30, tzinfo=UTC)


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
    assert book.ended_overnight("1", None, TODAY) is None
    tomorrow = TODAY + timedelta(days=1)
    assert rows_of(book.take(Listing(), tomorrow, NOW + timedelta(days=1))) == ()
    ended = [book.ended_overnight("1", None, tomorrow), book.ended_overnight(None, "mine", tomorrow)]
    assert [found and found.status for found in ended] == [expected] * 2
    assert book.ended_overnight("2", None, tomorrow) is None


def test_a_list_that_is_emptied_in_the_morning_still_leaves_yesterdays_orders_expired() -> None:
    """After midnight the list shows yesterday's orders until some time in the morning."""
    book = Orderbook()
    tomorrow = TODAY + timedelta(days=1)
    for at in (NOW, NOW + timedelta(hours=20)):
        book.take(Listing({"1": row()}), tomorrow if at > NOW else TODAY, at)
    emptied = [book.take(Listing(), tomorrow, NOW + timedelta(hours=22, seconds=s)) for s in (0, DISBELIEVED_S)]
    assert [type(section) for section in emptied] == [Failed, Complete]
    found = book.ended_overnight("1", None, tomorrow)
    assert found is not None
    assert found.status is S.EXPIRED


# -- which fills were handed out -----------------------------------------------------------------------------------


def fill(number: int, second: int = 0) -> Fill:
    return Fill(INFY, str(number), "1", Side.BUY, D(1), D(1), NOW + timedelta(seconds=second), "MIS")


def at(second: int) -> int:
    return int((NOW + timedelta(seconds=second)).timestamp()) * 1000


def test_a_fill_is_handed_out_once_to_each_cursor_however_late_it_is_told() -> None:
    book = Tradebook()
    none, first = book.hand_out(Complete((fill(1), fill(2))), None, at(0))
    assert (none, first) == (Complete(), at(1) + OVERLAP_MS)
    late = Complete((fill(1), fill(2), fill(3, -3600)))
    told, second = book.hand_out(late, first, at(5))
    assert told == Complete((fill(3, -3600),))
    assert second is not None
    assert second > (first or 0)
    assert book.hand_out(late, second, at(6)) == (Complete(), second)
    assert book.hand_out(late, first, at(7)) == (told, second)


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
    """PEERS 1: an absence in a list that does not reach back is no absence, and the positions have to tell."""
    _, cursor = Tradebook().hand_out(Complete(()), None, at(0))
    book, now = Tradebook(), at(hours * 3600)
    assert (book.gap(Complete(listed), cursor, now) is not None) is lost
    _, following = book.hand_out(Complete(listed), cursor, now)
    assert book.gap(Complete(listed), following, now) is None


# -- positions against trades --------------------------------------------------------------------------------------


def net(bought: int | None, sold: int | None, held: int = 1) -> Listing[PositionRow]:
    told = None if bought is None else D(bought), None if sold is None else D(sold)
    return Listing({f"{INFY}/MIS": PositionRow(INFY, "MIS", Position(INFY, "MIS", D(held), D(1)), *told)})


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
        "a sale nobody told",
        "not told",
        "not told, and traded",
        "nothing",
        "no row of what was traded",
        "unreadable",
    ],
)
def test_what_a_position_traded_today_is_the_sum_of_its_trades(
    listing: Listing[PositionRow], count: int, agree: bool
) -> None:
    """PEERS 11"""
    told = Complete(tuple(fill(number) for number in range(count)))
    assert (clashes(listing, told) == frozenset()) is agree
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
