"""``supervisor.start()``: a supervisor in the background, for a notebook."""

from __future__ import annotations

import os
import subprocess
import sys

from supervisor.client.blocking import Handle
from supervisor.client.connecting import connect
from supervisor.client.nobody import DEFAULT_CONFIG
from supervisor.errors import NotRunning, NotStarted

START_WITHIN_S = 180.0


def start(
    config: str | os.PathLike[str] = DEFAULT_CONFIG,
    *,
    dashboard: bool = True,
    strategy: str | None = None,
    timeout_s: float = START_WITHIN_S,
) -> Handle:
    """The running supervisor of a configuration. If there is none, one is started, like ``python -m supervisor start
    CONFIG --detach``: in processes of its own, on a Ray cluster of its own on this machine's loopback. It outlives this
    program: end it with the handle's ``stop()``. Raises :class:`NotStarted`, with the reason, and as :func:`connect`
    does."""
    try:
        return connect(config, strategy=strategy)
    except NotRunning:
        pass
    command = [sys.executable, "-m", "supervisor", "start", os.fspath(config), "--detach"]
    command += [] if dashboard else ["--no-dashboard"]
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter and the module are our own
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotStarted(f"the supervisor of {config} was not up within {timeout_s:g} s: see its log") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        words = "\n".join(said[-_LINES_SHOWN:]) or f"it ended with status {done.returncode}"
        raise NotStarted(f"the supervisor of {config} did not start: {words}")
    return connect(config, strategy=strategy)


_LINES_SHOWN = 20
