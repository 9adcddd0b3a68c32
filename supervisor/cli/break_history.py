"""Breaks from the journal alone: the open ones, without a supervisor, and the history of one.

The law of this module: it lists as open exactly what a replay of the books holds open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from actors.book.break_work import UNTOUCHED, WORK_EVENTS, BreakWork, after_change, folded, work_from
from actors.book.discrepancies import Break
from actors.book.payloads import break_from
from actors.events import Event, EventType, Record, Severity, from_iso
from actors.journal.store import Journal, LightRow
from actors.journal.types import JournalCorrupt
from actors.names import split_name
from supervisor.presentation.breaks import break_row, urgency

_OF_BREAKS = (EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED, *sorted(WORK_EVENTS))
_WORK = frozenset(kind.value for kind in WORK_EVENTS)
_CHECKPOINT = EventType.CHECKPOINT.value
_NEWEST = 20_000
_WHOLE_ID = 32
_LONG_AGO = "1970-01-01T00:00:00.000000Z"


class HasJournal(Protocol):
    """A configuration, or whatever else says where a journal is."""

    @property
    def journal_url(self) -> str:
        """The journal, as SQLAlchemy takes it."""

    @property
    def beside_journal(self) -> Path:
        """The path of which the files beside it are named."""


def open_in_journal(configuration: HasJournal) -> list[dict[str, Any]]:
    """The open breaks of every book in the journal and of the accounts, the most urgent first. Raises ``JournalError``,
    also for a journal that is not intact: an empty list of it would prove nothing."""
    journal = Journal.open(configuration.journal_url, read_only=True, beside=configuration.beside_journal)
    try:
        doubt = journal.doubt()
        if doubt is not None:
            attempted = f"list the breaks in the journal {configuration.journal_url.removeprefix('sqlite:///')}"
            raise JournalCorrupt(attempted, doubt, "Keep the files as they are, run `audit verify`, and restore a copy")
        return sorted(open_breaks(journal), key=urgency)
    finally:
        journal.close()


def open_breaks(journal: Journal) -> list[dict[str, Any]]:
    """One row an open break. Raises ``JournalError``."""
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for stream, found in journal.since_checkpoints(_OF_BREAKS):
        account, symbol = split_name(stream)
        rows += [break_row(account, symbol, one, work, now) for one, work in _standing(found)]
    return rows


def _standing(rows: Sequence[LightRow]) -> Iterator[tuple[Break, BreakWork]]:
    """The breaks open after these records of one stream, with the work on them: the same as a book's, but only the
    records of those still open at the end are decoded in full."""
    standing: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    work: dict[str, BreakWork] = {}
    for row in rows:
        payload = orjson.loads(row.payload)
        if row.type == _CHECKPOINT:
            standing = {(one["type"], one["key"]): (severity, one) for severity, one in payload.get("breaks", ())}
            work = {break_id: work_from(one) for break_id, one in payload.get("work", {}).items()}
        elif row.type in _WORK:
            if any(one["id"] == payload["id"] for _, one in standing.values()):
                event = Event("", EventType(row.type), Severity(row.severity), from_iso(row.time), payload)
                work[payload["id"]] = folded(work.get(payload["id"], UNTOUCHED), event)
        else:
            place = (payload["type"], payload["key"])
            old = standing.pop(place, None)
            if payload["resolved"]:
                if old is not None:
                    work.pop(old[1]["id"], None)
                continue
            standing[place] = (row.severity, payload)
            done = work.get(payload["id"])
            if done is not None and old is not None:
                work[payload["id"]] = after_change(done, _break(*old), _break(row.severity, payload))
    for severity, one in standing.values():
        yield _break(severity, one), work.get(one["id"], UNTOUCHED)


def _break(severity: str, payload: dict[str, Any]) -> Break:
    return break_from(payload, Severity(severity))


def history_of(
    configuration: HasJournal, break_id: str, stream: str | None = None, since: datetime | None = None
) -> list[Record]:
    """Every record that names a break, oldest first; with a partial id, of the newest break whose id begins so. With
    its ``stream`` and ``since`` (known while it is open) only a part of the journal is read."""
    journal = Journal.open(configuration.journal_url, read_only=True, beside=configuration.beside_journal)
    try:
        whole = break_id if len(break_id) == _WHOLE_ID else _newest(journal, break_id)
        return list(journal.records(stream=stream, since=since, discrepancy_id=whole, order="oldest", limit=_NEWEST))
    finally:
        journal.close()


def archived(configuration: HasJournal, break_id: str, history: Sequence[Record]) -> str | None:
    """A sentence about archived records, where some of them may name this history's break too; else ``None``."""
    journal = Journal.open(configuration.journal_url, read_only=True, beside=configuration.beside_journal)
    try:
        first = next(journal.records(limit=1), None)
    finally:
        journal.close()
    if first is None or first.seq == 1:
        return None
    if history and from_iso(str(history[0].event.payload.get("opened_at", _LONG_AGO))) >= first.event.time:
        return None
    named = next((str(one.event.payload["id"]) for one in history if "id" in one.event.payload), break_id)
    which = named if len(named) == _WHOLE_ID else "and its whole id"
    return (
        f"records 1 to {first.seq - 1} were archived, and their part of it is not shown: `audit verify` names the "
        f"archive, and `audit query --journal FILE --discrepancy-id {which}` reads it"
    )


def _newest(journal: Journal, begins: str) -> str:
    for record in journal.records(types=_OF_BREAKS, order="newest", limit=_NEWEST):
        named = str(record.event.payload["id"])
        if named.startswith(begins):
            return named
    return begins
