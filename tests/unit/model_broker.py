"""A broker in a few lines, for the property tests: it trades, loses, repeats, delays and contradicts itself, and it
knows the truth that a book must arrive at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TypeVar

from actors.book.lots import ZERO, Leg
from brokers.clocks import broker_time
from brokers.model import (
    LONG,
    NET,
    SHORT,
    AnyRow,
    Complete,
    Conventions,
    Corrected,
    CostBasis,
    Failed,
    Fill,
    IdScope,
    LegScheme,
    Order,
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    Partial,
    Position,
    RowProblem,
    Section,
    SectionName,
    Side,
    Slice,
    Unsupported,
)
from tests.unit.builders import ACCOUNT, INSTRUMENT, T0

RowT = TypeVar("RowT", bound=AnyRow)


@dataclass
class ModelBroker:
    """One instrument at a broker. ``shows_ended`` is whether ended orders stay in the list of orders; ``reports_fills``
    whether it has fills at all. What it dates, it dates by its own clock, down to ``resolution_ms``; our clock is
    ``ours_ahead`` of that."""

    scheme: LegScheme
    basis: CostBasis
    shows_ended: bool
    reports_fills: bool
    daily_ids: bool = False  # the ids of fills begin anew each day, and those of both sides are the same
    resolution_ms: int = 1
    instrument: str = INSTRUMENT
    now_ms: int = 0
    ours_ahead: timedelta = timedelta()
    legs: dict[str, Leg] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    fills: list[tuple[int, Fill]] = field(default_factory=list)  # and from when on it is reported
    _ids: int = 0
    _daily: dict[str, int] = field(default_factory=dict)

    @property
    def conventions(self) -> Conventions:
        scope = IdScope.TRADING_DAY_AND_SIDE if self.daily_ids else IdScope.ACCOUNT
        return Conventions(self.scheme, self.basis, fill_ids=scope)

    def fill_id(self, side: Side) -> str:
        """The id of a new fill: where they are daily, one that another day has too, and the other side."""
        if not self.daily_ids:
            return self.next_id("F")
        day = f"{self.time.date()} {side.value}"
        self._daily[day] = self._daily.get(day, 0) + 1
        return f"F{self._daily[day]}"

    def next_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}{self._ids}"

    # What happens there

    def place(self, client_id: str | None, side: Side, quantity: int, price: int, leg: str | None) -> str:
        broker_id = self.next_id("B")
        if self.scheme is LegScheme.SIDED:
            leg = leg or (LONG if side is Side.BUY else SHORT)
        elif self.scheme is LegScheme.TICKET:
            leg = leg or f"T{broker_id}"
        else:
            leg = None
        self.orders[broker_id] = Order(
            self.instrument,
            broker_id,
            client_id,
            side,
            Decimal(quantity),
            ZERO,
            OrderStatus.OPEN,
            limit_price=Decimal(price),
            submitted_at=broker_time(self.stamp),
            leg=leg,
        )
        return broker_id

    @property
    def time(self) -> datetime:
        return T0 + timedelta(milliseconds=self.now_ms)

    @property
    def stamp(self) -> datetime:
        """Now, as it writes it."""
        return T0 + timedelta(milliseconds=self.now_ms // self.resolution_ms * self.resolution_ms)

    @property
    def our_time(self) -> datetime:
        return self.time + self.ours_ahead

    def execute(self, broker_id: str, quantity: int, price: int, delay_ms: int) -> Fill | None:
        order = self.orders[broker_id]
        amount = min(Decimal(quantity), order.quantity - order.filled_quantity)
        leg = order.leg if order.leg is not None else NET
        amount = self._possible(leg, order.side, amount)
        if not amount or order.status.terminal:
            return None
        filled = order.filled_quantity + amount
        average = ((order.average_fill_price or ZERO) * order.filled_quantity + price * amount) / filled
        status = OrderStatus.FILLED if filled == order.quantity else OrderStatus.PARTIALLY_FILLED
        self.orders[broker_id] = replace(order, filled_quantity=filled, average_fill_price=average, status=status)
        return self._trade(leg, order.side, amount, price, broker_id, delay_ms)

    def external(self, leg: str, side: Side, quantity: int, price: int, delay_ms: int) -> Fill | None:
        amount = self._possible(leg, side, Decimal(quantity))
        return self._trade(leg, side, amount, price, self.next_id("X"), delay_ms) if amount else None

    def _possible(self, leg: str, side: Side, amount: Decimal) -> Decimal:
        """A leg that has one side is closed at most, never turned."""
        held = self.legs.get(leg)
        if self.scheme is LegScheme.NET:
            return amount
        if held is None:
            if self.scheme is LegScheme.SIDED and (leg == LONG) != (side is Side.BUY):
                return ZERO
            return amount
        return amount if (held.quantity > 0) == (side is Side.BUY) else min(amount, abs(held.quantity))

    def _trade(self, leg: str, side: Side, amount: Decimal, price: int, order_id: str, delay_ms: int) -> Fill:
        trade = Fill(
            self.instrument, self.fill_id(side), order_id, side, amount, Decimal(price), broker_time(self.stamp),
            leg=None if self.scheme is LegScheme.NET else leg,
            id_scope=self.conventions.fill_scope(side, broker_time(self.stamp)),
        )  # fmt: skip
        held = self.legs.setdefault(leg, Leg(leg, broker_time(self.time)))
        held.trade(amount * side.sign, Decimal(price), trade.fill_id, broker_time(self.time), self.basis)
        if not held.quantity:
            del self.legs[leg]
        self.fills.append((self.now_ms + delay_ms, trade))
        return trade

    def correct(self, number: int, quantity: int, price: int, delay_ms: int, *, lowers: bool) -> None:
        """An execution was another one: its price, of somebody else's the quantity too, and where it ``lowers`` of an
        order's own as well, down to nothing."""
        corrected = {fill.corrects.key for _, fill in self.fills if fill.corrects is not None}
        open_to_it = [fill for _, fill in self.fills if fill.key not in corrected]
        if self.scheme is not LegScheme.NET or not open_to_it:
            return
        was = open_to_it[number % len(open_to_it)]
        row = self.orders.get(was.broker_order_id or "")
        least = Decimal(quantity) if lowers else was.quantity
        now = Decimal(quantity) if row is None else min(was.quantity, least)
        if row is not None:
            filled = row.filled_quantity + now - was.quantity
            paid = (row.average_fill_price or ZERO) * row.filled_quantity + now * price - was.quantity * was.price
            average = paid / filled if filled else None
            self.orders[row.broker_order_id] = replace(row, filled_quantity=filled, average_fill_price=average)
        change = Corrected(was.fill_id, was.quantity, was.price, was.id_scope)
        self.fills.append(
            (
                self.now_ms + delay_ms,
                replace(
                    was,
                    fill_id=self.next_id("C"),
                    quantity=now,
                    price=Decimal(price),
                    commission=None,
                    corrects=change,
                ),
            )
        )
        held = self.legs.setdefault(NET, Leg(NET, broker_time(self.time)))
        held.trade((now - was.quantity) * was.side.sign, Decimal(price), None, broker_time(self.time), self.basis)
        if not held.quantity:
            del self.legs[NET]

    def charge(self, number: int, amount: int) -> None:
        """The commission of a fill is known only now, and the fill is reported once more with it."""
        open_to_it = [place for place, (_, fill) in enumerate(self.fills) if fill.commission is None]
        if open_to_it:
            place = open_to_it[number % len(open_to_it)]
            shown, fill = self.fills[place]
            self.fills[place] = (max(shown, self.now_ms), replace(fill, commission=Decimal(amount)))

    def silently(self, leg: str, quantity: int, price: int) -> None:
        """The position changes without a fill."""
        if not quantity:
            self.legs.pop(leg, None)
            return
        if self.scheme is LegScheme.SIDED:
            quantity = abs(quantity) if leg == LONG else -abs(quantity)
        self.legs[leg] = Leg(leg, broker_time(self.time))
        self.legs[leg].hold(Decimal(quantity), Decimal(price), broker_time(self.time))

    def end(self, broker_id: str, status: OrderStatus) -> None:
        if not self.orders[broker_id].status.terminal:
            self.orders[broker_id] = replace(self.orders[broker_id], status=status)

    def amend(self, broker_id: str, quantity: int, price: int) -> None:
        order = self.orders[broker_id]
        if not order.status.terminal and quantity > order.filled_quantity:
            self.orders[broker_id] = replace(order, quantity=Decimal(quantity), limit_price=Decimal(price))

    def supersede(self, broker_id: str, quantity: int, price: int) -> None:
        """The order is replaced by another one, for what is left of it or more."""
        order = self.orders[broker_id]
        if order.status.terminal or not quantity:
            return
        new_id = self.next_id("B")
        self.orders[broker_id] = replace(order, status=OrderStatus.CANCELLED, replaced_by=new_id)
        self.orders[new_id] = replace(
            order,
            broker_order_id=new_id,
            quantity=Decimal(quantity),
            filled_quantity=ZERO,
            average_fill_price=None,
            limit_price=Decimal(price),
            status=OrderStatus.OPEN,
            submitted_at=broker_time(self.stamp),
        )

    # What it says

    def say(self, kinds: tuple[str, str, str], after_cursor: int | None, random: Random) -> Slice:
        positions = [
            Position(self.instrument, name, leg.quantity, leg.average_price) for name, leg in self.legs.items()
        ]
        orders = [row for row in self.orders.values() if self.shows_ended or not row.status.terminal]
        after = -1 if after_cursor is None else after_cursor
        fills = [fill for shown, fill in self.fills if after < shown <= self.now_ms]
        fills += [fill for shown, fill in self.fills if shown <= after and random.random() < 0.2]
        random.shuffle(fills)
        random.shuffle(orders)
        random.shuffle(positions)
        fill_section: Section[Fill] = Unsupported()
        if self.reports_fills:
            fill_section = _section(kinds[2], fills + fills[:1], SectionName.FILLS, random)
        return Slice(
            ACCOUNT,
            self.instrument,
            self.our_time,
            broker_time(self.stamp),
            _section(kinds[0], positions, SectionName.POSITIONS, random),
            _section(kinds[1], orders, SectionName.ORDERS, random),
            fill_section,
            self.now_ms if self.reports_fills else None,
            self.conventions,
            f"r{self.now_ms}.{self.next_id('')}",
        )

    def stream(self, sent: list[Fill], *, with_rows: bool) -> Slice:
        """What its stream delivers of these executions, if it has one."""
        fills = tuple(sent) if self.reports_fills else ()
        rows = tuple(self.row_of(fill) for fill in fills) if with_rows else ()
        failed = Failed("a stream reports executions alone")
        return Slice(
            ACCOUNT,
            self.instrument,
            self.our_time,
            broker_time(self.stamp),
            failed,
            Partial(rows),
            Partial(fills),
            None,
            self.conventions,
            f"s{self.now_ms}.{self.next_id('')}",
            streamed=True,
        )

    def row_of(self, fill: Fill) -> Order:
        """The row of a fill's order."""
        row = self.orders.get(fill.broker_order_id or "")
        if row is not None:
            return row
        name, done = fill.broker_order_id or "", OrderStatus.FILLED
        return Order(
            self.instrument, name, None, fill.side, fill.quantity, fill.quantity, done, "MARKET", None, fill.price,
            fill.time,
        )  # fmt: skip

    def answer(self, query: OrderQuery, random: Random, *, fails: bool) -> OrderAnswer:
        if fails:
            return OrderAnswer(query, failure="timed out")
        row = self.orders.get(query.broker_order_id or "")
        if row is None and query.broker_order_id is None:
            row = next((r for r in self.orders.values() if r.client_order_id == query.client_order_id), None)
        if row is None:
            return OrderAnswer(query)
        fills = [
            fill
            for shown, fill in self.fills
            if fill.broker_order_id == row.broker_order_id and shown <= self.now_ms and self.reports_fills
        ]
        random.shuffle(fills)
        return OrderAnswer(query, row, tuple(fills))


def _section(kind: str, rows: list[RowT], name: SectionName, random: Random) -> Section[RowT]:
    if kind == "F":
        return Failed("timed out")
    if kind == "P":
        kept = tuple(row for row in rows if random.random() < 0.5)
        return Partial(kept, (RowProblem(name, INSTRUMENT, None, "unreadable"),))
    return Complete(tuple(rows))
