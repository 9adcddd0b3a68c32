"""What a batch of position updates costs, and whether that grows with the table.

    python -m tests.benchmarks.delta [ROWS …]

For each length (100,000 and 1,000,000 rows unless named) a table of our columns is filled in bulk and compacted, as a
sink does it by its schedule. Then batches of 6,000 updates (2,000 a second, every 3 s) over 50 instruments are appended
as a sink appends them, with the place read and checked in the same version, to each table in turn: the least time of 15
is compared, as others use this machine too. The floor of the same run is the same rows appended by ``write_deltalake``
alone to an empty table of the same partitions. ``share`` is the part of the 3 s between two batches that one takes:
above 1 the sink does not keep up. Last come whole steps of a sink, which reads the updates of 3 s from a journal on
SQLite, folds and appends them, for as many as a minute has. Ratios hold over machines; milliseconds do not.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from actors.book.payloads import position_to
from actors.delta.once import Place
from actors.delta.positions import PositionUpdate
from actors.delta.sink import JournalSink, position_table, rows_to_arrow
from actors.events import Event, EventType, Severity
from actors.journal.store import Append, Journal
from brokers.clocks import broker_time
from tests.benchmarks.form import Figure, show

LENGTHS = (100_000, 1_000_000)
BATCH = 6_000
EVERY_S = 3.0
INSTRUMENTS = 50
BATCHES = 15
STEPS = 20
BULK = 100_000
START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)


def updates(first: int, how_many: int) -> list[PositionUpdate]:
    return [
        PositionUpdate(
            seq=seq,
            account="fx",
            instrument=f"I{seq % INSTRUMENTS:03d}",
            leg="net",
            quantity=Decimal(seq % 1_000),
            average_price=Decimal("191.234"),
            time=START,
            type="ORDER_FILLED",
            hash=f"{seq:064x}",
        )
        for seq in range(first, first + how_many)
    ]


def filled(uri: str, length: int) -> int:
    """A table of that length, filled in bulk; gives the place it has reached."""
    table = position_table(uri)
    reached = table.reached().seq
    rows = rows_to_arrow(updates(1, BULK))
    while reached < length:
        seqs = pa.array(range(reached + 1, reached + BULK + 1), pa.int64())
        last = reached + BULK
        table.append(rows.set_column(0, rows.schema.field(0), seqs), reached, Place(last, f"{last:064x}"))
        reached = last
    return reached


class Filled:
    """A table of some length, kept as its sink keeps it: compacted."""

    def __init__(self, uri: str, length: int) -> None:
        self.uri = uri
        self.length = length
        self.reached = filled(uri, length)
        self.table = position_table(uri)
        self.table.compact()
        self.took: list[float] = []

    def batch(self) -> None:
        """One batch, from updates to committed."""
        new = updates(self.reached + 1, BATCH)
        last = self.reached + BATCH
        began = time.perf_counter()
        self.table.append(rows_to_arrow(new), self.reached, Place(last, f"{last:064x}"))
        self.took.append(time.perf_counter() - began)
        self.reached = last


def floor(uri: str) -> float:
    """The least time of bare appends of the same rows."""
    rows: pa.Table = rows_to_arrow(updates(1, BATCH))
    took = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        write_deltalake(uri, rows, mode="append", partition_by=["account", "symbol"])
        took.append(time.perf_counter() - began)
    return min(took)


def steps(directory: Path, how_many: int) -> list[float]:
    """How long each step of a sink took, that had ``BATCH`` updates to write."""
    url = f"sqlite:///{directory / 'journal.db'}"
    journal = Journal.open(url, exclusive=True)
    sink = JournalSink.open(url, position_table(str(directory / "steps")), lambda: START)
    streams = [f"fx/I{number:03d}" for number in range(INSTRUMENTS)]
    took, each = [], BATCH // INSTRUMENTS
    for batch in range(how_many):
        for number, stream in enumerate(streams):
            first = batch * each
            quantities = (Decimal(1 + number + n % 7) for n in range(first, first + each))
            payloads = [
                position_to("net", quantity, Decimal("191.2"), broker_time(START), None) for quantity in quantities
            ]
            events = tuple(
                Event(f"{stream}-{first + n}", EventType.POSITION_RECORDED, Severity.INFO, START, payload)
                for n, payload in enumerate(payloads)
            )
            journal.append([Append(stream, first, events)])
        began = time.perf_counter()
        done = sink.step()
        took.append(time.perf_counter() - began)
        if done.rows != BATCH:
            raise AssertionError(f"{done.rows} rows of {BATCH} updates")
    sink.close()
    journal.close()
    return took


def figures(*, quick: bool = False, lengths: tuple[int, ...] = LENGTHS) -> Iterator[Figure]:
    """A batch into tables of these lengths, and whole steps of a sink."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bare_s = floor(str(directory / "bare"))
        tables = [Filled(str(directory / f"t{length}"), length) for length in ((BULK,) if quick else lengths)]
        for _ in range(5 if quick else BATCHES):
            for table in tables:
                table.batch()
        for table in tables:
            what = f"a batch of {BATCH:,} updates into {table.length:,} rows"
            yield Figure(what, min(table.took) * 1e3, "ms", bare_s * 1e3, "write_deltalake alone")
            again = f"{what}, of the time between two"
            yield Figure(again, statistics.median(table.took) * 1e3, "ms", EVERY_S * 1e3, "3 s", "below 1 x")
        took = steps(directory, 4 if quick else STEPS)
        for words, seconds in (("in the middle", statistics.median(took)), ("at most", max(took))):
            what = f"a whole step of a sink with {BATCH:,} updates, {words}"
            yield Figure(what, seconds * 1e3, "ms", EVERY_S * 1e3, "3 s", "below 1 x")


def main(lengths: tuple[int, ...]) -> None:
    """Measure and print."""
    show(figures(lengths=lengths))


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:]) or LENGTHS)
