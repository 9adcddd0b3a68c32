"""Reloads the configuration of a service: ``apply`` of its file, in a process of its own.

A file that cannot be read or is refused changes nothing that runs, and the log has the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from loguru import logger

_APPLIED_WITHIN_S = 600.0


def _apply(path: Path) -> Sequence[str]:
    return [sys.executable, "-m", "supervisor", "apply", str(path)]


class Reload:
    """Applies the file at ``path`` at each request; a request during that applies it once more afterwards. It uses the
    environment of the time when this object is made, since secrets are removed from it later."""

    def __init__(self, path: Path, command: Callable[[Path], Sequence[str]] = _apply) -> None:
        self._path = path
        self._command = command
        self._environ = dict(os.environ)
        self._lock = threading.Lock()
        self._asked = False
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Request a reload, without waiting for it."""
        with self._lock:
            self._asked = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
                self._thread.start()

    def wait(self, within_s: float) -> None:
        """Wait until all requests so far are done, at most this long."""
        thread = self._thread
        if thread is not None:
            thread.join(within_s)

    def _run(self) -> None:
        while self._is_asked():
            logger.info("SIGHUP: reloading {}", self._path)
            try:
                done = subprocess.run(  # noqa: S603 - the interpreter and the module are our own
                    self._command(self._path),
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=_APPLIED_WITHIN_S,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                logger.error("SIGHUP: {} was not applied: {}", self._path, error)
                continue
            level = "INFO" if done.returncode == 0 else "ERROR"
            outcome = "applied" if done.returncode == 0 else f"apply ended with status {done.returncode}"
            logger.log(level, "SIGHUP: {}: {}", outcome, done.stdout.strip() or "no output")

    def _is_asked(self) -> bool:
        with self._lock:
            asked, self._asked = self._asked, False
            if not asked:
                self._thread = None
            return asked
