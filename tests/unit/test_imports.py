"""What an actor's process has to carry. Ray imports an actor's class wherever a handle of the actor is used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from actors.runtime.ray_environment import ON_LOOPBACK, Address, prepare

HEAVY = (
    "sqlalchemy",
    "sqlite3",
    "oandapyV20",
    "requests",
    "zmq",
    "pydantic",
    "ruamel",
    "typer",
    "rich",
    "pandas",
    "ray",
)


@pytest.mark.parametrize("module", ["actors.instrument.actor", "actors.account.actor", "actors.journal.actor"])
def test_the_class_of_an_actor_brings_no_driver_no_sdk_and_no_ray(module: str) -> None:
    code = f"import {module}, sys; print(*sorted(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_supervisor_brings_no_database_and_no_sdk() -> None:
    """Nothing starts before its process is up; the journal is its actor's."""
    drivers = ("sqlalchemy", "sqlite3", "oandapyV20", "requests", "zmq", "ib_async", "kiteconnect", "ray")
    code = (
        f"import supervisor.supervision.actor, sys; print(*sorted(name for name in {drivers!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_processes_of_a_cluster_of_our_own_share_their_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a shell forbids to write it, each of them would compile every module again."""
    monkeypatch.setattr(os, "environ", {"PYTHONDONTWRITEBYTECODE": "1", **ON_LOOPBACK})
    prepare(Address("10.0.0.1:6379", None))
    assert os.environ.get("PYTHONDONTWRITEBYTECODE") == "1"  # a cluster of somebody else's
    prepare(None)
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_ray_gives_a_program_that_connects_no_word_of_how_many_processes_the_fleet_has() -> None:
    """By a setting of Ray's own, which it reads when it is imported; whatever else Ray says is shown."""
    code = (
        "from actors.runtime.ray_environment import Address, prepare; prepare(Address('127.0.0.1:1', None))\n"
        "from ray._private.worker import print_to_stdstream as says\n"
        "for words in ('WARNING: 8 PYTHON worker processes have been started on node: 1.', 'another thing'):\n"
        "    says({'lines': [words], 'pid': 'raylet', 'is_err': False}, ignore_prefix=False)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_DEDUP")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "another thing" in done.stdout
    assert "worker processes" not in done.stdout
