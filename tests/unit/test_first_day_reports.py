"""A fill that cannot be, a fill of an order that nobody knows, and what an instrument's own log says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loguru import logger

from actors.book.book import Book
from actors.events import Json
from actors.instrument.diary import Diary
from actors.messages import CycleReport, Statistics
from actors.reconciliation.own_reports import FillReport, contradiction
from actors.reconciliation.reconciliation_pass import Status
from actors.runtime.bounded_log import CALM_S, LINES_A_MINUTE, BoundedLog
from brokers.model import Side
from brokers.registry import CONVENTIONS
from supervisor.errors import InvalidReport
from tests.unit.builders import at, dec
from tests.unit.hall import restarts, states
from tests.unit.handle_cases import FILL, a_handle
from tests.unit.virtual_time import virtual_time


@pytest.mark.parametrize(
    ("broker", "instrument", "price", "refused"),
    [
        ("oanda", "EUR_USD", -1, True),
        ("oanda", "EUR_USD", 1, False),
        ("kite", "NSE:INFY", -1, True),
        ("kite", "NFO:NIFTY26JANFUT", -1, True),
        ("kite", "MCX:CRUDEOIL26JANFUT", -37, False),
        ("kite", "NSE:INFY", 0, False),
        ("ib", "CL", -37, False),
        ("mt5", "WTI", -37, False),
    ],
)
def test_a_price_below_zero_is_refused_where_there_can_be_none(
    broker: str, instrument: str, price: int, refused: bool
) -> None:
    report = FillReport(instrument, "f1", None, Side.BUY, dec(1), dec(price), at(0))

    found = contradiction(Book("acc", instrument), report, at(1), CONVENTIONS[broker])

    assert (found is not None) is refused
    assert found is None or "no price of" in found


@virtual_time
async def test_a_fill_of_an_order_that_the_book_does_not_have_is_taken_with_a_warning(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        unknown = await eur.record_fill(**FILL, broker_order_id="88")  # type: ignore[arg-type] # as it is written
        await eur.record_order(broker_order_id="89", side="BUY", quantity="3", status="OPEN")
        known = await eur.record_fill(**{**FILL, "fill_id": "f2"}, broker_order_id="89")  # type: ignore[arg-type] # as above
        again = await eur.record_fill(**FILL, broker_order_id="88")  # type: ignore[arg-type] # as above

        by_our_id = await eur.record_fill(**{**FILL, "fill_id": "f9"}, client_order_id="nobody's")  # type: ignore[arg-type] # as above

        assert unknown.news
        assert "the book has no order nobody's" in str(by_our_id)
        assert "the book has no order 88" in str(unknown)
        assert known.warning is None
        assert (again.news, again.warning) == (False, None)
        hall.brokers["fx"].conventions = CONVENTIONS["oanda"]
        await eur.reconcile()
        with pytest.raises(InvalidReport, match="no price of EUR_USD is below zero"):
            await eur.record_fill(**{**FILL, "fill_id": "f3", "price": "-1"})  # type: ignore[arg-type] # as above


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    logger.remove()
    handle = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    yield lines
    logger.remove(handle)


def test_an_instrument_s_log_says_what_changed_and_is_bounded(logged: list[str]) -> None:
    now_s = 0.0
    diary = Diary("fx/EUR_USD", lambda: now_s)
    book: dict[str, Json] = {}
    calm = CycleReport("fx", "EUR_USD", Status.SUCCESS, None, at(0), 12.0, 1, book, book)
    failed = replace(calm, status=Status.DEGRADED, error="time-out")

    for _ in range(100):
        diary.write_cycle(calm, Statistics(cycles=1))
    diary.write_cycle(failed, Statistics(cycles=2))
    diary.write_cycle(failed, Statistics(cycles=3))
    now_s = CALM_S
    diary.write_cycle(failed, Statistics(cycles=4))

    assert [line.split(";")[0] for line in logged] == [
        "fx/EUR_USD: SUCCESS in 12 ms",
        *["fx/EUR_USD: DEGRADED in 12 ms"] * 2,
    ]
    assert "cycles 4" in logged[-1]


def test_what_changes_all_the_time_leaves_lines_out_and_says_how_many(logged: list[str]) -> None:
    now_s = 0.0
    log = BoundedLog("fx", lambda: now_s)
    for number in range(1000):
        log.write(number, lambda: "CONNECTED")
    now_s = 60.0
    log.write("calm", lambda: "CONNECTED")

    assert len(logged) == LINES_A_MINUTE + 1
    assert logged[-1] == f"fx: CONNECTED; {1000 - LINES_A_MINUTE} lines before this one were left out"


@virtual_time
async def test_accounts_and_the_journal_s_actor_log_what_they_did_and_why_they_came_back(
    tmp_path: Path, logged: list[str]
) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        hall.brokers["fx"].hold(3, instrument="XAU_USD")
        await sup.reconcile()
        await hall.cluster.kill("fx")
        await hall.until(lambda s: restarts(s, "fx") == 1 and states(s)["fx"] == "UP", "its account is back")
        await hall.cluster.kill("audit")
        await hall.until(lambda s: restarts(s, "audit") == 1 and states(s)["audit"] == "UP", "the journal is back")

    def said(*words: str) -> bool:
        return any(all(word in line for word in words) for line in logged)

    assert said("fx: CONNECTED", "UNMANAGED_INSTRUMENT XAU_USD: ", "fetches ", "errors 0")
    assert said("fx: restart 1 of this actor: ")
    assert said("audit: writing; records ", "commits, failed 0")
    assert said("audit: restart 1 of this actor: ")
    assert len([line for line in logged if line.startswith(("fx: CONNECTED", "audit: writing"))]) <= LINES_A_MINUTE
