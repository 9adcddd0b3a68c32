"""Kinds: a break that only a state which never comes can end; a count, or a last report, standing for what is true."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from actors.account import snapshot_cache
from actors.account.snapshot_cache import SnapshotCache
from actors.events import EventType
from actors.instrument.actor import LEAVES_WITHIN_S
from actors.journal.client import JournalAway
from actors.messages import SliceRequest, Unchanged
from actors.reconciliation.own_reports import OrderReport
from actors.runtime.ports import ActorUnavailable
from brokers.clocks import broker_time
from brokers.model import Complete, Failed, Fill, OrderStatus, Position, Section, Side, Snapshot, rows_of
from tests.unit.builders import ACCOUNT, INSTRUMENT, at, dec, fill, pos
from tests.unit.fakes import EURUSD, FX, a_house, passes
from tests.unit.virtual_time import virtual_time

SENT = OrderReport(EURUSD, "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
DISCREPANCIES = {EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED}


@virtual_time
async def test_a_break_of_an_account_is_the_same_one_after_its_restart_and_ends_though_it_went_meanwhile(
    tmp_path: Path,
) -> None:
    async with a_house(tmp_path) as house:
        house.broker.hold(5, instrument="OTHER")
        await house.account.start()
        await house.instrument().reconcile_now()
        await passes(1)
        opened = (await house.account.health()).discrepancies[0].found

        await (await house.replace_account()).start()
        await passes(1)
        await house.instrument().reconcile_now()
        await passes(1)
        again = (await house.account.health()).discrepancies[0].found
        assert (again.id, again.opened_at) == (opened.id, opened.opened_at)

        house.broker.hold(0, instrument="OTHER")
        await (await house.replace_account()).start()
        await passes(1)
        await house.instrument().reconcile_now()
        await passes(1)
        assert (await house.account.health()).discrepancies == ()
        kinds_of_breaks = [kind for kind in await house.kinds(FX) if kind in DISCREPANCIES]
        assert kinds_of_breaks == [EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED]


@virtual_time
async def test_a_book_is_empty_by_what_it_is_now_and_not_by_its_last_report(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        assert (await house.instrument().reconcile_now()).status == "SUCCESS"
        assert await house.instrument().is_empty()
        await house.instrument().record([SENT])
        assert not await house.instrument().is_empty()


@virtual_time
async def test_what_is_reported_to_an_instrument_that_retires_is_refused_and_never_left_alone(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        instrument = house.instrument()
        assert (await instrument.reconcile_now()).status == "SUCCESS"

        assert await instrument.leave()
        with pytest.raises(ActorUnavailable, match=f"{FX}/{EURUSD} did not answer record: it ends"):
            await instrument.record([SENT])
        assert await instrument.is_empty()

        await instrument.stay()  # the account has something of it
        assert await instrument.record([SENT]) == 1
        assert not await instrument.leave()
        assert await instrument.record([replace(SENT, client_order_id="c2")]) == 1


@virtual_time
async def test_an_instrument_does_not_leave_what_another_process_of_its_name_has_recorded(tmp_path: Path) -> None:
    """One whose death was not noticed. Its book was empty at its own last look."""
    async with a_house(tmp_path) as house:
        instrument, other = house.instrument(), house.second()
        assert (await instrument.reconcile_now()).status == "SUCCESS"
        await other.record([SENT])
        assert await instrument.is_empty()
        assert not await instrument.leave()
        assert await instrument.record([SENT]) == 0, "it is known, and nothing is refused"


@virtual_time
async def test_an_instrument_that_nobody_ends_takes_reports_again(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        instrument = house.instrument()
        assert (await instrument.reconcile_now()).status == "SUCCESS"
        assert await instrument.leave()
        await asyncio.sleep(LEAVES_WITHIN_S)
        assert await instrument.record([SENT]) == 1


@virtual_time
async def test_a_book_is_not_empty_while_the_journal_may_have_more(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        instrument = house.instrument()
        assert (await instrument.reconcile_now()).status == "SUCCESS"
        await house.lose_audit()
        with pytest.raises(JournalAway):
            await instrument.record([SENT])
        assert not await instrument.is_empty()
        assert not await instrument.leave()
        await house.open_audit()
        assert await instrument.record([SENT]) == 1


def a_cache(*fills: Fill, positions: Section[Position] | None = None, cursor: int = 1) -> SnapshotCache:
    cache = SnapshotCache(ACCOUNT, "1")
    cache.take(Snapshot(at(0), broker_time(at(0)), Complete(), Complete(), Complete(), 0), None)
    held = Complete() if positions is None else positions
    cache.take(Snapshot(at(1), broker_time(at(1)), held, Complete(), Complete(fills), cursor), 0)
    return cache


def test_what_an_instrument_was_not_given_is_not_forgotten_when_it_retires() -> None:
    cache = a_cache(fill("F1", 5, at_s=1))
    assert not cache.forget(INSTRUMENT)
    assert cache.instruments() == {INSTRUMENT}
    answer = cache.slice(SliceRequest(INSTRUMENT, at(1), 0))
    assert not isinstance(answer, Unchanged)
    assert [one.fill_id for one in rows_of(answer.fills)] == ["F1"]
    assert cache.forget(INSTRUMENT)
    assert cache.instruments() == frozenset()


def test_an_instrument_that_the_newest_snapshot_shows_does_not_retire() -> None:
    cache = a_cache(positions=Complete((pos(5),)))
    assert not cache.forget(INSTRUMENT)
    cache.take(Snapshot(at(2), broker_time(at(2)), Failed("away"), Complete(), Complete(), 2), 1)
    assert cache.forget(INSTRUMENT), "nothing is known, and its book is empty"


@pytest.mark.parametrize("instruments", [1, 3])
def test_a_fetch_of_more_fills_than_are_kept_is_given_whole(monkeypatch: pytest.MonkeyPatch, instruments: int) -> None:
    monkeypatch.setattr(snapshot_cache, "FILLS_KEPT", 4)
    cache = a_cache(*(fill(f"F{n}", 1, at_s=1) for n in range(20)))
    for _ in range(instruments):
        answer = cache.slice(SliceRequest(INSTRUMENT, at(1), 0))
        assert not isinstance(answer, Unchanged)
        assert isinstance(answer.fills, Complete)
        assert len(answer.fills.rows) == 20
    cache.take(Snapshot(at(2), broker_time(at(2)), Complete(), Complete(), Complete(), 2), 1)
    later = cache.slice(SliceRequest(INSTRUMENT, at(2), 1))
    assert not isinstance(later, Unchanged)
    assert later.fills == Complete()
    assert not cache.covers(0)
