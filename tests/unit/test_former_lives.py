"""What is reported after everything was killed at once, and after the journal could not be written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType, Json, to_iso
from actors.journal.store import Journal
from actors.names import SUPERVISOR
from actors.reconciliation.own_reports import PositionReport
from supervisor.changes.applied_configuration import Run
from supervisor.supervision.former_lives import TOGETHER
from supervisor.supervision.outages import Outages
from tests.unit.builders import at, dec
from tests.unit.hall import EVERYBODY, Hall, a_hall, restarts, rows
from tests.unit.virtual_time import virtual_time


async def _one_correction(hall: Hall) -> None:
    await hall.supervisor.record("fx", {"EUR_USD": [PositionReport("EUR_USD", "net", dec(80), dec(1.1))]})
    await hall.supervisor.verdict("fx", "EUR_USD", False)


def _restarted(hall: Hall) -> dict[str, str]:
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        found = [one.event.payload for one in journal.records(types=(EventType.ACTOR_RESTARTED,))]
    finally:
        journal.close()
    return {str(one["actor"]): str(one["reason"]) for one in found}


def _counts(status: dict[str, Any]) -> tuple[int, int]:
    health = rows(status)["fx/EUR_USD"]["health"]
    return health["corrections"], health["by_type"].get("POSITION_MISMATCH", 0)


@pytest.mark.parametrize("survivors", [(), ("audit", "fx", "fx/EUR_USD")], ids=["nobody lives", "some live"])
def test_counts_go_on_after_the_supervisor_and_its_actors_were_killed(
    tmp_path: Path, survivors: tuple[str, ...]
) -> None:
    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            await hall.cluster.kill(SUPERVISOR)
            run = Run("one", {}, hall.clock())
            hall.new_supervisor(run)
            hall.brokers["fx"].hold(100, instrument="EUR_USD")
            await hall.up()
            await _one_correction(hall)
            before = await hall.until(lambda s: _counts(s)[1] == 1, "it was corrected")
            killed = EVERYBODY - set(survivors)

            for name in (SUPERVISOR, *sorted(killed)):
                await hall.cluster.kill(name)
            await asyncio.sleep(1)
            hall.new_supervisor(run)
            after = await hall.until(
                lambda s: s["status"] == "SUCCESS" and _counts(s) == _counts(before), "counts are as they were"
            )

            assert {name: restarts(after, name) for name in EVERYBODY} == {
                name: int(name in killed) for name in EVERYBODY
            }
            assert after["supervisor"]["restarts"] == 1
            reasons = _restarted(hall)
            assert reasons.keys() == {SUPERVISOR, *killed}
            assert all(reasons[name] == TOGETHER for name in killed)

    virtual_time(story)()


@virtual_time
async def test_a_new_start_counts_anew(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.up()
        await _one_correction(hall)
        await hall.supervisor.stop()
        await asyncio.sleep(1)

        hall.new_supervisor(Run("another", {}, hall.clock()))
        status = await hall.up()

        assert _counts(status)[1] == 0
        assert {restarts(status, name) for name in EVERYBODY} == {0}
        assert status["supervisor"]["restarts"] == 0


def test_an_outage_is_reported_once_when_it_is_over() -> None:
    outages = Outages(at(0))
    seen: Json = {"since": to_iso(at(10)), "until": to_iso(at(20)), "reason": "the disk is full"}

    assert outages.over({"error": None, "last_outage": None}, at(5)) is None
    assert outages.over({"error": "the disk is full", "away_since": to_iso(at(10))}, at(12)) is None
    assert outages.over({"error": None, "last_outage": seen}, at(21)) == seen
    assert outages.over({"error": None, "last_outage": seen}, at(22)) is None


def test_an_outage_whose_actor_was_replaced_is_reported_as_far_as_it_was_heard_of() -> None:
    outages = Outages(at(0))
    outages.over({"error": "the disk is full", "away_since": to_iso(at(10))}, at(12))

    outage = outages.over({"error": None, "last_outage": None}, at(30))

    assert outage == {"since": to_iso(at(10)), "until": to_iso(at(30)), "reason": "the disk is full"}


def test_an_outage_that_was_over_before_this_supervisor_began_is_not_reported_again() -> None:
    was: Json = {"since": to_iso(at(10)), "until": to_iso(at(20)), "reason": "the disk is full"}

    assert Outages(at(30)).over({"error": None, "last_outage": was}, at(31)) is None
