"""When the contracts of an account end, from the exchanges' tables of instruments.

A table is long, and made once a day. The laws of this module:

* It is read outside the cycles, never within one; once in a day of the exchange, and only for an exchange on which a
  contract with an expiry is configured or held.
* Its expiry is evidence of an end only if it comes from the table of the contract's last day: until then an expiry may
  be moved, and an expired contract is in no table any more. A table that still lists what expired before today, or was
  read before today's was made, is one of an earlier day.
* A table that is cut off or unreadable shows nothing, and is requested again.
* A contract has expired once its last session is over by its exchange's calendar, and only where every trade up to then
  is known: Kite lists no trade of an earlier day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import date, time, timedelta
from functools import partial

from loguru import logger

from brokers.clocks import BrokerTime
from brokers.errors import BrokerError
from brokers.frozen import dataclass
from brokers.kit.foreign_row import Unusable
from brokers.kite.decode import IST, contracts
from brokers.model import ContractFacts

WITH_EXPIRY = frozenset({"NFO", "BFO", "CDS", "BCD", "MCX", "NCO"})
"""Kite Connect documentation, constants: the exchanges, or segments of them, of futures and options."""

MADE_BY = time(8, 30)
"""IST. Kite Connect documentation, instruments: the table is generated once a day; its forum (staff): by 8:30."""

AGAIN_AFTER = timedelta(minutes=10)
"""When a table that could not be fetched, or not be read, is requested again."""

AGAIN_AFTER_OLD = timedelta(hours=1)
"""When a table of an earlier day is requested again."""

_DAYS_KEPT = 7


def has_expiry(instrument: str) -> bool:
    """Whether it is of an exchange of futures and options."""
    return instrument.partition(":")[0] in WITH_EXPIRY


def _is_long_over(facts: ContractFacts, now: BrokerTime) -> bool:
    return facts.ends_at is not None and now - facts.ends_at > timedelta(days=_DAYS_KEPT)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read, and when; by the broker's clock where the answer carried its time."""

    content: bytes
    read_at: BrokerTime

    @property
    def of_day(self) -> date:
        """The day of the table, from the time at which it was read."""
        local = self.read_at.astimezone(IST)
        return local.date() if local.time() >= MADE_BY else local.date() - timedelta(days=1)


class ContractTables:
    """What is known of one account's contracts. ``read`` fetches the table of an exchange; it may raise
    ``BrokerError``, or ``BadAnswer`` for what is not a table."""

    def __init__(self, account: str, read: Callable[[str], Awaitable[Table]]) -> None:
        self._account = account
        self._read = read
        self._tables: dict[str, Table] = {}
        self._known: dict[str, ContractFacts] = {}
        self._looked_up: dict[str, date] = {}
        self._again_at: dict[str, BrokerTime] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._trades_known: dict[date, BrokerTime] = {}

    def seek(self, instruments: Iterable[str], now: BrokerTime) -> None:
        """Start looking up the contracts with an expiry, in the table of their day. Returns at once."""
        local = now.astimezone(IST)
        if local.time() < MADE_BY:
            return
        wanted: dict[str, set[str]] = {}
        for name in instruments:
            if has_expiry(name) and self._looked_up.get(name) != local.date():
                wanted.setdefault(name.partition(":")[0], set()).add(name)
        for exchange, names in wanted.items():
            if exchange not in self._reading and now >= self._again_at.get(exchange, now):
                self._again_at[exchange] = now + AGAIN_AFTER
                task = asyncio.get_running_loop().create_task(self._look_up(exchange, frozenset(names), now))
                self._reading[exchange] = task
                task.add_done_callback(partial(self._has_read, exchange))

    def note_trades(self, as_of: BrokerTime) -> None:
        """Note that every trade of that day, up to ``as_of``, is known."""
        day = as_of.astimezone(IST).date()
        self._trades_known[day] = max(as_of, self._trades_known.get(day, as_of))
        while len(self._trades_known) > _DAYS_KEPT:
            del self._trades_known[min(self._trades_known)]

    def facts(self, as_of: BrokerTime, *, trades_known: bool) -> dict[str, ContractFacts]:
        """What tables say of contracts. An expiry is certain once its contract's last session is over and all trades up
        to then are known, those of today (``trades_known``) too. A book keeps an expiry that was certain once."""
        self._known = {name: facts for name, facts in self._known.items() if not _is_long_over(facts, as_of)}
        found: dict[str, ContractFacts] = {}
        for name, facts in self._known.items():
            over = trades_known and self.has_expired(name, as_of)
            found[name] = facts if over else replace(facts, expiry_certain=False)
        return found

    def has_expired(self, instrument: str, at: BrokerTime) -> bool:
        """Whether the table of its last day lists it, its last session is over, and all of its trades are known."""
        facts = self._known.get(instrument)
        return facts is not None and facts.has_expired(at) and self._knows_all_trades(facts)

    async def table(self, exchange: str, now: BrokerTime) -> Table:
        """The table of an exchange; today's is read only once. Raises as ``read`` does."""
        known = self._tables.get(exchange)
        if known is None or known.of_day != now.astimezone(IST).date():
            known = self._tables[exchange] = await self._read(exchange)
        return known

    async def close(self) -> None:
        """Stop reading."""
        reading = tuple(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    def _has_read(self, exchange: str, task: asyncio.Task[None]) -> None:
        self._reading.pop(exchange, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{}: an internal error: reading {}", self._account, exchange)

    def _knows_all_trades(self, facts: ContractFacts) -> bool:
        """Whether this connection has seen every trade of its last session."""
        known = self._trades_known.get(facts.expiry) if facts.expiry is not None else None
        return known is not None and facts.ends_at is not None and known >= facts.ends_at

    async def _look_up(self, exchange: str, names: frozenset[str], now: BrokerTime) -> None:
        try:
            table = await self.table(exchange, now)
            found = await asyncio.to_thread(contracts, table.content, exchange, names)
        except (BrokerError, Unusable) as failed:
            self._tables.pop(exchange, None)
            logger.info("{}: the expiries of {} are not known: {}", self._account, exchange, failed)
            return
        day = table.of_day
        of_earlier_day = found.earliest is not None and found.earliest < day
        for name, facts in found.rows.items():
            certain = facts.expiry == day and not of_earlier_day
            self._known[name] = replace(facts, expiry_certain=certain)
        if of_earlier_day or day != now.astimezone(IST).date():
            self._tables.pop(exchange, None)
            self._again_at[exchange] = now + AGAIN_AFTER_OLD
            return
        self._again_at.pop(exchange, None)
        self._looked_up = {name: of for name, of in self._looked_up.items() if of == day} | dict.fromkeys(names, day)
