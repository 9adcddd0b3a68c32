"""TWS's rows as the model's: the text of each field, the map of statuses, the names of contracts, the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from brokers.ib import decode, rows, wire
from brokers.ib.contracts import Names
from brokers.ib.executions import Listing, began_before_today
from brokers.ib.row_decoder import Ending, Heard
from brokers.ib.rows import Read, Scope
from brokers.ib.wire import Contract, Execution, Notice
from brokers.kit.fill_cursor import FillCursor
from brokers.kit.foreign_row import BadRow
from brokers.model import (
    Complete,
    Corrected,
    Failed,
    Fill,
    Order,
    OrderStatus,
    Partial,
    Position,
    Section,
    Side,
    problems_of,
    rows_of,
)
from brokers.simulators import ib_wire
from brokers.simulators.ib_wire import ExecutionRow, OrderRow, SimContract, contract_named

D = Decimal
SCOPE = Scope("DU1", None, frozenset({"DU2"}))
LATEST = datetime(2026, 1, 6, tzinfo=UTC)
STOCK = contract_named("AAPL")
FUTURE = contract_named("ESZ6")
OPTION = contract_named("AAPL  261218C00200000")


def heard(row: Sequence[str], trouble: str | None = None, ending: Ending | None = None) -> Heard:
    return Heard(int(row[0]), tuple(row), trouble, ending)


def named(*reads: Read[wire.Holding] | Read[Execution], names: Names | None = None) -> Names:
    made = names or Names()
    made.learn(decode.contracts(*reads))
    return made


def positions_of(*lines: Sequence[str], scope: Scope = SCOPE, names: Names | None = None) -> Section[Position]:
    read = rows.holdings([heard(line) for line in lines], scope)
    return decode.positions(read, named(read, names=names))


def held(contract: SimContract, quantity: str, cost: str, account: str = "DU1") -> list[str]:
    return ["61", "3", account, *contract.fields(), quantity, cost]


# -- positions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (held(STOCK, "10", "101.25"), Position("AAPL", "net", D(10), D("101.25"))),
        (held(STOCK, "-0.5", "1.0E-4"), Position("AAPL", "net", D("-0.5"), D("0.00010"))),
        (held(FUTURE, "-2", "315114.75"), Position("ESZ6", "net", D(-2), D("6302.295"))),
        (held(OPTION, "3", "512.3"), Position("AAPL  261218C00200000", "net", D(3), D("5.123"))),
        (held(contract_named("EUR.USD"), "25000", "1.0843"), Position("EUR.USD", "net", D(25000), D("1.0843"))),
    ],
    ids=["stock", "short fraction", "future", "option", "currency pair"],
)
def test_a_position_is_named_signed_and_free_of_its_multiplier(line: list[str], expected: Position) -> None:
    assert positions_of(line) == Complete((expected,))


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (held(STOCK, "0", "0"), False),
        (held(STOCK, "5", "1", account="DU2"), False),
        (held(OPTION, "5", "100"), True),
        (held(FUTURE, "5", "100"), False),
    ],
    ids=["zero", "another account", "a type looked after", "a type not looked after"],
)
def test_rows_that_are_not_wanted_leave_the_section_complete(line: list[str], kept: bool) -> None:
    """FEATURES 25: filters by security type, zero rows left out."""
    section = positions_of(line, scope=Scope("DU1", frozenset({"OPT", "STK"}), frozenset({"DU2"})))
    assert isinstance(section, Complete)
    assert bool(section.rows) is kept


@pytest.mark.parametrize(
    ("line", "instrument", "words"),
    [
        (held(STOCK, "", "1"), "AAPL", "position is empty"),
        (held(STOCK, "n/a", "1"), "AAPL", "'n/a'"),
        (held(STOCK, "NaN", "1"), "AAPL", "'NaN'"),
        (held(STOCK, "Infinity", "1"), "AAPL", "'Infinity'"),
        (held(STOCK, "5", "1.7976931348623157E308"), "AAPL", "avgCost"),
        (held(STOCK, "5", ""), "AAPL", "avgCost is empty"),
        (held(STOCK, "5", "1E40"), "AAPL", "plausible"),
        (held(STOCK, "5", "1")[:-1], None, "15 fields"),
        ([*held(STOCK, "5", "1"), "x"], None, "17 fields"),
        (held(STOCK, "5", "1", account="XX9"), None, "none of the login's"),
        (held(SimContract(0, "AAPL"), "5", "1"), None, "conId"),
        (held(SimContract(7, "ES", "FUT", local_symbol="ESZ6"), "5", "1"), None, "multiplier"),
        (held(SimContract(7, "A\nB"), "5", "1"), None, "symbol"),
    ],
    ids=[
        "empty quantity is not zero",
        "text",
        "NaN",
        "infinite",
        "unset cost",
        "empty cost",
        "absurd cost",
        "too few fields",
        "too many fields",
        "unknown account",
        "no conId",
        "a future without its multiplier",
        "unprintable symbol",
    ],
)
def test_a_position_that_cannot_be_read_is_a_problem_and_never_flat(
    line: list[str], instrument: str | None, words: str
) -> None:
    section = positions_of(line, held(FUTURE, "1", "50"))
    assert isinstance(section, Partial)
    assert [row.instrument for row in section.rows] == ["ESZ6"]
    (problem,) = section.problems
    assert problem.instrument == instrument
    assert words in problem.text


def test_a_row_that_the_sdk_dropped_is_a_problem_even_where_we_can_read_it() -> None:
    read = rows.holdings([heard(held(STOCK, "5", "1"), trouble="ValueError: no")], SCOPE)
    assert "ib_async could not read it" in read.troubles[0].text
    assert not read.facts


def test_an_update_in_the_middle_of_a_list_counts_and_an_unreadable_one_takes_the_row_away() -> None:
    assert rows_of(positions_of(held(STOCK, "5", "1"), held(STOCK, "7", "2")))[0].quantity == 7
    assert positions_of(held(STOCK, "5", "1"), held(STOCK, "0", "0")) == Complete()
    spoiled = positions_of(held(STOCK, "5", "1"), held(STOCK, "?", "0"))
    assert isinstance(spoiled, Partial)
    assert spoiled.rows == ()


# -- names -------------------------------------------------------------------------------------------------------


def stock(con_id: int, symbol: str) -> Contract:
    return Contract(con_id, symbol, "STK", D(1), symbol)


ES_DEC = Contract(11, "ES", "FUT", D(50), "ESZ6")
ES_MAR = Contract(12, "ES", "FUT", D(50), "ESH7")
CALL = Contract(13, "AAPL", "OPT", D(100), "AAPL  261218C00200000")


@pytest.mark.parametrize(
    ("configured", "sec_types", "contracts", "names"),
    [
        ((), None, [stock(1, "AAPL"), ES_DEC, CALL], ["AAPL", "ESZ6", "AAPL  261218C00200000"]),
        (("1",), None, [stock(1, "AAPL")], ["1"]),
        (("ESZ6",), None, [ES_DEC], ["ESZ6"]),
        (("11",), None, [ES_DEC, ES_MAR], ["11", "ESH7"]),
        (("ES",), ("FUT",), [ES_DEC], ["ES"]),
        (("AAPL",), None, [CALL], ["AAPL  261218C00200000"]),
        (("AAPL",), ("OPT",), [CALL], ["AAPL"]),
        (("ES",), None, [ES_DEC, stock(2, "ES")], ["ESZ6", "ES"]),
        ((), None, [stock(1, "RY"), stock(2, "RY")], ["1", "2"]),
        (("1",), None, [stock(1, "RY"), stock(2, "RY")], ["1", "RY"]),
        ((), None, [Contract(5, "ES", "FUT", D(50), "")], ["5"]),
    ],
    ids=[
        "unconfigured",
        "by conId",
        "by localSymbol",
        "one of two futures by conId",
        "a future by its root where no stocks are looked after",
        "an option is not its stock",
        "an option by its symbol where no stocks are looked after",
        "a stock before a future of its name",
        "two stocks of one symbol go by conId",
        "unless one of them is configured",
        "no localSymbol",
    ],
)
def test_a_contract_goes_by_its_configured_name_else_by_symbol_localsymbol_or_conid(
    configured: tuple[str, ...], sec_types: tuple[str, ...] | None, contracts: list[Contract], names: list[str]
) -> None:
    for order in (contracts, contracts[::-1]):
        made = Names(configured, sec_types)
        made.learn(order)
        assert [made.name(contract) for contract in contracts] == names
        assert [made.unclear(contract) for contract in contracts] == [None] * len(contracts)


@pytest.mark.parametrize(
    ("configured", "sec_types", "contracts", "words"),
    [
        (("RY",), None, [stock(1, "RY"), stock(2, "RY")], "several contracts are called RY: 1 (STK RY), 2 (STK RY)"),
        (("ES",), ("FUT",), [ES_DEC, ES_MAR], "several contracts are called ES"),
        (("ES",), None, [ES_DEC], "may mean a stock"),
        (("AAPL", "1"), None, [stock(1, "AAPL")], "1 and AAPL are configured and may be one contract, 1 (STK AAPL)"),
        (("11", "ESZ6"), None, [ES_DEC], "11 and ESZ6"),
        (("ES", "ESZ6", "11"), ("FUT",), [ES_DEC], "11 and ESZ6 and ES"),
    ],
    ids=[
        "two stocks",
        "two months of a future",
        "a future or the stock of that symbol",
        "one stock by two names",
        "one future by two names",
        "one future by three names",
    ],
)
def test_where_a_configured_name_may_mean_several_contracts_it_is_unknown_and_never_flat(
    configured: tuple[str, ...], sec_types: tuple[str, ...] | None, contracts: list[Contract], words: str
) -> None:
    made = Names(configured, sec_types)
    made.learn(contracts)
    read = Read(tuple(wire.Holding("DU1", contract, D(1), D(1)) for contract in contracts))
    section = decode.positions(read, made)
    assert isinstance(section, Partial)
    assert section.rows == ()
    assert {problem.instrument for problem in section.problems} == set(configured)
    assert words in section.problems[0].text


def test_a_symbol_beside_a_conid_is_another_contract_where_another_one_has_it() -> None:
    for known in ([stock(1, "RY"), stock(2, "RY")], [stock(2, "RY"), stock(1, "RY")]):
        made = Names(("RY", "1"))
        for contract in known:
            made.learn([contract])
        assert [made.names(stock(1, "RY")), made.names(stock(2, "RY"))] == [("1",), ("RY",)]
        assert [made.unclear(contract) for contract in known] == [None, None]


def test_a_row_that_cannot_be_read_makes_every_name_of_its_contract_unknown() -> None:
    section = positions_of(held(STOCK, "n/a", "1"), names=Names(("AAPL", str(STOCK.con_id))))
    assert {problem.instrument for problem in problems_of(section)} == {"AAPL", str(STOCK.con_id)}


CFD = Contract(14, "AAPL", "CFD", D(1), "AAPL")


@pytest.mark.parametrize(
    ("configured", "sec_types", "looked_after", "left_out", "claimed"),
    [
        (("AAPL",), ("OPT",), [], stock(1, "AAPL"), {"1", "AAPL"}),
        (("AAPL",), ("OPT",), [CALL], stock(1, "AAPL"), {"1", "AAPL"}),
        (("AAPL",), ("STK",), [], CALL, {"13", "AAPL  261218C00200000"}),
        (("ES",), ("STK",), [], ES_DEC, {"11", "ESZ6", "ES"}),
        (("ES",), ("STK",), [stock(2, "ES")], ES_DEC, {"11", "ESZ6"}),
        ((), ("STK",), [], ES_DEC, {"11", "ESZ6"}),
        (("AAPL",), ("STK",), [stock(1, "AAPL")], CFD, {"14"}),
        (("AAPL",), ("STK",), [], Contract(0, "AAPL", "BAG", D(1), ""), {"AAPL BAG"}),
    ],
    ids=[
        "a stock",
        "a stock, though its option goes by its symbol",
        "an option is not its stock",
        "a future by its root",
        "a stock before a future of its name",
        "a future by its localSymbol",
        "a stock before another kind of its name",
        "a combination",
    ],
)
def test_a_contract_that_was_left_out_claims_every_name_it_may_have(
    configured: tuple[str, ...],
    sec_types: tuple[str, ...],
    looked_after: list[Contract],
    left_out: Contract,
    claimed: set[str],
) -> None:
    """FEATURES 25: what a filter leaves out is never flat."""
    made = Names(configured, sec_types)
    made.learn(looked_after)
    assert set(made.claimed(left_out)) == claimed


@pytest.mark.parametrize(
    ("lines", "left_out"),
    [
        ([held(FUTURE, "5", "100")], {"ESZ6"}),
        ([held(FUTURE, "n/a", "100")], {"ESZ6"}),
        ([held(FUTURE, "0", "0")], set()),
        ([held(FUTURE, "5", "100"), held(FUTURE, "0", "0")], set()),
        ([held(FUTURE, "5", "100", account="DU2")], set()),
    ],
    ids=["held", "unreadable", "zero", "closed in the middle of the list", "another account's"],
)
def test_a_position_of_a_type_not_looked_after_is_told_as_left_out(lines: list[list[str]], left_out: set[str]) -> None:
    """FEATURES 25: what a filter leaves out is never flat."""
    scope = Scope("DU1", frozenset({"STK"}), frozenset({"DU2"}))
    read = rows.holdings([heard(line) for line in lines], scope)
    assert {row.contract.local_symbol for row in read.left_out if not row.flat} == left_out


def test_a_name_once_given_stays_with_its_contract() -> None:
    made = Names()
    made.learn([stock(1, "RY")])
    made.learn([stock(2, "RY")])
    assert (made.name(stock(1, "RY")), made.name(stock(2, "RY"))) == ("RY", "2")


# -- orders ------------------------------------------------------------------------------------------------------


def order_row(**changes: object) -> OrderRow:
    values: dict[str, object] = {
        "account": "DU1",
        "contract": STOCK,
        "action": "BUY",
        "quantity": D(10),
        "order_type": "LMT",
        "limit": D("20.5"),
        "ref": "c1",
        "perm_id": 900,
        "order_id": 3,
        "client_id": 5,
        "status": "Submitted",
        "filled": D(0),
        "average": D(0),
    }
    return OrderRow(**{**values, **changes})  # type: ignore[arg-type]  # a table of fields


def working(told: OrderRow, error: Notice | None = None) -> Section[Order]:
    lines = [heard(ib_wire.open_order(told, 178)), heard(ib_wire.order_status(told))]
    read = rows.working_orders(lines, SCOPE)
    names = Names()
    names.learn(decode.contracts(read))
    errors = {} if error is None else {(told.client_id, told.order_id): error}
    return decode.orders(read, Read(), {}, names, errors)


REJECTION = Notice(3, 201, "Order rejected - reason: margin")


@pytest.mark.parametrize(
    ("word", "filled", "error", "status"),
    [
        ("ApiPending", "0", None, OrderStatus.PENDING_SUBMIT),
        ("PendingSubmit", "0", None, OrderStatus.PENDING_SUBMIT),
        ("PreSubmitted", "0", None, OrderStatus.OPEN),
        ("PreSubmitted", "4", None, OrderStatus.PARTIALLY_FILLED),
        ("Submitted", "0", None, OrderStatus.OPEN),
        ("Submitted", "4", None, OrderStatus.PARTIALLY_FILLED),
        ("ApiUpdate", "0", None, OrderStatus.OPEN),
        ("PendingCancel", "4", None, OrderStatus.PENDING_CANCEL),
        ("Cancelled", "4", None, OrderStatus.CANCELLED),
        ("ApiCancelled", "0", None, OrderStatus.CANCELLED),
        ("Cancelled", "0", REJECTION, OrderStatus.REJECTED),
        ("Filled", "10", None, OrderStatus.FILLED),
        ("Inactive", "0", None, OrderStatus.HELD),
        ("Inactive", "0", REJECTION, OrderStatus.REJECTED),
        ("Inactive", "0", Notice(3, 10148, "cannot be cancelled"), OrderStatus.HELD),
        ("Inactive", "0", Notice(3, 399, "will not be placed until"), OrderStatus.HELD),
        ("Submitted", "0", REJECTION, OrderStatus.OPEN),
        ("Submitted", "0", Notice(3, 10148, "cannot be cancelled"), OrderStatus.OPEN),
    ],
)
def test_the_status_map(word: str, filled: str, error: Notice | None, status: OrderStatus) -> None:
    section = working(order_row(status=word, filled=D(filled), average=D("20.4")), error)
    (order,) = rows_of(section)
    assert isinstance(section, Complete)
    assert order.status is status
    assert order.filled_quantity == D(filled)
    assert order.average_fill_price == (D("20.4") if D(filled) else None)
    assert (order.reason is not None) is (status is OrderStatus.REJECTED)


@pytest.mark.parametrize("word", ["ValidationError", "Exploded"])
def test_a_status_nobody_has_heard_of_keeps_the_order_as_it_was(word: str) -> None:
    """ValidationError is ib_async's own word and never comes over the wire."""
    section = working(order_row(status=word))
    assert isinstance(section, Partial)
    assert section.rows == ()
    assert (section.problems[0].instrument, section.problems[0].key) == ("AAPL", "900")


