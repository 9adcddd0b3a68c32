"""The account actor: the only connection to one broker account, as a plain class.

The laws of this module:

* One fetch serves every instrument that can share it; broker calls do not grow with the number of instruments.
* A slice comes from a snapshot requested at or after the time the caller names, or not at all.
* A failure is an answer (:class:`NoSlice`), with the reason in words and the time of the next try. A broker that does
  not answer is asked again after growing pauses; one that refused us is not hammered.
* What belongs to no instrument is the account's own: instruments nobody manages, rows that name none. Each is said
  once, and once more when it is over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger

from actors import codec
from actors.breaks import Break, Discrepancy, DiscrepancyType, Phase
from actors.events import EventType, Json, Severity, event_id, stream_of
from actors.ledger import Ledger
from actors.messages import AccountHealth, Connection, NoSlice, SliceRequest, Unchanged
from actors.outbox import Outbox
from actors.runtime import CallError, Runtime
from brokers.errors import BrokerError, Malformed, Refused
from brokers.model import Cursor, OrderAnswer, OrderQuery, Slice, Unsupported
from brokers.port import Broker

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
REFUSED_PAUSE_S = 60.0
"""A refusal needs a person. Asking once a minute finds out that he has acted, and hammers nobody."""

WAKE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Which account this is and whose it looks after. ``managed`` are the configured symbols; with ``discover`` it
    is for the supervisor to start an actor for every other one, and no discrepancy. ``patience_s`` is how long a caller
    is kept waiting for the broker before it is told so; the fetch itself goes on (``None``: until it ends)."""

    account: str
    broker: str
    managed: frozenset[str]
    ignored: frozenset[str] = frozenset()
    discover: bool = False
    patience_s: float | None = None


