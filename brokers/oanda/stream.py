"""OANDA's transaction stream through the SDK, as a :class:`brokers.port.Stream`.

A transaction wakes its instrument, whose positions are then fetched; an ORDER_FILL is an execution, and is reported as
such first. The laws of this module:

* The stream begins with the request and replays nothing, so the first line of every connection is an event without an
  instrument: everything up to the transaction it names is to be fetched.
* From there on ids are consecutive. A transaction or a heartbeat that skips an id is a gap, and again an event without
  an instrument: doubt costs a request, a missed transaction costs money.
* A fill that cannot be read whole, or does not name our account, is no execution, and still wakes.
* The stream ends in four ways, and the SDK shows each differently: a clean close just ends its generator, a stall is
  ``ConnectionError``, a cut ``ChunkedEncodingError``, half a line ``JSONDecodeError``. All are survived.
* requests bounds only the silence between two bytes; a watching thread cuts a connection that sends no whole line.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import oandapyV20
import requests
from oandapyV20.endpoints.transactions import TransactionsStream
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from requests.utils import check_header_validity

from brokers.errors import with_remedy
from brokers.kit.abortable_http import Call
from brokers.kit.backoff import backoff_s, spread_s
from brokers.kit.event_stream import EventStream, Run
from brokers.kit.foreign_row import BadRow, Json, mapping, whole_text
from brokers.kit.http_failure import cause_of, no_connection
from brokers.kit.scrubber import Scrubber
from brokers.kit.sdk_call import CONNECT_TIMEOUT_S, SdkCalls
from brokers.model import StreamedFill
from brokers.oanda.decode import OF_THE_ACCOUNT, streamed_fill, transaction_id
from brokers.oanda.wire import TOKEN
from brokers.port import Clock, OnEvent, StreamState

SILENCE_S = 20.0
"""OANDA v20 documentation: a heartbeat comes every 5 seconds. Four missed ones are no accident."""

CONNECTION_SPACING_S = 0.5
"""OANDA v20 documentation: at most 2 new connections per second."""

CREATED_KEPT = 500
"""How many orders that the stream reported, and that may yet be filled, are kept. Older ones are in the book."""

JOIN_TIMEOUT_S = 1.0
_FOUND_LENGTH = 300
_AGAIN = "It reconnects by itself; if this continues, check the network and `stream_url`"
_PATH = "Check `account_id`, and that `stream_url` is the host part, without /v3"

Wakes = tuple[str | None, ...]
_ANY: Wakes = (None,)
_NONE: Wakes = ()


def wakes(line: object, newest: int | None, account_id: str) -> tuple[Wakes, int | None]:
    """The instruments that a line wakes, and the newest transaction known after it. ``newest`` is that before it,
    ``None`` at the beginning of a connection. Never raises: an unreadable line may mean anything, and wakes all."""
    try:
        row = mapping(line, "the line")
        beat = row.get("type") == "HEARTBEAT"
        number = transaction_id(row, "lastTransactionID" if beat else "id")
    except BadRow:
        return _ANY, newest
    if newest is None:
        return _ANY, number
    if beat:
        # An older id means a late heartbeat, or an account begun anew; in doubt the broker is right.
        return (_NONE if number == newest else _ANY), number
    if number > newest + 1:
        return _ANY, number
    newest = max(newest, number)
    if row.get("accountID", account_id) != account_id:
        return _ANY, newest
    kind, instrument = row.get("type"), row.get("instrument")
    if isinstance(kind, str) and kind in OF_THE_ACCOUNT:
        return _NONE, newest
    return ((instrument,) if isinstance(instrument, str) and instrument else _ANY), newest


def execution(line: object, created: Mapping[str, Json], account_id: str) -> StreamedFill | None:
    """The execution in a line; ``None`` where it has none that can be used. ``created`` maps the ids of orders to the
    transactions that created them. Never raises."""
    try:
        row = mapping(line, "the line")
        if row.get("type") != "ORDER_FILL" or row.get("accountID") != account_id:
            return None
        return streamed_fill(row, created.get(str(row.get("orderID"))))
    except BadRow:
        return None


def turn_in_s(tries: int, since_last_s: float, first_s: float, longest_s: float, jitter: float) -> float:
    """How long the next connection waits, in seconds: exponentially longer with every failed try, up to ``longest_s``.
    ``jitter`` (0 to 1) scales the later half of it, so that accounts which lost their streams together do not come back
    together. Never sooner than :data:`CONNECTION_SPACING_S` after the last one."""
    pause_s = backoff_s(tries, first_s, longest_s) if tries else 0.0
    return max(spread_s(pause_s, jitter), CONNECTION_SPACING_S - since_last_s, 0.0)


class _Connection:
    """One request of the stream."""

    def __init__(self) -> None:
        self.call = Call()
        self.began = time.monotonic()
        self.newest: int | None = None
        self.created: dict[str, Json] = {}
        self.response: requests.Response | None = None
        self.refusal = ""
        self.silent = False

    def note(self, line: object) -> None:
        """Keep the transactions that create orders."""
        if isinstance(line, dict) and str(line.get("type")).endswith("_ORDER") and isinstance(line.get("id"), str):
            self.created[line["id"]] = line
            if len(self.created) > CREATED_KEPT:
                del self.created[next(iter(self.created))]


class _Run(Run):
    """One start: its threads, and the connection under way."""

    def __init__(self, on_event: OnEvent) -> None:
        super().__init__(on_event)
        self.connection: _Connection | None = None
        self.threads: list[threading.Thread] = []


class OandaStream(EventStream[_Run]):
    """The transactions of one account; meets :class:`brokers.port.Stream`.

    ``account`` is our name for the account, ``account_id`` is OANDA's. ``stream_url`` is the host part without ``/v3``.
    A stream that receives nothing for ``silence_s`` is SILENT, and connects anew. After a connection ended it waits
    from ``backoff_s`` on, growing to ``longest_backoff_s``, with jitter. OANDA v20 documentation: no more than 2 new
    connections per second, which this stream keeps across a restart, too. ``jitter`` returns a number from 0 to 1.
    """

    def __init__(
        self,
        account: str,
        account_id: str,
        token: str,
        stream_url: str,
        clock: Clock,
        *,
        silence_s: float = SILENCE_S,
        backoff_s: float = 1.0,
        longest_backoff_s: float = 30.0,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(account, clock, _Run, silence_s)
        self.subject = f"the transaction stream of {account_id} "
        self.silence = f"has said nothing for {silence_s:g} s, no heartbeat either; reconnecting"
        self._account_id = account_id
        self._token = token
        self._url = stream_url.rstrip("/")
        self._backoff_s = (backoff_s, longest_backoff_s)
        self._connect_timeout_s = connect_timeout_s
        self._jitter = jitter
        self._scrubber = Scrubber([token])
        self._connected_tick = time.monotonic() - CONNECTION_SPACING_S

    def _begin(self, run: _Run) -> None:
        for name, work in (("oanda-stream", self._follow), ("oanda-stream-watch", self._watch)):
            thread = threading.Thread(target=work, args=(run,), name=f"{name}-{self._account}", daemon=True)
            run.threads.append(thread)
        for thread in run.threads:
            thread.start()

    def _end(self, run: _Run) -> None:
        """End its threads, except one that still waits for a connection: that one ends with its connect time-out and
        reports nothing."""
        connection = run.connection
        if connection is not None:
            connection.call.cut()
        if threading.current_thread() not in run.threads:
            for thread in run.threads:
                thread.join(JOIN_TIMEOUT_S)

    # -- in its threads --------------------------------------------------------------------------------------------

    def _follow(self, run: _Run) -> None:
        """Make one connection after another, until the stream is closed or refused."""
        tries = 0
        while not run.over.wait(self._turn_in_s(tries)):
            connection = self._connection(run)
            if connection is None:
                return
            state, why = self._listen(run, connection)
            self._ended(run, connection, state, why)
            # A connection that comes up and breaks at once counts as none.
            tries = 1 if self._heard_tick - connection.began > self._backoff_s[1] else tries + 1

    def _turn_in_s(self, tries: int) -> float:
        return turn_in_s(tries, time.monotonic() - self._connected_tick, *self._backoff_s, self._jitter())

    def _connection(self, run: _Run) -> _Connection | None:
        with self._lock:
            if run.gone:
                return None
            run.connection = _Connection()
            self._connected_tick = self._heard_tick = run.connection.began
            return run.connection

    def _ended(self, run: _Run, connection: _Connection, state: StreamState, why: str) -> None:
        with self._lock:
            run.connection = None
            if connection.silent and state is not StreamState.REFUSED:
                return  # stays SILENT, as the watch set it
            self._stand(run, state, why)
            if state is StreamState.REFUSED:
                run.over.set()

    def _listen(self, run: _Run, connection: _Connection) -> tuple[StreamState, str]:
        """One connection from its request to its end; returns the state and the reason of its end."""
        try:
            check_header_validity(
                ("Authorization", f"Bearer {self._token}")
            )  # else the SDK would log requests' refusal of it
            api = self._open(connection)
        except requests.exceptions.InvalidHeader:
            return StreamState.REFUSED, f"cannot be requested: no header can carry the token. {TOKEN}"
        except Exception as error:  # noqa: BLE001 - the address and the token are the configuration's
            return StreamState.CONNECTING, f"cannot be requested: {error}. {_PATH}"
        try:
            with connection.call:
                for line in api.request(TransactionsStream(self._account_id)):
                    self._received(run, connection, line)
            return _ending(connection, None, self._url)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream has ended and is connected anew
            return _ending(connection, error, self._url)
        finally:
            if connection.response is not None:
                connection.response.close()
            api.close()

    def _open(self, connection: _Connection) -> oandapyV20.API:
        def note(response: requests.Response, *_args: object, **_kwargs: object) -> None:
            """Runs before the SDK: an answer that is not a stream is short, and the SDK logs it."""
            connection.response = response
            if response.status_code != 200:
                body = self._scrubber.body(response.content)
                response._content = body  # noqa: SLF001 - no public way to change a body
                connection.refusal = " ".join(body.decode("utf-8", "replace").split())[:_FOUND_LENGTH]

        TRADING_ENVIRONMENTS[self._url] = {"api": self._url, "stream": self._url}
        api = oandapyV20.API(
            self._token,
            environment=self._url,
            # The time-out between two bytes; the watch is sooner, except where it finds no socket to cut.
            request_params={"timeout": (self._connect_timeout_s, 2 * self._silence_s), "allow_redirects": False},
        )
        SdkCalls(self._account, "oanda-stream", "", self._silence_s, 0.0).prepare(api.client, self._url)
        api.client.hooks["response"] = [note]  # the usual hook reads an answer to its end, which a stream does not have
        return api

    def _received(self, run: _Run, connection: _Connection, line: Any) -> None:
        with self._lock:
            if run.gone or connection.silent:
                return
            self._hear()
            self._stand(run, StreamState.LIVE)
            line = whole_text(line)
            woken, connection.newest = wakes(line, connection.newest, self._account_id)
            connection.note(line)
            executed = execution(line, connection.created, self._account_id)
            if executed is not None:
                self._report_fill(run, executed)
            for instrument in woken:
                self._report(run, instrument)

    def _watch(self, run: _Run) -> None:
        """Cut a silent connection, as often as it takes."""
        while not run.over.wait(self._silence_s / 8):
            with self._lock:
                connection = run.connection
                if run.gone or connection is None or not self._is_silent():
                    continue
                connection.silent = True
                self._stand(run, StreamState.SILENT, self.silence)
            connection.call.cut()


def _ending(connection: _Connection, error: Exception | None, url: str) -> tuple[StreamState, str]:
    """State and reason at the end of a connection. An HTTP status counts for more than the SDK's exception."""
    status = connection.response.status_code if connection.response is not None else 200
    found = f"HTTP {status}: {connection.refusal}"
    if status in {401, 403}:
        return StreamState.REFUSED, f"is refused, {found}. {TOKEN}; then restart the account"
    if status != 200:
        remedy = _PATH if status < 500 and status != 429 else _AGAIN
        return StreamState.CONNECTING, with_remedy(f"is not available, {found}", remedy)
    return StreamState.CONNECTING, _broken_by(error, url)


def _broken_by(error: Exception | None, url: str) -> str:
    match error:
        case None:
            return f"was ended by the broker. {_AGAIN}"
        case requests.exceptions.ChunkedEncodingError() | requests.exceptions.ContentDecodingError():
            return f"was cut in the middle. {_AGAIN}"
        case json.JSONDecodeError() | UnicodeDecodeError():
            return f"sent what is not a whole line of JSON. If it goes on: {_PATH}"
        case requests.exceptions.RequestException() if isinstance(error, ValueError):
            return f"cannot be requested: {error}. {_PATH}"
        case requests.exceptions.RequestException():
            return f"has {no_connection(url, cause_of(error))}. {_AGAIN}"
    return f"broke with {type(error).__name__}: {error}. {_AGAIN}"
