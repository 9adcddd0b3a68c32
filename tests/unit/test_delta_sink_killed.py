"""A sink that is killed again and again: every process is a real one, which writes, and dies by SIGKILL."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from deltalake import DeltaTable

import actors.delta.sink
from actors.journal.store import Append, Journal
from supervisor.cli.main import app
from tests.unit.audit_cases import Case
from tests.unit.builders import dec
from tests.unit.test_delta_cli import held, sink

REST_S = 60.0
PAUSE_S = 0.25
BRIEF_S = 0.02
STREAMS = [f"acc/S{number}" for number in range(4)]
MOMENTS = ("first", "write", "commit", "compact")
"""When a process is killed, which has begun to write each time: when the first data file of its has come, of which the
log does not show yet; when one has after a commit of its; some time after a commit; and the same while it compacts
after each batch."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What came of it. ``left_behind`` are data files that no version of the table ever named: each is from a process
    that died within a write."""

    journaled: int
    seqs: list[int]
    kills: Counter[str]
    left_behind: int


def _sink(arguments: list[str], compacts: bool) -> None:
    """In a process of its own: the command as a shell runs it. Its upkeep is due at once where it ``compacts``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if compacts:
        actors.delta.sink.COMPACT_EVERY = timedelta(0)  # type: ignore[misc]  # in this process alone
    sys.argv = ["supervisor", *arguments]
    app()


def kill_sinks(directory: Path, moments: Sequence[str], chance: random.Random) -> Campaign:
    """Kill a sink at each of these moments while the journal is written to, then let one finish. The processes are
    forked from one that has imported all and done nothing, as imports are most of a start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["actors.delta.sink", "supervisor.cli.sink", "pandas", __name__])
    case = Case(directory)
    case.write_config()
    journal = Journal.open(case.url, exclusive=True)
    table = directory / "positions"
    numbers = count(1)
    kills: Counter[str] = Counter()

    def write_some() -> None:
        appends = []
        for name in STREAMS:
            number = next(numbers)
            appends.append(Append(name, (number - 1) // len(STREAMS), (held(number, name, dec(number % 7)),)))
        journal.append(appends)

    def write_until(
        done: Callable[[], bool], process: ForkServerProcess, within_s: float = REST_S, pause_s: float = PAUSE_S
    ) -> None:
        until = time.monotonic() + within_s
        while not done() and process.is_alive() and time.monotonic() < until:
            write_some()
            pause = min(until, time.monotonic() + pause_s)
            while not done() and time.monotonic() < pause:
                time.sleep(0.0005)

    arguments = ["sink", str(table), "--config", str(case.config), "--every-s", "0.1"]
    try:
        for moment in moments:
            process = context.Process(target=_sink, args=(arguments, moment == "compact"))
            process.start()
            commits, files = _commits(table), _files(table)
            if moment != "first":
                write_until(lambda: _commits(table) > commits, process)  # noqa: B023 - called within this turn
                files = _files(table)
            if moment in ("first", "write"):
                write_until(lambda: _files(table) != files, process)  # noqa: B023 - as above
            else:
                write_until(lambda: False, process, chance.uniform(0, 0.15), BRIEF_S)
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            kills[moment] += 1
        assert sink(case, table, "--once").exit_code == 0
    finally:
        journal.close()
    seqs = sorted(DeltaTable(str(table)).to_pyarrow_table().column("seq").to_pylist())
    return Campaign(next(numbers) - 1, seqs, kills, len(_files(table) - _ever_named(table)))


def _commits(table: Path) -> int:
    log = table / "_delta_log"
    return sum(1 for name in os.listdir(log) if name.endswith(".json")) if log.exists() else 0


def _files(table: Path) -> set[str]:
    return {path.name for path in table.glob("account=*/symbol=*/*.parquet")}


def _ever_named(table: Path) -> set[str]:
    """The files of every commit that the log still has, whole."""
    logged = [path.read_text() for path in (table / "_delta_log").glob("*.json")]
    return {name for name in _files(table) if any(name in text for text in logged)}


def test_a_sink_that_is_killed_a_few_times_writes_each_row_once(tmp_path: Path) -> None:
    """FEATURES 27"""
    done = kill_sinks(tmp_path, ("first", "compact", "write"), random.Random(3))  # noqa: S311 - no secret
    assert done.seqs == list(range(1, done.journaled + 1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("RUN_SLOW"), reason="a long campaign: set RUN_SLOW to run it")
def test_a_sink_that_is_killed_two_hundred_times_writes_each_row_once(tmp_path: Path) -> None:
    """FEATURES 27"""
    chance = random.Random(200)  # noqa: S311 - the same moments each time
    done = kill_sinks(tmp_path, chance.choices(MOMENTS, k=200), chance)
    print(f"{done.kills.total()} kills {dict(done.kills)}, {done.journaled} rows, {done.left_behind} files left behind")
    assert done.seqs == list(range(1, done.journaled + 1))
    assert done.kills.total() == 200
    assert done.left_behind, "some died within a write"
