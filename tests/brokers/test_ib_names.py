"""Which name a contract goes by."""

from __future__ import annotations

import pytest

from brokers.ib import decode, rows, wire
from brokers.ib.contracts import Names
from brokers.ib.rows import Read, Scope
from brokers.ib.wire import Contract
from brokers.model import (
    Partial,
    problems_of,
)
from tests.brokers.ib_rows import FUTURE, STOCK, D, heard, held, positions_of

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
def test_a_position_of_a_type_not_looked_after_is_named_as_left_out(lines: list[list[str]], left_out: set[str]) -> None:
    """FEATURES 25: what a filter leaves out is never flat."""
    scope = Scope("DU1", frozenset({"STK"}), frozenset({"DU2"}))
    read = rows.holdings([heard(line) for line in lines], scope)
    assert {row.contract.local_symbol for row in read.left_out if not row.flat} == left_out


def test_a_name_once_given_stays_with_its_contract() -> None:
    made = Names()
    made.learn([stock(1, "RY")])
    made.learn([stock(2, "RY")])
    assert (made.name(stock(1, "RY")), made.name(stock(2, "RY"))) == ("RY", "2")
