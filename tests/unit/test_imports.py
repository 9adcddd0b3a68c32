"""What an actor's process has to carry. Ray imports an actor's class wherever a handle of the actor is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("module", ["actors.instrument", "actors.account", "actors.audit"])
def test_the_class_of_an_actor_brings_no_driver_no_sdk_and_no_ray(module: str) -> None:
    code = f"import {module}, sys; print(*sorted(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
