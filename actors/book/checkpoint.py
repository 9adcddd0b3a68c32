"""A book as one JSON document: what a CHECKPOINT event holds, and what a replay must reproduce to the digit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from actors.book import payloads
from actors.book.book import Book, UnsyncedFills
from actors.book.break_work import work_from, work_to
from actors.book.unreadable import (
    UNUSABLE,
    UnreadableRecord,
    count_of,
    rows_of,
    text_of,
    text_or_none,
    texts_of,
)
from actors.events import (
    Event,
    EventType,
    Json,
    Record,
    Severity,
    broker_time_from_iso,
    event_id,
    from_iso,
    to_iso,
    to_text,
)


def checkpoint(book: Book) -> dict[str, Json]:
    """The whole state of a book."""
    document: dict[str, Json] = {
        "legs": [payloads.leg_to(leg) for leg in book.legs.values()],
        "orders": [payloads.order_to(order) for order in book.orders.values()],
        "applied": list(book.applied),
        "uncounted": list(book.uncounted),
        "breaks": [
            [found.severity.value, payloads.break_to(found, resolved=False, correction=None)]
            for found in book.breaks.values()
        ],
        "watermarks": {leg: to_iso(at) for leg, at in book.watermarks.items()},
        "believed": dict(book.believed),
        "position_reports": book.position_reports,
        "activity": {leg: to_iso(at) for leg, at in book.activity.items()},
        "last_local_at": None if book.last_local_at is None else to_iso(book.last_local_at),
        "baseline": None if book.baseline is None else to_iso(book.baseline),
        "floor": None if book.floor is None else to_iso(book.floor),
        "known_at": {leg: to_iso(at) for leg, at in book.known_at.items()},
        "orphans": {
            order: [to_text(quantity), to_text(notional)] for order, (quantity, notional) in book.orphans.items()
        },
        "reported": [payloads.reported_to(reported) for reported in book.reported.values()],
        "names": book.names(),
        "without_commission": [[fill_id, strategy] for fill_id, strategy in book.without_commission.items()],
        "cursor": book.cursor,
        "reconciled_at": None if book.reconciled_at is None else to_iso(book.reconciled_at),
    }
    if book.contract is not None:
        document["contract"] = payloads.contract_to(book.contract)
    if book.opened_by:
        document["opened_by"] = dict(book.opened_by)
    if book.unsynced:
        document["told"] = {
            leg: [to_iso(fills.at), to_text(fills.low), to_text(fills.high)] for leg, fills in book.unsynced.items()
        }
    if book.claimed:
        document["claimed"] = {leg: to_iso(at) for leg, at in book.claimed.items()}
    if book.work:
        document["work"] = {break_id: work_to(work) for break_id, work in book.work.items()}
    if book.halts_due:
        document["halts_due"] = dict(book.halts_due)
    return document


def restore(book: Book, data: Mapping[str, Any], version: int) -> None:
    """Fill an empty book with the state that :func:`checkpoint` wrote. Raises one of :data:`UNUSABLE` for anything
    else."""
    book.version = version
    book.legs = {leg.name: leg for leg in map(payloads.leg_from, rows_of(data["legs"]))}
    for order in map(payloads.order_from, rows_of(data["orders"])):
        book.put(order)
    book.rename(data.get("names", {}))
    book.applied = dict.fromkeys(texts_of(data["applied"]))
    book.uncounted = dict.fromkeys(texts_of(data.get("uncounted", [])))
    for reported in map(payloads.reported_from, rows_of(data.get("reported", []))):
        book.reported[reported.fill.key] = reported
    for severity, found in rows_of(data["breaks"]):
        restored = payloads.break_from(found, Severity(severity))
        book.breaks[(restored.type, restored.key)] = restored
    book.watermarks = {leg: broker_time_from_iso(at) for leg, at in data["watermarks"].items()}
    book.believed = {leg: count_of(number) for leg, number in data.get("believed", {}).items()}
    book.position_reports = count_of(data.get("position_reports", 0))
    book.activity = {leg: from_iso(at) for leg, at in data["activity"].items()}
    book.last_local_at = None if data["last_local_at"] is None else from_iso(data["last_local_at"])
    book.baseline = None if data["baseline"] is None else broker_time_from_iso(data["baseline"])
    book.floor = None if data["floor"] is None else broker_time_from_iso(data["floor"])
    book.known_at = {leg: from_iso(at) for leg, at in data.get("known_at", {}).items()}
    book.opened_by = {name: text_of(key) for name, key in data.get("opened_by", {}).items()}
    book.unsynced = {
        leg: UnsyncedFills(from_iso(of[0]), Decimal(of[1]), Decimal(of[2])) for leg, of in data.get("told", {}).items()
    }
    book.orphans = {order: (Decimal(of[0]), Decimal(of[1])) for order, of in data["orphans"].items()}
    fills = rows_of(data.get("without_commission", []))
    book.without_commission = {text_of(fill_id): text_or_none(strategy) for fill_id, strategy in fills}
    book.contract = None if data.get("contract") is None else payloads.contract_from(data["contract"])
    book.claimed = {leg: from_iso(at) for leg, at in data.get("claimed", {}).items()}
    book.work = {break_id: work_from(work) for break_id, work in data.get("work", {}).items()}
    book.halts_due = {name: text_of(words) for name, words in data.get("halts_due", {}).items()}
    book.cursor = None if data["cursor"] is None else count_of(data["cursor"])
    book.reconciled_at = None if data["reconciled_at"] is None else from_iso(data["reconciled_at"])


def checkpoint_event(book: Book, now: datetime) -> Event:
    """The CHECKPOINT that follows the book's last event."""
    identity = event_id(book.stream, str(book.version + 1), EventType.CHECKPOINT)
    return Event(identity, EventType.CHECKPOINT, Severity.INFO, now, checkpoint(book))


def replay(account: str, instrument: str, records: Iterable[Record]) -> Book:
    """The book that results from an instrument's records, from the first one or from the checkpoint they start with.
    Raises :class:`UnreadableRecord`."""
    book = Book(account, instrument)
    for place, record in enumerate(records):
        if place == 0 and record.event.type is EventType.CHECKPOINT:
            begin(book, record)
        else:
            follow(book, record)
    return book


def begin(book: Book, record: Record) -> None:
    """Fill an empty book from a CHECKPOINT in the journal. Raises :class:`UnreadableRecord`."""
    try:
        restore(book, record.event.payload, record.version)
    except UNUSABLE as error:
        raise UnreadableRecord.of(record, error) from error


def follow(book: Book, record: Record) -> None:
    """Fold the next record of its stream into a book. Raises :class:`UnreadableRecord`; the book is then of no use."""
    try:
        book.apply(record.event)
    except UNUSABLE as error:
        raise UnreadableRecord.of(record, error) from error
