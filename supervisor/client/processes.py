"""A running supervisor, from outside: starting one on Ray, finding one, and talking to it.

Ray is imported when it is needed, so that the commands that need none start fast.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loguru import logger

from actors.book.break_work import BreakAction, Sides
from actors.book.trading_permission import Halted
from actors.messages import AccountHealth, CycleReport
from actors.names import SUPERVISOR
from actors.reconciliation.own_reports import Report
from actors.runtime import ray_environment
from actors.runtime.nodes import nowhere
from actors.runtime.ports import CallError, CallTimeout
from actors.runtime.ray_environment import Address
from supervisor.changes.asking import Asked, Who
from supervisor.changes.requests import Change
from supervisor.client import run_file
from supervisor.client.calls import BlockingPort, run_blocking
from supervisor.client.local_door import DoorClient
from supervisor.client.run_file import RunFile
from supervisor.client.supervisor_client import ANSWER_TIMEOUT_S, SupervisorClient
from supervisor.config.models import Configuration
from supervisor.supervision import local_door
from supervisor.supervision.local_door import Door

if TYPE_CHECKING:
    from actors.runtime.deployment import Deployment
    from actors.runtime.ray_backend import Client
    from supervisor.changes.transaction import Changed

GONE_FOR_S = 2.0
"""A supervisor that is gone for so long, with its run file still there, was not stopped."""
_LOOKED_UP_WITHIN_S = 3.0


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


class OpenCluster(Exception):
    """A cluster lets in whoever reaches it. ``gcs`` is host:port."""

    def __init__(self, gcs: str) -> None:
        super().__init__(gcs)
        self.gcs = gcs

    def __str__(self) -> str:
        return (
            f"the Ray cluster at {self.gcs} lets in anyone who reaches it, without a token: they can run code "
            "beside the supervisor and read its brokers' secrets. Start it with RAY_AUTH_MODE=token, or use "
            "ray.address: local (`start --detach` needs no other cluster); ray.require_auth: false accepts the risk"
        )


class NoNode(Exception):
    """No node of the cluster is in the place of the journal. ``why`` says so, with what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the supervisor cannot be started where journal.place wants it: {self.why}"


