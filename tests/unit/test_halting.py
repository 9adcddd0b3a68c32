"""Halting and resuming through the handle, and whether trading is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.book.trading_permission import EVERYTHING, HALT_TYPES, Obstacle, folded
from actors.events import Event, EventType, Severity
from actors.journal.actor import Audit
from actors.journal.store import Journal
from actors.journal.types import Append
from actors.names import AUDIT, symbol_of
from actors.runtime.ports import LocalRuntime
from supervisor.changes.parsing import asked_by
from supervisor.client.aio import AsyncHandle
from supervisor.client.instrument import AsyncInstrument
from supervisor.errors import (
    HaltNotDurable,
    NotAnswered,
)
from supervisor.supervision.halts import Halting
from tests.unit.fakes import Clock, in_this_thread, refused
from tests.unit.hall import a_hall, states
from tests.unit.handle_cases import ALL, a_handle, allowed, back, handle_of, journaled, until_so
from tests.unit.virtual_time import virtual_time

# Halts


@pytest.mark.parametrize(
    ("account", "instrument", "halted", "stream"),
    [
        (None, None, {"fx/EUR_USD", "fx/GBP_JPY", "cfd/EURUSD"}, "supervisor"),
        ("fx", None, {"fx/EUR_USD", "fx/GBP_JPY"}, "fx"),
        ("fx", "GBP_JPY", {"fx/GBP_JPY"}, "fx/GBP_JPY"),
        (None, "EURUSD", {"cfd/EURUSD"}, "cfd/EURUSD"),
    ],
    ids=["everything", "an account", "an instrument", "an instrument wherever it is"],
)
def test_a_halt_stops_trading_where_it_says_over_every_restart_until_it_is_resumed(
    tmp_path: Path, account: str | None, instrument: str | None, halted: set[str], stream: str
) -> None:
    async def story() -> None:
        async with a_handle(tmp_path) as (hall, sup):
            everything = set(await allowed(sup))
            done = await sup.halt(account, instrument, reason="news")
            assert done
            assert done.durable
            assert {name for name, may in (await allowed(sup)).items() if not may} == halted
            assert journaled(hall) == [(stream, "TRADING_HALTED")]
            await sup.halt(account, instrument)
            assert journaled(hall) == [(stream, "TRADING_HALTED")], "halted twice is halted"
            cycles = (await sup.status()).to_dict()
            assert cycles["status"] == "SUCCESS", "reconciliation goes on"

            for name in (*halted, "supervisor"):
                await hall.cluster.kill(name)
            hall.new_supervisor()
            await hall.up()

            async def as_before() -> bool:
                return {name for name, may in (await allowed(sup)).items() if not may} == halted

            await until_so(as_before, "the same after the actors were killed")
            row = {r["instrument"]: r["health"]["halted"] for a in (await sup.status()).to_dict()["accounts"]
                   for r in a["instruments"]}  # fmt: skip
            assert {symbol for symbol, halts in row.items() if halts} == {symbol_of(name) for name in halted}

        async with a_handle(tmp_path) as (hall, sup):
            await until_so(as_before_in(sup, halted), "the same after everything was started anew")
            done = await sup.resume_trading(account, instrument)
            assert done.result.remaining == ()
            assert {name for name, may in (await allowed(sup)).items() if may} == everything
            assert journaled(hall) == [(stream, "TRADING_HALTED"), (stream, "TRADING_RESUMED")]

    virtual_time(story)()


def as_before_in(sup: AsyncHandle, halted: set[str]) -> Callable[[], Any]:
    async def holds() -> bool:
        return {name for name, may in (await allowed(sup)).items() if not may} == halted

    return holds


@virtual_time
async def test_a_wider_halt_outlives_a_narrower_resume_and_is_shown(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (_, sup):
        await sup.halt(reason="all")
        await sup.halt("fx", "EUR_USD", reason="one")
        done = await sup.resume("fx")
        assert done.result.scopes == ("fx/EUR_USD",)
        assert [halt.scope for halt in done.result.remaining] == [EVERYTHING]
        assert not any((await allowed(sup)).values())
        assert "everything" in str(done)
        await sup.resume()
        assert all((await allowed(sup)).values())


@virtual_time
async def test_an_instrument_that_is_found_later_is_halted_with_its_account(tmp_path: Path) -> None:
    async with a_hall(tmp_path, ALL) as hall:
        sup = handle_of(hall)
        hall.brokers["fx"].hold(5, instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in states(s), "the first is found")
        await sup.halt("fx")
        hall.brokers["fx"].hold(5, instrument="USD_CHF")
        found = await hall.until(lambda s: states(s).get("fx/USD_CHF") == "UP", "the second is found")
        assert found
        against = (await (await sup.instrument("fx", "USD_CHF")).trading_allowed()).reasons
        assert Obstacle.HALTED in [reason.obstacle for reason in against]


@virtual_time
async def test_a_halt_is_in_force_at_once_and_written_as_soon_as_the_journal_can(tmp_path: Path) -> None:
    runtime = LocalRuntime(Clock(), asyncio.get_running_loop().time, lambda: 0.5)
    halting = Halting(runtime)
    assert halting.on("fx/EUR_USD") is None, "not known is not none"
    halting.put("fx", "news")
    failure = await halting.keep("fx")
    assert failure is not None
    assert [halt.scope for halt in halting.on("fx/EUR_USD") or ()] == ["fx"]
    assert (await halting.lift("fx"))[1] is not None, "what is not known cannot be lifted"

    audit = Audit(f"sqlite:///{tmp_path}/journal.db", run_blocking=in_this_thread)
    await audit.open()
    runtime.register(AUDIT, audit)
    await asyncio.sleep(3)
    assert [record.stream for record in await audit.records(types=[EventType.TRADING_HALTED])] == ["fx"]
    await halting.learn()
    assert await halting.lift(EVERYTHING) == (("fx",), None)
    assert halting.on("fx/EUR_USD") == ()
    again = Halting(runtime)
    await again.learn()
    assert again.on("fx/EUR_USD") == ()
    await runtime.kill(AUDIT)
    await audit.close()


@virtual_time
async def test_a_halt_waits_for_a_journal_that_is_away_and_is_durable_when_it_returns(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        assert await eur.trading_allowed()
        await hall.cluster.kill("audit")
        halting = asyncio.create_task(sup.halt("fx", reason="news"))
        await until_so(lambda: denied(eur), "it is in force before it is durable")
        done = await halting
        assert done.durable
        assert journaled(hall) == [("fx", "TRADING_HALTED")]


async def denied(instrument: AsyncInstrument) -> bool:
    return not await instrument.trading_allowed()


@virtual_time
async def test_a_halt_that_could_not_be_made_durable_is_in_force_and_raises(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        hall.has_room_for_audit = False
        await hall.cluster.kill("audit")
        with pytest.raises(HaltNotDurable, match=r"^halted now, but not durable: .*: halt again$") as raised:
            await sup.halt("fx", reason="news")
        assert raised.value.result.instruments == ("fx/EUR_USD", "fx/GBP_JPY")
        assert await denied(eur)
        hall.has_room_for_audit = True
        await sup.restart("audit")
        assert (await sup.halt("fx", reason="news")).durable
        assert journaled(hall) == [("fx", "TRADING_HALTED")]


@virtual_time
async def test_what_an_operator_did_says_who_it_was(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (_, sup):
        await sup.halt("fx", reason="news")
        await sup.pause("fx", "EUR_USD")
        await sup.resume()
        await sup.restart("cfd")
        done = await sup.audit(types=["TRADING_HALTED", "TRADING_RESUMED", "OPERATOR_ACTION"], newest_first=False)
        by = asked_by()
        assert [entry.payload["by"] for entry in done] == [by] * 5
        assert [entry.text for entry in done] == [
            f"trading halted by {by}: news",
            f"{by} paused fx/EUR_USD",
            f"trading resumed by {by}",
            f"{by} resumed fx/EUR_USD, fx/GBP_JPY, cfd/EURUSD",
            f"{by} restarted cfd",
        ]


def test_a_halt_in_force_stays_when_older_records_are_moved_into_an_archive(tmp_path: Path) -> None:
    journal = Journal.open(f"sqlite:///{tmp_path}/journal.db", exclusive=True)
    try:
        for stream, kind in (
            ("fx", EventType.TRADING_HALTED),
            ("fx", EventType.TRADING_RESUMED),
            ("fx", EventType.CONNECTION_LOST),
            (EVERYTHING, EventType.TRADING_HALTED),
            ("fx", EventType.CONNECTION_RESTORED),
        ):
            version = journal.load(stream).version
            event = Event(f"{stream}{version}", kind, Severity.INFO, datetime(2024, 1, 2, tzinfo=UTC), {})
            journal.append([Append(stream, version, (event,))])
        moved = journal.archive(datetime(2025, 1, 1, tzinfo=UTC), tmp_path / "old.db")
        assert (moved.records, moved.held_by) == (3, EVERYTHING)
        assert set(folded(journal.records(types=HALT_TYPES))) == {EVERYTHING}
    finally:
        journal.close()


# Whether trading is allowed


@virtual_time
async def test_a_refused_account_is_not_traded(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        assert await eur.trading_allowed()
        hall.brokers["fx"].failing = refused()

        async def refused_there() -> bool:
            return Obstacle.ACCOUNT_REFUSED in [r.obstacle for r in (await eur.trading_allowed()).reasons]

        await until_so(refused_there, "the refusal is a reason")
        assert await (await sup.instrument("cfd", "EURUSD")).trading_allowed()


@virtual_time
async def test_an_actor_that_is_away_or_in_quarantine_is_not_traded(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        await hall.cluster.kill("fx/EUR_USD")
        gone = await eur.trading_allowed()
        assert [reason.obstacle for reason in gone.reasons] == [Obstacle.NO_ANSWER]
        for times in (1, 2, 3):
            await back(hall, "fx/EUR_USD", times)
            await hall.cluster.kill("fx/EUR_USD")
        await hall.until(lambda s: states(s)["fx/EUR_USD"] == "QUARANTINED", "too many deaths")
        stays = await eur.trading_allowed()
        assert [reason.obstacle for reason in stays.reasons] == [Obstacle.QUARANTINED]
        assert "quarantine" in str(stays)
        with pytest.raises(NotAnswered):
            await eur.book()


@virtual_time
async def test_a_permission_is_kept_for_as_long_as_is_allowed_and_not_over_a_halt(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        first = await eur.trading_allowed()
        await hall.cluster.kill("fx/EUR_USD")
        kept = await eur.trading_allowed(max_age_s=1.0)
        assert kept.answered_at == first.answered_at
        await asyncio.sleep(1.1)
        fresh = await eur.trading_allowed(max_age_s=1.0)
        assert fresh.answered_at != first.answered_at
        await back(hall, "fx/EUR_USD", 1)
        assert await eur.trading_allowed()
        await sup.halt("fx")
        assert not await eur.trading_allowed(max_age_s=1_000.0), "this process halted it itself"