@pytest.mark.parametrize(
    ("told", "key"),
    [(order_row(), "900"), (order_row(perm_id=0), "5/3"), (order_row(order_id=0, client_id=0), "900")],
    ids=["permId", "client and order id before there is one", "placed by hand"],
)
def test_an_order_is_known_by_its_perm_id(told: OrderRow, key: str) -> None:
    (order,) = rows_of(working(told))
    assert (order.broker_order_id, order.client_order_id) == (key, "c1")
    assert (order.order_type, order.limit_price) == ("LIMIT", D("20.5"))


def test_a_market_order_has_no_limit_price_and_an_order_without_status_cannot_be_read() -> None:
    (order,) = rows_of(working(order_row(order_type="MKT", limit=None)))
    assert (order.order_type, order.limit_price) == ("MARKET", None)
    read = rows.working_orders([heard(ib_wire.open_order(order_row(), 178))], SCOPE)
    assert "no status" in problems_of(decode.orders(read, Read(), {}, Names(), {}))[0].text


@pytest.mark.parametrize("place", range(1, 24))
def test_a_field_lacking_in_an_order_never_names_another_instrument(place: int) -> None:
    line = ib_wire.open_order(order_row(contract=FUTURE), 178)
    del line[place]
    read = rows.working_orders([heard(line, trouble="ValueError: it shifted")], SCOPE)
    (trouble,) = read.troubles
    assert trouble.contract is None or trouble.contract.local_symbol == "ESZ6"


