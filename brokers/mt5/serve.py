"""``python -m brokers.mt5.serve``: a gateway with our protocol in front of a MetaTrader 5 terminal.

It runs beside the terminal, on Windows or under Wine, with the extra ``[mt5]`` (package MetaTrader5). It only reads.
README.md beside this file explains its use, and what was tested.

The laws of this module:

* Every request has a reply. What the terminal could not answer is an ERROR with its ``last_error``, never an empty
  list; a terminal without its broker is reported in every reply (``connected`` false).
* A terminal that went away is reconnected by itself; meanwhile replies say that it is away.
* Events come from polling: a change between two looks is published, and wakes the subscribers. A deal is published with
  its row, its order's and the login, so that nobody needs to request them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from loguru import logger
from zmq.auth.thread import ThreadAuthenticator

from brokers.frozen import dataclass
from brokers.kit.foreign_row import read_json
from brokers.mt5.terminal import Json, MetaTrader, Terminal, TerminalError

ENDPOINT = "tcp://127.0.0.1:5555"
EVENTS = "tcp://127.0.0.1:5556"
POLL_S = 0.25
SECONDS = range(4_102_444_800)
"""From 1970 to 2100: the package takes no time beyond what its C can hold."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where it listens. ``curve_key`` is the gateway's secret certificate, ``curve_clients`` the folder with the public
    certificates of its clients; without both, anybody who reaches the address may connect."""

    endpoint: str = ENDPOINT
    events: str | None = EVENTS
    poll_s: float = POLL_S
    curve_key: Path | None = None
    curve_clients: Path | None = None


def answer_to(terminal: Terminal, request: bytes) -> bytes:
    """The answer to one request as it came, with its ``request_id`` where it has one."""
    try:
        asked = read_json(request)
    except ValueError:
        asked = None
    if isinstance(asked, dict):
        reply = reply_to(terminal, asked)
        if "request_id" in asked:
            reply["request_id"] = asked["request_id"]
    else:
        reply = {"status": "ERROR", "error": "the request is not a JSON object with an action"}
    return json.dumps(reply, default=str).encode()


def reply_to(terminal: Terminal, asked: Json) -> Json:
    """The reply to one request, without its ``request_id``."""
    action, symbol = asked.get("action"), asked.get("symbol", "*")
    reply: Json = {"status": "SUCCESS"}
    try:
        connected = terminal.connected
        if action == "PING":
            return reply | terminal.time() | {"connected": connected}
        if not connected:
            return {"status": "ERROR", "error": "the terminal is not connected to its broker", "connected": False}
        if action == "GET_POSITIONS":
            reply["positions"] = _of(symbol, terminal.positions())
        elif action == "GET_ORDERS":
            ticket = asked.get("ticket")
            reply["orders"] = _of(symbol, terminal.orders() if ticket is None else terminal.order(ticket))
        elif action == "GET_DEALS":
            since = asked.get("since", 0)
            if not isinstance(since, int) or isinstance(since, bool) or since not in SECONDS:
                return {"status": "ERROR", "error": "since is no whole number of seconds since 1970"}
            reply["deals"] = _of(symbol, terminal.deals(since))
        elif action == "GET_ACCOUNT":
            reply |= terminal.account()
        elif action == "GET_SYMBOLS":
            reply["symbols"] = terminal.symbols()
        else:
            return {"status": "ERROR", "error": f"unknown action {action}"}
    except TerminalError as error:
        return {"status": "ERROR", "error": str(error)}
    return reply | {"connected": connected}


def _of(symbol: object, rows: list[Json]) -> list[Json]:
    """The rows of a symbol; a row without one counts for every symbol."""
    return [row for row in rows if symbol in ("*", row.get("symbol")) or not row.get("symbol")]


class Watch:
    """Compares what a terminal shows with what it showed last time."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._seen: dict[tuple[str, int], tuple[str, tuple[Any, ...]]] | None = None

    def events(self) -> list[Json]:
        """One event for each order, deal and position that came, went or changed. None while the terminal is away; then
        one event without a symbol, as anything may have happened."""
        try:
            if not self._terminal.connected:
                raise TerminalError("not connected")
            positions, orders = self._terminal.positions(), self._terminal.orders()
            self._terminal.watch_ticks(sorted({row["symbol"] for row in positions}))
            deals = self._terminal.deals(self._terminal.now_s() - 60)
        except TerminalError:
            self._seen = None
            return []
        now: dict[tuple[str, int], tuple[str, tuple[Any, ...]]] = {}
        for event, rows, keys in (
            ("position", positions, ("volume", "type", "price_open", "sl")),
            ("order", orders, ("state", "volume_current", "price_open", "price_stoplimit")),
            ("deal", deals, ()),
        ):
            for row in rows:
                now[event, row["ticket"]] = (row["symbol"], tuple(row.get(key) for key in keys))
        before, self._seen = self._seen, now
        if before is None:
            return [{"event": "connection"}]
        gone = [key for key in before if key not in now and key[0] == "position"]
        changed = [key for key, value in now.items() if before.get(key) != value]
        symbols = {**before, **now}
        events: list[Json] = [
            {"event": kind, "symbol": symbols[kind, ticket][0], "ticket": ticket} for kind, ticket in gone + changed
        ]
        self._with_rows([event for event in events if event["event"] == "deal"], deals, orders)
        return events

    def _with_rows(self, events: list[Json], deals: list[Json], orders: list[Json]) -> None:
        """Add to the events of deals their rows, and the login. Without the login a client does not use the rows."""
        try:
            login = self._terminal.account().get("login") if events else None
        except TerminalError:
            login = None
        if login is None:
            return
        by_ticket = {row["ticket"]: row for row in deals}
        by_order = {row["ticket"]: row for row in orders}
        for event in events:
            row = by_ticket[event["ticket"]]
            event |= {"login": login, "deal": row}
            if row.get("order") in by_order:
                event["order"] = by_order[row["order"]]


