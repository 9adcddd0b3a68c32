"""TWS's rows as the model's: the text of each field, the map of statuses, the names of contracts, the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from brokers.clocks import broker_time, shown
from brokers.ib import decode, rows, wire
from brokers.ib.contracts import Names
from brokers.ib.executions import Listing, began_before_today
from brokers.ib.row_decoder import Ending
from brokers.ib.rows import Read, Scope
from brokers.ib.wire import Notice
from brokers.kit.foreign_row import BadRow
from brokers.model import (
    Complete,
    Corrected,
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
from tests.brokers.ib_rows import FUTURE, LATEST, OPTION, SCOPE, STOCK, D, heard, held, named, positions_of

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


def working(row: OrderRow, error: Notice | None = None) -> Section[Order]:
    lines = [heard(ib_wire.open_order(row, 178)), heard(ib_wire.order_status(row))]
    read = rows.working_orders(lines, SCOPE)
    names = Names()
    names.learn(decode.contracts(read))
    errors = {} if error is None else {(row.client_id, row.order_id): error}
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
    ("row", "key"),
    [(order_row(), "900"), (order_row(perm_id=0), "5/3"), (order_row(order_id=0, client_id=0), "900")],
    ids=["permId", "client and order id before there is one", "placed by hand"],
)
def test_an_order_is_known_by_its_perm_id(row: OrderRow, key: str) -> None:
    (order,) = rows_of(working(row))
    assert (order.broker_order_id, order.client_order_id) == (key, "c1")
    assert (order.order_type, order.limit_price) == ("LIMIT", D("20.5"))


def test_a_market_order_has_no_limit_price_and_an_order_without_status_cannot_be_read() -> None:
    (order,) = rows_of(working(order_row(order_type="MKT", limit=None)))
    assert (order.order_type, order.limit_price) == ("MARKET", None)
    read = rows.working_orders([heard(ib_wire.open_order(order_row(), 178))], SCOPE)
    assert "no status" in problems_of(decode.orders(read, Read(), {}, Names(), {}))[0].text


@pytest.mark.parametrize(
    ("other", "twins"),
    [
        ({"perm_id": 901}, {"900": ("901",), "901": ("900",)}),
        ({"perm_id": 901, "order_id": 4}, {}),
        ({"perm_id": 901, "client_id": 6}, {}),
        ({"perm_id": 901, "status": "Cancelled"}, {}),
        ({"perm_id": 0}, {}),
    ],
    ids=["one id of one client", "another id", "another client", "one of them over", "no permId yet"],
)
def test_orders_of_one_client_under_one_order_id_are_twins(
    other: dict[str, object], twins: dict[str, tuple[str, ...]]
) -> None:
    assert _twins_of(order_row(), order_row(**other)) == twins


def test_orders_placed_by_hand_have_no_order_id_to_share() -> None:
    assert _twins_of(order_row(order_id=0, client_id=0), order_row(order_id=0, client_id=0, perm_id=901)) == {}


def _twins_of(*told: OrderRow) -> dict[str, tuple[str, ...]]:
    lines = [heard(line) for row in told for line in (ib_wire.open_order(row, 178), ib_wire.order_status(row))]
    read = rows.working_orders(lines, SCOPE)
    names = Names()
    names.learn(decode.contracts(read))
    section = decode.orders(read, Read(), {}, names, {})
    return {order.broker_order_id: order.twins for order in rows_of(section) if order.twins}


@pytest.mark.parametrize(
    ("kind", "limit", "aux", "expected"),
    [
        ("STP", "0", "95.5", ("STOP", D("95.5"))),
        ("STP PRT", "0", "95.5", ("STOP_WITH_PROTECTION", D("95.5"))),
        ("STP LMT", "94", "95.5", ("STOP_LIMIT", D(94))),
        ("MIT", "0", "110", ("MIT", D(110))),
        ("LIT", "109", "110", ("LIT", D(109))),
        ("LOC", "101", "0", ("LOC", D(101))),
        ("STP", "0", "0", ("STOP", None)),
        ("LMT", "20.5", "1.5", ("LIMIT", D("20.5"))),
    ],
)
def test_the_price_of_an_order_is_the_one_it_works_at(
    kind: str, limit: str, aux: str, expected: tuple[str, Decimal | None]
) -> None:
    """TWS API documentation, Order.AuxPrice: the trigger price of a stop or a market-if-touched order. A stop that
    somebody moves in TWS is an order amended at the broker."""
    (order,) = rows_of(working(order_row(order_type=kind, limit=D(limit), aux=D(aux))))
    assert (order.order_type, order.limit_price) == expected


@pytest.mark.parametrize(
    ("kind", "aux", "trigger"),
    [("STP LMT", "95.5", D("95.5")), ("LIT", "110", D(110)), ("STP LMT", "0", None), ("LMT", "0", None),
     ("STP", "95.5", None), ("REL", "0.05", None), ("TRAIL LIMIT", "0.5", None)],
)  # fmt: skip
def test_the_trigger_of_an_order_with_a_limit_is_shown_beside_it(kind: str, aux: str, trigger: Decimal | None) -> None:
    """TWS API documentation, Stop Limit and Limit if Touched: ``AuxPrice`` is the trigger, ``LmtPrice`` the limit. The
    auxPrice of other types is an offset or a trailing amount."""
    (order,) = rows_of(working(order_row(order_type=kind, limit=D(94), aux=D(aux))))
    assert order.trigger_price == trigger


@pytest.mark.parametrize("kind", ["TRAIL", "TRAIL LIMIT"])
def test_a_price_that_tws_moves_with_the_market_amends_no_order(kind: str) -> None:
    """TWS API documentation, Trailing Stop Limit: TWS recalculates the limit price continually. Shown, it would be an
    amendment at every tick."""
    prices = (D("95.1"), D("95.2"))
    decoded = [rows_of(working(order_row(order_type=kind, limit=price, aux=D("0.5")))) for price in prices]
    assert decoded[0] == decoded[1]
    assert decoded[0][0].limit_price is None


@pytest.mark.parametrize("place", range(1, 24))
def test_a_field_lacking_in_an_order_never_names_another_instrument(place: int) -> None:
    line = ib_wire.open_order(order_row(contract=FUTURE), 178)
    del line[place]
    read = rows.working_orders([heard(line, trouble="ValueError: it shifted")], SCOPE)
    (trouble,) = read.troubles
    assert trouble.contract is None or trouble.contract.local_symbol == "ESZ6"


# -- completed orders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "ending", "executed", "expected"),
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
        "the executions alone say what was filled",
        "nothing but the quantity is reported",
        "executions of another day give no average",
        "cancelled with a part filled",
        "rejected under the status Cancelled",
        "inactive and over",
        "expired",
        "a fraction",
    ],
)
def test_a_completed_order_takes_what_it_lacks_from_the_executions(
    quantity: str,
    ending: tuple[str, str, str],
    executed: tuple[str, str],
    expected: tuple[Decimal, Decimal, Decimal | None, OrderStatus],
) -> None:
    line = ib_wire.completed_order(order_row(quantity=D(quantity), status=ending[0]), 178)
    line[13] = quantity
    read = rows.completed_orders([heard(line, ending=Ending(*ending))], SCOPE)
    names = Names()
    names.learn(decode.contracts(read))
    sums = {"900": decode.Executed(D(executed[0]), D(executed[1]))}
    (order,) = rows_of(decode.orders(Read(), read, sums, names, {}))
    assert (order.quantity, order.filled_quantity, order.average_fill_price, order.status) == expected
    assert order.limit_price == D("20.5")
    assert format(order.filled_quantity, "f") == format(expected[1], "f")


def test_a_completed_order_of_which_nothing_says_the_quantity_cannot_be_read() -> None:
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
        time=broker_time(datetime(2026, 1, 5, 14, 30, 1, tzinfo=UTC)),
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
    assert shown(fill.time).hour == hour
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
    """Whoever applied the execution must not apply it again; the positions show what the correction changed."""
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


# -- days and lists -----------------------------------------------------------------------------------------------


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
