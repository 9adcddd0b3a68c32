"""What the journal's storage costs beside one bare sqlite3 loop, and what it answers how fast.

    python -m tests.benchmarks.journal [storage] [actor] [stream] [queries]

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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from actors.events import Event, EventType, Severity, event_id
from actors.instrument.actor import CHECKPOINT_EVERY
from actors.journal.actor import Audit
from actors.journal.store import Append, Appended, Journal
from tests.benchmarks.form import Figure, show

START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
STREAMS = [f"fx/I{number:03d}" for number in range(100)]
EVENTS_PER_APPEND = 10
EVENTS_PER_SECOND = 500
MEASURED_S = 10
ROUNDS = 5

say = sys.stdout.write


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


async def latencies_ms(append: Callable[[int], Awaitable[None]], for_s: float = MEASURED_S) -> list[float]:
    """How long each append of ten events took, where fifty a second are offered, each at its moment."""
    took: list[float] = []

    async def offer(turn: int) -> None:
        began_s = time.perf_counter()
        await append(turn)
        took.append((time.perf_counter() - began_s) * 1000)

    begin_s = time.perf_counter()
    offered = []
    for turn in range(int(EVENTS_PER_SECOND / EVENTS_PER_APPEND * for_s)):
        await asyncio.sleep(begin_s + turn * EVENTS_PER_APPEND / EVENTS_PER_SECOND - time.perf_counter())
        offered.append(asyncio.create_task(offer(turn)))
    await asyncio.gather(*offered)
    return took


def percentile(values: list[float], percent: int) -> float:
    """The value that so many in a hundred are not above."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


async def steady_appends(file: Path, for_s: float) -> list[float]:
    """:func:`latencies_ms` of the audit actor in this process."""
    audit = Audit(f"sqlite:///{file}")
    await audit.open()
    versions = dict.fromkeys(STREAMS, 0)

    async def append(turn: int) -> None:
        stream = STREAMS[turn % len(STREAMS)]
        events = [an_event(stream, versions[stream] + place) for place in range(1, EVENTS_PER_APPEND + 1)]
        answer = await audit.append(stream, versions[stream], events)
        assert isinstance(answer, Appended)
        versions[stream] = answer.version

    took = await latencies_ms(append, for_s)
    await audit.close()
    return took


