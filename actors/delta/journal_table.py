"""The records of a journal as a Delta table that later records are appended to, each once.

After the columns of a record come those of its facts: names and texts that whoever exports gives. A table that was
begun without them gets them, empty in the rows that were there.
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
"""Numbers are in ``payload`` as its canonical JSON has them, as text: nothing here is rounded."""


def journal_table(uri: str, facts: Sequence[str] = ()) -> OnceTable:
    """The table of records at ``uri``, with columns of these facts; it is made when it is first used."""
    return OnceTable(uri, WRITER, _with(facts), added_later=facts)


def append(
    table: OnceTable, page: Iterable[tuple[Record, Mapping[str, str | None]]], expected: int, facts: Sequence[str] = ()
) -> Place:
    """Add the records with their facts, which follow ``expected``; gives the place they reach to. ``page`` is not
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