# -- completed orders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "ending", "executed", "expected"),
    [
        ("0", ("Filled", "Filled Size: 10", "10.0"), ("10", "205"), (D(10), D(10), D("20.5"), OrderStatus.FILLED)),
        ("0", ("Filled", "", "0.0"), ("10", "205"), (D(10), D(10), D("20.5"), OrderStatus.FILLED)),
        ("10", ("Filled", "", "1.7976931348623157e+308"), ("0", "0"), (D(10), D(10), None, OrderStatus.FILLED)),
        ("10", ("Filled", "", "10.0"), ("4", "80"), (D(10), D(10), None, OrderStatus.FILLED)),
        ("10", ("Cancelled", "Cancelled by Trader", "4.0"), ("4", "80"), (D(10), D(4), D(20), OrderStatus.CANCELLED)),
        ("10", ("Cancelled", "Rejected by System", "0.0"), ("0", "0"), (D(10), D(0), None, OrderStatus.REJECTED)),
        ("10", ("Inactive", "", "0.0"), ("0", "0"), (D(10), D(0), None, OrderStatus.REJECTED)),
        ("10", ("Cancelled", "Expired", "0.0"), ("0", "0"), (D(10), D(0), None, OrderStatus.EXPIRED)),
        ("0.5", ("Filled", "", "0.5"), ("0.5", "10"), (D("0.5"), D("0.5"), D(20), OrderStatus.FILLED)),
    ],
    ids=[
        "quantity 0 when filled",
        "the executions alone tell what was filled",
        "nothing but the quantity is told",
        "executions of another day give no average",
        "cancelled with a part filled",
        "rejected under the status Cancelled",
        "inactive and over",
        "expired",
        "a fraction",
    ],
)
def test_a_completed_order_takes_what_it_lacks_from_the_executions(
    told: str,
    ending: tuple[str, str, str],
    executed: tuple[str, str],
    expected: tuple[Decimal, Decimal, Decimal | None, OrderStatus],
) -> None:
    line = ib_wire.completed_order(order_row(quantity=D(told), status=ending[0]), 178)
    line[13] = told
    read = rows.completed_orders([heard(line, ending=Ending(*ending))], SCOPE)
    names = Names()
    names.learn(decode.contracts(read))
    sums = {"900": decode.Executed(D(executed[0]), D(executed[1]))}
    (order,) = rows_of(decode.orders(Read(), read, sums, names, {}))
    assert (order.quantity, order.filled_quantity, order.average_fill_price, order.status) == expected
    assert order.limit_price == D("20.5")
    assert format(order.filled_quantity, "f") == format(expected[1], "f")


