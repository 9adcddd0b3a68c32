"""What a batch of position updates costs, and whether that grows with the table.

    python -m tests.benchmarks.delta [ROWS …]

For each length of table (100,000 and 1,000,000 rows unless named) a table of our columns is filled in bulk, and then
batches of 6,000 updates (2,000 a second, every 3 s) over 50 instruments are appended as the sink appends them: with the
place read and checked in the same version. The floor of the same run is the same rows appended by ``write_deltalake``
alone to an empty table of the same partitions. ``share`` is the part of the 3 s between two batches that one takes:
above 1 the sink does not keep up. Ratios hold over machines; milliseconds do not.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from actors.delta.once import Place
from actors.delta.positions import PositionUpdate
from actors.delta.sink import position_table, rows_to_arrow

LENGTHS = (100_000, 1_000_000)
BATCH = 6_000
EVERY_S = 3.0
INSTRUMENTS = 50
BATCHES = 7
BULK = 50_000
START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)

say = sys.stdout.write


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
    while reached < length:
        rows = rows_to_arrow(updates(reached + 1, BULK))
        last = reached + BULK
        table.append(rows, reached, Place(last, f"{last:064x}"))
        reached = last
    return reached


def batches(uri: str, reached: int) -> tuple[float, float]:
    """The median and the longest time of one batch, from updates to committed, in seconds."""
    table = position_table(uri)
    table.reached()
    took = []
    for _ in range(BATCHES):
        new = updates(reached + 1, BATCH)
        last = reached + BATCH
        began = time.perf_counter()
        table.append(rows_to_arrow(new), reached, Place(last, f"{last:064x}"))
        took.append(time.perf_counter() - began)
        reached = last
    return statistics.median(took), max(took)


def floor(uri: str) -> float:
    """The median time of bare appends of the same rows."""
    rows: pa.Table = rows_to_arrow(updates(1, BATCH))
    took = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        write_deltalake(uri, rows, mode="append", partition_by=["account", "symbol"])
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main(lengths: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        bare_s = floor(str(directory / "bare"))
        say(f"floor: {BATCH} rows by write_deltalake alone: {bare_s * 1_000:.0f} ms\n")
        for length in lengths:
            uri = str(directory / f"t{length}")
            reached = filled(uri, length)
            median_s, longest_s = batches(uri, reached)
            files = len(DeltaTable(uri).file_uris())
            say(
                f"{length:>10,} rows, {files} files: a batch {median_s * 1_000:.0f} ms "
                f"(longest {longest_s * 1_000:.0f}), {median_s / bare_s:.2f} × the floor, "
                f"share {median_s / EVERY_S:.2f}\n"
            )


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:]) or LENGTHS)
