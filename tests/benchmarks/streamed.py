"""A fill that a stream reports beside one that only wakes its instrument, which then asks: from the broker to durable.

    python -m tests.benchmarks.streamed [FILLS]

Two accounts of one process, each with an OANDA simulator over the wire and one journal on disk between them; fills in
turns, so that whatever else the machine does meets both alike. Without Ray: what its calls cost beside that is in
:mod:`tests.benchmarks.latency`. The requests are those that left for the broker before the fill was durable.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from loguru import logger

from actors.account.actor import Account, AccountSettings
from actors.book.policy import Policy
from actors.events import EventType
from actors.instrument.actor import Instrument, InstrumentSettings
from actors.journal.actor import Audit
from actors.names import AUDIT, instrument_name
from actors.runtime.ports import LocalRuntime
from brokers.model import Side
from brokers.oanda import OandaBroker
from brokers.port import OnEvent, Stream, StreamState
from brokers.registry import CONVENTIONS, utc_now
from brokers.simulators.oanda import OandaSimulator
from tests.benchmarks.form import Figure, show

ACCOUNT_ID, TOKEN, PAIR = "101-001-0000001-001", "benchmark-token", "EUR_USD"
REPORTED, WOKEN = "reported", "woken"
IN_STEP_FOR_S = 6.5
"""A fill from within five seconds of a position that may have it in it is left to the look."""
BETWEEN_S = 0.1
GIVE_UP_AFTER_S = 10.0


class _Silent:
    """A stream that reports no executions."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def state(self) -> StreamState:
        return self._stream.state

    @property
    def error(self) -> str | None:
        return self._stream.error

    @property
    def last_heard_at(self) -> datetime | None:
        return self._stream.last_heard_at

    def start(self, on_event: OnEvent) -> None:
        self._stream.start(on_event)

    def close(self) -> None:
        self._stream.close()


class _Woken(OandaBroker):
    def stream(self) -> Stream | None:
        stream = super().stream()
        return None if stream is None else _Silent(stream)


class _Runtime(LocalRuntime):
    """Says when an append with a fill was answered."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime.now(UTC), time.monotonic, random.Random(1).random)  # noqa: S311 - a figure
        self.durable = asyncio.Event()
        self.durable_s = 0.0
        self.then: Callable[[], None] = lambda: None

    async def call(self, actor: str, method: str, *args: Any, timeout_s: float) -> Any:
        answer = await super().call(actor, method, *args, timeout_s=timeout_s)
        if method == "append" and any(event.type is EventType.ORDER_FILLED for event in args[2]):
            self.durable_s = time.perf_counter()
            self.then()
            self.durable.set()
        return answer


async def _measure(directory: Path, fills: int) -> dict[str, list[tuple[float, int]]]:
    """Milliseconds and requests of each fill, by account."""
    runtime, simulators, brokers, actors = _Runtime(), {}, {}, []
    audit = Audit(f"sqlite:///{directory}/journal.db")
    await audit.open()
    runtime.register(AUDIT, audit)
    for name, kind in ((REPORTED, OandaBroker), (WOKEN, _Woken)):
        simulator = simulators[name] = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=[PAIR], hedging=False)
        rest, stream = simulator.start(), simulator.start_stream()
        broker = brokers[name] = kind(name, ACCOUNT_ID, TOKEN, rest, 5.0, utc_now, stream_url=stream)
        account = Account(AccountSettings(name, "oanda", frozenset({PAIR})), lambda made=broker: made, runtime)  # type: ignore[misc]  # bound
        policy = Policy(conventions=CONVENTIONS["oanda"])
        instrument = Instrument(InstrumentSettings(name, PAIR, 300.0, 10.0, policy), runtime)
        runtime.register(name, account)
        runtime.register(instrument_name(name, PAIR), instrument)
        await account.start()
        await instrument.start()
        actors += [instrument.stop, account.close]
    found: dict[str, list[tuple[float, int]]] = {REPORTED: [], WOKEN: []}
    try:
        await asyncio.sleep(IN_STEP_FOR_S)
        for number in range(fills):
            for name, broker in brokers.items():
                runtime.durable.clear()
                calls, asked, began_s = broker.calls, [0], time.perf_counter()
                runtime.then = lambda of=broker, into=asked: into.__setitem__(0, of.calls)  # type: ignore[misc]  # bound
                simulators[name].trade(PAIR, Side.BUY if number % 2 else Side.SELL, Decimal(100))
                async with asyncio.timeout(GIVE_UP_AFTER_S):
                    await runtime.durable.wait()
                found[name].append(((runtime.durable_s - began_s) * 1000, asked[0] - calls))
                await asyncio.sleep(BETWEEN_S)
    finally:
        for end in actors:
            with suppress(Exception):
                await end()
        await audit.close()
        for simulator in simulators.values():
            simulator.close()
    return found


def figures(*, quick: bool = False, fills: int = 200) -> Iterator[Figure]:
    """The one beside the other."""
    logger.remove()
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(_measure(Path(directory), 30 if quick else fills))
    reported, woken = (sorted(took for took, _ in found[name]) for name in (REPORTED, WOKEN))
    for words, place in (("p50", 0.5), ("p99", 0.99)):
        at = int(len(reported) * place)
        name, beside = f"a fill that the stream tells, to durable, {words}", "one that is asked for"
        yield Figure(name, reported[at], "ms", woken[at], beside, "0.4 x" if words == "p50" else "0.5 x")
    requests = {name: sum(asked for _, asked in of) / len(of) for name, of in found.items()}
    yield Figure(
        "requests to the broker before it is durable", requests[REPORTED], "", requests[WOKEN], "one asked for", "0"
    )


def main(fills: int) -> None:
    """Measure and print."""
    show(figures(fills=fills))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
