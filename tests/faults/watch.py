"""What runs beside the faults: strategies that trade and report, and a watch over the answers that strategies get."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from actors.names import instrument_name
from actors.reconciliation.own_reports import FillReport, OrderReport
from actors.runtime.ports import CallError
from actors.runtime.ray_client import Client
from brokers.model import OrderStatus
from supervisor.client.processes import Running
from tests.faults.market import PLACES, Market, Traded

ASK_S = 2.0
TRADE_EVERY_S = 1.0
MARKET_EVERY_S = 0.7


@dataclass
class Worker:
    """A loop in a thread, until it is stopped."""

    name: str
    every_s: float
    ended: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Finish the step under way, and no other."""
        self.ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self.ended.wait(self.every_s):
                self.step()
        except BaseException as error:  # noqa: BLE001 - the campaign reports it
            self.failure = error

    def step(self) -> None:
        """One thing."""
        raise NotImplementedError


class Trading(Worker):
    """The market's own steps."""

    def __init__(self, market: Market) -> None:
        super().__init__("market", MARKET_EVERY_S)
        self._market = market

    def step(self) -> None:
        """Something happens that nobody reports to our side."""
        self._market.step()


class Strategy(Worker):
    """Trades, and reports its order and fill until that is acknowledged. ``acknowledged`` are the fills that were."""

    def __init__(self, market: Market, running: Running) -> None:
        super().__init__("strategy", TRADE_EVERY_S)
        self._market = market
        self._running = running
        self._open: list[Traded] = []
        self.acknowledged: list[Traded] = []

    def step(self) -> None:
        """A new trade, and every report that nobody has acknowledged yet."""
        self._open.append(self._market.send("s"))
        self.report()

    def report(self) -> None:
        """Report what is open."""
        for traded in tuple(self._open):
            now = datetime.now(UTC)
            order = OrderReport(
                traded.instrument,
                traded.client_order_id,
                traded.broker_order_id,
                traded.side,
                traded.quantity,
                "LIMIT",
                traded.price,
                OrderStatus.OPEN,
                now,
                None,
                "s",
            )
            fill = FillReport(
                traded.instrument,
                traded.fill_id,
                traded.broker_order_id,
                traded.side,
                traded.quantity,
                traded.price,
                now,
                traded.client_order_id,
                None,
                "s",
            )
            try:
                self._running.record(traded.account, {traded.instrument: (order, fill)})
            except Exception:  # noqa: BLE001, S112 - whatever it is, it is not acknowledged and reported again
                continue
            self._open.remove(traded)
            self.acknowledged.append(traded)


@dataclass(frozen=True, slots=True)
class Violation:
    """Trading was allowed on a book that had been wrong for too long."""

    at: datetime
    instrument: str
    book: dict[str, Decimal]
    held: dict[str, Decimal]
    wrong_for_s: float


class Permissions(Worker):
    """Asks every instrument whether trading is allowed, and what it holds before and after."""

    def __init__(self, market: Market, namespace: str, bound_s: float) -> None:
        super().__init__("permissions", 0.1)
        self._market = market
        self._client = Client(namespace)
        self._bound_s = bound_s
        self.asked = 0
        self.allowed = 0
        self.violations: list[Violation] = []

    def step(self) -> None:
        """Ask all of them once."""
        for account, instrument in PLACES:
            if self.ended.is_set():
                return
            try:
                self._ask(account, instrument)
            except CallError:
                time.sleep(0.01)
            except Exception as error:
                if type(error).__name__ != "JournalAway":
                    raise

    def _ask(self, account: str, instrument: str) -> None:
        name = instrument_name(account, instrument)
        held, _ = self._market.held(account, instrument)
        before = self._book(name)
        permission: Any = self._client.call(name, "trading_allowed", timeout_s=ASK_S)
        after = self._book(name)
        held_after, unchanged_s = self._market.held(account, instrument)
        self.asked += 1
        self.allowed += bool(permission)
        if permission and before == after != held == held_after and unchanged_s > self._bound_s:
            self.violations.append(Violation(datetime.now(UTC), name, after, held, unchanged_s))

    def _book(self, name: str) -> dict[str, Decimal]:
        book: Any = self._client.call(name, "book", timeout_s=ASK_S)
        return {leg.leg: leg.quantity for leg in book.legs}
