"""Ports on loopback: for servers that must be given theirs, and for addresses at which nobody listens.

A port that the kernel chose and that was closed again belongs to whoever asks next, also for a connection of theirs.
What can bind port 0 itself, and say which one that is, needs nothing of this.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
_CHANCE = random.SystemRandom()  # no two processes of the tests try the same ports
_GIVEN: set[int] = set()


def own_port() -> int:
    """A port for a server that binds it later, given once. It is below those that the kernel chooses for whoever asks
    for none, so a server that is down finds its own again."""
    chosen_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _CHANCE.randrange(min(20_000, chosen_from - 1_000), chosen_from)
        if port in _GIVEN:
            continue
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind((LOOPBACK, port))
            _GIVEN.add(port)
            return port


@contextmanager
def nobody_at() -> Iterator[int]:
    """A port that refuses connections for as long as this lasts: it is taken, and nobody listens."""
    with socket.socket() as reserved:
        reserved.bind((LOOPBACK, 0))
        yield reserved.getsockname()[1]
