"""Whatever OANDA may send: nothing but the declared errors comes out, and one bad row never hides the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from brokers.kit.foreign_row import MOST_DIGITS, BadAnswer, BadRow, mapping, read_json
from brokers.model import Failed, Order, SectionName, Side, problems_of, rows_of
from brokers.oanda import decode
from brokers.oanda.account import Doubt, merge, read_details, with_rejections
from brokers.oanda.stream import execution, wakes
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.mutations import EXAMPLES, changed, mutations, paths

ID, TOKEN = "101-001-1-001", "secret"


@cache
def payloads() -> dict[str, Any]:
    """What the simulator answers for an account that has something of everything, before and after it traded."""
    sim = OandaSimulator(ID, TOKEN, instruments=("EUR_USD", "GBP_JPY", "USD_CHF"))
    url = sim.start()

    def get(path: str) -> Any:
        asked = requests.get(f"{url}/v3/accounts/{ID}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
        return read_json(asked.content)

    try:
        sim.trade("EUR_USD", Side.BUY, Decimal(100), "c1")
        sim.trade("GBP_JPY", Side.SELL, Decimal(50), "c2")
        sim.place_dependent("EUR_USD", "long", "STOP_LOSS", Decimal(1))
        sim.place_limit("USD_CHF", Side.BUY, Decimal(70), Decimal("0.8"), "c3")
        sim.place_limit("EUR_USD", Side.SELL, Decimal(30), Decimal("1.9"), "c4")
        before = get("")
        last = before["lastTransactionID"]
        order = sim.place_limit("USD_CHF", Side.SELL, Decimal(10), Decimal("0.9"), "c5")
        sim.fill_order(order)
        sim.trade("EUR_USD", Side.SELL, Decimal(40), "c6")
        sim.end_order(sim.place_limit("GBP_JPY", Side.BUY, Decimal(5), Decimal(100), "c7"))
        sim.reject("EUR_USD", Side.BUY, Decimal(1), "c8")
        return {
            "details": before,
            "changes": get(f"/changes?sinceTransactionID={last}"),
            "transactions": get("/transactions/sinceid?id=1")["transactions"],
        }
    finally:
        sim.close()


def rows(payload: Any, *path: str) -> list[Any]:
    """The list that lies there, empty where there is none."""
    for step in path:
        payload = payload.get(step) if isinstance(payload, dict) else None
    return payload if isinstance(payload, list) else []


ROWS: dict[str, tuple[Callable[[Any], object], Callable[[], list[Any]]]] = {
    "a position": (decode.position_rows, lambda: rows(payloads()["details"], "account", "positions")),
    "a trade": (decode.trade, lambda: rows(payloads()["details"], "account", "trades")),
    "an order": (
        lambda row: decode.order_row(decode.order_facts(row), decode.Trade("1", "EUR_USD", Decimal(1), Decimal(1))),
        lambda: rows(payloads()["details"], "account", "orders"),
    ),
    "a fill": (
        lambda row: decode.fill_row(mapping(row, "it")),
        lambda: [one for one in payloads()["transactions"] if one["type"] == "ORDER_FILL"],
    ),
    "a rejection": (
        lambda row: decode.rejected_row(mapping(row, "it")),
        lambda: [one for one in payloads()["transactions"] if one["type"].endswith("_REJECT")],
    ),
    "a client's name": (lambda row: decode.named_by_client(mapping(row, "it")), lambda: payloads()["transactions"]),
}


@pytest.mark.parametrize("kind", ROWS)
@EXAMPLES
@given(data=st.data())
def test_a_row_is_read_or_says_why_not(kind: str, data: st.DataObject) -> None:
    read, found = ROWS[kind]
    assert found(), "the simulator shows one"
    row = data.draw(mutations({"row": data.draw(st.sampled_from(found()))}))
    with contextlib.suppress(BadRow):
        read(row.get("row"))


@EXAMPLES
@given(data=st.data())
def test_details_are_read_refused_or_their_sections_say_why_not(data: st.DataObject) -> None:
    details = data.draw(mutations(payloads()["details"]))
    try:
        reading = read_details(details, {})
    except BadAnswer:
        return
    for section in (reading.position_section(), reading.order_section()):
        assert isinstance(section, Failed) or all(rows_of(section)) is not None
    assert isinstance(details["account"].get("positions"), list) or isinstance(reading.position_section(), Failed)


@pytest.mark.parametrize(("listed", "section"), [("positions", SectionName.POSITIONS), ("orders", SectionName.ORDERS)])
@EXAMPLES
@given(data=st.data())
def test_one_bad_row_hides_no_other(listed: str, section: SectionName, data: st.DataObject) -> None:
    """The rows beside it are there, or it is said that they are not known."""
    whole = payloads()["details"]
    place = data.draw(st.integers(0, len(whole["account"][listed]) - 1))
    details = data.draw(mutations(whole, ("account", listed, place)))
    good, spoiled = read_details(whole, {}), read_details(details, {})
    before, found = (
        one.position_section() if section is SectionName.POSITIONS else one.order_section() for one in (good, spoiled)
    )
    if isinstance(found, Failed):
        return
    concerned = whole["account"][listed][place]
    named = {name for problem in problems_of(found) for name in (problem.instrument, problem.key)}
    for row in rows_of(before):
        name = row.broker_order_id if isinstance(row, Order) else row.instrument
        its_own = concerned.get("instrument" if listed == "positions" else "id") == name
        assert its_own or row in rows_of(found) or {name, row.instrument} & named, f"{row} is gone"


@EXAMPLES
@given(data=st.data())
def test_changes_are_merged_whole_or_doubted(data: st.DataObject) -> None:
    known = read_details(payloads()["details"], {})
    answer = data.draw(mutations(payloads()["changes"]))
    with contextlib.suppress(Doubt):
        merged = merge(known, answer, ID)
        assert merged.reading.last - known.last == len(merged.transactions)


@EXAMPLES
@given(data=st.data())
def test_of_transactions_each_is_read_or_keeps_the_cursor_before_it(data: st.DataObject) -> None:
    transactions = (
        data.draw(mutations({"rows": payloads()["transactions"]})).get("rows", [])
        if data.draw(st.booleans())
        else [
            data.draw(mutations({"row": one})).get("row") if data.draw(st.booleans()) else one
            for one in payloads()["transactions"]
        ]
    )
    listed = transactions if isinstance(transactions, list) else [transactions]
    last = len(payloads()["transactions"]) + 5
    found = decode.fills_of(listed, since=1, last=last)
    assert found.cursor <= last
    assert not found.problems or found.cursor < last
    with_rejections(read_details(payloads()["details"], {}), listed)


@pytest.mark.parametrize("how", [Decimal("1E+999999999"), "1E999", 10**25, "9" * 5_000], ids=str)
@pytest.mark.parametrize("key", ["id", "units", "currentUnits", "price", "averagePrice"])
def test_what_is_too_large_is_a_row_that_cannot_be_read(key: str, how: Any) -> None:
    """It would not fit into a calculation, or fill the memory when it is written out."""
    whole = payloads()["details"]
    for path in [one for one in paths(whole) if one[-1:] == (key,) and one[1:2] != ("id",)]:
        reading = read_details(changed(whole, path, how), {})
        for section in (reading.position_section(), reading.order_section()):
            for row in rows_of(section):
                numbers = (row.quantity, getattr(row, "average_price", None), getattr(row, "limit_price", None))
                assert all(one is None or abs(one.adjusted()) <= MOST_DIGITS for one in numbers)


@EXAMPLES
@given(data=st.data(), newest=st.none() | st.integers(0, 30))
def test_whatever_a_line_of_the_stream_is_it_wakes_somebody_and_never_raises(
    data: st.DataObject, newest: int | None
) -> None:
    row = data.draw(mutations({"line": data.draw(st.sampled_from(payloads()["transactions"]))})).get("line")
    created = {one["id"]: one for one in payloads()["transactions"] if one["type"].endswith("_ORDER")}
    woken, after = wakes(row, newest, ID)
    assert woken or (isinstance(row, dict) and after is not None)
    streamed = execution(row, created, ID)
    assert streamed is None or streamed.fill.quantity > 0
