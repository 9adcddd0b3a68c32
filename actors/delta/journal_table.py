"""The records of a journal as a Delta table to which later records are appended, each once.

After the columns of a record come those of its facts: names and texts from the caller. A table that was created without
them gets the columns, empty in the existing rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pyarrow as pa

from actors.delta.once import OnceTable, Place
from actors.events import Record
from actors.journal.hash_chain import payload_text

WRITER: Final = "reconciliation-export"
SCHEMA: Final = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("prev_hash", pa.string(), nullable=False),
        pa.field("hash", pa.string(), nullable=False),
    ]
)
"""Numbers are in ``payload`` in the text form of its canonical JSON: nothing here is rounded."""


def journal_table(uri: str, facts: Sequence[str] = ()) -> OnceTable:
    """The table of records at ``uri``, with columns for these facts; it is created at its first use."""
    return OnceTable(uri, WRITER, _with(facts), added_later=facts)


def append(
    table: OnceTable, page: Iterable[tuple[Record, Mapping[str, str | None]]], expected: int, facts: Sequence[str] = ()
) -> Place:
    """Add the records with their facts, which follow ``expected``; returns the place that they reach. ``page`` is not
    empty."""
    rows = [
        {
            "seq": record.seq,
            "stream": record.stream,
            "version": record.version,
            "event_id": record.event.event_id,
            "time": record.event.time,
            "type": record.event.type.value,
            "severity": record.event.severity.value,
            "payload": payload_text(record.event.payload),
            "prev_hash": record.prev_hash,
            "hash": record.hash,
            **said,
        }
        for record, said in page
    ]
    place = Place(int(str(rows[-1]["seq"])), str(rows[-1]["hash"]))
    table.append(pa.Table.from_pylist(rows, schema=_with(facts)), expected, place)
    return place


def _with(facts: Sequence[str]) -> pa.Schema:
    return pa.schema([*SCHEMA, *(pa.field(name, pa.string()) for name in facts)])
