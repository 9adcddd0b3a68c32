"""Receivers of alerts on loopback: a web server and a mail server, which keep what came."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class WebReceiver:
    """What was posted, as JSON; ``refuse`` answers 503."""

    def __init__(self) -> None:
        self.got: queue.Queue[dict[str, Any]] = queue.Queue()
        self.tried: queue.Queue[None] = queue.Queue()
        self.refuse = False
        self.url = ""


@contextmanager
def web_receiver() -> Iterator[WebReceiver]:
    """A web server on loopback."""
    receiver = WebReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.tried.put(None)
            if not receiver.refuse:
                receiver.got.put(json.loads(body))
            self.send_response(503 if receiver.refuse else 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            del args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"json://127.0.0.1:{server.server_port}/alerts"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Mailbox:
    def __init__(self) -> None:
        self.got: queue.Queue[Envelope] = queue.Queue()

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        del server, session
        self.got.put(envelope)
        return "250 OK"


@asynccontextmanager
async def mail_receiver() -> AsyncIterator[tuple[str, queue.Queue[Envelope]]]:
    """A mail server on loopback: an URL that leads there, and what came. (aiosmtpd's Controller takes no port 0.)"""
    mailbox = _Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"mailto://127.0.0.1:{port}?from=supervisor@desk.test&to=ann@desk.test&mode=insecure", mailbox.got
