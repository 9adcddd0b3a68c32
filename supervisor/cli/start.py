"""``start``: starts everything, shows it while it runs, and ends it in order on a signal or ``stop``."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger

from actors.events import Severity
from actors.journal.types import JournalError
from actors.runtime.ray_environment import ClusterNotUp
from supervisor.cli import logs
from supervisor.cli.console import Failure, console, journal_cautions, say
from supervisor.cli.keyboard import Keyboard
from supervisor.cli.reload import Reload
from supervisor.cli.screen import Screen, View, actors_up, coming_up, rows_of, settled, totals
from supervisor.cli.service import ServiceManager, is_managed
from supervisor.cli.session import Died, Order, Session
from supervisor.cli.session_child import SupervisorGone
from supervisor.cli.signals import StopSignals
from supervisor.client import run_file
from supervisor.client.run_file import NotWritable
from supervisor.config.cautions import cautions, cautions_of_environment
from supervisor.config.models import Configuration, LogSettings
from supervisor.presentation.event_text import Happening
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED

_LOOK_S = 0.25
REACH_TIMEOUT_S = 5.0
_LOG_LINES_KEPT = 20
_LOG_LEVELS = {Severity.INFO: "INFO", Severity.WARNING: "WARNING", Severity.CRITICAL: "CRITICAL"}


def start(
    configuration: Configuration, *, detach: bool, dashboard: bool, verbose: bool, path: Path | None = None
) -> int:
    """Run until requested to stop; returns the exit status. Call it in the main thread. ``path`` is the configuration's
    file: under a service manager, SIGHUP applies it again.

    Raises ``AlreadyRunning``, :class:`Failure` and whatever kept the supervisor from starting; nothing of ours runs
    any more then.
    """
    signals = StopSignals(hangup_reloads=is_managed(os.environ) and path is not None)
    manager = ServiceManager(os.environ, time.monotonic)
    signals.install()
    try:
        _answers(configuration.ray.address)
    except Failure:
        signals.restore()
        raise
    on_screen = sys.stdout.isatty() and not detach
    if not on_screen:
        logs.set_up("INFO", verbose=verbose, settings=None if detach else configuration.log)
    show = _OnScreen(configuration.log, verbose=verbose) if on_screen else _AsLines()
    of_journal = journal_cautions(configuration, asked=False)
    for caution in (*of_journal, *cautions(configuration), *cautions_of_environment()):
        logger.warning("{}", caution)
    order = Order(configuration, detach, dashboard, verbose, None if path is None else path.absolute())
    reload = None if path is None else Reload(path.absolute())
    session = Session(order, lambda line: logger.warning("{}", line))
    session.start()
    try:
        with show:
            while not session.let_go_of and not session.ended(0.0 if show.interactive else _LOOK_S):
                seen = _seen(session, signals)
                show.update(seen)
                manager.see(seen)
                if signals.reload.is_set() and reload is not None and seen.status is not None:
                    signals.reload.clear()
                    reload.ask()
                if order.background and not signals.asked.is_set() and _runs(session.view):
                    session.let_go()
            show.update(session.view)
    finally:
        if not session.let_go_of:
            # Whatever went wrong with the display, end what was started.
            session.stop()
            while not session.ended(_LOOK_S):
                pass
        signals.ignore()
    if session.let_go_of:
        place = f"It logs to {order.log_file}. Stop it with: python -m supervisor stop"
        page = f" Its page is {session.view.page}." if session.view.page else ""
        say(f"running in the background (when last asked: {totals(session.view.status or {})}).{page} {place}")
        return EXIT_OK
    _raise(session, configuration, signals)
    _farewell(session, configuration, signals.name, detach=detach)
    return EXIT_OK


def _runs(view: View) -> bool:
    return view.status is not None and settled(view.status)


def _answers(address: str) -> None:
    """Raise :class:`Failure` where nothing listens at the address of a cluster: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> Failure:
    message = f"the Ray cluster {address} does not answer ({error}). Start it, or set ray.address: local"
    return Failure(message, EXIT_UNVERIFIED)


def _seen(session: Session, signals: StopSignals) -> View:
    if not signals.asked.is_set():
        return session.view
    session.stop()
    return session.view if session.view.stopping else replace(session.view, step="stopping", stopping=True)


