"""All rows of an account gone at once, and nothing that says why: no word on what is held, at any broker."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from actors.reconciliation.own_reports import PositionReport
from brokers.model import Side
from brokers.simulators.base import Fault
from brokers.simulators.kite import KiteSimulator
from tests.brokers.one_look import KINDS, OneLook, held, kinds, one_look

D = Decimal
Legs = dict[str, list[tuple[str, str]]]


async def adopted(place: OneLook, rows: int) -> Legs:
    """Of so many instruments something is in the books, by the broker's word."""
    for symbol in place.kind.symbols[:rows]:
        place.simulator.set_position(symbol, "", place.kind.lot, D(100))
    _, reports = await place.look()
    assert {report.status for report in reports.values()} == {"SUCCESS"}
    return held(reports)


def emptied(place: OneLook) -> None:
    """Every row is gone, and no fill or transaction says why; whatever else the broker says of the account agrees."""
    for symbol, leg in place.simulator.positions():
        place.simulator.set_position(symbol, leg, D(0), D(0))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", ["oanda", "mt5", "ib"])
async def test_an_empty_list_of_positions_closes_no_book_while_another_word_of_the_broker_says_that_something_is_held(
    kind: str, rows: int, tmp_path: Path
) -> None:
    """One look after another, each in a process of its own: none of them remembers what was shown before."""
    with one_look(kind, tmp_path) as place:
        before = await adopted(place, rows)
        place.simulator.faults.add(Fault.EMPTY, times=1000, match=place.kind.positions)
        for _ in range(2):
            _, reports = await place.look()
            assert held(reports) == before
            assert "SUCCESS" not in {report.status for report in reports.values()}
        place.simulator.faults.clear()
        _, reports = await place.look()
        assert (held(reports), {report.status for report in reports.values()}) == (before, {"SUCCESS"})


@pytest.mark.parametrize("kind", ["kite", "mt5"])
async def test_two_rows_gone_at_once_are_stale_data_where_the_broker_has_no_other_word(
    kind: str, tmp_path: Path
) -> None:
    with one_look(kind, tmp_path) as place:
        before = await adopted(place, 2)
        if kind == "mt5":
            place.simulator.add_to_replies(margin=None)
        place.simulator.faults.add(Fault.EMPTY, times=1000, match=place.kind.positions)
        _, reports = await place.look()
        assert held(reports) == before
        found_kinds = {one for report in reports.values() for one in kinds(report)}
        assert found_kinds <= {"STALE_DATA", "MALFORMED_DATA"}  # at Kite the latter, while its day is being loaded
        assert found_kinds
        assert {report.status for report in reports.values()} == {"PARTIAL"}


@pytest.mark.parametrize("kind", ["oanda", "mt5", "ib"])
async def test_rows_gone_at_once_are_ghosts_once_a_second_word_of_the_broker_says_that_nothing_is_held(
    kind: str, tmp_path: Path
) -> None:
    with one_look(kind, tmp_path) as place:
        await adopted(place, 2)
        emptied(place)
        _, reports = await place.look()
        assert [kinds(report) for report in reports.values()] == [["NAKED_POSITION"]] * 2
        assert held(reports) == {name: [] for name in place.kind.symbols}


@pytest.mark.parametrize("kind", list(KINDS))
async def test_rows_gone_at_once_with_a_fill_that_says_why_are_closed_by_it(kind: str, tmp_path: Path) -> None:
    with one_look(kind, tmp_path) as place:
        for symbol in place.kind.symbols:
            place.simulator.trade(symbol, Side.BUY, place.kind.lot)
        await place.look()
        if isinstance(place.simulator, KiteSimulator):
            place.simulator.set_clock(5)  # it dates fills to the second, and one of the first look's own is in it
        for symbol in place.kind.symbols:
            place.simulator.close_by_hand(symbol)
        _, reports = await place.look()
        assert held(reports) == {name: [] for name in place.kind.symbols}
        assert "STALE_DATA" not in {one for report in reports.values() for one in kinds(report)}


async def test_a_person_who_says_that_nothing_is_held_is_believed(tmp_path: Path) -> None:
    with one_look("mt5", tmp_path) as place:
        before = await adopted(place, 2)
        place.simulator.add_to_replies(margin=None)
        emptied(place)
        _, reports = await place.look()
        assert held(reports) == before
        broker_values = {one.found.broker_value for report in reports.values() for one in report.discrepancies}
        assert all("record a position of 0" in str(text) for text in broker_values)
        for symbol, legs in before.items():
            await place.record(symbol, *(PositionReport(symbol, leg, D(0), D(0)) for leg, _ in legs))
        _, reports = await place.look()
        assert held(reports) == {name: [] for name in place.kind.symbols}
        assert {report.status for report in reports.values()} == {"SUCCESS"}
