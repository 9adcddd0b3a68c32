"""The events of a simulated gateway: a PUB socket, which drops whatever has no subscriber."""

from __future__ import annotations

import json
import threading

import zmq


class Publisher:
    """Publishes on 127.0.0.1, on the same port after every restart. It is an XPUB, which on the wire is a PUB, as that
    can count the subscriptions that have arrived: nothing published before reaches them.

    It has no thread of its own; every method may be called from any thread.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._lock = threading.Lock()  # a socket may change threads, but not serve two at once
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._subscribers = 0
        self._subscriptions = 0

    @property
    def endpoint(self) -> str:
        """Where it publishes, or last did. Raises ``RuntimeError`` before the first start."""
        if not self._port:
            raise RuntimeError("the simulator has no address of its events before its start()")
        return f"tcp://127.0.0.1:{self._port}"

    @property
    def subscribers(self) -> int:
        """How many subscriptions are in force."""
        with self._lock:
            self._count()
            return self._subscribers

    @property
    def subscriptions(self) -> int:
        """How many have ever arrived."""
        with self._lock:
            self._count()
            return self._subscriptions

    def _count(self) -> None:
        while self._socket is not None and self._socket.poll(0):
            arrived = self._socket.recv()[:1] == b"\x01"
            self._subscribers += 1 if arrived else -1
            self._subscriptions += arrived

    def start(self) -> str:
        """Publish from now on; returns the endpoint."""
        with self._lock:
            if self._socket is None:
                context = zmq.Context()
                opened = context.socket(zmq.XPUB)
                opened.setsockopt(zmq.XPUB_VERBOSER, 1)
                try:
                    if self._port:
                        opened.bind(self.endpoint)
                    else:
                        self._port = opened.bind_to_random_port("tcp://127.0.0.1")
                except zmq.ZMQError:
                    context.destroy(linger=0)
                    raise
                self._context, self._socket = context, opened
            return self.endpoint

    def close(self) -> None:
        """Close the socket. May be called twice."""
        with self._lock:
            self._count()
            context, self._context, self._socket, self._subscribers = self._context, None, None, 0
            if context is not None:
                context.destroy(linger=0)

    def publish(self, event: str, symbol: str, ticket: int, **more: object) -> None:
        """Publish one event, with ``more`` keys."""
        self.say(json.dumps({"event": event, "symbol": symbol, "ticket": ticket, **more}, default=float).encode())

    def say(self, *parts: bytes) -> None:
        """Publish one message as it is."""
        with self._lock:
            if self._socket is not None:
                self._socket.send_multipart(parts)
