"""The instrument actor among answers that come late, twice or never, and reports that contradict what is known."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.instrument.actor import CycleTrigger
from actors.reconciliation.own_reports import Report
from brokers.model import (
    Conventions,
    LegScheme,
    Partial,
    SectionName,
    Side,
)
from tests.unit.builders import order_report
from tests.unit.fakes import (
    FX,
    QUICK,
    a_house,
    found,
    passes,
    problem,
    quantities,
    until,
)
from tests.unit.instrument_cases import (
    AT_ONCE,
    a_fill,
    an_order,
    in_memory,
    last,
    open_orders,
    verdict,
)
from tests.unit.virtual_time import virtual_time


@virtual_time
async def test_two_verdicts_at_once_both_say_the_truth(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(10)
        await verdict(house)
        house.broker.hold(0)
        both = await asyncio.gather(verdict(house), verdict(house))
        for report in both:
            assert (report.status, quantities(report), found(report)) == ("SUCCESS", {}, ["NAKED_POSITION"])


@virtual_time
async def test_what_the_loop_resolves_between_the_passes_of_a_verdict_is_resolved_in_it(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=10.0) as house:
        house.broker.hold(10)
        await house.start()
        await passes(1)
        house.broker.hold(0)
        asking = asyncio.create_task(verdict(house))
        await passes(0.3)
        await house.instrument().wake()
        report = await asking
        assert (report.status, found(report)) == ("SUCCESS", ["NAKED_POSITION"])


@virtual_time
async def test_an_account_that_restarts_between_the_slice_and_the_lookup_proves_nothing(tmp_path: Path) -> None:
    """PEERS 12"""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.order("7", client_id="c1")
        await verdict(house)
        house.broker.forgotten.add("7")
        house.broker.find_gate.clear()
        cycle = asyncio.create_task(house.instrument().cycle(CycleTrigger(house.clock())))
        await until(lambda: house.broker.finds == 1)
        await house.replace_account()
        house.broker.find_gate.set()
        report = await cycle
        assert report.unverified
        assert len(open_orders(report)) == 1
        house.broker.forgotten.clear()
        assert (await verdict(house)).status == "SUCCESS"


@virtual_time
async def test_an_account_that_answers_lookups_with_nothing_leaves_the_orders_open(tmp_path: Path) -> None:
    """Law 7: a half answer is no answer, and is reported."""
    async with a_house(tmp_path, policy=AT_ONCE) as house:
        house.broker.order("7", client_id="c1")
        await verdict(house)
        house.broker.forgotten.add("7")

        async def nothing(queries: object) -> tuple[()]:
            return ()

        house.account.find_orders = nothing  # type: ignore[method-assign]  # a broken one
        report = await verdict(house)
        assert report.status == "PARTIAL"
        assert "7" in (report.error or "")
        assert len(open_orders(report)) == 1


@virtual_time
async def test_no_answer_in_time_and_then_one(tmp_path: Path) -> None:
    """PEERS 7"""
    async with a_house(tmp_path, patience_s=2.0) as house:
        house.broker.hold(5)
        house.broker.gate.clear()
        report = await verdict(house)
        assert report.status == "DEGRADED"
        assert "has not answered" in (report.error or "")
        house.broker.gate.set()
        await passes(0.1)
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("SUCCESS", {"net": "5"})


@virtual_time
async def test_a_dead_account_degrades_and_its_next_incarnation_is_used(tmp_path: Path) -> None:
    """FEATURES 12, PEERS 8"""
    async with a_house(tmp_path) as house:
        house.broker.hold(5)
        await verdict(house)
        await house.runtime.kill(FX)
        report = await verdict(house)
        assert (report.status, quantities(report)) == ("DEGRADED", {"net": "5"})
        assert "fx did not answer slice" in (report.error or "")
        await house.replace_account()
        house.broker.hold(6)
        assert quantities(await verdict(house)) == {"net": "6"}


@virtual_time
async def test_an_error_of_ours_fails_one_cycle_and_the_next_tries_again(tmp_path: Path) -> None:
    """FEATURES 21"""
    async with a_house(tmp_path, interval_s=10.0) as house:
        await house.start()
        await passes(1)

        async def wrong(request: object) -> object:
            return "an answer of another kind"

        right = house.account.slice
        house.account.slice = wrong  # type: ignore[method-assign, assignment]  # a broken one
        await passes(20)
        report = await last(house)
        assert report.status == "FAILED"
        assert (await house.instrument().health()).statistics.failures > 0
        house.account.slice = right  # type: ignore[method-assign]  # as it was
        await passes(20)
        assert (await last(house)).status == "SUCCESS"


@virtual_time
async def test_an_unreadable_row_is_a_discrepancy_and_the_others_go_on(tmp_path: Path) -> None:
    """FEATURES 21, law 7"""
    async with a_house(tmp_path, ["EURUSD", "GBPUSD"]) as house:
        bad = problem(SectionName.POSITIONS, "EURUSD", "5")
        house.broker.hold(5, instrument="GBPUSD")
        house.broker.sections[SectionName.POSITIONS] = Partial(tuple(house.broker.held.values()), (bad,))
        mine, other = await verdict(house), await verdict(house, "GBPUSD")
        assert (mine.status, found(mine)) == ("PARTIAL", ["MALFORMED_DATA!"])
        assert (other.status, quantities(other)) == ("SUCCESS", {"net": "5"})


@virtual_time
async def test_a_fill_read_beside_an_unreadable_one_is_applied_at_once(tmp_path: Path) -> None:
    """PEERS 4, FEATURES 5"""
    async with a_house(tmp_path, ["EURUSD", "GBPUSD"]) as house:
        await verdict(house)
        await verdict(house, "GBPUSD")
        trade = house.broker.trade(5)
        bad = problem(SectionName.FILLS, "GBPUSD", "9")
        house.broker.sections[SectionName.FILLS] = Partial((trade,), (bad,))
        report = await verdict(house)
        assert quantities(report) == {"net": "5"}
        assert EventType.ORDER_FILLED in await house.kinds()
        house.broker.sections.clear()
        assert (await verdict(house)).status == "SUCCESS"
        fills = [kind for kind in await house.kinds() if kind is EventType.ORDER_FILLED]
        assert len(fills) == 1


@virtual_time
async def test_a_fill_recorded_after_a_restart_joins_the_leg_that_the_account_keeps(tmp_path: Path) -> None:
    """FEATURES 13: before the broker has said how it keeps positions, the book's own legs say."""
    policy = replace(QUICK, conventions=Conventions(LegScheme.TICKET))
    async with a_house(tmp_path, policy=policy, conventions=Conventions(LegScheme.NET)) as house:
        house.broker.hold(10)
        await verdict(house)
        again = await house.replace_instrument()
        await again.record([a_fill("f", 5, house)])
        book = again.keeper.book
        assert book is not None
        assert {name: leg.quantity for name, leg in book.legs.items()} == {"net": 15}


