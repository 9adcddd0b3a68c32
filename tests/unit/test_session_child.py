"""The process that holds a supervisor in the background, with everything of Ray's stood in for: where it logs, what
SIGHUP does to it, and what those that it starts have in their environment."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli.session import LET_GO, Order
from supervisor.config.loader import load

SECRET = "s3cr3t-0123456789"
PATIENCE_S = 30.0
CHILD = """
import contextlib, json, os, subprocess, sys, types
stub = types.ModuleType("actors.runtime.ray_session")
stub.dashboard_url = lambda: None
sys.modules["actors.runtime.ray_session"] = stub
from brokers.spec import SecretRef, SecretSource
from supervisor.client import processes
from supervisor.cli import session_child
from supervisor.cli.reload import Reload

folder = sys.argv[3]
ASK = "import os; from brokers.spec import SecretRef, SecretSource;"
ASK += "ref = SecretRef(SecretSource.ENVIRONMENT, 'fx', 'token', 'FX_TOKEN');"
ASK += "print('FX_TOKEN' in os.environ, ref.resolve())"

class Supervisor:
    def status(self, timeout_s):
        row = {"name": "audit", "kind": "audit", "state": "UP", "reason": None, "restarts": 0, "pid": None}
        return {"accounts": [], "status": "SUCCESS", "supervisor": {
            "pid": os.getpid(), "state": "RUNNING", "actors": [row], "journal": {}, "loop_age_s": 0.1}}

    def bring_back(self):
        return False

@contextlib.contextmanager
def started(configuration, **named):
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True)
    with open(folder + "/actor", "w") as file:
        file.write(done.stdout + done.stderr)
    os.write(2, b"a library in C complains\\n")
    yield Supervisor()

processes.started = started
session_child.main(int(sys.argv[1]), int(sys.argv[2]))
"""


class Child:
    """One that was let go of."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FX_TOKEN", SECRET)
        self.folder = folder
        path = folder / "accounts.yaml"
        path.write_text(
            "log: {format: json}\naccounts:\n"
            "  - {name: fx, broker: oanda, account_id: 1-1, token: '${FX_TOKEN}', instruments: [EUR_USD]}\n"
        )
        order = Order(load(path), detach=True, dashboard=False, verbose=False, path=path)
        self.log = order.log_file
        self.log.parent.mkdir(parents=True)
        (folder / "child.py").write_text(CHILD)
        until, self.ask = os.pipe()
        views, said = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(folder / "child.py"), str(until), str(said), str(folder)],
                stdin=subprocess.PIPE,
                stderr=log,
                pass_fds=(until, said),
                start_new_session=True,
            )
        for end in (until, said, views):
            os.close(end)
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            pickle.dump(order, stdin)
        os.write(self.ask, LET_GO)
        os.close(self.ask)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def until(self, holds: Any) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, self.lines()
            assert self.process.poll() is None, self.lines()
            time.sleep(0.02)  # another process's file; there is no event for it


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    made = Child(tmp_path, monkeypatch)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_in_the_background_it_logs_to_its_file_reads_its_configuration_again_and_keeps_secrets(child: Child) -> None:
    child.until(lambda: (child.folder / "actor").exists() and (child.folder / "actor").read_text().count("\n"))
    assert (child.folder / "actor").read_text().splitlines() == [f"False {SECRET}"]

    child.until(lambda: "a library in C complains" in child.lines())
    child.process.send_signal(signal.SIGHUP)
    child.until(lambda: any("apply ended with status 3" in line for line in child.lines()))  # nobody runs
    assert child.process.poll() is None
    logged = [json.loads(line) for line in child.lines() if line.startswith("{")]
    assert logged[-1]["level"] == "ERROR"
    assert SECRET not in child.log.read_text()

    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(PATIENCE_S) == 0
