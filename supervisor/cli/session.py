"""A supervisor on Ray from its start to its end, in a process and a session of its own.

Ray's processes stay in the process group of the process that starts them: a Ctrl-C, a closed terminal or a signal to
the group would end them under the supervisor, in no order. In a session of their own they receive none of it. The laws
of this module: the end of a pipe asks the child to stop, so that the death of its parent, however it dies, asks it too;
the child stops at the next point at which nothing is half done; when it has ended, nothing of its session is left. A
released child reads a byte from that pipe before its end, and goes on alone until a signal or ``stop`` ends it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from brokers.frozen import dataclass
from supervisor.cli.screen import View
from supervisor.client.supervisor_client import STOP_TIMEOUT_S
from supervisor.config.models import Configuration

STOP_WITHIN_S = STOP_TIMEOUT_S + 60.0
"""A child that has not ended this long after the request is killed."""
JOIN_STOP_WITHIN_S = 3.0
"""The same while it tries to join an existing cluster."""
_GONE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Order:
    """What the child should run."""

    configuration: Configuration
    detach: bool
    dashboard: bool
    verbose: bool
    path: Path | None = None
    """The configuration's file, where it has one."""

    @property
    def background(self) -> bool:
        """Whether the child itself goes on alone, since its cluster is its own and would end with it."""
        return self.detach and self.configuration.ray.address == "local"

    @property
    def log_file(self) -> Path:
        """The log file of a child that goes on alone."""
        given = self.configuration.log.file
        return Path(given or self.configuration.state_dir / f"{self.configuration.journal_file}.log")


LET_GO = b"g"
"""The byte in the child's pipe that releases it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The child's last message: what ended it, if not a request."""

    error: BaseException | None


class Died(Exception):
    """The process that ran the supervisor ended without a message."""

    def __init__(self, returncode: int) -> None:
        super().__init__(returncode)
        self.returncode = returncode

    def __str__(self) -> str:
        how = signal.Signals(-self.returncode).name if self.returncode < 0 else f"status {self.returncode}"
        return f"the process that ran the supervisor ended by {how}. Nothing that was acknowledged is lost"


class Session:
    """One supervisor in its child process. :attr:`view` is always what may be shown; :attr:`error` is what ended it,
    if not a request. ``on_line`` receives the child's lines on standard error."""

    def __init__(self, order: Order, on_line: Callable[[str], None]) -> None:
        self._order = order
        self._on_line = on_line
        self._ended: Ended | None = None
        self._asked_at_s: float | None = None
        self.let_go_of = False
        self.view = View("starting")

    def start(self) -> None:
        """Begin."""
        until, self._ask = os.pipe()
        views, said = os.pipe()
        log = self._log()
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter and the module are our own
            [sys.executable, "-m", "supervisor.cli.session_child", str(until), str(said)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if log is None else log,
            pass_fds=(until, said),
            start_new_session=True,
        )
        os.close(until)
        os.close(said)
        self._threads = [
            threading.Thread(target=self._receive, args=(Connection(views, writable=False),), name="views", daemon=True)
        ]
        if log is None:
            self._threads.append(threading.Thread(target=self._read, name="errors", daemon=True))
        else:
            os.close(log)
        for thread in self._threads:
            thread.start()
        assert self._process.stdin is not None  # noqa: S101 - requested above
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            pickle.dump(self._order, stdin)

    def _log(self) -> int | None:
        """The log of a child that should outlive the reader of its standard error; else ``None``."""
        if not self._order.background:
            return None
        self._order.log_file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._order.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def let_go(self) -> None:
        """Release it: from now on only a signal or ``stop`` ends it."""
        os.write(self._ask, LET_GO)
        os.close(self._ask)
        self.let_go_of = True

    def stop(self) -> None:
        """Ask it to stop in order. May be called twice."""
        if self._asked_at_s is None:
            self._asked_at_s = time.monotonic()
            os.close(self._ask)

    def ended(self, within_s: float) -> bool:
        """Wait for at most this long; returns whether it has ended and nothing of it is left."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            if self._asked_at_s is None or time.monotonic() < self._asked_at_s + self._stop_within_s:
                return False
            self._process.kill()
            self._process.wait()
        sweep(self._process.pid)
        for thread in self._threads:
            thread.join(_GONE_WITHIN_S)
        self.stop()
        return True

    @property
    def _stop_within_s(self) -> float:
        # Ray tries for minutes to join a cluster that is not there, and nothing of ours is in it yet.
        return JOIN_STOP_WITHIN_S if self.view.step.startswith("joining") else STOP_WITHIN_S

    @property
    def error(self) -> BaseException | None:
        """What ended it, if not a request."""
        if self._ended is not None:
            return self._ended.error
        return Died(self._process.returncode)

    def _receive(self, views: Connection) -> None:
        with views, contextlib.suppress(EOFError, OSError):
            while True:
                received = views.recv()
                if isinstance(received, Ended):
                    self._ended = received
                else:
                    self.view = received

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - requested above
        with self._process.stderr as stderr:
            for line in stderr:
                self._on_line(line.decode(errors="replace").rstrip())


def sweep(session: int) -> None:
    """End what is left of a session whose leader is dead; Ray's workers notice such a death late, or not at all."""
    until_s = time.monotonic() + _GONE_WITHIN_S
    while left := _members(session):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if time.monotonic() > until_s:
            return
        psutil.wait_procs(left, timeout=_GONE_WITHIN_S)


def _members(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            dead = process.status() == psutil.STATUS_ZOMBIE
            if process.pid != session and os.getsid(process.pid) == session and not dead:
                found.append(process)
    return found
