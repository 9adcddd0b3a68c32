"""Connects to the running supervisor, by a configuration or an address, from any process of its machine or cluster.

The laws of this module: only the configuration's ``ray`` and ``journal`` are read, so that no secret of an account is
needed; it does not wait where there clearly is no supervisor; Ray, which allows one connection a process, is connected
to once, shared by all handles, and left by the last handle unless the program itself had connected it; when the cluster
has ended, each handle looks for the supervisor's next start in a thread of its own, and no call waits for that.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from actors.book.trading_permission import Permission
from actors.names import SUPERVISOR
from actors.runtime import ray_environment
from actors.runtime.cluster_probe import answers, is_address, listens, lives
from actors.runtime.ports import ActorUnavailable, CallError
from actors.runtime.ray_environment import Address
from brokers.frozen import dataclass
from supervisor.client import arguments, run_file
from supervisor.client.calls import AwaitingPort, BlockingPort, Port, call_with_retry, run_blocking
from supervisor.client.link import Link, outliving_the_cluster, without_advice
from supervisor.client.nobody import (
    DEFAULT_CONFIG,
    NO_CLUSTER,
    REMEDY,
    REMEDY_OF_ADDRESS,
    clusters_of_this_machine,
    owners_of_others,
)
from supervisor.errors import NotConnected, NotRunning, RayConflict

if TYPE_CHECKING:
    from supervisor.client.run_file import RunFile
    from supervisor.config.models import Configuration

DEFAULT_NAMESPACE = "reconciliation"
_LOOK_EVERY_S = 0.5
_RENEWED_WITHIN_S = 3.0
PATIENCE_S = 1.5
"""How long to wait for a supervisor where only the address of a cluster suggests one."""

_lock = threading.Lock()
_link: Link | None = None
_forked_from: int | None = None
"""The process that had Ray connected when this one was forked from it."""


def _after_fork() -> None:
    global _lock, _link, _forked_from
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _link is not None or _connected_to() is not None:
        _forked_from, _link = os.getppid(), None


os.register_at_fork(after_in_child=_after_fork)


def _fork_words(parent: int) -> str:
    return (
        f"this process was forked from process {parent}, which is connected to Ray, and such a connection does not "
        "survive a fork: start it with multiprocessing.get_context('spawn'), or connect in it before its parent does"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: the cluster, the namespace, the source of both as text, and the run file."""

    cluster: Address
    namespace: str
    named_by: str
    run: RunFile | None = None
    configuration: Configuration | None = None
    asked: Asked | None = None
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of :func:`open_connection`, so that another process can connect the same way."""

    config: str | None
    address: str | None
    namespace: str | None
    timeout_s: float
    strategy: str | None


class Connection:
    """One handle's share of the process's connection to the cluster. ``permissions`` are the last answers to
    ``trading_allowed``, by instrument, with the monotonic time of each request."""

    def __init__(self, place: Place, link: Link, blocking: BlockingPort, awaiting: AwaitingPort) -> None:
        self.place = place
        self._link = link
        self.permissions: dict[str, tuple[float, Permission]] = {}
        self._blocking = blocking
        self._awaiting = awaiting
        self._closed = threading.Event()
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Callable[..., Connection], tuple[object, ...]]:
        """In another process, or from a file, it is a new connection to whichever supervisor answers there then."""
        asked = self.place.asked
        if asked is None:
            raise TypeError("this handle cannot be sent to another process: call supervisor.connect() there")
        return open_connection, (asked.config, asked.address, asked.namespace, asked.timeout_s, asked.strategy)

    @property
    def blocking(self) -> BlockingPort:
        """The blocking port. Raises :class:`NotConnected` once closed."""
        self.check_open()
        return self._blocking

    @property
    def awaiting(self) -> AwaitingPort:
        """The port for a running event loop. Raises :class:`NotConnected` once closed."""
        self.check_open()
        return self._awaiting

    @property
    def closed(self) -> bool:
        """Whether this handle has been closed."""
        return self._closed.is_set()

    def check_open(self) -> None:
        """Raise :class:`NotConnected` once closed, and in a forked process."""
        if os.getpid() != self._pid:
            raise NotConnected(_fork_words(self._pid))
        if self._closed.is_set():
            raise NotConnected("this handle was closed. Call supervisor.connect() again")

    def close(self) -> None:
        """Release this share. May be called twice."""
        with _lock:
            if not self._closed.is_set():
                self._closed.set()
                if os.getpid() == self._pid:  # the connection is the parent's
                    self._link.forget(self.renew)
                    self._link.leave()

    def renew(self) -> None:
        """The cluster has gone: look for the supervisor's next start, in a thread, until it is found or this handle is
        closed."""
        if self.place.asked is not None:
            threading.Thread(
                target=self._look, args=(self.place.asked,), name="supervisor-renewal", daemon=True
            ).start()

    def _look(self, asked: Asked) -> None:
        while not self._closed.wait(_LOOK_EVERY_S):
            if not _may_be_back(self.place):
                continue
            within_s = min(asked.timeout_s, _RENEWED_WITHIN_S)
            try:
                found = open_connection(asked.config, asked.address, asked.namespace, within_s, asked.strategy, self)
            except Exception as error:  # noqa: BLE001 - whatever keeps it away: it is tried again until this is closed
                logger.debug("the supervisor is not there yet: {}", error)
            else:
                logger.info("the supervisor runs again: {}", found.place.named_by)
                return

    def take(self, place: Place, link: Link, blocking: BlockingPort, awaiting: AwaitingPort) -> None:
        """Go on with the supervisor that was found. With ``_lock``."""
        if self._closed.is_set():
            link.leave()
            raise NotConnected("this handle was closed")
        self.place = place
        self._link, self._blocking, self._awaiting = link, blocking, awaiting
        self.permissions.clear()


def open_connection(
    config: str | os.PathLike[str] | None,
    address: str | None,
    namespace: str | None,
    timeout_s: float,
    strategy: str | None = None,
    again: Connection | None = None,
) -> Connection:
    """Connect to the running supervisor, on behalf of ``strategy``; or connect ``again``. Raises :class:`NotRunning`,
    which says where it looked, :class:`RayConflict`, and ``ConfigurationError`` for a configuration that cannot be
    read."""
    for key, given_name in (("address", address), ("namespace", namespace), ("strategy", strategy)):
        if given_name is not None:
            arguments.name(key, given_name)
    arguments.seconds("timeout_s", timeout_s)
    remedy = REMEDY.format(config or DEFAULT_CONFIG) if address is None else REMEDY_OF_ADDRESS
    looked_for = []
    given = None if config is None else os.path.abspath(config)
    asked = Asked(given, address, namespace, timeout_s, strategy)
    if _forked_from is not None:
        raise RayConflict(_fork_words(_forked_from))
    with _lock:
        if _link is not None:
            _link.settle()
        for place in _places(config, address, namespace, remedy):
            try:
                return _open(replace(place, asked=asked, strategy=strategy), remedy, timeout_s, again)
            except NotRunning as error:
                looked_for.append(error.looked_for)
    raise NotRunning("; ".join(looked_for), remedy)


def _may_be_back(place: Place) -> bool:
    """Whether a run file may name another start than the one that has ended; without one, whether there is one must be
    tried."""
    if place.run is None or place.configuration is None:
        return True
    run = run_file.read(place.configuration)
    return run is not None and lives(run.pid)


def _open(place: Place, remedy: str, timeout_s: float, again: Connection | None) -> Connection:
    _check_somebody_may_be_there(place, remedy, timeout_s)
    link = _join(place, remedy)
    from actors.runtime.ray_client import AwaitingClient, Client

    blocking = BlockingPort(Client(place.namespace), link)
    awaiting = AwaitingPort(AwaitingClient(place.namespace), link)
    try:
        run_blocking(_answers(blocking, timeout_s, PATIENCE_S if place.run is None else timeout_s))
    except CallError as error:
        link.leave()
        found = f"{place.named_by}, where no supervisor answers in namespace {place.namespace} ({error.found})"
        raise NotRunning(found, remedy) from None
    except BaseException:
        link.leave()
        raise
    if again is None:
        again = Connection(place, link, blocking, awaiting)
    else:
        again.take(place, link, blocking, awaiting)
    link.when_gone(again.renew)
    return again


async def _answers(port: Port, timeout_s: float, patience_s: float) -> None:
    """Check that the supervisor answers in time. One that does not exist is not waited for longer than ``patience_s``.
    Raises ``CallError``."""
    try:
        await port.call(SUPERVISOR, "pid", timeout_s=timeout_s)
    except ActorUnavailable:
        await call_with_retry(port, SUPERVISOR, "pid", timeout_s=min(timeout_s, patience_s))


def _places(
    config: str | os.PathLike[str] | None, address: str | None, namespace: str | None, remedy: str
) -> list[Place]:
    """The places where the supervisor may be. Raises :class:`NotRunning` where there is none."""
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    configuration = None
    asked_namespace = namespace is not None
    looked_for = ""
    if config is not None and (os.fspath(config) != DEFAULT_CONFIG or Path(config).exists()):
        from supervisor.config.loader import load_place

        configuration = load_place(config)
        namespace = namespace or configuration.ray.namespace
    elif config is not None:
        looked_for = f"there is no {DEFAULT_CONFIG} in {Path.cwd()}; "
    namespace = namespace or DEFAULT_NAMESPACE
    if address is not None:
        return [Place(Address(address, mode), namespace, f"the Ray cluster at {address}", None, configuration)]
    if configuration is not None:
        found = _place_of(configuration, namespace, mode)
        if found is not None and found.namespace != namespace and asked_namespace:
            raise NotRunning(
                f"{found.named_by}, in namespace {found.namespace}, but namespace {namespace} was requested",
                "Leave namespace out, give the other one's configuration, or give none: supervisor.connect(None, "
                f"namespace={namespace!r})",
            )
        if found is not None:
            return [found]
        if (owner := run_file.of_another(configuration)) is not None:
            raise NotRunning(
                f"the run file {run_file.path_of(configuration)} belongs to {owner}, and no other user may read it",
                f"Run this as {owner}",
            )
        looked_for = f"there is no run file {run_file.path_of(configuration)}"
        if configuration.ray.address == "local":
            raise NotRunning(looked_for, remedy)
        looked_for += "; "
    connected = _connected_to()
    clusters = [connected] if connected is not None else clusters_of_this_machine()
    if not clusters and (others := owners_of_others()):
        owners = ", ".join(others)
        not_ours = f"{looked_for}the Ray cluster on this machine belongs to {owners}, and no other user has its token"
        raise NotRunning(not_ours, f"Run this as {owners}")
    if not clusters:
        raise NotRunning(looked_for + NO_CLUSTER, remedy)
    return [
        Place(Address(gcs, mode), namespace, f"{looked_for}there is a Ray cluster at {gcs}", None, configuration)
        for gcs in clusters
    ]


def _place_of(configuration: Configuration, namespace: str, mode: str) -> Place | None:
    """The place that the run file names; else the cluster that the configuration names, if it does."""
    run, path = run_file.read(configuration), run_file.path_of(configuration)
    if run is not None:
        named_by = f"{path} names process {run.pid} at {run.address}"
        return Place(run.cluster, run.namespace, named_by, run, configuration)
    gcs = configuration.ray.address
    if gcs in ("local", "auto"):
        return None
    named_by = f"there is no run file {path}; the configuration names the Ray cluster at {gcs}"
    return Place(Address(gcs, mode), namespace, named_by, None, configuration)


def _check_somebody_may_be_there(place: Place, remedy: str, timeout_s: float) -> None:
    """Check, before Ray is imported, that something listens there and answers: Ray itself takes minutes to notice."""
    if _connected_to() == place.cluster.gcs:
        return
    run, configuration = place.run, place.configuration
    gone = f"{place.named_by}, which does not answer. If it was killed, start it again"
    if run is not None and configuration is not None and configuration.ray.address == "local" and not lives(run.pid):
        raise NotRunning(f"{place.named_by}, which has ended", remedy)
    if not is_address(place.cluster.gcs):
        raise NotRunning(f"{place.cluster.gcs!r} is not the host:port of a Ray cluster", remedy)
    try:
        listens(place.cluster.gcs, timeout_s)
        answers(place.cluster.gcs, timeout_s)
    except OSError as error:
        raise NotRunning(f"{gone} ({error.strerror or error})", remedy) from None


def _connected_to() -> str | None:
    """The cluster that this process is already connected to. Does not import Ray."""
    if "ray" not in sys.modules:
        return None
    from actors.runtime import ray_session

    return ray_session.connected_to()


def _join(place: Place, remedy: str) -> Link:
    """This process's connection to the cluster, with one more user."""
    global _link
    connected = _connected_to()
    if connected is not None and connected != place.cluster.gcs:
        raise RayConflict(
            f"this process is connected to the Ray cluster at {connected}, and the supervisor's is at "
            f"{place.cluster.gcs}: Ray allows one. Call ray.shutdown() first (or close the other handle), or connect "
            "from another process"
        )
    if connected is None:
        _connect(place, remedy)
    if connected is None or _link is None or _link.gcs != place.cluster.gcs or not _link.usable:
        _link = Link(place.cluster.gcs, ours=connected is None)
    _link.join()
    return _link


def _connect(place: Place, remedy: str) -> None:
    try:
        ray_environment.prepare(place.cluster)
    except RuntimeError as error:
        raise RayConflict(str(error)) from None
    try:
        with outliving_the_cluster(), without_advice():
            from actors.runtime import ray_client

            ray_client.join(place.cluster, place.namespace)
    except (ConnectionError, RuntimeError) as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise NotRunning(f"{place.named_by}, which refuses the connection: {said}", remedy) from None
