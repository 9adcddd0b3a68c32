"""How long `start` takes to its first cycle on a large journal, beside an empty one, in turns.

    python -m tests.benchmarks.start [DIRECTORY]      # a journal that tests.benchmarks.large_journal made there

The time is that from the start of the process to the first record of an instrument's own stream; without Ray's start,
it is that from the supervisor's first record. On a machine that does something else too it is as much the others': the
processor time of all processes of that start stands beside it, and the difference between two starts on an empty
journal shows what none of them says.

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
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from tests.benchmarks.form import Figure, show
from tests.benchmarks.large_journal import make

TURNS, TRIES = 3, 10
WITHIN_S, STOPPED_WITHIN_S = 300.0, 120.0
_LOOK_S = 0.05
_FIRST = "SELECT time FROM journal_records WHERE stream = ? AND version = 1"
_BEGAN = (
    "SELECT time FROM journal_records WHERE stream = 'supervisor' AND type = 'CONFIGURATION_CHANGED'"
    " ORDER BY version DESC LIMIT 1"
)


def figures(*, quick: bool = False, directory: Path | None = None, turns: int = TURNS) -> Iterator[Figure]:
    """Starts in turns: on the large journal, on an empty one, on another empty one."""
    with tempfile.TemporaryDirectory() as beside:
        large = directory
        if large is None:
            large = Path(beside) / "large"
            make(large, 20_000 if quick else 1_000_000)
        count = _records(large / "journal.db")
        found: dict[str, list[Start]] = {"large": [], "empty": [], "again": []}
        for turn in range(1 if quick else turns):
            # In turn: the load of others may grow or fall all the while.
            for kind, of_kind in found.items() if turn % 2 else reversed(found.items()):
                place = large if kind == "large" else Path(beside) / f"{kind}-{turn}"
                place.mkdir(exist_ok=True)
                of_kind.append(_measured(Path(beside), place, kind))
                print(f"  {kind}: {of_kind[-1]}", file=sys.stderr, flush=True)
    large_, empty, again = (_median(of_kind) for of_kind in found.values())
    name, other = f"first cycle on a journal of {count:,} records", "first cycle on an empty journal, again"
    yield Figure(name, large_.whole_s, "s", empty.whole_s, "an empty one", "1 s more")
    yield Figure(other, again.whole_s, "s", empty.whole_s, "an empty one")
    yield Figure(f"{name}, without Ray's start", large_.ours_s, "s", empty.ours_s, "an empty one", "1 s more")
    yield Figure(f"{other}, without Ray's start", again.ours_s, "s", empty.ours_s, "an empty one")
    yield Figure(f"{name}, processor time", large_.processor_s, "s", empty.processor_s, "an empty one")
    yield Figure(f"{other}, processor time", again.processor_s, "s", empty.processor_s, "an empty one")


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to the first cycle: from the start of the process, from the supervisor's first record, of processors."""

    whole_s: float
    ours_s: float
    processor_s: float

    def __str__(self) -> str:
        return f"{self.whole_s:.2f} s, {self.ours_s:.2f} s without Ray's start, processor {self.processor_s:.2f} s"


def _median(starts: list[Start]) -> Start:
    return Start(*(statistics.median(column) for column in zip(*map(astuple, starts), strict=True)))


def _records(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        (count,) = connection.execute("SELECT max(seq) FROM journal_records").fetchone()
    finally:
        connection.close()
    return int(count)


def _measured(beside: Path, place: Path, kind: str) -> Start:
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


def _started(beside: Path, place: Path, account: str) -> Start | None:
    """One start; ``None`` where it ended before its first cycle."""
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
    if found is None:
        return None
    first_s, supervisor_s, used_s = found
    return Start(first_s - began_s, first_s - supervisor_s, used_s)


def _first_cycle(process: subprocess.Popen[bytes], file: Path, stream: str) -> tuple[float, float, float] | None:
    """When the first cycle was, when the supervisor wrote first, and the processor seconds of all processes by then."""
    give_up_s = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            return None
        found = _first(file, stream)
        if found is not None:
            return *found, _used_s(process.pid)
        time.sleep(_LOOK_S)
    raise SystemExit(f"no cycle within {WITHIN_S:g} s")


def _first(file: Path, stream: str) -> tuple[float, float] | None:
    """The time of the first record of a stream, and that of the configuration that its supervisor began with."""
    if not file.exists() or not os.path.getsize(file):
        return None
    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            found = [
                connection.execute(statement, of).fetchone() for statement, of in ((_FIRST, (stream,)), (_BEGAN, ()))
            ]
        finally:
            connection.close()
    except sqlite3.OperationalError:  # its tables are being made
        return None
    if None in found:
        return None
    first, began = (datetime.fromisoformat(row[0]).timestamp() for row in found)
    return first, began


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
