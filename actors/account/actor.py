"""The account actor: the only connection to one broker account, as a plain class.

The laws of this module:

* One fetch serves every instrument that can share it; broker calls do not grow with the number of instruments.
* A slice comes from a snapshot requested no longer ago than the caller allows, or is refused. The age is measured here,
  by one steady clock, from the moment before the broker was asked; an adapter's own times do not count.
* A step of the wall clock is journaled, and no snapshot from before it is used any more.
* A failure is an answer (:class:`NoSlice`), with the reason and the time of the next try. After a failure the circuit
  is open: no request reaches the broker before that time, then one fetch tries for all. The pauses grow; the pause
  after a refusal is long from the beginning, since it takes a person.
* What belongs to no instrument is the account's own: positions and working orders that no instrument manages, and rows
  that name no instrument. Each is an open break, journaled once when it opens and once when it closes; what could not
  be checked stays open.
* No slice waits for the journal: this actor's events are written beside its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from loguru import logger

from actors.account.circuit import LONGEST_PAUSE_S, REFUSED_PAUSE_S, Circuit, OurError
from actors.account.gathering import Gathering
from actors.account.held_books import FEWEST, Books, not_believed
from actors.account.own_breaks import OwnBreaks
from actors.account.settings import AccountSettings
from actors.account.snapshot_cache import SnapshotCache, with_owners
from actors.account.stream_watch import StreamWatch
from actors.account.table_watch import TableWatch
from actors.book import payloads
from actors.book.break_work import BreakRequest, BreakWork
from actors.book.discrepancies import Discrepancy
from actors.book.in_step import InStep
from actors.events import EventType, Json, Severity
from actors.journal.outbox import Outbox
from actors.messages import AccountHealth, Connection, NoSlice, SliceRequest, Unchanged
from actors.names import instrument_name
from actors.reconciliation.reconciliation_pass import ClaimCorrection
from actors.runtime.bounded_log import BoundedLog
from actors.runtime.ports import CallError, Runtime, closed
from actors.runtime.steady_clock import SteadyRuntime
from brokers.clocks import ahead_of_ours
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.model import (
    Claims,
    Cursor,
    Failed,
    OrderAnswer,
    OrderQuery,
    Side,
    Slice,
    Snapshot,
    StreamedFill,
    Unsupported,
)
from brokers.port import (
    Broker,
    Corroborating,
    Describing,
    Identifying,
    NewOrder,
    OrderEntry,
    Remembering,
    Vouching,
    Watched,
)
from brokers.versions import PROGRAM

__all__ = ["LONGEST_PAUSE_S", "REFUSED_PAUSE_S", "Account", "AccountSettings"]

WAKE_TIMEOUT_S = 5.0

PAPER = "paper"
"""The only broker with a venue of our own."""

ASKED_TOGETHER_S = 2.0
"""How long the first of several expected requests waits for the others."""

BOOKS_EXPECTED_FOR = timedelta(seconds=30)
"""How long the account waits, after the first request, for the other instruments to report what their books hold."""

CLOCKS_APART_S = 5.0
"""How far ahead of our clock a caller's clock may be. A snapshot from further in the future cannot be served."""

CLOCKS_MAY_DIFFER = timedelta(minutes=15)
"""How far the broker's clock may be from ours: beyond that, one of them is wrong by an hour or a time zone."""

_INCARNATIONS = itertools.count(1)
"""Added to the random part, so that two incarnations in one process differ even if their random parts do not."""


_OPEN_LOGGED = 5
"""How many breaks of the account one line of its log names."""
_REASON_LOGGED = 300

OWNERS_KEPT = 5_000
"""For how many ids of combination orders the strategy is remembered."""


