"""Whether TWS has a contract for a configured name that no row mentions.

The laws of this module: a name counts as a mistake only when TWS itself says that there is no such contract (200, "no
security definition"), and only when every kind of contract that the name may mean was requested. A request without an
answer shows nothing.
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

_REQUEST_S = 2.0
"""A name must not use up the time of an account's reading."""
_BY_LOCAL_SYMBOL = ("FUT", "OPT", "FOP", "CASH")
_NO_DEFINITION = "TWS said 200:"
"""TWS API documentation, message codes: no security definition has been found for the request."""


class ContractLookup:
    """Looks names up over the session. ``sec_types`` are the security types in scope, ``None`` for all."""

    def __init__(self, session: Session, sec_types: Collection[str] | None) -> None:
        self._session = session
        others = _BY_LOCAL_SYMBOL if sec_types is None else tuple(kind for kind in sec_types if kind != STOCK)
        self._others = others

    async def __call__(self, name: str) -> Collection[str] | None:
        """The most similar names, with the name itself where TWS has it; ``None`` where TWS does not answer."""
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
            return bool(await self._session.ask(request, time.monotonic() + _REQUEST_S))
        except Declined as error:
            return False if _NO_DEFINITION in str(error) else None
        except NoAnswer:
            return None

    async def _rows(self, request: Request) -> list[Heard]:
        try:
            return await self._session.ask(request, time.monotonic() + _REQUEST_S)
        except (Declined, NoAnswer, BadRow):
            return []
