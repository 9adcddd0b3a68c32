"""Fills that a stream reports, through the actors: from the stream to the durable record nobody asks the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.names import AUDIT, instrument_name
from brokers.model import Failed, OrderStatus, SectionName
from tests.unit.builders import order_report
from tests.unit.fakes import EURUSD, FX, QUICK, FakeStream, House, a_house, found, passes, until
from tests.unit.virtual_time import virtual_time

NAME = instrument_name(FX, EURUSD)


@asynccontextmanager
async def a_streaming_house(directory: Path, **settings: Any) -> AsyncIterator[tuple[House, FakeStream]]:
    """A house in step, with an order of ours at the broker, whose stream is live."""
    async with a_house(directory, **settings) as house:
        stream = house.broker.follows = FakeStream()
        house.broker.order("B1", client_id="c1")
        await house.instrument().record(
            [replace(order_report("c1", "B1", status=OrderStatus.OPEN), submitted_at=house.clock())]
        )
        await house.start()
        await passes(30)
        yield house, stream


async def held(house: House) -> list[tuple[str, str]]:
    return [(leg.leg, str(leg.quantity)) for leg in (await house.instrument().book()).legs]


@virtual_time
async def test_no_request_lies_between_the_stream_and_the_durable_record(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path) as (house, stream):
        house.broker.gate.clear()  # whoever asked the broker would wait for ever
        calls = house.broker.calls
        done = house.broker.trade(30, order_id="B1")
        stream.execute(done)
        await until(lambda: (AUDIT, "append") in house.post.sent[-3:])
        await passes(0.01)
        kinds = await house.kinds()
        assert kinds[-1] is EventType.ORDER_FILLED
        assert await held(house) == [("net", "30")]
        sent = [method for actor, method in house.post.sent if actor in (FX, AUDIT, NAME)]
        assert sent[-3:] == ["streamed", "append", "slice"], "handed over, journaled, and only then looked at"
        house.broker.gate.set()
        await passes(1)
        assert house.broker.calls == calls + 1
        report = (await house.instrument().health()).report
        assert report is not None
        assert (report.status, found(report)) == ("SUCCESS", ["MISSED_FILL"]), "the look that verifies it reports it"
        assert (await house.instrument().health()).statistics.by_type == {"MISSED_FILL": 1}
        assert (await house.kinds()).count(EventType.ORDER_FILLED) == 1


@virtual_time
async def test_while_the_broker_cannot_be_asked_the_book_goes_on_by_the_stream_and_trading_is_not_allowed_for_it(
    tmp_path: Path,
) -> None:
    """A fill that is reported verifies nothing."""
    policy = replace(QUICK, unverified=timedelta(seconds=60), max_age=timedelta(seconds=60))
    async with a_streaming_house(tmp_path, policy=policy, interval_s=20) as (house, stream):
        before = (await house.instrument().trading_allowed()).verified_at
        house.broker.sections = {name: Failed("timed out") for name in SectionName}
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.01)
        assert await held(house) == [("net", "30")]
        assert (await house.instrument().trading_allowed()).verified_at == before
        await passes(70)
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.01)
        assert await held(house) == [("net", "60")]
        assert (await house.instrument().trading_allowed()).reasons


@virtual_time
async def test_a_burst_is_one_turn_and_every_fill_counts_once_however_often_it_is_reported(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path) as (house, stream):
        done = [house.broker.trade(5, order_id="B1") for _ in range(8)]
        for fill in (*reversed(done), *done):
            stream.execute(fill)
        await passes(2)
        assert await held(house) == [("net", "40")]
        assert (await house.kinds()).count(EventType.ORDER_FILLED) == 8


@pytest.mark.parametrize("lost", ["audit away", "paused", "not begun", "stepped clock", "double login"])
def test_what_cannot_be_taken_at_once_is_found_by_the_look(tmp_path: Path, lost: str) -> None:
    async def story() -> None:
        async with a_streaming_house(tmp_path) as (house, stream):
            house.broker.gate.clear()
            match lost:
                case "audit away":
                    await house.lose_audit()
                case "paused":
                    await house.instrument().pause()
                case "not begun":
                    await house.replace_instrument()
                case "stepped clock":
                    house.clock.wrong_by += timedelta(seconds=30)
                case "double login":
                    await house.account.refuse("another account reaches the same login")
            stream.execute(house.broker.trade(30, order_id="B1"))
            await passes(0.2)
            if lost == "audit away":
                await house.open_audit()
            assert EventType.ORDER_FILLED not in await house.kinds()
            house.broker.gate.set()
            await house.account.refuse(None)
            await house.instrument().resume()
            await house.instrument().start()
            await passes(20)
            assert await held(house) == [("net", "30")]
            assert (await house.kinds()).count(EventType.ORDER_FILLED) == 1

    virtual_time(story)()


@virtual_time
async def test_an_answer_that_was_on_its_way_when_the_stream_reported_undoes_nothing(tmp_path: Path) -> None:
    """PEERS 11, and 13 after it: what the stream then loses, the look finds."""
    async with a_streaming_house(tmp_path) as (house, stream):
        house.broker.gate.clear()
        await house.instrument().wake()
        await passes(0.01)  # its rows are read, and on their way
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.01)
        house.broker.gate.set()
        await passes(3)
        assert await held(house) == [("net", "30")]
        assert EventType.POSITION_SYNCED not in await house.kinds()
        house.broker.trade(10, order_id="B1")
        stream.report(None)
        await passes(1)
        assert await held(house) == [("net", "40")]


@virtual_time
async def test_a_fill_of_another_contract_of_the_same_name_is_not_this_book_s(tmp_path: Path) -> None:
    """Names can come to mean something else, while a contract's own id lasts."""
    async with a_streaming_house(tmp_path) as (house, stream):
        house.broker.gate.clear()
        stream.execute(house.broker.trade(30, order_id="B1"), identity="265598")
        await passes(0.1)
        assert await held(house) == []
        house.broker.gate.set()
        await passes(1)
        assert await held(house) == [("net", "30")], "by the word of the look, which knows what the name means"


