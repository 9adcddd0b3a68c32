"""A handle whose cluster has ended finds the supervisor's next start by itself, and no call waits for it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from actors.runtime.ray_environment import Address
from supervisor.client import run_file
from supervisor.client.calls import AwaitingPort, BlockingPort
from supervisor.client.connection import Asked, Connection, Place
from supervisor.client.link import ClusterGone, Link
from supervisor.client.run_file import RunFile
from supervisor.config.loader import load_place
from supervisor.errors import NotConnected, NotRunning
from tests.ports import LOOPBACK, own_port
from tests.unit.handle_cases import Unwatched

NOW = RunFile("127.0.0.1:2", "token", "test", os.getpid(), detached=False)
WITHIN_S = 20.0


class Left(Link):
    """A link that leaves no Ray."""

    def _leave(self) -> None:
        """There is none."""


class Unseen(Unwatched):
    """One that is not watched either."""

    def _leave(self) -> None:
        """There is none."""


def gone(link: Link) -> bool:
    """Wait until it notices."""
    ended = threading.Event()
    link.when_gone(ended.set)
    return ended.wait(WITHIN_S)


def test_a_link_notifies_whoever_joined_that_its_cluster_has_gone_and_those_that_ask_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supervisor.client.link._LOOK_EVERY_S", 0.01)
    notified: list[str] = []
    place = LOOPBACK, own_port()  # nobody else gets it once the server is gone
    address = "{}:{}".format(*place)
    with socket.create_server(place):
        link, others = Left(address, ours=True), Left(address, ours=False)
        stays, leaves = (lambda: notified.append("stays")), (lambda: notified.append("leaves"))
        link.when_gone(stays)
        link.when_gone(leaves)
        link.forget(leaves)
        others.when_gone(lambda: notified.append("of a connection that the program made"))
    assert gone(link)
    link.when_gone(lambda: notified.append("late"))
    with pytest.raises(ClusterGone, match=r"has ended\. This handle finds the supervisor when it runs again"):
        link.begin("fx", "book")
    while others.usable:
        threading.Event().wait(0.01)
    with pytest.raises(ClusterGone, match=r"has ended\. Connect again once the supervisor runs"):
        others.begin("fx", "book")
    assert notified == ["stays", "late"]


class Found:
    """Stands in for joining a cluster: refuses as often as it is asked to."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.places: list[Place] = []
        self.link = Unseen("127.0.0.1:2", ours=True)
        port: Any = None
        self.blocking, self.awaiting = BlockingPort(port, self.link), AwaitingPort(port, self.link)
        self.done = threading.Event()

    def open(self, place: Place, remedy: str, timeout_s: float, again: Connection) -> Connection:
        self.places.append(place)
        if self.refusals:
            self.refusals -= 1
            raise NotRunning("it does not answer yet", remedy)
        self.link.join()
        try:
            again.take(place, self.link, self.blocking, self.awaiting)
        finally:
            self.done.set()
        return again


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setattr("supervisor.client.connection._LOOK_EVERY_S", 0.01)
    path = tmp_path / "accounts.yaml"
    path.write_text("accounts: [{name: fx, broker: paper, instruments: [EURUSD]}]\n")
    ended = RunFile("127.0.0.1:1", "token", "test", 2**22 - 1, detached=False)
    asked = Asked(str(path), None, None, 5.0, "momentum")
    place = Place(Address("127.0.0.1:1", "token"), "test", "a test", ended, load_place(path), asked, "momentum")
    link, port = Unseen("127.0.0.1:1", ours=True), None
    made = Connection(place, link, BlockingPort(port, link), AwaitingPort(port, link))  # type: ignore[arg-type]
    made.permissions["fx/EURUSD"] = (0.0, None)  # type: ignore[assignment]  # an answer of the supervisor that ended
    return made


@pytest.mark.parametrize("refusals", [0, 2])
def test_a_handle_takes_the_next_start_that_its_run_file_names(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    found, before = Found(refusals), connection.blocking
    monkeypatch.setattr("supervisor.client.connection._open", found.open)
    assert connection.place.configuration is not None
    run_file.write(connection.place.configuration, connection.place.run or NOW)
    connection.renew()
    assert not found.done.wait(0.1), "the process that it names has ended"
    assert connection.blocking is before
    run_file.write(connection.place.configuration, NOW)
    assert found.done.wait(WITHIN_S)
    assert (connection.blocking, connection.awaiting) == (found.blocking, found.awaiting)
    assert (connection.place.cluster.gcs, connection.place.strategy) == ("127.0.0.1:2", "momentum")
    assert connection.permissions == {}, "nobody is allowed to trade by what the last one said"
    assert len(found.places) == refusals + 1


def test_a_closed_handle_looks_no_more_and_gives_back_what_it_finds_meanwhile(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Found()
    monkeypatch.setattr("supervisor.client.connection._open", found.open)
    connection.renew()
    connection.close()
    assert connection.place.configuration is not None
    run_file.write(connection.place.configuration, NOW)
    assert not found.done.wait(0.1)
    with pytest.raises(NotConnected, match="this handle was closed"):
        connection.take(connection.place, found.link, found.blocking, found.awaiting)
    with pytest.raises(NotConnected, match="this handle was closed"):
        _ = connection.blocking
