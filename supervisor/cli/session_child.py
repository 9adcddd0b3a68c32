"""The process that holds a running supervisor. :mod:`supervisor.cli.session` starts it and sends it nothing but the
request to stop."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from loguru import logger

from actors.runtime.cluster_probe import lives
from actors.runtime.ports import CallError
from brokers.secret_keeper import kept
from brokers.spec import SecretRef, SecretSource
from supervisor.changes.asking import Via, came_by
from supervisor.cli import logs
from supervisor.cli.page_process import PageProcess
from supervisor.cli.reload import Reload
from supervisor.cli.screen import View, settled
from supervisor.cli.session import LET_GO, Ended, Order
from supervisor.cli.signals import StopSignals
from supervisor.client import processes
from supervisor.client.processes import Started
from supervisor.config.models import Configuration
from supervisor.presentation.event_text import Happening, Summaries

if TYPE_CHECKING:
    from actors.journal.store import Journal

REFRESH_S = 0.7
ASK_TIMEOUT_S = 3.0
HUNG_AFTER_S = 15.0
"""A supervisor whose process lives and that has not answered for this long hangs: it is killed, and Ray restarts it."""
GONE_AFTER_S = 60.0
STILL_AFTER_S = 30.0
"""An idle loop handles a tick every few seconds; one with thousands of children takes its time."""
_HAPPENINGS_KEPT = 300


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SupervisorGone(Exception):
    """A supervisor that ran no longer answers, and has not come back."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"the supervisor has not answered for {GONE_AFTER_S:g} s: {self.found}"


class _AskedToStop(Exception):
    """Ends a start that is no longer wanted."""


class SupervisorWatch:
    """Watches the supervisor: kills its process when it hangs, once for each silence, so that Ray restarts it, and has
    one that ended by itself started again; its children go on meanwhile, and it finds them again. Returns the age of
    what is shown, as text.

    ``kill`` ends a process by its number; ``None`` where the supervisor may be on another machine, whose numbers mean
    other processes here. ``lives`` returns whether there is such a process. ``bring_back`` starts the supervisor again
    where it has ended and nothing else does, and returns whether it did."""

    def __init__(
        self,
        kill: Callable[[int], None] | None,
        lives: Callable[[int], bool],
        now_s: float,
        bring_back: Callable[[], bool] = lambda: False,
    ) -> None:
        self._kill = kill
        self._lives = lives
        self._bring_back = bring_back
        self._made_anew = False
        self._answered_at_s = now_s
        self._pid: int | None = None
        self._killed: int | None = None

    def heard(self, pid: int | None, now_s: float) -> None:
        """The supervisor answered, from this process."""
        self._answered_at_s, self._pid, self._killed, self._made_anew = now_s, pid, None, False

    def silent(self, found: str, now_s: float) -> str:
        """The supervisor did not answer: returns the message for a person. Raises :class:`SupervisorGone` when it does
        not come back."""
        for_s = now_s - self._answered_at_s
        if for_s > GONE_AFTER_S:
            raise SupervisorGone(found)
        hangs = for_s > HUNG_AFTER_S and self._killed is None and self._pid is not None and self._lives(self._pid)
        if hangs and self._kill is not None and self._pid is not None:
            self._killed = self._pid
            self._kill(self._pid)
        self._made_anew = self._bring_back() or self._made_anew
        age = f"what is shown is {for_s:.0f} s old"
        if self._made_anew:
            return f"{age}: the supervisor had ended without being stopped, and is being started again"
        if self._killed is not None:
            return f"{age}: the supervisor hung, process {self._killed} was killed and is being brought back"
        return f"{age}: the supervisor does not answer ({found}), waiting for it"


class _Child:
    def __init__(self, order: Order, said: Connection, signals: StopSignals) -> None:
        self._order = order
        self._said = said
        self._signals = signals
        self._stop = signals.asked
        self._up = False
        self._view = View("starting")
        self._reload = None if order.path is None else Reload(order.path)

    def run(self) -> None:
        """Run from start to end."""
        order = self._order
        # The environment of an existing cluster belongs to its owner.
        withheld = withheld_variables(order.configuration) if order.configuration.ray.address == "local" else ()
        try:
            with (
                kept(withheld, os.environ),
                processes.started(
                    order.configuration,
                    detach=order.detach and not order.background,
                    on_step=self._step,
                    dashboard=order.dashboard,
                ) as supervisor,
            ):
                self._up = True
                self._watch(supervisor)
        except _AskedToStop:
            pass

    def _show(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)
        # A parent that has died sees nothing, and has requested the stop by its death.
        with contextlib.suppress(OSError):
            self._said.send(self._view)

    def _step(self, words: str) -> None:
        """Called by :func:`processes.started` before each of its steps: nothing is half done here."""
        # Starting Ray replaces the handler of SIGTERM.
        self._signals.install()
        self._show(step=words, stopping=self._up)
        if not self._up and self._stop.is_set():
            raise _AskedToStop

    def _watch(self, supervisor: Started) -> None:
        from actors.runtime.ray_session import dashboard_url

        self._show(dashboard=dashboard_url())
        kill = _kill if self._order.configuration.ray.address == "local" else None
        watch = SupervisorWatch(kill, lives, time.monotonic(), supervisor.bring_back)
        with contextlib.closing(Happenings(self._order.configuration)) as events, self._page() as page:
            while not self._stop.is_set():
                self._reload_if_asked()
                if page is not None:
                    page.keep(time.monotonic())
                    if page.address != self._view.page:
                        self._show(page=page.address)
                try:
                    status = supervisor.status(timeout_s=ASK_TIMEOUT_S)
                except CallError as error:
                    self._show(trouble=watch.silent(error.found, time.monotonic()))
                else:
                    stands = standing_still(status)
                    if stands is not None:
                        self._show(trouble=watch.silent(stands, time.monotonic()))
                        self._stop.wait(REFRESH_S)
                        continue
                    watch.heard(status["supervisor"].get("pid"), time.monotonic())
                    if status["supervisor"]["state"] == "STOPPING":
                        return  # by another command; the last view says more than one of ending actors
                    self._show(status=status, trouble=None, happenings=events.latest(), happened=events.count)
                    if self._order.detach and not self._order.background and settled(status):
                        return
                self._stop.wait(REFRESH_S)

    @contextlib.contextmanager
    def _page(self) -> Iterator[PageProcess | None]:
        """The page, if the configuration has one and this process stays to serve it."""
        configuration = self._order.configuration
        if configuration.console.port is None:
            yield None
            return
        if self._order.detach and not self._order.background:
            logger.warning("a detached start on a cluster serves no page: run `python -m supervisor console`")
            yield None
            return
        page = PageProcess(configuration)
        try:
            yield page
        finally:
            page.stop()

    def _reload_if_asked(self) -> None:
        if self._signals.reload.is_set():
            self._signals.reload.clear()
            if self._reload is not None:
                self._reload.ask()


