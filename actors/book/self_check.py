"""Does the book in memory equal a replay of its journal? Pure: records and a book's document in, differences out.

The laws of this module: the journal is right; a checkpoint is a claim about the events before it, and is checked as
one, because a book that was wrong in memory would have written itself into the next checkpoint; anything that cannot be
compared is reported as skipped, never as equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import orjson

from actors.book import payloads
from actors.book.book import Book
from actors.book.checkpoint import begin, checkpoint, follow
from actors.book.discrepancies import Break, Correction, DiscrepancyType, Phase
from actors.book.unreadable import UNUSABLE, UnreadableRecord
from actors.events import Event, EventType, Json, Record, Severity, event_id
from brokers.frozen import dataclass
from brokers.versions import across_versions

FIELDS_AT_MOST = 20
LONGEST_VALUE = 200
_NAMES = ("key", "leg")
"""The keys that distinguish the rows of a document; orders have both."""


@across_versions
@dataclass(frozen=True, slots=True)
class FieldDiffers:
    """One value of a book: what it was in memory (or in a checkpoint), and what the journal gives."""

    field: str
    book: str
    journal: str


@across_versions
@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The result of a comparison at ``version``. ``skipped`` is the reason if there was none."""

    stream: str
    version: int
    differences: tuple[FieldDiffers, ...] = ()
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Folded:
    """The book that records give. ``proven`` is the version of the last checkpoint that was found right, 0 if there is
    none; ``wrong`` are the differences of the last checkpoint: an earlier wrong one has been repaired since."""

    book: Book
    proven: int = 0
    wrong: tuple[FieldDiffers, ...] = ()


def fold(account: str, instrument: str, records: Sequence[Record], up_to: int | None = None) -> Folded | None:
    """The book of a stream at version ``up_to`` (its end for ``None``), starting at the first of these records that is
    a checkpoint or the stream's first. ``None`` if that version cannot be reached from there. Raises
    :class:`UnreadableRecord`."""
    start = next((place for place, record in enumerate(records) if _begins(record)), len(records))
    book = Book(account, instrument)
    proven = 0
    wrong: tuple[FieldDiffers, ...] = ()
    for place, record in enumerate(records[start:]):
        if up_to is not None and record.version > up_to:
            break
        if record.event.type is EventType.CHECKPOINT and place == 0:
            begin(book, record)
            continue
        if record.event.type is EventType.CHECKPOINT:
            wrong = _wrong(record, book)
            proven = proven if wrong else record.version
        follow(book, record)
        if book.version != record.version:
            return None
    last = records[-1].version if records else 0
    return Folded(book, proven, wrong) if book.version == (last if up_to is None else up_to) else None


def _begins(record: Record) -> bool:
    return record.version == 1 or record.event.type is EventType.CHECKPOINT


def _wrong(record: Record, book: Book) -> tuple[FieldDiffers, ...]:
    """What a checkpoint says otherwise than the events before it. Raises :class:`UnreadableRecord`."""
    payload = record.event.payload
    try:
        return differences(payload, _with_the_keys_of(payload, checkpoint(book)))
    except UNUSABLE as error:
        raise UnreadableRecord.of(record, error) from error


def _with_the_keys_of(recorded: Mapping[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """The document without the keys that a checkpoint of an earlier version of this program lacks."""
    kept = {key: value for key, value in made.items() if key in recorded}
    known = {row["key"]: row for row in recorded.get("orders", ())}
    kept["orders"] = [
        {key: value for key, value in row.items() if key in known.get(row["key"], row)} for row in made["orders"]
    ]
    return kept


def differences(held: Mapping[str, Any], made: Mapping[str, Any]) -> tuple[FieldDiffers, ...]:
    """The first :data:`FIELDS_AT_MOST` differences between two documents of a book."""
    if held == made:
        return ()
    return tuple(islice(_walk("", held, made), FIELDS_AT_MOST))


def _walk(field: str, held: Any, made: Any) -> Iterator[FieldDiffers]:
    if held == made:
        return
    held_rows, made_rows = _rows(held), _rows(made)
    if held_rows is None or made_rows is None:
        yield FieldDiffers(field, *_only(held, made))
        return
    before = f"{field}." if field else ""
    for name in dict.fromkeys([*held_rows, *made_rows]):
        yield from _walk(f"{before}{name}", held_rows.get(name), made_rows.get(name))
    if list(held_rows) != list(made_rows) and held_rows == made_rows:
        yield FieldDiffers(f"{before}order", _text(list(held_rows)), _text(list(made_rows)))


def _rows(value: Any) -> Mapping[str, Any] | None:
    """The parts of a value by name; ``None`` if it has no named parts."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        names = [next((str(row[name]) for name in _NAMES if name in row), "") for row in value]
        return dict(zip(names, value, strict=True)) if len(set(names)) == len(names) else None
    return None


def _only(held: Any, made: Any) -> tuple[str, str]:
    """Both values as text; for two lists only the items that the other one lacks, if there are any."""
    if isinstance(held, list) and isinstance(made, list):
        in_held, in_made = ({_text(one) for one in of} for of in (held, made))
        if in_held != in_made:
            return _text([one for one in held if _text(one) not in in_made]), _text(
                [one for one in made if _text(one) not in in_held]
            )
    return _text(held), _text(made)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def event_of(book: Book, found: SelfCheck, now: datetime) -> Event:
    """The CRITICAL event for the journal: a break that the reload resolves. ``book`` is the rebuilt one."""
    identity = event_id(book.stream, str(book.version + 1), DiscrepancyType.BOOK_MISMATCH, str(found.version))
    it = Break(
        id=identity,
        type=DiscrepancyType.BOOK_MISMATCH,
        key="book",
        severity=Severity.CRITICAL,
        phase=Phase.SELF_CHECK,
        cause=None,
        book_value=", ".join(f"{one.field} {one.book}" for one in found.differences)[:LONGEST_VALUE],
        broker_value=None,
        difference=None,
        opened_at=now,
    )
    fields: list[Json] = [{"field": one.field, "book": one.book, "journal": one.journal} for one in found.differences]
    payload = payloads.break_to(it, resolved=True, correction=Correction.RELOAD_BOOK)
    payload |= {"fields": fields, "checked_version": found.version}
    return Event(identity, EventType.RECONCILIATION_DISCREPANCY, Severity.CRITICAL, now, payload)
