"""The figures that the replaced systems named of themselves, measured on ours, over the wire and with the journal.

    python -m tests.benchmarks.figures

Position sync (they: 0.2 ms, in memory and without a durable record), start-up recovery (0.1 s) and a status query.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from actors.account.actor import Account, AccountSettings
from actors.book.policy import Policy
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.runtime.ports import LocalRuntime
from brokers.mt5.client import Mt5Broker
from brokers.registry import CONVENTIONS, utc_now
from brokers.simulators.mt5 import Mt5Simulator
from tests.benchmarks.form import Figure, show

TICKET = "7001"


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds."""

    startup_recovery_ms: float
    in_step_check_ms: float
    position_sync_ms: float
    status_query_ms: float


async def measure(directory: Path, rounds: int = 25) -> Figures:
    """One account, one instrument, a simulated gateway on loopback, a journal on disk."""
    simulator = Mt5Simulator(login=5001, instruments=("EURUSD",))
    endpoint = simulator.start()
    simulator.set_position("EURUSD", TICKET, Decimal(1), Decimal("1.1"))
    runtime = LocalRuntime(lambda: datetime.now(UTC), time.monotonic, random.Random(1).random)  # noqa: S311 - figures
    audit = Audit(f"sqlite:///{directory}/journal.db")
    settings = AccountSettings("cfd", "mt5", frozenset({"EURUSD"}))
    account = Account(settings, lambda: Mt5Broker("cfd", endpoint, None, 2.0, utc_now), runtime)
    policy = Policy(conventions=CONVENTIONS["mt5"])
    instrument = Instrument(InstrumentSettings("cfd", "EURUSD", 60, 5.0, policy), runtime)
    for name, actor in (("audit", audit), ("cfd", account), ("cfd/EURUSD", instrument)):
        runtime.register(name, actor)
    try:
        startup_ms = await _took_ms(instrument)
        in_step_ms = statistics.median([await _took_ms(instrument) for _ in range(rounds)])
        syncs = []
        for lots in range(2, rounds + 2):
            simulator.set_position("EURUSD", TICKET, Decimal(lots), Decimal("1.1"))
            syncs.append(await _took_ms(instrument))
        began_s = time.perf_counter()
        for _ in range(rounds):
            await instrument.health()
        status_ms = (time.perf_counter() - began_s) * 1000 / rounds
        return Figures(startup_ms, in_step_ms, statistics.median(syncs), status_ms)
    finally:
        await account.close()
        await audit.close()
        simulator.close()


async def _took_ms(instrument: Instrument) -> float:
    began_s = time.perf_counter()
    await instrument.reconcile_now()
    return (time.perf_counter() - began_s) * 1000


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """All of them."""
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(measure(Path(directory), 10 if quick else 25))
    yield Figure("start-up recovery: connect, fetch, adopt, journal", found.startup_recovery_ms, "ms", 100.0, "theirs")
    yield Figure("in-step check: fetch and compare", found.in_step_check_ms, "ms")
    what = "position sync: fetch, find drift, journal, correct"
    yield Figure(what, found.position_sync_ms, "ms", found.in_step_check_ms, "a check that finds nothing")
    yield Figure("status query", found.status_query_ms, "ms")


def main() -> None:
    """Measure and print."""
    show(figures())


if __name__ == "__main__":
    main()
