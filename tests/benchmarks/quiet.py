"""What a house in which nothing happens writes: bytes beside the journal by virtual time, and a week of it.

    .venv/bin/python -m tests.benchmarks.quiet [INSTRUMENTS] [HOURS] [INTERVAL_S]

The real actors (audit with signed heads, an account, its instruments that each hold a leg) in virtual time, on a real
SQLite file; the supervisor's probes, by which heads are signed, every 5 s. The week is the last half of the hours,
extrapolated; the write-ahead log, which grows to 4 MB once, is left out.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loguru import logger

from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.names import AUDIT
from actors.runtime.ports import LocalRuntime
from tests.benchmarks.form import Figure, show
from tests.unit.fakes import House, in_this_thread
from tests.unit.virtual_time import VirtualTimeLoop

PROBE_S = 5.0
MARKS = 8


class _House(House):
    """With the clock of the loop, and signed heads."""

    def __init__(self, directory: Path, instruments: list[str], interval_s: float) -> None:
        super().__init__(directory, instruments, interval_s=interval_s)
        began = datetime(2026, 1, 5, tzinfo=UTC)
        self.now = lambda: began + timedelta(seconds=asyncio.get_running_loop().time())
        monotonic_s = lambda: asyncio.get_running_loop().time()  # noqa: E731 - as short as it is
        self.runtime = LocalRuntime(self.now, monotonic_s, self.runtime.uniform, self.post)
        self.broker.clock = self.now

    async def open_audit(self) -> None:
        file = str(self.directory / "journal.db")
        self.audit = Audit(
            self.url,
            None,
            EvidenceSettings(f"{file}.key", f"{file}.pub"),
            run_blocking=in_this_thread,
            monotonic=lambda: asyncio.get_running_loop().time(),
            now=self.now,
        )
        await self.audit.open()
        self.runtime.register(AUDIT, self.audit)


def _bytes(directory: Path) -> int:
    """Of the database its pages, wherever they are now: its write-ahead log is used again, and grows to 4 MB once."""
    with closing(sqlite3.connect(f"file:{directory}/journal.db?mode=ro", uri=True)) as journal:
        pages, size = (journal.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    database = {"journal.db", "journal.db-wal", "journal.db-shm"}
    return int(pages * size) + sum(one.stat().st_size for one in directory.iterdir() if one.name not in database)


async def measure(directory: Path, instruments: int, hours: float, interval_s: float) -> list[Figure]:
    names = [f"SYM{number:04}" for number in range(instruments)]
    house = _House(directory, names, interval_s)
    for name in names:
        house.broker.hold(100, instrument=name)
    await house.open()
    await house.start()
    began_s = time.perf_counter()
    sizes = [(0.0, 0, 0)]
    for mark in range(1, MARKS + 1):
        until_s = hours * 3600 * mark / MARKS
        while asyncio.get_running_loop().time() < until_s:
            await asyncio.sleep(PROBE_S)
            await house.audit.health()
        last = (await house.audit.health())["last_seq"]
        sizes.append((until_s / 3600, _bytes(directory), int(str(last))))
    (from_h, from_bytes, from_seq), (to_h, to_bytes, to_seq) = sizes[MARKS // 2], sizes[-1]
    per_hour = (to_bytes - from_bytes) / (to_h - from_h)
    name = f"a week of quiet at {instruments} instruments"
    records = (to_seq - from_seq) / (to_h - from_h) * 168
    await house.close()
    return [
        Figure(name, per_hour * 168 / 1e6, "MB"),
        Figure(f"{name}, records", records, ""),
        Figure(f"{name}, to measure", time.perf_counter() - began_s, "s"),
    ]


def figures(
    *, quick: bool = False, instruments: int = 100, hours: float = 24.0, interval_s: float = 300.0
) -> Iterator[Figure]:
    """Of so many hours."""
    logger.remove()
    if quick:
        instruments, hours = 10, 3.0
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield from runner.run(measure(Path(directory), instruments, hours, interval_s))


def main() -> None:
    """Measure and print."""
    instruments, hours, interval_s = [*map(float, sys.argv[1:]), *(100.0, 24.0, 300.0)[len(sys.argv) - 1 :]]
    show(figures(instruments=int(instruments), hours=hours, interval_s=interval_s))


if __name__ == "__main__":
    main()
