"""How long the command takes to export a million events, and how much memory: `python -m tests.benchmarks.export`.

The whole command is measured, imports included, and its peak resident memory as the kernel counts it. The floor is a
bare sqlite3 loop over the same file that reads every column and writes nothing. An argument sets how many events.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from actors.journal.store import Append, Journal
from supervisor.cli.audit_export import FileFormat
from tests.benchmarks.form import Figure, show
from tests.benchmarks.journal import STREAMS, an_event

EVENTS_PER_COMMIT = 10_000


def write_events(file: Path, how_many: int) -> None:
    journal = Journal.open(f"sqlite:///{file}", exclusive=True)
    versions = dict.fromkeys(STREAMS, 0)
    each = EVENTS_PER_COMMIT // len(STREAMS)
    for _ in range(max(1, how_many // EVENTS_PER_COMMIT)):
        batch = []
        for stream in STREAMS:
            events = tuple(an_event(stream, versions[stream] + place) for place in range(1, each + 1))
            batch.append(Append(stream, versions[stream], events))
            versions[stream] += each
        journal.append(batch)
    journal.close()


def floor_s(file: Path) -> float:
    start = time.perf_counter()
    with sqlite3.connect(file) as connection:
        for _ in connection.execute("SELECT * FROM journal_records ORDER BY seq"):
            pass
    connection.close()
    return time.perf_counter() - start


def export(source: Path, form: FileFormat, target: Path) -> tuple[float, float]:
    """Seconds, and megabytes of memory at its peak."""
    command = [sys.executable, "-m", "supervisor", "audit", "export", "--journal", str(source)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--format", form, str(target)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return took_s, usage.ru_maxrss / 1024


def figures(*, quick: bool = False, events: int = 1_000_000) -> Iterator[Figure]:
    """Time and memory of each format."""
    how_many = 20_000 if quick else events
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "journal.db"
        write_events(source, how_many)
        floor = floor_s(source)
        for form in FileFormat:
            target = Path(place) / f"export.{form}"
            took_s, peak_mb = export(source, form, target)
            yield Figure(f"export of {how_many:,} events as {form}", took_s, "s", floor, "sqlite3 reading them", "60 s")
            yield Figure("the same, memory at its peak", peak_mb, "MB", target="300 MB")


def main() -> None:
    """Measure and print."""
    show(figures(events=int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))


if __name__ == "__main__":
    main()
