"""Cuts a call of requests from outside, so that a whole call can be bounded in time.

requests has no such bound, and a reading thread cannot be interrupted. Shutting its socket down works: the read returns
at once and the thread ends.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_thread = threading.local()


class Call:
    """One call under way in one thread. That thread uses it as a context; any other thread may cut it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._is_cut = False

    def __enter__(self) -> None:
        _thread.call = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._connection = self._socket = None
        _thread.call = None

    def uses(self, connection: HTTPConnection) -> None:
        """Called by the connection before it goes to the network; raises ``ConnectionError`` after a cut."""
        with self._lock:
            self._connection = connection
            # After "Connection: close" in an answer http.client leaves the socket to the response alone.
            self._socket = connection.sock or self._socket
            if self._is_cut:
                raise ConnectionAbortedError("the call was given up")

    def cut(self) -> None:
        """End the call. One without a socket yet ends at its connect time-out and goes no further."""
        with self._lock:
            self._is_cut = True
            held = self._connection.sock if self._connection is not None else None
            held = held or self._socket
            if isinstance(held, socket.socket):
                # Not the TLS socket's own method: that would also remove the TLS state while it is being read.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(held, socket.SHUT_RDWR)


def _announce(connection: HTTPConnection) -> None:
    call = getattr(_thread, "call", None)
    if call is not None:
        call.uses(connection)


class _Announced(HTTPConnection):
    """A connection that reports to its call that it is the one to cut."""

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"  # urllib3 shows it to people when the connection fails

    __str__ = __repr__

    def connect(self) -> None:
        _announce(self)
        super().connect()
        _announce(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _announce(self)
        super().request(*args, **kwargs)


class _Plain(_Announced):
    pass


class _Secure(_Announced, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _PlainPool, "https": _SecurePool}


class CuttableAdapter(HTTPAdapter):
    """requests' adapter over connections that report which call uses them; with a proxy as well as without."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Do as requests does, with our connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Do as requests does, with our connections; a SOCKS proxy keeps its own, bounded only by the time-outs."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager
