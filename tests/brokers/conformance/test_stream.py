"""What a stream promises, whoever the broker is: it wakes, it is honest about its silence, and it ends when closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from brokers.executions import ReportsFills
from brokers.ib import IbBroker
from brokers.kite.ticker import KiteStream
from brokers.model import Side, StreamedFill, rows_of
from brokers.mt5.stream import Mt5Stream
from brokers.oanda.stream import OandaStream
from brokers.port import OnEvent, Stream, StreamState
from brokers.simulators.base import Fault
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.conformance.adapters import (
    ADAPTERS,
    KITE_KEY,
    KITE_TOKEN,
    KITE_USER,
    OANDA_ID,
    OANDA_TOKEN,
    Adapter,
)
from tests.brokers.following import eventually
from tests.brokers.reading import now
from tests.ports import nobody_at

D = Decimal
PATIENT_S = 60.0
SILENCE_S = 0.4
"""Where silence is what the test is about: elsewhere a busy machine's own pause would be taken for it."""
LIVE, CONNECTING, CLOSED = StreamState.LIVE, StreamState.CONNECTING, StreamState.CLOSED


@dataclass(frozen=True)
class Kind:
    """One kind of stream and a broker to go with it.

    ``serve`` starts the broker's events at a port (0 for any) and gives their address, ``hang_up`` takes them away for
    good. ``open`` makes a stream at an address that bears so many seconds of silence. ``drop`` ends the connection
    under way, ``mute`` has it say nothing any more, or again (``None`` where silence means nothing). ``connections``
    are those there are, ``made`` those that were made. ``broker`` are the settings by which its adapter follows the
    address.
    """

    id: str
    simulator: Callable[[], Any]
    serve: Callable[[Any, int], str]
    hang_up: Callable[[Any], None]
    open: Callable[[str, float], Stream]
    symbols: tuple[str, str]
    drop: Callable[[Any], object]
    mute: Callable[[Any, bool], object] | None
    connections: Callable[[Any], int]
    made: Callable[[Any], int]
    broker: Callable[[str], dict[str, object]]

    @property
    def adapter(self) -> Adapter:
        """The adapter whose stream it is."""
        return next(adapter for adapter in ADAPTERS if adapter.id.startswith(self.id))

    def ready(self, simulator: Any) -> bool:
        """Whether what happens now is heard."""
        return self.connections(simulator) == 1

    @asynccontextmanager
    async def following(
        self, on_event: OnEvent | None = None, silence_s: float = PATIENT_S
    ) -> AsyncIterator[tuple[Any, Stream, list[str | None]]]:
        """A broker, a stream of it that has just come up, and the events it delivers."""
        events: list[str | None] = []
        async with self.served() as (simulator, address), self.opened(address, silence_s) as stream:
            stream.start(on_event or events.append)
            await eventually(lambda: stream.state is LIVE and self.ready(simulator))
            yield simulator, stream, events

    @asynccontextmanager
    async def served(self) -> AsyncIterator[tuple[Any, str]]:
        """A broker and the address of its events."""
        simulator = self.simulator()
        try:
            yield simulator, self.serve(simulator, 0)
        finally:
            simulator.close()

    @asynccontextmanager
    async def opened(self, address: str, silence_s: float = PATIENT_S) -> AsyncIterator[Stream]:
        """A stream, closed twice at the end."""
        stream = self.open(address, silence_s)
        try:
            yield stream
        finally:
            stream.close()
            stream.close()
            if isinstance(stream, _AtTws):
                await stream.broker.close()


