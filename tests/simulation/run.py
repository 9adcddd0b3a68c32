"""One run: a house, a market and everything that goes wrong between them, from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from loguru import logger

from actors.events import to_iso
from actors.names import AUDIT
from actors.reconciliation.decide import RECONCILED_AT_MOST_EVERY
from tests.simulation import laws
from tests.simulation.clocks import time_s
from tests.simulation.faults import Faults
from tests.simulation.house import ACCOUNT, House
from tests.simulation.laws import hold
from tests.simulation.strategy import Strategies
from tests.unit.virtual_time import VirtualTimeLoop

STEPS = 40
AFTER_A_REFUSAL_S = 65.0
"""A refusal takes a person: it is asked again once a minute."""
EVIDENCE_EVERY_S = RECONCILED_AT_MOST_EVERY.total_seconds()
MEMORY = Path("/dev/shm")  # noqa: S108 - a disk in memory, where there is one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run. ``failure`` is the law that was broken, and how."""

    seed: int
    steps: int
    failure: str | None
    faults: Counter[str] = field(default_factory=Counter)
    cycles: int = 0
    events: int = 0
    messages: int = 0
    restarts: int = 0
    acknowledged: int = 0
    allowed: int = 0
    digest: int = 0

    @property
    def command(self) -> str:
        """Shows it again."""
        return f"python -m tests.simulation --seed {self.seed} --steps {self.steps} --trace"


def run(seed: int, steps: int = STEPS, show: Callable[[str], None] | None = None) -> Outcome:
    """Run a seed to its end. Never raises for what it finds."""
    logger.remove()
    loops: list[VirtualTimeLoop] = []

    def now_s() -> float:
        return loops[0].time() if loops else 0.0

    def make_loop() -> VirtualTimeLoop:
        loops.append(VirtualTimeLoop())
        return loops[0]

    if show is not None:
        logger.add(lambda line: show(f"{now_s():10.4f}      {str(line).rstrip()}"), format="{level} {message}")
    faults = Faults(seed, now_s, show)
    found: dict[str, Any] = {}
    failure: str | None = None
    where = str(MEMORY) if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=where) as directory:
        try:
            with asyncio.Runner(loop_factory=make_loop) as runner:
                runner.run(_story(Path(directory) / "disk", faults, steps, found))
        except laws.LawBroken as broken:
            failure = str(broken)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's
            failure = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    return Outcome(seed, steps, failure, faults.counts, digest=faults.digest, **found)


async def _story(directory: Path, faults: Faults, steps: int, found: dict[str, Any]) -> None:
    house = House(directory, faults)
    # A broker that tells no fills leaves what its orders and positions differ by to be guessed.
    honest = house.market.reports_fills and faults.random.random() < 0.4
    if honest:
        faults.never("answer of before", "positions of before", "positions empty", "orders of before", "orders empty")
        faults.never("the broker's clock steps", "fills failed", "fills half")
    strategies = Strategies(house.market, house.handles, house.clock("strategy"), faults, honest=honest)
    watch = laws.Watch(house)
    faults.note(f"interval {house.interval_s} s, {house.market.conventions}, honest: {honest}")
    watching: asyncio.Task[None] | None = None
    try:
        await house.open()
        house.written = watch.look
        watching = asyncio.ensure_future(watch.run())
        for _ in range(steps):
            house.market_moved(strategies.act())
            house.step_a_clock()
            house.kill_somebody()
            for _ in range(faults.random.randrange(10)):
                await asyncio.sleep(0)
            await asyncio.sleep(faults.random.choice((0.01, 0.5, 2.0, 5.0)) * faults.random.random())
        await _come_to_rest(house, strategies, faults)
        await _at_rest(house, strategies, honest=honest)
        hold("trading is never allowed on a wrong book", watch.broken is None, watch.broken)
    finally:
        if watching is not None:
            if watching.done() and not watching.cancelled():
                watching.result()
            watching.cancel()
        found["messages"] = house.network.carried.total()
        found["cycles"] = house.network.carried["slice"]
        found["restarts"] = house.restarts.total()
        found["acknowledged"] = len(strategies.acknowledged)
        found["allowed"] = watch.allowed
        with contextlib.suppress(Exception):
            records = house.disk.records()
            found["events"] = len(records)
            for record in records:
                faults.tell(
                    f"{record.seq} {record.stream} {record.event.type} {to_iso(record.event.time)} "
                    f"{dict(record.event.payload)}"
                )
        await house.close()


async def _come_to_rest(house: House, strategies: Strategies, faults: Faults) -> None:
    """The faults end, and three intervals pass."""
    await strategies.finish()
    faults.active = False
    house.market.tell_all()
    house.put_clocks_right()
    await house.everybody_is_up()
    faults.note("no more faults")
    await asyncio.sleep(3 * house.interval_s)
    refused_s = time_s() - faults.last_refused_s
    await asyncio.sleep(max(0.0, AFTER_A_REFUSAL_S + house.interval_s - refused_s))
    await _told_of_every_twin(house)


async def _told_of_every_twin(house: House) -> None:
    """Whoever thought he was alone may have continued a stream; whose it is learns of that by his next write, and the
    evidence that all is in step is one."""
    written = Counter(record.stream for record in house.disk.records())
    for symbol, actor in house.instruments.items():
        if (await actor.book()).version < written[laws.stream_of(symbol)]:
            await asyncio.sleep(EVIDENCE_EVERY_S + 2 * house.interval_s)
            return


async def _at_rest(house: House, strategies: Strategies, *, honest: bool) -> None:
    for symbol, actor in house.instruments.items():
        book = await actor.book()
        laws.book_is_the_brokers(symbol, book, house.market)
        permission = await actor.trading_allowed()
        hold(f"trading in {symbol} is allowed", permission, permission.reasons)
    before = len(laws.events_but_evidence(house.disk.records()))
    for actor in house.instruments.values():
        for _ in range(2):
            report = await actor.reconcile_now()
            hold(f"{actor} is in step", report.status == "SUCCESS", report)
    records = house.disk.records()
    after = laws.events_but_evidence(records)
    hold("cycles in which nothing changed write nothing", len(after) == before, after[before:])
    for symbol, actor in house.instruments.items():
        checked = await actor.self_check()
        hold(f"the book of {symbol} is its journal's", not checked.differences and not checked.skipped, checked)
        book = await actor.book()
        of_it = [record for record in house.disk.records() if record.stream == laws.stream_of(symbol)]
        laws.book_is_its_replay(symbol, book, of_it, house.market)
    laws.acknowledged_once(strategies.acknowledged, records)
    laws.journal_is_whole(records)
    laws.answered_appends_are_in(house.appended, records)
    if honest and house.market.resolution < timedelta(seconds=1):
        # In whole seconds nobody can tell whether a position has a fill of ours that is reported after it.
        laws.nothing_of_our_own_making(records)
    verified = await house.runtime.call(AUDIT, "verify", timeout_s=60.0)
    hold("the chain verifies", verified.ok, verified)
    health = await house.runtime.call(ACCOUNT, "health", timeout_s=60.0)
    hold("the account is connected", health.connection == "CONNECTED", health)
