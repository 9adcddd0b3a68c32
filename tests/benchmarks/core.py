"""What the pure core costs, beside its targets: ``python -m tests.benchmarks.core``. Not a test: figures depend on the
machine, so nothing here fails."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

from actors.book.book import Book
from actors.book.checkpoint import replay
from actors.book.policy import Policy
from actors.events import Event, Record
from actors.reconciliation.decide import reconcile
from actors.reconciliation.own_reports import OrderReport, events_of
from brokers.clocks import broker_time
from brokers.model import (
    Complete,
    Conventions,
    Fill,
    LegScheme,
    Order,
    OrderStatus,
    Position,
    Side,
    Slice,
)
from tests.benchmarks.form import Figure, show

NOW = datetime(2024, 1, 2, 9, 0, tzinfo=UTC)
POLICY = Policy()
TICKETS = Conventions(LegScheme.TICKET)
ROUNDS = 7


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """Microseconds a unit."""
    counts = (250, 1_000) if quick else (1_250, 2_500, 5_000)
    yield Figure("in-step position row", in_step(positions=200), "µs", target="5 µs")
    yield Figure("in-step order row", in_step(orders=200), "µs", target="5 µs")
    yield Figure("unchanged slice of 400 rows, whole", unchanged(400), "µs", target="nothing per row")
    yield Figure("cold position, decide and apply", cold(200), "µs", target="40 µs")
    for what, of in (("decide and apply", fills), ("replay", replaying)):
        first: float | None = None
        for count in counts:
            cost_us = of(count)
            first = first or cost_us
            name = f"fill of one order ({count:,} of them), {what}"
            yield Figure(name, cost_us, "µs", first, "a fill of the fewest", "1 x: the same for each count")


def main() -> None:
    """Measure and print."""
    show(figures())


def best_us(action: Callable[[], object], units: int) -> float:
    """Median microseconds a unit."""
    taken = []
    for _ in range(ROUNDS):
        gc.collect()
        began = perf_counter()
        action()
        taken.append((perf_counter() - began) * 1e6 / units)
    return statistics.median(taken)


def slice_of(
    positions: int = 0, orders: int = 0, fills_: tuple[Fill, ...] = (), rows: tuple[Order, ...] = (), after_s: int = 0
) -> Slice:
    """A complete slice with so many rows of each kind."""
    time = NOW + timedelta(seconds=after_s)
    held = tuple(Position("X", str(n), Decimal(n + 1), Decimal("1.1")) for n in range(positions))
    working = tuple(
        Order("X", f"B{n}", None, Side.BUY, Decimal(10), Decimal(0), OrderStatus.OPEN, limit_price=Decimal("1.1"))
        for n in range(orders)
    )
    return Slice(
        "bench", "X", time, broker_time(time),
        Complete(held), Complete(working + rows), Complete(fills_), None, TICKETS,
        f"{positions}/{orders}/{after_s}",
    )  # fmt: skip


def verified(slice_: Slice) -> Book:
    """A book in step with a slice."""
    book = Book("bench", "X")
    for event in reconcile(book, slice_, POLICY, NOW).events:
        book.apply(event)
    return book


def in_step(positions: int = 0, orders: int = 0) -> float:
    """A full comparison in which nothing differs."""
    slice_ = slice_of(positions, orders)
    book = verified(slice_)

    def look() -> None:
        book.clean = None
        reconcile(book, slice_, POLICY, NOW)

    return best_us(look, positions + orders)


def unchanged(rows: int) -> float:
    """A slice of the revision last found in step."""
    slice_ = slice_of(rows // 2, rows // 2)
    book = verified(slice_)
    reconcile(book, slice_, POLICY, NOW)
    return best_us(lambda: reconcile(book, slice_, POLICY, NOW), 1)


def cold(positions: int) -> float:
    """Adopting positions into a new book."""
    slice_ = slice_of(positions)
    return best_us(lambda: verified(slice_), positions)


def filled_order(count: int) -> tuple[Book, tuple[Event, ...], Slice]:
    """A book with one order, its events so far, and a slice with all its fills."""
    book = verified(slice_of())
    report_ = OrderReport(
        "X", "c1", "B1", Side.BUY, Decimal(count), "LIMIT", Decimal("1.1"), OrderStatus.OPEN, None, "net"
    )
    first = events_of(book, [report_], TICKETS, NOW)
    for event in first:
        book.apply(event)
    executed = tuple(
        Fill(
            "X",
            f"F{n}",
            "B1",
            Side.BUY,
            Decimal(1),
            Decimal("1.1"),
            broker_time(NOW + timedelta(milliseconds=n)),
            "net",
        )
        for n in range(count)
    )
    row = Order(
        "X", "B1", "c1", Side.BUY, Decimal(count), Decimal(count), OrderStatus.FILLED,
        average_fill_price=Decimal("1.1"), limit_price=Decimal("1.1"),
    )  # fmt: skip
    return book, first, slice_of(fills_=executed, rows=(row,), after_s=60)


def fills(count: int) -> float:
    """All fills of one order in one slice."""
    book, _, slice_ = filled_order(count)

    def run() -> None:
        fresh = book.fork()
        for event in reconcile(fresh, slice_, POLICY, slice_.requested_at).events:
            fresh.apply(event)

    return best_us(run, count)


def replaying(count: int) -> float:
    """A book made again from a journal with all fills of one order."""
    book, first, slice_ = filled_order(count)
    events = (*first, *reconcile(book, slice_, POLICY, slice_.requested_at).events)
    records = [Record(n, "bench/X", n, event, "", "") for n, event in enumerate(events, 1)]
    return best_us(lambda: replay("bench", "X", records), count)


if __name__ == "__main__":
    main()