def storage(directory: Path, *, quick: bool) -> Iterator[Figure]:
    """What the storage alone costs beside the floors."""
    for appends_a_commit, how_many in ((1, 1000), (10, 300), (100, 50)):
        rows = appends_a_commit * EVENTS_PER_APPEND
        batches = list(commits(appends_a_commit, how_many // 5 if quick else how_many))
        best = [float("inf")] * 3
        for attempt in range(2 if quick else ROUNDS):
            source = directory / f"journal-{rows}-{attempt}.db"
            took = (
                journal_time(source, batches),
                floor_time(source, directory / f"bare-{rows}-{attempt}.db", rows, indexes=False),
                floor_time(source, directory / f"full-{rows}-{attempt}.db", rows, indexes=True),
            )
            best = [min(pair) for pair in zip(best, took, strict=True)]
        ours_us, bare_us, full_us = (seconds / rows / len(batches) * 1e6 for seconds in best)
        name = f"a record, {rows} a commit"
        yield Figure(name, ours_us, "µs", bare_us, "of a bare sqlite3 table")
        yield Figure(f"{name}, beside one with its indexes", ours_us, "µs", full_us, "of a bare table with indexes")


def actor(directory: Path, *, quick: bool) -> Iterator[Figure]:
    """What the audit actor adds, in this process."""
    each = 5 if quick else 30
    took_s, _ = asyncio.run(concurrent_writers(directory / "audit.db", 100, each))
    yield Figure("an append of ten events, audit actor, 100 writers", took_s / each / 100 * 1e6, "µs")
    took_ms = asyncio.run(steady_appends(directory / "steady.db", 2.0 if quick else MEASURED_S))
    yield Figure(f"one append at {EVENTS_PER_SECOND} events/s, p50", percentile(took_ms, 50), "ms")
    yield Figure(f"one append at {EVENTS_PER_SECOND} events/s, p99", percentile(took_ms, 99), "ms", target="50 ms")


def one_stream(directory: Path, *, quick: bool) -> Iterator[Figure]:
    """What reading a long stream costs."""
    count = 10_000 if quick else 100_000
    without_ms: float | None = None
    for checkpoint_every in (None, CHECKPOINT_EVERY):
        journal = Journal.open(f"sqlite:///{directory}/one-{checkpoint_every}.db", exclusive=True)
        for version in range(0, count, 1000):
            events = [an_event("fx/ONE", version + number) for number in range(1, 1001)]
            for place in range(0, 1000, checkpoint_every or 1000) if checkpoint_every else ():
                events[place] = replace(events[place], type=EventType.CHECKPOINT)
            journal.append([Append("fx/ONE", version, tuple(events))])
        took_ms = min(timed(lambda of=journal: void(of.load("fx/ONE"))) for _ in range(3)) * 1000  # type: ignore[misc]  # bound
        if checkpoint_every is None:
            without_ms = took_ms
            yield Figure(f"load of {count:,} events without a checkpoint", took_ms, "ms")
            verified_s = timed(lambda: void(journal.verify()))  # noqa: B023 - called here
            yield Figure(f"verification of {count:,} records", verified_s * 1000, "ms")
        else:
            name = f"load of {count:,} events, a checkpoint every {checkpoint_every}"
            yield Figure(name, took_ms, "ms", without_ms, "without a checkpoint", "100 ms")
        journal.close()


def queries(directory: Path, count: int) -> Iterator[Figure]:
    """What questions to a large journal cost: the first page, and everything."""
    journal = Journal.open(f"sqlite:///{directory}/large.db", exclusive=True)
    written = 0
    for batch in commits(100, count // 1000):
        journal.append([_varied(append, written + place * EVENTS_PER_APPEND) for place, append in enumerate(batch)])
        written += 1000
    began, span = START, timedelta(seconds=count / EVENTS_PER_SECOND)
    middle = began + span / 2
    asked: dict[str, dict[str, Any]] = {
        "ten seconds in the middle": {"since": middle, "until": middle + timedelta(seconds=10)},
        "the last ten seconds": {"since": began + span - timedelta(seconds=10)},
        "the newest thousand": {"order": "newest", "limit": 1000},
        "the newest thousand of the first tenth": {"until": began + span / 10, "order": "newest", "limit": 1000},
        "a rare type": {"types": [EventType.RECONCILIATION_DISCREPANCY]},
        "a rare severity": {"severity": Severity.CRITICAL},
        "an instrument": {"stream": "fx/I050", "limit": 1000},
        "an account, ten seconds": {"account": "fx", "since": middle, "until": middle + timedelta(seconds=10)},
        "a fill by its id": {"fill_id": "77"},
    }
    for name, filters in asked.items():
        found: list[int] = []
        took_s = min(timed(lambda: found.append(sum(1 for _ in journal.records(**filters)))) for _ in range(3))  # noqa: B023 - called here
        yield Figure(f"of {written:,} records: {name} ({found[0]:,})", took_s * 1000, "ms")
    journal.close()


def _varied(append: Append, number: int) -> Append:
    """The same events, each at a time of its own, a few of them of a rare type and severity."""
    events = []
    for place, event in enumerate(append.events, start=number):
        kind = EventType.RECONCILIATION_DISCREPANCY if place % 997 == 0 else event.type
        severity = Severity.CRITICAL if place % 9973 == 0 else event.severity
        time = START + timedelta(seconds=place / EVENTS_PER_SECOND)
        events.append(replace(event, type=kind, severity=severity, time=time))
    return replace(append, events=tuple(events))


PARTS = ("storage", "actor", "stream", "queries")


def figures(*, quick: bool = False, parts: Sequence[str] = PARTS) -> Iterator[Figure]:
    """Those of these parts."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        if "storage" in parts:
            yield from storage(directory, quick=quick)
        if "actor" in parts:
            yield from actor(directory, quick=quick)
        if "stream" in parts:
            yield from one_stream(directory, quick=quick)
        if "queries" in parts:
            yield from queries(directory, 20_000 if quick else 1_000_000)


def main(parts: Sequence[str]) -> None:
    """Measure and print."""
    show(figures(parts=parts))


def void(_result: object) -> None:
    """Throw a result away."""


if __name__ == "__main__":
    main([part for part in sys.argv[1:] if part in PARTS] or PARTS)
