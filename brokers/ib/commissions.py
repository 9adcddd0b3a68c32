"""What TWS told of commissions, and which fills were handed out before theirs was told.

TWS tells a commission in a message of its own after the execution it names, mostly at once and sometimes much later
(TWS API documentation, ``commissionReport``). The laws of this module: nobody waits for one; one that comes after its
fill was handed out is given with that fill once; one that TWS has not got yet, or tells of an execution nobody was
given, gives nothing.
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

_TOLD_KEPT = 20_000
_AWAITED_KEPT = 5_000


class Commissions:
    """Those of one account, over all of its connections. ``told`` are amount and currency by execId."""

    def __init__(self, account: str) -> None:
        self.told: dict[str, tuple[Decimal, str | None]] = {}
        self._account = account
        self._awaited: dict[str, Fill] = {}

    def hear(self, heard: Heard) -> Fill | None:
        """Take one row. Gives the fill it is of, now with its commission, where that was handed out without it."""
        try:
            exec_id, amount, currency = wire.commission(heard.fields)
        except BadRow as error:
            logger.warning("{}: a commission that cannot be read: {}", self._account, error)
            return None
        if amount is None:
            return None
        self.told[exec_id] = (amount, currency)
        while len(self.told) > _TOLD_KEPT:
            del self.told[next(iter(self.told))]
        fill = self._awaited.pop(exec_id, None)
        return None if fill is None else replace(fill, commission=amount, commission_currency=currency)

    def handed_out(self, without: Mapping[str, Fill]) -> None:
        """These fills, by execId, were handed out without a commission."""
        self._awaited.update(without)
        while len(self._awaited) > _AWAITED_KEPT:
            del self._awaited[next(iter(self._awaited))]