class Running:
    """A supervisor that answers, asked from a script: :class:`SupervisorClient`, each call over when it returns."""

    def __init__(self, client: Client | DoorClient, on_behalf_of: Asked | None = None) -> None:
        port = BlockingPort(client)
        self._client = client
        self._work = SupervisorClient(lambda: port, on_behalf_of=on_behalf_of)

    def on_behalf_of(self, who: Asked) -> Running:
        """The same, asked by somebody else than the user of this process."""
        return Running(self._client, who)

    def status(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """See :meth:`SupervisorClient.status`; so for the others."""
        return run_blocking(self._work.status(timeout_s=timeout_s))

    def directory(self) -> dict[str, dict[str, Any]]:
        """The accounts that run."""
        return run_blocking(self._work.directory())

    def verdict(
        self, account: str | None, instrument: str | None, *, dry_run: bool
    ) -> list[tuple[AccountHealth, list[CycleReport]]]:
        """A verdict on every selected instrument, now."""
        return run_blocking(self._work.verdict(account, instrument, dry_run=dry_run))

    def record(self, account: str, reports: dict[str, Sequence[Report]]) -> int:
        """Put our side's reports into the books of one account."""
        return run_blocking(self._work.record(account, reports))

    def of_no_order(self, account: str, reports: dict[str, Sequence[Report]]) -> tuple[str, ...]:
        """Of recorded fills, those of orders that their books do not have."""
        return run_blocking(self._work.of_no_order(account, reports))

    def pause(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let the selected instruments run no cycle by themselves."""
        return run_blocking(self._work.pause(account, instrument))

    def resume(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Let them go on."""
        return run_blocking(self._work.resume(account, instrument))

    def halt(self, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        """Stop trading until it is resumed."""
        return run_blocking(self._work.halt(account, instrument, reason))

    def resume_trading(self, account: str | None, instrument: str | None) -> Halted:
        """End halts."""
        return run_blocking(self._work.resume_trading(account, instrument))

    def change(self, wanted: Change, asked_by: Who, *, force: bool = False, dry_run: bool = False) -> Changed:
        """Change what runs."""
        return run_blocking(self._work.change(wanted, asked_by, force=force, dry_run=dry_run))

    def settled(self, names: Sequence[str], timeout_s: float) -> dict[str, tuple[str, str]]:
        """Wait until the actors of these names are as is desired."""
        return run_blocking(self._work.settled(names, timeout_s))

    def restart(self, name: str) -> bool:
        """Restart one actor by its name."""
        return run_blocking(self._work.restart(name))

    def breaks(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> list[dict[str, Any]]:
        """Every open break."""
        return run_blocking(self._work.breaks(timeout_s=timeout_s))

    def work_on_break(
        self,
        action: BreakAction,
        break_id: str,
        *,
        reason: str | None = None,
        note: str | None = None,
        until: datetime | None = None,
        owner: str | None = None,
        sides: Sides | None = None,
    ) -> dict[str, Any]:
        """Do something to an open break."""
        return run_blocking(
            self._work.work_on_break(action, break_id, reason=reason, note=note, until=until, owner=owner, sides=sides)
        )

    def story(self, name: str) -> list[tuple[float, str]] | None:
        """What became of an actor."""
        return run_blocking(self._work.story(name))

    def stop(self) -> None:
        """End every actor in order; see :func:`end`."""
        run_blocking(self._work.stop())

    def pid(self) -> int:
        """The process the supervisor lives in."""
        return run_blocking(self._work.pid())


class Started(Running):
    """A supervisor that this process has started. ``made`` is what it was made of."""

    def __init__(self, client: Client, configuration: Configuration, made: Deployment) -> None:
        super().__init__(client)
        self._configuration = configuration
        self._made = made
        self._gone_since_s: float | None = None

    def bring_back(self) -> bool:
        """Make it anew where it has ended without having been stopped, and say so. Ray brings back what crashes, and
        not what ends by itself or by a `kill` of its own; to be asked again and again while nobody answers."""
        from actors.runtime import ray_backend

        namespace = self._configuration.ray.namespace
        run = run_file.read(self._configuration)
        ours = run is not None and run.pid == os.getpid()  # it goes with a stop
        if not ours or not ray_backend.is_gone(SUPERVISOR, namespace, _LOOKED_UP_WITHIN_S):
            self._gone_since_s = None
            return False
        now_s = time.monotonic()
        self._gone_since_s = now_s if self._gone_since_s is None else self._gone_since_s
        if now_s - self._gone_since_s < GONE_FOR_S:
            return False
        self._gone_since_s = None
        logger.error("the supervisor has ended without being stopped, and is being started again")
        try:
            ray_backend.create(self._made, namespace)
        except Exception as error:  # noqa: BLE001 - whatever keeps Ray from it: it is tried again, and told
            logger.error("the supervisor cannot be started again now: {}", error)
            return False
        return True


def find(configuration: Configuration, *, by_cluster: bool = False) -> Running:
    """The supervisor that holds this configuration's journal; with ``by_cluster`` this process is in its cluster
    afterwards. Raises :class:`NotRunning`."""
    run = run_file.read(configuration)
    owner = run_file.of_another(configuration) if run is None else None
    if owner is not None:
        raise NotRunning(
            f"the run file {run_file.path_of(configuration)} belongs to {owner}, and no other user may read it",
            f"Run this as {owner}",
        )
    if run is None:
        raise NotRunning(
            f"there is no run file {run_file.path_of(configuration)}",
            "Start one with: python -m supervisor start CONFIG",
        )
    named_by = str(run_file.path_of(configuration))
    return reach(run, named_by, local=configuration.ray.address == "local", by_cluster=by_cluster)


def reach(run: RunFile, named_by: str, *, local: bool, by_cluster: bool = False) -> Running:
    """The supervisor a run file names, by its local socket where it answers there, else by its cluster; ``local`` says
    that its cluster is its own. Raises :class:`NotRunning` when it does not answer."""
    gone = NotRunning(
        f"{named_by} names process {run.pid} at {run.address}, which does not answer",
        "If it was killed, start it again: python -m supervisor start CONFIG",
    )
    if local and not lives(run.pid):
        # A cluster of its own ended with that process; trying to reach it would take Ray half a minute.
        raise gone
    door = None if by_cluster else run.local_door
    if door is not None:
        running = Running(DoorClient(door))
        try:
            running.pid()
        except CallTimeout:
            raise gone from None  # it hangs, whichever way it is asked
        except CallError:
            pass  # it is being restarted, or on another machine: by the cluster it is waited for
        else:
            return running
    try:
        ray_environment.prepare(run.cluster)
        from actors.runtime import ray_backend

        running = Running(ray_backend.join(run.cluster, run.namespace))
        running.pid()
    except (ConnectionError, CallError, RuntimeError) as error:
        raise gone from error
    return running


@contextlib.contextmanager
def started(
    configuration: Configuration, *, detach: bool, on_step: Callable[[str], None], dashboard: bool = True
) -> Iterator[Started]:
    """Start a supervisor, and end it in order when the block is left (with ``detach``: leave it running).
    ``dashboard`` is for a cluster of our own.

    Whatever happens in the block, an interrupt among it, no process of ours is left. Raises :class:`AlreadyRunning`,
    ``ConnectionError`` when the cluster named in the configuration does not answer,
    :class:`~actors.runtime.ray_environment.ClusterNotUp` when one of our own does not come up, :class:`OpenCluster`
    where one of somebody else's lets everybody in and ``ray.require_auth`` forbids that, :class:`NoNode` where none of
    its nodes is in ``journal.place``.
    """
    _refuse_a_second(configuration)
    address = configuration.ray.address
    ray_environment.prepare(None if address == "local" else Address(address, os.environ.get("RAY_AUTH_MODE", "token")))
    from actors.runtime import ray_backend

    namespace = configuration.ray.namespace
    try:
        on_step("starting Ray" if address == "local" else f"joining the Ray cluster at {address}")
        joined = ray_backend.start_or_join(address, namespace, dashboard=dashboard)
        if address != "local" and ray_backend.lets_everybody_in(joined.gcs):
            if configuration.ray.require_auth:
                raise OpenCluster(joined.gcs)
            logger.warning("{}", OpenCluster(joined.gcs))
        why = nowhere(configuration.journal_place, ray_backend.machines().living)
        if why is not None:
            raise NoNode(why)
        on_step("starting the supervisor")
        door = local_door.new_door()
        made = _made(configuration, door)
        running = Started(ray_backend.Client(namespace), configuration, made)
        _create(made, running, namespace)
        former = run_file.read(configuration)
        if former is not None and former.door is not None:
            local_door.remove(former.door)  # of a start that was killed
        path, token = (None, None) if door is None else (door.path, door.token.hex())
        seen = (ray_backend.dashboard_url(), ray_backend.logs_folder())
        run = RunFile(joined.gcs, joined.auth_mode, namespace, os.getpid(), detach, path, token, *seen)
        run_file.write(configuration, run)
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


def _made(configuration: Configuration, door: Door | None) -> Deployment:
    from actors.journal.actor import Audit
    from actors.runtime import ray_backend
    from actors.runtime.deployment import Deployment
    from brokers.registry import open_broker
    from supervisor.changes import applied_configuration
    from supervisor.supervision.actor import Supervisor

    namespace = configuration.ray.namespace
    runtime, cluster = ray_backend.RayRuntime(namespace), ray_backend.RayCluster(namespace)
    # It is brought back with these very arguments; by the run it knows what was changed since.
    args = (configuration, runtime, cluster, open_broker, Audit, applied_configuration.new_run(configuration, door))
    return Deployment(SUPERVISOR, Supervisor, args, immortal=True, place=configuration.journal_place)


def _create(made: Deployment, running: Running, namespace: str) -> None:
    from actors.runtime import ray_backend

    with contextlib.suppress(CallError):
        pid = running.pid()
        raise AlreadyRunning(f"process {pid} in namespace {namespace}. Stop it first, or name another ray.namespace")
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
