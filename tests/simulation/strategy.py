"""Who trades: strategies, which report it to the handle, and other people, who do not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from actors.names import SUPERVISOR, instrument_name
from actors.runtime.ports import CallError
from brokers.model import Fill, LegScheme, OrderStatus, Side
from supervisor.client.answers import Recorded
from supervisor.errors import InvalidReport, NotRecorded
from tests.simulation.faults import Faults
from tests.simulation.house import House, Venue

SECOND_US = 1_000_000
EVENTS = (
    "place", "place", "place", "fill", "fill", "fill", "fill", "end", "amend", "supersede", "correct", "charge",
    "trade outside", "change silently", "believe", "rest", "rest",
    "close out", "close out", "close out", "close out",
)  # fmt: skip
UNEXPLAINED = frozenset({"trade outside", "close out", "change silently", "believe", "correct"})
"""What an honest market has nothing of."""


@dataclass
class Acknowledged:
    """What our side reported is durable."""

    fills: set[tuple[str, str]] = field(default_factory=set)
    orders: set[tuple[str, str, datetime]] = field(default_factory=set)
    positions: set[tuple[str, str]] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.fills) + len(self.orders) + len(self.positions)


class Strategies:
    """Trades at the market by chance, and reports through the handle, at once, late, twice, in part, or not at all."""

    def __init__(self, house: House, venue: Venue, faults: Faults, *, honest: bool) -> None:
        self.account = venue.name
        self._market = venue.market
        self._handles = house.handles[venue.name]
        self._port = house.port
        self._comes_and_goes = venue.takes_all
        self._clock = house.clock("strategy")
        self._faults = faults
        self._honest = honest
        self._random = faults.random
        self._clients = 0
        self._tags = 0
        self._reports: set[asyncio.Task[None]] = set()
        self._unsure_orders = False  # an execution was reported without its order
        self.acknowledged = Acknowledged()
        self.done: Counter[str] = Counter()
        self._weights = [self._weight(name) for name in EVENTS]

    def act(self) -> str:
        """Something happens in some instrument of the account: the name of its actor."""
        name = self._random.choices(EVENTS, self._weights)[0]
        instrument = self._random.choice(tuple(self._handles))
        self._faults.note(f"{self.account}/{instrument}: {name}")
        self.done[name] += 1
        getattr(self, f"_{name.replace(' ', '_')}")(instrument)
        self._market.happened(instrument)
        self._faults.note(f"{self.account}/{instrument}: now {self._market.words(instrument)}")
        return instrument_name(self.account, instrument)

    def _weight(self, name: str) -> float:
        if self._honest and name in UNEXPLAINED:
            return 0.0
        if name == "close out" and not self._comes_and_goes:
            return 0.0
        return self._random.choice((0.5, 1.0, 1.0, 2.0) if name in ("place", "fill") else (0.0, 1.0, 1.0, 2.0))

    async def finish(self) -> None:
        """Nobody reports any more."""
        for task in self._reports:
            task.cancel()
        await asyncio.gather(*self._reports, return_exceptions=True)

    # What happens

    def _price(self) -> int:
        return self._random.randint(10, 16)

    def _side(self) -> Side:
        return self._random.choice((Side.BUY, Side.SELL))

    def _order_id(self, instrument: str) -> str | None:
        working = self._market.working(instrument)
        return self._random.choice(working).broker_order_id if working else None

    def _delay_us(self) -> int:
        if self._honest or not self._faults.strikes("fill told late", 0.2):
            return 0
        return self._random.choice((300_000, 20 * SECOND_US))

    def _place(self, instrument: str) -> None:
        self._clients += 1
        client_id = f"c{self._clients}"
        side, quantity, price = self._side(), self._random.randint(1, 9), self._price()
        sent_at = self._clock()
        order: dict[str, Any] = {
            "client_order_id": client_id,
            "side": side,
            "quantity": quantity,
            "order_type": "LIMIT",
            "limit_price": price,
            "submitted_at": sent_at,
        }
        if self._faults.strikes("order not reported", 0.1):
            self._market.place(instrument, client_id, side, quantity, price)
            return
        lost = self._faults.strikes("order never arrives", 0.05)
        first = self._faults.strikes("order reported after it was sent", 0.2)
        self._begin(self._send(instrument, order, lost=lost, first=first))

    async def _send(self, instrument: str, order: dict[str, Any], *, lost: bool, first: bool) -> None:
        terms = order["client_order_id"], order["side"], order["quantity"], order["limit_price"]
        broker_id = None
        if first and not lost:
            broker_id = self._market.place(instrument, *terms)
        pending = {**order, "status": OrderStatus.PENDING_SUBMIT}
        durable = await self._record(instrument, "order", pending)
        if durable:
            self.acknowledged.orders.add((instrument, order["client_order_id"], order["submitted_at"]))
        if lost:
            return
        if broker_id is None:
            if not durable and self._random.random() < 0.5:
                return  # a careful strategy does not send what is not recorded
            await asyncio.sleep(self._random.random() * 0.2)
            broker_id = self._market.place(instrument, *terms)
        if self._random.random() < 0.6:
            await asyncio.sleep(self._random.random())
            opened = {**order, "broker_order_id": broker_id, "status": OrderStatus.OPEN}
            await self._record(instrument, "order", opened)

    def _fill(self, instrument: str) -> None:
        key = self._order_id(instrument)
        if key is None:
            return
        quantity, price = self._random.randint(1, 5), self._price()
        fill = self._market.execute(instrument, key, quantity, price, self._delay_us())
        if fill is not None:
            what = f"{fill.side} {fill.quantity} @ {fill.price} of {fill.broker_order_id} in {fill.leg or 'net'}"
            self._faults.note(f"{instrument}: {fill.key} at {fill.time:%H:%M:%S.%f}: {what}")
        if fill is not None and self._random.random() < 0.6:
            self._begin(self._report(instrument, fill))

    async def _report(self, instrument: str, fill: Fill) -> None:
        one = self._market.traded[instrument]
        row = one.orders.get(fill.broker_order_id or "")
        ids = fill.broker_order_id, row.client_order_id if row is not None else None
        leg = fill.leg
        if self._faults.strikes("fill reported barely", 0.2):
            self._unsure_orders = True
            ids, leg = self._random.choice(((ids[0], None), (None, ids[1]), (None, None))), None
        if self._faults.strikes("fill reported late", 0.1):
            await asyncio.sleep(self._random.random() * 10)
        times = 2 if self._faults.strikes("fill reported twice", 0.1) else 1
        for _ in range(times):
            report = {
                "fill_id": fill.fill_id,
                "broker_order_id": ids[0],
                "client_order_id": ids[1],
                "side": fill.side,
                "quantity": fill.quantity,
                "price": fill.price,
                "time": fill.time,
                "leg": leg,
            }
            if await self._record(instrument, "fill", report):
                self.acknowledged.fills.add((instrument, fill.key))

    def _end(self, instrument: str) -> None:
        key = self._order_id(instrument)
        if key is not None:
            status = self._random.choice((OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED))
            self._market.traded[instrument].end(key, status)

    def _amend(self, instrument: str) -> None:
        key = self._order_id(instrument)
        if key is not None:
            self._market.traded[instrument].amend(key, self._random.randint(3, 12), self._price())

    def _supersede(self, instrument: str) -> None:
        key = self._order_id(instrument)
        if key is not None:
            self._market.tick()
            self._market.traded[instrument].supersede(key, self._random.randint(1, 7), self._price())

    def _correct(self, instrument: str) -> None:
        """It lowers what an order was filled only where the order is known beyond doubt."""
        self._market.tick()
        number, quantity, price = self._random.randrange(30), self._random.randrange(7), self._price()
        lowers = not self._unsure_orders
        self._market.traded[instrument].correct(number, quantity, price, self._delay_us(), lowers=lowers)
        if lowers:
            self._faults.never("fill reported barely")

    def _charge(self, instrument: str) -> None:
        self._market.tick()
        self._market.traded[instrument].charge(self._random.randrange(30), self._random.randrange(3))

    def _trade_outside(self, instrument: str) -> None:
        self._market.tick()
        leg, side = self._market.leg(instrument, self._random), self._side()
        quantity, price = self._random.randint(1, 6), self._price()
        self._market.traded[instrument].external(leg, side, quantity, price, self._delay_us())

    def _close_out(self, instrument: str) -> None:
        """Somebody closes all of it, and cancels what works. By a clock that was set that may be before the first look
        at the account, and for nobody but a person to believe."""
        if self._faults.counts["the broker's clock steps"]:
            return
        one = self._market.traded[instrument]
        for row in self._market.working(instrument):
            one.end(row.broker_order_id, OrderStatus.CANCELLED)
        for leg, held in list(one.held().items()):
            self._market.tick()
            one.external(leg, Side.SELL if held > 0 else Side.BUY, int(abs(held)), self._price(), 0)

    def _change_silently(self, instrument: str) -> None:
        """Another quantity is held. That all is gone at once without a word is for a person to believe."""
        self._market.tick()
        leg, quantity = self._market.leg(instrument, self._random), self._random.choice((-8, -3, -1, 1, 2, 5))
        self._market.traded[instrument].silently(leg, quantity, self._price())

    def _believe(self, instrument: str) -> None:
        """Our side reports a position of its own accord, right or wrong."""
        leg, quantity = self._market.leg(instrument, self._random), Decimal(self._random.randint(-3, 3))
        if self._market.conventions.legs is LegScheme.SIDED:
            quantity = abs(quantity) if leg == "long" else -abs(quantity)
        self._tags += 1
        report = {
            "leg": leg,
            "quantity": quantity,
            "average_price": Decimal(self._price()),
            "strategy": f"s{self._tags}",
        }
        self._begin(self._believed(instrument, report))

    async def _believed(self, instrument: str, report: dict[str, Any]) -> None:
        recorded = await self._record(instrument, "position", report)
        if recorded and recorded.news:
            self.acknowledged.positions.add((instrument, report["strategy"]))

    async def _ask_for(self, instrument: str) -> None:
        """As a handle does that is made for an instrument of which nobody has heard yet."""
        try:
            await self._port.call(SUPERVISOR, "look_after", self.account, instrument, timeout_s=5.0)
        except CallError as error:
            self._faults.note(f"nobody was asked: {error}")

    def _rest(self, instrument: str) -> None:
        """Nothing happens."""

    # How it is reported

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _record(self, instrument: str, kind: str, report: dict[str, Any]) -> Recorded | None:
        """As a strategy does: once more where it is not known to be durable, and then no more."""
        handle = self._handles[instrument]
        calls: dict[str, Callable[..., Awaitable[Recorded]]] = {
            "order": handle.record_order,
            "fill": handle.record_fill,
            "position": handle.record_position,
        }
        for _ in range(2):
            try:
                recorded = await calls[kind](**report)
            except NotRecorded:
                if self._comes_and_goes:
                    await self._ask_for(instrument)
                continue
            except InvalidReport as error:
                self._faults.note(f"refused: {error}")
                return None
            self._faults.note(f"{instrument}: {kind} {recorded.key} is durable, news: {recorded.news}")
            return recorded
        return None
