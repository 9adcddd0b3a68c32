"""A running supervisor, from outside: starting one on Ray, finding one, and talking to it.

Ray is imported when it is needed, so that the commands that need none start fast.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from actors.book.trading_permission import Halted
from actors.messages import AccountHealth, CycleReport
from actors.names import SUPERVISOR
from actors.reconciliation.own_reports import Report
from actors.runtime import ray_environment
from actors.runtime.ports import ActorUnavailable, CallError
from actors.runtime.ray_environment import Address
from supervisor.changes.parsing import asked_by
from supervisor.changes.requests import Change
from supervisor.client import run_file
from supervisor.client.run_file import RunFile
from supervisor.config.models import Configuration

if TYPE_CHECKING:
    from actors.runtime.ray_backend import Client
    from supervisor.changes.transaction import Changed

ANSWER_TIMEOUT_S = 15.0
_ASK_AGAIN_AFTER_S = 0.5
STOP_TIMEOUT_S = 90.0
VERDICT_TIMEOUT_S = 600.0
CHANGE_TIMEOUT_S = 120.0
HALT_TIMEOUT_S = 40.0
"""A halt is answered when it is durable, or was tried to be for ``halting.KEEP_WITHIN_S``."""


class NotRunning(Exception):
    """No supervisor was found. ``looked_for`` is where, ``remedy`` how to start one."""

    def __init__(self, looked_for: str, remedy: str) -> None:
        super().__init__(looked_for, remedy)
        self.looked_for = looked_for
        self.remedy = remedy

    def __str__(self) -> str:
        return f"no supervisor is running: {self.looked_for}. {self.remedy}"


class AlreadyRunning(Exception):
    """A supervisor holds this journal or this namespace already."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"a supervisor is running already: {self.found}"


