"""With ``instruments: all``: an actor for everything that the account has, or our books say it has, and none any more
for what has long been empty.

The laws of this module: an instrument is retired only after it was found in step with nothing held, nothing working
and nothing open for ``retire_after_s`` on end, and both its book and its account say that this is so now, whatever the
last report said; its account forgets it first, as it would be found again at once otherwise; a book that holds
something has an actor, whoever died, as soon as the journal can be read.
"""

from __future__ import annotations

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
"""When the journal did not tell which books hold something."""


class Discovery:
    """Which instruments come and go by themselves. ``desire`` has what is desired now carried out; nothing comes and
    goes while ``stopping``."""

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
        """The account has these, or somebody (``by``) asks for them: start actors for those that are new, if it
        takes all it has."""
        new = self._desired.undiscovered(account, symbols)
        if new and not self._stopping():
            self._desired.discover(account, new)
            self._desire(by)

    def look_into_our_books(self, account: str) -> None:
        """Look after what our books of an account hold, as soon as the journal tells: its broker need not speak of it
        any more."""
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
        """After a supervisor that died: what lives of an account that takes all it has was discovered, and its books
        may hold more than that."""
        for name in living:
            account, symbol = split_name(name)
            if symbol:
                self._desired.discover(account, self._desired.undiscovered(account, [symbol]))
        for account in self._desired.accounts:
            if account in living:
                self.look_into_our_books(account)

    def retire_when_quiet(self, key: ChildKey, health: InstrumentHealth) -> None:
        """An instrument that was discovered needs no actor once it has been empty for long enough."""
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
        # Before its actor goes: else the account would have it found again at once.
        try:
            empty = await self._runtime.call(instrument_name(account, symbol), "is_empty", timeout_s=PROBE_TIMEOUT_S)
            gone = empty and await self._runtime.call(account, "forget", symbol, timeout_s=PROBE_TIMEOUT_S)
        except CallError as error:
            logger.debug("{}: not retired yet: {}", instrument_name(account, symbol), error)
            return
        if not gone or self._stopping():
            return
        self._desired.retire(account, symbol)
        logger.info("{}: retired, it has been empty long enough", instrument_name(account, symbol))
        self._desire(None)