def withheld_variables(configuration: Configuration) -> frozenset[str]:
    """The environment variables that hold secrets of accounts, alerts and tables: only the actor of each needs its own.
    Those of the journal stay, since many processes read it."""
    stays = set(_VARIABLE.findall(" ".join([*configuration.journal.heads, configuration.journal.key or ""])))
    stays |= _in_environment({"url": configuration.journal.url})
    held: list[Mapping[str, object]] = [{one.name: one.url for one in configuration.alerts.routes}]
    held += [sink.storage_options for sink in configuration.sinks]
    for account in configuration.accounts:
        held.append(account.secrets())
        if account.book is not None:
            held.append(account.book.storage_options)
    return frozenset(set[str]().union(*map(_in_environment, held)) - stays)


def _in_environment(values: Mapping[str, object]) -> set[str]:
    refs = [one for one in values.values() if isinstance(one, SecretRef)]
    return {one.place for one in refs if one.source is SecretSource.ENVIRONMENT}


def standing_still(status: Mapping[str, Any]) -> str | None:
    """Why a supervisor that answers no longer works: its loop is stuck; ``None`` where it works."""
    age_s = status["supervisor"].get("loop_age_s")
    return None if age_s is None or age_s <= STILL_AFTER_S else f"its loop has been stuck for {age_s:.0f} s"


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


class Happenings:
    """The latest happenings in the journal, read beside its writer; ``count`` is their number so far."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._since = datetime.now(UTC)  # what happened before is not new
        self._journal: Journal | None = None
        self._seq = 0
        self.count = 0
        self._summaries = Summaries()
        self._latest: deque[Happening] = deque(maxlen=_HAPPENINGS_KEPT)

    def latest(self) -> tuple[Happening, ...]:
        """Oldest first. If the journal cannot be read now, returns the last ones; its writer reports what is wrong."""
        from actors.journal.types import JournalError

        with contextlib.suppress(JournalError):
            self._read()
        return tuple(self._latest)

    def _read(self) -> None:
        from actors.journal.store import Journal

        if self._journal is None:
            self._journal = Journal.open(
                self._configuration.journal_url, read_only=True, beside=self._configuration.beside_journal
            )
            self._seq = self._last_before(self._journal)
        for record in self._journal.records(after_seq=self._seq, since=self._since):
            self._seq = record.seq
            found = self._summaries.of(record)
            if found is not None:
                self._latest.append(found)
                self.count += 1

    def _last_before(self, journal: Journal) -> int:
        """Where new records begin. From the end, because the beginning may be years and millions of records away."""
        newest = journal.records(order="newest")
        return next((record.seq for record in newest if record.event.time < self._since), 0)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()


def _wait_for_the_end(until: int, stop: threading.Event) -> None:
    """Wait until the parent closes this pipe or dies; before that it sends at most the byte that releases the child."""
    received = b""
    with contextlib.suppress(OSError):
        received = os.read(until, 1)
    if received != LET_GO:
        stop.set()


def _picklable(error: BaseException) -> BaseException:
    """The error in a form that can be sent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever keeps a foreign error from being pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main(until: int, said: int) -> None:
    """Run the order from standard input until the pipe ``until`` ends; ``said`` receives the views and the end."""
    for descriptor in (until, said):
        os.set_inheritable(descriptor, False)
    came_by(Via.START)
    order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    # A child that goes on alone is a service: the end of a terminal does not concern it.
    signals = StopSignals(hangup_reloads=order.background)
    signals.install()
    logs.set_up("WARNING", verbose=order.verbose, bare=not order.background)
    if order.background:
        level = "DEBUG" if order.verbose else "WARNING"
        logs.to_file(order.log_file, order.configuration.log, level, with_standard_error=True)
    threading.Thread(target=_wait_for_the_end, args=(until, signals.asked), daemon=True).start()
    outcome = Connection(said, readable=False)
    ended = Ended(None)
    try:
        _Child(order, outcome, signals).run()
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        ended = Ended(_picklable(error))
    with contextlib.suppress(OSError):
        outcome.send(ended)
    signals.ignore()


if __name__ == "__main__":
    # Pickle must find the classes of this module under its own name, not as __main__.
    from supervisor.cli import session_child

    session_child.main(int(sys.argv[1]), int(sys.argv[2]))
