"""What TWS tells by itself, as a :class:`brokers.port.Stream` over the adapter's own connection.

IB counts connections, so there is one: the rows that TWS pushes over it (positions of everybody's making, orders and
executions of this client's) wake the instrument they name. TWS has no heartbeat, so where nothing was heard for half of
the budget its clock is asked for; that also finds a connection that ended, and opens it anew.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Protocol

from loguru import logger

from brokers.errors import BrokerError, Refused
from brokers.executions import OnFill
from brokers.port import Clock, OnEvent, StreamState


class Source(Protocol):
    """What of the adapter is followed."""

    on_event: OnEvent | None
    on_fill: OnFill | None

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when TWS last said anything."""

    @property
    def in_touch(self) -> bool:
        """Whether there is a connection, and TWS has not lost its own."""

    async def ping(self) -> None:
        """Ask TWS for its time; raises like connecting."""


class IbStream:
    """The events of one account; meets :class:`brokers.port.Stream`.

    ``broker`` is the account's adapter, whose loop this is used in. ``budget_s`` is how long TWS may be silent.
    """

    def __init__(self, broker: Source, budget_s: float, clock: Clock) -> None:
        self._broker = broker
        self._budget_s = budget_s
        self._clock = clock
        self._watch: asyncio.Task[None] | None = None
        self._error: str | None = None
        self._refused = False
        self._on_fill: OnFill | None = None

    @property
    def state(self) -> StreamState:
        """How it stands now."""
        if self._refused:
            return StreamState.REFUSED
        if self._watch is None:
            return StreamState.CLOSED
        heard = self._broker.last_heard_at
        if heard is None or (not self._broker.in_touch and self._is_fresh(heard)):
            return StreamState.CONNECTING
        return StreamState.LIVE if self._broker.in_touch and self._is_fresh(heard) else StreamState.SILENT

    @property
    def error(self) -> str | None:
        """Why it is not LIVE; ``None`` while nothing is known to be wrong."""
        return None if self.state is StreamState.LIVE else self._error

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when TWS last said anything."""
        return self._broker.last_heard_at

    def tell_fills_to(self, on_fill: OnFill | None) -> None:
        """Who is told of each execution; see :mod:`brokers.executions`. TWS pushes those of this client's orders, and
        of everybody's to its master client."""
        self._on_fill = on_fill

    def start(self, on_event: OnEvent) -> None:
        """Follow TWS from now on; connecting is left to the first look at its clock, or to the adapter's own work."""
        self.close()
        self._refused = False
        self._broker.on_event, self._broker.on_fill = on_event, self._on_fill
        self._watch = asyncio.get_running_loop().create_task(self._watch_it())

    def close(self) -> None:
        """Hear nothing any more. The connection stays: it is the adapter's."""
        self._broker.on_event = self._broker.on_fill = None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()

    def _is_fresh(self, heard: datetime) -> bool:
        return abs(self._clock() - heard) <= timedelta(seconds=self._budget_s)

    async def _watch_it(self) -> None:
        while True:
            heard = self._broker.last_heard_at
            age_s = self._budget_s if heard is None else abs(self._clock() - heard).total_seconds()
            if age_s >= self._budget_s / 2 or not self._broker.in_touch:
                await self._ask()
                if self._refused:
                    return
            await asyncio.sleep(self._budget_s / 4)

    async def _ask(self) -> None:
        try:
            await self._broker.ping()
        except BrokerError as error:
            self._error, self._refused = str(error), isinstance(error, Refused)
        except Exception as error:  # noqa: BLE001 - a watch that died would be silent for ever
            logger.exception("an internal error while watching a stream")
            self._error = f"an internal error: {error!r}"
        else:
            self._error = None
