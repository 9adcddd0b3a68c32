"""The events of an MT5 gateway from its PUB socket, as a :class:`brokers.port.Stream`.

The laws of this module:

* An event wakes its symbol; one that names none or cannot be read wakes all. Nothing else in it is believed, except a
  deal that the gateway sends with its row, of the checked login: that is an execution. Of all events that wait to be
  read together, each symbol is woken once.
* LIVE means that a PUB socket is connected and answers ZMTP's heartbeats, which its ZeroMQ does by itself. Whether the
  terminal behind it still watches and publishes is not known: a PUB socket sends nothing while nothing happens, so
  quiet and SILENT look the same and SILENT is never claimed. Polling finds a hung gateway.
* A PUB socket keeps nothing for absent subscribers, and no more than its high-water mark for slow ones, and reports
  neither. So each connection begins with an event without a symbol, and a backlog as long as the mark ends with one.
* ZeroMQ abandons a connection for good after a protocol error. A connection that does not come about is opened anew.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import zmq
from loguru import logger
from zmq.utils.monitor import parse_monitor_message

from brokers.kit.event_stream import EventStream, Run
from brokers.kit.foreign_row import BadRow
from brokers.model import StreamedFill
from brokers.mt5.curve import ClientKeys
from brokers.mt5.decode import Content, parse, quote
from brokers.port import Clock, OnEvent, StreamState

HEARTBEAT_S = 2.0
PUBLISHERS_MARK = 1000
"""ZeroMQ documentation, ZMQ_SNDHWM: by default a publisher drops what exceeds this many messages for one subscriber."""

_LARGEST_EVENT_BYTES = 1024 * 1024
_CLOSE_TIMEOUT_S = 5.0
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | _HANDSHAKE_FAILED


class _Subscription:
    """A SUB socket and the monitor of its connection."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        heartbeat_s: float,
        retry_s: float,
        curve: ClientKeys | None,
    ) -> None:
        self.events = context.socket(zmq.SUB)
        if curve is not None:
            curve.secure(self.events)
        self.events.linger = 0
        self.events.setsockopt(zmq.RCVHWM, 10 * PUBLISHERS_MARK)
        self.events.setsockopt(zmq.MAXMSGSIZE, _LARGEST_EVENT_BYTES)
        self.events.setsockopt(zmq.RECONNECT_IVL, _ms(retry_s))
        self.events.setsockopt(zmq.HEARTBEAT_IVL, round(heartbeat_s * 1000))
        self.events.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(heartbeat_s * 2000))
        self.events.setsockopt(zmq.SUBSCRIBE, b"")
        self.monitor = self.events.get_monitor_socket(_WATCHED)
        self.opened_tick = time.monotonic()
        try:
            self.events.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket and the monitor, and drop what was not read."""
        self.events.disable_monitor()
        self.monitor.close(linger=0)
        self.events.close(linger=0)


class _Run(Run):
    """One start: its thread, and the socket pair that wakes it."""

    def __init__(self, on_event: OnEvent) -> None:
        super().__init__(on_event)
        self.thread: threading.Thread | None = None
        self.wake: socket.socket | None = None


class Mt5Stream(EventStream[_Run]):
    """The events of one account's gateway; meets :class:`brokers.port.Stream`.

    ``heartbeat_s`` is how often ZMTP requests a sign of life; a peer that sends none is noticed within three of them.
    0 requests none, as a gateway with a ZeroMQ older than 4.2 does not know them. ``retry_s`` is the wait before each
    new attempt to connect; after ``reopen_s`` without a connection the socket is opened anew. From ``backlog`` waiting
    messages on, some may have been dropped. ``read`` returns the execution in an event, if any; it runs in the stream's
    own thread.

    Most events do not name their account: another account's wake in vain, and the fetch checks whose account it is.
    """

    def __init__(
        self,
        account: str,
        events_endpoint: str,
        clock: Clock,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        retry_s: float = 0.25,
        reopen_s: float = 10.0,
        backlog: int = PUBLISHERS_MARK,
        curve: ClientKeys | None = None,
        read: Callable[[Content], StreamedFill | None] = lambda _: None,
    ) -> None:
        self._curve = curve
        self._read = read
        super().__init__(account, clock, _Run)
        self.followed = "gateway"
        self._endpoint = events_endpoint
        self._heartbeat_s = heartbeat_s
        self._retry_s = retry_s
        self._reopen_s = reopen_s
        self._backlog = backlog

    def _begin(self, run: _Run) -> None:
        """Where nothing listens it is CONNECTING and goes on trying; an invalid endpoint leaves it CLOSED, with the
        error."""
        context = zmq.Context()
        try:
            subscription = self._subscribe(context)
        except zmq.ZMQError as error:
            context.destroy(linger=0)
            remedy = "Set events_endpoint to an address such as tcp://127.0.0.1:5556"
            self._stand(run, StreamState.CLOSED, f"{quote(self._endpoint)} cannot be followed: {error}. {remedy}")
            return
        run.wake, woken = socket.socketpair()
        run.thread = threading.Thread(
            target=self._work,
            args=(run, context, subscription, woken),
            name=f"mt5-events-{self._account}",
            daemon=True,
        )
        run.thread.start()

    def _end(self, run: _Run) -> None:
        if run.wake is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                run.wake.send(b"x")
        if run.thread is not None and run.thread is not threading.current_thread():
            run.thread.join(_CLOSE_TIMEOUT_S)

    def _subscribe(self, context: zmq.Context[zmq.Socket[bytes]]) -> _Subscription:
        return _Subscription(context, self._endpoint, self._heartbeat_s, self._retry_s, self._curve)

    # -- in the stream's own thread --------------------------------------------------------------------------------

    def _work(
        self,
        run: _Run,
        context: zmq.Context[zmq.Socket[bytes]],
        subscription: _Subscription,
        woken: socket.socket,
    ) -> None:
        try:
            while not run.gone:
                subscription = self._follow(run, context, subscription, woken)
        except Exception as error:  # noqa: BLE001 - a thread that ends unseen would look LIVE for ever
            logger.exception("{}: the stream of events ended by an internal error", self._account)
            ended = f"the stream of events ended by an internal error: {error!r}. Start it again"
            self._stand(run, StreamState.CLOSED, ended)
        finally:
            context.destroy(linger=0)
            woken.close()
            if run.wake is not None:
                run.wake.close()

    def _follow(
        self,
        run: _Run,
        context: zmq.Context[zmq.Socket[bytes]],
        subscription: _Subscription,
        woken: socket.socket,
    ) -> _Subscription:
        """Wait for something and handle it; returns the subscription to go on with."""
        poller = zmq.Poller()
        for source in (subscription.events, subscription.monitor, woken.fileno()):
            poller.register(source, zmq.POLLIN)
        ready = dict(poller.poll(self._patience_ms(subscription)))
        if woken.fileno() in ready:
            return subscription
        woke: list[str | None] = []
        if subscription.monitor in ready:
            woke += self._connection(run, subscription)
        if subscription.events in ready:
            woke += self._events(run, subscription)
        for symbol in (None,) if None in woke else dict.fromkeys(woke):
            self._report(run, symbol)
        if self._state is StreamState.CONNECTING and self._patience_ms(subscription) == 0:
            if self._error is None:
                self._say(run, self._unreached())
            subscription.close()
            return self._subscribe(context)
        return subscription

    def _patience_ms(self, subscription: _Subscription) -> int | None:
        if self._state is not StreamState.CONNECTING:
            return None
        left_s = subscription.opened_tick + self._reopen_s - time.monotonic()
        return _ms(left_s) if left_s > 0 else 0

    def _connection(self, run: _Run, subscription: _Subscription) -> list[str | None]:
        """Read the connection's changes. Only the handshake proves a connection: a hung gateway's port accepts too."""
        woke: list[str | None] = []
        while subscription.monitor.poll(0):
            event = parse_monitor_message(subscription.monitor.recv_multipart())["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._hear()
                self._stand(run, StreamState.LIVE)
                woke.append(None)
            elif event == zmq.EVENT_DISCONNECTED and self._state is StreamState.LIVE:
                subscription.opened_tick = time.monotonic()
                self._stand(run, StreamState.CONNECTING, self._cut_off())
            elif event == zmq.EVENT_DISCONNECTED or event & _HANDSHAKE_FAILED:
                self._stand(run, StreamState.CONNECTING, self._no_publisher())
            elif self._error is None and self._state is StreamState.CONNECTING:
                self._say(run, self._unreached())
        return woke

    def _cut_off(self) -> str:
        return (
            f"the events of the gateway at {self._endpoint} were cut off. "
            "It reconnects by itself; if this continues, check that the gateway runs"
        )

    def _no_publisher(self) -> str:
        return (
            f"what answers at {self._endpoint} does not answer as a PUB socket. "
            "Set events_endpoint to the address of the gateway's events, not of its requests"
        )

    def _unreached(self) -> str:
        return f"no events are available at {self._endpoint} yet. Check that the gateway publishes there"

    def _events(self, run: _Run, subscription: _Subscription) -> list[str | None]:
        """The symbols of the events that wait to be read; reports the executions among them."""
        woke: list[str | None] = []
        for _ in range(self._backlog):
            try:
                parts = subscription.events.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return woke
            self._hear()
            woke.append(self._symbol(run, b"".join(parts)))
        return [None]

    def _symbol(self, run: _Run, body: bytes) -> str | None:
        try:
            event = parse(body)
        except BadRow as error:
            self._say(run, f"an event of the gateway at {self._endpoint} could not be read: {error}")
            return None
        if self._state is StreamState.LIVE:
            self._say(run, None)
        executed, symbol = self._read(event), event.get("symbol")
        if executed is not None:
            self._report_fill(run, executed)
        return symbol if isinstance(symbol, str) and symbol not in ("", "*") else None


def _ms(seconds: float) -> int:
    """At least 1: ZeroMQ reads 0 as "at once" or "never"."""
    return max(1, round(seconds * 1000))
