"""Breaks as work over the whole house: listed, taken, approved by two, halting, and there again after every death."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.book.break_work import BreakAction, BreakRefused, BreakRequest
from actors.events import EventType
from actors.journal.store import Journal
from supervisor.cli.break_history import history_of, open_in_journal
from supervisor.cli.breaks import until_of
from supervisor.presentation.breaks import BUCKETS, age_bucket, age_words, summary, urgency
from tests.unit.builders import at
from tests.unit.hall import Hall, a_hall, restarts, rows, states
from tests.unit.virtual_time import virtual_time

CAREFUL = """
  - {name: fx, broker: oanda, simulator: true, max_correction: 10, four_eyes: true, instruments: [EUR_USD]}
"""
HALTING = CAREFUL.replace("four_eyes: true", "halt_on: [POSITION_MISMATCH]")


async def one_break(hall: Hall, quantity: int = 500) -> dict[str, Any]:
    """The break that comes of a change at the broker."""
    hall.brokers["fx"].hold(5, instrument="EUR_USD")
    await hall.up()
    hall.brokers["fx"].hold(quantity, instrument="EUR_USD")
    await hall.until(lambda s: bool(s["breaks"]["open"]), "the difference is found")
    (row,) = await hall.supervisor.breaks()
    return row


def asked(action: BreakAction, by: str, row: dict[str, Any], **terms: Any) -> BreakRequest:
    return BreakRequest(action, by, "MANUAL_TRADE", sides=(row["book_value"], row["broker_value"]), **terms)


@virtual_time
async def test_it_is_listed_taken_and_approved_by_two_and_then_the_book_is_right(tmp_path: Path) -> None:
    async with a_hall(tmp_path, CAREFUL) as hall:
        row = await one_break(hall)
        assert (row["book_value"], row["broker_value"], row["correction"]) == ("5", "500", "force_update_position")
        do = hall.supervisor.work_on_break
        short = row["id"][:6]
        until = hall.clock() + timedelta(hours=1)
        taken = await do(short, asked(BreakAction.ACKNOWLEDGE, "ann@desk", row, until=until))
        assert (taken["state"], taken["owner"]) == ("ACKNOWLEDGED", "ann@desk")
        assert [one["state"] for one in await hall.supervisor.breaks()] == ["ACKNOWLEDGED"]

        first = await do(short, asked(BreakAction.APPROVE, "ann@desk", row))
        assert first["state"] == "PROPOSED"
        await hall.cluster.kill("fx/EUR_USD")
        await hall.until(lambda s: rows(s)["fx/EUR_USD"]["health"]["restarts"] == 1, "its actor is back")
        (again,) = await hall.supervisor.breaks()
        assert (again["id"], again["state"], again["proposed"]["by"]) == (row["id"], "PROPOSED", "ann@desk")
        with pytest.raises(BreakRefused, match="ann proposed it"):
            await do(short, asked(BreakAction.APPROVE, "ann@home", row))

        await do(short, asked(BreakAction.APPROVE, "ben@desk", row, note="fat finger"))
        status = await hall.up()
        assert rows(status)["fx/EUR_USD"]["book"]["legs"][0]["quantity"] == "500"
        assert status["breaks"]["open"] == 0
        history = history_of(hall.configuration, short)
        done = [(record.event.type.value, record.event.payload.get("by")) for record in history]
        assert ("BREAK_ACKNOWLEDGED", "ann@desk") in done
        assert ("BREAK_PROPOSED", "ann@desk") in done
        assert done[-2:] == [("BREAK_APPROVED", "ben@desk"), ("DISCREPANCY_RESOLVED", None)]
        assert history[-1].event.payload["approved_by"] == "ben@desk"


@virtual_time
async def test_what_cannot_be_is_refused_with_what_can(tmp_path: Path) -> None:
    async with a_hall(tmp_path, CAREFUL) as hall:
        row = await one_break(hall)
        do = hall.supervisor.work_on_break
        for break_id, reason, says in (
            ("ffffffff", "OTHER", "no break with that id is open"),
            ("ff", "OTHER", "the id is too short"),
            (row["id"], "BORED", r"BORED is not a reason code\. Use one of BOOKING_ERROR"),
        ):
            with pytest.raises(BreakRefused, match=says):
                await do(break_id, BreakRequest(BreakAction.APPROVE, "ann@desk", reason))


@virtual_time
async def test_an_accounts_own_break_is_taken_and_known_after_its_death(tmp_path: Path) -> None:
    async with a_hall(tmp_path, CAREFUL) as hall:
        await hall.up()
        hall.brokers["fx"].hold(7, instrument="GBP_JPY")
        await hall.until(lambda s: bool(s["breaks"]["open"]), "an instrument nobody manages is reported")
        (row,) = await hall.supervisor.breaks()
        assert (row["account"], row["instrument"], row["type"]) == ("fx", "", "UNMANAGED_INSTRUMENT")
        until = hall.clock() + timedelta(days=1)
        await hall.supervisor.work_on_break(row["id"], asked(BreakAction.WAIVE, "ann@desk", row, until=until))
        with pytest.raises(BreakRefused, match="no correction of it waits"):
            await hall.supervisor.work_on_break(row["id"], asked(BreakAction.APPROVE, "ann@desk", row))
        await hall.cluster.kill("fx")

        async def waived() -> bool:
            return [one["state"] for one in await hall.supervisor.breaks()] == ["WAIVED"]

        for _ in range(300):
            await asyncio.sleep(0.1)
            if await waived():
                break
        assert await waived()


@virtual_time
async def test_a_break_that_halts_does_so_until_a_person_resumes_and_not_again_for_the_same_break(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path, HALTING) as hall:
        await one_break(hall)
        status = await hall.until(lambda s: bool(rows(s)["fx/EUR_USD"]["health"]["halted"]), "trading is halted")
        (halt,) = rows(status)["fx/EUR_USD"]["health"]["halted"]
        assert halt["reason"] == "halted by POSITION_MISMATCH net, as the configuration says"
        assert not await hall.actor("fx/EUR_USD").trading_allowed()
        assert len(hall.events(EventType.TRADING_HALTED)) == 1

        await hall.supervisor.resume_trading("fx", None)
        await asyncio.sleep(20)
        await hall.cluster.kill("fx/EUR_USD")
        await asyncio.sleep(20)
        assert len(hall.events(EventType.TRADING_HALTED)) == 1
        reasons = (await hall.actor("fx/EUR_USD").trading_allowed()).reasons
        assert "HALTED" not in {reason.obstacle.value for reason in reasons}


@virtual_time
async def test_the_journal_alone_shows_what_is_open_and_who_has_it(tmp_path: Path) -> None:
    async with a_hall(tmp_path, CAREFUL) as hall:
        row = await one_break(hall)
        hall.brokers["fx"].hold(7, instrument="GBP_JPY")
        await hall.until(lambda s: s["breaks"]["open"] == 2, "both are reported")
        await hall.supervisor.work_on_break(row["id"], BreakRequest(BreakAction.ASSIGN, "ann@desk", owner="ben"))
        live = {(one["id"], one["state"], one["owner"]) for one in await hall.supervisor.breaks()}
    listed = open_in_journal(hall.configuration)
    assert {(one["id"], one["state"], one["owner"]) for one in listed} == live
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    assert journal.verify().ok
    journal.close()


@pytest.mark.parametrize(
    ("age_s", "bucket", "words"),
    [(0, "<1m", "0s"), (59.9, "<1m", "59s"), (60, "<15m", "1m"), (3599, "<1h", "59m 59s"), (90061, "<7d", "1d 1h"),
     (604800, "older", "7d")],
)  # fmt: skip
def test_ages_are_given_in_buckets_and_in_two_units(age_s: float, bucket: str, words: str) -> None:
    assert (age_bucket(age_s), age_words(age_s)) == (bucket, words)
    assert bucket in BUCKETS


def test_what_nobody_has_comes_before_what_somebody_has_and_the_grave_before_the_slight() -> None:
    def row(state: str, severity: str, age_s: int) -> dict[str, Any]:
        return {"state": state, "severity": severity, "age_s": age_s, "age": "<1m"}

    ordered = [
        row("OPEN", "CRITICAL", 90),
        row("OPEN", "CRITICAL", 5),
        row("PROPOSED", "WARNING", 1),
        row("OPEN", "WARNING", 500),
        row("ACKNOWLEDGED", "CRITICAL", 900),
        row("WAIVED", "INFO", 9000),
    ]
    assert sorted((ordered[place] for place in (3, 0, 5, 2, 4, 1)), key=urgency) == ordered
    assert summary(ordered)["by_state"] == {"ACKNOWLEDGED": 1, "OPEN": 3, "PROPOSED": 1, "WAIVED": 1}


def test_a_length_of_time_is_from_now_on_and_a_time_is_itself() -> None:
    assert until_of("2h", at(0)) == at(7200)
    assert until_of("2024-01-03T09:00Z", at(0)) == at(86400)
    assert until_of("12:00", at(0)) == at(10800)


REPORTING = """
  - {name: fx, broker: oanda, simulator: true, instruments: [EUR_USD]}
alerts: {routes: [{name: desk, url: "json://127.0.0.1:9/nobody", severity: CRITICAL}]}
"""


@virtual_time
async def test_the_alerts_actor_is_one_of_the_house_shown_and_brought_back(tmp_path: Path) -> None:
    async with a_hall(tmp_path, REPORTING) as hall:
        status = await hall.up()
        shown = [(row["name"], row["kind"], row["state"]) for row in status["supervisor"]["actors"]]
        assert shown[:2] == [("audit", "audit", "UP"), ("alerts", "alerts", "UP")]
        await hall.until(lambda s: bool(s["supervisor"]["alerts"]["caught_up"]), "it has read the journal")
        await hall.cluster.kill("alerts")
        await hall.until(lambda s: restarts(s, "alerts") == 1 and states(s)["alerts"] == "UP", "it is back")