class _OnScreen:
    """A full screen, like that of a pager; the log appears among its happenings."""

    def __init__(self, log: LogSettings, *, verbose: bool) -> None:
        from rich.live import Live

        self._log = log

        self._verbose = verbose
        self._said: deque[Happening] = deque(maxlen=_LOG_LINES_KEPT)
        self._console = console()
        self._screen = Screen(View("starting"))
        self._live = Live(self._screen, console=self._console, screen=True, auto_refresh=False, transient=True)
        self._keyboard = Keyboard()

    interactive = True

    def __enter__(self) -> _OnScreen:
        logs.to_lines(self._say, "WARNING")
        if self._log.file is not None:
            logs.to_file(Path(self._log.file), self._log, "INFO")
        self._keyboard.__enter__()
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        # A terminal that is gone cannot be restored, and need not be.
        with contextlib.suppress(OSError):
            self._live.__exit__(None, None, None)
        self._keyboard.__exit__(None, None, None)
        logs.set_up("WARNING", verbose=self._verbose, settings=self._log)

    def update(self, view: View) -> None:
        """Draw the view, and draw it again at each key, for a moment."""
        self._draw(view)
        until_s = time.monotonic() + _LOOK_S
        while (left_s := until_s - time.monotonic()) > 0:
            if self._screen.press(self._keyboard.pressed(left_s)):
                self._draw(view)

    def _draw(self, view: View) -> None:
        both = sorted((*view.happenings, *self._said), key=lambda one: one.time)
        self._screen.view = replace(view, happenings=tuple(both), look=self._screen.view.look)
        with contextlib.suppress(OSError):
            self._live.refresh()

    def _say(self, level: str, message: str) -> None:
        severity = Severity.CRITICAL if level in {"ERROR", "CRITICAL"} else Severity.WARNING
        self._said.append(Happening(f"{datetime.now(UTC):%H:%M:%S}", "start", message, severity))


class _AsLines:
    """Log lines: what changed since the last view."""

    def __init__(self) -> None:
        self._shown = View("")
        self._states: dict[str, str] = {}
        self._actors: dict[str, str] = {}
        self._up = (0, 0)

    interactive = False

    def __enter__(self) -> _AsLines:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def update(self, view: View) -> None:
        """Log what is new."""
        before, self._shown = self._shown, view
        if view.step != before.step:
            logger.info("{}", view.step)
        if view.trouble and (not before.trouble or ("was killed" in view.trouble) > ("was killed" in before.trouble)):
            logger.error("{}", view.trouble)
        if view.dashboard and not before.dashboard:
            logger.info("dashboard {}", view.dashboard)
        if view.page and view.page != before.page:
            logger.info("page {}", view.page)
        self._happened(view, view.happened - before.happened)
        if view.status is not None and view.status is not before.status:
            self._changes(view.status)

    def _happened(self, view: View, new: int) -> None:
        """Log the latest happenings, and how many more there were than the view holds."""
        at_hand = view.happenings[-new:] if new > 0 else ()
        if new > len(at_hand):
            logger.warning("… {} more before these; see: python -m supervisor audit query", new - len(at_hand))
        for one in at_hand:
            logger.log(_LOG_LEVELS[one.severity], "{} {}", one.where, one.text)

    def _changes(self, status: Mapping[str, Any]) -> None:
        up = actors_up(status)
        if up != self._up and up[1]:
            self._up = up
            logger.info("{}", coming_up(status))
        for actor in status["supervisor"]["actors"]:
            name, state = actor["name"], actor["state"]
            if state in {"QUARANTINED", "PENDING", "RESTARTING"} and self._actors.get(name) != state:
                logger.log(
                    "WARNING" if state == "RESTARTING" else "CRITICAL", "{} {}: {}", name, state, actor["reason"]
                )
            self._actors[name] = state
        for account, row in rows_of(status):
            name = f"{account}/{row['instrument']}"
            if row["health"]["last_cycle_at"] is None or self._states.get(name) == row["status"]:
                continue
            self._states[name] = row["status"]
            level = "INFO" if row["status"] == "SUCCESS" else "WARNING"
            logger.log(level, "{} {}{}", name, row["status"], f": {row['error']}" if row["error"] else "")


def _raise(session: Session, configuration: Configuration, signals: StopSignals) -> None:
    """Raise what ended the session, unless it was the signal."""
    error = session.error
    if isinstance(error, ConnectionError):
        raise _no_cluster(configuration.ray.address, error)
    if signals.asked.is_set() and error is not None:
        # A signal to every process there is ends Ray before its actors can be ended in order.
        logger.warning("not stopped in order: {}", error)
    elif isinstance(error, SupervisorGone | Died | ClusterNotUp | NotWritable):
        raise Failure(str(error), EXIT_UNVERIFIED)
    elif error is not None:
        raise error


def _farewell(session: Session, configuration: Configuration, signal_name: str | None, *, detach: bool) -> None:
    """The last message, in the terminal's own scroll-back."""
    said = f" (when last asked: {totals(session.view.status)})" if session.view.status is not None else ""
    if detach and signal_name is None:
        say(f"running, detached{said}. Its run file is {run_file.path_of(configuration)}")
    else:
        how = "stopped in order" if session.error is None else "stopped"
        say(f"{how}{f' after {signal_name}' if signal_name else ''}{said}{_end_of_journal(configuration)}")


def _end_of_journal(configuration: Configuration) -> str:
    """Where the journal ends now: stopping is journaled too, after the supervisor could still be asked."""
    from actors.journal.store import Journal

    try:
        with contextlib.closing(
            Journal.open(configuration.journal_url, read_only=True, beside=configuration.beside_journal)
        ) as journal:
            head = journal.head()
    except JournalError:
        return ""
    return "" if head is None else f"; the journal ends at record {head[0]}"
