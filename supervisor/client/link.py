"""This process's connection to a Ray cluster, shared by its handles: watched while any needs it, then left.

Ray ends a process whose cluster has gone: after a minute it calls exit, and until then lookups block. A strategy must
outlive its supervisor.

The laws of this module: Ray is set to wait for ever instead; a cluster that has gone is noticed within seconds, every
later call fails at once with an error that says so, and Ray is left as soon as no call is running; then whoever joined
is notified, so that it can look for a new one. A connection that the program made itself is never ended here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from loguru import logger

from actors.runtime.cluster_probe import listens
from actors.runtime.ports import CallError

_WAIT_FOR_EVER = {"RAY_gcs_rpc_server_reconnect_timeout_s": "2147483"}
"""Ray 2.60 exits after 60 s without its cluster's GCS. Undocumented."""
_LOOK_EVERY_S = 0.5
_LOOK_TIMEOUT_S = 2.0
_REFUSED_TIMES = 3
_FINDS_IT = "This handle finds the supervisor when it runs again"
_CONNECT_AGAIN = "Connect again once the supervisor runs"
_LEAVE_WITHIN_S = 20.0
_SILENT_S = 60.0
"""A machine that cannot be reached may come back; one that refuses has no cluster any more."""


class ClusterGone(CallError):
    """The cluster has ended, and with it the supervisor. The handle finds the next one by itself when that runs, unless
    the program had connected Ray itself."""


class Link:
    """One connection to one cluster. ``ours``: it was made here, and is ended here."""

    def __init__(self, gcs: str, *, ours: bool) -> None:
        self.gcs = gcs
        self._ours = ours
        self._users = 0
        self._calls = 0
        self._gone = False
        self._left = False
        self._lock = threading.RLock()  # a signal's handler may call while it interrupts a call
        self._listeners: list[Callable[[], None]] = []
        self._ended = threading.Event()
        self._done = threading.Event()
        threading.Thread(target=self._watch, name="supervisor-link", daemon=True).start()

    @property
    def usable(self) -> bool:
        """Whether the cluster is there, as far as is known, and the connection stands."""
        return not self._gone and not self._left

    def join(self) -> None:
        """One more handle."""
        with self._lock:
            self._users += 1

    def when_gone(self, listener: Callable[[], None]) -> None:
        """Call this, from a thread of the link's, when the cluster has gone and this process leaves it; at once where
        it has gone already."""
        with self._lock:
            gone = self._gone
            self._listeners.append(listener)
        if gone and self._ours:
            listener()

    def forget(self, listener: Callable[[], None]) -> None:
        """Call this no more."""
        with self._lock:
            self._listeners = [one for one in self._listeners if one != listener]

    def leave(self) -> None:
        """One handle less; the last one ends the connection, if it is ours."""
        with self._lock:
            self._users -= 1
            last = self._users <= 0
        if last:
            self._ended.set()
            self._leave()

    def settle(self) -> None:
        """Wait until Ray has been left, if it is being left."""
        if self._left:
            self._done.wait(_LEAVE_WITHIN_S)

    def call(self, actor: str, method: str) -> _Call:
        """A context for one call. Raises :class:`ClusterGone` where it would be in vain."""
        return _Call(self, actor, method)

    def begin(self, actor: str, method: str) -> None:
        """A call begins."""
        with self._lock:
            if self._gone:
                remedy = _FINDS_IT if self._ours else _CONNECT_AGAIN
                found = f"the Ray cluster at {self.gcs} has ended. {remedy}"
                raise ClusterGone(actor, method, found)
            self._calls += 1

    def end(self) -> None:
        """A call has ended."""
        with self._lock:
            self._calls -= 1
        if self._gone:
            self._leave()

    def _watch(self) -> None:
        refused, heard_s = 0, time.monotonic()
        while not self._ended.wait(_LOOK_EVERY_S):
            try:
                listens(self.gcs, _LOOK_TIMEOUT_S)
            except ConnectionRefusedError:
                refused += 1
            except OSError:
                refused = 0
            else:
                refused, heard_s = 0, time.monotonic()
            if refused >= _REFUSED_TIMES or time.monotonic() - heard_s > _SILENT_S:
                logger.warning("the Ray cluster at {} has ended, and the supervisor with it", self.gcs)
                with self._lock:
                    self._gone = True
                    listeners = tuple(self._listeners) if self._ours else ()
                self._leave()
                for listener in listeners:
                    listener()
                return

    def _leave(self) -> None:
        """End the connection, unless it is not ours or a call is running. This takes seconds where the cluster has
        gone, so nothing else waits for it."""
        with self._lock:
            if not self._ours or self._left or self._calls:
                return
            self._left = True
        from actors.runtime import ray_session

        ray_session.leave()
        self._done.set()


class _Call:
    """A running call, as a context."""

    __slots__ = ("_actor", "_link", "_method")

    def __init__(self, link: Link, actor: str, method: str) -> None:
        self._link, self._actor, self._method = link, actor, method

    def __enter__(self) -> None:
        self._link.begin(self._actor, self._method)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.end()


@contextlib.contextmanager
def outliving_the_cluster() -> Iterator[None]:
    """While Ray is imported: keep it from ending this process with its cluster. Undone afterwards, since a cluster that
    this process starts should end with it."""
    added = {} if "ray" in sys.modules else {k: v for k, v in _WAIT_FOR_EVER.items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """While Ray is imported: in a notebook it would advise installing what only its own displays need."""
    advising = logging.getLogger("ray.widgets.util")
    before = advising.level
    advising.setLevel(logging.WARNING)
    try:
        yield
    finally:
        advising.setLevel(before)
