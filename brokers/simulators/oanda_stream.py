"""The transaction stream of a simulated OANDA account: chunked, newline-delimited JSON, and the ways in which it ends.

It has a port of its own, as OANDA's has a host of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from urllib.parse import unquote, urlsplit

from brokers.simulators.base import Fault
from brokers.simulators.http import Body, Handler, Server
from brokers.simulators.oanda_http import OandaFace, error
from brokers.simulators.oanda_ledger import Ledger

HEARTBEAT_S = 5.0
"""OANDA v20 documentation: a heartbeat every 5 seconds."""

_END = b"0\r\n\r\n"


class Books(threading.Condition):
    """The lock of an account's books; each release wakes those that wait."""

    def __init__(self) -> None:
        super().__init__(threading.RLock())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.notify_all()
        super().__exit__(kind, error, trace)


class _Listener:
    """One connection: the last transaction that it was sent, and the scripted bytes for it (``None`` ends it there)."""

    def __init__(self, last_sent: int) -> None:
        self.last_sent = last_sent
        self.scripted: deque[bytes | None] = deque()


class TransactionServer:
    """Serves on loopback, a thread for each connection.

    While ``mute`` it sends nothing at all with the connection open; while ``lossy`` it goes on with its heartbeats and
    drops every transaction. Without ``keep_alive`` its answers carry ``Connection: close``. Faults match
    ``TransactionsStream GET /v3/accounts/…/transactions/stream``.
    """

    def __init__(self, face: OandaFace, ledger: Ledger, books: Books, heartbeat_s: float) -> None:
        self._face = face
        self._ledger = ledger
        self._books = books
        self._heartbeat_s = heartbeat_s
        self._listeners: set[_Listener] = set()
        self._server: _StreamServer | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self.mute = False
        self.lossy = False
        self.keep_alive = True
        self.connections = 0

    def start(self, port: int) -> int:
        """Serve on any free port for 0; returns the port. A second call returns the same."""
        if self._server is None:
            self._closing = False
            self._server = _StreamServer(port, self._face, self)
            name = "oanda-stream-simulator"
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=name)
            self._thread.start()
        return self._server.server_port

    def close(self) -> None:
        """Stop serving; no thread and no socket is left. May be called twice."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            with self._books:
                self._closing = True
            server.stop()
            thread.join()

    # -- the script ------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> int:
        """How many connections are open."""
        with self._books:
            return len(self._listeners)

    def say(self, line: str) -> None:
        """Send a line as it is."""
        self._put(_chunk(line.encode() + b"\n"))

    def say_half(self, text: str) -> None:
        """Send a part of a line, without its end."""
        self._put(_chunk(text.encode()))

    def hang_up(self) -> None:
        """End every stream properly."""
        self._put(_END, None)

    def half_line(self) -> None:
        """End every stream properly, in the middle of a line."""
        self._put(_chunk(b'{"type": "ORDER_FILL", "id": "1'), _END, None)

    def drop(self) -> None:
        """Cut every connection in the middle of a chunk."""
        self._put(b'40\r\n{"type": "ORDER', None)

    def _put(self, *pieces: bytes | None) -> None:
        with self._books:
            for listener in self._listeners:
                listener.scripted += pieces

    # -- one connection --------------------------------------------------------------------------------------------

    def answer(self, handler: _StreamHandler) -> None:
        """Send this connection what happens from now on, until one side ends it."""
        with self._books:
            listener = _Listener(self._ledger.last)
            self._listeners.add(listener)
            self.connections += 1
        try:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/octet-stream")
            handler.send_header("Transfer-Encoding", "chunked")
            if not self.keep_alive:
                handler.send_header("Connection", "close")
            handler.end_headers()
            self._send_events(listener, handler)
        finally:
            with self._books:
                self._listeners.discard(listener)

    def _send_events(self, listener: _Listener, handler: _StreamHandler) -> None:
        beat_at = time.monotonic()
        while not self._closing and not _went_away(handler.connection):
            with self._books:
                self._books.wait_for(lambda: self._has_events(listener), max(0.0, beat_at - time.monotonic()))
                pieces = self._new_lines(listener)
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + self._heartbeat_s
                    pieces += [] if self.mute else [_line(self._heartbeat())]
                pieces += listener.scripted
                listener.scripted.clear()
            for piece in pieces:
                if piece is None:
                    return
                handler.wfile.write(piece)

    def _has_events(self, listener: _Listener) -> bool:
        return self._closing or bool(listener.scripted) or (not self.mute and listener.last_sent < self._ledger.last)

    def _new_lines(self, listener: _Listener) -> list[bytes | None]:
        if self.mute:
            return []
        rows = [] if self.lossy else self._ledger.after(listener.last_sent)
        listener.last_sent = self._ledger.last
        return [_line(row) for row in rows]

    def _heartbeat(self) -> Body:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        return {"type": "HEARTBEAT", "lastTransactionID": str(self._ledger.last), "time": now}

    def serves(self, path: str) -> bool:
        """Whether this is the stream's path."""
        return unquote(path) == f"/v3/accounts/{self._ledger.account_id}/transactions/stream"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _line(row: Body) -> bytes:
    return _chunk(json.dumps(row).encode() + b"\n")


def _went_away(connection: socket.socket) -> bool:
    """Whether the other side has closed; a client sends nothing after its request."""
    with contextlib.suppress(BlockingIOError):
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return False


class _StreamServer(Server):
    def __init__(self, port: int, face: OandaFace, stream: TransactionServer) -> None:
        super().__init__(port, face)
        self.stream = stream
        self.RequestHandlerClass = _StreamHandler


class _StreamHandler(Handler):
    """One connection of the stream."""

    server: _StreamServer

    def _serve(self, method: str) -> None:
        face, stream, path = self.server.face, self.server.stream, urlsplit(self.path).path
        self.close_connection = True
        face.received(method, self.path)
        fault = face.faults.take(f"TransactionsStream {method} {self.path}")
        if fault is not None and fault in face.refusals:
            return self._send(face.refusals[fault])
        if fault is Fault.TIMEOUT:
            return self._wait_for_client_to_go()
        if fault is Fault.RESET:
            return self._reset()
        refused = face.unauthorized(self.headers.get("Authorization"))
        if refused is not None:
            return self._send(refused)
        if not stream.serves(path):
            return self._send(error(404, "Resource not found"))
        with contextlib.suppress(OSError):  # the client went away
            stream.answer(self)
        return None
