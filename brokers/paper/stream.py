"""The events of a paper venue: which instrument's orders or fills have just changed, and the steps of its prices.

It runs in the process of its venue, so it is LIVE from start to close, and none of its events can be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from loguru import logger

from brokers.errors import BrokerError
from brokers.paper.prices import Market
from brokers.port import Clock, OnEvent, StreamState


class PaperStream:
    """The events of one paper venue. While it is followed it calls ``step`` for each of the ``walking`` markets every
    ``step_s`` seconds. Start and close it in the event loop of the venue."""

    def __init__(self, account: str, walking: Iterable[Market], step: Callable[[str], None], clock: Clock) -> None:
        self._account = account
        self._walking = tuple(walking)
        self._step = step
        self._clock = clock
        self._on_event: OnEvent | None = None
        self._walks: list[asyncio.Task[None]] = []
        self._error: str | None = None
        self._heard_at: datetime | None = None

    @property
    def state(self) -> StreamState:
        """LIVE from start to close."""
        return StreamState.CLOSED if self._on_event is None else StreamState.LIVE

    @property
    def error(self) -> str | None:
        """Why the last step of a price failed; ``None`` when it did not."""
        return self._error

    @property
    def last_heard_at(self) -> datetime | None:
        """When anything last changed or moved."""
        return self._heard_at

    def start(self, on_event: OnEvent) -> None:
        """Report every change from now on, and let the prices walk."""
        self.close()
        self._on_event = on_event
        self._walks = [asyncio.get_running_loop().create_task(self._walk(market)) for market in self._walking]
        self.report(None)

    def close(self) -> None:
        """Report nothing more, and stop the prices."""
        self._on_event = None
        walks, self._walks = self._walks, []
        for walk in walks:
            walk.cancel()

    def report(self, instrument: str | None) -> None:
        """Report a change in this instrument; ``None`` for a possible change in any."""
        self._heard_at = self._clock()
        if self._on_event is not None:
            self._on_event(instrument)

    async def _walk(self, market: Market) -> None:
        while True:
            await asyncio.sleep(market.step_s)
            try:
                self._step(market.symbol)
            except BrokerError as error:
                if self._error is None:
                    logger.warning("{}; its prices stand meanwhile", error)
                self._error = str(error)
            except Exception:  # noqa: BLE001 - a price that failed once must go on moving
                logger.exception("{}: an internal error while moving the price of {}", self._account, market.symbol)
            else:
                self._error = None
                self._heard_at = self._clock()
