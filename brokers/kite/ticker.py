"""Order updates of one Kite user through the SDK's KiteTicker, as a :class:`brokers.port.Stream`.

Kite tells orders and no positions; an update wakes its instrument, whose positions are then fetched. The laws:

* kiteconnect 5.2.2 sends no ping, so its own watchdog never arms and a dead connection is never noticed. Ours counts
  everything heard, Kite's heartbeats included, and cuts a connection that was silent for ``silence_s``; the SDK then
  connects anew.
* A session that is over is 403 in the handshake, which the SDK turns into close code 1006 and retries for ever. Here
  it ends the retries: REFUSED.
* Twisted's reactor is one for a process and cannot be started twice. It runs in a thread of its own, is never stopped
  by us, and everything that touches a connection is done in that thread. Once somebody has stopped it: SPENT.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from kiteconnect import KiteTicker
from loguru import logger
from twisted.internet import reactor as _reactor
from twisted.internet import ssl
from twisted.internet.error import ReactorNotRestartable
from twisted.internet.task import LoopingCall

from brokers.errors import with_remedy
from brokers.kit.foreign_row import BadRow
from brokers.kit.scrubber import Scrubber
from brokers.kite.decode import instrument_of
from brokers.kite.wire import LOG_IN, RENEWAL
from brokers.port import Clock, OnEvent, StreamState

STREAM_URL = "wss://ws.kite.trade"
SILENCE_S = 10.0
"""Kite Connect documentation: while there is nothing to tell, a heartbeat of one byte comes every couple of seconds."""

START_TIMEOUT_S = 5.0
_REFUSED = re.compile(r"upgrade failed.*\b40[13]\b", re.IGNORECASE)
_MOST_TRIES = 300
_CHECK = "Check the network and `stream_url`"
_AGAIN = f"It is connected anew by itself; if it goes on: {_CHECK[0].lower()}{_CHECK[1:]}"
_REACTOR_SPENT = (
    "this process has stopped Twisted's reactor, which cannot be started again. The account's actor has to be restarted"
)

reactor: Any = _reactor  # its type is chosen when it is first imported
_starting = threading.Lock()


class _Ticker(KiteTicker):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's ticker, on a reactor that runs already. Its own ``connect`` opens TLS without looking at the
    certificate, and the access token is in the very first line it sends."""

    def open(self, connect_timeout_s: float, first_retry_s: float) -> Any:
        """Connect, and go on trying. In the reactor's thread."""
        from autobahn.twisted.websocket import connectWS

        self._create_connection(self.socket_url, useragent=self._user_agent(), headers={"X-Kite-Version": "3"})
        self.factory.initialDelay = self.factory.delay = first_retry_s
        host = urlsplit(self.socket_url).hostname or ""
        context = ssl.optionsForClientTLS(host) if self.factory.isSecure else None
        return connectWS(self.factory, contextFactory=context, timeout=connect_timeout_s)


class _Link:
    """One ticker and its connector; forgotten as a whole, so that nothing it still says is heard."""

    def __init__(self) -> None:
        self.ticker: _Ticker | None = None
        self.connector: Any = None
        self.watch: LoopingCall | None = None
        self.was_silent = False
        self.gone = False

    def end(self) -> None:
        """Cut it and try no more. In the reactor's thread."""
        self.gone = True
        if self.watch is not None and self.watch.running:
            self.watch.stop()
        if self.ticker is not None:
            self.ticker.stop_retry()
            self.cut()
        if self.connector is not None:
            self.connector.stopConnecting() if self.connector.state == "connecting" else self.connector.disconnect()

    def cut(self) -> None:
        """Drop the connection without waiting for the other side's word."""
        if self.ticker is not None and self.ticker.ws is not None:
            self.ticker.ws.dropConnection(abort=True)


