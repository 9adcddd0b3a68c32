"""The broker's stream wakes, and nothing else; whatever becomes of it, polling carries on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from brokers.stream import StreamState
from tests.unit.fakes import EURUSD, FX, FakeBroker, FakeStream, a_house, unreachable
from tests.unit.virtual_time import virtual_time

GBPUSD = "GBPUSD"


async def settle() -> None:
    await asyncio.sleep(0.5)


def followed(broker: FakeBroker) -> FakeStream:
    stream = broker.follows = FakeStream()
    return stream


@virtual_time
async def test_an_event_wakes_the_instrument_concerned_and_no_other(tmp_path: Path) -> None:
    """FEATURES 24: streaming beside the periodic snapshot."""
    async with a_house(tmp_path, (EURUSD, GBPUSD), interval_s=300) as house:
        stream = followed(house.broker)
        await house.start()
        await settle()
        cycles = {name: (await house.instrument(name).health()).statistics.cycles for name in (EURUSD, GBPUSD)}

        house.broker.trade(100, instrument=EURUSD)
        stream.tell(EURUSD)
        await settle()

        after = {name: (await house.instrument(name).health()).statistics.cycles for name in (EURUSD, GBPUSD)}
        assert after == {EURUSD: cycles[EURUSD] + 1, GBPUSD: cycles[GBPUSD]}
        report = (await house.instrument(EURUSD).health()).report
        assert report is not None
        assert report.book["legs"] == [{"leg": "net", "quantity": "100", "average_price": "1.1"}]


@virtual_time
async def test_a_burst_wakes_once_and_an_event_without_an_instrument_wakes_all(tmp_path: Path) -> None:
    """PEERS 13: anything may have happened while the stream was away."""
    async with a_house(tmp_path, (EURUSD, GBPUSD), interval_s=300) as house:
        stream = followed(house.broker)
        await house.start()
        await settle()
        fetches = house.broker.snapshots
        for _ in range(100):
            stream.tell(EURUSD)
        await settle()
        assert house.broker.snapshots - fetches <= 2, "those that came while it looked, and no more"

        fetches = house.broker.snapshots
        stream.tell(None)
        await settle()
        assert house.broker.snapshots == fetches + 1, "one fetch for all of them"


@pytest.mark.parametrize("state", [StreamState.SILENT, StreamState.CONNECTING, StreamState.REFUSED, StreamState.SPENT])
def test_whatever_becomes_of_the_stream_polling_carries_on(tmp_path: Path, state: StreamState) -> None:
    async def story() -> None:
        async with a_house(tmp_path, interval_s=1) as house:
            stream = followed(house.broker)
            stream.becomes = state
            await house.start()
            await asyncio.sleep(2)
            house.broker.hold(70)
            await asyncio.sleep(3)

            health = await house.account.health()
            assert health.stream is state
            report = (await house.instrument().health()).report
            assert report is not None
            assert report.status == "SUCCESS"
            assert report.book["legs"] == [{"leg": "net", "quantity": "70", "average_price": "1.1"}]

    virtual_time(story)()


@virtual_time
async def test_a_closed_stream_is_started_again_and_a_refused_one_only_now_and_then(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=300) as house:
        stream = followed(house.broker)
        await house.start()
        await settle()
        stream.state = StreamState.CLOSED
        await asyncio.sleep(3)
        assert (stream.starts, stream.state) == (2, StreamState.LIVE)

        stream.state = stream.becomes = StreamState.REFUSED
        await asyncio.sleep(50)
        assert stream.starts == 2
        await asyncio.sleep(20)
        assert stream.starts == 3


@virtual_time
async def test_an_account_that_closes_hears_nothing_more(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=300) as house:
        stream = followed(house.broker)
        await house.start()
        await settle()
        house.broker.failing = unreachable()
        await house.account.close()
        assert stream.state is StreamState.CLOSED
        assert FX not in (stream.error or "")
