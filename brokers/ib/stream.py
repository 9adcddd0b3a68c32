"""What TWS pushes, as a :class:`brokers.port.Stream` over the adapter's own connection.

IB counts connections, so there is only one. The rows that TWS pushes over it (positions whoever changed them, orders
and executions of this client) wake the instrument they name. TWS has no heartbeat: where nothing came for half of the
budget, the stream requests TWS's clock. That also finds a connection that ended, and opens it anew.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Protocol

from loguru import logger

from brokers.errors import BrokerError, Refused
from brokers.executions import OnFill
from brokers.port import OnEvent, StreamState


class Source(Protocol):
    """The part of the adapter that the stream uses."""

    on_event: OnEvent | None
    on_fill: OnFill | None

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when TWS last sent anything."""

    @property
    def silent_s(self) -> float | None:
        """For how long TWS has sent nothing; ``None`` before it sent anything."""

    @property
    def in_touch(self) -> bool:
        """Whether the connection is up, and TWS has not lost its own connection to IB."""

    async def ping(self) -> None:
        """Request TWS's time; raises like connecting."""


class IbStream:
    """The events of one account; meets :class:`brokers.port.Stream`.

    ``broker`` is the account's adapter; the stream runs in its loop. ``budget_s`` is how long TWS may be silent.
    """

    def __init__(self, broker: Source, budget_s: float) -> None:
        self._broker = broker
        self._budget_s = budget_s
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
        silent_s = self._broker.silent_s
        if silent_s is None or (not self._broker.in_touch and silent_s <= self._budget_s):
            return StreamState.CONNECTING
        return StreamState.LIVE if self._broker.in_touch and silent_s <= self._budget_s else StreamState.SILENT

    @property
    def error(self) -> str | None:
        """Why it is not LIVE; ``None`` while nothing is known to be wrong."""
        return None if self.state is StreamState.LIVE else self._error

    @property
    def last_heard_at(self) -> datetime | None:
        """Our time when TWS last sent anything."""
        return self._broker.last_heard_at

    def report_fills_to(self, on_fill: OnFill | None) -> None:
        """Report each execution to ``on_fill``; see :mod:`brokers.executions`. TWS pushes those of this client's
        orders, and to its master client those of all orders."""
        self._on_fill = on_fill

    def start(self, on_event: OnEvent) -> None:
        """Follow TWS from now on. The first request for its clock connects, or the adapter's own work does."""
        self.close()
        self._refused = False
        self._broker.on_event, self._broker.on_fill = on_event, self._on_fill
        self._watch = asyncio.get_running_loop().create_task(self._watch_it())

    def close(self) -> None:
        """Receive nothing more. The connection stays: it is the adapter's."""
        self._broker.on_event = self._broker.on_fill = None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()

    async def _watch_it(self) -> None:
        while True:
            silent_s = self._broker.silent_s
            if silent_s is None or silent_s >= self._budget_s / 2 or not self._broker.in_touch:
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
