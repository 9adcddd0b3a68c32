"""A stand-in for the package MetaTrader5: its functions, its named tuples, and the ways in which it fails."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

Info = namedtuple("Info", "connected trade_allowed name")
Account = namedtuple("Account", "login server margin_mode margin currency")
Position = namedtuple(
    "Position",
    "ticket time time_msc time_update type magic identifier reason volume price_open sl tp swap profit symbol comment",
)
Order = namedtuple(
    "Order",
    "ticket time_setup time_done type state magic position_id position_by_id reason volume_initial volume_current "
    "price_open sl tp symbol comment",
)
Deal = namedtuple(
    "Deal",
    "ticket order time type entry magic position_id reason volume price commission swap profit fee symbol comment",
)
Tick = namedtuple("Tick", "time bid ask")
Symbol = namedtuple("Symbol", "name select")


def position(ticket: int, volume: float, **changes: Any) -> Position:
    row = {"time": 0, "time_msc": 0, "time_update": 0, "type": 0, "magic": 0, "identifier": ticket, "reason": 3}
    rest = {"price_open": 1.1, "sl": 0.0, "tp": 0.0, "swap": 0.0, "profit": 0.0, "symbol": "EURUSD.m", "comment": ""}
    return Position(**{"ticket": ticket, "volume": volume, **row, **rest, **changes})


def order(ticket: int, **changes: Any) -> Order:
    row = {"time_setup": 0, "time_done": 0, "type": 2, "state": 1, "magic": 0, "position_id": 0, "position_by_id": 0}
    rest = {"reason": 3, "volume_initial": 0.1, "volume_current": 0.1, "price_open": 1.0, "sl": 0.0, "tp": 0.0}
    return Order(**{"ticket": ticket, "symbol": "EURUSD.m", "comment": "c1", **row, **rest, **changes})


def deal(ticket: int, at_s: int, **changes: Any) -> Deal:
    row = {"order": 0, "time": at_s, "type": 0, "entry": 0, "magic": 0, "position_id": 7, "reason": 3, "volume": 0.1}
    rest = {
        "price": 1.1,
        "commission": -0.4,
        "swap": 0.0,
        "profit": 0.0,
        "fee": 0.0,
        "symbol": "EURUSD.m",
        "comment": "",
    }
    return Deal(**{"ticket": ticket, **row, **rest, **changes})


class StandIn:
    """One terminal. ``error`` is what ``last_error`` says; while it is no success, lists are ``failing``."""

    def __init__(self) -> None:
        self.positions: list[Position] = []
        self.working: list[Order] = []
        self.ended: list[Order] = []
        self.deals: list[Deal] = []
        self.ticks: dict[str, int] = {}
        self.error = (1, "Success")
        self.failing: tuple[()] | None = None
        self.runs = self.online = True
        self.initialized = 0

    def initialize(self, *_args: Any, **_kwargs: Any) -> bool:
        self.initialized += 1
        return self.runs

    def shutdown(self) -> None:
        pass

    def last_error(self) -> tuple[int, str]:
        return self.error if self.runs else (-10003, "IPC initialize failed, Process create failed")

    def terminal_info(self) -> Info | None:
        return Info(self.online, True, "MetaTrader 5") if self.runs else None

    def account_info(self) -> Account | None:
        return Account(5001, "Demo-Server", 2, 12.5, "USD") if self.runs else None

    def _answered(self, rows: list[Any]) -> tuple[Any, ...] | None:
        if not self.runs:
            return None
        return tuple(rows) if self.error[0] == 1 else self.failing

    def positions_get(self) -> tuple[Any, ...] | None:
        return self._answered(self.positions)

    def orders_get(self) -> tuple[Any, ...] | None:
        return self._answered(self.working)

    def history_orders_get(self, date_from: int, date_to: int) -> tuple[Any, ...] | None:
        return self._answered([row for row in self.ended if date_from <= row.time_setup <= date_to])

    def history_deals_get(self, date_from: int, date_to: int) -> tuple[Any, ...] | None:
        return self._answered([row for row in self.deals if date_from <= row.time <= date_to])

    def symbols_get(self) -> tuple[Symbol, ...] | None:
        return (Symbol("EURUSD.m", True), Symbol("GBPUSD.m", False))

    def symbol_info_tick(self, symbol: str) -> Tick | None:
        return Tick(self.ticks[symbol], 1.1, 1.1) if symbol in self.ticks else None
