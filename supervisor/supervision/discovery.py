"""With ``instruments: all``: starts an actor for every instrument that the account or our books hold, and retires the
actors of instruments that have long been empty.

The laws of this module: an instrument is retired only after ``retire_after_s`` in step without a position, a working
order or an open break, and only if its book and its account both confirm that now, whatever the last report said; from
then on its book takes no report, and its account forgets it before it ends, as it would discover it again at once
otherwise; a book that holds something has an actor as soon as the journal can be read, whatever died before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable

from loguru import logger

from actors.messages import InstrumentHealth
from actors.names import SUPERVISOR, instrument_name, split_name
from actors.runtime.ports import CallError, Runtime
from supervisor.changes.asking import Who
from supervisor.supervision import status
from supervisor.supervision.books import AWAY, held_in_our_books
from supervisor.supervision.desired import DesiredState
from supervisor.tree.model import PROBE_TIMEOUT_S, ChildKey

ASK_AGAIN_AFTER_S = 2.0
"""The wait after the journal did not answer which books hold something."""


class Discovery:
    """Adds and retires instruments automatically. ``desire`` puts what is desired into effect. While ``stopping``,
    nothing is added or retired."""

    def __init__(
        self, runtime: Runtime, desired: DesiredState, desire: Callable[[Who], None], stopping: Callable[[], bool]
    ) -> None:
        self._runtime = runtime
        self._desired = desired
        self._desire = desire
        self._stopping = stopping
        self._empty_since: dict[ChildKey, tuple[int, float]] = {}
        self._looking: set[str] = set()

    def found(self, account: str, symbols: Iterable[str], by: Who = None) -> None:
        """The account has these instruments, or a caller (``by``) requests them: start actors for the new ones, if the
        account manages all its instruments."""
        new = self._desired.undiscovered(account, symbols)
        if new and not self._stopping():
            self._desired.discover(account, new)
            self._desire(by)

    def look_into_our_books(self, account: str) -> None:
        """Manage what our books of an account hold, as soon as the journal answers. The broker may no longer report
        it."""
        if self._desired.takes_all(account) and account not in self._looking:
            self._looking.add(account)
            self._runtime.spawn(SUPERVISOR, self._look_into_our_books(account))

    async def _look_into_our_books(self, account: str) -> None:
        while self._desired.takes_all(account) and not self._stopping():
            try:
                held = await held_in_our_books(account, self._runtime)
            except AWAY as error:
                logger.debug("{}: which books exist is not known yet: {}", account, error)
                await self._runtime.sleep(ASK_AGAIN_AFTER_S)
            else:
                self.found(account, held)
                break
        self._looking.discard(account)

    def take_over(self, living: Collection[str]) -> None:
        """After a supervisor died: the living instruments of an account that manages all were discovered, and its books
        may hold more."""
        for name in living:
            account, symbol = split_name(name)
            if symbol:
                self._desired.discover(account, self._desired.undiscovered(account, [symbol]))
        for account in self._desired.accounts:
            if account in living:
                self.look_into_our_books(account)

    def retire_when_quiet(self, key: ChildKey, health: InstrumentHealth) -> None:
        """Retire a discovered instrument that has been empty for long enough."""
        account, symbol = split_name(key.name)
        if not self._desired.is_discovered(account, symbol):
            return
        limit_s = self._desired.configuration.account(account).retire_after_s
        now_s = self._runtime.monotonic_s()
        if limit_s is None or not status.is_empty(health.report):
            self._empty_since.pop(key, None)
            return
        seen = health.statistics.discrepancies
        discrepancies, since_s = self._empty_since.setdefault(key, (seen, now_s))
        if discrepancies != seen:
            self._empty_since[key] = (seen, now_s)
        elif now_s - since_s >= limit_s and not self._stopping():
            del self._empty_since[key]
            self._runtime.spawn(SUPERVISOR, self._retire(account, symbol))

    async def _retire(self, account: str, symbol: str) -> None:
        # Its account forgets it before the actor ends: else the account would discover it again at once.
        name = instrument_name(account, symbol)
        try:
            empty = await self._runtime.call(name, "leave", timeout_s=PROBE_TIMEOUT_S)
            gone = empty and await self._runtime.call(account, "forget", symbol, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: not retired yet: {}", name, error)
            empty, gone = True, False
        if gone and not self._stopping():
            self._desired.retire(account, symbol)
            logger.info("{}: retired, it has been empty long enough", name)
            self._desire(None)
        elif empty:
            with contextlib.suppress(CallError):  # then it refuses reports for a while
                await self._runtime.call(name, "stay", timeout_s=PROBE_TIMEOUT_S)
