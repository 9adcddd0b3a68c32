"""Who asked: every call of the handle that leaves something in the journal leaves user, process and strategy there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.book.book import Book
from actors.book.history import who
from actors.book.policy import Policy
from actors.events import EventType, Record
from actors.journal.store import Journal
from actors.reconciliation.grounds import Grounds
from actors.reconciliation.recompute import differences_from_journal
from supervisor.changes.asking import asked_by, process_words
from supervisor.cli.audit_query import line
from supervisor.client.aio import AsyncHandle
from supervisor.presentation.event_facts import facts
from supervisor.presentation.event_text import behind
from tests.unit.builders import INSTRUMENT, at, pos, slice_at
from tests.unit.hall import Hall, a_hall
from tests.unit.handle_cases import handle_of
from tests.unit.virtual_time import virtual_time

ONE = """
  - {name: fx, broker: oanda, simulator: true, max_correction: 10, interval_s: 3600, instruments: [EUR_USD]}
  - {name: all, broker: oanda, simulator: true, interval_s: 3600, instruments: all}
"""
ME = {"by": asked_by(), "process": process_words(), "strategy": "grid"}
Call = Callable[[AsyncHandle], Awaitable[object]]


def of_a_strategy(hall: Hall) -> AsyncHandle:
    return handle_of(hall, "grid")


def records(hall: Hall, after_seq: int) -> list[Record]:
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        return list(journal.records(after_seq=after_seq))
    finally:
        journal.close()


async def on(sup: AsyncHandle, method: str, *args: object) -> object:
    return await getattr(await sup.instrument("fx", "EUR_USD"), method)(*args)


async def on_break(sup: AsyncHandle, method: str, **terms: Any) -> object:
    (row,) = await sup.breaks.list()
    return await getattr(sup.breaks, method)(row, **terms)


CHECKS: dict[str, Call] = {
    "post_trade": lambda sup: on(sup, "post_trade", "buy"),
    "reconcile of an instrument": lambda sup: on(sup, "reconcile"),
    "reconcile of all": lambda sup: sup.reconcile(),
    "check": lambda sup: on(sup, "check"),
}


@pytest.mark.parametrize("call", CHECKS.values(), ids=CHECKS.keys())
@virtual_time
async def test_what_a_check_finds_names_who_asked_for_it(tmp_path: Path, call: Call) -> None:
    async with a_hall(tmp_path, ONE) as hall:
        hall.brokers["fx"].hold(5, instrument="EUR_USD")
        await hall.up()
        await hall.supervisor.pause("fx", None)
        await asyncio.sleep(4000)
        seen = records(hall, 0)[-1].seq
        hall.brokers["fx"].hold(7, instrument="EUR_USD")
        await call(of_a_strategy(hall))

        found = [one for one in records(hall, seen) if one.stream == "fx/EUR_USD"]
        assert {one.event.type for one in found} >= {EventType.RECONCILIATION_DISCREPANCY, EventType.POSITION_SYNCED}
        for record in found:
            asked: Any = record.event.payload["asked"]
            assert asked.items() >= ME.items()
            assert f"[{ME['by']}, process {ME['process']}, strategy grid]" in line(record)
            assert who(record.event).startswith(f"reconciliation, asked for by {ME['by']}")
            columns = facts(record)
            assert {key: columns[f"asked_{key}"] for key in ME} == ME
            assert columns["by"] is None


WORK: dict[str, tuple[EventType, Call]] = {
    "ack": (EventType.BREAK_ACKNOWLEDGED, lambda sup: on_break(sup, "ack", reason="TEST")),
    "assign": (EventType.BREAK_ASSIGNED, lambda sup: on_break(sup, "assign", owner="ben")),
    "propose": (EventType.BREAK_PROPOSED, lambda sup: on_break(sup, "propose", reason="TEST")),
    "approve": (EventType.BREAK_APPROVED, lambda sup: on_break(sup, "approve", reason="TEST")),
    "halt": (EventType.TRADING_HALTED, lambda sup: sup.halt("fx")),
    "pause": (EventType.OPERATOR_ACTION, lambda sup: sup.pause("fx")),
    "restart": (EventType.OPERATOR_ACTION, lambda sup: sup.restart("fx")),
    "set_interval": (EventType.CONFIGURATION_CHANGED, lambda sup: sup.set_interval("fx", None, 1800)),
    "instrument that is started by its name": (
        EventType.CONFIGURATION_CHANGED,
        lambda sup: sup.instrument("all", "USD_CHF"),
    ),
}


@pytest.mark.parametrize(("kind", "call"), WORK.values(), ids=WORK.keys())
@virtual_time
async def test_what_is_done_names_who_did_it(tmp_path: Path, kind: EventType, call: Call) -> None:
    async with a_hall(tmp_path, ONE) as hall:
        hall.brokers["fx"].hold(5, instrument="EUR_USD")
        await hall.up()
        hall.brokers["fx"].hold(500, instrument="EUR_USD")
        sup = of_a_strategy(hall)
        await sup.reconcile("fx")
        await hall.until(lambda s: bool(s["breaks"]["open"]), "the difference is found")
        seen = records(hall, 0)[-1].seq
        await call(sup)
        await asyncio.sleep(5)

        found = next(one for one in records(hall, seen) if one.event.type is kind)
        assert found.event.payload.items() >= ME.items()
        assert "strategy grid" in line(found)
        assert who(found.event) == f"operator ({ME['by']}, process {ME['process']}, strategy grid)"
        assert {key: facts(found)[key] for key in ME} == ME


def test_who_asked_decides_nothing() -> None:
    """A decision made again on its grounds has nobody who asks for it, and is the same."""
    book = Book("acc", INSTRUMENT)
    grounds = Grounds(book, slice_at(1, positions=[pos(5)]), Policy(), at(1), None, asked=ME)
    decision = grounds.decide()
    events = grounds.events_of(decision)
    nobody = replace(grounds, asked=None)

    assert all(event.payload["asked"] == ME for event in events)
    assert [event.event_id for event in events] == [event.event_id for event in nobody.events_of(decision)]
    journaled = [Record(seq, "fx/EUR_USD", seq, event, "", "") for seq, event in enumerate(events, 1)]
    assert differences_from_journal(journaled, nobody) == []
    assert behind(nobody.events_of(decision)[0], "") == ""
