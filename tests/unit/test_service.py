"""Run by a service manager: it is notified that we are up and work, over its own kind of socket; what SIGHUP means;
what keeps a supervisor that answers and does nothing from being taken for one that works."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from supervisor.cli.reload import Reload
from supervisor.cli.screen import View
from supervisor.cli.service import ServiceManager
from supervisor.cli.session_child import STILL_AFTER_S, standing_still
from supervisor.cli.signals import StopSignals

STATUS: dict[str, Any] = {"accounts": [], "supervisor": {"actors": [], "journal": {}, "loop_age_s": 0.1}}


class Manager:
    """A service manager's end: a datagram socket in the file system, as systemd's is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        said: list[str] = []
        while True:
            try:
                said += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return said

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    if found.path.exists():
        found.close()


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def environ(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "60000000"}.items():
        monkeypatch.setenv(name, value)
    return {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "60000000", "PATH": "/bin"}


def test_it_is_ready_with_the_first_answer_and_fed_by_news_alone(
    manager: Manager, environ: dict[str, str], clock: Clock
) -> None:
    manager_link = ServiceManager(environ, clock)
    manager_link.see(View("starting Ray"))
    assert manager.heard() == ["STATUS=starting Ray"]

    answered = View("running", status=STATUS)
    manager_link.see(answered)
    assert manager.heard()[:2] == ["READY=1", "WATCHDOG=1"]

    clock.s += 59
    manager_link.see(answered)
    assert manager.heard() == []  # the same view once more is no news

    manager_link.see(replace(answered))
    assert "WATCHDOG=1" in manager.heard()


def test_a_supervisor_that_does_not_answer_starves_the_watchdog_and_says_why(
    manager: Manager, environ: dict[str, str], clock: Clock
) -> None:
    manager_link = ServiceManager(environ, clock)
    answered = View("running", status=STATUS)
    manager_link.see(answered)
    manager.heard()
    for _ in range(10):
        clock.s += 15
        manager_link.see(replace(answered, trouble="what is shown is 15 s old:\n  the supervisor does not answer"))
    assert manager.heard() == ["STATUS=what is shown is 15 s old: the supervisor does not answer"]

    manager_link.see(replace(answered))
    assert "WATCHDOG=1" in manager.heard()


def test_the_watchdog_is_fed_no_oftener_than_four_times_in_its_time(
    manager: Manager, environ: dict[str, str], clock: Clock
) -> None:
    manager_link = ServiceManager(environ, clock)
    for _ in range(600):
        clock.s += 0.1
        manager_link.see(View("running", status=STATUS))
    assert manager.heard().count("WATCHDOG=1") == 4


def test_the_end_is_announced_before_it_takes_its_time(manager: Manager, environ: dict[str, str], clock: Clock) -> None:
    manager_link = ServiceManager(environ, clock)
    manager_link.see(View("running", status=STATUS))
    manager.heard()
    clock.s += 20
    manager_link.see(View("stopping, in order", status=STATUS, stopping=True))
    manager_link.see(View("stopped", status=STATUS, stopping=True))
    heard = manager.heard()
    assert (heard[0], heard.count("STOPPING=1"), "WATCHDOG=1" in heard) == ("STOPPING=1", 1, False)


def test_no_child_hears_where_the_manager_is(environ: dict[str, str], clock: Clock) -> None:
    ServiceManager(environ, clock)
    assert environ == {"PATH": "/bin"}


def test_a_manager_that_has_gone_changes_nothing(manager: Manager, environ: dict[str, str], clock: Clock) -> None:
    manager_link = ServiceManager(environ, clock)
    manager.close()
    manager_link.see(View("running", status=STATUS))
    assert manager_link.watchdog is not None, "it goes on as one that is looked after"


def test_without_a_manager_nobody_is_notified(clock: Clock) -> None:
    manager_link = ServiceManager({"PATH": "/bin"}, clock)
    manager_link.see(View("running", status=STATUS))
    assert manager_link.watchdog is None


@pytest.mark.parametrize(
    ("age_s", "stands"), [(None, False), (0.2, False), (STILL_AFTER_S, False), (STILL_AFTER_S + 1, True)]
)
def test_a_supervisor_that_answers_while_its_loop_stands_still_is_no_working_one(
    age_s: float | None, stands: bool
) -> None:
    found = standing_still({"supervisor": {"loop_age_s": age_s}})
    assert (found is not None) == stands
    assert standing_still({"supervisor": {}}) is None  # one of an earlier version that does not say


@contextmanager
def taken(signals: StopSignals) -> Iterator[StopSignals]:
    signals.install()
    try:
        yield signals
    finally:
        signals.restore()


@pytest.mark.parametrize(("service", "stops"), [(False, True), (True, False)], ids=["terminal", "service"])
def test_a_closed_terminal_ends_it_and_a_service_reads_its_configuration_again(service: bool, stops: bool) -> None:
    with taken(StopSignals(hangup_reloads=service)) as signals:
        signal.raise_signal(signal.SIGHUP)
        assert (signals.asked.is_set(), signals.reload.is_set()) == (stops, not stops)
        signal.raise_signal(signal.SIGTERM)
        assert signals.asked.is_set()


def test_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with taken(StopSignals()) as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.asked.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("status", "level"), [(0, "INFO"), (2, "ERROR")])
def test_a_reload_says_what_came_of_it(status: int, level: str, tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []

    def apply(path: Path) -> Sequence[str]:
        return [sys.executable, "-c", f"print('read', {path.name!r}); raise SystemExit({status})"]

    handle = logger.add(lambda line: said.append((line.record["level"].name, line.record["message"])), level="INFO")
    try:
        reload = Reload(tmp_path / "accounts.yaml", apply)
        reload.ask()
        reload.wait(30)
    finally:
        logger.remove(handle)
    assert said[-1][0] == level
    assert "read accounts.yaml" in said[-1][1]


def test_a_reload_that_is_asked_for_during_another_is_made_once_after_it(tmp_path: Path) -> None:
    counted, began, goes_on = (tmp_path / name for name in ("counted", "began", "goes on"))
    os.mkfifo(began)
    os.mkfifo(goes_on)

    def apply(path: Path) -> Sequence[str]:
        del path
        code = (
            f"open({str(began)!r}, 'w').close(); open({str(goes_on)!r}).read(); open({str(counted)!r}, 'a').write('.')"
        )
        return [sys.executable, "-c", code]

    reload = Reload(tmp_path / "accounts.yaml", apply)
    reload.ask()
    began.read_text()  # each waits for the other end
    reload.ask()
    reload.ask()
    goes_on.write_text("")
    began.read_text()
    goes_on.write_text("")
    reload.wait(30)
    assert counted.read_text() == ".."
