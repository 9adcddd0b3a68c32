"""A broker that flaps fills no disk: what comes and goes all the time is reported a bounded number of times, stands
until it is calm, and keeps nothing back that changes a book."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from actors.book.discrepancies import DiscrepancyType
from actors.book.flapping import CALM, PROBLEMS_AT_MOST, REPORTS_AT_MOST, RecentReports
from actors.events import EventType
from brokers.model import Complete, Partial, Position, SectionName
from tests.unit.builders import at, dec
from tests.unit.fakes import EURUSD, FX, House, a_house, passes, problem, unreachable
from tests.unit.virtual_time import virtual_time

OPENED, ENDED = EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED
LOST, RESTORED = EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED


def test_it_flaps_by_how_often_it_was_reported_within_a_minute() -> None:
    reports: RecentReports[str] = RecentReports()
    for second in range(REPORTS_AT_MOST):
        assert not reports.flaps("a", at(second))
        reports.add("a", at(second))
    assert reports.flaps("a", at(REPORTS_AT_MOST))
    assert not reports.flaps("b", at(REPORTS_AT_MOST))
    assert not reports.flaps("a", at(CALM.total_seconds()))
    assert not reports.flaps("a", at(-3600))  # the clock was set back: what is to come is not lately


def test_what_was_reported_long_ago_is_forgotten() -> None:
    kept: dict[int, tuple[datetime, ...]] = {}
    reports = RecentReports(kept)
    for number in range(10_000):
        reports.add(number, at(number))
    assert 0 < len(kept) <= CALM.total_seconds()


def unreadable(house: House, *keys: str) -> None:
    rows = tuple(Position(EURUSD, "net", dec(5), dec("1.1")) for _ in (1,))
    problems = tuple(problem(SectionName.POSITIONS, EURUSD, key) for key in keys)
    house.broker.sections[SectionName.POSITIONS] = Partial(rows, problems) if keys else Complete(rows)


def most_in_a_minute(times: list[datetime]) -> int:
    return max(sum(timedelta() <= at - first < CALM for at in times) for first in times)


@virtual_time
async def test_a_row_that_can_and_cannot_be_read_stands_until_it_is_calm(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        for number in range(200):  # a look each second
            unreadable(house, *(["7"] if number % 2 else []))
            await house.instrument().reconcile_now(dry_run=False)
            await passes(1)
            if number == 100:
                allowed = await house.instrument().trading_allowed()
        times = [event.time for event in await house.events() if event.type is OPENED and not event.payload["resolved"]]
        assert most_in_a_minute(times) == REPORTS_AT_MOST
        assert not allowed

        unreadable(house)
        await passes(CALM.total_seconds() + 1)
        report = await house.instrument().reconcile_now()
        assert report.status == "SUCCESS"
        kinds = Counter(await house.kinds())
        assert kinds[OPENED] == kinds[ENDED] + 1  # the position that was found at first ended as it was found


@virtual_time
async def test_the_corrections_of_a_position_that_flaps_are_all_made(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        for number in range(60):
            house.broker.hold(5 + number % 2)
            report = await house.instrument().reconcile_now()
            assert report.book["legs"][0]["quantity"] == str(5 + number % 2)  # type: ignore[index,call-overload]
            await passes(1)
        assert Counter(await house.kinds())[EventType.POSITION_SYNCED] == 60


@virtual_time
async def test_ten_thousand_unreadable_rows_are_a_bounded_number_of_breaks(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        for look in range(3):
            unreadable(house, *(f"{look}-{number}" for number in range(10_000)))
            report = await house.instrument().reconcile_now()
            found = [one.found.key for one in report.discrepancies if one.found.type is DiscrepancyType.MALFORMED_DATA]
            assert len({key for key in found if key.startswith(f"positions:{look}-")}) == PROBLEMS_AT_MOST
            assert "positions:more" in found
            assert len((await house.instrument().health()).report.discrepancies) <= 2 * PROBLEMS_AT_MOST + 2  # type: ignore[union-attr]


@virtual_time
async def test_ten_thousand_rows_of_no_instrument_are_a_bounded_number_of_breaks_of_the_account(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.account.start()
        rows = tuple(problem(SectionName.ORDERS, None, str(number)) for number in range(10_000))
        house.broker.sections[SectionName.ORDERS] = Partial((), rows)
        await house.instrument().reconcile_now()
        assert len((await house.account.health()).discrepancies) == PROBLEMS_AT_MOST + 1
        await passes(1)
        assert Counter(await house.kinds(FX))[OPENED] == PROBLEMS_AT_MOST + 1


@virtual_time
async def test_a_connection_that_comes_and_goes_is_summed_up(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.account.start()
        for _ in range(150):
            house.broker.failing = unreachable()
            await house.account.instruments(house.clock())
            house.broker.failing = None
            await passes(1)  # it is asked again by itself within half a second
        times = [event.time for event in await house.events(FX) if event.type is LOST]
        assert most_in_a_minute(times) == REPORTS_AT_MOST
        house.broker.failing = None
        for _ in range(3):
            await house.instrument().reconcile_now()
            await passes(CALM.total_seconds() + 1)
        events = [one for one in await house.events(FX) if one.type in (LOST, RESTORED)]
        assert [one.type for one in events] == [LOST, RESTORED] * (len(events) // 2)
        assert sum(int(str(one.payload.get("losses", 1))) for one in events if one.type is RESTORED) >= 140


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_copy_goes_on_by_itself(seconds: int) -> None:
    reports: RecentReports[str] = RecentReports()
    copy = reports.copy()
    for _ in range(REPORTS_AT_MOST):
        copy.add("a", at(0))
    assert copy.flaps("a", at(0) + timedelta(seconds=seconds))
    assert not reports.flaps("a", at(0))