class Account:
    """Owns the adapter of one account. ``open_broker`` makes it inside this actor, where its secrets are resolved."""

    def __init__(self, settings: AccountSettings, open_broker: Callable[[], Broker], runtime: Runtime) -> None:
        self._settings = settings
        self._open_broker = open_broker
        self._runtime = SteadyRuntime(runtime)
        self._wall = runtime.now
        self._believed_from = datetime.min.replace(tzinfo=UTC)
        self._broker: Broker | None = None
        self._connected = False
        self._ledger = SnapshotCache(settings.account, f"{int(runtime.uniform() * 2**48):012x}.{next(_INCARNATIONS)}")
        self._fetching: asyncio.Task[None] | None = None
        self._fetch_began: datetime | None = None
        self._asked_since: Cursor | None = None
        self._asked_whole = False
        self._last_since: Cursor | None = None
        self._identities: dict[str, str] = {}
        self._identified: dict[str, str] = {}
        self._talk = asyncio.Lock()
        self._double: str | None = None
        self._books = Books()
        self._nothing_held: bool | None = None
        self._owners: dict[str, str] = {}
        self._asked_first: datetime | None = None
        self._expected = settings.managed
        self._all_asked: asyncio.Event | None = None
        self._fetches = 0
        self._call_seconds = 0.0
        self._clock_steps = 0
        self._outbox = Outbox(settings.account, runtime)
        clock = self._runtime
        self._circuit = Circuit(settings.account, clock.now, clock.uniform, self._as_shown, self._say)
        self._breaks = OwnBreaks(settings.account, runtime, clock.now, self._say)
        self._log = BoundedLog(settings.account, runtime.monotonic_s)
        self._gathering = Gathering(settings.account, runtime, self._outbox)
        open_table = settings.open_table
        self._table = None if open_table is None else TableWatch(settings.account, open_table, runtime)
        self._follower = StreamWatch(settings.account, runtime, self._woken_by_stream, self._hand_over, self._say)
        self._loops: list[asyncio.Task[None]] = []
        self._closed = False

    def __repr__(self) -> str:
        return self._settings.account

    # Called by instruments

    async def slice(self, request: SliceRequest) -> Slice | Unchanged | NoSlice:
        """One instrument's rows, from a snapshot requested no longer ago than ``request.within``."""
        arrived = self._runtime.now()
        self._look_at_the_clock()
        if request.owners:
            self._owners = dict(list({**self._owners, **request.owners}.items())[-OWNERS_KEPT:])
        wanted = request.not_before if request.within is None else arrived - request.within
        request = replace(request, not_before=max(wanted, self._believed_from))
        try:
            async with asyncio.timeout(self._settings.patience_s):
                answer = await self._slice(request, arrived)
        except TimeoutError:
            self._circuit.failing.set()  # the answer, when it arrives, wakes the instruments that could not wait
            return NoSlice(Connection.UNREACHABLE, self._circuit.error or self._no_answer_yet())
        if isinstance(answer, NoSlice):
            return answer
        if isinstance(answer, Slice):
            answer = with_owners(answer, self._owners)
        return replace(answer, asked=answer.requested_at - arrived)

    async def _slice(self, request: SliceRequest, arrived: datetime) -> Slice | Unchanged | NoSlice:
        if request.identity is not None:
            self._identities[request.instrument] = request.identity
        self._asked_first = self._asked_first or arrived
        self._books.hear(request)
        await self._wait_for_all()
        if self._double is not None:
            return NoSlice(Connection.REFUSED, f"{self._settings.account}: {self._double}")
        at_rest = self._at_rest(request, arrived)
        if at_rest is not None:
            return at_rest
        # Twice, since a running fetch may not have requested fills from far enough back.
        for not_before in (request.not_before, None):
            if self._serves(request):
                break
            self._want_fills_since(request.fills_since)
            self._asked_whole = self._asked_whole or request.whole
            since = not_before if not_before is not None else self._runtime.now()
            failure = await self._fetch(since, urgent=request.urgent)
            if failure is not None:
                return failure
        if not self._serves(request):
            wanted = request.not_before.isoformat()
            found = f"no snapshot requested at {wanted} or later: this machine's clock was set meanwhile"
            return NoSlice(self._circuit.connection, f"{self._settings.account}: {found}. It is asked again")
        return self._as_believed(self._ledger.slice(request), request)

    def _at_rest(self, request: SliceRequest, arrived: datetime) -> Unchanged | None:
        """The answer to a scheduled request while the broker's stream would have reported any change: the broker is not
        asked at all."""
        snapshot = self._ledger.snapshot
        broker: object = self._broker
        if request.calm_within is None or self._circuit.error is not None or snapshot is None or request.whole:
            return None
        if self._table is not None:
            return None  # no stream reports when another system writes to the table
        heard_at = broker.undisturbed() if isinstance(broker, Watched) else None
        ago = None if heard_at is None else self._wall() - heard_at
        if ago is None or ago < timedelta() or snapshot.requested_at < self._believed_from:
            return None  # a sign of life from the future, or from before the clock was set, proves nothing
        until = arrived - ago
        if ago > request.calm_within or not self._ledger.covers(request.fills_since):
            return None
        answer = self._ledger.slice(request)
        if not isinstance(answer, Unchanged):
            return None
        return replace(answer, requested_at=until, as_of=snapshot.as_of + (until - snapshot.requested_at))

    async def in_step(self, report: InStep) -> None:
        """An instrument reports that its book was found in step, with nothing else to write. Soon one record names it
        with the others, if its stream is then still at that version."""
        self._gathering.add(report)

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """The broker's answers, one for each query in their order; a failure is part of its answer."""
        try:
            async with self._talk:
                return await (await self._reached()).find_orders(queries)
        except BrokerError as error:
            failure = error.reason
        except Exception as error:  # noqa: BLE001 - one bad answer must not end the caller's cycle
            logger.exception("{}: an internal error while looking up orders", self._settings.account)
            failure = self._ours("look up orders", error).reason
        return tuple(OrderAnswer(query, failure=failure) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> str | None:
        """Ask the broker to cancel a stale order; ``None`` when it accepted the request, else why not."""
        try:
            async with self._talk:
                await (await self._reached()).cancel_order(query)
        except BrokerError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - as above
            logger.exception("{}: an internal error while cancelling an order", self._settings.account)
            return str(self._ours("cancel an order", error))
        return None

    async def correct_table(self, instrument: str, corrections: Sequence[ClaimCorrection]) -> None:
        """Append the rows that the account's table lacks, each once for its discrepancy. Does nothing where there is no
        table, or it is not writable."""
        if self._table is not None:
            await self._table.correct(instrument, self._identity_of(instrument), corrections)

    # The venue of a paper account; every other account refuses, since nothing here ever trades

    async def venue_submit(
        self,
        symbol: str,
        client_order_id: str,
        side: Side,
        quantity: Decimal,
        order_type: str,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """Submit an order to the venue of a paper account; returns its broker_order_id. A repeated order is still one
        order. Raises ``Refused`` for every other account and for a client_order_id that another order has."""
        terms = (side, quantity, order_type, limit_price, stop_price, expires_at)
        order = NewOrder(symbol, client_order_id, *terms)
        async with self._venue(f"submit order {client_order_id}") as venue:
            return await venue.submit(order)

    async def venue_cancel(self, broker_order_id: str) -> bool:
        """Cancel an order at the venue of a paper account. Returns whether it is cancelled now: not where it is unknown
        or had ended otherwise. Raises ``Refused`` for every other account."""
        async with self._venue(f"cancel order {broker_order_id}") as venue:
            return await venue.cancel(broker_order_id)

    async def venue_feed(self, symbol: str, bid: Decimal, ask: Decimal) -> None:
        """Set the price at the venue of a paper account from now on; orders that it makes executable are executed
        before this returns. Raises ``Refused`` for every other account and for an invalid price."""
        async with self._venue(f"feed a price of {symbol}") as venue:
            await venue.feed(symbol, bid, ask)

    async def venue_prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """The last (bid, ask) of each symbol at the venue of a paper account. Raises ``Refused`` for every other."""
        async with self._venue("read the prices") as venue:
            return await venue.prices()

    @asynccontextmanager
    async def _venue(self, attempted: str) -> AsyncIterator[OrderEntry]:
        if self._settings.broker == PAPER:
            async with self._talk:
                broker: object = await self._reached()
                if isinstance(broker, OrderEntry):
                    yield broker
                    return
        raise Refused(
            attempted,
            self._settings.account,
            f"this is an account at {self._settings.broker}, and only a paper account has a venue here",
            "Nothing is ever sent to a broker from here: send the order yourself and record it, or use broker: paper.",
        )

    # Called by the supervisor

    async def start(self) -> None:
        """Watch the connection from now on: retry when it is time, and wake every instrument after a reconnect, however
        healthy everything looked meanwhile."""
        if self._loops or self._closed:
            return
        self._breaks.begin()
        loops = [self._watch_connection(), self._learn()]
        if self._settings.discover:
            loops.append(self._discover())
        self._loops = [self._runtime.spawn(self._settings.account, loop) for loop in loops]

    async def recall(self) -> None:
        """Take over from the journal this account's own open breaks and the state of its connection, before the first
        request: for an actor that makes one verdict, as :meth:`start` does for one that stays."""
        if await self._breaks.recall():
            self._circuit.was_lost()

    async def health(self) -> AccountHealth:
        """The state of the account and of its connection. Never waits for the broker. Raises
        :class:`~actors.runtime.ports.ActorUnavailable` after :meth:`close`."""
        if self._closed:
            raise closed(self._settings.account)
        self._look_at_the_clock()
        known = self._settings.managed | self._settings.ignored
        return AccountHealth(
            account=self._settings.account,
            broker=self._settings.broker,
            connection=self._circuit.connection if self._double is None else Connection.REFUSED,
            error=self._circuit.error or self._double,
            broker_calls=self._broker.calls if self._broker is not None else 0,
            fetches=self._fetches,
            retry_at=self._shown(self._circuit.retry_at),
            unowned=tuple(sorted(self._all_instruments() - known)),
            discrepancies=tuple(Discrepancy(found, False, None) for found in self._breaks.by_place.values()),
            pid=os.getpid(),
            stream=self._follower.state,
            managed=self._settings.managed,
            ignored=self._settings.ignored,
            fingerprint=self._settings.fingerprint,
            work=dict(self._breaks.work.by_id),
            call_seconds=self._call_seconds,
            call_errors=self._circuit.call_errors,
            clock_steps=self._clock_steps,
            login=self._login(),
            double=self._double,
            program=PROGRAM,
        )

    async def work_on(self, break_id: str, request: BreakRequest) -> BreakWork:
        """Apply an operator's request to an open break of the account itself; durable on return. Raises
        :class:`BreakRefused`, and :class:`JournalAway` where it is not known to be durable."""
        found = next((one for one in self._breaks.by_place.values() if one.id == break_id), None)
        return await self._breaks.work.do(found, break_id, request)

    async def expect(self, instruments: frozenset[str]) -> None:
        """Only these instruments will make requests, and all of them soon: the first waits a little, so that everything
        their books hold is known when the broker is asked."""
        self._expected = instruments
        self._all_asked = asyncio.Event()

    async def login(self) -> str | None:
        """The broker's own id of the account that was reached; ``None`` where it is not known."""
        try:
            async with asyncio.timeout(self._settings.patience_s), self._talk:
                await self._reached()
        except (BrokerError, TimeoutError):
            return None  # the caller of slice() gets the reason
        return self._login()

    def _login(self) -> str | None:
        broker: object = self._broker
        if not self._connected or not isinstance(broker, Describing):
            return None
        if isinstance(broker, Vouching) and broker.unproven is not None:
            return None
        return broker.described().login

    async def refuse(self, why: str | None) -> None:
        """Refuse every slice, since another account reaches the same login; ``None`` ends the refusal."""
        if why is not None and why != self._double:
            logger.error("{}: {}", self._settings.account, why)
        self._double = why

    async def instruments(self, not_before: datetime) -> tuple[str, ...] | NoSlice:
        """Every instrument with anything in the account, from a snapshot requested at or after that time."""
        self._look_at_the_clock()
        not_before = max(not_before, self._believed_from)
        snapshot = self._ledger.snapshot
        if snapshot is None or snapshot.requested_at < not_before:
            try:
                async with asyncio.timeout(self._settings.patience_s):
                    failure = await self._fetch(not_before)
            except TimeoutError:
                failure = NoSlice(Connection.UNREACHABLE, self._circuit.error or self._no_answer_yet())
            if failure is not None:
                return failure
        return tuple(sorted(self._all_instruments() - self._settings.ignored))

    def _all_instruments(self) -> frozenset[str]:
        """The instruments with anything in the account or in its table."""
        found = self._ledger.instruments()
        return found if self._table is None else found | self._table.held(self._names()).keys()

    def _identity_of(self, instrument: str) -> str | None:
        """The broker's permanent id of an instrument, if the broker has reported it."""
        snapshot = self._ledger.snapshot
        contract = None if snapshot is None else snapshot.contracts.get(instrument)
        known = self._identities.get(instrument)
        return contract.identity if contract is not None and contract.identity is not None else known

    def _names(self) -> dict[str, str]:
        """Instrument names by permanent id."""
        snapshot = self._ledger.snapshot
        names = {identity: name for name, identity in self._identities.items()}
        contracts = {} if snapshot is None else snapshot.contracts
        return names | {one.identity: name for name, one in contracts.items() if one.identity is not None}

    def _claims_of(self, instrument: str) -> Claims:
        assert self._table is not None  # noqa: S101 - called only where there is a table
        return self._table.claims(instrument, self._identity_of(instrument))

    async def restarted(self, restarts: int, reason: str) -> None:
        """Log that this actor replaces one that died."""
        self._log.restarted(restarts, reason)

    async def wake_instruments(self) -> None:
        """Wake every instrument: this actor replaces one that died, and anything may have happened meanwhile."""
        await self._wake_all()

    async def manage(self, managed: frozenset[str], ignored: frozenset[str]) -> None:
        """Manage and ignore other instruments from now on. The connection and everything known stay."""
        self._settings = replace(self._settings, managed=managed, ignored=ignored)
        self._expected = managed
        if not self._settings.discover:
            self._books.keep(managed)
        if self._ledger.snapshot is not None:
            self._look_at_the_whole(self._ledger.snapshot)

    async def forget(self, instrument: str) -> bool:
        """Stop managing this instrument until something new appears in it. Returns False, and changes nothing, where
        the newest snapshot has anything of it, or a fill that its actor has not received."""
        if not self._ledger.forget(instrument):
            return False
        self._books.forget(instrument)
        return True

    async def close(self) -> None:
        """Close the connection, and open none again. Never raises."""
        self._closed = True
        under_way = [*self._loops, *([self._fetching] if self._fetching is not None else [])]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        await self._follower.close()
        if self._table is not None:
            await self._table.close()
        broker, self._broker, self._connected = self._broker, None, False
        if broker is not None:
            await broker.close()
        self._gathering.close()
        await self._gathering.write_out()
        await self._outbox.flush()

    # Fetching

    def _serves(self, request: SliceRequest) -> bool:
        snapshot = self._ledger.snapshot
        if snapshot is None or snapshot.requested_at < request.not_before or (request.whole and not snapshot.whole):
            return False
        named_otherwise = self._identified.get(request.instrument) != request.identity
        broker: object = self._broker
        if request.identity is not None and named_otherwise and isinstance(broker, Identifying):
            return False
        if isinstance(snapshot.fills, Unsupported) or self._ledger.covers(request.fills_since):
            return True
        # They were requested from there and not available: the slice reports that, and asking again would not help.
        asked, wanted = self._last_since, request.fills_since
        return asked is not None and wanted is not None and asked <= wanted

    def _want_fills_since(self, cursor: Cursor | None) -> None:
        if cursor is not None and (self._asked_since is None or cursor < self._asked_since):
            self._asked_since = cursor

    async def _fetch(self, not_before: datetime, *, urgent: bool = False) -> NoSlice | None:
        """Wait for a snapshot that was requested late enough: that of the running fetch, or of a new one."""
        while (ahead_s := (not_before - self._runtime.now()).total_seconds()) > 0:
            if ahead_s > CLOCKS_APART_S:
                found = f"{self._settings.account}: a snapshot was asked for that is {ahead_s:.0f} s in the future"
                return NoSlice(self._circuit.connection, f"{found}. Check this machine's clock")
            await self._runtime.sleep(ahead_s)
        if not urgent and self._circuit.is_open:
            return self._no_slice(self._circuit.error or "no answer yet")
        while not self._closed:
            if self._fetching is None or self._fetching.done():
                self._fetch_began = self._runtime.now()
                self._fetching = self._runtime.spawn(self._settings.account, self._fetch_once())
            late_enough = self._fetch_began is not None and self._fetch_began >= not_before
            # Shielded: a caller that gives up must not cancel the fetch for the others.
            await asyncio.wait([self._fetching])
            if self._circuit.error is not None:
                return self._no_slice(self._circuit.error)
            snapshot = self._ledger.snapshot
            if late_enough or (snapshot is not None and snapshot.requested_at >= not_before):
                return None
        return NoSlice(self._circuit.connection, f"{self._settings.account}: this account's actor is closed")

    def _no_slice(self, reason: str) -> NoSlice:
        wait = None if self._circuit.retry_at is None else self._circuit.retry_at - self._runtime.now()
        return NoSlice(self._circuit.connection, reason, self._shown(self._circuit.retry_at), wait)

    def _shown(self, time: datetime | None) -> datetime | None:
        return None if time is None else self._as_shown(time)

    def _as_shown(self, time: datetime) -> datetime:
        """A time of the steady clock as a time of the wall clock."""
        return self._wall() + (time - self._runtime.now())

    def _look_at_the_clock(self) -> None:
        """Check for a step of the wall clock. After a step nothing from before is believed: what was cached for a time
        by that clock, in the adapter too, may have been cached for longer."""
        by = self._runtime.clock.pass_over()
        if not by:
            return
        self._believed_from = self._runtime.now()
        self._asked_whole = True
        self._clock_steps += 1
        logger.warning("{}: the clock of this machine was set by {:+.3f} s", self._settings.account, by.total_seconds())
        payload = payloads.clock_step_to(by)
        self._say(EventType.CLOCK_STEPPED, {"account": self._settings.account, **payload}, "clock", Severity.WARNING)
        self._runtime.spawn(self._settings.account, self._wake_all())

    def _no_answer_yet(self) -> str:
        began = self._fetch_began or self._runtime.now()
        waited_s = (self._runtime.now() - began).total_seconds()
        return f"{self._settings.account}: the broker has not answered for {waited_s:.1f} s; it is still being asked"

    async def _fetch_once(self) -> None:
        since = self._fills_from()
        if self._table is not None:
            self._table.begin()
        try:
            async with self._talk:
                broker = await self._open()
                self._fetches += 1
                whole, self._asked_whole = self._asked_whole, False
                identified = dict(self._identities)
                if isinstance(broker, Identifying):
                    broker.identify(identified)
                if isinstance(broker, Remembering):
                    broker.remember(self._books.at_first)
                asked, asked_wall = self._runtime.now(), self._wall()
                began_s = self._runtime.monotonic_s()
                try:
                    snapshot = await broker.snapshot(since, whole=whole)
                finally:
                    self._call_seconds += self._runtime.monotonic_s() - began_s
                self._identified = identified
                await self._second_word(broker, snapshot)
            self._check_clock(snapshot)
            # An adapter may answer from data that it received before the request, and never from later data.
            snapshot = replace(snapshot, requested_at=asked + min(timedelta(), snapshot.requested_at - asked_wall))
            self._look_at_the_clock()
            if self._table is not None:
                await self._table.finish()
            self._ledger.take(snapshot, since, None if self._table is None else self._claims_of)
            self._last_since = since
            if self._ledger.covers(self._asked_since):
                self._asked_since = None
            self._look_at_the_whole(snapshot)
        except BrokerError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - one bad answer must not end the actor with the connection
            logger.exception("{}: an internal error while fetching", self._settings.account)
            self._failed(self._ours("fetch a snapshot", error))
        else:
            self._circuit.answered()
        self._log.write((self._circuit.connection, self._follower.state, frozenset(self._breaks.by_place)), self._line)

    def _line(self) -> str:
        """The state of the account and what it did so far, for its log."""
        calls = 0 if self._broker is None else self._broker.calls
        stream = [] if self._follower.state is None else [f"stream {self._follower.state}"]
        mean_ms = 1000 * self._call_seconds / self._fetches if self._fetches else 0.0
        found = self._breaks.words()[:_OPEN_LOGGED]
        circuit = self._circuit
        done = f"fetches {self._fetches} ({mean_ms:.0f} ms each), broker calls {calls}, errors {circuit.call_errors}"
        error = [] if circuit.error is None else [circuit.error[:_REASON_LOGGED]]
        return "; ".join([str(circuit.connection), *error, *stream, *found, done])

    async def _second_word(self, broker: object, snapshot: Snapshot) -> None:
        """Ask for the broker's second source on positions, where it shows none of those that the books hold."""
        self._nothing_held = None
        if self._books.all_gone(snapshot, self._ledger) and isinstance(broker, Corroborating):
            self._nothing_held = await broker.holds_nothing()

    def _as_believed(self, slice_: Slice | Unchanged, request: SliceRequest) -> Slice | Unchanged:
        """The slice, with its positions withheld where all are gone at once without an explanation. What the books hold
        is known better with each instrument's request."""
        snapshot = self._ledger.snapshot
        gone = () if snapshot is None else self._books.all_gone(snapshot, self._ledger)
        single = self._nothing_held is None and len(gone) < FEWEST
        if not gone or self._nothing_held is True or (single and not self._expects_books()):
            return slice_
        found = not_believed(gone, contradicted=self._nothing_held is False)
        whole = self._ledger.slice(replace(request, known_revision=None))
        assert isinstance(whole, Slice)  # noqa: S101 - no revision was offered, so it cannot be Unchanged
        disbelieved = Failed(found, disbelieved=True)
        return replace(whole, positions=disbelieved, revision=f"{whole.revision}:disbelieved")

    async def _wait_for_all(self) -> None:
        if self._all_asked is None:
            return
        if self._books.heard >= self._expected:
            self._all_asked.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASKED_TOGETHER_S):
                await self._all_asked.wait()
        self._all_asked = None

    def _expects_books(self) -> bool:
        """Whether managed instruments have yet to report what their books hold: they start one after the other, and
        those that do not start are waited for only so long."""
        waited = self._runtime.now() - self._asked_first if self._asked_first is not None else timedelta()
        return not self._books.heard >= self._expected and waited < BOOKS_EXPECTED_FOR

    def _check_clock(self, snapshot: Snapshot) -> None:
        """Refuse a snapshot that is dated an hour off: it is not a present one, whichever clock is wrong."""
        apart = ahead_of_ours(snapshot.as_of, snapshot.requested_at)
        if abs(apart) <= CLOCKS_MAY_DIFFER:
            return
        ahead = "ahead of" if apart > timedelta() else "behind"
        raise Malformed(
            "take over what the broker says",
            self._settings.account,
            f"its clock is {abs(apart).total_seconds() / 60:.0f} minutes {ahead} this machine's clock",
            "Set the clock of this machine right, or that of the broker's gateway, which must report UTC. Until then "
            "nothing from this broker is believed, and no book changes",
        )

    def _ours(self, attempted: str, error: Exception) -> OurError:
        found = f"an internal error: {type(error).__name__}: {error}"
        remedy = "This is an error of the program: report it. It is tried again by itself."
        return OurError(attempted, self._settings.account, found, remedy)

    def _fills_from(self) -> Cursor | None:
        """The cursor for the next request of fills: our own, or as far back as any instrument needs."""
        stand = self._ledger.fills_cursor
        wanted = self._asked_since
        if wanted is None or self._ledger.covers(wanted):
            return stand
        return wanted if stand is None else min(stand, wanted)

    async def _open(self) -> Broker:
        """The connected adapter, proven to be the configured account."""
        if self._closed:
            raise Unreachable("reach the broker", self._settings.account, "this account's actor is closed", "Start it.")
        if self._broker is None:
            self._broker = self._open_broker()
        if not self._connected:
            await self._broker.connect()
            self._connected = True
        if self._loops and not self._follower.follows:
            self._follower.follow(self._broker.stream())
        return self._broker

    async def _reached(self) -> Broker:
        """As :meth:`_open`, and after a failure never before the next fetch is due."""
        if not self._connected and self._circuit.is_open:
            shown = self._as_shown(self._circuit.retry_at or self._runtime.now())
            found = f"it is not asked again before {shown.isoformat()}, as its last answer was: {self._circuit.error}"
            raise Unreachable("reach the broker", self._settings.account, found, "It is asked again by itself.")
        return await self._open()

    # The state of the connection

    def _say(
        self, kind: EventType, payload: dict[str, Json], identity: str, severity: Severity = Severity.INFO
    ) -> None:
        if not self._settings.silent:
            self._runtime.spawn(self._settings.account, self._outbox.write(kind, payload, identity, severity))

    def _failed(self, error: BrokerError) -> None:
        self._connected = False
        self._circuit.failed(error, again=bool(self._loops))

    async def _watch_connection(self) -> None:
        while True:
            await self._circuit.failing.wait()
            self._circuit.failing.clear()
            if self._fetching is not None:
                await asyncio.wait([self._fetching])
            while self._circuit.error is not None:
                until = self._circuit.retry_at or self._runtime.now()
                await self._runtime.sleep(max(0.0, (until - self._runtime.now()).total_seconds()))
                await self._fetch(self._runtime.now())
            await self._wake_all()

    def _look_at_the_whole(self, snapshot: Snapshot) -> None:
        """Check what belongs to no instrument; with ``discover`` every instrument is managed."""
        if self._settings.discover:
            self._breaks.look(snapshot, None, self._table, {})
            return
        held = {} if self._table is None else self._table.held(self._names())
        self._breaks.look(snapshot, self._settings.managed | self._settings.ignored, self._table, held)

    async def _learn(self) -> None:
        if await self._breaks.learn():
            self._circuit.was_lost()
        if self._ledger.snapshot is not None:
            self._look_at_the_whole(self._ledger.snapshot)

    async def _discover(self) -> None:
        """Look at the account regularly, since with no instrument yet nothing requests a slice."""
        while True:
            every = timedelta(seconds=self._settings.discover_every_s)
            snapshot = self._ledger.snapshot
            if snapshot is None or self._runtime.now() - snapshot.requested_at >= every:
                await self._fetch(self._runtime.now())
            await self._runtime.sleep(self._settings.discover_every_s)

    async def _woken_by_stream(self, instruments: frozenset[str]) -> None:
        """The broker's stream reported an event in these instruments; empty: it did not say in which."""
        if not instruments:
            await self._wake_all()
            return
        known = instruments & self._settings.managed
        if self._settings.discover and instruments - known:
            await self._fetch(self._runtime.now())  # the supervisor starts an actor for each new instrument
            known = instruments
        await asyncio.gather(*(self._wake(name) for name in sorted(known - self._settings.ignored)))

    def _hand_over(self, executed: Sequence[StreamedFill]) -> None:
        """Pass executions to the actors of their instruments, which also wakes them. Where nothing of this account is
        believed, or another system keeps its book, only the snapshots show them."""
        by_instrument: dict[str, list[StreamedFill]] = {}
        for one in executed:
            by_instrument.setdefault(one.fill.instrument, []).append(one)
        believed = self._double is None and self._table is None
        for instrument, fills in by_instrument.items():
            if self._settings.discover or instrument in self._settings.managed:
                given = tuple(fills) if believed else ()
                self._runtime.spawn(self._settings.account, self._wake(instrument, given))

    async def _wake_all(self) -> None:
        names = self._settings.managed | (self._ledger.instruments() if self._settings.discover else frozenset())
        awake = (self._wake(name) for name in sorted(names - self._settings.ignored))
        for problem in await asyncio.gather(*awake, return_exceptions=True):
            if isinstance(problem, Exception):
                logger.error("{}: an instrument could not be woken: {}", self._settings.account, problem)

    async def _wake(self, instrument: str, executed: tuple[StreamedFill, ...] = ()) -> None:
        name = instrument_name(self._settings.account, instrument)
        try:
            if executed:
                await self._runtime.call(name, "streamed", executed, timeout_s=WAKE_TIMEOUT_S)
            else:
                await self._runtime.call(name, "wake", timeout_s=WAKE_TIMEOUT_S)
        except CallError as error:
            # It needs no wake-up: its first cycle when it is back is a full one.
            logger.debug("{}", error)
