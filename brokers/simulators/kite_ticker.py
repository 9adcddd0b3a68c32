"""The ticker of a simulated Kite account: a WebSocket that reports every change of an order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

HEARTBEAT = b"\x00"
"""Kite Connect documentation: a heartbeat is one byte, sent every couple of seconds while there is nothing else."""


class TickerServer:
    """Serves on loopback in a thread of its own. ``admits`` checks the query's api_key and access_token: another
    session gets 403, as a handshake does at Kite. While ``mute``, it accepts and sends nothing at all, with the
    connection open: a ticker that silently died."""

    def __init__(self, admits: Callable[[str, str], bool], heartbeat_s: float) -> None:
        self._admits = admits
        self._heartbeat_s = heartbeat_s
        self._loop: asyncio.AbstractEventLoop  # while it serves
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None
        self.mute = False
        self.handshakes = 0
        self.port = 0

    def start(self, port: int) -> int:
        """Serve on any free port for 0; returns the port."""
        if self._thread is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="kite-ticker-simulator")
            self._thread.start()
            self.port = self._in_loop(self._serve(port))
        return self.port

    def close(self) -> None:
        """Stop serving; no thread and no socket is left. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._in_loop(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()
        self._loop.close()

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self._sockets)

    def send(self, message: dict[str, Any]) -> None:
        """Send a JSON frame to every connection. It is sent when this returns."""
        if self._thread is not None and not self.mute:
            self._in_loop(self._send(json.dumps(message)))

    def say(self, text: str) -> None:
        """Send a text frame as it is."""
        if self._thread is not None:
            self._in_loop(self._send(text))

    def hang_up(self) -> None:
        """Close every connection properly."""
        if self._thread is not None:
            self._in_loop(self._hang_up())

    def drop(self) -> None:
        """Cut every connection without a close frame."""
        if self._thread is not None:
            self._in_loop(self._drop())

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, port: int) -> int:
        app = web.Application()
        app.router.add_get("/", self._accept)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def _stop(self) -> None:
        await self._drop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        self.handshakes += 1
        if not self._admits(request.query.get("api_key", ""), request.query.get("access_token", "")):
            return web.Response(status=403, text="Forbidden")
        listener = web.WebSocketResponse(autoping=True)
        await listener.prepare(request)
        self._sockets.add(listener)
        heart = asyncio.create_task(self._beat(listener))
        try:
            async for message in listener:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            heart.cancel()
            self._sockets.discard(listener)
        return listener

    async def _beat(self, listener: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # it went away
            while not listener.closed:
                if not self.mute:
                    await listener.send_bytes(HEARTBEAT)
                await asyncio.sleep(self._heartbeat_s)

    async def _send(self, text: str) -> None:
        for listener in tuple(self._sockets):
            with contextlib.suppress(ConnectionError):
                await listener.send_str(text)

    async def _hang_up(self) -> None:
        for listener in tuple(self._sockets):
            await listener.close()

    async def _drop(self) -> None:
        for listener in tuple(self._sockets):
            request = listener._req  # noqa: SLF001 - no public way to cut
            transport = request.transport if request is not None else None
            if transport is not None:
                transport.abort()
