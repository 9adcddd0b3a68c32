"""Writes position updates of a journal into a Delta table, in a process that nothing waits for.

The laws of this module:

* The journal is read beside its writer, by ``seq``; no cycle waits for anything here.
* Each record is written once: a batch names the place that it continues (see :mod:`actors.delta.once`). A sink that was
  away, killed or overtaken goes on from the place that the table has reached.
* A table that was filled from another journal is refused, and never mixed.
* No filter over the table relies on file statistics of decimals: there are none, since those of ``decimal(38, 18)`` are
  doubles and lose rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import orjson
import pyarrow as pa

from actors.book.book import Book
from actors.book.checkpoint import replay
from actors.delta.once import OnceTable, OvertakenError, Place, Reached
from actors.delta.positions import DIGITS, PLACES, PositionUpdate, cell, updates
from actors.events import EventType, Record
from actors.journal.store import Journal
from actors.names import split_name
from brokers.errors import Refused
from brokers.frozen import dataclass

WRITER: Final = "reconciliation-sink"
BATCH_RECORDS: Final = 20_000
COMPACT_EVERY: Final = timedelta(minutes=15)
VACUUM_EVERY: Final = timedelta(hours=24)

_AMOUNT = pa.decimal128(DIGITS, PLACES)
SCHEMA: Final = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("account", pa.string(), nullable=False),
        pa.field("symbol", pa.string()),
        pa.field("instrument", pa.string(), nullable=False),
        pa.field("leg", pa.string(), nullable=False),
        pa.field("quantity", _AMOUNT),
        pa.field("average_price", _AMOUNT),
        pa.field("exact", pa.string()),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("hash", pa.string(), nullable=False),
    ]
)
"""``symbol`` is ``instrument`` as a partition; the format reads an empty one back as null, so use the column
``instrument``. ``exact`` is null, or JSON with the text of a number that its column cannot hold."""

_PROPERTIES: Final = {"delta.dataSkippingStatsColumns": "seq,time"}


def position_table(uri: str, storage_options: Mapping[str, str] | None = None) -> OnceTable:
    """The table of position updates at ``uri``; it is created at its first use."""
    return OnceTable(
        uri,
        WRITER,
        SCHEMA,
        partition_by=("account", "symbol"),
        properties=_PROPERTIES,
        storage_options=storage_options,
    )


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step. ``more``: the journal has more than one batch, so the next step is due at once."""

    records: int
    rows: int
    seq: int
    more: bool


@dataclass(slots=True)
class _Upkeep:
    compact_at: datetime
    vacuum_at: datetime


@dataclass(slots=True)
class Sink:
    """Writes a journal into a table, batch by batch. The caller makes one step at a time."""

    journal: Journal
    table: OnceTable
    now: Callable[[], datetime]
    batch_records: int = BATCH_RECORDS
    _reached: Reached | None = None
    _read_to: int = 0
    _books: dict[str, Book] = field(default_factory=dict)
    _upkeep: _Upkeep | None = None

    def step(self) -> Step:
        """Write what the journal has after the place that the table has reached, at most one batch.

        Raises ``JournalError`` where the journal does not answer, :class:`brokers.errors.Unreachable` where the store
        does not, and :class:`brokers.errors.Refused` where the table is of another journal. After any of them the next
        step begins anew from the table.
        """
        try:
            return self._step()
        except OvertakenError:
            self._forget()
            return self._step()
        except BaseException:
            self._forget()
            raise

    def keep_up(self) -> None:
        """Compact and vacuum the table where that is due; the first time some while after the start."""
        now = self.now()
        if self._upkeep is None:
            self._upkeep = _Upkeep(now + COMPACT_EVERY, now + 2 * COMPACT_EVERY)
        if now >= self._upkeep.compact_at:
            self._upkeep.compact_at = now + COMPACT_EVERY
            self.table.compact()
        if now >= self._upkeep.vacuum_at:
            self._upkeep.vacuum_at = now + VACUUM_EVERY
            self.table.vacuum()

    def _step(self) -> Step:
        reached = self._reached
        if reached is None:
            reached = self._reached = self.table.reached()
            self._read_to = reached.seq
            self._check_origin(reached)
        records = list(islice(self.journal.records(after_seq=self._read_to), self.batch_records))
        rows = [row for record in records for row in self._fold(record)]
        if records:
            last = Place(records[-1].seq, records[-1].hash)
            # A full batch without a row moves the place too: a sink that is killed often would else reread it for ever.
            if rows or len(records) == self.batch_records:
                self.table.append(rows_to_arrow(rows), reached.seq, last)
                self._reached = Reached(last.seq, last.fingerprint)
            self._read_to = last.seq
        return Step(len(records), len(rows), self._read_to, more=len(records) == self.batch_records)

    def _check_origin(self, reached: Reached) -> None:
        """Refuse a table whose place is not one of this journal."""
        if not reached.seq:
            return
        record = next(self.journal.records(after_seq=reached.seq - 1, limit=1), None)
        if record is None:
            found = f"it holds the journal up to seq {reached.seq}, and this journal ends before that"
        elif record.seq == reached.seq and Place(record.seq, record.hash).fingerprint != reached.fingerprint:
            found = f"the record at seq {reached.seq} of this journal is not the one that it was written from"
        else:
            return  # the same, or archived since then
        raise Refused(
            "continue the Delta table",
            WRITER,
            found,
            "Each journal has a table of its own: name a new one, or put back the journal that filled this one.",
        )

    def _fold(self, record: Record) -> Iterable[PositionUpdate]:
        account, symbol = split_name(record.stream)
        if "/" not in record.stream:
            return ()
        book = self._books.get(record.stream)
        if book is None:
            book = self._books[record.stream] = self._book_before(account, symbol, record)
        return list(updates(book, record))

    def _book_before(self, account: str, symbol: str, record: Record) -> Book:
        """The book before this record, from the last checkpoint."""
        if record.version == 1:
            return Book(account, symbol)
        checkpoints = self.journal.records(stream=record.stream, types=(EventType.CHECKPOINT,), order="newest")
        start = next((found for found in checkpoints if found.version < record.version), None)
        after = start.seq - 1 if start is not None else 0
        earlier = self.journal.records(stream=record.stream, after_seq=after)
        return replay(account, symbol, _before(earlier, record.version))

    def _forget(self) -> None:
        self._reached = None
        self._books = {}


class JournalSink(Sink):
    """A sink with a journal of its own, opened for reading beside its writer."""

    @classmethod
    def open(cls, journal_url: str, table: OnceTable, now: Callable[[], datetime]) -> JournalSink:
        """Open the journal. Raises ``JournalError`` where it does not answer."""
        return cls(Journal.open(journal_url, read_only=True), table, now)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()


def _before(records: Iterator[Record], version: int) -> Iterator[Record]:
    for record in records:
        if record.version >= version:
            return
        yield record


def rows_to_arrow(rows: Iterable[PositionUpdate]) -> pa.Table:
    """The rows in the table's schema."""
    made = []
    for row in rows:
        quantity, price = cell(row.quantity), cell(row.average_price)
        exact = {
            name: one.exact for name, one in (("average_price", price), ("quantity", quantity)) if one.exact is not None
        }
        made.append(
            {
                "seq": row.seq,
                "account": row.account,
                "symbol": row.instrument,
                "instrument": row.instrument,
                "leg": row.leg,
                "quantity": quantity.value,
                "average_price": price.value,
                "exact": orjson.dumps(exact).decode() if exact else None,
                "time": row.time,
                "type": row.type,
                "hash": row.hash,
            }
        )
    return pa.Table.from_pylist(made, schema=SCHEMA)
