"""The broker's stream wakes, and nothing else; whatever becomes of it, polling carries on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.account.stream_watch import BACK_AFTER_S, REPORTED_AFTER_S
from actors.events import EventType, Severity
from brokers.errors import Refused
from brokers.port import OnEvent, StreamState
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
        stream.report(EURUSD)
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
            stream.report(EURUSD)
        await settle()
        assert house.broker.snapshots - fetches <= 2, "those that came while it looked, and no more"

        fetches = house.broker.snapshots
        stream.report(None)
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


LOST, RESTORED = EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED
WHY = "fx: the stream has no connection to http://127.0.0.1:9. Check `stream_url`"


@virtual_time
async def test_a_stream_that_never_comes_is_reported_once_and_once_more_when_it_is_live(tmp_path: Path) -> None:
    """FEATURES 24: that nothing is streamed is in the journal, with what was found and what can be done."""
    async with a_house(tmp_path, interval_s=300) as house:
        stream = followed(house.broker)
        stream.becomes, stream.error = StreamState.CONNECTING, WHY
        await house.start()
        await asyncio.sleep(REPORTED_AFTER_S - 2)
        assert await house.kinds(FX) == [], "it may still be on its way"

        await asyncio.sleep(100)
        (lost,) = await house.events(FX)
        assert (lost.type, lost.severity) == (LOST, Severity.WARNING)
        assert lost.payload == {
            "account": FX,
            "stream": "CONNECTING",
            "reason": f"{WHY}. Its instruments are polled meanwhile",
        }

        stream.state, stream.error = StreamState.LIVE, None
        await asyncio.sleep(100)
        _, back = await house.events(FX)
        assert (back.type, back.severity, back.payload["stream"]) == (RESTORED, Severity.INFO, "LIVE")


LOSSES = {
    "a reconnect within the budget": ([(StreamState.CONNECTING, REPORTED_AFTER_S - 3)], []),
    "one reconnect after the other": (
        [
            (StreamState.CONNECTING, REPORTED_AFTER_S - 3),
            (StreamState.LIVE, 2),
            (StreamState.CONNECTING, REPORTED_AFTER_S - 3),
        ],
        [],
    ),
    "a reconnect that takes longer": ([(StreamState.CONNECTING, REPORTED_AFTER_S + 3)], [(LOST, "CONNECTING")]),
    "silence": ([(StreamState.SILENT, 2)], [(LOST, "SILENT")]),
    "silence, then connected anew for long": (
        [(StreamState.SILENT, 2), (StreamState.CONNECTING, 60), (StreamState.SILENT, 2)],
        [(LOST, "SILENT")],
    ),
    "connected time and again, and silent each time": (
        [(StreamState.SILENT, 2), (StreamState.LIVE, BACK_AFTER_S - 5)] * 5,
        [(LOST, "SILENT")],
    ),
    "refused": ([(StreamState.REFUSED, 3)], [(LOST, "REFUSED")]),
    "on its way for long, then refused": (
        [(StreamState.CONNECTING, 60), (StreamState.REFUSED, 3)],
        [(LOST, "CONNECTING"), (LOST, "REFUSED")],
    ),
    "refused, tried again and refused": (
        [(StreamState.REFUSED, 3), (StreamState.CONNECTING, 60), (StreamState.REFUSED, 3)],
        [(LOST, "REFUSED")],
    ),
    "spent": ([(StreamState.SPENT, 3)], [(LOST, "SPENT")]),
}


@pytest.mark.parametrize(("states", "expected"), LOSSES.values(), ids=LOSSES.keys())
def test_a_lost_stream_is_reported_once_and_a_short_reconnect_never(
    tmp_path: Path, states: list[tuple[StreamState, float]], expected: list[tuple[EventType, str]]
) -> None:
    """FEATURES 24"""

    async def story() -> None:
        async with a_house(tmp_path, interval_s=300) as house:
            stream = followed(house.broker)
            await house.start()
            await asyncio.sleep(5)
            for state, seconds in states:
                stream.state = stream.becomes = state
                await asyncio.sleep(seconds)
            stream.state = stream.becomes = StreamState.LIVE
            await asyncio.sleep(BACK_AFTER_S + 3)

            events = [(event.type, event.payload["stream"]) for event in await house.events(FX)]
            assert events == expected + ([(RESTORED, "LIVE")] if expected else [])

    virtual_time(story)()


@virtual_time
async def test_a_stream_that_does_not_say_why_is_reported_with_a_remedy_all_the_same(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=300) as house:
        followed(house.broker).becomes = StreamState.CONNECTING
        await house.start()
        await asyncio.sleep(REPORTED_AFTER_S + 3)
        (lost,) = await house.events(FX)
        assert lost.payload["reason"] == (
            "fx: the broker's stream is CONNECTING and does not say why. Check the network, and the address of the "
            "stream in the configuration. Its instruments are polled meanwhile"
        )


class _WithoutCredentials(FakeStream):
    def start(self, on_event: OnEvent) -> None:
        self.starts += 1
        raise Refused("read its token", FX, "environment variable TOKEN is not set", "Set it.")


@virtual_time
async def test_credentials_that_cannot_be_had_for_the_stream_are_reported_once(tmp_path: Path) -> None:
    async with a_house(tmp_path, interval_s=300) as house:
        house.broker.follows = stream = _WithoutCredentials()
        await house.start()
        await asyncio.sleep(30)
        (lost,) = await house.events(FX)
        assert stream.starts > 1
        assert "environment variable TOKEN is not set. Set it. Its" in str(lost.payload["reason"])
