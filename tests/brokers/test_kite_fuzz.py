"""Whatever Kite may send: nothing but the declared errors comes out, and one bad row never hides the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.kit.foreign_row import BadAnswer, BadRow
from brokers.kite import decode, gtts
from brokers.kite.decode import Listing
from brokers.kite.portfolio import Names, portfolio
from brokers.kite.slices import wholes
from tests.brokers import kite_rows as rows
from tests.brokers.mutations import EXAMPLES, mutations, read_or_refused

POSITIONS = [
    rows.position(),
    rows.position(product="CNC", quantity=-3),
    rows.position(tradingsymbol="TCS", exchange="BSE"),
]
HOLDING: dict[str, Any] = {
    "tradingsymbol": "INFY",
    "exchange": "NSE",
    "isin": "INE009A01021",
    "quantity": 5,
    "t1_quantity": 1,
    "collateral_quantity": 2,
    "used_quantity": 1,
    "opening_quantity": 6,
    "average_price": 1400,
    "mtf": {"quantity": 2, "used_quantity": 0, "average_price": 1300},
}
HOLDINGS = [HOLDING, {**HOLDING, "tradingsymbol": "TCS", "used_quantity": 0, "mtf": None}]
ORDERS = [
    rows.order(),
    rows.order(order_id="2", status="COMPLETE", filled_quantity=10, average_price=1500, tag=None),
    rows.order(order_id="3", variety="iceberg", parent_order_id="2", meta={"iceberg": {"total_quantity": 30}}),
    rows.order(order_id="4", variety="amo", status="AMO REQ RECEIVED", exchange_timestamp=None),
    rows.order(order_id="5", validity="TTL", validity_ttl=5, status="CANCELLED"),
    rows.order(order_id="6", tags=["autoslice", "autoslice:5"], order_type="SL-M", trigger_price=1400),
]
TRADES = [rows.trade(), rows.trade(trade_id="2", transaction_type="SELL"), rows.trade(trade_id=3, tradingsymbol="TCS")]
TRIGGER = {
    "id": 7,
    "status": "triggered",
    "orders": [
        {
            "tradingsymbol": "INFY",
            "exchange": "NSE",
            "transaction_type": "SELL",
            "quantity": 2,
            "price": 1600,
            "order_type": "LIMIT",
            "product": "CNC",
            "result": {"order_result": {"order_id": "9"}},
        }
    ],
}
LISTS: dict[str, tuple[Callable[[Any], Listing[Any]], Any, tuple[Any, ...]]] = {
    "positions": (decode.positions, {"net": POSITIONS, "day": []}, ("net",)),
    "holdings": (decode.holdings, HOLDINGS, ()),
    "orders": (decode.orders, ORDERS, ()),
    "trades": (decode.trades, TRADES, ()),
}


@pytest.mark.parametrize("kind", LISTS)
def test_what_is_changed_here_is_read_whole(kind: str) -> None:
    read, payload, _ = LISTS[kind]
    assert read(payload).problems == ()


def _has_rows(given: Any) -> bool:
    """Whether an answer has rows in it: then "nothing" is no reading of it."""
    rows = given.get("net") if isinstance(given, dict) else given
    return bool(rows)


@pytest.mark.parametrize("kind", LISTS)
@EXAMPLES
@given(data=st.data())
def test_a_list_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    read, payload, _ = LISTS[kind]
    given = data.draw(mutations({"it": payload})).get("it")
    found = read_or_refused(read, given, BadAnswer)
    assert found if isinstance(found, str) else found.rows or found.problems or not _has_rows(given)


@pytest.mark.parametrize("kind", LISTS)
@EXAMPLES
@given(data=st.data())
def test_one_bad_row_hides_no_other(kind: str, data: st.DataObject) -> None:
    """Each row beside it is there, or a problem names it, or what it would be reported with."""
    read, payload, at = LISTS[kind]
    whole = payload["net"] if at else payload
    place = data.draw(st.integers(0, len(whole) - 1))
    mutated = data.draw(mutations(payload, (*at, place)))
    found, good = read(mutated), read(payload)
    other = copy.deepcopy(whole)
    del other[place]
    beside = read({**payload, "net": other} if at else other).rows
    named = {name for problem in found.problems for name in (problem.instrument, problem.key)}
    assert len(found.rows) + len(found.problems) >= len(good.rows) - 1
    for key, row in beside.items():
        names = {key, getattr(row, "instrument", None), key.partition(":")[0], key.partition("/")[0]}
        assert row in found.rows.values() or names & named, f"{key} is gone"


@EXAMPLES
@given(data=st.data())
def test_a_history_and_a_trigger_are_read_or_cannot_be(data: st.DataObject) -> None:
    history, trigger, placed = (
        data.draw(mutations({"it": payload})).get("it") for payload in (ORDERS[:1], TRIGGER, [TRIGGER, TRIGGER])
    )
    assert read_or_refused(lambda given: decode.history(given, ORDERS[0]["order_id"]), history, BadRow) != ""
    assert read_or_refused(gtts.trigger_row, trigger, BadRow) != ""
    assert read_or_refused(gtts.placed_by, placed, BadAnswer) != ""


@EXAMPLES
@given(data=st.data())
def test_whatever_was_read_can_be_put_together(data: st.DataObject) -> None:
    def read(kind: str) -> Listing[Any]:
        made, payload, at = LISTS[kind]
        place = data.draw(st.integers(0, 1))
        return made(data.draw(mutations(payload, (*at, place))))

    trades = read("trades")
    orders = read("orders").rows
    assert len([*wholes(orders.values())]) <= len(orders)
    made = portfolio(read("positions"), read("holdings"), Names(), None if trades.problems else trades.rows.values())
    assert len({(row.instrument, row.leg) for row in made.rows}) == len(made.rows)  # each leg stands once


TABLES = st.text(max_size=200).map(lambda text: b"exchange,tradingsymbol\n" + text.encode(errors="replace"))


@EXAMPLES
@given(st.binary(max_size=200) | TABLES)
def test_a_table_of_instruments_is_read_or_refused(table: bytes) -> None:
    assert read_or_refused(decode.instruments, table, BadAnswer) != ""


@pytest.mark.parametrize("ttl", [99999999999, -5, 10**19])
@pytest.mark.parametrize("status", ["OPEN", "CANCELLED"])
def test_a_time_to_live_beyond_its_day_is_a_row_that_cannot_be_read(ttl: int, status: str) -> None:
    found = decode.orders([rows.order(validity="TTL", validity_ttl=ttl, status=status), rows.order(order_id="2")])
    assert [*found.rows] == ["2"]
    assert "validity_ttl is out of range" in found.problems[0].text


@pytest.mark.parametrize("time", ["0001-01-01 00:00:00", "9999-12-31 23:59:59", "1970-01-01 05:30:00"])
def test_a_time_in_which_nobody_can_have_traded_is_none(time: str) -> None:
    found = decode.orders([rows.order(order_timestamp=time), rows.order(order_id="2")])
    assert [*found.rows] == ["2"]
    assert decode.trades([rows.trade(fill_timestamp=time)]).problems