@virtual_time
async def test_health_answers_while_a_cycle_hangs_and_shows_how_long(tmp_path: Path) -> None:
    """FEATURES 29: never blocking. Health is the age of the last finished cycle."""
    async with a_house(tmp_path, interval_s=10.0, patience_s=None, cycle_timeout_s=1e6) as house:
        await house.start()
        await passes(1)
        house.broker.gate.clear()
        await passes(500)
        health = await asyncio.wait_for(house.instrument().health(), 0.1)
        assert health.cycle_age_s is not None
        assert health.cycle_age_s > 400
        house.broker.gate.set()


@virtual_time
async def test_health_waits_for_the_first_cycle_as_long_as_it_is_asked_to(tmp_path: Path) -> None:
    """Whoever starts a fleet learns of each book as soon as it is verified."""
    async with a_house(tmp_path, interval_s=10.0, patience_s=None, cycle_timeout_s=1e6) as house:
        now_s = asyncio.get_running_loop().time
        house.broker.gate.clear()
        await house.start()
        began_s = now_s()
        assert (await house.instrument().health(2.0)).cycle_age_s is None
        assert now_s() - began_s == pytest.approx(2.0)
        asked = asyncio.create_task(house.instrument().health(60.0))
        await asyncio.sleep(0.01)
        house.broker.gate.set()
        assert (await asked).statistics.cycles == 1
        house.broker.gate.clear()
        began_s = now_s()
        await house.instrument().wake()
        assert (await house.instrument().health(60.0)).statistics.cycles == 1  # later ones are not waited for
        assert now_s() == began_s
        house.broker.gate.set()


@virtual_time
@pytest.mark.parametrize(("ahead", "taken"), [(timedelta(minutes=14), True), (timedelta(hours=1), False)])
async def test_a_report_of_a_time_to_come_is_refused_and_nothing_recorded(
    ahead: timedelta, taken: bool, tmp_path: Path
) -> None:
    """A local time reported as UTC would count beside every position that the broker shows until then."""
    async with a_house(tmp_path) as house:
        reports: list[Report] = [
            a_fill("f1", 1, house, time=house.clock() + ahead),
            replace(an_order("c1", house), submitted_at=house.clock() + ahead),
        ]
        for report in reports:
            if taken:
                assert await house.instrument().record((report,)) == 1
            else:
                with pytest.raises(ValueError, match=r"this machine's clock says .*: report times in UTC"):
                    await house.instrument().record((report,))
        assert bool(in_memory(house)["legs"]) is taken


@virtual_time
@pytest.mark.parametrize("other", [{"side": Side.SELL}, {"price": Decimal("1.2")}, {"quantity": Decimal(4)}], ids=str)
async def test_another_fill_under_a_known_id_is_refused_and_not_taken_for_the_first(
    other: dict[str, Any], tmp_path: Path
) -> None:
    """One that is passed over as known is a fill that is lost."""
    async with a_house(tmp_path) as house:
        first = a_fill("f1", 3, house)
        assert await house.instrument().record([first]) == 1
        assert await house.instrument().record([replace(first, quantity=Decimal("3.0"))]) == 0
        with pytest.raises(ValueError, match=r"fill f1 was reported as a BUY of 3 @ 1.1, .* an id of its own"):
            await house.instrument().record([a_fill("f2", 1, house), replace(first, **other)])
        assert in_memory(house)["legs"] != {}
        assert await house.instrument().record([a_fill("f2", 1, house)]) == 1  # nothing of the refused ones was taken


@virtual_time
async def test_an_order_reported_under_the_id_of_one_of_the_other_side_is_refused_and_nothing_recorded(
    tmp_path: Path,
) -> None:
    async with a_house(tmp_path) as house:
        await house.instrument().record([order_report("c1")])
        with pytest.raises(ValueError, match=r"fx/EURUSD: order c1 is a BUY of 100 .* an id of its own"):
            await house.instrument().record([order_report("c2"), order_report("c1", side=Side.SELL)])
        book = (await house.instrument().health()).version
        assert await house.instrument().record([order_report("c1")]) == 0
        assert (await house.instrument().health()).version == book
