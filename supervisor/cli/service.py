"""Notifies a service manager that we are up, of our state, that we still work, and that we end (sd_notify(3)).

The laws of this module: only a new status of the supervisor feeds the watchdog, never a timer; a manager that is
missing, or has gone, changes nothing; no process that we start learns where the manager is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, MutableMapping
from datetime import timedelta

from systemd_watchdog.systemd_watchdog import WatchDog

from supervisor.cli.screen import View, totals

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_STATUS_EVERY_S = 10.0


def is_managed(environ: MutableMapping[str, str]) -> bool:
    """Whether a service manager started us and expects notifications."""
    return bool(environ.get("NOTIFY_SOCKET"))


class ServiceManager:
    """Notifies a service manager. Make it once, before any other process is started: it removes the manager's variables
    from the environment (which must be this process's own). ``monotonic_s`` measures the time between notifications."""

    def __init__(self, environ: MutableMapping[str, str], monotonic_s: Callable[[], float]) -> None:
        self._manager = WatchDog() if is_managed(environ) else None
        for name in _VARIABLES:
            environ.pop(name, None)
        self._monotonic_s = monotonic_s
        self._ready = False
        self._stopping = False
        self._seen: View | None = None
        self._notified: tuple[str, float] | None = None
        self._fed_at_s: float | None = None

    @property
    def watchdog(self) -> timedelta | None:
        """How long the manager waits for a notification before it ends us; ``None`` where it does not."""
        if self._manager is None or self._manager.timeout_td >= timedelta(hours=24):
            return None
        return self._manager.timeout_td

    def see(self, view: View) -> None:
        """Notify the manager of a view. Call it once for each view; a repeated one is not new."""
        if self._manager is None or view is self._seen:
            return
        self._seen = view
        with contextlib.suppress(OSError):  # if the manager was ended while we run, there is nobody to notify
            self._notify(self._manager, view)

    def _notify(self, manager: WatchDog, view: View) -> None:
        now_s = self._monotonic_s()
        if view.stopping and not self._stopping:
            self._stopping = True
            manager._send("STOPPING=1\n")  # noqa: SLF001 - the library has no public method for it
        answers = view.status is not None and view.trouble is None
        if (
            answers and not self._ready
        ):  # whatever its brokers do: one that does not answer must not keep a machine from booting
            self._ready = True
            manager.ready()
        if self._ready and not self._stopping and answers and self._due(now_s):
            self._fed_at_s = now_s
            manager.notify()
        words = _words(view)
        if self._notified is None or (words != self._notified[0] and now_s - self._notified[1] >= _STATUS_EVERY_S):
            self._notified = words, now_s
            manager.status(words)

    def _due(self, now_s: float) -> bool:
        wait_s = 0.0 if self.watchdog is None else self.watchdog.total_seconds() / 4
        return self._fed_at_s is None or now_s - self._fed_at_s >= wait_s


def _words(view: View) -> str:
    """One line for ``systemctl status``."""
    said = view.trouble or (totals(view.status) if view.status is not None and not view.stopping else view.step)
    return " ".join(said.split())
