"""The ZeroMQ side of a simulated gateway: a ROUTER, so that a reply can come late, crossed with another, or never."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from brokers.simulators.base import Fault

_REBIND_ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class Scripted:
    """A reply, and how it is to be misdelivered."""

    body: bytes
    fault: Fault | None
    crossed: bool


class Router:
    """A ROUTER socket on 127.0.0.1, served by a thread of its own; ``reply`` is called there for each request.

    Closing wakes the thread, so nobody waits for a poll to end.
    """

    def __init__(self, reply: Callable[[bytes], Scripted], port: int) -> None:
        self._reply = reply
        self._late: list[list[bytes]] = []
        self._last_body = b'{"status": "ERROR", "error": "nothing yet"}'
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        try:
            if port:
                self._router.bind(f"tcp://127.0.0.1:{port}")
            else:
                port = self._router.bind_to_random_port("tcp://127.0.0.1")
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name=f"mt5-simulator-{port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop at once and leave no thread and no socket."""
        self._wake.send(b"x")
        self._thread.join()
        self._context.destroy(linger=0)
        self._wake.close()
        self._woken.close()

    def _serve(self) -> None:
        while True:
            poller = zmq.Poller()
            poller.register(self._router, zmq.POLLIN)
            poller.register(self._woken.fileno(), zmq.POLLIN)
            ready = dict(poller.poll())
            if self._woken.fileno() in ready:
                self._router.close(linger=0)
                return
            *envelope, request = self._router.recv_multipart()
            self._deliver(envelope, self._reply(request))

    def _deliver(self, envelope: list[bytes], scripted: Scripted) -> None:
        for message in self._late:
            self._router.send_multipart(message)
        self._late.clear()
        if scripted.fault is Fault.TIMEOUT:
            return
        if scripted.fault is Fault.LATE:
            self._late.append([*envelope, scripted.body])
        elif scripted.fault is Fault.RESET:
            self._rebind()
        else:
            self._router.send_multipart([*envelope, self._last_body if scripted.crossed else scripted.body])
        self._last_body = scripted.body

    def _rebind(self) -> None:
        self._router.close(linger=0)
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        for _ in range(_REBIND_ATTEMPTS):
            try:
                self._router.bind(self.endpoint)
            except zmq.ZMQError:
                time.sleep(0.005)  # the port is free as soon as libzmq has closed the old socket
            else:
                return
