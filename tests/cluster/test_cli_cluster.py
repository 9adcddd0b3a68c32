"""`start`, `status`, `record`, `stop` on a real Ray, as a person at a terminal uses them."""

from __future__ import annotations

import json
import os
import random
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

from actors.journal.store import Journal
from supervisor.client import run_file
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from tests.cluster.conftest import CONFIGURATION, PATIENCE_S, all_verified


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The small configuration, as a file."""
    path = tmp_path / "accounts.yaml"
    path.write_text(CONFIGURATION.format(directory=tmp_path))
    return path


@contextmanager
def _started(path: Path) -> Iterator[subprocess.Popen[str]]:
    """`start` in a process group of its own, as a shell starts it; whatever happens, nothing of it is left."""
    arguments = [sys.executable, "-m", "supervisor", "start", str(path), "--no-dashboard"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def _family(process: subprocess.Popen[str]) -> set[int]:
    """The sessions of a process and of those it started: Ray's processes stay in them."""
    children = psutil.Process(process.pid).children(recursive=True)
    return {process.pid, *(os.getsid(child.pid) for child in children if child.is_running())}


def _living(sessions: set[int]) -> list[str]:
    living = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                living.append(f"{process.pid} {process.name()}")
        except (ProcessLookupError, psutil.Error):
            continue
    return living


def _run(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def _verified(path: Path, process: subprocess.Popen[str] | None, configuration: Configuration) -> dict[str, Any]:
    """The first `status --json` in which every instrument is verified."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        assert process is None or process.poll() is None, process.communicate()
        if run_file.read(configuration) is None:
            time.sleep(0.1)  # it is written when Ray is up; there is no event for it
            continue
        done = _run("status", "--json", "-c", path)
        if done.returncode in {0, 1, 3} and done.stdout and all_verified(json.loads(done.stdout)):
            found: dict[str, Any] = json.loads(done.stdout)
            return found
    raise AssertionError("it did not come up")


def _verifies(configuration: Configuration) -> bool:
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        return journal.verify().ok
    finally:
        journal.close()


def test_commands_reach_the_running_supervisor_and_stop_ends_it_and_the_start_that_owns_it(path: Path) -> None:
    """FEATURES 28: the journal has one writer, so `reconcile` and `record` go through it."""
    configuration = load(path)
    order = (
        '{"kind":"order","instrument":"GBP_JPY","client_order_id":"c1","side":"BUY","quantity":"100",'
        '"limit_price":"1","status":"PENDING_SUBMIT"}\n'
    )
    with _started(path) as process:
        status = _verified(path, process, configuration)
        family = _family(process)
        second = _run("start", path, "--no-dashboard")
        verdict = _run("reconcile", path, "--json", "--account", "fx")
        recorded = _run("record", path, "--account", "fx", stdin=order)
        stopped = _run("stop", "-c", path)
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert {"health", *json.loads(verdict.stdout)["accounts"][0]["instruments"][0]} == set(
        status["accounts"][0]["instruments"][0]
    )
    assert (second.returncode, second.stdout) == (2, "")
    assert "a supervisor is running already" in second.stderr
    assert verdict.returncode in {0, 1}
    assert recorded.stdout == "1 line read, 1 new\n"
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert process.returncode == 0, errors
    assert "5 of 6 actors up" in errors or "6 of 6 actors up" in errors
    assert _living(family) == []
    assert run_file.read(configuration) is None
    assert _verifies(configuration)


def test_started_in_the_background_it_goes_on_until_stop_and_leaves_nothing(path: Path) -> None:
    configuration = load(path)
    started = _run("start", path, "--detach", "--no-dashboard")
    run = run_file.read(configuration)
    assert run is not None, started.stderr
    family = {run.pid}
    try:
        assert started.returncode == 0, started.stderr
        assert "running in the background" in started.stderr
        assert f"It logs to {configuration.state_dir}/journal.db.log" in started.stderr
        _verified(path, None, configuration)
    finally:
        stopped = _run("stop", "-c", path)
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n"), stopped.stderr
    assert _living(family) == []
    assert run_file.read(configuration) is None
    assert _verifies(configuration)


def test_a_supervisor_that_hangs_is_named_killed_and_brought_back_and_finds_its_children(path: Path) -> None:
    configuration = load(path)
    with _started(path) as process:
        before = _verified(path, process, configuration)
        hung = before["supervisor"]["pid"]
        os.kill(hung, signal.SIGSTOP)
        deadline_s = time.monotonic() + PATIENCE_S
        while psutil.pid_exists(hung) and time.monotonic() < deadline_s:
            time.sleep(0.2)  # another process's end; there is no event for it
        after = _verified(path, process, configuration)
        _run("stop", "-c", path)
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert "the supervisor does not answer" in errors
    assert f"process {hung} was killed and is being brought back" in errors
    assert after["supervisor"]["pid"] != hung
    pids = [
        {row["name"]: row["pid"] for row in status["supervisor"]["actors"] if "/" in row["name"]}
        for status in (before, after)
    ]
    assert pids[0] == pids[1]
    assert process.returncode == 0, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_at_any_moment_of_the_start_leaves_no_process_and_a_journal_that_verifies(
    path: Path, number: signal.Signals
) -> None:
    moment_s = random.uniform(0.8, 12)  # noqa: S311 - any moment will do; the name of the failure says which
    with _started(path) as process:
        time.sleep(moment_s)
        family = _family(process)
        # As a terminal sends it: to the whole group, and again by an impatient hand.
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, (moment_s, errors)
    assert _living(family) == [], moment_s
    configuration = load(path)
    assert run_file.read(configuration) is None
    if Path(configuration.journal_url.removeprefix("sqlite:///")).exists():
        assert _verifies(configuration)


def test_when_start_itself_is_killed_its_supervisor_stops_in_order_by_itself(path: Path) -> None:
    """FEATURES 28."""
    configuration = load(path)
    with _started(path) as process:
        _verified(path, process, configuration)
        family = _family(process)
        process.kill()
        process.wait()
        deadline_s = time.monotonic() + PATIENCE_S
        while (left := _living(family)) and time.monotonic() < deadline_s:
            time.sleep(0.1)  # nobody is left to report that the last one has ended

    assert left == []
    assert run_file.read(configuration) is None
    assert _verifies(configuration)


def test_a_ray_that_does_not_come_up_is_said_and_nothing_is_left(path: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "not a directory"
    blocked.write_text("")
    arguments = [sys.executable, "-m", "supervisor", "start", str(path), "--no-dashboard"]
    with subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"RAY_TMPDIR": str(blocked)},
    ) as process:
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, said
    assert "Ray did not come up on this machine: " in said
    assert "try again" in said
    assert not run_file.read(load(path))
    assert _living({process.pid}) == []
