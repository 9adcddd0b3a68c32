"""A broker controlled by the test, and a house around it: audit, account and instrument actors on the local runtime,
in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from actors.account.actor import Account, AccountSettings
from actors.book.policy import Policy
from actors.events import Event, EventType
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.messages import CycleReport
from actors.names import AUDIT, instrument_name
from actors.runtime.ports import LocalRuntime
from brokers.clocks import broker_time
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.executions import OnFill
from brokers.model import (
    NET,
    Complete,
    Conventions,
    Cursor,
    Failed,
    Fill,
    LegScheme,
    Order,
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    Partial,
    Position,
    RowProblem,
    Section,
    SectionName,
    Side,
    Snapshot,
    StreamedFill,
    Unsupported,
)
from brokers.port import OnEvent, Stream, StreamState

T = TypeVar("T")

T0 = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)
FX = "fx"
EURUSD = "EURUSD"
QUICK = Policy(
    confirm_gap=timedelta(milliseconds=500),
    settle=timedelta(seconds=5),
    max_age=timedelta(seconds=900),
    unverified=timedelta(seconds=1800),
)


def unreachable(found: str = "connection refused") -> Unreachable:
    return Unreachable("read the account", FX, found, "Check the network")


def refused(found: str = "401, insufficient authorization") -> Refused:
    return Refused("read the account", FX, found, "Check the token")


def malformed(found: str = "a web page") -> Malformed:
    return Malformed("read the account", FX, found, "Check the address")


def problem(section: SectionName, instrument: str | None, key: str | None = None) -> RowProblem:
    return RowProblem(section, instrument, key, "quantity 'x' is no number")


class Clock:
    """T0 and the virtual seconds since; a test may set it wrong. It never says the same twice."""

    def __init__(self) -> None:
        self.wrong_by = timedelta(0)
        self._said = 0

    def __call__(self) -> datetime:
        self._said += 1
        since = timedelta(seconds=asyncio.get_running_loop().time(), microseconds=self._said)
        return T0 + since + self.wrong_by


class FakeStream:
    """A stream whose states and events a test sets."""

    def __init__(self) -> None:
        self.state = StreamState.CLOSED
        self.error: str | None = None
        self.last_heard_at: datetime | None = None
        self.starts = 0
        self.becomes = StreamState.LIVE
        self._on_event: OnEvent | None = None
        self._on_fill: OnFill | None = None

    def report_fills_to(self, on_fill: OnFill | None) -> None:
        self._on_fill = on_fill

    def execute(self, fill: Fill, order: Order | None = None, identity: str | None = None) -> None:
        """An execution arrives, and the event that it is."""
        assert self._on_fill is not None
        self._on_fill(StreamedFill(fill, order, identity))
        self.report(fill.instrument)

    def start(self, on_event: OnEvent) -> None:
        self.starts += 1
        self._on_event = on_event
        self.state = self.becomes

    def report(self, instrument: str | None) -> None:
        """An event arrives."""
        assert self._on_event is not None
        self._on_event(instrument)

    def close(self) -> None:
        self.state = StreamState.CLOSED
        self._on_event = None


class FakeBroker:
    """Meets :class:`brokers.port.Broker`. What it holds are plain dictionaries and lists that a test changes.

    ``failing`` is raised by every call while set. ``sections`` replace what it would say. ``gate`` is waited for in
    each snapshot after the rows were read, where ``read_late`` is not set, so that a test can let something happen in
    between. A fill's cursor is its number.
    """

    def __init__(self, clock: Callable[[], datetime], conventions: Conventions | None = None) -> None:
        self.clock = clock
        self.conventions = conventions if conventions is not None else Conventions()
        self.held: dict[tuple[str, str], Position] = {}
        self.rows: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self.failing: Exception | None = None
        self.sections: dict[SectionName, Section[Any]] = {}
        self.find_failure: str | None = None
        self.forgotten: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.find_gate = asyncio.Event()
        self.find_gate.set()
        self.connects = 0
        self.snapshots = 0
        self.finds = 0
        self.closed = 0
        self.asked_since: list[Cursor | None] = []
        self.asked_whole: list[bool] = []
        self.cancelled: list[OrderQuery] = []
        self.follows: FakeStream | None = None
        self.vouches_until: Callable[[], datetime | None] = lambda: None
        self.clock_off = timedelta()
        self._sent = 0

    # The port

    @property
    def calls(self) -> int:
        return self.connects + self.snapshots + self.finds + len(self.cancelled)

    async def connect(self) -> None:
        self.connects += 1
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing

    async def snapshot(self, fills_since: Cursor | None, *, whole: bool = False) -> Snapshot:
        self.asked_whole.append(whole)
        self.snapshots += 1
        self.asked_since.append(fills_since)
        requested_at = self.clock()
        positions: Section[Position] = Complete(tuple(self.held.values()))
        orders: Section[Order] = Complete(tuple(row for name, row in self.rows.items() if name not in self.forgotten))
        new = self.fills[fills_since:] if fills_since is not None else []
        fills: Section[Fill] = Complete(tuple(new))
        cursor: int | None = len(self.fills)
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        positions = self.sections.get(SectionName.POSITIONS, positions)
        orders = self.sections.get(SectionName.ORDERS, orders)
        if SectionName.FILLS in self.sections:
            fills = self.sections[SectionName.FILLS]
            if isinstance(fills, Failed | Partial):
                cursor = fills_since
            if isinstance(fills, Unsupported):
                cursor = None
        return Snapshot(
            requested_at, broker_time(requested_at + self.clock_off), positions, orders, fills, cursor, self.conventions
        )

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        self.finds += 1
        await asyncio.sleep(0)
        await self.find_gate.wait()
        if self.find_failure is not None:
            return tuple(OrderAnswer(query, failure=self.find_failure) for query in queries)
        return tuple(self._found(query) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> None:
        self.cancelled.append(query)
        if self.failing is not None:
            raise self.failing

    def stream(self) -> Stream | None:
        return self.follows

    def undisturbed(self) -> datetime | None:
        return self.vouches_until()

    async def close(self) -> None:
        self.closed += 1

    def _found(self, query: OrderQuery) -> OrderAnswer:
        for row in self.rows.values():
            if row.broker_order_id in self.forgotten:
                continue
            if query.broker_order_id is not None:
                same = row.broker_order_id == query.broker_order_id
            else:
                same = row.client_order_id == query.client_order_id
            if same:
                own = tuple(fill for fill in self.fills if fill.broker_order_id == row.broker_order_id)
                return OrderAnswer(query, row, own)
        return OrderAnswer(query)

    # The script

    def hold(self, quantity: object, price: object = "1.1", *, instrument: str = EURUSD, leg: str = NET) -> None:
        """Hold exactly this; 0 is nothing."""
        if not Decimal(str(quantity)):
            self.held.pop((instrument, leg), None)
            return
        self.held[(instrument, leg)] = Position(instrument, leg, Decimal(str(quantity)), Decimal(str(price)))

    def order(
        self,
        broker_id: str,
        quantity: object = 100,
        filled: object = 0,
        status: OrderStatus = OrderStatus.OPEN,
        *,
        client_id: str | None = None,
        side: Side = Side.BUY,
        instrument: str = EURUSD,
        submitted_at: datetime | None = None,
    ) -> Order:
        """Show an order from now on."""
        row = Order(
            instrument,
            broker_id,
            client_id,
            side,
            Decimal(str(quantity)),
            Decimal(str(filled)),
            status,
            order_type="LIMIT",
            limit_price=Decimal("1.1"),
            average_fill_price=Decimal("1.1") if filled else None,
            submitted_at=broker_time(submitted_at if submitted_at is not None else self.clock()),
        )
        self.rows[broker_id] = row
        return row

    def trade(
        self,
        quantity: object,
        price: object = "1.1",
        *,
        side: Side = Side.BUY,
        order_id: str | None = None,
        instrument: str = EURUSD,
        leg: str = NET,
    ) -> Fill:
        """Somebody trades: a fill, and the position it makes."""
        self._sent += 1
        fill = Fill(
            instrument,
            f"F{self._sent}",
            order_id,
            side,
            Decimal(str(quantity)),
            Decimal(str(price)),
            broker_time(self.clock()),
        )
        self.fills.append(fill)
        old = self.held.get((instrument, leg))
        before = old.quantity if old is not None else Decimal(0)
        cost = before * (old.average_price if old is not None else Decimal(0))
        after = before + fill.quantity * side.sign
        adds = not before or (before > 0) == (side is Side.BUY)
        average = (cost + fill.quantity * side.sign * fill.price) / after if adds else old.average_price if old else 0
        self.hold(after, average, instrument=instrument, leg=leg)
        if order_id is not None:
            row = self.rows[order_id]
            filled = row.filled_quantity + fill.quantity
            status = OrderStatus.FILLED if filled == row.quantity else OrderStatus.PARTIALLY_FILLED
            self.rows[order_id] = replace(row, filled_quantity=filled, average_fill_price=fill.price, status=status)
        return fill


async def in_this_thread(work: Callable[[], T], /) -> T:
    """The journal's blocking work, here and now."""
    return work()


