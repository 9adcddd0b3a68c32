"""The adapter between the account actor and the market: it meets the port, and every answer may be late, half, empty,
twice, out of order, or of before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from brokers.clocks import broker_time
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.executions import OnFill
from brokers.model import (
    AnyRow,
    Complete,
    Cursor,
    Failed,
    Fill,
    Order,
    OrderAnswer,
    OrderQuery,
    Partial,
    Position,
    RowProblem,
    Section,
    SectionName,
    Snapshot,
    StreamedFill,
    Unsupported,
)
from brokers.port import OnEvent, Stream, StreamState
from tests.simulation.clocks import WallClock, time_s
from tests.simulation.faults import Faults
from tests.simulation.market import Market, floored

RowT = TypeVar("RowT", bound=AnyRow)
JUST_BEFORE = timedelta(microseconds=1)
TIMEOUT_S = 4.0


class SimulatedStream:
    """What the broker says by itself, when it says it."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._on_event: OnEvent | None = None
        self._on_fill: OnFill | None = None
        self.state = StreamState.CLOSED
        self.error: str | None = None
        self.last_heard_at: datetime | None = None

    def start(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self.state = StreamState.LIVE

    def close(self) -> None:
        self._on_event, self.state = None, StreamState.CLOSED

    def report_fills_to(self, on_fill: OnFill | None) -> None:
        self._on_fill = on_fill

    def execute(self, fill: Fill, order: Order) -> None:
        """The stream delivers an execution: with its order's row or without, perhaps late, repeatedly or never."""
        if self._on_fill is None or self._faults.strikes("fill not streamed", 0.1):
            return
        times = 3 if self._faults.strikes("fill streamed thrice", 0.05) else 1
        streamed = StreamedFill(fill, None if self._faults.strikes("fill streamed without its order", 0.2) else order)
        for _ in range(times):
            after_s = self._faults.random.random() * (9.0 if self._faults.strikes("fill streamed late", 0.1) else 0.05)
            asyncio.get_running_loop().call_later(after_s, self._hear_fill, streamed)

    def _hear_fill(self, streamed: StreamedFill) -> None:
        if self._on_event is not None and self._on_fill is not None:
            self._on_fill(streamed)

    def report(self, instrument: str) -> None:
        if self._on_event is None or self._faults.strikes("event lost", 0.1):
            return
        times = 3 if self._faults.strikes("event thrice", 0.05) else 1
        named = None if self._faults.strikes("event of any", 0.1) else instrument
        for _ in range(times):
            after_s = self._faults.random.random() * (5.0 if self._faults.strikes("event late", 0.1) else 0.05)
            asyncio.get_running_loop().call_later(after_s, self._hear, named)

    def _hear(self, instrument: str | None) -> None:
        if self._on_event is not None:
            self._on_event(instrument)


class SimulatedBroker:
    """Meets :class:`brokers.port.Broker` over one :class:`Market`."""

    def __init__(self, account: str, market: Market, clock: WallClock, faults: Faults, *, streams: bool) -> None:
        self._account = account
        self._market = market
        self._clock = clock
        self._faults = faults
        self._streams = streams
        self._number = 0
        self._positions: Section[Position] = Complete(())
        self._orders: Section[Order] = Complete(())
        self._of_before: tuple[datetime, Section[Position], Section[Order]] | None = None
        self.following: SimulatedStream | None = None
        self.calls = 0

    async def connect(self) -> None:
        await self._travel("connect")

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        market, faults = self._market, self._faults
        requested_at = self._clock()
        await self._travel("read the account")
        # A fill of the very second, or millisecond, may come after the reading, and is dated to its begin.
        as_of = floored(market.clock.exact(), market.resolution) - JUST_BEFORE
        began = market.tick()
        positions = self._read_positions()
        await self._between()
        orders = self._read_orders()
        await self._between()
        fills, cursor = self._read_fills(fills_since, began)
        as_read = as_of, positions, orders
        if self._of_before is not None and faults.strikes("answer of before", 0.02):
            as_of, positions, orders = self._of_before
            market.lied_s = time_s()
        self._of_before = as_read
        if faults.strikes("positions of before", 0.01):
            positions, market.lied_s = self._positions, time_s()
        elif faults.strikes("positions empty", 0.01):
            positions, market.lied_s = Complete(()), time_s()
        if faults.strikes("orders of before", 0.01):
            orders = self._orders
        elif faults.strikes("orders empty", 0.01):
            orders = Complete(())
        self._positions, self._orders = as_read[1], as_read[2]
        fills = self._badly(fills, SectionName.FILLS)
        if isinstance(fills, Failed | Partial):
            cursor = fills_since
        await self._travel("read the account")
        return Snapshot(
            requested_at,
            broker_time(as_of),
            self._badly(positions, SectionName.POSITIONS),
            self._badly(orders, SectionName.ORDERS),
            fills,
            cursor,
            market.conventions,
        )

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        try:
            await self._travel("look up orders")
        except Exception as error:  # noqa: BLE001 - a failure is in its answer and never raised
            return tuple(OrderAnswer(query, failure=str(error)) for query in queries)
        self._market.tick()
        return tuple(self._find(query) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        await self._travel("cancel an order")

    def stream(self) -> Stream | None:
        if self._streams:
            self.following = SimulatedStream(self._faults)
        return self.following

    async def close(self) -> None:
        if self.following is not None:
            self.following.close()

    # What is read

    def _find(self, query: OrderQuery) -> OrderAnswer:
        one = self._market.traded.get(query.instrument)
        fails = self._faults.strikes("order not answered", 0.05)
        if one is None:
            return OrderAnswer(query)
        return one.answer(query, self._faults.random, fails=fails)

    def _read_positions(self) -> Section[Position]:
        rows = [
            Position(name, leg.name, leg.quantity, leg.average_price)
            for name, one in self._market.traded.items()
            for leg in one.legs.values()
        ]
        return Complete(self._shuffled(rows))

    def _read_orders(self) -> Section[Order]:
        rows = [
            row
            for one in self._market.traded.values()
            for row in one.orders.values()
            if one.shows_ended or not row.status.terminal
        ]
        return Complete(self._shuffled(rows))

    def _read_fills(self, since: Cursor | None, began: int) -> tuple[Section[Fill], Cursor | None]:
        if not self._market.reports_fills:
            return Unsupported(), None
        # Who asks from now on has what the positions hold already, and nothing that came while they were read.
        after = since if since is not None else began - 1
        now = self._market.tick()
        listed = [(shown, fill) for one in self._market.traded.values() for shown, fill in one.fills]
        rows = [fill for shown, fill in listed if after < shown <= now]
        if since is not None and self._faults.strikes("fills again", 0.1):
            rows += [fill for shown, fill in listed if shown <= after]
        if rows and self._faults.strikes("fill twice", 0.1):
            rows.append(rows[0])
        return Complete(self._shuffled(rows)), now

    def _shuffled(self, rows: list[RowT]) -> tuple[RowT, ...]:
        self._faults.random.shuffle(rows)
        return tuple(rows)

    # What goes wrong

    async def _travel(self, attempted: str) -> None:
        faults = self._faults
        self.calls += 1
        await asyncio.sleep(0.001 + 0.05 * faults.random.random())
        if faults.strikes("broker slow", 0.05):
            await asyncio.sleep(3.0 * faults.random.random())
        if faults.strikes("broker away", 0.02):
            await asyncio.sleep(faults.random.choice((0.0, TIMEOUT_S, 2 * TIMEOUT_S)))
            raise Unreachable(attempted, self._account, "connection refused", "Check the network")
        if faults.strikes("broker refuses", 0.003):
            faults.last_refused_s = time_s()
            raise Refused(attempted, self._account, "401", "Check the token")
        if faults.strikes("answer unreadable", 0.01):
            error: BrokerError | KeyError = Malformed(attempted, self._account, "a web page", "Check the address")
            raise faults.random.choice((error, KeyError("rows")))

    async def _between(self) -> None:
        """Between two readings of one snapshot the account may change."""
        if self._faults.strikes("snapshot torn", 0.1):
            await asyncio.sleep(1.5 * self._faults.random.random())

    def _badly(self, section: Section[RowT], name: SectionName) -> Section[RowT]:
        faults = self._faults
        if isinstance(section, Unsupported):
            return section
        if faults.strikes(f"{name.value} failed", 0.03):
            return Failed("timed out")
        if isinstance(section, Complete) and faults.strikes(f"{name.value} half", 0.03):
            rows = tuple(row for row in section.rows if faults.random.random() < 0.5)
            whose = faults.random.choice((None, *self._market.traded))
            kept = tuple(row for row in section.rows if row in rows or whose not in (None, row.instrument))
            return Partial(kept, (RowProblem(name, whose, None, "quantity 'x' is no number"),))
        return section
