"""Faults of the processes that are Ray's own, and what `start` promises then.

A cluster of its own ends with `start`: where Ray's scheduler (the raylet) or its directory (the GCS) dies, either the
house comes back in step by itself, or `start` ends with a status and words that say so, within
:data:`ENDS_WITHIN_S`, and leaves no process; another `start`, as a service manager makes it, has everything in step.
Nothing that was acknowledged is lost in either case.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from actors.runtime.ports import CallError
from supervisor.cli.session_child import GONE_AFTER_S
from supervisor.client import run_file
from supervisor.client.local_door import DoorClient
from supervisor.client.processes import Running
from supervisor.config.models import Configuration

KINDS = {"kill Ray's raylet": "raylet", "kill Ray's GCS": "gcs_server"}
ENDS_WITHIN_S = GONE_AFTER_S + 60.0
UP_WITHIN_S = 180.0
STARTS = 4
_STOPPED_WITHIN_S = 60.0


class House:
    """A `start` in a process of its own, as a person or a service manager runs it."""

    def __init__(self, path: Path, configuration: Configuration, log: Path) -> None:
        self._configuration = configuration
        self._log = log
        arguments = [sys.executable, "-m", "supervisor", "start", str(path), "--no-dashboard"]
        with log.open("w") as said:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    @property
    def ended(self) -> int | None:
        """Its exit status, ``None`` while it runs."""
        return self._process.poll()

    @property
    def words(self) -> str:
        """The last of what it said."""
        return self._log.read_text()[-2_000:]

    def status(self) -> dict[str, Any]:
        """What the supervisor says at its own socket. Raises ``CallError``."""
        run = run_file.read(self._configuration)
        if run is None or run.local_door is None:
            raise CallError("supervisor", "status", "there is no run file yet")
        return Running(DoorClient(run.local_door)).status(timeout_s=10)

    def family(self) -> list[psutil.Process]:
        """It and all that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            me = psutil.Process(self._process.pid)
            return [me, *me.children(recursive=True)]
        return []

    def close(self) -> None:
        """Stop it in order."""
        if self.ended is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one fault: ``ended`` is the exit status of a `start` that ended, ``took_s`` until all was in step
    again, ``failures`` what was promised and is not so."""

    kind: str
    ended: int | None
    took_s: float
    failures: tuple[str, ...] = ()


def kill_each(
    path: Path, configuration: Configuration, is_in_step: Callable[[dict[str, Any], float], bool]
) -> Iterator[Done]:
    """Start a house, kill each of Ray's processes in it in turn, and see what becomes of it. ``is_in_step`` says of a
    status whether everything was verified since a time. The house is stopped at the end."""
    house, failure = _up(path, configuration, "start-0", is_in_step)
    try:
        if failure is not None:
            yield Done("start", house.ended, 0.0, (failure,))
            return
        for number, (kind, name) in enumerate(KINDS.items(), start=1):
            family = house.family()
            victim = next(process for process in family if process.name() == name)
            killed_s, since = time.monotonic(), time.time()
            os.kill(victim.pid, signal.SIGKILL)
            failures = list(_as_promised(house, family, since, is_in_step))
            ended = house.ended
            if ended is not None and not failures:
                house, again = _up(path, configuration, f"start-{number}", is_in_step)
                failures += [] if again is None else [again]
            yield Done(kind, ended, time.monotonic() - killed_s, tuple(f"{kind}: {one}" for one in failures))
            if failures:
                return
    finally:
        family = house.family()
        house.close()
        left = _left(family)
    if left:
        yield Done("stop", house.ended, 0.0, (f"processes that are left after the stop: {left}",))


def _up(
    path: Path, configuration: Configuration, name: str, is_in_step: Callable[[dict[str, Any], float], bool]
) -> tuple[House, str | None]:
    """A house that is in step, or why it is not. A `start` that ends with an error is made again, as a service manager
    would: on a busy machine Ray does not come up within the time that it gives itself."""
    for attempt in range(STARTS):
        house = House(path, configuration, path.with_name(f"{name}.{attempt}.log"))
        failure = _await_in_step(house, time.time(), is_in_step)
        if failure is None or house.ended is None:
            break
    return house, failure


def _as_promised(
    house: House,
    family: list[psutil.Process],
    since: float,
    is_in_step: Callable[[dict[str, Any], float], bool],
) -> Iterator[str]:
    until_s = time.monotonic() + ENDS_WITHIN_S
    while house.ended is None and time.monotonic() < until_s:
        with contextlib.suppress(CallError):
            if is_in_step(house.status(), since + 1.0):
                return
        time.sleep(0.2)  # another process's end; there is no event for it
    if house.ended is None:
        yield f"`start` neither ended nor came back within {ENDS_WITHIN_S:g} s: {house.words}"
    elif house.ended == 0 or "error" not in house.words.lower():
        yield f"`start` ended with {house.ended} and no error: {house.words}"
    if house.ended is not None and (left := _left(family)):
        yield f"`start` ended and left {left}"


def _await_in_step(house: House, since: float, is_in_step: Callable[[dict[str, Any], float], bool]) -> str | None:
    found: object = None
    until_s = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < until_s and house.ended is None:
        try:
            if is_in_step(status := house.status(), since):
                return None
            found = {row["name"]: row["state"] for row in status["supervisor"]["actors"]}
        except CallError as error:
            found = error
        time.sleep(0.2)  # there is no event for it outside the cluster
    return f"not in step within {UP_WITHIN_S:g} s (ended: {house.ended}): {found}; it said: {house.words}"


def _left(family: list[psutil.Process]) -> list[str]:
    _, alive = psutil.wait_procs(family, timeout=15)
    return [f"{one.pid} {one.name()}" for one in alive if one.status() != psutil.STATUS_ZOMBIE]
