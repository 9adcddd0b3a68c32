"""The page that ``start`` serves: a process of its own beside the supervisor's, which ends with its parent.

The laws of this module: whatever happens to the page, the supervisor goes on; when the page ends, that is logged, and
it is started again after a while; its process ends when the pipe to it does, however its parent died.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from loguru import logger

from supervisor.config.models import Configuration

AGAIN_AFTER_S = 30.0
COMMAND = (sys.executable, "-m", "supervisor.cli.page_process")
_END_WITHIN_S = 5.0


class PageProcess:
    """The page of a configuration. Use it from one thread; :attr:`address` is the page's address once it is served.
    ``command`` is the command that serves it."""

    def __init__(self, configuration: Configuration, command: Sequence[str] = COMMAND) -> None:
        self._configuration = configuration
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._tried_at_s: float | None = None
        self.address: str | None = None

    @property
    def pid(self) -> int | None:
        """Its process, while it is believed to run."""
        return None if self._process is None else self._process.pid

    def keep(self, now_s: float) -> None:
        """Start it if it does not run; ``now_s`` is of a monotonic clock."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            found = f"the page ended with status {self._process.returncode}"
            self._process, self.address = None, None
            logger.warning("{}; trying again in {:.0f} s. The supervisor keeps running", found, AGAIN_AFTER_S)
            self._tried_at_s = now_s
        if self._tried_at_s is not None and now_s - self._tried_at_s < AGAIN_AFTER_S:
            return
        self._tried_at_s = now_s
        try:
            self._start()
        except OSError as error:
            logger.warning("the page could not be started: {}", error)

    def _start(self) -> None:
        # The interpreter and the module are our own.
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - as said
        self._process = process
        threading.Thread(target=self._hear, args=(process,), name="page", daemon=True).start()
        assert process.stdin is not None  # noqa: S101 - requested above
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(self._configuration, process.stdin)
            process.stdin.flush()

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - requested above
        with process.stdout as output:
            line = output.readline().decode(errors="replace").strip()
            if line and self._process is process:
                self.address = line
            for _ in output:
                pass  # it prints nothing else; a full pipe would stop it

    def stop(self) -> None:
        """End it. May be called twice."""
        process, self._process, self.address = self._process, None, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 - requested above
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """Serve the page of the configuration on standard input until that ends; print its address on standard output."""
    from supervisor.cli import logs
    from supervisor.cli.console import EXIT_UNEXPECTED, Failure
    from supervisor.cli.page import check_installed, end_by_signal

    logs.set_up("WARNING", bare=True)
    configuration: Configuration = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent

    def stops(stop: Any) -> None:
        end_by_signal(stop)

        def wait() -> None:
            with contextlib.suppress(OSError):
                while os.read(0, 4096):
                    pass
            stop()

        threading.Thread(target=wait, name="parent", daemon=True).start()

    try:
        check_installed()
        from supervisor.console.serve import serve
        from supervisor.console.users import TokensUnusable, Users

        try:
            Users(configuration.console_tokens).all()
        except TokensUnusable as error:
            logger.warning("{}", error)  # people may be added while it runs
        serve(configuration, None, lambda address: print(address, flush=True), stops)
    except Failure as failure:
        logger.error("the page is not served: {}", failure)
        return failure.status
    except Exception as error:  # noqa: BLE001 - no traceback reaches the terminal of `start`
        logger.error("the page is not served: {}: {}", type(error).__name__, error)
        return EXIT_UNEXPECTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
