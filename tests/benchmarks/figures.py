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


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        figures = asyncio.run(measure(Path(directory)))
    print(f"start-up recovery: connect, fetch, adopt, journal  {figures.startup_recovery_ms:8.2f} ms (theirs 100)")
    print(f"in-step check: fetch and compare                   {figures.in_step_check_ms:8.2f} ms")
    print(f"position sync: fetch, find drift, journal, correct {figures.position_sync_ms:8.2f} ms")
    print(f"status query                                       {figures.status_query_ms:8.4f} ms")


if __name__ == "__main__":
    main()
