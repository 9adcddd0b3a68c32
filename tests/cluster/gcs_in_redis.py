"""A cluster of two machines, played by two raylets on this one's loopback, whose GCS keeps its tables in Redis and is
killed and begun anew: a process of its own, as Ray reads its settings once. Prints what was seen, as JSON.

    python -m tests.cluster.gcs_in_redis DIRECTORY SECONDS_AWAY
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.runtime.ray_environment import LOOPBACK, Address, prepare
from tests.cluster.several_machines import HEAD, JOINS_WITHIN_S, PLAIN, add_machine, joined, machines, seen
from tests.ports import own_port

CONFIGURATION = """
ray: {{address: "{address}", namespace: test}}
journal: {{url: "sqlite:///{directory}/journal.db", place: {{disk: journal}}}}
defaults: {{interval_s: 1, confirm_gap_ms: 50, settle_ms: 100, timeout_ms: 2000}}
accounts:
  - {{name: fx, broker: oanda, simulator: true, place: {{zone: b}}, instruments: [GBP_JPY, EUR_USD]}}
"""
QUIET_S = 8.0
"""Longer than a supervisor looks for who is there and who is not, several times."""


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    """A Redis of our own on loopback, with a password; yields its address."""
    port, program = own_port(), shutil.which("redis-server")
    assert program is not None
    words = ["--bind", LOOPBACK, "--port", str(port), "--dir", str(directory), "--appendonly", "yes"]
    words += ["--requirepass", os.environ["REDIS_PASSWORD"]]
    with (directory / "redis.log").open("wb") as log:
        running = subprocess.Popen([program, *words], stdout=log, stderr=log)
    try:
        until_s = time.monotonic() + JOINS_WITHIN_S
        while not takes_connections(port):  # a Ray that finds none ends its process
            assert time.monotonic() < until_s, (directory / "redis.log").read_text()
            time.sleep(0.05)
        yield f"{LOOPBACK}:{port}"
    finally:
        running.kill()
        running.wait()


def takes_connections(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as tried:
        return tried.connect_ex((LOOPBACK, port)) == 0


class Names:
    """The names that Ray lists, asked for all the time: how many at least, how many at most, and the errors."""

    def __init__(self) -> None:
        self.counts, self.errors = set[int](), set[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        import ray

        named: Any = ray.util.list_named_actors  # it has no types
        while not self._over.wait(0.05):
            try:
                self.counts.add(len(named(all_namespaces=True)))
            except Exception as error:  # noqa: BLE001 - whatever Ray raises is what is seen
                self.errors.add(f"{type(error).__name__}: {str(error)[:160]}")

    def __enter__(self) -> Names:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)

    def document(self) -> dict[str, Any]:
        """What was seen."""
        return {"least": min(self.counts), "most": max(self.counts), "errors": sorted(self.errors)}


def states_for(away_s: float, ask: Callable[[], dict[str, Any]]) -> list[Any]:
    """The states that a status shows during this time, or its error, each once in a row."""
    from tests.cluster.conftest import actors

    shown: list[Any] = []
    until_s = time.monotonic() + away_s
    while time.monotonic() < until_s:
        try:
            now: Any = sorted({row["state"] for row in actors(ask()).values()})
        except Exception as error:  # noqa: BLE001 - what a caller sees is what is shown
            now = f"{type(error).__name__}: {str(error)[:200]}"
        if shown[-1:] != [now]:
            shown.append(now)
        time.sleep(0.5)
    return shown


def main(directory: Path, away_s: float) -> None:
    """Come up, be without the GCS for a while, lose an instrument with it, and another one afterwards."""
    began_s = time.monotonic()
    prepare(Address(f"{LOOPBACK}:0", os.environ["RAY_AUTH_MODE"]))
    from supervisor.client import processes
    from supervisor.config.loader import load
    from tests.cluster.conftest import actors, all_verified, until

    def step(words: str) -> None:
        print(f"{time.monotonic() - began_s:.1f} s: {words}", file=sys.stderr, flush=True)

    def pids(status: dict[str, Any]) -> dict[str, int | None]:
        return {name: row["pid"] for name, row in actors(status).items()}

    def killed(status: dict[str, Any], name: str) -> Callable[[dict[str, Any]], bool]:
        """Kill it; says of a status whether it is made anew and verified."""
        old = pids(status)[name]
        assert old is not None
        os.kill(old, signal.SIGKILL)
        return lambda now: pids(now)[name] not in (None, old) and all_verified(now)

    with contextlib.ExitStack() as all_of_it:
        os.environ["RAY_REDIS_ADDRESS"] = all_of_it.enter_context(redis(directory))
        cluster = all_of_it.enter_context(machines())
        head = add_machine(cluster, HEAD, redis_password=os.environ["REDIS_PASSWORD"])
        joined(cluster, head, add_machine(cluster, PLAIN))
        step("two machines")
        path = directory / "accounts.yaml"
        path.write_text(CONFIGURATION.format(address=cluster.address, directory=directory))
        running = all_of_it.enter_context(processes.started(load(path), detach=False, on_step=step))
        status = until(running, all_verified, "everything comes up")
        found: dict[str, Any] = {"up": seen(status), "pids": pids(status)}
        with Names() as names:
            head.kill_gcs_server()
            step("the GCS is killed")
            found["during"] = states_for(away_s, running.status)
            step(f"meanwhile: {found['during']}")
            anew = killed(status, "fx/EUR_USD")
            time.sleep(1)
            head.start_gcs_server()
            step("the GCS is begun anew")
            until(running, anew, "the instrument that died meanwhile is made anew")
            step("everything is up")
            time.sleep(QUIET_S)
            status = until(running, all_verified, "everything is up")
            found |= {"back": seen(status), "pids_back": pids(status)}
        found["names"] = names.document()
        step(f"names: {found['names']}")
        found["last"] = seen(until(running, killed(status, "fx/GBP_JPY"), "another one is made anew"))
        step("one that died afterwards is made anew")
    step("ended")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
