"""A running supervisor, from outside: starting one on Ray, finding one, and calling it.

Ray is imported only when it is needed, so that commands without it start fast.
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
from actors.runtime.cluster_probe import ANSWERS_WITHIN_S, answers, is_address, listens, lives
from actors.runtime.nodes import nowhere
from actors.runtime.ports import CallError, CallTimeout
from actors.runtime.ray_environment import Address
from brokers.versions import Program
from supervisor.changes.asking import Asked, Who
from supervisor.changes.requests import Change
from supervisor.client import run_file
from supervisor.client.calls import BlockingPort, run_blocking
from supervisor.client.local_door import DoorClient
from supervisor.client.run_file import RunFile
from supervisor.client.supervisor_client import ANSWER_TIMEOUT_S, SupervisorClient
from supervisor.config.models import Configuration
from supervisor.errors import NotRunning
from supervisor.supervision import local_door
from supervisor.supervision.local_door import Door

if TYPE_CHECKING:
    from actors.runtime.deployment import Deployment
    from actors.runtime.ray_client import Client
    from supervisor.changes.transaction import Changed
    from supervisor.supervision.draining import Drained
    from supervisor.supervision.rolling import RollBegun

GONE_FOR_S = 2.0
"""A supervisor that is gone this long while its run file remains was not stopped."""
_LOOKED_UP_WITHIN_S = 3.0


class AlreadyRunning(Exception):
    """A supervisor holds this journal or this namespace already."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"a supervisor is running already: {self.found}"