def test_a_completed_order_of_which_nothing_tells_the_quantity_cannot_be_read() -> None:
    line = ib_wire.completed_order(order_row(quantity=D(0), status="Filled"), 178)
    read = rows.completed_orders([heard(line, ending=Ending("Filled", "", "0.0"))], SCOPE)
    assert "no quantity" in problems_of(decode.orders(Read(), read, {}, Names(), {}))[0].text


# -- executions --------------------------------------------------------------------------------------------------


def executed_row(exec_id: str = "e0.a1.01.01", **changes: object) -> list[str]:
    values: dict[str, object] = {
        "account": "DU1",
        "contract": STOCK,
        "exec_id": exec_id,
        "time": "20260105 09:30:01 US/Eastern",
        "side": "BOT",
        "shares": D(10),
        "price": D("20.25"),
        "perm_id": 900,
        "client_id": 5,
        "order_id": 3,
        "cumulative": D(10),
        "average": D("20.25"),
        "ref": "c1",
    }
    return ib_wire.execution(ExecutionRow(**{**values, **changes}), 1, 178)  # type: ignore[arg-type]  # as above


def fills_of(*lines: Sequence[str], zone: ZoneInfo | None = None) -> Section[Fill]:
    read = rows.executions([heard(line) for line in lines], SCOPE, zone, LATEST)
    return decode.fills(read, named(read))


