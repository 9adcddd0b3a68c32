"""OANDA objects become rows, or say why they cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from brokers.kit.foreign_row import BadAnswer, BadRow
from brokers.kit.scrubber import Scrubber
from brokers.model import Complete, Failed, OrderStatus, Partial, Position, Side, rows_of
from brokers.oanda.account import (
    KEPT_ENDED_ORDERS,
    Doubt,
    Reading,
    merge,
    read_details,
    with_rejections,
)
from brokers.oanda.decode import (
    Trade,
    fill_row,
    fills_of,
    moment,
    order_facts,
    order_row,
    position_rows,
    rejected_row,
)

D = Decimal
FLAT = {"units": "0"}
ACCOUNT = "101-1"


def position(instrument: str = "EUR_USD", long: object = FLAT, short: object = FLAT) -> dict[str, Any]:
    return {"instrument": instrument, "long": long, "short": short}


def held(units: str, price: str = "1.1") -> dict[str, str]:
    return {"units": units, "averagePrice": price}


def order(**fields: Any) -> dict[str, Any]:
    row = {
        "id": "9",
        "type": "LIMIT",
        "state": "PENDING",
        "instrument": "EUR_USD",
        "units": "-100",
        "price": "1.2",
        "createTime": "2016-10-25T21:07:21.065554321Z",
        "clientExtensions": {"id": "mine"},
    }
    return {key: value for key, value in {**row, **fields}.items() if value is not None}


def fill(**fields: Any) -> dict[str, Any]:
    row = {
        "id": "10",
        "type": "ORDER_FILL",
        "orderID": "9",
        "clientOrderID": "mine",
        "instrument": "EUR_USD",
        "units": "-100",
        "price": "9",
        "fullVWAP": "8",
        "time": "2016-10-25T21:07:22.5Z",
        "accountID": ACCOUNT,
    }
    return {key: value for key, value in {**row, **fields}.items() if value is not None}


def details(**fields: Any) -> dict[str, Any]:
    account = {"id": ACCOUNT, "positions": [], "orders": [], "trades": [], **fields}
    return {
        "account": {key: value for key, value in account.items() if value is not None},
        "lastTransactionID": "8",
    }


def changes(last: str = "10", **lists: Any) -> dict[str, Any]:
    names = (
        "ordersCreated ordersCancelled ordersFilled ordersTriggered tradesOpened tradesReduced tradesClosed positions"
    )
    empty: dict[str, Any] = {name: [] for name in [*names.split(), "transactions"]}
    return {"changes": {**empty, **lists}, "lastTransactionID": last}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-10-25T21:07:21.065554321Z", datetime(2016, 10, 25, 21, 7, 21, 65554, UTC)),
        ("2016-10-25T21:07:21Z", datetime(2016, 10, 25, 21, 7, 21, 0, UTC)),
        ("2016-10-25T23:07:21.5+02:00", datetime(2016, 10, 25, 21, 7, 21, 500000, UTC)),
        ("1477429641.065554321", datetime(2016, 10, 25, 21, 7, 21, 65554, UTC)),
        ("1477429641", datetime(2016, 10, 25, 21, 7, 21, 0, UTC)),
    ],
    ids=["nanoseconds", "seconds", "another zone", "unix nanoseconds", "unix seconds"],
)
def test_both_time_formats_are_read_as_aware_utc(text: str, expected: datetime) -> None:
    assert expected == moment(text)


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2016-13-01T00:00:00Z", "2016-10-25T21:07:21", "NaN", "999999999999", None, 5, 1.5]
)
def test_a_time_that_cannot_be_read_is_refused(value: object) -> None:
    with pytest.raises(BadRow):
        moment(value)


@pytest.mark.parametrize(
    ("row", "legs"),
    [
        (position(), ()),
        (position(long=held("100")), (Position("EUR_USD", "long", D(100), D("1.1")),)),
        (position(short=held("-20.5", "1.3")), (Position("EUR_USD", "short", D("-20.5"), D("1.3")),)),
        (
            position(long=held("1"), short=held("-2")),
            (Position("EUR_USD", "long", D(1), D("1.1")), Position("EUR_USD", "short", D(-2), D("1.1"))),
        ),
        (position(long={"units": 7, "averagePrice": D("1.1")}), (Position("EUR_USD", "long", D(7), D("1.1")),)),
    ],
    ids=["flat", "long", "short", "hedged", "exact JSON numbers"],
)
def test_a_position_has_a_leg_for_each_side_that_is_not_flat(row: object, legs: tuple[Position, ...]) -> None:
    assert ("EUR_USD", legs) == position_rows(row)


BAD_POSITIONS = {
    "no instrument": {"long": FLAT, "short": FLAT},
    "empty instrument": position(""),
    "no short side": {"instrument": "EUR_USD", "long": held("1")},
    "null side": position(long=None),
    "units are a word": position(long=held("abc")),
    "units are NaN": position(long=held("NaN")),
    "units are infinite": position(long=held("Infinity")),
    "units are a float": position(long={"units": 0.1, "averagePrice": "1"}),
    "units are true": position(long={"units": True, "averagePrice": "1"}),
    "a negative long": position(long=held("-1")),
    "a positive short": position(short=held("1")),
    "no average price": position(long={"units": "1"}),
    "digits of another script": position(long=held("١٢")),
    "a list": [1],
    "nothing": None,
}


@pytest.mark.parametrize("row", BAD_POSITIONS.values(), ids=BAD_POSITIONS.keys())
def test_an_unreadable_position_makes_its_section_partial_and_the_others_go_on(row: object) -> None:
    """PEERS 1"""
    payload = details(positions=[row, position("GBP_JPY", long=held("5", "190"))])
    section = read_details(payload, {}).position_section()
    assert isinstance(section, Partial)
    assert [("GBP_JPY", D(5))] == [(leg.instrument, leg.quantity) for leg in section.rows]
    assert len(section.problems) == 1


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"positions": None}, {"positions"}),
        ({"orders": None}, {"orders"}),
        ({"positions": {}}, {"positions"}),
        ({"openPositionCount": 1}, {"positions"}),
        ({"openTradeCount": 3}, {"positions"}),
        ({"openPositionCount": 2, "positions": [position(long=held("1"))]}, {"positions"}),
        (
            {
                "openPositionCount": 0,
                "openTradeCount": 0,
                "pendingOrderCount": 0,
                "positions": [position(long=held("1"))],
                "orders": [order()],
            },
            set(),
        ),
        ({"trades": [{"id": "3", "instrument": "EUR_USD", "currentUnits": "5"}]}, {"positions"}),
        (
            {
                "trades": [{"id": "3", "instrument": "EUR_USD", "currentUnits": "-5"}],
                "positions": [position(long=held("5"))],
            },
            {"positions"},
        ),
        ({"pendingOrderCount": 2, "orders": [order()]}, {"orders"}),
        ({"openPositionCount": 0, "openTradeCount": 0, "pendingOrderCount": 0}, set()),
        ({"openPositionCount": 1, "positions": [position(long=held("1"), short=held("-1"))]}, set()),
        ({"openPositionCount": 2, "positions": [position(long=held("1"), short=held("-1"))]}, set()),
    ],
    ids=[
        "no positions key",
        "no orders key",
        "positions are no list",
        "counted and not listed",
        "trades and no position",
        "more counted than listed",
        "listed and not counted",
        "a trade in an unlisted instrument",
        "a trade on a flat leg",
        "an order missing",
        "really empty",
        "a hedged instrument counted once",
        "a hedged instrument counted twice",
    ],
)
def test_an_answer_that_contradicts_itself_is_failed_and_never_empty(fields: dict[str, Any], failed: set[str]) -> None:
    """PEERS 1"""
    reading = read_details(details(**fields), {})
    assert ("positions" in failed) is isinstance(reading.position_section(), Failed)
    assert ("orders" in failed) is isinstance(reading.order_section(), Failed)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"account": []},
        {"account": {"id": "x"}},
        {**details(), "lastTransactionID": "-1"},
        details(lastTransactionID="7"),
    ],
    ids=["no account", "account is a list", "no moment", "a moment that is none", "two moments"],
)
def test_details_without_an_account_or_a_moment_are_no_answer(payload: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer):
        read_details(payload, {})


@pytest.mark.parametrize(
    ("row", "status", "filled"),
    [
        (order(), OrderStatus.OPEN, 0),
        (order(state="TRIGGERED"), OrderStatus.PENDING_SUBMIT, 0),
        (order(state="FILLED"), OrderStatus.FILLED, 100),
        (order(state="CANCELLED"), OrderStatus.CANCELLED, 0),
    ],
    ids=lambda value: str(value.get("state")) if isinstance(value, dict) else str(value),
)
def test_order_states_map_as_documented(row: dict[str, Any], status: OrderStatus, filled: int) -> None:
    read = order_row(order_facts(row), None)
    assert (status, D(filled)) == (read.status, read.filled_quantity)
    assert (Side.SELL, D(100), "mine", D("1.2")) == (read.side, read.quantity, read.client_order_id, read.limit_price)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("CLIENT_REQUEST", OrderStatus.CANCELLED),
        ("LINKED_TRADE_CLOSED", OrderStatus.CANCELLED),
        ("CLIENT_REQUEST_REPLACED", OrderStatus.CANCELLED),
        ("TIME_IN_FORCE_EXPIRED", OrderStatus.EXPIRED),
        ("INSUFFICIENT_MARGIN", OrderStatus.REJECTED),
        ("BOUNDS_VIOLATION", OrderStatus.REJECTED),
        ("MARKET_HALTED", OrderStatus.REJECTED),
        ("STOP_LOSS_ON_FILL_LOSS", OrderStatus.REJECTED),
    ],
)
def test_the_reason_of_a_cancellation_decides_the_status(reason: str, status: OrderStatus) -> None:
    cancel = {"reason": reason, "replacedByOrderID": "12"}
    read = order_row(order_facts(order(state="CANCELLED")), None, None, cancel)
    assert (status, reason, "12") == (read.status, read.reason, read.replaced_by)


@pytest.mark.parametrize(
    ("mode", "hedging", "leg"),
    [
        ("DEFAULT", True, "short"),
        ("DEFAULT", False, None),
        ("OPEN_ONLY", False, "short"),
        ("REDUCE_ONLY", True, "long"),
        ("REDUCE_FIRST", True, None),
        (None, True, None),
    ],
)
def test_how_an_order_fills_decides_on_which_leg_it_works(mode: str | None, hedging: bool, leg: str | None) -> None:
    facts = order_facts(order(positionFill=mode, units="-100"), hedging=hedging)
    assert order_row(facts, None).leg == leg


def test_a_partly_filled_order_is_cancelled_with_what_was_filled() -> None:
    """FEATURES 5"""
    read = order_row(order_facts(order(state="FILLED")), None, fill_row(fill(units="-40")))
    assert (OrderStatus.CANCELLED, D(100), D(40), D(8)) == (
        read.status,
        read.quantity,
        read.filled_quantity,
        read.average_fill_price,
    )


def test_a_dependent_order_works_on_the_whole_of_its_trade() -> None:
    row = order(type="STOP_LOSS", tradeID="3", units=None, instrument=None)
    read = order_row(order_facts(row), Trade("3", "GBP_JPY", D(30), D(50)))
    assert ("GBP_JPY", Side.SELL, D(30), "long") == (read.instrument, read.side, read.quantity, read.leg)


BAD_ORDERS = {
    "no id": order(id=None),
    "unknown state": order(state="LIMBO"),
    "no state": order(state=None),
    "no instrument": order(instrument=None),
    "no units": order(units=None),
    "units of 0": order(units="0"),
    "units are a word": order(units="abc"),
    "depends on an unknown trade": order(tradeID="77", units=None, instrument=None),
    "nothing": None,
}


@pytest.mark.parametrize("row", BAD_ORDERS.values(), ids=BAD_ORDERS.keys())
def test_an_unreadable_order_makes_its_section_partial_and_the_others_go_on(row: object) -> None:
    section = read_details(details(orders=[row, order(id="11")]), {}).order_section()
    assert isinstance(section, Partial)
    assert [read.broker_order_id for read in section.rows] == ["11"]
    assert len(section.problems) == 1


OPENED = {"tradeID": "10", "units": "-60", "price": "1.10"}
REDUCED = {"tradeID": "2", "units": "-40", "price": "1.20"}


@pytest.mark.parametrize(
    ("row", "price", "leg"),
    [
        (fill(tradeOpened={**OPENED, "units": "-100"}), "1.10", "short"),
        (fill(tradeReduced={**REDUCED, "units": "-100"}), "1.20", "long"),
        (fill(tradesClosed=[REDUCED, {**OPENED, "tradeID": "3"}]), "1.14", "long"),
        (fill(tradeOpened=OPENED, tradesClosed=[REDUCED]), "1.14", None),
        (fill(tradeOpened=OPENED), "8", "short"),
        (fill(tradeOpened={"tradeID": "10", "units": "-100"}), "8", "short"),
        (fill(fullVWAP=None), "9", None),
    ],
    ids=["opened", "reduced", "closed two", "over zero", "parts missing", "part without a price", "only the old price"],
)
def test_a_fill_has_the_price_and_the_leg_of_the_trades_it_touched(row: object, price: str, leg: str | None) -> None:
    assert isinstance(row, dict)
    read = fill_row(row)
    assert (D(price), leg) == (read.price, leg if leg is None else read.leg)
    assert (Side.SELL, D(100), "10", "9", "mine") == (
        read.side,
        read.quantity,
        read.fill_id,
        read.broker_order_id,
        read.client_order_id,
    )
    assert leg == read.leg


def test_an_unreadable_fill_is_asked_for_again() -> None:
    rows = [fill(id="9"), fill(id="10", units="abc"), fill(id="11"), {"id": "12", "type": "DAILY_FINANCING"}]
    read = fills_of(rows, since=8, last=12)
    assert ([row.fill_id for row in read.rows], len(read.problems), read.cursor) == (["9", "11"], 1, 9)


def test_fills_outside_the_asked_range_and_repeated_ones_are_left_out() -> None:
    rows = [fill(id="12"), fill(id="9"), fill(id="9"), fill(id="8"), fill(id="13")]
    read = fills_of(rows, since=8, last=12)
    assert ([row.fill_id for row in read.rows], read.cursor) == (["9", "12"], 12)


def test_a_rejecting_transaction_is_a_rejected_order() -> None:
    row = {**fill(type="LIMIT_ORDER_REJECT", rejectReason="UNITS_INVALID"), "clientExtensions": {"id": "mine"}}
    read = rejected_row(row)
    assert (
        read.status,
        read.broker_order_id,
        read.client_order_id,
        read.order_type,
        read.reason,
    ) == (OrderStatus.REJECTED, "10", "mine", "LIMIT", "UNITS_INVALID")


@pytest.mark.parametrize(
    ("fields", "client_order_id"),
    [
        ({"clientExtensions": {"id": "mine"}}, "mine"),
        ({"clientOrderID": "mine"}, "mine"),
        ({"clientExtensions": {"id": "mine"}, "rejectReason": "CLIENT_ORDER_ID_ALREADY_EXISTS"}, None),
        ({"clientExtensions": {"id": "mine"}, "intendedReplacesOrderID": "9"}, None),
    ],
    ids=["extensions", "client order id", "the id is another order's", "a replacement of an order"],
)
def test_a_rejection_names_the_client_order_it_ended_and_no_other(
    fields: dict[str, Any], client_order_id: str | None
) -> None:
    """The order whose name was taken, or that was to be replaced, goes on."""
    row = {**fill(type="MARKET_ORDER_REJECT", rejectReason="UNITS_INVALID", clientOrderID=None), **fields}
    assert rejected_row(row).client_order_id == client_order_id


@pytest.mark.parametrize("again", [None, "other", "mine"], ids=["alone", "another's", "sent again"])
def test_rejections_are_learned_from_transactions_that_brought_no_changes(again: str | None) -> None:
    """FEATURES 5: a name that was used for an order that lives is not reported as rejected."""
    rejection = {**fill(type="LIMIT_ORDER_REJECT"), "clientExtensions": {"id": "mine"}}
    created = {"id": "11", "type": "LIMIT_ORDER", "clientExtensions": {"id": again}}
    rows: list[object] = [5, {"type": "LIMIT_ORDER_REJECT", "units": "x"}, rejection, *([created] if again else [])]
    (row,) = rows_of(with_rejections(read_details(details(), {}), rows).order_section())
    assert (row.broker_order_id, row.status) == ("10", OrderStatus.REJECTED)
    assert row.client_order_id == (None if again == "mine" else "mine")


def test_a_rejection_does_not_name_an_order_that_is_pending_under_that_name() -> None:
    rejection = {**fill(type="LIMIT_ORDER_REJECT"), "clientExtensions": {"id": "mine"}}
    reading = with_rejections(read_details(details(orders=[order()]), {}), [rejection])
    shown = {row.broker_order_id: row.client_order_id for row in rows_of(reading.order_section())}
    assert shown == {"9": "mine", "10": None}


def test_rejections_are_kept_within_bounds() -> None:
    rows = [fill(id=str(number), type="LIMIT_ORDER_REJECT") for number in range(1, 2000)]
    kept = with_rejections(read_details(details(), {}), rows).ended
    assert (len(kept), "1999" in kept) == (KEPT_ENDED_ORDERS, True)


def known() -> Reading:
    return read_details(details(orders=[order(id="5")], positions=[position("GBP_JPY", long=held("5"))]), {})


CREATED = fill(id="9", type="LIMIT_ORDER")
FILLED = order(id="9", state="FILLED", fillingTransactionID="10")
GOOD: dict[str, Any] = {
    "transactions": [CREATED, fill(id="10")],
    "ordersCreated": [order(id="9")],
    "ordersFilled": [FILLED],
    "positions": [position(short=held("-100"))],
    "tradesOpened": [{"id": "10", "instrument": "EUR_USD", "currentUnits": "-100", "initialUnits": "-100"}],
}


def test_changes_are_merged_into_what_is_known() -> None:
    merged = merge(known(), changes(**GOOD), ACCOUNT).reading
    section = merged.position_section()
    assert isinstance(section, Complete)
    assert {("GBP_JPY", D(5)), ("EUR_USD", D(-100))} == {(leg.instrument, leg.quantity) for leg in section.rows}
    assert {row.broker_order_id: row.status for row in rows_of(merged.order_section())} == {
        "5": OrderStatus.OPEN,
        "9": OrderStatus.FILLED,
    }


DOUBTS = {
    "no lastTransactionID": {"changes": changes(**GOOD)["changes"]},
    "no changes": {"lastTransactionID": "10"},
    "going backwards": changes("7"),
    "a gap": changes(**{**GOOD, "transactions": [fill(id="10")]}),
    "the end missing": changes("11", **GOOD),
    "rows lost": changes(),
    "a transaction twice": changes(**{**GOOD, "transactions": [CREATED, CREATED, fill(id="10")]}),
    "no list of positions": {
        **changes(**GOOD),
        "changes": {k: v for k, v in changes(**GOOD)["changes"].items() if k != "positions"},
    },
    "a fill without its position": changes(**{**GOOD, "positions": []}),
    "a fill without its order": changes(**{**GOOD, "ordersFilled": []}),
    "an order without its creation": changes("9", transactions=[CREATED]),
    "an end without its transaction": changes("8", ordersCancelled=[order(id="5", state="CANCELLED")]),
    "an unreadable position": changes(**{**GOOD, "positions": [position(long=held("abc"))]}),
    "an unreadable order": changes(**{**GOOD, "ordersFilled": [{**FILLED, "units": "abc"}]}),
    "an unreadable fill": changes(**{**GOOD, "transactions": [CREATED, fill(id="10", units="abc")]}),
    "filled and still pending": changes(**{**GOOD, "ordersFilled": [order(id="9")]}),
    "another account": changes(**{**GOOD, "transactions": [CREATED, fill(id="10", accountID="101-2")]}),
    "a kind that no list shows": changes("9", transactions=[fill(id="9", type="ORDER_CLIENT_EXTENSIONS_MODIFY")]),
    "a kind nobody knows": changes("9", transactions=[fill(id="9", type="WHATEVER")]),
}


@pytest.mark.parametrize("payload", DOUBTS.values(), ids=DOUBTS.keys())
def test_changes_in_any_doubt_are_not_merged(payload: dict[str, Any]) -> None:
    """PEERS 1"""
    before = known()
    with pytest.raises(Doubt):
        merge(before, payload, ACCOUNT)
    assert known() == before


@pytest.mark.parametrize(
    ("secret", "said"),
    [("tok/en-123", '{"a": "tok\\/en-123"}'), ("tok/en-123", "tok/en-123"), ('q"uote-1', '"q\\"uote-1"')],
)
def test_secrets_are_masked_however_json_writes_them(secret: str, said: str) -> None:
    scrubber = Scrubber([secret])
    assert "en-123" not in scrubber.text(said)
    assert b"uote-1" not in scrubber.body(said.encode())
    assert secret not in repr(scrubber)


def test_a_secret_too_short_to_be_one_leaves_the_data_alone() -> None:
    assert Scrubber(["1", ""]).text("100.1") == "100.1"
