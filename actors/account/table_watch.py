"""The book that another system keeps of an account in a table, as the account's actor reads it.

The laws of this module:

* It is read once for each look at the broker, however many instruments request slices, in a thread: a table that does
  not answer delays no broker.
* Whatever goes wrong with it is a doubt about every instrument, with the reason and the remedy as text, and never an
  empty book. While a store does not answer, the last reading stands, for as long as the table's maximum age allows.
* The library that reads tables is imported only where there is a table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from loguru import logger

from actors.reconciliation.reconciliation_pass import ClaimCorrection
from actors.runtime.ports import Runtime
from brokers.errors import BrokerError, Unreachable
from brokers.model import ClaimDoubt, Claims

READ_WITHIN_S = 30.0
"""How long one look waits for the table. The reading goes on, and the next look uses its result."""


class TableBook(Protocol):
    """The content of a table at one time."""

    def claims(self, instrument: str, identity: str | None) -> Claims:
        """The claims about one instrument, by its name or by the broker's permanent id of it."""

    def held(self, names: Mapping[str, str]) -> Mapping[str, str]:
        """What each contract holds that is not flat, as text, by its instrument's name. ``names`` maps permanent ids to
        names."""


class BookTable(Protocol):
    """A table with a book in it. Its methods block, and raise :class:`brokers.errors.BrokerError`."""

    @property
    def max_age(self) -> timedelta | None:
        """How old its content may be."""

    def read(self, now: datetime) -> TableBook:
        """Its present content."""

    def correct(
        self, instrument: str, identity: str | None, corrections: Sequence[ClaimCorrection], now: datetime
    ) -> int:
        """Append the rows that it lacks, each once for its discrepancy; returns the number of new ones."""


class TableWatch:
    """One account's table. ``open_table`` makes it, in the thread that reads."""

    def __init__(
        self,
        account: str,
        open_table: Callable[[], BookTable],
        runtime: Runtime,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._account = account
        self._open = open_table
        self._runtime = runtime
        self._in_thread = in_thread
        self._table: BookTable | None = None
        self._book: TableBook | None = None
        self._read_at: datetime | None = None
        self._doubt: ClaimDoubt | None = ClaimDoubt(None, stale=True, text="the table has not been read yet")
        self._reading: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    @property
    def doubt(self) -> str | None:
        """Why the table as a whole cannot be used; ``None`` where it can."""
        return None if self._doubt is None else self._doubt.text

    def begin(self) -> None:
        """Begin to read its present content, unless a reading is running."""
        if self._reading is None or self._reading.done():
            self._reading = self._runtime.spawn(self._account, self._read())

    async def finish(self) -> None:
        """Wait for the reading that was begun, within bounds."""
        if self._reading is None:
            return
        done, _ = await asyncio.wait([self._reading], timeout=READ_WITHIN_S)
        if not done:
            found = f"it has not answered for {READ_WITHIN_S:g} s, and is still being read"
            self._failed(Unreachable("read the book", self._account, found, "Check where the table lies."))

    def claims(self, instrument: str, identity: str | None) -> Claims:
        """Its claims about one instrument."""
        if self._doubt is not None or self._book is None:
            return Claims((), (self._doubt or ClaimDoubt(None, stale=True, text="not read yet"),))
        return self._book.claims(instrument, identity)

    def held(self, names: Mapping[str, str]) -> Mapping[str, str]:
        """What it holds, by instrument; empty while that is not known."""
        return {} if self._doubt is not None or self._book is None else self._book.held(names)

    async def correct(self, instrument: str, identity: str | None, corrections: Iterable[ClaimCorrection]) -> None:
        """Append what it lacks. Never raises: the break stays open, and the next look tries again."""
        async with self._writing:
            table = self._table
            if table is None:
                return
            now = self._runtime.now()
            try:
                rows = await self._in_thread(table.correct, instrument, identity, tuple(corrections), now)
            except BrokerError as error:
                logger.error("{}", error)
            except Exception:  # noqa: BLE001 - the break stays open and shows it
                logger.exception("{}/{}: an internal error while correcting its table", self._account, instrument)
            else:
                if rows:
                    logger.info("{}/{}: {} row(s) appended to its table", self._account, instrument, rows)

    async def close(self) -> None:
        """Stop waiting for anything."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        try:
            if self._table is None:
                self._table = await self._in_thread(self._open)
            self._book = await self._in_thread(self._table.read, self._runtime.now())
        except BrokerError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a table must not end the actor with the connection
            logger.exception("{}: an internal error while reading its table", self._account)
            self._doubt = ClaimDoubt(None, stale=False, text=f"an internal error: {type(error).__name__}: {error}")
        else:
            self._read_at, self._doubt = self._runtime.now(), None

    def _failed(self, error: BrokerError) -> None:
        if isinstance(error, Unreachable) and self._is_young_enough():
            logger.warning("{}", error)
            return
        self._doubt = ClaimDoubt(None, stale=isinstance(error, Unreachable), text=str(error))

    def _is_young_enough(self) -> bool:
        max_age = None if self._table is None else self._table.max_age
        if max_age is None or self._read_at is None or self._doubt is not None:
            return False
        return self._runtime.now() - self._read_at <= max_age