def test_an_execution_is_a_fill() -> None:
    expected = Fill(
        instrument="AAPL",
        fill_id="e0.a1.01.01",
        broker_order_id="900",
        side=Side.BUY,
        quantity=D(10),
        price=D("20.25"),
        time=datetime(2026, 1, 5, 14, 30, 1, tzinfo=UTC),
        leg="net",
        client_order_id="c1",
    )
    assert fills_of(executed_row()) == Complete((expected,))
    (sold,) = rows_of(fills_of(executed_row(side="SLD", ref="", order_id=0, client_id=0)))
    assert (sold.side, sold.client_order_id, sold.broker_order_id) == (Side.SELL, None, "900")


@pytest.mark.parametrize(
    ("text", "zone", "hour"),
    [
        ("20260105 09:30:01 US/Eastern", None, 14),
        ("20260105 09:30:01 Europe/Amsterdam", None, 8),
        ("20260105-09:30:01", None, 9),
        ("20260105  09:30:01", "America/New_York", 14),
        ("20260105 09:30:01", "Asia/Tokyo", 0),
        ("20260105 09:30:01 UTC", "Asia/Tokyo", 9),
    ],
)
def test_times_become_utc_by_the_zone_they_name_or_the_one_configured(text: str, zone: str | None, hour: int) -> None:
    (fill,) = rows_of(fills_of(executed_row(time=text), zone=ZoneInfo(zone) if zone else None))
    assert fill.time.hour == hour
    assert fill.time.tzinfo is UTC


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (executed_row(time="20260105  09:30:01"), "with its zone"),
        (executed_row(time="20260105 09:30:01 Nowhere/Else"), "known zone"),
        (executed_row(time="yesterday"), "a date and a time"),
        (executed_row(time="20261301 09:30:01 UTC"), "a date and a time"),
        (executed_row(time="20260109 09:30:01 UTC"), "clock has not reached"),
        (executed_row(side="BUY"), "BOT or SLD"),
        (executed_row("e0"), "execId"),
        (executed_row("e0.x"), "execId"),
        (executed_row(price=D("NaN")), "price"),
        (executed_row(shares=D(-1)), "shares"),
        (executed_row()[:20], "fields"),
    ],
    ids=[
        "naive with no zone configured is not guessed",
        "unknown zone",
        "no time",
        "no month",
        "the future",
        "side",
        "no revision",
        "revision is no number",
        "price NaN",
        "negative",
        "cut",
    ],
)
def test_an_execution_that_cannot_be_read_is_a_problem(line: list[str], words: str) -> None:
    section = fills_of(line, executed_row("e0.b2.01.01"))
    assert isinstance(section, Partial)
    assert [fill.fill_id for fill in section.rows] == ["e0.b2.01.01"]
    assert words in section.problems[0].text


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_correction_is_a_fill_of_its_own_that_takes_the_place_of_the_one_before_it(
    order: tuple[int, int, int],
) -> None:
    """A correction differs in the digits after the last dot of its execId; ib_async adds it to what it corrects."""
    lines = [
        executed_row("e0.a1.01.01", shares=D(10)),
        executed_row("e0.a1.01.02", shares=D(8), price=D(21)),
        executed_row("e0.a1.01.10", shares=D(9), price=D(22)),
    ]
    section = fills_of(*(lines[place] for place in order))
    first, second, third = rows_of(section)
    assert (first.fill_id, first.quantity, first.price, first.corrects) == ("e0.a1.01.01", D(10), D("20.25"), None)
    assert (second.fill_id, second.quantity) == ("e0.a1.01.02", D(8))
    assert second.corrects == Corrected("e0.a1.01.01", D(10), D("20.25"))
    assert (third.fill_id, third.corrects) == ("e0.a1.01.10", Corrected("e0.a1.01.02", D(8), D(21)))
    read = rows.executions([heard(line) for line in lines], SCOPE, None, LATEST)
    assert decode.executed(read)["900"] == decode.Executed(D(9), D(198))


