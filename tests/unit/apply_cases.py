"""A supervisor with everybody it supervises, in one process and in virtual time, and what changes it at run time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from actors.events import EventType
from actors.journal.store import Journal
from supervisor.changes import parsing
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import Change, SetInterval
from supervisor.changes.transaction import Changed
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.supervision.actor import SUPERVISOR
from tests.unit.fakes import FakeBroker
from tests.unit.hall import TWO_ACCOUNTS, Hall, states

PAPER = parsing.account_from({"name": "p", "broker": "paper", "instruments": ["EURUSD"]})
CHF = parsing.instrument_from("fx", "USD_CHF", {})
QUICKER = SetInterval("fx", "EUR_USD", 2.0)


class _Brokers(dict[str, FakeBroker]):
    """A broker for whichever account is added."""

    def __init__(self, hall: Hall) -> None:
        super().__init__(hall.brokers)
        self._hall = hall

    def __missing__(self, name: str) -> FakeBroker:
        return self.setdefault(name, FakeBroker(self._hall.clock))


@asynccontextmanager
async def a_hall(directory: Path, accounts: str = TWO_ACCOUNTS) -> AsyncIterator[Hall]:
    hall = Hall(directory, accounts)
    hall.brokers = _Brokers(hall)
    try:
        await hall.up()
        yield hall
    finally:
        await hall.supervisor.stop()


async def make(hall: Hall, change: Change, *, force: bool = False) -> Changed:
    """Make a change, and wait for the actors."""
    result = await hall.supervisor.change(change, "tests", force)
    settled = await hall.supervisor.settled(result.effects.names, 60)
    assert {state for state, _ in settled.values()} <= {"SETTLED"}, settled
    return result


async def crash(hall: Hall, run: Run | None = None) -> None:
    """The supervisor dies, and comes back as it was first made; or, with a run, is started anew."""
    await hall.cluster.kill(SUPERVISOR)
    hall.new_supervisor(Run() if run is None else run)
    await hall.until(lambda s: set(states(s).values()) == {"UP"}, "everybody is up")
    await hall.until(lambda s: s["status"] == "SUCCESS", "everything is in step")


def names(hall: Hall) -> set[str]:
    return set(hall.runtime.names()) - {SUPERVISOR}


def actors(hall: Hall) -> dict[str, Any]:
    return {name: hall.actor(name) for name in names(hall)}


def changes(hall: Hall) -> list[dict[str, Any]]:
    """What the journal has of changes, oldest first."""
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        assert journal.verify().ok
        found = journal.records(stream=SUPERVISOR, types=(EventType.CONFIGURATION_CHANGED,))
        return [dict(record.event.payload) for record in found if "changes" in record.event.payload]
    finally:
        journal.close()


def other(hall: Hall, accounts: str, name: str = "b.yaml", head: str = "") -> Configuration:
    """The configuration that runs with other accounts."""
    text = (hall.configuration.state_dir / "accounts.yaml").read_text()
    path = hall.configuration.state_dir / name
    path.write_text(head + text.partition("accounts:")[0] + f"accounts: {accounts}")
    return load(path)