class OpenCluster(Exception):
    """A cluster admits everybody who reaches it. ``gcs`` is host:port."""

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
    """No node of the cluster can place the journal. ``why`` is the reason, with what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the supervisor cannot be started where journal.place wants it: {self.why}"


class Running:
    """A supervisor that answers, for scripts: :class:`SupervisorClient`, where each call blocks until it is done."""

    def __init__(self, client: Client | DoorClient, on_behalf_of: Asked | None = None) -> None:
        port = BlockingPort(client)
        self._client = client
        self._work = SupervisorClient(lambda: port, on_behalf_of=on_behalf_of)

    def on_behalf_of(self, who: Asked) -> Running:
        """The same, on behalf of another person than the user of this process."""
        return Running(self._client, who)

    def status(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """See :meth:`SupervisorClient.status`, here and below."""
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
        """Record our side's reports in the books of one account."""
        return run_blocking(self._work.record(account, reports))

    def of_no_order(self, account: str, reports: dict[str, Sequence[Report]]) -> tuple[str, ...]:
        """The recorded fills that name an order their book does not have."""
        return run_blocking(self._work.of_no_order(account, reports))

    def pause(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Stop the scheduled cycles of the selected instruments."""
        return run_blocking(self._work.pause(account, instrument))

    def resume(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Start their scheduled cycles again."""
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
        """Wait until these actors are as desired."""
        return run_blocking(self._work.settled(names, timeout_s))

    def restart(self, name: str) -> bool:
        """Restart one actor by its name."""
        return run_blocking(self._work.restart(name))

    def drain(self, node: str, *, force: bool = False) -> Drained:
        """Move what is on a node to others."""
        return run_blocking(self._work.drain(node, force=force))

    def roll(self, program: Program, *, dry_run: bool = False) -> RollBegun:
        """Begin to replace everybody who runs another version."""
        return run_blocking(self._work.roll(program, dry_run=dry_run))

    def roll_ended(
        self, to: str, see: Callable[[dict[str, Any]], None] = lambda _: None, wait_s: float | None = None
    ) -> dict[str, Any] | None:
        """Wait until that has ended."""
        return run_blocking(self._work.roll_ended(to, see, wait_s))

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
        """Apply an operator's request to an open break."""
        return run_blocking(
            self._work.work_on_break(action, break_id, reason=reason, note=note, until=until, owner=owner, sides=sides)
        )

    def story(self, name: str) -> list[tuple[float, str]] | None:
        """The history of an actor."""
        return run_blocking(self._work.story(name))

    def stop(self) -> None:
        """End every actor in order; see :func:`end`."""
        run_blocking(self._work.stop())

    def pid(self) -> int:
        """The process of the supervisor."""
        return run_blocking(self._work.pid())


class Started(Running):
    """A supervisor that this process has started. ``made`` is its deployment."""

    def __init__(self, client: Client, configuration: Configuration, made: Deployment) -> None:
        super().__init__(client)
        self._configuration = configuration
        self._made = made
        self._gone_since_s: float | None = None

    def bring_back(self) -> bool:
        """Start it again where it has ended without having been stopped; returns whether it did. Ray restarts a
        supervisor that crashes, but not one that ends by itself or by Ray's `kill`. Call this repeatedly while the
        supervisor does not answer."""
        from actors.runtime import ray_client, ray_cluster

        namespace = self._configuration.ray.namespace
        run = run_file.read(self._configuration)
        ours = run is not None and run.pid == os.getpid()  # a stop removes the run file
        if not ours or not ray_client.is_gone(SUPERVISOR, namespace, _LOOKED_UP_WITHIN_S):
            self._gone_since_s = None
            return False
        now_s = time.monotonic()
        self._gone_since_s = now_s if self._gone_since_s is None else self._gone_since_s
        if now_s - self._gone_since_s < GONE_FOR_S:
            return False
        self._gone_since_s = None
        logger.error("the supervisor has ended without being stopped, and is being started again")
        try:
            ray_cluster.create(self._made, namespace)
        except Exception as error:  # noqa: BLE001 - whatever keeps Ray from it: it is logged and tried again
            logger.error("the supervisor cannot be started again now: {}", error)
            return False
        return True


def find(configuration: Configuration, *, by_cluster: bool = False) -> Running:
    """The supervisor that holds this configuration's journal; with ``by_cluster`` this process joins its cluster.
    Raises :class:`NotRunning`."""
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
    """The supervisor that a run file names, by its local socket if it answers there, else by its cluster; ``local``: it
    has a cluster of its own. Raises :class:`NotRunning` when it does not answer."""
    gone = NotRunning(
        f"{named_by} names process {run.pid} at {run.address}, which does not answer",
        "If it was killed, start it again: python -m supervisor start CONFIG",
    )
    if local and not lives(run.pid):
        # A cluster of its own ended with that process; trying to join it would take Ray half a minute.
        raise gone
    door = None if by_cluster else run.local_door
    if door is not None:
        running = Running(DoorClient(door))
        try:
            running.pid()
        except CallTimeout:
            raise gone from None  # it hangs, whichever way it is called
        except CallError:
            pass  # it is restarting, or is on another machine: joining the cluster waits for it
        else:
            return running
    try:
        listens(run.address, ANSWERS_WITHIN_S)
        answers(run.address, ANSWERS_WITHIN_S)
    except OSError as error:
        raise gone from error
    try:
        ray_environment.prepare(run.cluster)
        from actors.runtime import ray_client

        running = Running(ray_client.join(run.cluster, run.namespace))
        running.pid()
    except (ConnectionError, CallError, RuntimeError) as error:
        raise gone from error
    return running


@contextlib.contextmanager
def started(
    configuration: Configuration, *, detach: bool, on_step: Callable[[str], None], dashboard: bool = True
) -> Iterator[Started]:
    """Start a supervisor, and end it in order when the block is left (with ``detach``: leave it running).
    ``dashboard`` applies to a cluster of our own.

    Whatever happens in the block, including an interrupt, no process of ours is left. Raises :class:`AlreadyRunning`,
    ``ConnectionError`` when the configured cluster does not answer,
    :class:`~actors.runtime.ray_environment.ClusterNotUp` when a cluster of our own does not start,
    :class:`OpenCluster` where an existing cluster admits everybody and ``ray.require_auth`` forbids that, and
    :class:`NoNode` where none of its nodes has the labels of ``journal.place``.
    """
    _refuse_a_second(configuration)
    address = configuration.ray.address
    if is_address(address):
        _answers(address)
    ray_environment.prepare(None if address == "local" else Address(address, os.environ.get("RAY_AUTH_MODE", "token")))
    from actors.runtime import ray_client, ray_cluster, ray_session

    namespace = configuration.ray.namespace
    try:
        on_step("starting Ray" if address == "local" else f"joining the Ray cluster at {address}")
        joined = ray_session.start_or_join(address, namespace, dashboard=dashboard)
        if address != "local" and ray_session.lets_everybody_in(joined.gcs):
            if configuration.ray.require_auth:
                raise OpenCluster(joined.gcs)
            logger.warning("{}", OpenCluster(joined.gcs))
        why = nowhere(configuration.journal_place, ray_cluster.machines().living)
        if why is not None:
            raise NoNode(why)
        on_step("starting the supervisor")
        door = local_door.new_door()
        made = _made(configuration, door)
        running = Started(ray_client.Client(namespace), configuration, made)
        _create(made, running, namespace)
        former = run_file.read(configuration)
        if former is not None and former.door is not None:
            local_door.remove(former.door)  # left by a start that was killed
        path, token = (None, None) if door is None else (door.path, door.token.hex())
        seen = (ray_session.dashboard_url(), ray_session.logs_folder())
        run = RunFile(joined.gcs, joined.auth_mode, namespace, os.getpid(), detach, path, token, *seen)
        run_file.write(configuration, run)
        try:
            yield running
        finally:
            if not detach:
                end(configuration, running, on_step)
    finally:
        ray_session.leave()


def _answers(address: str) -> None:
    """Raise ``ConnectionError`` where the configured cluster does not answer, which Ray notices after minutes."""
    try:
        listens(address, ANSWERS_WITHIN_S)
        answers(address, ANSWERS_WITHIN_S)
    except OSError as error:
        found = error.strerror or str(error)
        raise ConnectionError(f"the Ray cluster at {address} does not answer: {found}") from None


def end(configuration: Configuration, running: Running, on_step: Callable[[str], None]) -> None:
    """Stop every actor in order, then the supervisor itself."""
    from actors.runtime import ray_cluster

    on_step("stopping, in order")
    with contextlib.suppress(CallError):
        running.stop()
    ray_cluster.kill(SUPERVISOR, configuration.ray.namespace)
    run_file.remove(configuration)


def _made(configuration: Configuration, door: Door | None) -> Deployment:
    from actors.journal.actor import Audit
    from actors.runtime import ray_backend, ray_cluster
    from actors.runtime.deployment import Deployment
    from brokers.registry import open_broker
    from supervisor.changes import applied_configuration
    from supervisor.supervision.actor import Supervisor

    namespace = configuration.ray.namespace
    runtime, cluster = ray_backend.RayRuntime(namespace), ray_cluster.RayCluster(namespace)
    # Ray restarts it with these very arguments; by its run it knows what was changed since.
    args = (configuration, runtime, cluster, open_broker, Audit, applied_configuration.new_run(configuration, door))
    return Deployment(SUPERVISOR, Supervisor, args, immortal=True, place=configuration.journal_place)


def _create(made: Deployment, running: Running, namespace: str) -> None:
    from actors.runtime import ray_cluster

    with contextlib.suppress(CallError):
        pid = running.pid()
        raise AlreadyRunning(f"process {pid} in namespace {namespace}. Stop it first, or name another ray.namespace")
    ray_cluster.create(made, namespace)
    running.pid()


def _refuse_a_second(configuration: Configuration) -> None:
    """Check, before anything is started, that nothing else writes this journal."""
    from actors.journal.store import Journal
    from actors.journal.types import JournalError, JournalInUse

    try:
        Journal.open(configuration.journal_url, exclusive=True, beside=configuration.beside_journal).close()
    except JournalInUse as error:
        raise AlreadyRunning(str(error)) from None
    except JournalError:
        # It cannot be written now. The system starts all the same, reports that, and goes on when it can be.
        return
