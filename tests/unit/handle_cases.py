"""What the tests of the handle share: a handle on a supervisor in one process, and what it says of trading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.events import EventType
from actors.journal.store import Journal
from actors.runtime.ray_environment import Address
from brokers.model import Conventions, CostBasis, LegScheme
from supervisor.client.aio import AsyncHandle
from supervisor.client.calls import AwaitingPort
from supervisor.client.connection import Connection, Place
from supervisor.client.link import Link
from tests.unit.hall import TWO_ACCOUNTS, Hall, a_hall, restarts, states

ALL = "\n  - {name: fx, broker: oanda, simulator: true, instruments: all}\n"
FILL = {"fill_id": "f1", "side": "BUY", "quantity": "3", "price": "1.1", "time": "2024-01-02T09:00:00Z"}


class Unwatched(Link):
    """A link to no cluster."""

    def _watch(self) -> None:
        return


LINK = Unwatched("nowhere:1", ours=False)


def handle_of(hall: Hall, strategy: str | None = None) -> AsyncHandle:
    port = AwaitingPort(hall.runtime, LINK)
    place = replace(Place(Address("nowhere:1", None), "test", "a test"), strategy=strategy)
    connection = Connection(place, LINK, port, port)  # type: ignore[arg-type] # nothing blocks here
    return AsyncHandle(connection, lambda: connection.awaiting)


@asynccontextmanager
async def a_handle(directory: Path, accounts: str = TWO_ACCOUNTS) -> AsyncIterator[tuple[Hall, AsyncHandle]]:
    async with a_hall(directory, accounts) as hall:
        hall.brokers["fx"].conventions = Conventions(LegScheme.SIDED, CostBasis.FIFO)
        await hall.up()
        yield hall, handle_of(hall)


async def back(hall: Hall, name: str, times: int) -> None:
    """It has been restarted so often, and found in step since."""
    await hall.until(lambda s: restarts(s, name) == times and states(s)[name] == "UP", f"restart {times}")
    await handle_of(hall).reconcile()


async def allowed(sup: AsyncHandle) -> dict[str, bool]:
    """Which instruments may be traded."""
    return {
        f"{row.account}/{row.instrument}": bool(
            await (await sup.instrument(row.account, row.instrument)).trading_allowed()
        )
        for row in (await sup.reconcile()).reports
    }


async def until_so(holds: Callable[[], Any], what: str) -> None:
    for _ in range(300):
        if await holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(what)


def journaled(hall: Hall) -> list[tuple[str, str]]:
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        types = [EventType.TRADING_HALTED, EventType.TRADING_RESUMED]
        return [(record.stream, record.event.type.value) for record in journal.records(types=types)]
    finally:
        journal.close()