class Server:
    """The sockets in front of a terminal. :meth:`run` serves until ``going_on`` returns false."""

    def __init__(self, terminal: Terminal, options: Options) -> None:
        self._terminal = terminal
        self._watch = Watch(terminal)
        self._options = options
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = self._secured()
        try:
            self._replies = self._bound(zmq.REP, options.endpoint)
            self._events = None if options.events is None else self._bound(zmq.PUB, options.events)
        except BaseException:
            self.close()
            raise

    @property
    def endpoints(self) -> tuple[str, str | None]:
        """Where requests are answered, and where events are published."""
        replies = self._replies.getsockopt(zmq.LAST_ENDPOINT)
        events = None if self._events is None else self._events.getsockopt(zmq.LAST_ENDPOINT)
        return _text(replies), None if events is None else _text(events)

    def run(self, going_on: Callable[[], bool]) -> None:
        """Answer requests and publish events."""
        look_tick = market_tick = 0.0
        while going_on():
            if self._replies.poll(round(self._options.poll_s * 1000)):
                self._answer()
            tick = time.monotonic()
            if tick - market_tick >= 60.0:
                market_tick = tick
                self._look_at_market()
            if tick - look_tick >= self._options.poll_s:
                look_tick = tick
                self._publish()

    def close(self) -> None:
        """Leave no socket and no thread. May be called twice."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.destroy(linger=0)

    def _answer(self) -> None:
        self._replies.send(answer_to(self._terminal, self._replies.recv()))

    def _publish(self) -> None:
        found = self._watch.events()  # also without a PUB socket: it measures the server's time
        if self._events is not None:
            for event in found:
                self._events.send(json.dumps(event).encode())

    def _look_at_market(self) -> None:
        try:
            if self._terminal.connected:
                self._terminal.watch_market()
        except TerminalError as error:
            logger.warning("The terminal is away: {}", error)

    def _secured(self) -> ThreadAuthenticator | None:
        folder = self._options.curve_clients
        if self._options.curve_key is None or folder is None:
            return None
        authenticator = ThreadAuthenticator(self._context)
        authenticator.start()
        authenticator.configure_curve(domain="*", location=str(folder))
        return authenticator

    def _bound(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        if self._options.curve_key is not None:
            public, secret = zmq.auth.load_certificate(self._options.curve_key)
            socket.curve_server = True
            socket.curve_publickey = public
            if secret is not None:
                socket.curve_secretkey = secret
        socket.bind(endpoint)
        return socket


def _text(endpoint: bytes | int | str) -> str:
    return endpoint.decode().rstrip("\0") if isinstance(endpoint, bytes) else str(endpoint)


def options_of(arguments: Sequence[str]) -> tuple[Options, Json]:
    """The options of the command line: where to serve, and how to reach the terminal."""
    parser = argparse.ArgumentParser(
        prog="python -m brokers.mt5.serve", description="Run a gateway in front of a MetaTrader 5 terminal."
    )
    parser.add_argument("--endpoint", default=ENDPOINT, help="the address on which to answer requests")
    parser.add_argument("--events", default=EVENTS, help="the address on which to publish events; '' to publish none")
    parser.add_argument("--poll-s", type=float, default=POLL_S, help="seconds between two looks at the terminal")
    parser.add_argument("--terminal", help="the path of terminal64.exe; default: the one found on this machine")
    parser.add_argument("--login", type=int, help="the account to log in to; default: the one already logged in")
    parser.add_argument("--server", help="the trade server of --login")
    parser.add_argument("--password-file", type=Path, help="a file with the password of --login")
    parser.add_argument("--curve-key", type=Path, help="this gateway's secret CURVE certificate")
    parser.add_argument("--curve-clients", type=Path, help="the folder with the public certificates of its clients")
    parsed = parser.parse_args(arguments)
    if (parsed.curve_key is None) != (parsed.curve_clients is None):
        parser.error("--curve-key and --curve-clients go together")
    options = Options(parsed.endpoint, parsed.events or None, parsed.poll_s, parsed.curve_key, parsed.curve_clients)
    login: Json = {"path": parsed.terminal, "login": parsed.login, "server": parsed.server}
    if parsed.password_file is not None:
        login["password"] = parsed.password_file.read_text().strip()
    return options, {key: value for key, value in login.items() if value is not None}


def main(arguments: Sequence[str] | None = None, package: MetaTrader | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    options, login = options_of(sys.argv[1:] if arguments is None else arguments)
    if package is None:
        try:
            package = importlib.import_module("MetaTrader5")
        except ImportError:
            logger.error("The package MetaTrader5 is missing: install the extra [mt5] (Windows, or Python under Wine)")
            return 2
    terminal = Terminal(package, login, time.time)
    server = Server(terminal, options)
    logger.info("Serving a MetaTrader 5 terminal at {} (events at {})", *server.endpoints)
    try:
        server.run(lambda: True)
    except KeyboardInterrupt:
        logger.info("Stopped")
    finally:
        server.close()
        terminal.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
