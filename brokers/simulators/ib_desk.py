"""The rows of every list that a simulated TWS shows of its books. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from brokers.simulators import ib_wire
from brokers.simulators.ib_books import COMMISSION, IbBooks, SimExecution, SimOrder
from brokers.simulators.ib_wire import ExecutionRow, OrderRow, Row


@dataclass(frozen=True, slots=True)
class Desk:
    """The lists of one account. Times are sent in ``timezone``, with its name unless ``naive``."""

    account_id: str
    timezone: str
    naive: bool

    def position(self, name: str, books: IbBooks) -> Row:
        """One position row, of 0 where nothing is held."""
        contract, held = books.contract(name), books.holdings.get(name)
        quantity = held.quantity if held is not None else Decimal(0)
        cost = held.price * contract.factor if held is not None else Decimal(0)
        return ib_wire.position(self.account_id, contract, quantity, cost)

    def positions(self, books: IbBooks) -> list[Row]:
        """The list of positions, with its end."""
        return [*(self.position(name, books) for name in books.holdings), ["62", "1"]]

    def open_orders(self, books: IbBooks, client_id: int | None, version: int) -> list[Row]:
        """The open orders of one client, or of all for ``None``, with the end."""
        rows: list[Row] = []
        for order in books.orders.values():
            if not order.ended_s and client_id in (None, order.client_id):
                rows += self.working(order, books, version)
        return [*rows, ["53", "1"]]

    def working(self, order: SimOrder, books: IbBooks, version: int) -> list[Row]:
        """One order and its status."""
        row = self._order(order, books)
        return [ib_wire.open_order(row, version), ib_wire.order_status(row)]

    def status(self, order: SimOrder, books: IbBooks) -> Row:
        """The status alone."""
        return ib_wire.order_status(self._order(order, books))

    def completed_orders(self, books: IbBooks, version: int, *, api_only: bool) -> list[Row]:
        """Today's completed orders, those placed by hand only where they are requested, with the end."""
        ended = [o for o in books.orders.values() if o.ended_s and (o.order_id or not api_only)]
        return [*(ib_wire.completed_order(self._order(o, books), version) for o in ended), ["102"]]

    def executions(self, books: IbBooks, request_id: int, version: int) -> list[Row]:
        """Today's executions, each with its commission where there is one, with the end."""
        rows = [row for one in books.executions for row in self.execution(one, books, request_id, version)]
        return [*rows, ["55", "1", str(request_id)]]

    def execution(self, one: SimExecution, books: IbBooks, request_id: int, version: int) -> list[Row]:
        """One execution, and its commission where there is one; live with -1."""
        row = ib_wire.execution(self._execution(one, books), request_id, version)
        return [row, self.commission(one)] if one.charged else [row]

    def commission(self, one: SimExecution) -> Row:
        """Its commission row."""
        return ib_wire.commission(one.exec_id, COMMISSION, one.currency)

    def account_updates(self, books: IbBooks, price: Callable[[str], Decimal]) -> list[Row]:
        """Values and portfolio, with the end."""
        rows = self.values(books, price)
        rows += [self.portfolio_item(name, books, price) for name in books.holdings]
        return [*rows, ["8", "1", "09:30"], ["54", "1", self.account_id]]

    def values(self, books: IbBooks, price: Callable[[str], Decimal]) -> list[Row]:
        """The values of the account: TWS sends them anew with each change of a position."""
        gross = sum((abs(held.quantity) * price(name) for name, held in books.holdings.items()), Decimal(0))
        values = [("AccountType", "INDIVIDUAL", ""), ("NetLiquidation", "100000", "USD")]
        values += [("GrossPositionValue", f"{gross:.2f}", "USD"), ("MaintMarginReq", f"{gross / 4:.2f}", "USD")]
        return [["6", "2", *one, self.account_id] for one in values]

    def portfolio_item(self, name: str, books: IbBooks, price: Callable[[str], Decimal]) -> Row:
        """One row of the portfolio, of 0 where nothing is held."""
        contract, held = books.contract(name), books.holdings.get(name)
        quantity = held.quantity if held is not None else Decimal(0)
        cost = held.price * contract.factor if held is not None else Decimal(0)
        return ib_wire.portfolio(self.account_id, contract, quantity, price(name), cost)

    def _time(self, epoch_s: int) -> str:
        if not epoch_s:
            return ""
        local = datetime.fromtimestamp(epoch_s, ZoneInfo(self.timezone))
        return f"{local:%Y%m%d %H:%M:%S}" + ("" if self.naive else f" {self.timezone}")

    def _order(self, order: SimOrder, books: IbBooks) -> OrderRow:
        return OrderRow(
            account="" if order.group else self.account_id,
            group=order.group,
            parent_order_id=order.parent_order_id,
            parent_perm_id=order.parent_perm_id,
            tif=order.tif,
            good_till=order.good_till,
            oca_group=order.oca_group,
            outside_hours=order.outside_hours,
            contract=books.contract(order.name),
            action=order.side,
            quantity=Decimal(0) if order.by_cash else order.quantity,
            order_type=order.type,
            limit=order.limit,
            ref=order.ref,
            perm_id=order.perm_id,
            order_id=order.order_id,
            client_id=order.client_id,
            status=order.status,
            filled=order.filled,
            average=order.average,
            completed_time=self._time(order.ended_s),
            completed_status=order.completed_status,
        )

    def _execution(self, one: SimExecution, books: IbBooks) -> ExecutionRow:
        order = books.orders.get(one.perm_id)
        return ExecutionRow(
            account=self.account_id,
            contract=books.contract(one.name),
            exec_id=one.exec_id,
            time=self._time(one.time_s),
            side="BOT" if one.side == "BUY" else "SLD",
            shares=one.quantity,
            price=one.price,
            perm_id=one.perm_id,
            client_id=order.client_id if order is not None else 0,
            order_id=order.order_id if order is not None else 0,
            cumulative=one.cumulative,
            average=one.average,
            ref=order.ref if order is not None else "",
            liquidation=one.liquidation,
            exchange=order.exchange if order is not None else "SMART",
        )
