"""Order updates of one Kite user through the SDK's KiteTicker, as a :class:`brokers.port.Stream`.

Kite sends orders and no positions; an update wakes its instrument, whose positions are then fetched. The update carries
the filled quantity of its order and none of its trades. So it has no id by which a fill could be recognised, and is no
execution (:mod:`brokers.executions`). The laws:

* kiteconnect 5.2.2 sends no ping, so its own watchdog never arms and a dead connection is never noticed. Ours counts
  everything received, Kite's heartbeats included, and cuts a connection that was silent for ``silence_s``; the SDK then
  connects anew.
* A session that has ended is 403 in the handshake, which the SDK turns into close code 1006 and retries for ever. Here
  it ends the retries: REFUSED.
* Twisted has one reactor for a process, and it cannot be started twice. It runs in a thread of its own, this module
  never stops it, and everything that touches a connection runs in that thread. Once something has stopped it: SPENT.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from kiteconnect import KiteTicker
from twisted.internet import reactor as _reactor
from twisted.internet import ssl
from twisted.internet.error import ReactorNotRestartable
from twisted.internet.task import LoopingCall

from brokers.errors import with_remedy
from brokers.kit.event_stream import EventStream, Run
from brokers.kit.foreign_row import BadRow
from brokers.kit.scrubber import Scrubber
from brokers.kite.decode import instrument_of
from brokers.kite.wire import LOG_IN, RENEWAL
from brokers.port import Clock, OnEvent, StreamState

STREAM_URL = "wss://ws.kite.trade"
SILENCE_S = 10.0
"""Kite Connect documentation: while there is nothing to send, a heartbeat of one byte comes every couple of seconds."""

START_TIMEOUT_S = 5.0
_REFUSED = re.compile(r"upgrade failed.*\b40[13]\b", re.IGNORECASE)
_MOST_TRIES = 300
_CHECK = "Check the network and `stream_url`"
_AGAIN = f"It reconnects by itself; if this continues: {_CHECK[0].lower()}{_CHECK[1:]}"
_REACTOR_SPENT = (
    "this process has stopped Twisted's reactor, which cannot be started again. The account's actor has to be restarted"
)

reactor: Any = _reactor  # its type is chosen when it is first imported
_starting = threading.Lock()


class _Ticker(KiteTicker):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's ticker, on a reactor that runs already. The SDK's own ``connect`` opens TLS without checking the
    certificate, and the access token is in the very first line it sends."""

    def open(self, connect_timeout_s: float, first_retry_s: float) -> Any:
        """Connect, and keep trying. Runs in the reactor's thread."""
        from autobahn.twisted.websocket import connectWS

        self._create_connection(self.socket_url, useragent=self._user_agent(), headers={"X-Kite-Version": "3"})
        self.factory.initialDelay = self.factory.delay = first_retry_s
        host = urlsplit(self.socket_url).hostname or ""
        context = ssl.optionsForClientTLS(host) if self.factory.isSecure else None
        return connectWS(self.factory, contextFactory=context, timeout=connect_timeout_s)


class _Run(Run):
    """One ticker and its connector."""

    def __init__(self, on_event: OnEvent) -> None:
        super().__init__(on_event)
        self.ticker: _Ticker | None = None
        self.connector: Any = None
        self.watch: LoopingCall | None = None
        self.was_silent = False

    def end(self) -> None:
        """Cut the connection and stop trying. Runs in the reactor's thread."""
        self.over.set()
        if self.watch is not None and self.watch.running:
            self.watch.stop()
        if self.ticker is not None:
            self.ticker.stop_retry()
            self.cut()
        if self.connector is not None:
            self.connector.stopConnecting() if self.connector.state == "connecting" else self.connector.disconnect()

    def cut(self) -> None:
        """Drop the connection without waiting for the other side's close."""
        if self.ticker is not None and self.ticker.ws is not None:
            self.ticker.ws.dropConnection(abort=True)


