"""What tests of every adapter read a snapshot with, the clocks they move, and what they listen to meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest
from loguru import logger

from brokers.errors import BrokerError
from brokers.model import Complete, Completeness, Order, Side, Snapshot, rows_of

Answer = TypeVar("Answer")


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        """Move it on, or back."""
        self.now += timedelta(seconds=seconds)


class Ticking:
    """A clock on which no two things happen in one second, so that nothing waits for a second to end."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def __call__(self) -> datetime:
        return datetime(2026, 1, 5, 12, tzinfo=UTC) + timedelta(seconds=next(self._seconds))

    def pass_by(self, seconds: int) -> None:
        """Let time pass in which nothing happens."""
        self._seconds = itertools.count(next(self._seconds) + seconds)


def now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


def held(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    """The quantity of each leg that a snapshot shows, however complete."""
    return {(row.instrument, row.leg): row.quantity for row in rows_of(snapshot.positions)}


def legs(snapshot: Snapshot) -> dict[tuple[str, str], Decimal]:
    """The quantity of each leg there is."""
    assert isinstance(snapshot.positions, Complete), snapshot.positions
    return held(snapshot)


def orders(snapshot: Snapshot) -> dict[str, Order]:
    """The orders there are, by the broker's id."""
    assert isinstance(snapshot.orders, Complete), snapshot.orders
    return {row.broker_order_id: row for row in snapshot.orders.rows}


def fills(snapshot: Snapshot) -> list[tuple[str, Side, Decimal, str | None]]:
    """Every fill since the cursor."""
    assert isinstance(snapshot.fills, Complete), snapshot.fills
    return [(row.instrument, row.side, row.quantity, row.leg) for row in snapshot.fills.rows]


def fill_ids(snapshot: Snapshot) -> list[str]:
    """The ids of the fills that a snapshot shows."""
    return [fill.fill_id for fill in rows_of(snapshot.fills)]


def completeness(snapshot: Snapshot) -> tuple[Completeness, Completeness, Completeness]:
    """Of positions, orders and fills."""
    return snapshot.positions.completeness, snapshot.orders.completeness, snapshot.fills.completeness


async def a_failure(call: Awaitable[object]) -> BrokerError:
    """The broker error that a call raises."""
    with pytest.raises(BrokerError) as caught:
        await call
    return caught.value


async def outcome(call: Awaitable[Answer]) -> Answer | BrokerError:
    """What a call gives, or the broker error that it raises."""
    try:
        return await call
    except BrokerError as error:
        return error


def calls_have_ended(*names: str) -> None:
    """Every thread whose name begins so ends by itself: one that was cut may take its time."""
    for thread in threading.enumerate():
        if names and thread.name.startswith(names):
            thread.join(5)
            assert not thread.is_alive(), thread.name


@contextmanager
def logged() -> Iterator[list[str]]:
    """What is logged meanwhile, line by line."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)
