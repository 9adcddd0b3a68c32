"""What the tests of the journal have in common: events, and a file that somebody else touches."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from actors.events import Event, EventType, Payload, Record, Severity, event_id
from actors.journal.store import Journal
from actors.journal.types import Append, Verification

START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)


def an_event(name: str, *, kind: EventType = EventType.ORDER_FILLED, payload: Payload | None = None) -> Event:
    number = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16)
    return Event(
        event_id("test", name),
        kind,
        Severity.INFO,
        START + timedelta(seconds=number),
        payload if payload is not None else {"fill_id": name, "price": "191.20", "tags": ["ü", None, {"deep": True}]},
    )


def events(*names: str) -> tuple[Event, ...]:
    return tuple(an_event(name) for name in names)


def url_of(directory: Path) -> str:
    return f"sqlite:///{directory}/journal.db"


def change(directory: Path, statement: str, *values: object) -> None:
    """What somebody does to the file behind the journal's back."""
    with sqlite3.connect(directory / "journal.db") as connection:
        connection.execute(statement, values)
    connection.close()


def ids(records: Iterable[Record]) -> list[str]:
    return [record.event.event_id for record in records]


def ids_of_names(*names: str) -> list[str]:
    return [event_id("test", name) for name in names]


def write_five(directory: Path) -> None:
    """A closed journal of five records: fx/A has versions 1 to 3, fx/B 1 and 2."""
    journal = Journal.open(url_of(directory), exclusive=True)
    journal.append([Append("fx/A", 0, events("1", "2")), Append("fx/B", 0, events("3"))])
    journal.append([Append("fx/B", 1, events("4")), Append("fx/A", 2, events("5"))])
    journal.close()


ROOT = Path(__file__).parents[2]


def child_environment() -> dict[str, str]:
    """For a Python process of a test's own that imports this module by its bare name."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}


def verified(directory: Path) -> Verification:
    journal = Journal.open(url_of(directory), read_only=True)
    try:
        return journal.verify()
    finally:
        journal.close()
