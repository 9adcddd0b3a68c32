"""The alerts actor: follows the journal and alerts people, as a plain class.

The laws of this module:

* It runs beside every cycle and delays none; a slow receiver delays only its own route.
* A delivered message is journaled (ALERT_DELIVERED), and that record makes it known as delivered; one that was being
  sent when this actor died is sent again, under the same id.
* A route that fails is tried again after growing pauses, for ever, and that is journaled once (ALERT_FAILED). Its queue
  is bounded: what does not fit waits in the router, as subjects, and is sent as a digest.
* Nothing is sent before all of the journal that existed at the start has been read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from loguru import logger

from actors.alerts.delivery import deliver, prepare
from actors.alerts.router import UNDER_WAY_AT_MOST, Message, MessageKind, Router, RouterSettings
from actors.alerts.subjects import FOLLOWED
from actors.book.unreadable import UNUSABLE, UnreadableRecord
from actors.events import Event, EventType, Json, Record, Severity, event_id
from actors.journal import client
from actors.journal.client import Fenced, JournalAway
from actors.journal.outbox import Outbox
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.messages import AlertsHealth
from actors.names import ALERTS, AUDIT
from actors.runtime.ports import CallError, Runtime, closed
from brokers.frozen import dataclass
from brokers.kit.backoff import backoff_s
from brokers.spec import SecretRef
from brokers.versions import PROGRAM

_PAGE = 1_000
_WAIT_S = 5.0
_LOOK_EVERY_S = 1.0
_AGAIN_AFTER_S = 1.0
_LONGEST_PAUSE_S = 60.0
_DELIVERED_WITHIN_S = 45.0
CHECKPOINT_EVERY = 200
"""The number of relevant records between two checkpoints: a restart reads at most these, and those that came since."""

Deliver = Callable[[SecretRef | str, Message], str | None]


@dataclass(frozen=True, slots=True)
class AlertsSettings:
    """The settings of the routes, and the address of each, by its name. ``fingerprint`` covers all of it."""

    router: RouterSettings
    urls: tuple[tuple[str, SecretRef | str], ...]
    fingerprint: str | None = None


@dataclass(slots=True)
class _Way:
    """One route's queue and its state."""

    name: str
    url: SecretRef | str
    queue: asyncio.Queue[Message]
    delivered: int = 0
    failed: int = 0
    failing: str | None = None