class Running:
    """A supervisor that answers. Every method raises :class:`~actors.runtime.ports.CallError` when it no longer
    does."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def status(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The document of ``status --json``."""
        return self._ask("status", timeout_s=timeout_s)  # type: ignore[no-any-return]  # Supervisor.status gives it

    def directory(self) -> dict[str, dict[str, Any]]:
        """The accounts that run; see :meth:`supervisor.supervision.actor.Supervisor.directory`."""
        return self._ask("directory")  # type: ignore[no-any-return]  # as above

    def verdict(
        self, account: str | None, instrument: str | None, *, dry_run: bool
    ) -> list[tuple[AccountHealth, list[CycleReport]]]:
        """A verdict on every selected instrument, now."""
        return self._ask("verdict", account, instrument, dry_run, timeout_s=VERDICT_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def record(self, account: str, reports: dict[str, Sequence[Report]]) -> int:
        """Put our side's reports into the books of one account; gives how many were news."""
        return self._ask("record", account, reports, timeout_s=VERDICT_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def pause(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let the selected instruments run no cycle by themselves."""
        return self._ask("pause", account, instrument, asked_by(), timeout_s=VERDICT_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def resume(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let them go on."""
        return self._ask("resume", account, instrument, asked_by(), timeout_s=VERDICT_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def halt(self, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        """Stop trading in an instrument, an account or everything, until it is resumed. A supervisor that is being
        restarted is waited for, and asked again."""
        deadline_s = time.monotonic() + HALT_TIMEOUT_S
        while True:
            try:
                left_s = max(1.0, deadline_s - time.monotonic())
                return self._ask("halt", account, instrument, reason, asked_by(), timeout_s=left_s)  # type: ignore[no-any-return]  # as above
            except ActorUnavailable:
                if time.monotonic() + _ASK_AGAIN_AFTER_S > deadline_s:
                    raise
            time.sleep(_ASK_AGAIN_AFTER_S)

    def resume_trading(self, account: str | None, instrument: str | None) -> Halted:
        """End the halts of an instrument, of an account and its instruments, or all."""
        return self._ask("resume_trading", account, instrument, asked_by(), timeout_s=VERDICT_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def change(self, wanted: Change, asked_by: str, *, force: bool = False, dry_run: bool = False) -> Changed:
        """Change what runs: durable when it returns, and refused whole with :class:`ChangeRefused` or
        :class:`ChangeNotMade`. ``force`` lets go of books that hold something; ``dry_run`` only tells."""
        return self._ask("change", wanted, asked_by, force, dry_run, timeout_s=CHANGE_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def settled(self, names: Sequence[str], timeout_s: float) -> dict[str, tuple[str, str]]:
        """Wait, for ``timeout_s`` at most, until the actors of these names are as is desired; gives where each is."""
        return self._ask("settled", names, timeout_s, timeout_s=timeout_s + ANSWER_TIMEOUT_S)  # type: ignore[no-any-return]  # as above

    def restart(self, name: str) -> bool:
        """Restart one actor by its name; False when there is none."""
        return self._ask("restart", name, asked_by())  # type: ignore[no-any-return]  # as above

    def stop(self) -> None:
        """End every actor in order; the supervisor itself is left to whoever started it, or see :func:`end`."""
        self._ask("stop", asked_by(), timeout_s=STOP_TIMEOUT_S)

    def pid(self) -> int:
        """The process the supervisor lives in."""
        return self._ask("pid")  # type: ignore[no-any-return]  # as above

    def _ask(self, method: str, *args: object, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        return self._client.call(SUPERVISOR, method, *args, timeout_s=timeout_s)


def find(configuration: Configuration) -> Running:
    """The supervisor that holds this configuration's journal. Raises :class:`NotRunning`."""
    run = run_file.read(configuration)
    if run is None:
        raise NotRunning(
            f"there is no run file {run_file.path_of(configuration)}",
            "Start one with: python -m supervisor start CONFIG",
        )
    return reach(run, str(run_file.path_of(configuration)), local=configuration.ray.address == "local")


def reach(run: RunFile, named_by: str, *, local: bool) -> Running:
    """The supervisor a run file names; ``local`` says that its cluster is its own. Raises :class:`NotRunning` when it
    does not answer."""
    gone = NotRunning(
        f"{named_by} names process {run.pid} at {run.address}, which does not answer",
        "If it was killed, start it again: python -m supervisor start CONFIG",
    )
    if local and not lives(run.pid):
        # A cluster of its own ended with that process; trying to reach it would take Ray half a minute.
        raise gone
    ray_environment.prepare(run.cluster)
    from actors.runtime import ray_backend

    try:
        running = Running(ray_backend.join(run.cluster, run.namespace))
        running.pid()
    except (ConnectionError, CallError, RuntimeError) as error:
        raise gone from error
    return running


@contextlib.contextmanager
def started(
    configuration: Configuration, *, detach: bool, on_step: Callable[[str], None], dashboard: bool = True
) -> Iterator[Running]:
    """Start a supervisor, and end it in order when the block is left (with ``detach``: leave it running).
    ``dashboard`` is for a cluster of our own.

    Whatever happens in the block, an interrupt among it, no process of ours is left. Raises :class:`AlreadyRunning`,
    ``ConnectionError`` when the cluster named in the configuration does not answer,
    :class:`~actors.runtime.ray_environment.ClusterNotUp` when one of our own does not come up.
    """
    _refuse_a_second(configuration)
    address = configuration.ray.address
    ray_environment.prepare(None if address == "local" else Address(address, os.environ.get("RAY_AUTH_MODE", "token")))
    from actors.runtime import ray_backend

    namespace = configuration.ray.namespace
    try:
        on_step("starting Ray" if address == "local" else f"joining the Ray cluster at {address}")
        joined = ray_backend.start_or_join(address, namespace, dashboard=dashboard)
        running = Running(ray_backend.Client(namespace))
        on_step("starting the supervisor")
        _create(configuration, running, namespace)
        run_file.write(configuration, RunFile(joined.gcs, joined.auth_mode, namespace, os.getpid(), detach))
        try:
            yield running
        finally:
            if not detach:
                end(configuration, running, on_step)
    finally:
        ray_backend.leave()


def end(configuration: Configuration, running: Running, on_step: Callable[[str], None]) -> None:
    """Stop every actor in order, then the supervisor itself."""
    from actors.runtime import ray_backend

    on_step("stopping, in order")
    with contextlib.suppress(CallError):
        running.stop()
    ray_backend.kill(SUPERVISOR, configuration.ray.namespace)
    run_file.remove(configuration)


def _create(configuration: Configuration, running: Running, namespace: str) -> None:
    from actors.journal.actor import Audit
    from actors.runtime import ray_backend
    from actors.runtime.deployment import Deployment
    from brokers.registry import open_broker
    from supervisor.changes import applied_configuration
    from supervisor.supervision.actor import Supervisor

    with contextlib.suppress(CallError):
        pid = running.pid()
        raise AlreadyRunning(f"process {pid} in namespace {namespace}. Stop it first, or name another ray.namespace")
    runtime, cluster = ray_backend.RayRuntime(namespace), ray_backend.RayCluster(namespace)
    # Ray brings it back with these very arguments; by the run it knows what was changed since.
    args = (configuration, runtime, cluster, open_broker, Audit, applied_configuration.new_run(configuration))
    made = Deployment(SUPERVISOR, Supervisor, args, immortal=True)
    ray_backend.create(made, namespace)
    running.pid()


def _refuse_a_second(configuration: Configuration) -> None:
    """Before anything is started: is there a writer of this journal?"""
    from actors.journal.store import Journal
    from actors.journal.types import JournalError, JournalInUse

    try:
        Journal.open(configuration.journal_url, exclusive=True).close()
    except JournalInUse as error:
        raise AlreadyRunning(str(error)) from None
    except JournalError:
        # It cannot be written now. The system starts all the same, says so, and goes on when it can be.
        return


def lives(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
