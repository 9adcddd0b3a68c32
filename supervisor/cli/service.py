"""What a service manager is told: that we are up, how it goes, that we still work, and that we end (sd_notify(3)).

The laws of this module: the watchdog is fed by news of the supervisor alone, never by a timer; a manager that is not
there, or has gone, changes nothing; no process that we start hears where the manager is.
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
    """Whether a service manager started us and wants to hear of us."""
    return bool(environ.get("NOTIFY_SOCKET"))


class ServiceManager:
    """Tells a service manager what is seen. Made once, before any other process is started: it takes the manager's
    variables out of the environment (which has to be this process's own). ``monotonic_s`` measures how often it is
    told."""

    def __init__(self, environ: MutableMapping[str, str], monotonic_s: Callable[[], float]) -> None:
        self._manager = WatchDog() if is_managed(environ) else None
        for name in _VARIABLES:
            environ.pop(name, None)
        self._monotonic_s = monotonic_s
        self._ready = False
        self._stopping = False
        self._seen: View | None = None
        self._told: tuple[str, float] | None = None
        self._fed_at_s: float | None = None

    @property
    def watchdog(self) -> timedelta | None:
        """How long the manager waits for news before it ends us; ``None`` where nobody does."""
        if self._manager is None or self._manager.timeout_td >= timedelta(hours=24):
            return None
        return self._manager.timeout_td

    def see(self, view: View) -> None:
        """Tell what a view says. Each is to be given once; the same one again is no news."""
        if self._manager is None or view is self._seen:
            return
        self._seen = view
        with contextlib.suppress(OSError):  # whoever ends a manager while we run wants no word of us
            self._tell(self._manager, view)

    def _tell(self, manager: WatchDog, view: View) -> None:
        now_s = self._monotonic_s()
        if view.stopping and not self._stopping:
            self._stopping = True
            manager._send("STOPPING=1\n")  # noqa: SLF001 - the library has no method of its own for it
        answers = view.status is not None and view.trouble is None
        if (
            answers and not self._ready
        ):  # whatever its brokers do: one that is away must not keep a machine from booting
            self._ready = True
            manager.ready()
        if self._ready and not self._stopping and answers and self._due(now_s):
            self._fed_at_s = now_s
            manager.notify()
        words = _words(view)
        if self._told is None or (words != self._told[0] and now_s - self._told[1] >= _STATUS_EVERY_S):
            self._told = words, now_s
            manager.status(words)

    def _due(self, now_s: float) -> bool:
        wait_s = 0.0 if self.watchdog is None else self.watchdog.total_seconds() / 4
        return self._fed_at_s is None or now_s - self._fed_at_s >= wait_s


def _words(view: View) -> str:
    """One line for ``systemctl status``."""
    said = view.trouble or (totals(view.status) if view.status is not None and not view.stopping else view.step)
    return " ".join(said.split())
