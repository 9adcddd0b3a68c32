"""What it costs to keep the grounds of every decision: a day of fifty instruments, and deciding on it again.

    python -m tests.benchmarks.slices

Each instrument is looked at every 15 s. It has a position and five working orders, and a hundred times in the day one
of them is filled and another takes its place. What is kept stands beside what its journal takes, and beside the size of
every slice that was looked at, written down in full.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from actors.book.book import Book
from actors.book.policy import Policy
from actors.instrument.slice_keeper import SliceKeeper
from actors.journal.kept_slices import KeptSlices
from actors.journal.store import Append, Journal
from actors.reconciliation.grounds import Grounds, kept
from actors.runtime.ports import Runtime
from brokers.clocks import broker_time
from brokers.model import Complete, Conventions, Fill, Order, OrderStatus, Position, Side, Slice
from supervisor.cli.audit_recompute import Wanted, recompute
from supervisor.cli.audit_selection import Source
from tests.benchmarks.form import Figure, show
from tests.unit.builders import T0

INSTRUMENTS = 50
EVERY_S = 15
TRADES = 100
DAY_S = 86_400


class _Desk:
    """One instrument's broker and book."""

    def __init__(self, name: str, number: int) -> None:
        self.book = Book("fx", name)
        self._name = name
        self._held = Decimal(1000)
        self._orders = {str(n): self._order(n, T0) for n in range(5)}
        self._next = 5
        self._fills: list[Fill] = []
        self._revision = 0
        self._trade_every_s = DAY_S / TRADES
        self._next_trade_s = number * EVERY_S * 0.7

    def _order(self, number: int, at: datetime) -> Order:
        return Order(
            self._name,
            str(number),
            f"c{number}",
            Side.BUY if number % 2 else Side.SELL,
            Decimal(10),
            Decimal(0),
            OrderStatus.OPEN,
            order_type="LIMIT",
            limit_price=Decimal(f"191.{number % 1000:03}"),
            submitted_at=broker_time(at),
        )

    def slice(self, second: int) -> Slice:
        """What the broker shows in that second."""
        at = T0 + timedelta(seconds=second)
        fills: list[Fill] = []
        if second >= self._next_trade_s:
            self._next_trade_s += self._trade_every_s
            first = next(iter(self._orders))
            done = self._orders.pop(first)
            fills.append(
                Fill(self._name, f"F{first}", first, done.side, done.quantity, Decimal("191.2"), broker_time(at))
            )
            self._held += done.quantity * done.side.sign
            self._orders[str(self._next)] = self._order(self._next, at)
            self._next += 1
            self._revision += 1
        elif self._fills:
            self._revision += 1  # they are dealt with, and reported no more
        self._fills = fills
        rows = (Position(self._name, "net", self._held, Decimal("191.2")),) if self._held else ()
        return Slice(
            "fx", self._name, at, broker_time(at),
            Complete(rows), Complete(tuple(self._orders.values())), Complete(tuple(fills)),
            self._next, Conventions(), f"r{self._revision}",
        )  # fmt: skip


class _House:
    """As much of a runtime as keeping slices asks for."""

    def __init__(self, store: KeptSlices) -> None:
        self._store = store
        self.spent_s = 0.0

    async def call(self, _: str, __: str, *given: Any, timeout_s: float) -> None:
        began_s = time.perf_counter()
        self._store.keep(*cast("tuple[str, int, str, bytes, Mapping[str, bytes]]", given))
        self.spent_s += time.perf_counter() - began_s


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """What a day takes, or in a quick run two hours."""
    with tempfile.TemporaryDirectory() as place:
        yield from asyncio.run(_measure(Path(place), 7_200 if quick else DAY_S))


def main() -> None:
    """Measure and print."""
    show(figures())


async def _measure(directory: Path, day_s: int) -> list[Figure]:
    file = directory / "journal.db"
    journal = Journal.open(f"sqlite:///{file}", exclusive=True)
    store = KeptSlices(directory / "journal.db.slices")
    house = _House(store)
    policy = Policy()
    desks = [_Desk(f"I{number:02}", number) for number in range(INSTRUMENTS)]
    keepers = [SliceKeeper(desk.book.stream, cast("Runtime", house)) for desk in desks]
    looks = in_full = 0
    for second in range(0, day_s, EVERY_S):
        batch = []
        for desk, keeper in zip(desks, keepers, strict=True):
            grounds = Grounds(
                desk.book, desk.slice(second), policy, T0 + timedelta(seconds=second, milliseconds=3), None
            )
            events = grounds.events_of(grounds.decide())
            looks += 1
            if looks % 97 == 0:
                in_full += sum(map(len, kept(replace(grounds), 0, None).parts.values())) * 97
            events = await keeper.with_pass(grounds, events)
            if events:
                batch.append(Append(desk.book.stream, desk.book.version, events))
                for event in events:
                    desk.book.apply(event)
        journal.append(batch)
    passes = sum(1 for name in store.streams() for _ in store.passes(name))
    journal.close()
    store.close()
    size_mb, beside_mb = (directory / "journal.db.slices").stat().st_size / 1e6, file.stat().st_size / 1e6
    found = [
        Figure(f"grounds kept of {looks:,} looks", size_mb, "MB", in_full / 1e6, "every slice in full"),
        Figure("the same beside the journal", size_mb, "MB", beside_mb, "its journal"),
        Figure(f"keeping one of {passes:,} passes, durable", house.spent_s / passes * 1e6, "µs"),
    ]
    began_s = time.perf_counter()
    of = Source(f"sqlite:///{file}", slices=f"{file}.slices")
    with contextlib.redirect_stdout(io.StringIO()):
        recompute(of, Wanted(), None, (), as_json=False)
    took_s = time.perf_counter() - began_s
    return [*found, Figure("deciding on one again", took_s / passes * 1e6, "µs")]


if __name__ == "__main__":
    main()