class Post:
    """Carries the local runtime's messages; a test says which are lost, late, or sent twice."""

    def __init__(self) -> None:
        self.before: dict[tuple[str, str], Callable[[], Awaitable[None]]] = {}
        self.after: dict[tuple[str, str], Callable[[], Awaitable[None]]] = {}
        self.twice: set[tuple[str, str]] = set()
        self.sent: list[tuple[str, str]] = []

    async def __call__(self, actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        self.sent.append((actor, method))
        if (actor, method) in self.before:
            await self.before[(actor, method)]()
        answer = await send()
        if (actor, method) in self.twice:
            answer = await send()
        if (actor, method) in self.after:
            await self.after[(actor, method)]()
        return answer


async def for_ever() -> None:
    """A message that is on its way for ever."""
    await asyncio.sleep(1e9)


class House:
    """Audit, one account and its instruments in one process. Actors are made by the methods here and reached by
    name, as in a cluster; :meth:`replace_account` and :meth:`replace_instrument` are a SIGKILL and a new start."""

    def __init__(
        self,
        directory: Path,
        instruments: Sequence[str] = (EURUSD,),
        *,
        policy: Policy = QUICK,
        interval_s: float = 300.0,
        cycle_timeout_s: float = 15.0,
        patience_s: float | None = 10.0,
        discover: bool = False,
        ignored: frozenset[str] = frozenset(),
        conventions: Conventions | None = None,
        uniform: Callable[[], float] | None = None,
        keep_slices: bool = False,
    ) -> None:
        self.directory = directory
        self.keep_slices = keep_slices
        self.url = f"sqlite:///{directory}/journal.db"
        self.clock = Clock()
        self.post = Post()
        chance = Random(7).random  # noqa: S311 - the same chance each time
        self.runtime = LocalRuntime(
            self.clock, lambda: asyncio.get_running_loop().time(), uniform if uniform is not None else chance, self.post
        )
        self.broker = FakeBroker(self.clock, conventions)
        self.policy = policy
        self.interval_s = interval_s
        self.cycle_timeout_s = cycle_timeout_s
        self.account_settings = AccountSettings(
            account=FX,
            broker="fake",
            managed=frozenset(instruments),
            ignored=ignored,
            discover=discover,
            patience_s=patience_s,
        )
        self.names = tuple(instruments)
        self.instruments: dict[str, Instrument] = {}
        self.opened = 0

    async def open(self) -> None:
        await self.open_audit()
        self.account = self._make_account()
        for name in self.names:
            self.make_instrument(name)

    async def close(self) -> None:
        for name in self.runtime.names():
            if name != AUDIT:
                await self.runtime.kill(name)
        await self.audit.close()

    async def open_audit(self) -> None:
        """Bring the audit actor (back)."""
        evidence = None
        if self.keep_slices:
            file = str(self.directory / "journal.db")
            evidence = EvidenceSettings(f"{file}.key", f"{file}.pub", slices=f"{file}.slices")
        self.audit = Audit(
            self.url,
            None,
            evidence,
            run_blocking=in_this_thread,
            monotonic=lambda: asyncio.get_running_loop().time(),
        )
        await self.audit.open()
        self.runtime.register(AUDIT, self.audit)

    async def lose_audit(self) -> None:
        """The audit actor is gone, and nobody has brought it back yet."""
        await self.runtime.kill(AUDIT)
        await self.audit.close()

    def instrument(self, name: str = EURUSD) -> Instrument:
        return self.instruments[name]

    async def start(self) -> None:
        """Let every actor live by itself."""
        await self.account.start()
        for actor in self.instruments.values():
            await actor.start()

    async def replace_account(self) -> Account:
        await self.runtime.kill(FX)
        self.account = self._make_account()
        return self.account

    async def replace_instrument(self, name: str = EURUSD) -> Instrument:
        await self.runtime.kill(instrument_name(FX, name))
        return self.make_instrument(name)

    def second(self, name: str = EURUSD) -> Instrument:
        """Another incarnation of an instrument's actor, beside the first and unknown to everybody."""
        return Instrument(self.instrument_settings(name), self.runtime)

    def open_broker(self) -> FakeBroker:
        self.opened += 1
        return self.broker

    def _make_account(self) -> Account:
        made = Account(self.account_settings, self.open_broker, self.runtime)
        self.runtime.register(FX, made)
        return made

    def make_instrument(self, name: str) -> Instrument:
        made = Instrument(self.instrument_settings(name), self.runtime)
        self.instruments[name] = made
        self.runtime.register(instrument_name(FX, name), made)
        return made

    def instrument_settings(self, name: str) -> InstrumentSettings:
        return InstrumentSettings(
            FX, name, self.interval_s, self.cycle_timeout_s, self.policy, keep_slices=self.keep_slices
        )

    # What there is to see

    async def events(self, stream: str = instrument_name(FX, EURUSD)) -> list[Event]:
        """Everything in a stream of the journal, oldest first."""
        return [record.event for record in await self.audit.records(stream=stream, limit=100_000)]

    async def kinds(self, stream: str = instrument_name(FX, EURUSD)) -> list[EventType]:
        """The types of a stream's events."""
        return [event.type for event in await self.events(stream)]


@asynccontextmanager
async def a_house(directory: Path, instruments: Sequence[str] = (EURUSD,), **settings: Any) -> AsyncIterator[House]:
    """A house, open and closed again; its journal must verify at the end."""
    house = House(directory, instruments, **settings)
    await house.open()
    try:
        yield house
        assert (await house.audit.verify()).ok
    finally:
        await house.close()


def legs(report: CycleReport) -> dict[str, tuple[str, str]]:
    """Quantity and average price by leg, as shown."""
    rows: Any = report.book["legs"]
    return {row["leg"]: (row["quantity"], row["average_price"]) for row in rows}


def quantities(report: CycleReport) -> dict[str, str]:
    """Quantity by leg, as shown."""
    return {leg: quantity for leg, (quantity, _) in legs(report).items()}


def found(report: CycleReport) -> list[str]:
    """The types of a report's discrepancies, each open one with an exclamation mark."""
    return [f"{d.found.type.value}{'' if d.resolved else '!'}" for d in report.discrepancies]


async def passes(seconds: float) -> None:
    """Let virtual time go by."""
    await asyncio.sleep(seconds)


async def until(condition: Callable[[], bool], at_most: int = 1_000) -> None:
    """Let others work until something is so."""
    for _ in range(at_most):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to be")


__all__ = [
    "EURUSD",
    "FX",
    "QUICK",
    "T0",
    "BrokerError",
    "FakeBroker",
    "House",
    "LegScheme",
    "a_house",
    "for_ever",
    "found",
    "legs",
    "malformed",
    "passes",
    "problem",
    "quantities",
    "refused",
    "unreachable",
    "until",
]
