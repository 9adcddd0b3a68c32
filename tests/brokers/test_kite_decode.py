"""Kite Connect's objects become rows, or say why they cannot; what the day has shown is remembered."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from brokers.clocks import broker_time
from brokers.kit.foreign_row import BadAnswer, BadRow
from brokers.kite.decode import (
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
from brokers.model import Fill, OrderStatus, Position, SectionName, Side
from tests.brokers.kite_rows import INFY, D, S, order, position, trade

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


def test_a_row_listed_twice_is_read_once_if_both_agree_and_not_at_all_if_they_differ() -> None:
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
        ({"exchange": "MCX", "exchange_update_timestamp": "2025-11-20 23:54:00"}, S.CANCELLED),
        ({"exchange": "MCX", "exchange_update_timestamp": "2025-11-20 23:55:10"}, S.EXPIRED),
        (
            {
                "exchange": "MCX",
                "order_timestamp": "2025-08-20 16:00:00",
                "exchange_update_timestamp": "2025-08-20 23:31:00",
            },
            S.EXPIRED,
        ),
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
        "TTL not given",
        "DAY at the close",
        "DAY before the close",
        "MCX goes on",
        "MCX goes on in winter",
        "MCX closes in winter",
        "MCX closes in summer",
        "currencies close",
        "placed after the close",
        "no time given",
    ],
)
def test_kite_has_no_word_for_expired_so_it_is_inferred(fields: dict[str, Any], expected: OrderStatus) -> None:
    """FEATURES 18"""
    assert order_row(order(status="CANCELLED", **fields)).order.status is expected


@pytest.mark.parametrize("word", ["CANCEL AMO REQ RECEIVED", "CANCEL REQUEST RECEIVED", "CANCEL VALIDATION PENDING"])
def test_a_cancellation_that_is_only_requested_ends_no_order(word: str) -> None:
    """Until it is done the order may be filled. Once all of its rest counts as cancelled it has ended, whatever it is
    called."""
    assert order_row(order(status=word)).order.status is S.PENDING_CANCEL
    assert order_row(order(status=word, filled_quantity=4, average_price=1)).order.status is S.PENDING_CANCEL
    assert order_row(order(status=word, cancelled_quantity=10)).order.status is S.CANCELLED


def test_an_order_for_the_next_session_that_is_modified_still_waits_for_it() -> None:
    """It counted as working since it was placed: a STALE_ORDER in the night."""
    row = order(status="MODIFY AMO REQ RECEIVED", variety="amo", exchange_timestamp=None)
    read = order_row(row).order
    assert (read.status, read.waits_for_open) == (S.PENDING_SUBMIT, True)


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


@pytest.mark.parametrize(
    ("fields", "trigger"),
    [
        ({}, None),
        ({"order_type": "SL", "trigger_price": D("1499")}, D("1499")),
        ({"order_type": "SL", "trigger_price": 0}, None),
        ({"order_type": "SL-M", "price": 0, "trigger_price": D("1499")}, None),
    ],
    ids=["limit", "stop-loss", "none shown", "stop-loss market, whose price it is"],
)
def test_the_trigger_of_a_stop_loss_order_is_shown_beside_its_price(
    fields: dict[str, Any], trigger: Decimal | None
) -> None:
    """Kite Connect documentation, modifying orders: ``trigger_price`` and ``price`` are modified one without the
    other."""
    assert order_row(order(**fields)).order.trigger_price == trigger


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
        time=broker_time(datetime(2025, 11, 20, 3, 46, 39, tzinfo=UTC)),
        leg="CNC",
    )
    assert fill_row(trade(fill_timestamp=None)).time == broker_time(datetime(2025, 11, 20, 3, 46, 40, tzinfo=UTC))


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