class KiteStream:
    """The order updates of one user; meets :class:`brokers.port.Stream`.

    ``access_token`` is asked at every :meth:`start`. ``stream_url`` is the host part, ``None`` for Zerodha's. After a
    lost connection the SDK waits from ``first_retry_s`` on, growing to ``longest_retry_s`` (at least 5). ``renewal``
    tells a person where to put a new token.
    """

    def __init__(
        self,
        account: str,
        api_key: str,
        access_token: Callable[[], str],
        stream_url: str | None,
        clock: Clock,
        *,
        silence_s: float = SILENCE_S,
        connect_timeout_s: float = 10.0,
        first_retry_s: float = 1.0,
        longest_retry_s: float = 30.0,
        renewal: str = RENEWAL,
    ) -> None:
        self._account = account
        self._api_key = api_key
        self._access_token = access_token
        self._url = (stream_url or STREAM_URL).rstrip("/")
        self._clock = clock
        self._silence_s = silence_s
        self._connect_timeout_s = connect_timeout_s
        self._renewal = renewal
        self._retry_s = (first_retry_s, longest_retry_s)
        self._lock = threading.RLock()
        self._link = _Link()
        self._scrubber = Scrubber([api_key])
        self._state = StreamState.CLOSED
        self._error: str | None = None
        self._heard_at: datetime | None = None
        self._heard_tick = 0.0

    def __repr__(self) -> str:
        return f"KiteStream({self._account!r}, {self._state.value})"

    # -- how it stands ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> StreamState:
        """How it stands now, by what was heard and not by what the connection believes of itself."""
        if self._state is StreamState.LIVE and self._silent():
            return StreamState.SILENT
        return self._state

    @property
    def error(self) -> str | None:
        """Why it is not LIVE."""
        if self.state is StreamState.SILENT:
            found = f"the ticker has said nothing for {self._silence_s:g} s, no heartbeat either"
            return f"{self._account}: {found}. {_AGAIN}"
        return self._error

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when anything was last heard."""
        return self._heard_at

    def _silent(self) -> bool:
        return time.monotonic() - self._heard_tick > self._silence_s

    # -- start and close -------------------------------------------------------------------------------------------

    def start(self, on_event: OnEvent) -> None:
        """Follow the user's orders from now on, with the token of now. Every time it has connected it gives an event
        without an instrument: what happened before is not told."""
        token = self._access_token()
        self.close()
        self._scrubber = Scrubber([self._api_key, token])
        if not _reactor_runs():
            self._set(StreamState.SPENT, _REACTOR_SPENT)
            return
        link = self._link = _Link()
        self._set(StreamState.CONNECTING, None)
        reactor.callFromThread(self._open, link, token, on_event)

    def close(self) -> None:
        """Hear nothing any more."""
        with self._lock:  # an event under way is waited for
            link, self._link = self._link, _Link()
            link.gone = True
        self._set(StreamState.CLOSED, None)
        if reactor.running:
            reactor.callFromThread(link.end)

    def _set(self, state: StreamState, error: str | None) -> None:
        self._state = state
        self._error = None if error is None else f"{self._account}: {self._scrubber.text(error)}"

    # -- in the reactor's thread -----------------------------------------------------------------------------------

    def _open(self, link: _Link, token: str, on_event: OnEvent) -> None:
        if link.gone:
            return
        first_s, longest_s = self._retry_s
        ticker = link.ticker = _Ticker(
            self._api_key, token, root=self._url, reconnect_max_tries=_MOST_TRIES, reconnect_max_delay=longest_s
        )
        ticker.on_open = lambda _: self._opened(link, on_event)
        ticker.on_message = lambda *_: self._heard(link)
        ticker.on_order_update = lambda _, data: self._order(link, data, on_event)
        ticker.on_close = lambda _, code, reason: self._closed(link, code, str(reason))
        ticker.on_error = lambda _, code, reason: self._complained(link, code, str(reason))
        ticker.on_noreconnect = lambda _: self._gave_up(link)
        link.watch = LoopingCall(self._watch, link)
        link.watch.start(self._silence_s / 4, now=False)
        try:
            link.connector = ticker.open(self._connect_timeout_s, first_s)
        except Exception as error:  # noqa: BLE001 - the SDK reads the address here, and it is the configuration's
            self._set(StreamState.CLOSED, f"{self._url} cannot be opened: {error}. Check `stream_url`")
            link.end()

    def _opened(self, link: _Link, on_event: OnEvent) -> None:
        if not link.gone:
            self._note()
            if not link.was_silent:  # else it has to say something first
                self._set(StreamState.LIVE, None)
            self._tell(link, None, on_event)

    def _heard(self, link: _Link) -> None:
        if link.gone:
            return
        self._note()
        if link.was_silent:
            link.was_silent = False
            self._set(StreamState.LIVE, None)

    def _note(self) -> None:
        self._heard_at, self._heard_tick = self._clock(), time.monotonic()

    def _order(self, link: _Link, data: object, on_event: OnEvent) -> None:
        try:
            instrument = instrument_of(data) if isinstance(data, dict) else None
        except BadRow:
            instrument = None  # of which one is not known, so it may be any
        self._tell(link, instrument, on_event)

    def _tell(self, link: _Link, instrument: str | None, on_event: OnEvent) -> None:
        with self._lock:
            if link.gone:
                return
            try:
                on_event(instrument)
            except Exception:  # noqa: BLE001 - the SDK would drop the connection for an error that is not its own
                logger.exception("{}: an error of ours while taking an event of the ticker", self._account)

    def _complained(self, link: _Link, code: int | None, reason: str) -> None:
        if not link.gone and code == 0:  # a frame of type error, on a connection that stays
            said = with_remedy(f"the ticker said: {self._scrubber.text(reason)}", "It stays connected; polling goes on")
            self._error = f"{self._account}: {said}"

    def _closed(self, link: _Link, code: int | None, reason: str) -> None:
        if link.gone:
            return
        if _REFUSED.search(reason):
            found = f"the ticker does not accept the session ({reason})"
            self._set(StreamState.REFUSED, f"{found}. {LOG_IN}. {self._renewal}")
            link.end()
        elif not link.was_silent:
            self._set(
                StreamState.CONNECTING, with_remedy(f"the connection of the ticker ended ({code}: {reason})", _AGAIN)
            )

    def _gave_up(self, link: _Link) -> None:
        if not link.gone:
            self._set(StreamState.CLOSED, f"the ticker could not be reached in {_MOST_TRIES} tries. {_CHECK}")
            link.end()

    def _watch(self, link: _Link) -> None:
        connected = link.ticker is not None and link.ticker.is_connected()
        if not link.gone and connected and self._silent():
            link.was_silent = True
            self._set(
                StreamState.CONNECTING, f"the ticker had said nothing for {self._silence_s:g} s and was cut. {_AGAIN}"
            )
            link.cut()


def _reactor_runs() -> bool:
    """See that Twisted's reactor runs in a thread; False where it never will again in this process."""
    with _starting:
        if reactor.running:
            return True
        up, over = threading.Event(), threading.Event()

        def run() -> None:
            try:
                reactor.run(installSignalHandlers=False)
            except ReactorNotRestartable:
                pass  # that is the answer
            finally:
                over.set()
                up.set()

        reactor.callWhenRunning(up.set)
        threading.Thread(target=run, name="twisted-reactor", daemon=True).start()
        return up.wait(START_TIMEOUT_S) and not over.is_set()
