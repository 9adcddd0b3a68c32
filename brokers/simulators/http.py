"""The HTTP server of the simulators that speak REST: JSON answers on loopback, and the ways in which they go wrong.

This is what the simulated brokers have in common; a :class:`Face` adds one broker's answers and its errors.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from brokers.simulators.base import Fault, Faults

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and its JSON."""

    status: int
    body: Body


@dataclass(frozen=True, slots=True)
class RawReply:
    """An answer to the byte. Without ``content_type`` the header is left out."""

    status: int
    body: bytes
    content_type: str | None = "application/json"


class Face(Protocol):
    """One broker's answers."""

    faults: Faults

    @property
    def refusals(self) -> Mapping[Fault, Reply]:
        """The broker's wording of the faults that are an answer."""

    def received(self, method: str, target: str) -> None:
        """Note a request; ``target`` is its path with the query."""

    def name_of(self, method: str, path: str) -> str:
        """The broker's or its SDK's name of a request; faults match it beside method and target."""

    def unauthorized(self, authorization: str | None) -> Reply | None:
        """The refusal of a request with this Authorization header, ``None`` to let it in."""

    def answer(self, method: str, path: str, params: Body) -> Reply | RawReply:
        """The honest answer."""

    def emptied(self, body: Body) -> Body:
        """The same answer without any row."""

    def spoiled(self, body: Body) -> Body:
        """The same answer with a row of each list unreadable."""

    def now(self) -> float:
        """The broker's clock, epoch seconds, for the Date header."""


class Server(ThreadingHTTPServer):
    """A server that knows its sockets, so that closing it ends every thread, idle or held up."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, port: int, face: Face) -> None:
        self.face = face
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the socket before its thread starts."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the socket."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away."""

    def stop(self) -> None:
        """Stop answering: every socket is shut, every thread ends."""
        self.shutdown()
        with self._lock:
            held = tuple(self._open)
        for request in held:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Log nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time on the broker's clock."""
        return super().date_time_string(self.server.face.now() if timestamp is None else timestamp)

    def do_GET(self) -> None:
        """A read."""
        self._serve("GET")

    def do_PUT(self) -> None:
        """A change."""
        self._serve("PUT")

    def do_POST(self) -> None:
        """A change."""
        self._serve("POST")

    def do_DELETE(self) -> None:
        """A change."""
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        face = self.server.face
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        face.received(method, self.path)
        fault = face.faults.take(f"{face.name_of(method, parts.path)} {method} {self.path}")
        if fault is not None and fault in face.refusals:
            return self._send(face.refusals[fault])
        if fault is Fault.TIMEOUT:
            return self._wait_for_client_to_go()
        if fault is Fault.RESET:
            return self._reset()
        if fault is Fault.HTML:
            return self._send(RawReply(200, b"<html><body>Scheduled maintenance</body></html>", "text/html"))
        refused = face.unauthorized(self.headers.get("Authorization"))
        if refused is not None:
            return self._send(refused)
        parameters = parse_qs(parts.query) | parse_qs(content.decode("utf-8", "replace"))
        reply = face.answer(method, parts.path, {key: values[-1] for key, values in parameters.items()})
        if isinstance(reply, RawReply):
            return self._send(reply)
        if fault is Fault.HALF_BODY:
            return self._send_half(reply)
        if fault is Fault.LATE:
            self._wait_for_client_to_go()
        if fault is Fault.EMPTY:
            reply = Reply(reply.status, face.emptied(reply.body))
        if fault is Fault.MALFORMED_ROW:
            reply = Reply(reply.status, face.spoiled(reply.body))
        return self._send(reply)

    def _send(self, reply: Reply | RawReply) -> None:
        raw = RawReply(reply.status, json.dumps(reply.body).encode()) if isinstance(reply, Reply) else reply
        self._send_bytes(raw, len(raw.body))

    def _send_bytes(self, raw: RawReply, length: int) -> None:
        self.send_response(raw.status)
        if raw.content_type is not None:
            self.send_header("Content-Type", raw.content_type)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(raw.body)

    def _send_half(self, reply: Reply) -> None:
        body = json.dumps(reply.body).encode()
        self.close_connection = True
        self._send_bytes(RawReply(reply.status, body[: len(body) // 2]), len(body))

    def _wait_for_client_to_go(self) -> None:
        """Send nothing until the other side closes, or the server does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.recv(1, socket.MSG_PEEK)

    def _reset(self) -> None:
        """Cut the connection as a crashed host does: RST, no FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


class Serving:
    """Serves a face, or not."""

    def __init__(self, face: Face, name: str) -> None:
        self._face = face
        self._name = name
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, port: int) -> int:
        """Serve on any free port for 0; returns the port. A second call returns the same."""
        if self._server is None:
            self._server = Server(port, self._face)
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=self._name)
            self._thread.start()
        return self._server.server_port

    def close(self) -> None:
        """Stop serving; no thread and no socket is left. May be called twice."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.stop()
            thread.join()
