"""Which supervisor a handle is of, in which process: another namespace, a forked child, another user, a file."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import supervisor
from actors.book.trading_permission import Obstacle, Permission, Reason
from actors.events import EventType
from actors.journal.store import Journal
from actors.runtime.ports import ActorUnavailable
from actors.runtime.ray_environment import Address
from brokers.model import Conventions, CostBasis, LegScheme
from supervisor.cli.console import explain
from supervisor.client import run_file
from supervisor.client.aio import AsyncHandle
from supervisor.client.blocking import Handle, Instrument
from supervisor.client.calls import AwaitingPort, BlockingPort
from supervisor.client.connection import Asked, Connection, Place, open_connection
from supervisor.client.instrument import AsyncVenue, Named
from supervisor.client.processes import find
from supervisor.client.run_file import RunFile
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.errors import HandleError, NotConnected, NotRunning
from tests.unit.builders import at
from tests.unit.hall import Hall, a_hall
from tests.unit.handle_cases import FILL, LINK
from tests.unit.virtual_time import virtual_time

HALTED = {"scope": "account fx", "reason": None, "since": "2026-01-05T00:00:00Z"}
ASKED = Asked("/somewhere/accounts.yaml", None, None, 5.0, "momentum")


class OneStatus:
    """A cluster in which the supervisor answers with one status, or not at all."""

    def __init__(self, *halts: dict[str, Any], away: bool = False) -> None:
        self._halts = halts
        self._away = away

    def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        if self._away:
            raise ActorUnavailable(actor, method, "it died")
        if method == "trading_allowed":
            halts = [Reason(Obstacle.HALTED, f"{one['scope']} halted") for one in self._halts]
            stale = Reason(Obstacle.OPEN_BREAK, "a break is open")
            return Permission("fx", "EUR_USD", (*halts, stale), at(0), None)
        return {"accounts": [{"instruments": [{"health": {"halted": list(self._halts)}}]}]}


def _connection(
    client: OneStatus | None = None, asked: Asked | None = ASKED, strategy: str | None = None
) -> Connection:
    place = Place(Address("nowhere:1", None), "test", "a test", asked=asked, strategy=strategy)
    port = BlockingPort(client or OneStatus())  # type: ignore[arg-type] # it only calls
    return Connection(place, LINK, port, port)  # type: ignore[arg-type] # nothing is awaited here


def _of_hall(hall: Hall, strategy: str | None) -> AsyncHandle:
    port = AwaitingPort(hall.runtime, LINK)
    connection = _connection(strategy=strategy)
    return AsyncHandle(connection, lambda: port)


@pytest.fixture
def running(tmp_path: Path) -> Configuration:
    """The configuration of a supervisor whose run file names another namespace than ``other``."""
    path = tmp_path / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\n"
        "accounts: [{name: desk, broker: paper, instruments: [EURUSD]}]\n"
    )
    configuration = load(path)
    run_file.write(configuration, RunFile("127.0.0.1:1", "token", "mine", os.getpid(), False))
    return configuration


def test_a_namespace_that_the_configurations_supervisor_is_not_in_is_refused(running: Configuration) -> None:
    path = running.state_dir / "accounts.yaml"

    with pytest.raises(NotRunning, match=r"in namespace mine, but namespace other was requested\. Leave namespace out"):
        supervisor.connect(path, namespace="other")
    with pytest.raises(NotRunning, match="which does not answer"):
        supervisor.connect(path, namespace="mine")


def _in_a_fork(work: Callable[[], object]) -> str:
    """What it says in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(work())
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent learns of it
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        words = answer.read()
    os.waitpid(child, 0)
    return words


@pytest.mark.parametrize("ask", [Handle.status, Handle.halt, Handle.stop, lambda sup: sup.instrument("fx", "EUR_USD")])
def test_a_forked_child_learns_what_to_do_instead(ask: Callable[[Handle], object]) -> None:
    sup = Handle(_connection())

    said = _in_a_fork(lambda: ask(sup))

    assert said.startswith(f"NotConnected: this process was forked from process {os.getpid()}")
    assert "spawn" in said
    assert _in_a_fork(sup.close) == "None"


