"""Whether a fleet stays as large as it is: memory, descriptors and threads of each kind of actor, minute by minute.

    .venv/bin/python -m tests.benchmarks.months [MINUTES] [INSTRUMENTS] [INTERVAL_S]

A house of simulated instruments (50, each in a process of its own, looked at every 2 s), started from the command line;
its broker is a process beside it. Once a second somebody trades, once a minute the broker fails three requests. After
four, five and six minutes the audit actor, the account and the supervisor are killed, from then on an instrument every
four minutes. Prints of each kind of actor private memory (USS), descriptors and threads at the eighth minute and at the
end, the median of the processes that lived through, and the slope of their memory through every minute in between.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psutil

from brokers.model import Side
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator
from tests.benchmarks.watching import ACCOUNT_ID, TOKEN, _await_all_up, _configuration, _status, _supervisor

FROM_MINUTE = 8
KILLED_AT = {4: "audit", 5: "account", 6: "supervisor"}
INSTRUMENT_EVERY = 4

Sample = tuple[float, float, int, int]
"""Minute, megabytes, descriptors, threads."""


def sizes(path: Path, minute: float) -> dict[tuple[str, int], Sample]:
    """Of each process of an actor, by its kind."""
    found = {}
    status = _status(path).get("supervisor", {})
    rows = [(row["kind"], row["pid"]) for row in status.get("actors", ())]
    for kind, pid in [*rows, ("supervisor", status.get("pid"))]:
        with contextlib.suppress(psutil.Error):
            if pid is not None:
                one = psutil.Process(pid)
                memory = one.memory_full_info().uss / 1e6
                found[kind, pid] = (minute, memory, one.num_fds(), one.num_threads())
    return found


def _kill(path: Path, kind: str, chance: random.Random) -> None:
    pids = sorted(pid for found, pid in sizes(path, 0) if found == kind)
    if pids:
        os.kill(chance.choice(pids), signal.SIGKILL)


def slope(samples: list[Sample]) -> float:
    """Megabytes an hour, by least squares."""
    fit = statistics.linear_regression([one[0] for one in samples], [one[1] for one in samples])
    return fit.slope * 60


def rows(seen: dict[tuple[str, int], list[Sample]], last: float) -> Iterator[str]:
    """What became of each kind."""
    kinds: dict[str, list[list[Sample]]] = defaultdict(list)
    for (kind, _), samples in seen.items():
        later = [one for one in samples if one[0] >= FROM_MINUTE]
        if later and later[0][0] < FROM_MINUTE + 2 and later[-1][0] > last - 2:
            kinds[kind].append(later)
    for kind, lived in sorted(kinds.items()):
        begin, end = ([statistics.median(one[at][part] for one in lived) for part in (1, 2, 3)] for at in (0, -1))
        slopes = sorted(slope(one) for one in lived)
        second = sorted(slope(one[len(one) // 2 :]) for one in lived)
        yield (
            f"{kind}: {len(lived)} processes, {begin[0]:.1f} -> {end[0]:.1f} MB, "
            f"{statistics.median(slopes):+.2f} MB an hour (largest {slopes[-1]:+.2f}; in the second half "
            f"{statistics.median(second):+.2f}), descriptors {begin[1]:g} -> {end[1]:g}, "
            f"threads {begin[2]:g} -> {end[2]:g}"
        )


def measure(directory: Path, minutes: float, instruments: int, interval_s: float) -> Iterator[str]:
    """Run it; gives lines for a person."""
    chance = random.Random(1)  # noqa: S311 - nothing secret rests on it
    names = [f"PAIR_{number:03d}" for number in range(instruments)]
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=names)
    path = _configuration(directory, simulator.start(), names, interval_s, None)
    seen: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    with open(directory / "said", "w") as said:
        command = _supervisor("start", path, "--no-dashboard")
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            _await_all_up(path)
            began_s, minute = time.monotonic(), 0
            while minute < minutes:
                for one, sample in sizes(path, minute).items():
                    seen[one].append(sample)
                kind = KILLED_AT.get(minute)
                if minute > max(KILLED_AT) and minute % INSTRUMENT_EVERY == 0:
                    kind = "instrument"
                if kind is not None:
                    _kill(path, kind, chance)
                simulator.faults.add(Fault.SERVER_ERROR, times=3)
                minute += 1
                while time.monotonic() < began_s + 60 * minute:
                    side = chance.choice((Side.BUY, Side.SELL))
                    simulator.trade(chance.choice(names), side, Decimal(chance.randint(1, 9)), None)
                    time.sleep(1)
            for one, sample in sizes(path, minute).items():
                seen[one].append(sample)
            journal = (directory / "journal.db").stat().st_size / 1e6
            yield f"{minute} minutes, {instruments} instruments at {interval_s:g} s; the journal has {journal:.1f} MB"
            yield from rows(seen, minute)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(180)
            simulator.close()


def main() -> None:
    """Measure and print."""
    given = [float(one) for one in sys.argv[1:]]
    minutes, instruments, interval_s = [*given, *(120.0, 50.0, 2.0)[len(given) :]]
    with tempfile.TemporaryDirectory() as directory:
        for line in measure(Path(directory), minutes, int(instruments), interval_s):
            print(line, flush=True)


if __name__ == "__main__":
    main()
