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

from actors.account.gathering import GATHER_S
from actors.book.discrepancies import DiscrepancyType
from actors.book.in_step import GATHERED_AT_LEAST_AFTER
from actors.events import to_iso
from actors.names import AUDIT
from actors.reconciliation.decide import RECONCILED_AT_MOST_EVERY
from tests.simulation import laws
from tests.simulation.clocks import time_s
from tests.simulation.faults import Faults
from tests.simulation.house import CYCLE_TIMEOUT_S, House, at_their_caps
from tests.simulation.laws import hold
from tests.simulation.strategy import Strategies
from tests.unit.virtual_time import VirtualTimeLoop

STEPS = 40
AFTER_A_REFUSAL_S = 65.0
"""A refusal takes a person: it is asked again once a minute."""
EVIDENCE_WITHIN_S = (RECONCILED_AT_MOST_EVERY + GATHERED_AT_LEAST_AFTER).total_seconds() + GATHER_S
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
    retired: int = 0
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
            with at_their_caps(faults.random), asyncio.Runner(loop_factory=make_loop) as runner:
                runner.run(_story(Path(directory), faults, steps, found))
        except laws.LawBroken as broken:
            failure = str(broken)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's
            failure = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    return Outcome(seed, steps, failure, faults.counts, digest=faults.digest, **found)


async def _story(directory: Path, faults: Faults, steps: int, found: dict[str, Any]) -> None:
    house = House(directory, faults)
    markets = [venue.market for venue in house.venues.values()]
    # If a broker reports no fills, differences of its orders and positions can only be inferred.
    honest = all(market.reports_fills for market in markets) and faults.random.random() < 0.4
    if honest:
        faults.never("answer of before", "positions of before", "positions empty", "orders of before", "orders empty")
        faults.never("the broker's clock steps", "fills failed", "fills half")
    strategies = [Strategies(house, venue, faults, honest=honest) for venue in house.venues.values()]
    watch = laws.Watch(house)
    kind = "supervised" if house.supervised else "not supervised"
    faults.note(f"interval {house.interval_s} s, {kind}, honest: {honest}")
    for venue in house.venues.values():
        faults.note(f"{venue.name}: {venue.market.conventions}, takes all: {venue.takes_all}")
    watching: asyncio.Task[None] | None = None
    try:
        await house.open()
        house.written, house.appends = watch.look, watch.note
        watching = asyncio.ensure_future(watch.run())
        for _ in range(steps):
            house.market_moved(faults.random.choice(strategies).act())
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
        found["acknowledged"] = sum(len(of_account.acknowledged) for of_account in strategies)
        found["allowed"] = watch.allowed
        with contextlib.suppress(Exception):
            records = house.disk.records()
            found["events"] = len(records)
            found["retired"] = len({record.stream for record in records} & {*house.every_stream} - {*house.instruments})
            for record in records:
                faults.print_line(
                    f"{record.seq} {record.stream} {record.event.type} {to_iso(record.event.time)} "
                    f"{dict(record.event.payload)}"
                )
        await house.close()


async def _come_to_rest(house: House, strategies: list[Strategies], faults: Faults) -> None:
    """The faults end, and three intervals pass."""
    for of_account in strategies:
        await of_account.finish()
    faults.active = False
    for venue in house.venues.values():
        venue.market.report_all()
    house.put_clocks_right()
    await house.everybody_is_up()
    faults.note("no more faults")
    if faults.counts["loop dies"]:
        await asyncio.sleep(3 * house.interval_s + CYCLE_TIMEOUT_S)  # until then it counts as alive
        await house.everybody_is_up()
    await asyncio.sleep(3 * house.interval_s)
    refused_s = time_s() - faults.last_refused_s
    await asyncio.sleep(max(0.0, AFTER_A_REFUSAL_S + house.interval_s - refused_s))
    if await _a_person_believes_it(house):
        await asyncio.sleep(3 * house.interval_s)
    await _every_twin_is_known(house)


async def _a_person_believes_it(house: House) -> bool:
    """Where all is gone at once and no fill says why, a person looks, and says that nothing is held: whether one had
    to."""
    asked = False
    for stream, actor in list(house.instruments.items()):
        book = await actor.book()
        doubted = any((found.type, found.key) == (DiscrepancyType.STALE_DATA, "positions") for found in book.breaks)
        if doubted and not any(one.legs for one in house.market_of(stream).traded.values()):
            asked = True
            for leg in book.legs:
                await house.handles[book.account][book.instrument].record_position(
                    leg=leg.leg, quantity=0, average_price=0
                )
    return asked


async def _every_twin_is_known(house: House) -> None:
    """Whoever thought he was alone may have continued a stream; whose it is learns of that by his next write, and the
    evidence that all is in step is one, by his own hand or by his account's, which looks where his stream stands."""
    written = Counter(record.stream for record in house.disk.records())
    for stream, actor in house.instruments.items():
        if (await actor.book()).version < written[stream]:
            await asyncio.sleep(EVIDENCE_WITHIN_S + 3 * house.interval_s)
            return


async def _at_rest(house: House, strategies: list[Strategies], *, honest: bool) -> None:
    for stream, actor in house.instruments.items():
        book = await actor.book()
        laws.book_is_the_brokers(book.instrument, book, house.market_of(stream))
        permission = await actor.trading_allowed()
        hold(f"trading in {stream} is allowed", permission, permission.reasons)
    before = len(laws.events_but_evidence(house.disk.records()))
    for actor in house.instruments.values():
        for _ in range(2):
            report = await actor.reconcile_now()
            hold(f"{actor} is in step", report.status == "SUCCESS", report)
    records = house.disk.records()
    after = laws.events_but_evidence(records)
    hold("cycles in which nothing changed write nothing", len(after) == before, after[before:])
    for stream in house.every_stream:
        of_it = [record for record in records if record.stream == stream]
        alive = house.instruments.get(stream)
        if alive is None:
            laws.nothing_is_left_alone(stream, of_it, house.market_of(stream))
            continue
        checked = await alive.self_check()
        hold(f"the book of {stream} is its journal's", not checked.differences and not checked.skipped, checked)
        of_it = [record for record in house.disk.records() if record.stream == stream]
        book = await alive.book()
        laws.book_is_its_replay(book.instrument, book, of_it, house.market_of(stream))
    for of_account in strategies:
        laws.acknowledged_once(of_account.acknowledged, records, of_account.account)
    laws.journal_is_whole(records)
    laws.answered_appends_are_in(house.appended, records)
    if honest and all(venue.market.resolution < timedelta(seconds=1) for venue in house.venues.values()):
        # In whole seconds it is unknown whether a position contains a fill of ours that is reported after it.
        laws.nothing_of_our_own_making(records)
    verified = await house.runtime.call(AUDIT, "verify", timeout_s=60.0)
    hold("the chain verifies", verified.ok, verified)
    for account in house.venues:
        health = await house.runtime.call(account, "health", timeout_s=60.0)
        hold(f"{account} is connected", health.connection == "CONNECTED", health)
