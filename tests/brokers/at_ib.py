"""A simulated TWS, and the Interactive Brokers adapter at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal

from brokers.ib import IbBroker
from brokers.ib.stream import IbStream
from brokers.model import (
    Snapshot,
)
from brokers.port import Clock, OnEvent, StreamState
from brokers.simulators.ib import IbSimulator
from tests.brokers.following import eventually
from tests.brokers.reading import Ticking, now

D = Decimal


TIMEOUT_S = 5.0
SHORT_TIMEOUT_S = 0.8
"""For silence alone, which only the time-out ends: a busy machine answers late."""


EARLIER = int(datetime(2026, 1, 5, 11, tzinfo=UTC).timestamp() * 1000)


OPTION = "AAPL  261218C00200000"


OPTION_ON_MSFT = "MSFT  261218C00200000"


@contextmanager
def simulated(**settings: object) -> Iterator[IbSimulator]:
    given = {"seed": 1, "clock": Ticking(), **settings}
    simulator = IbSimulator(**given)  # type: ignore[arg-type]  # a test's own choice of keywords
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.close()


@asynccontextmanager
async def connected(
    simulator: IbSimulator,
    *,
    connect: bool = True,
    port: int | None = None,
    on_event: OnEvent | None = None,
    **settings: object,
) -> AsyncIterator[IbBroker]:
    given = {"client_id": 17, "account_id": "DU1", "sec_types": None, "timeout_s": TIMEOUT_S, "clock": now, **settings}
    broker = IbBroker(
        "options",
        "127.0.0.1",
        port or simulator.port,
        **{"backoff_s": 0.01, "messages_per_s": 9000, "full_every_s": 0, **given},  # type: ignore[arg-type]  # as above
    )
    broker.on_event = on_event
    try:
        if connect:
            await broker.connect()
        yield broker
    finally:
        await broker.close()


def completeness(snapshot: Snapshot) -> str:
    sections = (snapshot.positions, snapshot.orders, snapshot.fills)
    return " ".join(section.completeness.value for section in sections)


BUDGET_S = 0.2
"""How long TWS may be silent. A busy machine may be so long in doing nothing itself: SILENT passes by itself."""


@asynccontextmanager
async def streamed(
    events: list[str | None], full_every_s: float = 240.0, clock: Clock = now, silence_s: float = BUDGET_S
) -> AsyncIterator[tuple[IbSimulator, IbBroker, IbStream]]:
    simulator = IbSimulator()
    simulator.start()
    broker = IbBroker(
        "options",
        "127.0.0.1",
        simulator.port,
        17,
        "DU1",
        None,
        TIMEOUT_S,
        clock,
        backoff_s=0.01,
        messages_per_s=9000,
        silence_s=silence_s,
        full_every_s=full_every_s,
    )
    stream = broker.stream()
    assert isinstance(stream, IbStream)
    try:
        stream.start(events.append)
        await eventually(lambda: stream.state is StreamState.LIVE)
        yield simulator, broker, stream
    finally:
        stream.close()
        await broker.close()
        simulator.close()
        await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}
