"""The short form of the campaign: a fresh seed, which a failure prints with the command that plays it again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.campaign import Outcome, check_left_over, left_over
from tests.faults.clocks import HouseClock
from tests.fresh import IN_CI, SEEDS

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("FAULT_CAMPAIGN_S", "120" if IN_CI else "20"))


@pytest.mark.skipif(not (IN_CI or os.environ.get("RUN_SLOW")), reason="a long campaign: set RUN_SLOW to run it")
@pytest.mark.timeout(SECONDS + 400)
def test_whatever_is_killed_cut_or_lied_about_nothing_is_lost_and_nothing_stays_wrong(
    record_property: Callable[[str, object], None],
) -> None:
    """In a process of its own, as a person runs it: Ray ends one of which a thread calls it after it has left."""
    seed = random.SystemRandom().randrange(10**6)
    record_property(SEEDS, f"faults: {seed}, {SECONDS:g} s")
    again = ["-m", "tests.faults.campaign", "--minutes", f"{SECONDS / 60:.3g}", "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, *again], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS + 380
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"{done.stdout[-5_000:]}\n{done.stderr[-5_000:]}\npython {' '.join(again)}"


SEES = """
import sys, time
for line in sys.stdin:
    before = time.monotonic()
    time.sleep(0.01)
    print(time.time(), time.monotonic() - before, time.monotonic(), flush=True)
"""


def test_the_house_s_clock_is_stepped_and_nothing_else(tmp_path: Path) -> None:
    clock = HouseClock(tmp_path)
    if not clock.there:
        pytest.skip("there is no C compiler")
    with clock.preloaded():
        child = subprocess.Popen([sys.executable, "-c", SEES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        for wrong_by_s in (0.0, -3600.0, 600.25, 0.0):
            clock.step_to(wrong_by_s)
            child.stdin.write("now\n")
            child.stdin.flush()
            wall, slept, monotonic = map(float, child.stdout.readline().split())
            assert abs(wall - time.time() - wrong_by_s) < 60
            assert 0 < slept < 60
            assert abs(monotonic - time.monotonic()) < 60
        child.stdin.close()


def test_what_is_left_at_the_end_fails_the_campaign() -> None:
    """Descriptors, threads and processes, each by its name."""
    before, ended = left_over(), threading.Event()
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]
    threads = [threading.Thread(target=ended.wait) for _ in range(60)]  # many more than others may end meanwhile
    for thread in threads:
        thread.start()
    try:
        outcome = Outcome(1)
        check_left_over(before, outcome, within_s=0.3)
        assert [failure.partition(" ")[0] for failure in outcome.failures] == ["processes", "descriptors", "threads"]
    finally:
        ended.set()
        for file in files:
            os.close(file)
        for thread in threads:
            thread.join()
        sleeper.communicate(b"\n")
    outcome = Outcome(1)
    check_left_over(before, outcome)
    assert outcome.failures == []
