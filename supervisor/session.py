"""A supervisor on Ray from its start to its end, in a thread of its own, watched from another.

The laws of this module: whoever watches only asks it to stop; it stops at the next point at which nothing is half
done, and its thread ends after everything that was started has ended. Ray ties the life of a cluster to the thread
that started it, and takes the signal handlers of the main thread for its own; both are why it is this way.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.runtime import CallError
from supervisor import running
from supervisor.config import Configuration
from supervisor.happenings import Happening, happening
from supervisor.running import Running
from supervisor.screen import View, settled

if TYPE_CHECKING:
    from actors.journal import Journal

REFRESH_S = 0.7
GONE_AFTER_S = 60.0
_HAPPENINGS_KEPT = 50
_RECORDS_AT_ONCE = 500


class SupervisorGone(Exception):
    """A supervisor that ran does not answer any more, and did not come back."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"the supervisor has not answered for {GONE_AFTER_S:g} s: {self.found}"


class _AskedToStop(Exception):
    """The way out of a start that is no longer wanted."""


class Session:
    """One supervisor. :attr:`view` is always what may be shown; :attr:`error` is what ended it, if anything did."""

    def __init__(self, configuration: Configuration, *, detach: bool, dashboard: bool, stop: threading.Event) -> None:
        self._configuration = configuration
        self._detach = detach
        self._dashboard = dashboard
        self._stop = stop
        self._up = False
        self._thread = threading.Thread(target=self._run, name="session")
        self.begun = threading.Event()
        """Set when Ray is up, or all is over."""
        self.view = View("starting")
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ended(self, within_s: float) -> bool:
        """Whether it has ended, after waiting for that for some time."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with running.started(
                self._configuration, detach=self._detach, on_step=self._step, dashboard=self._dashboard
            ) as supervisor:
                self._up = True
                self._watch(supervisor)
        except _AskedToStop:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this one tells what it was
            self.error = error
        finally:
            self.begun.set()

    def _step(self, words: str) -> None:
        """Told by :func:`running.started` before each of its steps: nothing is half done here."""
        self.view = replace(self.view, step=words, stopping=self._up)
        if words == "starting the supervisor":
            self.begun.set()
        if not self._up and self._stop.is_set():
            raise _AskedToStop

    def _watch(self, supervisor: Running) -> None:
        from actors.ray_edge import dashboard_url

        self.view = replace(self.view, dashboard=dashboard_url())
        heard_at_s = time.monotonic()
        with contextlib.closing(_Events(self._configuration)) as events:
            while not self._stop.is_set():
                try:
                    status = supervisor.status()
                except CallError as error:
                    self._silent(error, time.monotonic() - heard_at_s)
                else:
                    heard_at_s = time.monotonic()
                    self.view = replace(self.view, status=status, trouble=None, happenings=events.latest())
                    if self._over(status):
                        return
                self._stop.wait(REFRESH_S)

    def _silent(self, error: CallError, for_s: float) -> None:
        if for_s > GONE_AFTER_S:
            raise SupervisorGone(error.found)
        self.view = replace(self.view, trouble=f"the supervisor does not answer ({error.found}), waiting for it")

    def _over(self, status: dict[str, Any]) -> bool:
        """Another command stops it, or it has started and is to be left alone."""
        return status["supervisor"]["state"] == "STOPPING" or (self._detach and settled(status))


class _Events:
    """The latest happenings in the journal, read beside its writer."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._journal: Journal | None = None
        self._seq: int | None = None
        self._latest: deque[Happening] = deque(maxlen=_HAPPENINGS_KEPT)

    def latest(self) -> tuple[Happening, ...]:
        """Oldest first. A journal that cannot be read now gives what was known; its writer says what is wrong."""
        from actors.journal_types import JournalError

        with contextlib.suppress(JournalError):
            self._read()
        return tuple(self._latest)

    def _read(self) -> None:
        from actors.journal import Journal

        if self._journal is None:
            self._journal = Journal.open(self._configuration.journal_url, read_only=True)
        if self._seq is None:
            # What happened before this start is not news.
            head = self._journal.head()
            self._seq = 0 if head is None else max(0, head[0] - _RECORDS_AT_ONCE)
        for record in self._journal.records(after_seq=self._seq, limit=_RECORDS_AT_ONCE):
            self._seq = record.seq
            found = happening(record)
            if found is not None:
                self._latest.append(found)

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()