@virtual_time
async def test_a_fill_is_kept_with_its_grounds_where_they_are_kept(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path, keep_slices=True) as (house, stream):
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.01)
        [filled] = [event for event in await house.events() if event.type is EventType.ORDER_FILLED]
        assert len(str(filled.payload["pass"])) == 64


@virtual_time
async def test_a_fill_of_an_instrument_that_nobody_looks_after_is_no_news_to_the_others(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path) as (house, stream):
        done = house.broker.trade(Decimal(30), instrument="GBPUSD")
        stream.execute(done)
        await passes(1)
        assert await held(house) == []
        assert (FX + "/GBPUSD", "streamed") not in house.post.sent


@virtual_time
async def test_nobody_waits_for_an_instrument_that_does_not_answer(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path, instruments=(EURUSD, "GBPUSD")) as (house, stream):
        waits = asyncio.Event()

        async def wait() -> None:
            await waits.wait()

        house.post.before[(instrument_name(FX, "GBPUSD"), "streamed")] = wait
        stream.execute(house.broker.trade(5, instrument="GBPUSD"))
        await passes(0.01)
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.01)
        assert await held(house) == [("net", "30")]
        waits.set()


async def cycles(house: House) -> int:
    return (await house.instrument().health()).statistics.cycles


@virtual_time
async def test_an_order_and_its_execution_are_one_look_and_what_comes_after_is_another(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path) as (house, stream):
        before = await cycles(house)
        stream.report(EURUSD)  # the order, as brokers report it just before
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.4)
        assert await cycles(house) == before + 1
        stream.report(EURUSD)
        await passes(0.1)
        assert await cycles(house) == before + 2


@virtual_time
async def test_what_may_be_of_any_wakes_all_whatever_was_executed_before(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path, instruments=(EURUSD, "GBPUSD")) as (house, stream):
        stream.report(None)
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.5)
        before = (await house.instrument("GBPUSD").health()).statistics.cycles
        stream.report(None)
        await passes(0.5)
        assert (await house.instrument("GBPUSD").health()).statistics.cycles == before + 1


@virtual_time
async def test_an_execution_waits_for_no_instrument_that_is_being_woken(tmp_path: Path) -> None:
    async with a_streaming_house(tmp_path, instruments=(EURUSD, "GBPUSD")) as (house, stream):
        waits = asyncio.Event()

        async def wait() -> None:
            await waits.wait()

        house.post.before[(instrument_name(FX, "GBPUSD"), "wake")] = wait
        stream.report("GBPUSD")
        await passes(0.1)
        stream.execute(house.broker.trade(30, order_id="B1"))
        await passes(0.01)
        assert await held(house) == [("net", "30")]
        waits.set()