class Account:
    """Owns the adapter of one account. ``open_broker`` makes it, inside this actor, where its secrets are resolved."""

    def __init__(self, settings: AccountSettings, open_broker: Callable[[], Broker], runtime: Runtime) -> None:
        self._settings = settings
        self._open_broker = open_broker
        self._runtime = runtime
        self._broker: Broker | None = None
        self._connected = False
        self._connection = Connection.CONNECTING
        self._error: str | None = None
        self._ledger = Ledger(settings.account, f"{int(runtime.uniform() * 2**48):012x}")
        self._fetching: asyncio.Task[None] | None = None
        self._fetch_began: datetime | None = None
        self._asked_since: Cursor | None = None
        self._talk = asyncio.Lock()
        self._failures = 0
        self._retry_at: datetime | None = None
        self._fetches = 0
        self._breaks: dict[tuple[DiscrepancyType, str], Break] = {}
        self._outbox = Outbox(settings.account, runtime)
        self._watch: asyncio.Task[None] | None = None
        self._failing = asyncio.Event()

    def __repr__(self) -> str:
        return self._settings.account

    # What instruments ask

    async def slice(self, request: SliceRequest) -> Slice | Unchanged | NoSlice:
        """One instrument's rows, from a snapshot requested at or after ``request.not_before``."""
        if not self._serves(request):
            self._want_fills_since(request.fills_since)
            failure = await self._fetch(request.not_before)
            if failure is not None:
                return failure
            if not self._serves(request):
                # The fetch that was under way did not ask for fills from far enough back.
                failure = await self._fetch(self._runtime.now())
                if failure is not None:
                    return failure
        return self._ledger.slice(request)

    async def find_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        """The broker's answers, one for each query in their order; a failure is in its answer."""
        try:
            async with self._talk:
                return await (await self._open()).find_orders(queries)
        except BrokerError as error:
            return tuple(OrderAnswer(query, failure=str(error)) for query in queries)

    async def cancel_order(self, query: OrderQuery) -> str | None:
        """Ask the broker to cancel a stale order; ``None`` when it took the request, else why not."""
        try:
            async with self._talk:
                await (await self._open()).cancel_order(query)
        except BrokerError as error:
            return str(error)
        return None

    # What the supervisor asks

    async def start(self) -> None:
        """Look after the connection by ourselves from now on: ask again when the time for it has come, and wake every
        instrument after a reconnect, however healthy everything looked meanwhile."""
        self._watch = self._runtime.spawn(self._settings.account, self._watch_connection())

    async def health(self) -> AccountHealth:
        """How it stands with the broker. Never waits for the broker."""
        known = self._settings.managed | self._settings.ignored
        return AccountHealth(
            account=self._settings.account,
            broker=self._settings.broker,
            connection=self._connection,
            error=self._error,
            broker_calls=self._broker.calls if self._broker is not None else 0,
            fetches=self._fetches,
            retry_at=self._retry_at,
            unowned=tuple(sorted(self._ledger.instruments() - known)),
            discrepancies=tuple(Discrepancy(found, False, None) for found in self._breaks.values()),
            pid=os.getpid(),
        )

    async def instruments(self, not_before: datetime) -> tuple[str, ...] | NoSlice:
        """Every instrument the account has anything in, from a snapshot requested at or after that time."""
        snapshot = self._ledger.snapshot
        if snapshot is None or snapshot.requested_at < not_before:
            failure = await self._fetch(not_before)
            if failure is not None:
                return failure
        return tuple(sorted(self._ledger.instruments() - self._settings.ignored))

    async def close(self) -> None:
        """Give the connection back. Never raises."""
        if self._fetching is not None:
            self._fetching.cancel()
        if self._broker is not None:
            await self._broker.close()
            self._broker = None

    # Fetching

    def _serves(self, request: SliceRequest) -> bool:
        snapshot = self._ledger.snapshot
        if snapshot is None or snapshot.requested_at < request.not_before:
            return False
        return isinstance(snapshot.fills, Unsupported) or self._ledger.covers(request.fills_since)

    def _want_fills_since(self, cursor: Cursor | None) -> None:
        if cursor is not None and (self._asked_since is None or cursor < self._asked_since):
            self._asked_since = cursor

    async def _fetch(self, not_before: datetime) -> NoSlice | None:
        """Wait for a snapshot that was requested late enough: the one under way, or one of our own."""
        if self._retry_at is not None and self._runtime.now() < self._retry_at:
            return NoSlice(self._connection, self._error or "no answer yet", self._retry_at)
        while True:
            if self._fetching is None or self._fetching.done():
                self._fetch_began = self._runtime.now()
                self._fetching = self._runtime.spawn(self._settings.account, self._fetch_once())
            late_enough = self._fetch_began is not None and self._fetch_began >= not_before
            # Waited for without owning it: a caller that gives up must not take the fetch away from the others.
            await asyncio.wait([self._fetching], timeout=self._settings.patience_s)
            if not self._fetching.done():
                return NoSlice(Connection.UNREACHABLE, self._error or self._no_answer_yet())
            if self._error is not None:
                return NoSlice(self._connection, self._error, self._retry_at)
            if late_enough:
                return None

    def _no_answer_yet(self) -> str:
        began = self._fetch_began or self._runtime.now()
        waited_s = (self._runtime.now() - began).total_seconds()
        return f"{self._settings.account}: the broker has not answered for {waited_s:.1f} s; it is still being asked"

    async def _fetch_once(self) -> None:
        since = self._fills_from()
        try:
            async with self._talk:
                broker = await self._open()
                self._fetches += 1
                snapshot = await broker.snapshot(since)
        except BrokerError as error:
            await self._failed(error)
            return
        except Exception as error:  # noqa: BLE001 - one bad answer must not end the actor that owns the connection
            logger.exception("{}: an error of ours while fetching", self._settings.account)
            await self._failed(
                Malformed("fetch a snapshot", self._settings.account, f"{type(error).__name__}", "Report this error.")
            )
            return
        self._ledger.take(snapshot, since)
        if self._ledger.covers(self._asked_since):
            self._asked_since = None
        await self._answered()
        await self._look_at_the_whole()

    def _fills_from(self) -> Cursor | None:
        """From where to ask for fills: where we stand, or as far back as somebody needs."""
        stand = self._ledger.fills_cursor
        wanted = self._asked_since
        if wanted is None or self._ledger.covers(wanted):
            return stand
        return wanted if stand is None else min(stand, wanted)

    async def _open(self) -> Broker:
        """The adapter, connected: proven to be the account that is configured."""
        if self._broker is None:
            self._broker = self._open_broker()
        if not self._connected:
            await self._broker.connect()
            self._connected = True
        return self._broker

    # How it stands

    async def _answered(self) -> None:
        back = self._connection is not Connection.CONNECTED
        lost = self._error is not None
        self._connection, self._error, self._retry_at, self._failures = Connection.CONNECTED, None, None, 0
        if back and lost:
            logger.info("{}: connected again", self._settings.account)
            await self._outbox.write(EventType.CONNECTION_RESTORED, {"account": self._settings.account}, "")

    async def _failed(self, error: BrokerError) -> None:
        first = self._error is None
        refused = isinstance(error, Refused)
        kind = Connection.MALFORMED if isinstance(error, Malformed) else Connection.UNREACHABLE
        self._connection = Connection.REFUSED if refused else kind
        self._error = str(error)
        self._connected = False
        pause_s = REFUSED_PAUSE_S if refused else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = self._runtime.now() + timedelta(seconds=pause_s * (0.5 + self._runtime.uniform() / 2))
        self._failing.set()
        if first:
            logger.warning("{}", error)
            payload: dict[str, Json] = {
                "account": self._settings.account,
                "connection": self._connection.value,
                "reason": self._error,
            }
            await self._outbox.write(EventType.CONNECTION_LOST, payload, self._connection.value, Severity.WARNING)

    async def _watch_connection(self) -> None:
        while True:
            await self._failing.wait()
            self._failing.clear()
            while self._error is not None:
                until = self._retry_at or self._runtime.now()
                await self._runtime.sleep(max(0.0, (until - self._runtime.now()).total_seconds()))
                await self._fetch(self._runtime.now())
            await self._wake_all()

    async def _wake_all(self) -> None:
        names = self._settings.managed | (self._ledger.instruments() if self._settings.discover else frozenset())
        awake = (self._wake(name) for name in sorted(names - self._settings.ignored))
        await asyncio.gather(*awake)

    async def _wake(self, instrument: str) -> None:
        try:
            name = stream_of(self._settings.account, instrument)
            await self._runtime.call(name, "wake", timeout_s=WAKE_TIMEOUT_S)
        except CallError as error:
            # It will see for itself when it is back: its first cycle is a full one.
            logger.debug("{}", error)

    async def _look_at_the_whole(self) -> None:
        """What belongs to no instrument: report what is new, and what is over."""
        found: dict[tuple[DiscrepancyType, str], str] = {}
        for place, problem in enumerate(self._ledger.unowned_problems()):
            key = f"{problem.section.value}:{problem.key or place}"
            found[(DiscrepancyType.MALFORMED_DATA, key)] = problem.text
        if not self._settings.discover:
            for name in self._ledger.instruments() - self._settings.managed - self._settings.ignored:
                found[(DiscrepancyType.UNMANAGED_INSTRUMENT, name)] = "in the account, and not in the configuration"
        for place_, text in found.items():
            if place_ not in self._breaks:
                await self._open_break(place_, text)
        for gone in [place_ for place_ in self._breaks if place_ not in found]:
            old = self._breaks.pop(gone)
            payload = codec.break_to(old, resolved=True, correction=None)
            await self._outbox.write(EventType.DISCREPANCY_RESOLVED, payload, old.id)

    async def _open_break(self, place: tuple[DiscrepancyType, str], text: str) -> None:
        kind, key = place
        new = Break(
            id=event_id(self._settings.account, kind, key),
            type=kind,
            key=key,
            severity=Severity.WARNING,
            phase=Phase.SECTIONS,
            cause=None,
            book_value=None,
            broker_value=text,
            difference=None,
            opened_at=self._runtime.now(),
        )
        self._breaks[place] = new
        payload = codec.break_to(new, resolved=False, correction=None)
        await self._outbox.write(EventType.RECONCILIATION_DISCREPANCY, payload, new.id, Severity.WARNING)