class Alerts:
    """Alerts people to problems in the journal. ``deliver`` blocks, and returns why it failed, else ``None``."""

    def __init__(self, settings: AlertsSettings, runtime: Runtime, deliver: Deliver = deliver) -> None:
        self._settings = settings
        self._runtime = runtime
        self._deliver = deliver
        self._router = Router(settings.router)
        self._ways = {name: _Way(name, url, asyncio.Queue(2 * UNDER_WAY_AT_MOST)) for name, url in settings.urls}
        self._threads = ThreadPoolExecutor(max(1, len(self._ways)), thread_name_prefix=ALERTS)
        self._outbox = Outbox(ALERTS, runtime)
        self._cursor = 0
        self._since_checkpoint = 0
        self._caught_up = False
        self._error: str | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._closed = False

    def __repr__(self) -> str:
        return ALERTS

    async def start(self) -> None:
        """Follow the journal from now on, from where the former incarnation was."""
        if self._loops:
            return
        loops = [self._follow(), self._look_again_and_again(), *(self._serve(way) for way in self._ways.values())]
        self._threads.submit(prepare)
        self._loops = [self._runtime.spawn(ALERTS, loop) for loop in loops]

    async def health(self) -> AlertsHealth:
        """The state of its reading of the journal, and of each route. Raises
        :class:`~actors.runtime.ports.ActorUnavailable` after :meth:`close`."""
        if self._closed:
            raise closed(ALERTS)
        ways = self._ways.values()
        return AlertsHealth(
            pid=os.getpid(),
            cursor=self._cursor,
            caught_up=self._caught_up,
            error=self._error,
            subjects=len(self._router.subjects),
            waiting={way.name: way.queue.qsize() for way in ways},
            delivered={way.name: way.delivered for way in ways},
            failed={way.name: way.failed for way in ways},
            failing={way.name: way.failing for way in ways if way.failing is not None},
            fingerprint=self._settings.fingerprint,
            program=PROGRAM,
        )

    async def close(self) -> None:
        """Write a checkpoint and send nothing more. Never raises."""
        self._closed = True
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops)
        await self._outbox.flush()
        if self._caught_up and self._since_checkpoint:
            await self._checkpoint()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Following the journal

    async def _follow(self) -> None:
        while True:
            try:
                if not self._caught_up:
                    await self._catch_up()
                found = await self._runtime.call(AUDIT, "wait_for", self._cursor, _WAIT_S, timeout_s=_WAIT_S + 20.0)
            except (CallError, JournalError, JournalAway) as error:
                self._error = str(error)
                logger.warning("{}: the journal is not followed: {}", ALERTS, error)
                await self._runtime.sleep(_AGAIN_AFTER_S)
                continue
            self._error = None
            self._take(found)
            self._send_what_is_due()
            if self._since_checkpoint >= CHECKPOINT_EVERY:
                await self._checkpoint()

    async def _catch_up(self) -> None:
        """Load the last checkpoint and the records since, selected by type, as most of a journal is irrelevant here."""
        tail = await client.load(self._runtime, ALERTS)
        if tail.records and tail.records[0].event.type is EventType.CHECKPOINT:
            payload = tail.records[0].event.payload
            try:
                self._router.restore(payload["router"])  # type: ignore[arg-type]  # as _checkpoint wrote it
                self._cursor = int(str(payload["cursor"]))
            except UNUSABLE as error:
                raise UnreadableRecord.of(tail.records[0], error) from error
        head = await self._runtime.call(AUDIT, "head", timeout_s=client.JOURNAL_TIMEOUT_S)
        end = 0 if head is None else int(head[0])
        while True:
            filters: RecordQuery = {"types": FOLLOWED, "after_seq": self._cursor, "limit": _PAGE}
            page = await self._runtime.call(AUDIT, "query", filters, timeout_s=client.JOURNAL_TIMEOUT_S)
            self._take(page)
            if len(page) < _PAGE:
                break
        self._cursor = max(self._cursor, end)
        self._caught_up = True
        self._send_what_is_due()

    def _take(self, records: list[Record]) -> None:
        for record in records:
            self._cursor = record.seq
            if record.event.type in FOLLOWED:
                self._since_checkpoint += 1
                try:
                    self._router.feed(record)
                except UNUSABLE as error:  # the records after it are reported all the same
                    logger.error("{}: nothing is reported of this: {}", ALERTS, UnreadableRecord.of(record, error))

    async def _checkpoint(self) -> None:
        """Write what a restart begins with. If that fails, a restart only reads more."""
        try:
            version = await client.version(self._runtime, ALERTS)
            payload: dict[str, Json] = {"cursor": self._cursor, "router": self._router.to_json()}
            identity = event_id(ALERTS, str(version + 1), EventType.CHECKPOINT)
            event = Event(identity, EventType.CHECKPOINT, Severity.INFO, self._runtime.now(), payload)
            await client.append(self._runtime, ALERTS, version, (event,))
            self._since_checkpoint = 0
        except (Fenced, JournalAway) as error:
            logger.warning("{}: no checkpoint: {}", ALERTS, error)

    # Sending

    async def _look_again_and_again(self) -> None:
        while True:
            await self._runtime.sleep(_LOOK_EVERY_S)
            if self._caught_up:
                self._send_what_is_due()

    def _send_what_is_due(self) -> None:
        for message in self._router.due(self._runtime.now()):
            try:
                self._ways[message.route].queue.put_nowait(message)
            except asyncio.QueueFull:
                self._router.gave_up(message)

    async def _serve(self, way: _Way) -> None:
        failures = 0
        while True:
            message = await way.queue.get()
            reason = await self._sent(way, message)
            if reason is None:
                failures = 0
                continue
            if message.kind is not MessageKind.HEARTBEAT:  # the next heartbeat does as well
                self._put_back(way, message)
            failures += 1
            await self._runtime.sleep(backoff_s(failures, _AGAIN_AFTER_S, _LONGEST_PAUSE_S))

    def _put_back(self, way: _Way, message: Message) -> None:
        try:
            way.queue.put_nowait(message)
        except asyncio.QueueFull:
            self._router.gave_up(message)

    async def _sent(self, way: _Way, message: Message) -> str | None:
        """Send one message; returns why that failed, or ``None`` once the delivery is in the journal."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DELIVERED_WITHIN_S):
                reason = await loop.run_in_executor(self._threads, self._deliver, way.url, message)
        except TimeoutError:
            reason = f"no answer within {_DELIVERED_WITHIN_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a service's code raises, the other routes go on
            reason = f"{type(error).__name__} in the code of its service"
        if reason is None:
            way.delivered += 1
            way.failing = None
            self._router.sent(message)
            if message.kind is not MessageKind.HEARTBEAT:
                await self._outbox.write(EventType.ALERT_DELIVERED, message.delivered(), message.id)
            return None
        way.failed += 1
        if way.failing is None:
            logger.error("{}: route {} does not accept a message: {}", ALERTS, way.name, reason)
            payload = {"route": way.name, "message": message.id, "kind": message.kind.value, "reason": reason}
            await self._outbox.write(EventType.ALERT_FAILED, payload, message.id, Severity.WARNING)
        way.failing = reason
        return reason
