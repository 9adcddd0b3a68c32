"""Breaks by the journal alone: those that are open, without a supervisor, and what became of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from actors.book.break_work import UNTOUCHED, WORK_EVENTS, BreakWork, folded
from actors.book.checkpoint import replay
from actors.book.discrepancies import Break
from actors.book.payloads import break_from
from actors.events import EventType, Record
from actors.journal.store import Journal
from actors.names import split_name
from supervisor.config.models import Configuration
from supervisor.presentation.breaks import break_row, urgency

_OF_BREAKS = (EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED, *sorted(WORK_EVENTS))
_NEWEST = 20_000
_OF_AN_ACCOUNT = 1_000


def open_in_journal(configuration: Configuration) -> list[dict[str, Any]]:
    """The open breaks of every book in the journal and of the accounts, what needs a person most first. Raises
    ``JournalError``."""
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        return sorted(open_breaks(journal), key=urgency)
    finally:
        journal.close()


def open_breaks(journal: Journal) -> list[dict[str, Any]]:
    """A row an open break. Raises ``JournalError``."""
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for stream in journal.streams():
        account, symbol = split_name(stream)
        if symbol:
            book = replay(account, symbol, journal.load(stream).records)
            rows += [break_row(account, symbol, one, book.work.get(one.id), now) for one in book.breaks.values()]
        else:
            rows += [break_row(account, "", one, work, now) for one, work in _of_account(journal, stream)]
    return rows


def _of_account(journal: Journal, stream: str) -> list[tuple[Break, BreakWork]]:
    """The newest of an account's own breaks that no record ends."""
    newest = journal.records(stream=stream, types=_OF_BREAKS, order="newest", limit=_OF_AN_ACCOUNT)
    found: dict[str, Break] = {}
    work: dict[str, BreakWork] = {}
    for record in reversed(list(newest)):
        event, break_id = record.event, str(record.event.payload["id"])
        if event.type in WORK_EVENTS:
            work[break_id] = folded(work.get(break_id, UNTOUCHED), event)
        elif event.payload["resolved"]:
            found.pop(break_id, None)
            work.pop(break_id, None)
        else:
            found[break_id] = break_from(event.payload, event.severity)
    return [(one, work.get(break_id, UNTOUCHED)) for break_id, one in found.items()]


def history_of(configuration: Configuration, break_id: str) -> list[Record]:
    """Every record that names a break, oldest first; of the newest break whose id begins so, where it is not whole."""
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        whole = break_id
        for record in journal.records(types=_OF_BREAKS, order="newest", limit=_NEWEST):
            named = str(record.event.payload["id"])
            if named.startswith(break_id):
                whole = named
                break
        return list(journal.records(discrepancy_id=whole, order="oldest", limit=_NEWEST))
    finally:
        journal.close()
