"""The address of a cluster, and what must be set in a process before it imports Ray to reach it.

Separate from :mod:`actors.runtime.ray_backend`, which imports Ray: Ray reads these variables once, at its import.
"""

from __future__ import annotations

import os
import sys

from brokers.frozen import dataclass

LOOPBACK = "127.0.0.1"

_FOR_ACTORS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray's own is 15: each actor would come after whatever else the machine does, Ray's dashboard included.
    "RAY_worker_niceness": "0",
    "LOGURU_LEVEL": "INFO",
    # With it a traceback in an actor's log shows the values of variables, secrets among them.
    "LOGURU_DIAGNOSE": "NO",
    # Ray's own are half a gigabyte, each of them.
    "RAY_ROTATION_MAX_BYTES": "10000000",
    "RAY_ROTATION_BACKUP_COUNT": "3",
}
"""What the actors' processes inherit, where it is not set already."""

_FOR_STRATEGIES = {
    # Ray counts the processes of the whole fleet, and says to each program that is connected that they are many.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started on node",
}
"""What a program that connects has set, where it is not set already: its output is its own."""

_NOT_FOR_ACTORS = "PYTHONDONTWRITEBYTECODE"
"""With it, and without bytecode from before, each process of a fleet compiles every module of ours again: half as long
again as the imports themselves take."""

ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Without it the servers of a cluster of our own listen on every interface of the machine, and a second process takes
127.0.0.1 for the machine's outer address and waits there for ever. Undocumented in Ray 2.60; a test holds it."""


class ClusterNotUp(Exception):
    """A cluster of our own could not be started on this machine. ``found`` is Ray's error."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return (
            f"Ray did not come up on this machine: {self.found.rstrip('.')}. The machine may be overloaded, or short "
            "of memory or of room in its temporary directory, where Ray's own logs are "
            f"(supervisor-{os.geteuid()}/ray/session_latest/logs). "
            "Nothing of ours was started; try again"
        )


@dataclass(frozen=True, slots=True)
class Address:
    """``gcs`` is host:port of the cluster; ``auth_mode`` is Ray's ``RAY_AUTH_MODE`` there, ``None`` where unset."""

    gcs: str
    auth_mode: str | None

    @property
    def on_loopback(self) -> bool:
        """Whether it is a cluster of this machine alone."""
        return self.gcs.startswith(f"{LOOPBACK}:")


def prepare(address: Address | None) -> None:
    """Set what Ray reads when it is imported: to reach that cluster, or (``None``) to start one of our own.

    Raises ``RuntimeError`` where Ray was imported before with other settings, as it would then wait for ever.
    """
    wanted = dict(_FOR_ACTORS)
    if address is not None:
        del wanted["RAY_DEDUP_LOGS"]  # what is skipped is skipped with it alone
        wanted |= _FOR_STRATEGIES
    needed: dict[str, str] = {}
    if address is None or address.on_loopback:
        needed |= ON_LOOPBACK
    if address is not None and address.auth_mode is not None:
        needed["RAY_AUTH_MODE"] = address.auth_mode
    wrong = {name: value for name, value in needed.items() if os.environ.get(name) != value}
    if wrong and "ray" in sys.modules:
        settings = " ".join(f"{name}={value}" for name, value in wrong.items())
        raise RuntimeError(
            f"ray was imported in this process before it was to reach this supervisor: set {settings} in its "
            "environment, or import supervisor and connect before importing ray"
        )
    os.environ.update(wrong)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.pop(_NOT_FOR_ACTORS, None)
