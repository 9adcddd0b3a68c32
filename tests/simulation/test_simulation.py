"""Some seeds that are known to pass, in CI many fresh ones; a seed that fails says how to see it again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.fresh import IN_CI, SEEDS, a_seed
from tests.simulation.laws import LawBroken
from tests.simulation.run import STEPS, run

COUNT = int(os.environ.get("SIMULATION_COUNT", "100" if IN_CI else "20"))
PARTS = range(4 if IN_CI else 1)
"""Tests with so many seeds each, for several processes. All seeds of CI take about two minutes."""
KNOWN_TO_PASS = 700_000
"""Where the seeds of a developer's run begin. What a seed found has a test in the unit that was wrong: the seed itself
is another run with the next change."""
OF_EACH_KIND = (7, 8, 910000)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.timeout(60 + 3 * COUNT)
def test_seeds_keep_every_law(part: int, record_property: Callable[[str, object], None]) -> None:
    """Laws 1 to 5, 7 and 8; PEERS 1, 3, 4, 5, 11, 12, 13, 15."""
    first = a_seed("SIMULATION_SEED", KNOWN_TO_PASS) + part * COUNT
    record_property(SEEDS, f"simulation: {first} to {first + COUNT - 1}")
    for seed in range(first, first + COUNT):
        outcome = run(seed)
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}\nTo see it: {outcome.command}"


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Else a seed that fails could not be looked at."""
    program = "import sys\nfrom tests.simulation.run import run\nprint([run(int(s)).digest for s in sys.argv[1:]])"
    printed = set()
    for hashed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashed}
        command = [sys.executable, "-c", program, *map(str, OF_EACH_KIND)]
        printed.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert printed == {f"{[run(seed).digest for seed in OF_EACH_KIND]}\n"}


def test_a_broken_law_is_named_with_the_command_that_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise LawBroken("books are the brokers': never")

    monkeypatch.setattr("tests.simulation.laws.book_is_the_brokers", never)
    outcome = run(3)
    assert outcome.failure == "books are the brokers': never"
    assert outcome.command == f"python -m tests.simulation --seed 3 --steps {STEPS} --trace"


NEVER_ENDS = """
import asyncio
from tests.simulation import worker

async def for_ever():
    while True:
        await asyncio.sleep(0)

async def story():
    tasks = [asyncio.create_task(for_ever()) for _ in range(2)]
    await asyncio.Event().wait()

worker.HANGS_AFTER_S = 0.1
worker.run = lambda seed, steps: asyncio.run(story())
print(worker.bounded(3, 40).failure)
"""


def test_a_run_that_never_ends_has_failed_and_ends_all_the_same() -> None:
    """In a process of its own, as a campaign's: it takes the process's alarm."""
    done = subprocess.run([sys.executable, "-c", NEVER_ENDS], capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout == "it did not end within 0.1 s\n"
