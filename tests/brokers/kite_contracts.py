"""A Kite account of one contract and one share on the contract's last day, by a clock that is set: simulator, adapter,
account, instrument and journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from actors.account.actor import Account, AccountSettings
from actors.journal.actor import Audit
from actors.names import AUDIT
from brokers.kite import KiteBroker
from brokers.kite.decode import IST
from brokers.simulators.kite import KiteSimulator
from tests.brokers.following import PATIENCE_S
from tests.brokers.test_end_to_end import Clock, Runtime, World

D = Decimal
FUTURE, SHARE = "NFO:NIFTY25NOVFUT", "NSE:INFY"
LAST_DAY = date(2025, 11, 25)


def at(hour: int, minute: int = 0, day: int = 25) -> datetime:
    """A time of day in India, in November."""
    return datetime(2025, 11, day, hour, minute, tzinfo=IST).astimezone(UTC)


@asynccontextmanager
async def an_account(directory: Path, timeout_s: float = 10.0) -> AsyncIterator[World]:
    """Of one contract and, so that its list of positions is never empty, one share."""
    clock = Clock()
    simulator = KiteSimulator("key", "session-token", "AB1234", instruments=[FUTURE, SHARE])
    clock.follow = simulator.set_clock
    clock.ahead = at(10) - datetime.now(UTC)
    runtime, audit = Runtime(clock), Audit(f"sqlite:///{directory}/journal.db")
    await audit.open()
    runtime.register(AUDIT, audit)
    broker, account = opened(simulator, runtime, timeout_s)
    world = World("equities", FUTURE, D(75), simulator, broker, runtime, audit, account, None)  # type: ignore[arg-type]  # made next
    world.instrument = world.make_instrument()
    simulator.set_position(SHARE, "NRML", D(1), D(1500))
    simulator.set_position(FUTURE, "NRML", D(75), D(26000))
    try:
        yield world
    finally:
        await world.account.close()
        simulator.close()
        await audit.close()


def opened(simulator: KiteSimulator, runtime: Runtime, timeout_s: float = 10.0) -> tuple[KiteBroker, Account]:
    url = simulator.start()
    given = {"backoff_s": 0.001, "requests_per_s": 10_000}
    broker = KiteBroker("equities", "key", lambda: "session-token", "AB1234", url, timeout_s, runtime.clock, **given)  # type: ignore[arg-type]  # keywords
    account = Account(AccountSettings("equities", "kite", frozenset({FUTURE}), patience_s=5.0), lambda: broker, runtime)
    runtime.register("equities", account)
    return broker, account


def it_is(world: World, now: datetime) -> None:
    world.runtime.clock.ahead = now - datetime.now(UTC)


async def until_the_table_is_read(world: World) -> None:
    """Looks until the table, which is read beside them, has been."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await world.broker.snapshot(None)).contracts:
            await asyncio.sleep(0)
