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
from actors.book.unreadable import UNUSABLE, UnreadableRecord, flag_of, rows_of, text_of
from actors.events import Event, EventType, Record, Severity, from_iso
from actors.journal.store import Journal, LightRow
from actors.journal.types import JournalCorrupt
from actors.names import split_name
from brokers.frozen import dataclass
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
        rows += [break_row(account, symbol, one, work, now) for one, work in _standing(stream, found)]
    return rows


@dataclass(frozen=True, slots=True)
class _Found:
    """A break as a row has it: not decoded yet."""

    row: LightRow
    severity: str
    payload: dict[str, Any]

    def decoded(self) -> Break:
        return break_from(self.payload, Severity(self.severity))


_Place = tuple[str, str]


def _standing(stream: str, rows: Sequence[LightRow]) -> Iterator[tuple[Break, BreakWork]]:
    """The breaks open after these records of one stream, with the work on them: the same as a book's, but only the
    records of those still open at the end are decoded in full."""
    standing: dict[_Place, _Found] = {}
    work: dict[str, BreakWork] = {}
    for row in rows:
        try:
            _take(row, orjson.loads(row.payload), standing, work)
        except UNUSABLE as error:
            raise _unreadable(stream, row, error) from error
    for one in standing.values():
        try:
            found = one.decoded()
        except UNUSABLE as error:
            raise _unreadable(stream, one.row, error) from error
        yield found, work.get(found.id, UNTOUCHED)


def _take(row: LightRow, payload: dict[str, Any], standing: dict[_Place, _Found], work: dict[str, BreakWork]) -> None:
    if row.type == _CHECKPOINT:
        standing.clear()
        work.clear()
        for severity, one in rows_of(payload.get("breaks", [])):
            standing[(one["type"], one["key"])] = _Found(row, severity, one)
        for break_id, one in payload.get("work", {}).items():
            work[break_id] = work_from(one)
    elif row.type in _WORK:
        own_id = text_of(payload["id"])
        if any(one.payload["id"] == own_id for one in standing.values()):
            event = Event("", EventType(row.type), Severity(row.severity), from_iso(row.time), payload)
            work[own_id] = folded(work.get(own_id, UNTOUCHED), event)
    else:
        place = (text_of(payload["type"]), text_of(payload["key"]))
        old = standing.pop(place, None)
        if flag_of(payload["resolved"]):
            if old is not None:
                work.pop(old.payload["id"], None)
            return
        new = standing[place] = _Found(row, row.severity, payload)
        done = work.get(payload["id"])
        if done is not None and old is not None:
            work[payload["id"]] = after_change(done, old.decoded(), new.decoded())


def _unreadable(stream: str, row: LightRow, error: BaseException) -> UnreadableRecord:
    return UnreadableRecord.at(f"record {row.seq}, a {row.type} of {stream}", error)


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
    if history and _opened_at(history[0]) >= first.event.time:
        return None
    named = next((str(one.event.payload["id"]) for one in history if "id" in one.event.payload), break_id)
    which = named if len(named) == _WHOLE_ID else "and its whole id"
    return (
        f"records 1 to {first.seq - 1} were archived, and their part of it is not shown: `audit verify` names the "
        f"archive, and `audit query --journal FILE --discrepancy-id {which}` reads it"
    )


def _opened_at(record: Record) -> datetime:
    try:
        return from_iso(text_of(record.event.payload.get("opened_at", _LONG_AGO)))
    except UNUSABLE as error:
        raise UnreadableRecord.of(record, error) from error


def _newest(journal: Journal, begins: str) -> str:
    for record in journal.records(types=_OF_BREAKS, order="newest", limit=_NEWEST):
        named = str(record.event.payload.get("id"))
        if named.startswith(begins):
            return named
    return begins