class _AtTws:
    """IB's stream belongs to its adapter, which has to be closed with it. By the silence it bears it looks for a
    connection that ended, so it bears little; a pause of our own, which it takes for silence, passes by itself."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        given = {"backoff_s": 0.01, "messages_per_s": 9000, "silence_s": 0.2}
        self.broker = IbBroker("options", host, int(port), 17, "DU1", None, 0.2, now, **given)  # type: ignore[arg-type]  # keywords
        stream = self.broker.stream()
        assert stream is not None
        self.start, self.close, self._stream = stream.start, stream.close, stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _quiet(simulator: IbSimulator, mute: bool) -> None:
    if mute:
        simulator.faults.add(Fault.TIMEOUT, times=10_000, match="reqCurrentTime")
    else:
        simulator.faults.clear()


def _settled_connections(simulator: IbSimulator) -> int:
    """TWS sends the whole portfolio when a connection begins, and a trade in the middle of that is no event. Once its
    clock is requested, which comes after, every change is an event."""
    requests = simulator.requests
    begun = len(requests) - 1 - requests[::-1].index("connect") if "connect" in requests else 0
    return int("reqCurrentTime" in requests[begun:])


OANDA = Kind(
    id="oanda",
    simulator=lambda: OandaSimulator(OANDA_ID, OANDA_TOKEN, heartbeat_s=0.03),
    serve=lambda sim, port: sim.start_stream(port),
    hang_up=lambda sim: sim.stream.close(),
    open=lambda url, silence_s: OandaStream("fx", OANDA_ID, OANDA_TOKEN, url, now, silence_s=silence_s, backoff_s=0.01),
    symbols=("EUR_USD", "GBP_JPY"),
    drop=lambda sim: sim.stream.drop(),
    mute=lambda sim, mute: setattr(sim.stream, "mute", mute),
    connections=lambda sim: sim.stream.connected,
    made=lambda sim: sim.stream.connections,
    broker=lambda url: {"stream_url": url},
)
KITE = Kind(
    id="kite",
    simulator=lambda: KiteSimulator(KITE_KEY, KITE_TOKEN, KITE_USER, heartbeat_s=0.05),
    serve=lambda sim, port: sim.start_ticker(port),
    hang_up=lambda sim: sim.ticker.close(),
    open=lambda url, silence_s: KiteStream(
        "eq", KITE_KEY, lambda: KITE_TOKEN, url, now, silence_s=silence_s, first_retry_s=0.02, longest_retry_s=5.0
    ),
    symbols=("NSE:INFY", "NSE:TCS"),
    drop=lambda sim: sim.ticker.drop(),
    mute=lambda sim, mute: setattr(sim.ticker, "mute", mute),
    connections=lambda sim: sim.ticker.connected,
    made=lambda sim: sim.ticker.handshakes,
    broker=lambda url: {"stream_url": url},
)
MT5 = Kind(
    id="mt5",
    simulator=Mt5Simulator,
    serve=lambda sim, port: (sim.start(), sim.events_endpoint)[1],
    hang_up=lambda sim: sim.close(),
    open=lambda endpoint, _: Mt5Stream("cfd", endpoint, now, retry_s=0.01, reopen_s=0.3),
    symbols=("EURUSD", "GBPUSD"),
    drop=lambda sim: (sim.close(), sim.start()),
    mute=None,
    connections=lambda sim: sim.events.subscribers,
    made=lambda sim: sim.events.subscriptions,
    broker=lambda endpoint: {"events_endpoint": endpoint},
)
IB = Kind(
    id="ib",
    simulator=lambda: IbSimulator("DU1"),
    serve=lambda sim, port: sim.start(port),
    hang_up=lambda sim: sim.close(),
    open=lambda address, _: _AtTws(address),
    symbols=("AAPL", "MSFT"),
    drop=lambda sim: sim.drop(),
    mute=_quiet,
    connections=_settled_connections,
    made=lambda sim: sim.requests.count("connect"),
    broker=lambda _: {},
)

KINDS = [OANDA, KITE, MT5, IB]
every_stream = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.id))
reports_fills = pytest.mark.parametrize("kind", [OANDA, MT5], ids=lambda kind: str(kind.id))
of_its_own = pytest.mark.parametrize("kind", [OANDA, KITE, MT5], ids=lambda kind: str(kind.id))


def trade(kind: Kind, simulator: Any, place: int = 0) -> None:
    """Anybody trades in one of the symbols."""
    simulator.trade(kind.symbols[place], Side.BUY, kind.adapter.lot)


def woken_after_its_fill(heard: list[str | StreamedFill | None], symbol: str) -> bool:
    """Between the two may be other reports: of events that are read together, the fills come first."""
    fills = [at for at, one in enumerate(heard) if isinstance(one, StreamedFill) and one.fill.instrument == symbol]
    return bool(fills) and symbol in heard[fills[0] :]


@every_stream
async def test_it_is_closed_until_it_is_started(kind: Kind) -> None:
    with nobody_at() as port:
        scheme = {"oanda": "http://", "kite": "ws://", "mt5": "tcp://", "ib": ""}[kind.id]
        async with kind.opened(f"{scheme}127.0.0.1:{port}") as stream:
            assert (stream.state, stream.error, stream.last_heard_at) == (CLOSED, None, None)


@every_stream
async def test_it_reports_that_it_came_up_and_then_wakes_the_instrument_concerned_and_no_other(kind: Kind) -> None:
    """FEATURES 24: it does not deliver what happened before it came up, so one event concerns all instruments."""
    async with kind.following() as (simulator, stream, events):
        await eventually(lambda: events[:1] == [None] or (kind is IB and stream.state is LIVE))
        del events[:]
        for place in (0, 1):
            trade(kind, simulator, place)
            await eventually(lambda: kind.symbols[place] in events)  # noqa: B023 - awaited at once
            assert set(events) <= {*kind.symbols[: place + 1]}
        await eventually(lambda: (stream.state, stream.error) == (LIVE, None))
        assert stream.last_heard_at is not None


@every_stream
async def test_an_error_of_the_listener_ends_nothing(kind: Kind) -> None:
    events: list[str | None] = []

    def listen(instrument: str | None) -> None:
        events.append(instrument)
        raise RuntimeError("of ours")

    async with kind.following(listen) as (simulator, stream, _):
        await eventually(lambda: stream.state is LIVE)
        for place in (0, 1):
            trade(kind, simulator, place)
            await eventually(lambda: kind.symbols[place] in events)  # noqa: B023 - awaited at once
        await eventually(lambda: stream.state is LIVE)
        assert kind.made(simulator) == 1


@every_stream
async def test_after_a_lost_connection_it_comes_back_and_all_is_to_be_verified(kind: Kind) -> None:
    """PEERS 13: anything may have changed meanwhile."""
    async with kind.following() as (simulator, stream, events):
        for connections in (2, 3):
            events.clear()
            kind.drop(simulator)
            await eventually(lambda: kind.made(simulator) == connections)  # noqa: B023 - awaited at once
            await eventually(lambda: None in events and kind.ready(simulator))
            await eventually(lambda: (stream.state, stream.error) == (LIVE, None))
        trade(kind, simulator)
        await eventually(lambda: kind.symbols[0] in events)
        assert kind.made(simulator) == 3


@every_stream
async def test_a_connection_that_silently_died_is_noticed_and_its_return_is_reported(kind: Kind) -> None:
    """PEERS 13: a connection may look healthy that says nothing any more."""
    mute = kind.mute
    if mute is None:
        pytest.skip("its broker says nothing while nothing happens")
    async with kind.following(silence_s=SILENCE_S) as (simulator, stream, events):
        events.clear()
        mute(simulator, True)
        await eventually(lambda: stream.state is not LIVE and stream.error is not None)
        await eventually(lambda: kind.made(simulator) > 1)
        mute(simulator, False)
        await eventually(lambda: None in events and (stream.state, stream.error) == (LIVE, None))
        assert kind.made(simulator) > 1


@every_stream
async def test_nothing_is_heard_after_a_close_and_the_connection_is_gone(kind: Kind) -> None:
    async with kind.following() as (simulator, stream, events):
        await eventually(lambda: kind is IB or events == [None])
        stream.close()
        events.clear()
        trade(kind, simulator)
        if kind is not IB:  # whose connection is the adapter's
            await eventually(lambda: kind.connections(simulator) == 0)
        assert (stream.state, stream.error, events) == (CLOSED, None, [])


@every_stream
async def test_another_start_takes_the_place_of_the_first(kind: Kind) -> None:
    async with kind.following() as (simulator, stream, first):
        second: list[str | None] = []
        stream.start(second.append)
        first.clear()
        await eventually(lambda: (None in second or kind is IB) and stream.state is LIVE and kind.ready(simulator))
        trade(kind, simulator)
        # TWS is connected to anew where a busy machine lets it be late: then everything is to be looked at.
        await eventually(lambda: kind.symbols[0] in second or (kind is IB and None in second))
        assert first == []


@every_stream
async def test_a_listener_may_close_what_it_listens_to(kind: Kind) -> None:
    made: list[int] = []

    async with kind.served() as (simulator, address), kind.opened(address) as stream:

        def close(_: str | None) -> None:
            made.append(kind.made(simulator))  # more than one where the first took too long on a busy machine
            stream.close()

        stream.start(close)
        await eventually(lambda: kind.made(simulator) >= 1)
        if kind is IB:
            await eventually(lambda: stream.state is LIVE and kind.ready(simulator))
            trade(kind, simulator)
        await eventually(lambda: stream.state is CLOSED)
        assert kind.made(simulator) == made[0]


@every_stream
async def test_where_nobody_listens_it_goes_on_connecting_until_somebody_does(kind: Kind) -> None:
    """FEATURES 4"""
    events: list[str | None] = []
    async with kind.served() as (simulator, address):
        port = int(address.rpartition(":")[2])
        kind.hang_up(simulator)
        async with kind.opened(address) as stream:
            stream.start(events.append)
            await eventually(lambda: stream.state is CONNECTING)
            assert events == []
            kind.serve(simulator, port)
            await eventually(lambda: (stream.state, stream.error) == (LIVE, None))


@of_its_own
@pytest.mark.parametrize("address", ["nowhere", "carrier-pigeon://x"])
async def test_an_address_that_is_none_is_said(kind: Kind, address: str) -> None:
    async with kind.opened(address) as stream:
        stream.start(lambda _: None)
        await eventually(lambda: stream.error is not None)
        assert stream.state in {CLOSED, CONNECTING}
        assert "stream_url" in str(stream.error) or "events_endpoint" in str(stream.error)


@every_stream
async def test_streams_of_several_accounts_share_nothing(kind: Kind) -> None:
    """PEERS 2"""
    async with kind.following() as (one, _, first), kind.following() as (other, _, second):
        await eventually(lambda: kind is IB or first == second == [None])
        first.clear()
        second.clear()
        trade(kind, other)
        await eventually(lambda: kind.symbols[0] in second)
        assert first == []
        trade(kind, one, 1)
        await eventually(lambda: kind.symbols[1] in first)
        assert set(second) == {kind.symbols[0]}


@every_stream
async def test_an_event_is_followed_by_a_snapshot_that_has_it(kind: Kind) -> None:
    """FEATURES 24: a broker has one stream, and the truth is fetched."""
    events: list[str | None] = []
    async with (
        kind.served() as (simulator, address),
        kind.adapter.opened(simulator.start(), **kind.broker(address)) as broker,
    ):
        cursor = (await broker.snapshot(None)).fills_cursor
        stream = broker.stream()
        assert stream is not None
        assert broker.stream() is stream
        stream.start(events.append)
        await eventually(lambda: stream.state is LIVE and kind.ready(simulator))
        trade(kind, simulator)
        await eventually(lambda: kind.symbols[0] in events)
        snapshot = await broker.snapshot(cursor)
        assert [(row.instrument, row.quantity) for row in rows_of(snapshot.fills)] == [
            (kind.symbols[0], kind.adapter.lot)
        ]
        stream.close()
        assert stream.state is CLOSED


@reports_fills
async def test_an_execution_is_reported_before_its_event_and_as_the_snapshot_has_it(kind: Kind) -> None:
    """What a stream delivers needs no request: the fill, and the row of its order, equal those of a snapshot."""
    heard: list[str | StreamedFill | None] = []
    async with (
        kind.served() as (simulator, address),
        kind.adapter.opened(simulator.start(), **kind.broker(address)) as broker,
    ):
        cursor = (await broker.snapshot(None)).fills_cursor
        stream = broker.stream()
        reporter: object = stream
        assert stream is not None
        assert isinstance(reporter, ReportsFills)
        reporter.report_fills_to(heard.append)
        stream.start(heard.append)
        await eventually(lambda: stream.state is LIVE and kind.ready(simulator))
        calls = broker.calls
        trade(kind, simulator)
        await eventually(lambda: any(isinstance(one, StreamedFill) for one in heard))
        assert broker.calls == calls
        trade(kind, simulator, 1)
        await eventually(lambda: woken_after_its_fill(heard, kind.symbols[1]))
        executed = [one for one in heard if isinstance(one, StreamedFill)]
        snapshot = await broker.snapshot(cursor)
        assert [one.fill for one in executed] == list(rows_of(snapshot.fills))
        rows = {row.broker_order_id: row for row in rows_of(snapshot.orders)}
        for one in executed:
            assert one.order in (None, rows.get(one.fill.broker_order_id or ""))
        stream.close()
        count = len(heard)
        trade(kind, simulator)
        assert len(heard) == count


@of_its_own
async def test_without_an_address_there_is_no_stream(kind: Kind) -> None:
    async with kind.served() as (simulator, _), kind.adapter.opened(simulator.start()) as broker:
        assert broker.stream() is None
