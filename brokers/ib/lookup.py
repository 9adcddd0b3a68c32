"""Whether TWS has a contract of a configured name, of which no row speaks.

The laws of this module: only TWS's own word that there is no such contract makes a name a mistake (200, "no security
definition"), and only where every kind of contract that the name may be was asked for; what was not answered says
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from brokers.ib import wire
from brokers.ib.contracts import STOCK
from brokers.ib.link import Declined, NoAnswer, Request, contract_details, contract_of_name, matching_symbols
from brokers.ib.row_decoder import Heard
from brokers.ib.session import Session
from brokers.kit.foreign_row import BadRow

_ASKED_FOR_S = 2.0
"""A name must not cost an account's reading its time."""
_BY_LOCAL_SYMBOL = ("FUT", "OPT", "FOP", "CASH")
_NO_DEFINITION = "TWS said 200:"
"""TWS API documentation, message codes: no security definition has been found for the request."""


class ContractLookup:
    """Asks over the session. ``sec_types`` are those looked after, ``None`` for all."""

    def __init__(self, session: Session, sec_types: Collection[str] | None) -> None:
        self._session = session
        others = _BY_LOCAL_SYMBOL if sec_types is None else tuple(kind for kind in sec_types if kind != STOCK)
        self._others = others

    async def __call__(self, name: str) -> Collection[str] | None:
        """The names that are most like it, itself among them where TWS has it; ``None`` where TWS does not say."""
        if name.isdecimal():
            found = await self._there_is(contract_details(int(name)))
            return None if found is None else ({name} if found else {""})
        samples = await self._rows(matching_symbols(name))
        if not samples:
            return None
        known = {symbol for row in samples for _, symbol, _ in wire.symbol_samples(row.fields)}
        if name in known:
            return known
        for kind in self._others:
            there = await self._there_is(contract_of_name(kind, name))
            if there is None:
                return None
            if there:
                return {*known, name}
        return known or {""}

    async def _there_is(self, request: Request) -> bool | None:
        try:
            return bool(await self._session.ask(request, time.monotonic() + _ASKED_FOR_S))
        except Declined as error:
            return False if _NO_DEFINITION in str(error) else None
        except NoAnswer:
            return None

    async def _rows(self, request: Request) -> list[Heard]:
        try:
            return await self._session.ask(request, time.monotonic() + _ASKED_FOR_S)
        except (Declined, NoAnswer, BadRow):
            return []
