"""A wire on loopback that can be cut, slowed down, or left hanging."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from enum import StrEnum

_CHUNK = 65536
_LOOK_EVERY_S = 0.05


class Wire(StrEnum):
    """What the wire does with what it is given."""

    WHOLE = "whole"
    CUT = "cut"  # connections end, and new ones are refused
    SLOW = "slow"  # everything arrives later than anybody waits for it
    HANGING = "hanging"  # connections are taken, and nothing comes through


class Proxy:
    """Passes connections to one port on to another. ``slow_s`` is how late a slow wire delivers."""

    def __init__(self, target: int, slow_s: float = 3.0) -> None:
        self._target = target
        self._slow_s = slow_s
        self._state = Wire.WHOLE
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_EVERY_S)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"proxy {self.port}", daemon=True)
        self._thread.start()

    def set(self, state: Wire) -> None:
        """Do this from now on. A cut wire ends what is connected."""
        self._state = state
        if state is Wire.CUT:
            self._end_all()

    def close(self) -> None:
        """Leave no connection and no thread."""
        self._closing.set()
        self._thread.join()
        self._end_all()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self._state is Wire.CUT:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                while self._state is Wire.HANGING and not self._closing.is_set():
                    time.sleep(_LOOK_EVERY_S)
                if self._state is Wire.SLOW:
                    time.sleep(self._slow_s)
                sink.sendall(data)
        self._end(source, sink)

    def _end_all(self) -> None:
        with self._lock:
            still = tuple(self._open)
        self._end(*still)

    def _end(self, *ended: socket.socket) -> None:
        with self._lock:
            self._open -= set(ended)
        for one in ended:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
