"""Killing any actor's process by hand is repaired, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray

from actors.events import to_iso
from actors.journal.store import Journal
from supervisor.client.processes import Running
from supervisor.config.models import Configuration
from tests.cluster.conftest import actors, all_verified, instruments, until


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _dead_sockets(pid: int) -> int:
    """How many sockets of a process have no connection any more, and are kept open."""
    process, found = psutil.Process(pid), set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(descriptor.readlink().name)
    return sum(name.startswith("socket:") for name in found) - len(process.net_connections("all"))


def _leave(name: str, namespace: str) -> None:
    """End an actor as `exit_actor` does: Ray takes that for wanted, and by itself never makes it anew."""
    ray.get_actor(name, namespace).__ray_terminate__.remote()


def _version(status: dict[str, Any], name: str) -> int:
    return int(instruments(status)[name]["health"]["version"])


def _came_back(name: str, restarts: int, killed_at: str, status: dict[str, Any]) -> bool:
    """Every instrument was found in step after the kill, not only before it."""
    verified = [row["health"]["verified_at"] or "" for row in instruments(status).values()]
    restarted = actors(status)[name]["restarts"] > restarts and status["status"] == "SUCCESS"
    return restarted and all_verified(status) and min(verified) > killed_at


def _verify(configuration: Configuration) -> int:
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        checked = journal.verify()
        assert checked.ok, checked
        return checked.records
    finally:
        journal.close()


def test_a_killed_actor_of_each_kind_is_restarted_and_its_book_is_the_one_it_had(
    supervisor: Running, configuration: Configuration
) -> None:
    """FEATURES 7, PEERS 15: kill -9 of an instrument, account, audit and supervisor actor, one after the other; and an
    account that ends without an error."""
    status = until(supervisor, all_verified, "everything comes up")
    written = _verify(configuration)

    leave = partial(_leave, namespace=configuration.ray.namespace)
    ends = [(one, None) for one in ("fx/GBP_JPY", "fx", "audit")] + [("cfd", leave)]
    for name, leaves in ends:
        restarts = actors(status)[name]["restarts"]
        version = _version(status, "fx/GBP_JPY")
        killed_at = to_iso(datetime.now(UTC))
        if leaves is not None:
            leaves(name)
        else:
            _kill(actors(status)[name]["pid"])
        status = until(
            supervisor,
            partial(_came_back, name, restarts, killed_at),
            f"{name} is restarted",
        )
        assert _version(status, "fx/GBP_JPY") >= version, "a restarted book goes on where it was"

    children = {name: row["health"]["pid"] for name, row in instruments(status).items()}
    first = supervisor.pid()
    _kill(first)
    status = until(supervisor, all_verified, "the supervisor finds its children again")
    assert supervisor.pid() != first
    assert {name: row["health"]["pid"] for name, row in instruments(status).items()} == children
    living = [row["pid"] for row in actors(status).values()]
    until(supervisor, lambda _: not any(map(_dead_sockets, living)), "no connection of the dead supervisor is kept")
    assert _verify(configuration) >= written
