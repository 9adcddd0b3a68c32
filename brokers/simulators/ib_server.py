"""The socket of a simulated TWS: an asyncio server in a thread of its own, one :class:`Client` for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from brokers.simulators.base import Fault
from brokers.simulators.ib_wire import REQUESTS, Inbox, Row, frame, newest_version, notice

_WEB_PAGE = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html><body>400 Bad Request</body></html>"
_NO_LISTS = frozenset({"connect", "startApi", "reqCurrentTime", "cancelOrder"})


class Tws(Protocol):
    """The part of the TWS that a connection uses; called in the server's thread."""

    server_version: int

    def take(self, request: str) -> Fault | None:
        """Note a request, and the fault to play for it."""

    def log_on(self, client: Client) -> list[Row]:
        """The rows that greet a client that has started; ends it where it must not come in."""

    def answer(self, client: Client, name: str, request: Row) -> list[Row]:
        """The rows that answer a request, its end last."""

    def spoil(self, name: str, rows: list[Row]) -> None:
        """Make one row unreadable."""

    def gone(self, client: Client) -> None:
        """A connection has ended."""


class Client(asyncio.Protocol):
    """One connection of one client."""

    def __init__(self, tws: Tws) -> None:
        self.client_id = -1
        self.version = 0
        self.subscribed = False
        self.follows_portfolio = False
        self._tws = tws
        self._inbox = Inbox()
        self._late: list[Row] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is a TCP server's
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """A client has disconnected."""
        self.transport = None
        self._tws.gone(self)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        try:
            for request in self._inbox.feed(data):
                self._handle(request)
        except ValueError:
            self.end()

    def send(self, rows: list[Row]) -> None:
        """Send rows, if the client is still connected."""
        if self.transport is not None:
            self.transport.write(b"".join(frame(row) for row in rows))

    def end(self) -> None:
        """Close the connection once everything is sent."""
        if self.transport is not None:
            self.transport.close()

    def _handle(self, request: Row) -> None:
        if not self.version:
            self._greet(request)
            return
        name = REQUESTS.get(int(request[0])) if request[0].isdigit() else None
        if name is None:
            self.send([notice(-1, 505, f"Fatal Error: Unknown message id {request[0]}", self.version)])
            return
        fault = self._tws.take(name)
        late, self._late = self._late, []
        self.send(late)
        if name == "startApi":
            self.client_id = int(request[2])
            rows = self._tws.log_on(self)
        else:
            rows = self._tws.answer(self, name, request)
        self._deliver(name, request, rows, fault)

    def _greet(self, request: Row) -> None:
        self.version = min(self._tws.server_version, newest_version(request[0]))
        fault = self._tws.take("connect")
        self._deliver("connect", request, [[str(self._tws.server_version), "20260105 09:30:00 UTC"]], fault)

    def _deliver(self, name: str, request: Row, rows: list[Row], fault: Fault | None) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if fault is None:
            self.send(rows)
        elif fault is Fault.TIMEOUT:
            # The worst case of TWS: every row, and never the end.
            self.send([] if name in _NO_LISTS else rows[:-1])
        elif fault is Fault.LATE:
            self._late = rows
        elif fault is Fault.RESET:
            self.transport.abort()
        elif fault is Fault.HTML:
            self.transport.write(_WEB_PAGE)
            self.end()
        elif fault is Fault.HALF_BODY:
            whole = b"".join(frame(row) for row in rows)
            self.transport.write(whole[: max(1, len(whole) // 2)])
            self.end()
        elif fault is Fault.EMPTY:
            self.send(rows if name in _NO_LISTS else rows[-1:])
        elif fault is Fault.MALFORMED_ROW:
            self._tws.spoil(name, rows)
            self.send(rows)
        else:
            self._decline(name, request, fault)

    def _decline(self, name: str, request: Row, fault: Fault) -> None:
        request_id = int(request[2]) if name == "reqExecutions" else -1
        if fault is Fault.UNAUTHORIZED and name == "startApi":
            self.send([notice(-1, 326, "Unable to connect as the client id is already in use.", self.version)])
            self.end()
        elif fault is Fault.UNAUTHORIZED:
            words = "Error validating request: The API interface is currently in Read-Only mode."
            self.send([notice(request_id, 321, words, self.version)])
        elif fault is Fault.UNAVAILABLE:
            self.send([notice(request_id, 504, "Not connected", self.version)])
        elif fault is Fault.RATE_LIMITED:
            self.send([notice(-1, 100, "Max rate of messages per second has been exceeded.", self.version)])
            self.end()
        else:
            self.send([notice(request_id, 322, "Error processing request.", self.version)])


class TwsServer:
    """Serves on 127.0.0.1 until it is closed, and then leaves no thread, task or socket."""

    def __init__(self, tws: Tws, port: int) -> None:
        self._tws = tws
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._clients: list[Client] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="ib-simulator", daemon=True)
        self._thread.start()
        try:
            self.port = self.run(self.listen(port))
        except BaseException:
            self.close()
            raise

    def run(self, work: Coroutine[Any, Any, int]) -> int:
        """Run something in the server's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, work: Callable[[], None]) -> None:
        """Run something in the server's thread, in the order of the calls."""
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._loop.call_soon_threadsafe(work)

    async def listen(self, port: int) -> int:
        """Serve on one more port; returns it."""
        server = await self._loop.create_server(self._made, "127.0.0.1", port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def move(self) -> int:
        """Serve on another port instead; open connections stay. Returns the new port."""
        old = list(self._servers)
        port = await self.listen(0)
        for server in old:
            server.close()
            self._servers.remove(server)
        return port

    def close(self) -> None:
        """Stop at once."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    async def _shut(self) -> None:
        for server in self._servers:
            server.close()
        for client in self._clients:
            if client.transport is not None:
                client.transport.abort()
        while any(client.transport is not None for client in self._clients):
            await asyncio.sleep(0)

    def _made(self) -> Client:
        client = Client(self._tws)
        self._clients = [known for known in self._clients if known.transport is not None]
        self._clients.append(client)
        return client