class KiteStream(EventStream[_Run]):
    """The order updates of one user; meets :class:`brokers.port.Stream`.

    ``access_token`` is called at every :meth:`start`. ``stream_url`` is the host part, ``None`` for Zerodha's. After a
    lost connection the SDK waits from ``first_retry_s`` on, growing to ``longest_retry_s`` (at least 5). ``renewal``
    says where a person puts a new token. ``named`` returns the name under which an instrument is reported.
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
        named: Callable[[str], str] = str,
    ) -> None:
        super().__init__(account, clock, _Run, silence_s)
        self.followed = "ticker"
        self.silence = f"the ticker has said nothing for {silence_s:g} s, no heartbeat either. {_AGAIN}"
        self._api_key = api_key
        self._access_token = access_token
        self._url = (stream_url or STREAM_URL).rstrip("/")
        self._connect_timeout_s = connect_timeout_s
        self._renewal = renewal
        self._named = named
        self._retry_s = (first_retry_s, longest_retry_s)
        self._token = ""
        self._scrubber = Scrubber([api_key])

    def _take_credentials(self) -> None:
        self._token = self._access_token()
        self._scrubber = Scrubber([self._api_key, self._token])

    def _begin(self, run: _Run) -> None:
        if _reactor_runs():
            reactor.callFromThread(self._open, run)
        else:
            self._stand(run, StreamState.SPENT, _REACTOR_SPENT)

    def _end(self, run: _Run) -> None:
        if reactor.running:
            reactor.callFromThread(run.end)

    # -- in the reactor's thread -----------------------------------------------------------------------------------

    def _open(self, run: _Run) -> None:
        if run.gone:
            return
        first_s, longest_s = self._retry_s
        ticker = run.ticker = _Ticker(
            self._api_key, self._token, root=self._url, reconnect_max_tries=_MOST_TRIES, reconnect_max_delay=longest_s
        )
        ticker.on_open = lambda _: self._opened(run)
        ticker.on_message = lambda *_: self._received(run)
        ticker.on_order_update = lambda _, data: self._order(run, data)
        ticker.on_close = lambda _, code, reason: self._closed(run, code, str(reason))
        ticker.on_error = lambda _, code, reason: self._complained(run, code, str(reason))
        ticker.on_noreconnect = lambda _: self._gave_up(run)
        run.watch = LoopingCall(self._watch, run)
        run.watch.start(self._silence_s / 4, now=False)
        try:
            run.connector = ticker.open(self._connect_timeout_s, first_s)
        except Exception as error:  # noqa: BLE001 - the SDK reads the address here, and it is the configuration's
            self._stand(run, StreamState.CLOSED, f"{self._url} cannot be opened: {error}. Check `stream_url`")
            run.end()

    def _opened(self, run: _Run) -> None:
        if not run.gone:
            self._hear()
            if not run.was_silent:  # else it first has to send something
                self._stand(run, StreamState.LIVE)
            self._report(run, None)

    def _received(self, run: _Run) -> None:
        if run.gone:
            return
        self._hear()
        if run.was_silent:
            run.was_silent = False
            self._stand(run, StreamState.LIVE)

    def _order(self, run: _Run, data: object) -> None:
        try:
            instrument = self._named(instrument_of(data)) if isinstance(data, dict) else None
        except BadRow:
            instrument = None  # not known, so it may be any
        self._report(run, instrument)

    def _complained(self, run: _Run, code: int | None, reason: str) -> None:
        if not run.gone and code == 0:  # a frame of type error, on a connection that stays
            self._say(run, with_remedy(f"the ticker said: {reason}", "It stays connected; polling goes on"))

    def _closed(self, run: _Run, code: int | None, reason: str) -> None:
        if run.gone:
            return
        if _REFUSED.search(reason):
            found = f"the ticker does not accept the session ({reason})"
            self._stand(run, StreamState.REFUSED, f"{found}. {LOG_IN}. {self._renewal}")
            run.end()
        elif not run.was_silent:
            self._stand(
                run,
                StreamState.CONNECTING,
                with_remedy(f"the connection of the ticker ended ({code}: {reason})", _AGAIN),
            )

    def _gave_up(self, run: _Run) -> None:
        if not run.gone:
            self._stand(run, StreamState.CLOSED, f"the ticker could not be reached in {_MOST_TRIES} tries. {_CHECK}")
            run.end()

    def _watch(self, run: _Run) -> None:
        connected = run.ticker is not None and run.ticker.is_connected()
        if not run.gone and connected and self._is_silent():
            run.was_silent = True
            self._stand(
                run,
                StreamState.CONNECTING,
                f"the ticker had said nothing for {self._silence_s:g} s and was cut. {_AGAIN}",
            )
            run.cut()


def _reactor_runs() -> bool:
    """Make sure that Twisted's reactor runs in a thread; False where it can no longer run in this process."""
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
