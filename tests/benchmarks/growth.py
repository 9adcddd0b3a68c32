"""How cost grows: with the instruments of an account, the orders and the fills of one, and the length of the journal.

    python -m tests.benchmarks.growth

The floor of each point is the first point of its curve, grown as its ``x`` is: a ratio that stays at 1 is linear
growth, below 1 less. What does not depend on the length of the journal has the first point itself beside it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loguru import logger

from actors.journal.store import Journal
from tests.benchmarks import core
from tests.benchmarks.form import Figure, show
from tests.benchmarks.journal import EVENTS_PER_APPEND, commits, timed
from tests.unit.fakes import House
from tests.unit.virtual_time import VirtualTimeLoop

INTERVAL_S = 300.0
INTERVALS = 2
APPENDS = 100
LINEAR = "as much for each as in the first"


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """Every curve."""
    logger.remove()
    yield from _curve("instruments", (20, 60, 180) if quick else (100, 500, 2_000), _instruments)
    yield from _curve("orders", (100, 400, 1_600) if quick else (100, 1_000, 10_000), _orders)
    yield from _curve("fills", (100, 400, 1_600) if quick else (100, 1_000, 10_000), _fills)
    with tempfile.TemporaryDirectory() as directory:
        yield from _journal(Path(directory), (1_000, 4_000, 16_000) if quick else (10_000, 100_000, 1_000_000))


Points = list[tuple[str, float, str]]
"""What is measured at one ``x``, in words with a place for it, the value and its unit."""


def _curve(curve: str, points: tuple[int, ...], measure: Callable[[int], Points]) -> Iterator[Figure]:
    first: dict[str, float] = {}
    for x in points:
        for words, value, unit in measure(x):
            floor = first.setdefault(words, value / x) * x
            name, of = words.format(f"{x:,}"), f"{curve}: {words.format('n')}"
            yield Figure(name, value, unit, floor, LINEAR, "at most 1 x", of, x)


def _instruments(count: int) -> Points:
    """Processor time of the real actors in one process, in virtual time."""
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        adopted_s, step_s = runner.run(_house(Path(directory), count))
    return [("{} instruments adopted", adopted_s, "s"), ("{} instruments in step, an interval", step_s, "s")]


async def _house(directory: Path, count: int) -> tuple[float, float]:
    names = [f"SYM{number:05}" for number in range(count)]
    house = House(directory, names, interval_s=INTERVAL_S)
    for name in names:
        house.broker.hold(100, instrument=name)
    await house.open()
    began_s = time.process_time()
    await house.start()
    await asyncio.sleep(INTERVAL_S)
    adopted_s = time.process_time() - began_s
    began_s = time.process_time()
    await asyncio.sleep(INTERVALS * INTERVAL_S)
    step_s = (time.process_time() - began_s) / INTERVALS
    await house.close()
    return adopted_s, step_s


def _orders(count: int) -> Points:
    return [("in-step look at {} orders", core.in_step(orders=count) * count / 1000, "ms")]


def _fills(count: int) -> Points:
    return [("{} fills of one order, decided and applied", core.fills(count) * count / 1000, "ms")]


def _journal(directory: Path, lengths: tuple[int, ...]) -> Iterator[Figure]:
    """What costs the same whatever the length, and what grows with it, of one journal that grows."""
    journal = Journal.open(f"sqlite:///{directory}/journal.db", exclusive=True)
    rest = commits(APPENDS, max(lengths))
    at_a_time = APPENDS * EVENTS_PER_APPEND
    first: dict[str, float] = {}
    length = 0
    for wanted in lengths:
        while length < wanted - at_a_time:
            journal.append(next(rest))
            length += at_a_time
        append_ms = timed(lambda: journal.append(next(rest))) * 1000  # type: ignore[arg-type]  # thrown away
        length += at_a_time
        newest_ms = min(timed(lambda: _newest(journal)) for _ in range(3)) * 1000
        verified_s = timed(lambda: _verified(journal))
        for words, value, unit, grows in (
            ("append of 1,000 records to a journal of {}", append_ms, "ms", False),
            ("the newest 1,000 of {} records", newest_ms, "ms", False),
            ("verification of {} records", verified_s, "s", True),
        ):
            one = value / length if grows else value
            floor = first.setdefault(words, one) * (length if grows else 1)
            beside = LINEAR if grows else "the first"
            name, curve = words.format(f"{length:,}"), f"journal: {words.format('n')}"
            yield Figure(name, value, unit, floor, beside, "about 1 x", curve, length)
    journal.close()


def _newest(journal: Journal) -> None:
    for _ in journal.records(order="newest", limit=1000):
        pass


def _verified(journal: Journal) -> None:
    if not journal.verify().ok:
        raise AssertionError("the journal does not verify")


def main() -> None:
    """Measure and print."""
    show(figures())


if __name__ == "__main__":
    main()
