"""Code is upgraded under a running house, on a real Ray: the package is replaced on disk, as an installation does it,
by one whose messages and settings have more fields."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import pickletools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from actors.events import EventType
from actors.journal.store import Journal
from actors.runtime.ray_backend import RayRuntime
from actors.runtime.ray_cluster import RayCluster
from actors.runtime.ray_places import ActorPlace
from brokers.versions import VERSION
from supervisor.client.processes import Running, find
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.errors import NotRunning
from tests.cluster.conftest import CONFIGURATION, actors, all_verified, instruments, living, until
from tests.cluster.next_version import NEXT, command, install_the_next, installed

CELLS = "  - {name: many, broker: oanda, simulator: true, instruments_per_actor: 5, instruments: [USD_JPY, USD_CHF]}\n"
ORDER = ["cfd/EURUSD", "cfd", "fx/EUR_USD", "fx/GBP_JPY", "fx", "many/USD_CHF", "many/USD_JPY", "many", "audit"]
COMES_UP_WITHIN_S = 120.0


@contextmanager
def house(code: Path, path: Path) -> Iterator[tuple[Running, subprocess.Popen[str]]]:
    """A start of that code, ended in order; afterwards nothing of it lives."""
    environment = os.environ | {"PYTHONPATH": str(code)}
    command = [sys.executable, "-m", "supervisor", "start", "--no-dashboard", str(path)]
    started = subprocess.Popen(
        command, env=environment, cwd=code, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield found(load(path), started), started
    finally:
        children = psutil.Process(started.pid).children(recursive=True) if started.poll() is None else []
        started.send_signal(signal.SIGTERM)
        print(started.communicate(timeout=120)[0])
        assert living(children) == []


def found(configuration: Configuration, started: subprocess.Popen[str]) -> Running:
    until_s = time.monotonic() + COMES_UP_WITHIN_S
    while True:
        try:
            return find(configuration)
        except NotRunning:
            assert started.poll() is None, started.communicate()[0]
            assert time.monotonic() < until_s
            time.sleep(0.2)  # another process comes up; it has no event


def records(configuration: Configuration) -> list[tuple[EventType, Any]]:
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        assert journal.verify().ok
        return [(record.event.type, record.event.payload) for record in journal.records(stream="supervisor")]
    finally:
        journal.close()


class Door:
    """A handle as Ray makes it of the class by which an actor was made: that one's methods, and no others."""

    class _Method:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def remote(self, *args: object) -> Any:
            return self.answer(*args)

    def __init__(self) -> None:
        self.many = self._Method(lambda method, calls: [(True, (method, *args)) for args in calls])
        self.pid = self._Method(lambda: 7)


def test_a_method_that_came_with_a_later_version_is_called_by_the_handle_of_an_older_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    place = ActorPlace(Door())
    assert place.read("pid", place.send("supervisor", "pid", ())) == 7
    assert place.read("roll", place.send("supervisor", "roll", (1, 2))) == ("roll", 1, 2)


@pytest.mark.parametrize(
    "named",
    [
        "actors.journal.actor:Audit",
        "actors.runtime.ports:answer_of",
        "actors.runtime.ray_backend:RayCluster",
        "actors.runtime.ray_backend:RayRuntime",
        "actors.runtime.ray_backend:_unpacked",
        "actors.runtime.ray_cluster:RayCluster",
        "brokers.registry:open_broker",
        "supervisor.supervision.actor:Supervisor",
    ],
)
def test_what_ray_keeps_of_a_supervisor_names_things_that_every_version_has(named: str) -> None:
    """Ray starts a supervisor again from what the version that called `start` gave it. A name that went would keep it
    from coming back: then OLDEST_READ has to be raised, too."""
    module, _, name = named.partition(":")
    assert hasattr(importlib.import_module(module), name)


def test_what_ray_keeps_of_a_supervisor_is_read_by_an_earlier_version_too() -> None:
    """`apply --rolling` goes back as well: then Ray starts, with that one's code, what this one's `start` gave it."""
    kept = (RayRuntime("fx"), RayCluster("fx"))
    named = {arg for _, arg, _ in pickletools.genops(pickle.dumps(kept, protocol=0)) if "actors." in str(arg)}
    assert named == {"actors.runtime.ray_backend RayRuntime", "actors.runtime.ray_backend RayCluster"}
    assert [type(one) for one in pickle.loads(pickle.dumps(kept))] == [RayRuntime, RayCluster]  # noqa: S301 - ours


@pytest.mark.timeout(900)
def test_code_is_upgraded_actor_by_actor_under_a_running_house(tmp_path: Path) -> None:
    code = tmp_path / "code"
    installed(code)
    path = tmp_path / "accounts.yaml"
    path.write_text(CONFIGURATION.format(directory=tmp_path) + CELLS)
    configuration = load(path)
    with house(code, path) as (supervisor, _):
        before = until(supervisor, all_verified, "everything comes up")
        first = supervisor.pid()
        assert {row["program"] for row in actors(before).values()} == {VERSION}
        install_the_next(code)

        dry = command(code, "apply", "--rolling", "--dry-run", "--json", str(path))
        assert dry.returncode == 0, dry.stderr
        assert sorted(json.loads(dry.stdout)["actors"]) == sorted(ORDER)
        done = command(code, "apply", "--rolling", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == f"done: everybody runs {NEXT}"

        after = until(supervisor, all_verified, "everything is in step")
        old, new = actors(before), actors(after)
        assert {row["program"] for row in new.values()} == {NEXT}
        assert new.keys() == old.keys()
        assert [name for name in new if new[name]["pid"] == old[name]["pid"]] == []
        assert {name: row["restarts"] for name, row in new.items()} == dict.fromkeys(new, 0)
        assert (after["supervisor"]["program"], after["supervisor"]["restarts"]) == (NEXT, 0)
        assert supervisor.pid() != first
        versions = {name: row["health"]["version"] for name, row in instruments(before).items()}
        assert all(row["health"]["version"] >= versions[name] for name, row in instruments(after).items())
        assert command(code, "apply", "--rolling", str(path)).stdout == f"everybody runs {NEXT}\n"

        journaled = records(configuration)
        at = [n for n, (kind, one) in enumerate(journaled) if one.get("action") == "roll"]
        assert [journaled[n][1]["state"] for n in at] == ["began", "done"]
        assert (journaled[at[0]][1]["from"], journaled[at[0]][1]["to"]) == ([VERSION], NEXT)
        assert journaled[at[0]][1]["by"]
        handed = [(kind, one["actor"]) for kind, one in journaled[at[0] : at[1]] if "actor" in one and "to" in one]
        assert [name for _, name in handed] == ORDER
        crashes = [
            one for kind, one in journaled if kind is EventType.ACTOR_RESTARTED and one.get("counted") is not False
        ]
        assert crashes == []
        away: set[str] = set()
        for kind, one in journaled[at[0] : at[1]]:
            if kind is EventType.ACTOR_RESTARTED and "to" in one:
                away.add(one["actor"])
                accounts = [name.partition("/")[0] for name in away if not name.startswith("many/")]
                assert len(accounts) == len(set(accounts)) <= 1, f"{away} are away at once"
            elif kind is EventType.ACTOR_STARTED:
                away.discard(one["actor"])
        assert away == set()
