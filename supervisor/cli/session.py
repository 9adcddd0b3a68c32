"""A supervisor on Ray from its start to its end, in a process and a session of its own.

Ray's processes stay in the process group of whoever starts them: a Ctrl-C, a closed terminal or a signal to the group
would end them under the supervisor, in no order. In a session of their own they hear none of it. The laws of this
module: the child is asked to stop by the end of a pipe, so that the death of its parent, however it dies, asks it too;
it stops at the next point at which nothing is half done; and when it has ended, nothing of its session is left.
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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from supervisor.cli.screen import View
from supervisor.client.processes import STOP_TIMEOUT_S
from supervisor.config.models import Configuration

STOP_WITHIN_S = STOP_TIMEOUT_S + 60.0
"""A child that has not ended this long after it was asked is ended."""
JOIN_STOP_WITHIN_S = 3.0
"""The same while it tries to reach a cluster of somebody else's."""
_GONE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Order:
    """What the child is to run."""

    configuration: Configuration
    detach: bool
    dashboard: bool
    verbose: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The child's last word: what ended it, if not a request."""

    error: BaseException | None


class Died(Exception):
    """The process that ran the supervisor ended without a word."""

    def __init__(self, returncode: int) -> None:
        super().__init__(returncode)
        self.returncode = returncode

    def __str__(self) -> str:
        how = signal.Signals(-self.returncode).name if self.returncode < 0 else f"status {self.returncode}"
        return f"the process that ran the supervisor ended by {how}. Nothing that was acknowledged is lost"


class Session:
    """One supervisor in its child process. :attr:`view` is always what may be shown; :attr:`error` is what ended it,
    if anything but a request did. What the child writes on standard error is given to ``on_line``."""

    def __init__(self, order: Order, on_line: Callable[[str], None]) -> None:
        self._order = order
        self._on_line = on_line
        self._ended: Ended | None = None
        self._asked_at_s: float | None = None
        self.view = View("starting")

    def start(self) -> None:
        """Begin."""
        until, self._ask = os.pipe()
        views, said = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter and the module are our own
            [sys.executable, "-m", "supervisor.cli.session_child", str(until), str(said)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(until, said),
            start_new_session=True,
        )
        os.close(until)
        os.close(said)
        self._threads = (
            threading.Thread(target=self._hear, args=(Connection(views, writable=False),), name="views", daemon=True),
            threading.Thread(target=self._read, name="errors", daemon=True),
        )
        for thread in self._threads:
            thread.start()
        assert self._process.stdin is not None  # noqa: S101 - it was asked for above
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            pickle.dump(self._order, stdin)

    def stop(self) -> None:
        """Ask it to stop in order. May be called twice."""
        if self._asked_at_s is None:
            self._asked_at_s = time.monotonic()
            os.close(self._ask)

    def ended(self, within_s: float) -> bool:
        """Whether it has ended and nothing of it is left, after waiting for that for some time."""
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
        # Ray tries for minutes to reach a cluster that is not there, and nothing of ours is in it yet.
        return JOIN_STOP_WITHIN_S if self.view.step.startswith("joining") else STOP_WITHIN_S

    @property
    def error(self) -> BaseException | None:
        """What ended it, if anything but a request did."""
        if self._ended is not None:
            return self._ended.error
        return Died(self._process.returncode)

    def _hear(self, views: Connection) -> None:
        with views, contextlib.suppress(EOFError, OSError):
            while True:
                heard = views.recv()
                if isinstance(heard, Ended):
                    self._ended = heard
                else:
                    self.view = heard

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it was asked for above
        with self._process.stderr as stderr:
            for line in stderr:
                self._on_line(line.decode(errors="replace").rstrip())


def sweep(session: int) -> None:
    """End what is left of a session whose leader is dead; Ray's workers notice such a death late, or not at all."""
    until_s = time.monotonic() + _GONE_WITHIN_S
    while left := _members(session):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until_s:
            return
        time.sleep(0.05)  # orphans are reaped by init; there is no event for it


def _members(session: int) -> list[int]:
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == session and pid != session and not _is_zombie(pid):
                found.append(pid)
    return found


def _pids() -> list[int]:
    proc = Path("/proc")
    if proc.joinpath("self").exists():
        return [int(one.name) for one in proc.iterdir() if one.name.isdigit()]
    listed = subprocess.run(["/bin/ps", "-A", "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
