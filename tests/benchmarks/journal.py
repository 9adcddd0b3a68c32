"""What the journal's storage costs beside one bare sqlite3 loop: `python -m tests.benchmarks.journal`.

The floor inserts the very rows the journal wrote, in the same batches, one commit each, with the same pragmas:
"table" into the journal's table alone, "tables" with its indexes too. The journal makes canonical JSON and hashes on
top of that. Ratios hold over machines; rows a second do not.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from actors.audit import Audit
from actors.events import Event, EventType, Severity, event_id
from actors.journal import Append, Appended, Journal

START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
STREAMS = [f"fx/I{number:03d}" for number in range(100)]
EVENTS_PER_APPEND = 10


def an_event(stream: str, number: int) -> Event:
    return Event(
        event_id(stream, "fill", str(number)),
        EventType.ORDER_FILLED,
        Severity.INFO,
        START + timedelta(milliseconds=number),
        {
            "broker_order_id": str(1_000_000 + number),
            "fill_id": str(number),
            "leg": "long",
            "price": "191.234",
            "quantity": "100",
            "side": "BUY",
            "inferred": False,
        },
    )


def commits(appends_a_commit: int, how_many: int) -> Iterator[list[Append]]:
    """Batches of appends, each of ten events, going round the streams."""
    versions = dict.fromkeys(STREAMS, 0)
    turn = 0
    for _ in range(how_many):
        batch = []
        for _ in range(appends_a_commit):
            stream = STREAMS[turn % len(STREAMS)]
            turn += 1
            version = versions[stream]
            events = tuple(an_event(stream, version + place) for place in range(1, EVENTS_PER_APPEND + 1))
            batch.append(Append(stream, version, events))
            versions[stream] += EVENTS_PER_APPEND
        yield batch


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def journal_time(file: Path, batches: list[list[Append]]) -> float:
    journal = Journal.open(f"sqlite:///{file}", exclusive=True)

    def write() -> None:
        for batch in batches:
            assert all(isinstance(outcome, Appended) for outcome in journal.append(batch))

    try:
        return timed(write)
    finally:
        journal.close()


def floor_time(source: Path, file: Path, rows_a_commit: int, *, indexes: bool) -> float:
    with sqlite3.connect(source) as written:
        rows = written.execute("SELECT * FROM journal_records ORDER BY seq").fetchall()
        tables = written.execute("SELECT type, sql FROM sqlite_master WHERE tbl_name = 'journal_records'").fetchall()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    for kind, statement in tables:
        if statement is None or (kind == "index" and not indexes):
            continue
        if kind == "table" and not indexes:
            statement = "\n".join(line for line in statement.splitlines() if "UNIQUE" not in line)
            statement = statement.replace("PRIMARY KEY (seq),", "PRIMARY KEY (seq)")
        connection.execute(statement)
    insert = f"INSERT INTO journal_records VALUES ({','.join('?' * 10)})"  # noqa: S608 - no value is in it

    def write() -> None:
        for place in range(0, len(rows), rows_a_commit):
            connection.execute("BEGIN")
            connection.executemany(insert, rows[place : place + rows_a_commit])
            connection.execute("COMMIT")

    try:
        return timed(write)
    finally:
        connection.close()


async def concurrent_writers(file: Path, writers: int, appends_each: int) -> tuple[float, int]:
    """Each writer waits for its answer before it offers the next ten events; the commits they shared."""
    audit = Audit(f"sqlite:///{file}")
    await audit.open()

    async def write(stream: str) -> None:
        version = 0
        for _ in range(appends_each):
            events = [an_event(stream, version + place) for place in range(1, EVENTS_PER_APPEND + 1)]
            answer = await audit.append(stream, version, events)
            assert isinstance(answer, Appended)
            version = answer.version

    start = time.perf_counter()
    await asyncio.gather(*(write(stream) for stream in STREAMS[:writers]))
    took = time.perf_counter() - start
    count = (await audit.health())["commits"]
    await audit.close()
    assert isinstance(count, int)
    return took, count


def main() -> None:
    """Print the figures."""
    say = sys.stdout.write
    say(f"{'rows/commit':>12} {'journal rows/s':>15} {'of bare table':>14} {'of bare tables':>15}\n")
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for appends_a_commit, how_many in ((1, 1000), (10, 300), (100, 50)):
            rows = appends_a_commit * EVENTS_PER_APPEND
            batches = list(commits(appends_a_commit, how_many))
            best = [float("inf")] * 3
            for attempt in range(3):
                source = directory / f"journal-{rows}-{attempt}.db"
                took = (
                    journal_time(source, batches),
                    floor_time(source, directory / f"bare-{rows}-{attempt}.db", rows, indexes=False),
                    floor_time(source, directory / f"full-{rows}-{attempt}.db", rows, indexes=True),
                )
                best = [min(pair) for pair in zip(best, took, strict=True)]
            rate = rows * how_many / best[0]
            say(f"{rows:>12} {rate:>15,.0f} {best[1] / best[0]:>14.2f} {best[2] / best[0]:>15.2f}\n")
        took_s, count = asyncio.run(concurrent_writers(directory / "audit.db", 100, 30))
        say(f"audit actor in one process, 100 writers: {3000 / took_s:,.0f} appends/s of ten events, {count} commits\n")
        single = directory / "one.db"
        one = Journal.open(f"sqlite:///{single}", exclusive=True)
        for version in range(0, 100_000, 1000):
            events = tuple(an_event("fx/ONE", version + number) for number in range(1, 1001))
            one.append([Append("fx/ONE", version, events)])
        say(f"load of 100,000 events without a checkpoint: {timed(lambda: void(one.load('fx/ONE'))):.2f} s\n")
        say(f"verify of 100,000 records: {timed(lambda: void(one.verify())):.2f} s\n")
        one.close()


def void(_result: object) -> None:
    """Throw a result away."""


if __name__ == "__main__":
    main()
