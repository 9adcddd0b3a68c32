"""MetaTrader's enumerations: every documented value, by its number and by its names, and its meaning here. Pure.

A gateway writes MetaTrader's own numbers (as its Python package does), the full names (``ORDER_TYPE_BUY``), or the
short names of our protocol (``buy``). A value that is not documented has no meaning and is not guessed.

Source: MQL5 documentation, the enumeration that each table names; the numbers are its order, from 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Generic, TypeVar

from brokers.model import LegScheme, OrderStatus, Reason, Side

Meaning = TypeVar("Meaning")


class Table(Generic[Meaning]):
    """The values of one enumeration. Names are read in either case, numbers as JSON writes them or as a text.
    ``by_value`` has them by number, and by text in small letters."""

    def __init__(self, prefixes: Iterable[str], values: Iterable[tuple[str, Meaning] | None]) -> None:
        """``values`` in the order of their numbers, ``None`` for a documented one that is not used here."""
        self.by_value: dict[str | int, Meaning] = {}
        names: list[str] = []
        for number, value in enumerate(values):
            if value is None:
                continue
            name, meaning = value
            names.append(name)
            self.by_value[number] = meaning
            for word in (str(number), name, *(prefix + name for prefix in prefixes)):
                self.by_value[word.lower()] = meaning
        self.words = ", ".join(names)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str | int) and self._key(value) in self.by_value

    def __getitem__(self, value: object) -> Meaning:
        return self.by_value[self._key(value)]

    def get(self, value: object) -> Meaning | None:
        """The meaning, ``None`` for a value that is not documented."""
        return self.by_value.get(self._key(value))

    @staticmethod
    def _key(value: object) -> str | int:
        return value if type(value) is int else str(value).lower()


class Entry(StrEnum):
    """What a deal does to its position."""

    IN = "in"
    OUT = "out"  # by an order, or by an opposite position
    INOUT = "inout"  # a netting position is closed and opened on the other side


POSITION_TYPES: Table[Side] = Table(["POSITION_TYPE_"], [("buy", Side.BUY), ("sell", Side.SELL)])
"""ENUM_POSITION_TYPE."""

ORDER_TYPES: Table[tuple[Side | None, str]] = Table(
    ["ORDER_TYPE_"],
    [
        ("buy", (Side.BUY, "MARKET")),
        ("sell", (Side.SELL, "MARKET")),
        ("buy_limit", (Side.BUY, "LIMIT")),
        ("sell_limit", (Side.SELL, "LIMIT")),
        ("buy_stop", (Side.BUY, "STOP")),
        ("sell_stop", (Side.SELL, "STOP")),
        ("buy_stop_limit", (Side.BUY, "STOP_LIMIT")),
        ("sell_stop_limit", (Side.SELL, "STOP_LIMIT")),
        ("close_by", (None, "CLOSE_BY")),
    ],
)
"""ENUM_ORDER_TYPE. ``close_by`` closes a position by an opposite one and has no side."""

ORDER_STATES: Table[OrderStatus] = Table(
    ["ORDER_STATE_"],
    [
        ("STARTED", OrderStatus.PENDING_SUBMIT),
        ("PLACED", OrderStatus.OPEN),
        ("CANCELED", OrderStatus.CANCELLED),
        ("PARTIAL", OrderStatus.PARTIALLY_FILLED),
        ("FILLED", OrderStatus.FILLED),
        ("REJECTED", OrderStatus.REJECTED),
        ("EXPIRED", OrderStatus.EXPIRED),
        ("REQUEST_ADD", OrderStatus.PENDING_SUBMIT),
        ("REQUEST_MODIFY", OrderStatus.OPEN),
        ("REQUEST_CANCEL", OrderStatus.PENDING_CANCEL),
    ],
)
"""ENUM_ORDER_STATE."""

ORDER_REASONS: Table[Reason | None] = Table(
    ["ORDER_REASON_"],
    [
        ("CLIENT", None),
        ("MOBILE", None),
        ("WEB", None),
        ("EXPERT", None),
        ("SL", Reason.STOP_LOSS),
        ("TP", Reason.TAKE_PROFIT),
        ("SO", Reason.LIQUIDATION),
    ],
)
"""ENUM_ORDER_REASON. ``SO`` is a stop-out: the server closes for want of margin."""

DEAL_TYPES: Table[Side | None] = Table(
    ["DEAL_TYPE_", "DEAL_"],
    [
        ("buy", Side.BUY),
        ("sell", Side.SELL),
        ("balance", None),
        ("credit", None),
        ("charge", None),
        ("correction", None),
        ("bonus", None),
        ("commission", None),
        ("commission_daily", None),
        ("commission_monthly", None),
        ("commission_agent_daily", None),
        ("commission_agent_monthly", None),
        ("interest", None),
        None,  # buy_canceled: its row does not name the deal that it undoes
        None,  # sell_canceled
        ("dividend", None),
        ("dividend_franked", None),
        ("tax", None),
    ],
)
"""ENUM_DEAL_TYPE: a side, or ``None`` where it moves money and no position. The names of the last three lack
``_TYPE_``: DEAL_DIVIDEND, DEAL_DIVIDEND_FRANKED, DEAL_TAX."""

DEAL_ENTRIES: Table[Entry] = Table(
    ["DEAL_ENTRY_"], [("in", Entry.IN), ("out", Entry.OUT), ("inout", Entry.INOUT), ("out_by", Entry.OUT)]
)
"""ENUM_DEAL_ENTRY."""

DEAL_REASONS: Table[Reason | None] = Table(
    ["DEAL_REASON_"],
    [
        ("CLIENT", None),
        ("MOBILE", None),
        ("WEB", None),
        ("EXPERT", None),
        ("SL", Reason.STOP_LOSS),
        ("TP", Reason.TAKE_PROFIT),
        ("SO", Reason.LIQUIDATION),
        ("ROLLOVER", Reason.ROLLOVER),
        ("VMARGIN", Reason.FINANCING),
        ("SPLIT", Reason.SPLIT),
        ("CORPORATE_ACTION", Reason.MERGER),
    ],
)
"""ENUM_DEAL_REASON. A corporate action is a merger or a renaming of a security, or a transfer."""

MARGIN_MODES: Table[LegScheme] = Table(
    ["ACCOUNT_MARGIN_MODE_", "ACCOUNT_MARGIN_MODE_RETAIL_", "RETAIL_"],
    [("netting", LegScheme.NET), ("exchange", LegScheme.NET), ("hedging", LegScheme.TICKET)],
)
"""ENUM_ACCOUNT_MARGIN_MODE."""
