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
from pathlib import Path

from actors.journal.store import Append, Journal
from supervisor.cli.audit_export import FileFormat
from tests.benchmarks.journal import STREAMS, an_event

EVENTS_PER_COMMIT = 10_000
TARGET = "target: 60 s, 300 MB"


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


def main() -> None:
    """Print the figures."""
    how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "journal.db"
        write_events(source, how_many)
        floor = floor_s(source)
        say(f"{how_many:,} events, {source.stat().st_size / 1e6:,.0f} MB; bare sqlite3 reads them in {floor:.1f} s\n")
        for form in FileFormat:
            target = Path(place) / f"export.{form}"
            took_s, peak_mb = export(source, form, target)
            size_mb = target.stat().st_size / 1e6
            target.unlink()
            say(f"{form:>8}: {took_s:6.1f} s, {took_s / floor:5.1f} x the floor, peak {peak_mb:,.0f} MB, ")
            say(f"file {size_mb:,.0f} MB ({TARGET})\n")


if __name__ == "__main__":
    main()