def test_a_handle_is_sent_as_what_was_asked_for() -> None:
    made = _connection()

    assert made.__reduce__() == (open_connection, ("/somewhere/accounts.yaml", None, None, 5.0, "momentum"))
    assert Handle(made).__reduce__() == (Handle, (made,))


@pytest.mark.parametrize(
    "one",
    [
        Handle(_connection()).aio,
        AsyncVenue("desk", lambda: BlockingPort(OneStatus())),  # type: ignore[arg-type] # it is not called
        _connection(asked=None),
    ],
    ids=["aio", "venue", "one that was not opened"],
)
@pytest.mark.parametrize("send", [pickle.dumps, copy.copy])
def test_what_cannot_be_sent_says_what_can(one: object, send: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="another process"):
        send(one)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (OneStatus(), "connected>"),
        (OneStatus(HALTED), "connected, trading halted: account fx>"),
        (OneStatus(away=True), "connected, which does not answer>"),
    ],
)
def test_a_handle_shows_what_is_halted(client: OneStatus, words: str) -> None:
    assert repr(Handle(_connection(client))).endswith(words)


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        (OneStatus(), "<fx/EUR_USD>"),
        (OneStatus(HALTED), "<fx/EUR_USD, account fx halted>"),
        (OneStatus(away=True), "<fx/EUR_USD, which does not answer>"),
    ],
)
def test_an_instrument_of_a_handle_shows_which_halts_apply_to_it(client: OneStatus, shown: str) -> None:
    assert repr(Instrument(Named("fx", "EUR_USD", "fx/EUR_USD", LegScheme.NET), _connection(client))) == shown


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads and writes everything")
def test_a_supervisor_of_another_user_is_said_to_be_that(running: Configuration) -> None:
    run_file.path_of(running).chmod(0)

    with pytest.raises(NotRunning, match=r"belongs to user .*Run this as user"):
        find(running)
    with pytest.raises(NotRunning, match=r"belongs to user .*Run this as user"):
        supervisor.connect(running.state_dir / "accounts.yaml")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotConnected("this handle was closed"), "error: this handle was closed"),
        (HandleError("it was not so"), "error: it was not so"),
        (PermissionError(13, "Permission denied", "/there"), "error: /there: Permission denied."),
    ],
)
def test_nothing_foreseen_ends_as_an_error_of_ours(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(error, verbose=False) == 3
    assert capsys.readouterr().err.startswith(words)


@virtual_time
async def test_what_is_reported_and_asked_says_who_from_which_process_and_for_which_strategy(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].conventions = Conventions(LegScheme.SIDED, CostBasis.FIFO)
        await hall.up()
        sup = _of_hall(hall, "momentum")
        eur = await sup.instrument("fx", "EUR_USD")
        await eur.record_fill(**FILL)  # type: ignore[arg-type] # as a strategy writes it
        await eur.record_position(quantity="3", average_price="1.1", leg="long", strategy="carry")
        await eur.record_order(client_order_id="c1", side="BUY", quantity="1", status="PENDING_SUBMIT")
        await sup.halt("fx", reason="news")
        await sup.pause("fx")

        journal = Journal.open(hall.configuration.journal_url, read_only=True)
        kinds = (
            EventType.FILL_RECORDED,
            EventType.POSITION_RECORDED,
            EventType.ORDER_RECORDED,
            EventType.TRADING_HALTED,
            EventType.OPERATOR_ACTION,
        )
        payloads = {one.event.type: one.event.payload for one in journal.records(types=kinds)}
        journal.close()

    assert payloads.keys() == set(kinds)
    for payload in payloads.values():
        assert "@" in str(payload["by"])
        assert str(payload["process"]).startswith(f"{os.getpid()} ")
    order: Any = payloads[EventType.ORDER_RECORDED]["order"]
    strategies = [payloads[kind]["strategy"] for kind in kinds if kind is not EventType.ORDER_RECORDED]
    assert [order["strategy"], *strategies] == ["momentum", "momentum", "carry", "momentum", "momentum"]
