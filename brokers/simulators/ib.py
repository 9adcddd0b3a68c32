"""Interactive Brokers' TWS on loopback, speaking its binary protocol at server version 178 (or an older one).

It has TWS's habits. A client receives only its own orders' executions live, while positions reach every client that
requested them once. Executions and completed orders are today's. A filled order is listed without quantity and average
price. And while its own connection is lost, it goes on showing what it knew.
"""

from __future__ import annotations

import json
import random
import threading
import zlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from brokers.model import NET, Side
from brokers.simulators import ib_wire
from brokers.simulators.base import REQUESTS_KEPT, Fault, Faults
from brokers.simulators.ib_books import IbBooks, SimExecution, SimOrder
from brokers.simulators.ib_desk import Desk
from brokers.simulators.ib_server import Client, TwsServer
from brokers.simulators.ib_wire import Row, SimContract, SimHours

_NUMBER_AT = {"61": 14, "5": 14, "3": 3, "11": 19, "101": 13}
_ROW_OF = {"reqPositions": "61", "reqAllOpenOrders": "5", "reqOpenOrders": "5", "reqExecutions": "11"}


class IbSimulator:
    """Meets :class:`brokers.simulators.base.Simulator`; order ids are permIds, fill ids execIds, the leg is ``net``.

    ``accounts`` are those of the login, only ``account_id`` without them; all the books are ``account_id``'s.
    ``orders_by`` is the client that places scripted orders; without one they are placed by hand. A client id in
    ``busy`` is in use by another program. Times of executions are sent in ``timezone``, with its name unless ``naive``.
    While it ``charges_late``, an execution has no commission until :meth:`charge`.
    """

    def __init__(
        self,
        account_id: str = "DU1",
        *,
        instruments: Sequence[str] = (),
        accounts: Sequence[str] = (),
        orders_by: int | None = None,
        busy: Collection[int] = (),
        server_version: int = 178,
        timezone: str = "UTC",
        naive: bool = False,
        seed: int = 0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.faults = Faults()
        self.account_id = account_id
        self.accounts = tuple(accounts) or (account_id,)
        self.orders_by = orders_by
        self.busy = set(busy)
        self.charges_late = False
        self.server_version = server_version
        self._desk = Desk(account_id, timezone, naive)
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - it chooses which row to spoil
        self._clock = clock
        self._lock = threading.RLock()
        self._requests: deque[str] = deque(maxlen=REQUESTS_KEPT)
        self._prices: dict[str, Decimal] = {}
        self._books = IbBooks()
        self._shown: IbBooks | None = None
        self._extra: list[tuple[str, Row]] = []
        self._listed: tuple[str, ...] | None = None
        self._hours: SimHours | None = None
        self._clients: list[Client] = []
        self._server: TwsServer | None = None
        for instrument in instruments:
            self.price(instrument)

    # -- the server ------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[str, ...]:
        """Every request received so far, by the SDK's name for it; ``connect`` is the first greeting."""
        with self._lock:
            return tuple(self._requests)

    @property
    def port(self) -> int:
        """The port it serves on."""
        if self._server is None:
            raise RuntimeError("the simulator is not started")
        return self._server.port

    def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1; returns ``host:port``. May be called again after :meth:`close`."""
        if self._server is None:
            self._server = TwsServer(self, port)
        return f"127.0.0.1:{self._server.port}"

    def close(self) -> None:
        """Stop serving and leave no thread and no socket. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self._clients.clear()

    # -- the script of all simulators ------------------------------------------------------------------------------

    def price(self, instrument: str) -> Decimal:
        """The present price, made up from the name where none was set."""
        with self._lock:
            if instrument not in self._prices:
                spread = zlib.crc32(f"{self._seed}:{instrument}".encode()) % 20_000
                self._prices[instrument] = Decimal(spread) / 100 + 20
            return self._prices[instrument]

    def set_price(self, instrument: str, price: Decimal) -> None:
        """Set the price; market orders fill at it."""
        with self._lock:
            self._prices[instrument] = price

    def positions(self) -> dict[tuple[str, str], Decimal]:
        """(instrument, ``net``) → signed quantity."""
        with self._lock:
            return {(name, NET): held.quantity for name, held in self._books.holdings.items()}

    def trade(self, instrument: str, side: Side, quantity: Decimal, client_order_id: str | None = None) -> str:
        """A market order filled at once."""
        with self._lock:
            order = self._books.add_order(instrument, side, quantity, None, client_order_id, self.orders_by)
            self._filled(order, self._books.fill(order, quantity, self.price(instrument), self._now_s()))
            return str(order.perm_id)

    def place_limit(
        self, instrument: str, side: Side, quantity: Decimal, price: Decimal, client_order_id: str | None = None
    ) -> str:
        """An order that rests."""
        with self._lock:
            order = self._books.add_order(instrument, side, quantity, price, client_order_id, self.orders_by)
            self._send_order(order)
            return str(order.perm_id)

    def attach(self, order_id: str, side: Side, quantity: Decimal, price: Decimal, client_order_id: str = "") -> str:
        """Place an order of a bracket: attached to that order, with its client's order id as ``parentId``."""
        with self._lock:
            parent = self._books.orders[int(order_id)]
            order = self._books.add_order(parent.name, side, quantity, price, client_order_id, parent.client_id)
            order.parent_order_id, order.parent_perm_id = parent.order_id, parent.perm_id
            order.oca_group = str(parent.perm_id)
            self._send_order(order)
            return str(order.perm_id)

    def double(self, order_id: str) -> str:
        """Double a resting order, as a change of it sent while TWS had lost IB has done: a new permId works under its
        client's order id, and the old one works on. Returns the new permId."""
        with self._lock:
            old = self._books.resting(order_id)
            new = replace(old, perm_id=self._books.next_perm_id)
            self._books.next_perm_id += 1
            self._books.orders[new.perm_id] = new
            self._send_order(new)
            return str(new.perm_id)

    def set_terms(
        self, order_id: str, *, tif: str = "DAY", good_till: str = "", oca_group: str = "", outside_hours: bool = False
    ) -> None:
        """Set these terms of a resting order, in TWS's words."""
        with self._lock:
            order = self._books.resting(order_id)
            order.tif, order.good_till, order.outside_hours = tif, good_till, outside_hours
            order.oca_group = oca_group
            self._send_order(order)

    def trade_in(self, hours: SimHours | None) -> None:
        """Set the hours in contracts' details; by default those of American shares from yesterday on."""
        self._hours = hours

    def fill_order(self, order_id: str, quantity: Decimal | None = None, price: Decimal | None = None) -> str:
        """Fill a resting order, wholly without ``quantity``, at its own price without ``price``."""
        with self._lock:
            order = self._books.resting(order_id)
            rest = order.quantity - order.filled
            at = price or order.limit or self.price(order.name)
            one = self._books.fill(order, rest if quantity is None else quantity, at, self._now_s())
            self._filled(order, one)
            return one.exec_id

    def end_order(self, order_id: str, how: str = "CANCELLED") -> None:
        """End a resting order."""
        with self._lock:
            order = self._books.resting(order_id)
            self._books.end(order, how, self._now_s())
            self._send_order(order)

    def forget_order(self, order_id: str) -> None:
        """Remove every trace of the order."""
        with self._lock:
            self._books.orders.pop(int(order_id), None)

    def next_day(self) -> None:
        """The night: TWS drops its executions, its completed orders, and the orders that were good for the day."""
        with self._lock:
            self._books.orders.clear()
            self._books.executions.clear()

    def set_position(self, instrument: str, leg: str, quantity: Decimal, price: Decimal) -> str:
        """Hold exactly this, unexplained."""
        with self._lock:
            self._books.hold(instrument, quantity, price)
            self._send_position(instrument)
            return leg or NET

    def close_by_hand(self, instrument: str) -> None:
        """Close a position by hand in TWS."""
        with self._lock:
            held = self._books.holdings.get(instrument)
            if held is not None:
                side = Side.SELL if held.quantity > 0 else Side.BUY
                order = self._books.add_order(instrument, side, abs(held.quantity), None, None, None)
                price = self.price(instrument)
                self._filled(order, self._books.fill(order, order.quantity, price, self._now_s()))

    def dump(self) -> str:
        """The whole state as JSON text."""
        with self._lock:
            prices = {name: str(price) for name, price in self._prices.items()}
            return json.dumps({"prices": prices, "books": self._books.dump()})

    def load(self, text: str) -> None:
        """Take over a state from :meth:`dump`, or raise ``ValueError`` and keep the present one."""
        try:
            state = json.loads(text)
            prices = {name: Decimal(price) for name, price in state["prices"].items()}
            books = IbBooks.load(state["books"])
        except (KeyError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            raise ValueError(f"this is no state of an IB simulator: {error!r}") from error
        with self._lock:
            self._prices, self._books = prices, books

    # -- the script of TWS -----------------------------------------------------------------------------------------

    def list_contracts(self, *names: str) -> None:
        """Know these contracts, and no others; by default every requested contract exists."""
        self._listed = names

    def describe(self, name: str, contract: SimContract) -> None:
        """Set the contract that a name of the script stands for."""
        with self._lock:
            self._books.contracts[name] = contract

    def contract(self, name: str) -> SimContract:
        """The contract that a name of the script stands for."""
        with self._lock:
            return self._books.contract(name)

    def correct_fill(self, fill_id: str, quantity: Decimal, price: Decimal) -> str:
        """IB corrects an execution; returns the id of the correction."""
        with self._lock:
            one = self._books.correct(fill_id, quantity, price)
            self._filled(self._books.orders[one.perm_id], one)
            return one.exec_id

    def share_out(self, order_id: str, group: str) -> None:
        """Make a resting order an adviser's for a group of accounts: it names no account of its own."""
        with self._lock:
            self._books.resting(order_id).group = group

    def order_by_cash(self, order_id: str) -> None:
        """Make a resting order one for an amount of cash: its rows carry no quantity."""
        with self._lock:
            self._books.resting(order_id).by_cash = True

    def liquidate(self, instrument: str) -> str:
        """IB closes a position by itself; returns the execId."""
        with self._lock:
            held = self._books.holdings[instrument]
            side = Side.SELL if held.quantity > 0 else Side.BUY
            order = self._books.add_order(instrument, side, abs(held.quantity), None, None, None)
            one = self._books.fill(order, order.quantity, self.price(instrument), self._now_s())
            one.liquidation = True
            self._filled(order, one)
            return one.exec_id

    def convert(self, instrument: str, side: Side, quantity: Decimal) -> str:
        """Convert one currency into another at FXCONV: cash changes, and no position. Returns the permId."""
        with self._lock:
            order = self._books.add_order(instrument, side, quantity, None, None, self.orders_by)
            order.exchange = "FXCONV"
            self._filled(order, self._books.fill(order, quantity, self.price(instrument), self._now_s()))
            return str(order.perm_id)

    def split(self, instrument: str, ratio: Decimal) -> None:
        """Each unit becomes ``ratio`` units, at a price divided by it, without a trade."""
        with self._lock:
            held = self._books.holdings[instrument]
            self._books.hold(instrument, held.quantity * ratio, held.price / ratio)
            self._send_position(instrument)

    def expire(self, instrument: str) -> None:
        """The contract's last day ends: its position is gone, without a trade."""
        self.set_position(instrument, NET, Decimal(0), Decimal(0))

    def charge(self, fill_id: str) -> None:
        """Make the commission of an execution known: it is sent to the clients of its order, and listed from now on."""
        with self._lock:
            one = next(one for one in self._books.executions if one.exec_id == fill_id)
            one.charged = True
            row, order = self._desk.commission(one), self._books.orders[one.perm_id]
        self._broadcast(lambda client: [row] if _receives(client, order) else [])

    def set_status(self, order_id: str, status: str) -> None:
        """Set a resting order's status to another of TWS's, known or not."""
        with self._lock:
            order = self._books.resting(order_id)
            order.status = status
            self._send_order(order)

    def add_row(self, request: str, row: Row) -> None:
        """Send a further row with every answer to a request, before its end."""
        with self._lock:
            self._extra.append((request, row))

    def say(self, code: int, words: str, request_id: int = -1) -> None:
        """Send an error or a message to every client."""
        self._broadcast(lambda client: [ib_wire.notice(request_id, code, words, client.version)])

    def send_row(self, row: Row) -> None:
        """Send any row to every client."""
        self._broadcast(lambda _: [row])

    def lose_connectivity(self) -> None:
        """1100: from now on TWS shows what it knew by then."""
        with self._lock:
            self._shown = IbBooks.load(self._books.dump())
        self.say(1100, "Connectivity between IBKR and Trader Workstation has been lost.")

    def restore_connectivity(self, *, data_lost: bool = False) -> None:
        """1101 or 1102: it shows the present again."""
        with self._lock:
            self._shown = None
        kept = "lost. Please resubscribe" if data_lost else "maintained"
        code = 1101 if data_lost else 1102
        self.say(code, f"Connectivity between IBKR and Trader Workstation has been restored - data {kept}.")

    def move_port(self) -> int:
        """1300: serve on another port, drop every connection, and return the port."""
        if self._server is None:
            raise RuntimeError("the simulator is not started")
        port = self._server.port = self._server.run(self._server.move())
        words = "TWS socket port has been reset and this connection is being dropped. Please reconnect on the new port"
        self.say(1300, f"{words} - {port}")
        self.drop()
        return port

    def drop(self) -> None:
        """Close every connection."""

        def end() -> None:
            with self._lock:
                clients = list(self._clients)
            for client in clients:
                client.end()

        if self._server is not None:
            self._server.call(end)

    def end_day(self) -> frozenset[str]:
        """Midnight in TWS's time zone; orders that work go on."""
        with self._lock:
            self._books.end_day()
        return frozenset()

    # -- what connections request ----------------------------------------------------------------------------------

    def take(self, request: str) -> Fault | None:
        """Note a request, and the fault to play for it."""
        with self._lock:
            self._requests.append(request)
        return self.faults.take(request)

    def gone(self, client: Client) -> None:
        """A connection has ended."""
        with self._lock:
            self._clients = [known for known in self._clients if known is not client]

    def log_on(self, client: Client) -> list[Row]:
        """Accounts and the next order id; for a client id in use 326 and the end of the connection."""
        with self._lock:
            if client.client_id in self.busy or any(c.client_id == client.client_id for c in self._clients):
                words = "Unable to connect as the client id is already in use. Retry with a unique client id."
                client.send([ib_wire.notice(-1, 326, words, client.version)])
                client.end()
                return []
            self._clients.append(client)
            farm = ib_wire.notice(-1, 2104, "Market data farm connection is OK:usfarm", client.version)
            rows = [["15", "1", ",".join(self.accounts)], ["9", "1", str(self._books.next_order_id)], farm]
            if self._shown is not None:
                rows.append(ib_wire.notice(-1, 1100, "Connectivity has been lost.", client.version))
            return rows

    def answer(self, client: Client, name: str, request: Row) -> list[Row]:
        """The rows that answer a request, its end last."""
        with self._lock:
            books = self._shown or self._books
            rows = self._answers(client, name, request, books)
            extra = [row for wanted, row in self._extra if wanted == name]
            return [*rows[:-1], *extra, *rows[-1:]]

    def spoil(self, name: str, rows: list[Row]) -> None:
        """Make one row unreadable, an additional one where there is none."""
        kinds = {"61", "5", "11", "101"}
        places = [place for place, row in enumerate(rows) if row[0] in kinds]
        if not places:
            rows.insert(0, [_ROW_OF.get(name, "101"), "3", self.account_id])
            return
        place = self._random.choice(places)
        rows[place] = list(rows[place])
        if self._random.random() < 0.5:
            del rows[place][10]
        else:
            rows[place][_NUMBER_AT[rows[place][0]]] = "n/a"

    def _answers(self, client: Client, name: str, request: Row, books: IbBooks) -> list[Row]:
        desk, account, version = self._desk, self.account_id, client.version
        if name == "reqPositions":
            client.subscribed = True
            return desk.positions(books)
        if name in {"reqAllOpenOrders", "reqOpenOrders"}:
            return desk.open_orders(books, None if name == "reqAllOpenOrders" else client.client_id, version)
        if name == "reqCompletedOrders":
            return desk.completed_orders(books, version, api_only=request[1] not in {"0", "False"})
        if name == "reqExecutions":
            return desk.executions(books, int(request[2]), version)
        if name == "reqAccountUpdates":
            client.follows_portfolio = request[2] in {"1", "True"}
            return desk.account_updates(books, self.price)
        if name == "reqAccountUpdatesMulti":
            return [["73", "1", request[2], account, "", "NetLiquidation", "100000", "USD"], ["74", "1", request[2]]]
        if name == "reqAccountSummary":
            return [["63", "1", request[2], account, "NetLiquidation", "100000", "USD"], ["64", "1", request[2]]]
        if name == "reqCurrentTime":
            return [["49", "1", str(self._now_s())]]
        if name == "cancelOrder":
            return self._cancel(client, int(request[2]))
        if name == "reqContractDetails":
            return self._details(request, books, version)
        if name == "reqMatchingSymbols":
            return [ib_wire.symbol_samples(self._like(request[2]), int(request[1]), version)]
        if name == "reqIds":
            return [["9", "1", str(books.next_order_id)]]
        if name == "reqManagedAccts":
            return [["15", "1", ",".join(self.accounts)]]
        client.subscribed = client.subscribed and name != "cancelPositions"
        return []

    def _details(self, request: Row, books: IbBooks, version: int) -> list[Row]:
        con_id, sec_type, local_symbol = int(request[3]), request[5], request[13]
        known = [c for c in books.contracts.values() if c.con_id == con_id]
        if not con_id:
            named = ib_wire.contract_named(local_symbol)
            there = self._listed is None or local_symbol in self._listed
            known = [named] if there and named.sec_type == sec_type else []
        if not known and (local_symbol or self._listed is not None):
            words = "No security definition has been found for the request"
            return [ib_wire.notice(int(request[2]), 200, words, version)]
        hours = self._hours or ib_wire.hours_from(datetime.fromtimestamp(self._now_s(), UTC).date() - timedelta(days=1))
        rows = [ib_wire.contract_details(c, int(request[2]), version, hours) for c in known[:1]]
        return [*rows, ["52", "1", request[2]]]

    def _like(self, pattern: str) -> list[SimContract]:
        """Every requested contract exists, unless the script listed those that do."""
        names = [pattern.upper()] if self._listed is None else self._listed
        return [ib_wire.contract_named(name) for name in names if name.startswith(pattern.upper()[:4])]

    def _cancel(self, client: Client, order_id: int) -> list[Row]:
        own = [o for o in self._books.orders.values() if (o.order_id, o.client_id) == (order_id, client.client_id)]
        if not own:
            words = f"OrderId {order_id} that needs to be cancelled is not found."
            return [ib_wire.notice(order_id, 10147, words, client.version)]
        order = own[0]
        if order.ended_s:
            words = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
            return [ib_wire.notice(order_id, 10148, words, client.version)]
        self._books.end(order, "CANCELLED", self._now_s())
        status = self._desk.status(order, self._books)
        return [status, ib_wire.notice(order_id, 202, "Order Canceled - reason:", client.version)]

    # -- what clients receive live ---------------------------------------------------------------------------------

    def _now_s(self) -> int:
        return int(self._clock().timestamp())

    def _filled(self, order: SimOrder, one: SimExecution) -> None:
        one.charged = not self.charges_late
        sent = {v: self._desk.execution(one, self._books, -1, v) for v in self._versions()}
        self._broadcast(lambda client: sent.get(client.version, []) if _receives(client, order) else [])
        contract = self._books.contract(order.name)
        legs = self._books.fill_legs(one, self.price) if contract.legs else []
        for leg in legs:
            rows = {v: self._desk.execution(leg, self._books, -1, v) for v in self._versions()}
            self._broadcast(
                lambda client, rows=rows: rows.get(client.version, []) if _receives(client, order) else []  # type: ignore[misc]  # bound now, as each leg has rows of its own
            )
        self._send_order(order)
        for name in [leg.name for leg in legs] or ([order.name] if contract.sec_type != "BAG" else []):
            self._send_position(name)

    def _send_order(self, order: SimOrder) -> None:
        sent = {v: self._desk.working(order, self._books, v) for v in self._versions()}
        self._broadcast(lambda client: sent.get(client.version, []) if _receives(client, order) else [])

    def _send_position(self, name: str) -> None:
        row, item = self._desk.position(name, self._books), self._desk.portfolio_item(name, self._books, self.price)
        values = self._desk.values(self._books, self.price)

        def rows(client: Client) -> list[Row]:
            return [*([row] if client.subscribed else []), *([item, *values] if client.follows_portfolio else [])]

        self._broadcast(rows)

    def _versions(self) -> set[int]:
        """The protocol versions of the present clients: rows are made at once, as the books go on changing."""
        return {client.version for client in self._clients}

    def _broadcast(self, rows: Callable[[Client], list[Row]]) -> None:
        silent = self._shown is not None

        def send() -> None:
            with self._lock:
                clients = list(self._clients)
            for client in clients:
                sent = rows(client)
                if sent and (sent[0][0] == "4" or not silent):
                    client.send(sent)

        if self._server is not None:
            self._server.call(send)


def _receives(client: Client, order: SimOrder) -> bool:
    """Whether a client receives an order's changes live: its own orders, and those placed by hand for client 0."""
    return client.client_id == order.client_id
