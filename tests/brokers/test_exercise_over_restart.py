"""Options that were exercised or assigned while nobody looked: the first look of a new process finds the option gone
and its shares come, and says so in one story."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from actors.book.discrepancies import Cause
from actors.messages import CycleReport
from brokers.model import NET
from tests.brokers.one_look import OneLook, held, one_look

D = Decimal
PUT, CALL = "XSP   270115P00050000", "XSP   270115C00050000"
STOCK = "XSP"


async def in_books(place: OneLook, option: str, quantity: int, shares: int) -> None:
    """The books hold the option and perhaps shares, and the process that looked has ended."""
    place.simulator.set_position(option, NET, D(quantity), D(2))
    if shares:
        place.simulator.set_position(STOCK, NET, D(shares), D(40))
    _, reports = await place.look(option, STOCK)
    assert {report.status for report in reports.values()} == {"SUCCESS"}


def causes(report: CycleReport) -> list[tuple[Cause | None, tuple[str, ...]]]:
    return [(one.found.cause, one.found.linked) for one in report.discrepancies]


@pytest.mark.parametrize(
    ("option", "quantity", "had", "now", "price", "cause"),
    [
        (PUT, -1, 0, 100, 50, Cause.ASSIGNMENT),
        (PUT, -1, 100, 200, 45, Cause.ASSIGNMENT),
        (CALL, 1, 0, 100, 50, Cause.EXERCISE),
        (CALL, -1, 100, 0, 0, Cause.ASSIGNMENT),
        (PUT, -1, 0, 100, 47, Cause.UNEXPLAINED),
        (PUT, -1, 0, 70, 50, Cause.UNEXPLAINED),
    ],
    ids=[
        "a put assigned",
        "beside shares",
        "a call exercised",
        "shares called away",
        "not at the strike",
        "another size",
    ],
)
async def test_the_first_look_of_a_new_process_reports_an_exercise_or_an_assignment(
    option: str, quantity: int, had: int, now: int, price: int, cause: Cause, tmp_path: Path
) -> None:
    with one_look("ib", tmp_path) as place:
        await in_books(place, option, quantity, had)
        place.simulator.set_position(option, NET, D(0), D(0))
        place.simulator.set_position(STOCK, NET, D(now), D(price))
        # What else is held keeps this from being an account that is emptied at once.
        place.simulator.set_position("AAPL", NET, D(1), D(100))
        _, reports = await place.look(option, STOCK)
        assert held(reports) == {option: [], STOCK: [("net", str(now))] if now else []}
        explained = cause is not Cause.UNEXPLAINED
        assert causes(reports[option]) == [(cause, (STOCK,) if explained else ())]
        assert causes(reports[STOCK]) == [(cause, (option,) if explained else ())]
        _, reports = await place.look(option, STOCK)
        assert [report.discrepancies for report in reports.values()] == [(), ()]
