"""The commissions that TWS reported, and the fills that were handed out before theirs was known.

TWS sends a commission in a message of its own after the execution it names, mostly at once and sometimes much later
(TWS API documentation, ``commissionReport``). The laws of this module: nobody waits for one. One that arrives after its
fill was handed out is returned with that fill once. A row without an amount, or of an execution that was not handed
out, returns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from loguru import logger

from brokers.ib import wire
from brokers.ib.row_decoder import Heard
from brokers.kit.foreign_row import BadRow
from brokers.model import Fill

_KEPT = 20_000
_AWAITED_KEPT = 5_000


class Commissions:
    """The commissions of one account, over all of its connections. ``known`` maps an execId to amount and currency."""

    def __init__(self, account: str) -> None:
        self.known: dict[str, tuple[Decimal, str | None]] = {}
        self._account = account
        self._awaited: dict[str, Fill] = {}

    def hear(self, heard: Heard) -> Fill | None:
        """Take one row. Returns its fill, now with the commission, where that was handed out without one."""
        try:
            exec_id, amount, currency = wire.commission(heard.fields)
        except BadRow as error:
            logger.warning("{}: a commission that cannot be read: {}", self._account, error)
            return None
        if amount is None:
            return None
        self.known[exec_id] = (amount, currency)
        while len(self.known) > _KEPT:
            del self.known[next(iter(self.known))]
        fill = self._awaited.pop(exec_id, None)
        return None if fill is None else replace(fill, commission=amount, commission_currency=currency)

    def handed_out(self, without: Mapping[str, Fill]) -> None:
        """These fills, by execId, were handed out without a commission."""
        self._awaited.update(without)
        while len(self._awaited) > _AWAITED_KEPT:
            del self._awaited[next(iter(self._awaited))]
