"""How long `start` takes to its first cycle on a large journal, beside an empty one, in turns.

    python -m tests.benchmarks.start [DIRECTORY]      # a journal that tests.benchmarks.large_journal made there

The time is that from the start of the process to the first record of an instrument's own stream. On a machine that does
something else too it is as much the others': the processor time of all processes of that start stands beside it, and
the difference between two starts on an empty journal shows what neither says.

Each start on the large journal has an account of its own and adds a few records.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil

from tests.benchmarks.form import Figure, show
from tests.benchmarks.large_journal import make

TURNS, TRIES = 3, 10
WITHIN_S, STOPPED_WITHIN_S = 300.0, 120.0
_LOOK_S = 0.05


def figures(*, quick: bool = False, directory: Path | None = None, turns: int = TURNS) -> Iterator[Figure]:
    """Starts in turns: on the large journal, on an empty one, on another empty one."""
    with tempfile.TemporaryDirectory() as beside:
        large = directory
        if large is None:
            large = Path(beside) / "large"
            make(large, 20_000 if quick else 1_000_000)
        count = _records(large / "journal.db")
        found: dict[str, list[tuple[float, float]]] = {"large": [], "empty": [], "again": []}
        for turn in range(1 if quick else turns):
            for kind, of_kind in found.items():
                place = large if kind == "large" else Path(beside) / f"{kind}-{turn}"
                place.mkdir(exist_ok=True)
                of_kind.append(_measured(Path(beside), place, kind))
                print(
                    f"  {kind}: {of_kind[-1][0]:.2f} s, processor {of_kind[-1][1]:.2f} s", file=sys.stderr, flush=True
                )
    (large_s, large_used_s), (empty_s, empty_used_s), (again_s, again_used_s) = (
        tuple(statistics.median(column) for column in zip(*of_kind, strict=True)) for of_kind in found.values()
    )
    name = f"first cycle on a journal of {count:,} records"
    yield Figure(name, large_s, "s", empty_s, "an empty one", "1 s more")
    yield Figure("first cycle on an empty journal, again", again_s, "s", empty_s, "an empty one")
    yield Figure(f"{name}, processor time", large_used_s, "s", empty_used_s, "an empty one")
    yield Figure(
        "first cycle on an empty journal, processor time again", again_used_s, "s", empty_used_s, "an empty one"
    )


def _records(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        (count,) = connection.execute("SELECT max(seq) FROM journal_records").fetchone()
    finally:
        connection.close()
    return int(count)


def _measured(beside: Path, place: Path, kind: str) -> tuple[float, float]:
    """:func:`_started`, again where Ray gave up: on an overloaded machine it does so after a minute."""
    for _ in range(TRIES - 1):
        found = _started(beside, place, f"{kind}{time.time_ns()}")
        if found is not None:
            return found
        print(f"  {kind}: start ended before the first cycle; once more", file=sys.stderr, flush=True)
    found = _started(beside, place, f"{kind}{time.time_ns()}")
    if found is None:
        raise SystemExit(f"start ended before the first cycle {TRIES} times")
    return found


def _started(beside: Path, place: Path, account: str) -> tuple[float, float] | None:
    """Seconds, and processor seconds of all processes of it, from the start to the first cycle; ``None`` where it ended
    before."""
    path = beside / f"{account}.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{place}/journal.db'}}\n"
        f"accounts: [{{name: {account}, broker: oanda, simulator: true, instruments: [EUR_USD]}}]\n"
    )
    command = [sys.executable, "-m", "supervisor", "start", str(path), "--no-dashboard"]
    began_s = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        found = _first_cycle(process, place / "journal.db", f"{account}/EUR_USD")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOPPED_WITHIN_S)
    return None if found is None else (found[0] - began_s, found[1])


def _first_cycle(process: subprocess.Popen[bytes], file: Path, stream: str) -> tuple[float, float] | None:
    give_up_s = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            return None
        found = _first(file, stream)
        if found is not None:
            return found, _used_s(process.pid)
        time.sleep(_LOOK_S)
    raise SystemExit(f"no cycle within {WITHIN_S:g} s")


def _first(file: Path, stream: str) -> float | None:
    """The time of the first record of a stream."""
    if not file.exists() or not os.path.getsize(file):
        return None
    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            row = connection.execute(
                "SELECT time FROM journal_records WHERE stream = ? AND version = 1", (stream,)
            ).fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError:  # its tables are being made
        return None
    return None if row is None else datetime.fromisoformat(row[0]).timestamp()


def _used_s(pid: int) -> float:
    total = 0.0
    whole = psutil.Process(pid)
    for one in (whole, *whole.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def main(directory: Path | None) -> None:
    """Measure and print."""
    show(figures(directory=directory))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