def test_a_correction_listed_alone_has_the_id_that_its_execution_had_first() -> None:
    """Whoever applied the execution must not apply it again; the positions tell what the correction changed."""
    (fill,) = rows_of(fills_of(executed_row("e0.a1.01.02", shares=D(8))))
    assert (fill.fill_id, fill.quantity, fill.corrects) == ("e0.a1.01.01", D(8), None)


def test_commissions_join_their_executions() -> None:
    read = rows.executions([heard(executed_row("e0.a1.01.01"))], SCOPE, None, LATEST)
    (fill,) = rows_of(decode.fills(read, named(read), {"e0.a1.01.01": (D("1.05"), "USD")}))
    assert (fill.commission, fill.commission_currency) == (D("1.05"), "USD")


def test_a_bust_takes_its_execution_back_and_the_execution_of_a_combination_is_a_fill_of_its_own_alone() -> None:
    bag = SimContract(28812380, "AAPL", "BAG", local_symbol="")
    lines = [
        executed_row("e0.a1.01.01"),
        executed_row("e0.a1.01.02", shares=D(0)),
        executed_row("e0.b1.01.01", contract=bag, shares=D(1), price=D("-0.5")),
        executed_row("e0.b1.02.01", contract=OPTION, shares=D(1), price=D(2)),
    ]
    first, bust, combination, leg = rows_of(fills_of(*lines))
    assert (bust.fill_id, bust.quantity, bust.corrects) == (
        "e0.a1.01.02",
        D(0),
        Corrected("e0.a1.01.01", first.quantity, first.price),
    )
    assert leg.fill_id == "e0.b1.02.01"
    assert (combination.fill_id, combination.instrument, combination.combination) == (
        "e0.b1.01.01",
        "AAPL BAG",
        "AAPL BAG",
    )
    read = rows.executions([heard(line) for line in lines[2:]], SCOPE, None, LATEST)
    assert decode.executed(read)["900"] == decode.Executed(D(1), D("-0.5"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [(["49", "1"], "fields"), (["49", "1", "x"], "time"), (["49", "1", "1795000000000"], "epoch seconds")],
)
def test_a_clock_that_cannot_be_read_is_refused(fields: list[str], words: str) -> None:
    with pytest.raises(BadRow, match=words):
        wire.server_time(fields)


# -- the cursor --------------------------------------------------------------------------------------------------


def fill(fill_id: str) -> Fill:
    return Fill("AAPL", fill_id, "1", Side.BUY, D(1), D(1), LATEST)


def test_a_fill_handed_out_first_comes_after_every_cursor_given_before() -> None:
    sequence = FillCursor()
    first, start = sequence.hand_out(Complete((fill("a"),)), None, 1000)
    assert (first, start) == (Complete(), 1000)
    second, later = sequence.hand_out(Complete((fill("a"), fill("b"))), start, 1000)
    assert [f.fill_id for f in rows_of(second)] == ["b"]
    assert later > start
    third, last = sequence.hand_out(Complete((fill("a"), fill("b"))), later, 1000)
    assert (third, last) == (Complete(), later)
    again, _ = sequence.hand_out(Complete((fill("a"), fill("b"))), start, 1000)
    assert [f.fill_id for f in rows_of(again)] == ["b"]


def test_a_new_process_is_given_every_fill_of_the_day() -> None:
    found, _ = FillCursor().hand_out(Complete((fill("a"), fill("b"))), 5000, 9000)
    assert len(rows_of(found)) == 2


def test_what_is_not_complete_keeps_the_cursor_and_a_gap_is_told_once() -> None:
    sequence = FillCursor()
    _, start = sequence.hand_out(Complete(), None, 1000)
    assert sequence.hand_out(Failed("no"), start, 2000) == (Failed("no"), start)
    told, after = sequence.hand_out(Complete((fill("a"),)), start, 2000, gap="midnight")
    assert told == Failed("midnight")
    assert after > start
    found, _ = sequence.hand_out(Complete((fill("a"),)), after, 3000)
    assert [f.fill_id for f in rows_of(found)] == ["a"]


def test_a_fill_whose_commission_came_later_is_handed_out_once_more_to_everybody() -> None:
    sequence = FillCursor()
    _, start = sequence.hand_out(Complete(), None, 1000)
    _, first = sequence.hand_out(Complete((fill("a"), fill("b"))), start, 1000)
    charged = replace(fill("a"), commission=D(1))
    sequence.hand_out_again(charged)
    assert sequence.owes
    assert sequence.hand_out(Failed("no"), first, 1000) == (Failed("no"), first)
    assert sequence.hand_out(Partial((fill("b"),), ()), first, 1000) == (Partial((charged,), ()), first)
    found, second = sequence.hand_out(Complete((charged, fill("b"))), first, 1000)
    assert (found, second > first, sequence.owes) == (Complete((charged,)), True, False)
    assert sequence.hand_out(Complete((fill("b"),)), first, 1000)[0] == Complete((charged,)), "it was not taken over"
    assert sequence.hand_out(Complete((fill("b"),)), second, 1000) == (Complete(), second)
    assert sequence.hand_out(Complete((fill("b"),)), first, 1000)[0] == Complete(), "everybody had it"


def test_a_listing_that_lost_executions_was_cut_and_corrections_are_no_loss() -> None:
    listing = Listing()
    assert not listing.cut(["a", "b"])
    assert not listing.cut(["a", "b", "c"])
    assert listing.moved([("AAPL", "a.01")]) == {"AAPL"}
    assert listing.moved([("AAPL", "a.01")]) == frozenset()
    assert listing.moved([("AAPL", "a.01"), ("AAPL", "a.02")]) == {"AAPL"}
    assert listing.cut(["c"])
    assert not listing.cut(["c"])


@pytest.mark.parametrize(
    ("cursor", "now", "zone", "ended"),
    [
        ("2026-01-05T20:00", "2026-01-05T21:00", None, False),
        ("2026-01-05T23:59", "2026-01-06T00:01", None, True),
        ("2026-01-05T23:59", "2026-01-06T00:01", "America/New_York", False),
        ("2026-01-06T04:59", "2026-01-06T05:01", "America/New_York", True),
        ("2026-01-04T12:00", "2026-01-05T12:00", "America/New_York", True),
        ("2026-01-05T12:00", "2026-01-05T11:59", None, False),
    ],
)
def test_a_day_ends_at_midnight_in_the_zone_of_tws(cursor: str, now: str, zone: str | None, ended: bool) -> None:
    cursor_ms, now_ms = (int(datetime.fromisoformat(f"{t}+00:00").timestamp() * 1000) for t in (cursor, now))
    assert began_before_today(cursor_ms, now_ms, ZoneInfo(zone) if zone else None) is ended
