"""Whatever TWS may send: nothing but the declared errors comes out, and one bad row never hides the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.ib import decode, rows, wire
from brokers.ib.contracts import Names
from brokers.ib.row_decoder import Ending, Heard
from brokers.ib.rows import Read
from brokers.kit.foreign_row import BadRow
from brokers.model import Section, problems_of, rows_of
from brokers.simulators import ib_wire
from tests.brokers.ib_rows import FUTURE, LATEST, OPTION, SCOPE, STOCK, heard, held
from tests.brokers.mutations import EXAMPLES, lines, read_or_refused
from tests.brokers.test_ib_decode import executed_row, order_row

ZONE = ZoneInfo("America/New_York")

HELD = [held(STOCK, "10", "20.5"), held(FUTURE, "-2", "225000"), held(OPTION, "1", "2050")]
OPEN = [
    order_row(),
    order_row(perm_id=901, order_id=4, contract=FUTURE, ref="c2"),
    order_row(perm_id=902, order_id=5, contract=OPTION, order_type="MKT", limit=None),
]
WORKING = [line for row in OPEN for line in (ib_wire.open_order(row, 178), ib_wire.order_status(row))]
COMPLETED = [ib_wire.completed_order(row, 178) for row in OPEN]
EXECUTED = [
    executed_row(),
    executed_row("e0.a1.01.02", shares=Decimal(9)),
    executed_row("e0.b2.01.01", contract=FUTURE, perm_id=901, order_id=4),
]
SINGLE: dict[str, tuple[Callable[[Sequence[str]], object], list[list[str]]]] = {
    "a position": (wire.holding, HELD),
    "an open order": (wire.open_order, WORKING[::2]),
    "a status": (wire.order_state, WORKING[1::2]),
    "a completed order": (wire.completed_order, COMPLETED),
    "an execution": (lambda fields: wire.execution(fields, ZONE), EXECUTED),
    "a commission": (wire.commission, [ib_wire.commission("e0.a1.01.01", Decimal("1.5"))]),
    "contract details": (wire.price_magnifier, [ib_wire.contract_details(STOCK, 1, 178)]),
    "contract hours": (wire.contract_hours, [ib_wire.contract_details(FUTURE, 1, 178)]),
    "symbols": (wire.symbol_samples, [ib_wire.symbol_samples([STOCK, FUTURE], 1, 178)]),
    "a portfolio row": (wire.portfolio, [ib_wire.portfolio("DU1", STOCK, Decimal(1), Decimal(2), Decimal(3))]),
    "an account value": (wire.account_value, [["6", "2", "NetLiquidation", "1", "USD", "DU1"]]),
    "a notice": (wire.notice, [ib_wire.notice(1, 201, "no", 178)]),
    "a time": (wire.server_time, [["49", "1", "1767605401"]]),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_what_is_changed_here_can_be_read(kind: str) -> None:
    read, known = SINGLE[kind]
    for row in known:
        assert read(row) is not None


@pytest.mark.parametrize("kind", SINGLE)
@EXAMPLES
@given(data=st.data())
def test_a_row_is_read_or_says_why_not(kind: str, data: st.DataObject) -> None:
    read, known = SINGLE[kind]
    row = data.draw(lines(data.draw(st.sampled_from(known))))
    assert read_or_refused(read, row, BadRow) != ""


def positions(heard_rows: list[Heard]) -> Section[Any]:
    read = rows.holdings(heard_rows, SCOPE)
    return decode.positions(read, _names(read))


def orders(heard_rows: list[Heard]) -> Section[Any]:
    read = rows.working_orders(heard_rows, SCOPE)
    return decode.orders(read, Read(), {}, _names(read), {})


def ended(heard_rows: list[Heard]) -> Section[Any]:
    read = rows.completed_orders(heard_rows, SCOPE)
    return decode.orders(Read(), read, {}, _names(read), {})


def fills(heard_rows: list[Heard]) -> Section[Any]:
    read = rows.executions(heard_rows, SCOPE, ZONE, LATEST)
    decode.executed(read)
    return decode.fills(read, _names(read))


def _names(read: Read[Any]) -> Names:
    names = Names()
    names.learn(decode.contracts(read))
    return names


def _heard(row: Sequence[str]) -> Heard:
    return heard(row, ending=Ending("Filled", "", "10.0") if row[0] == str(wire.COMPLETED_ORDER) else None)


LISTS: dict[str, tuple[Callable[[list[Heard]], Section[Any]], list[list[str]]]] = {
    "positions": (positions, HELD),
    "open orders": (orders, WORKING),
    "completed orders": (ended, COMPLETED),
    "executions": (fills, [EXECUTED[0], EXECUTED[2]]),
}


def _is(one: Any, row: Any) -> bool:
    """Whether it is the same row. Its contract has its number for a name where another one claims the name, too."""
    ids = [getattr(each, "fill_id", None) or getattr(each, "broker_order_id", None) for each in (one, row)]
    return bool(ids[0] == ids[1] if any(ids) else replace(one, instrument=row.instrument) == row)


@pytest.mark.parametrize("kind", LISTS)
@EXAMPLES
@given(data=st.data())
def test_one_bad_row_hides_no_other(kind: str, data: st.DataObject) -> None:
    """What stands beside it is there, or is said to be unknown; and what it said itself is never silently nothing."""
    read, known = LISTS[kind]
    place = data.draw(st.integers(0, len(known) - 1))
    spoiled = [data.draw(lines(row)) if at == place else row for at, row in enumerate(known)]
    found = read([_heard(row) for row in spoiled])
    problems = problems_of(found)
    anything = any(problem.instrument is None for problem in problems)
    beside = read([_heard(row) for at, row in enumerate(known) if at != place])
    for row in rows_of(beside):
        same = [one for one in rows_of(found) if _is(one, row)]
        named = any(problem.instrument == row.instrument for problem in problems)
        assert same or named or anything, f"{row} is gone"


@pytest.mark.parametrize("time", ["00010101 00:00:00 Asia/Tokyo", "99991231 23:59:59 US/Eastern", "00010101-00:00:00"])
def test_a_time_in_which_nobody_can_have_traded_is_none(time: str) -> None:
    section = fills([_heard(executed_row(time=time)), _heard(EXECUTED[2])])
    assert len(rows_of(section)) == 1
    assert problems_of(section)
