"""What must hold, whatever happened.

At every moment: trading is not allowed on a book that has been wrong for longer than an interval and a time-out (seen
against the market's own log); where nothing at the broker is unexplained, no difference is ever found that only our own
assumptions made.

At rest, within three intervals of the last fault: every book is the broker's and that of its journal, to the digit;
trading is allowed; every acknowledged report is in the journal exactly once; the chain verifies, and holds every append
that was answered; two cycles in which nothing has changed write nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from actors.book.checkpoint import replay
from actors.book.view import BookState, book_state
from actors.events import Event, EventType, Record
from actors.journal.client import JournalAway
from actors.names import SUPERVISOR, split_name
from brokers.model import scoped_id
from tests.simulation.clocks import time_s
from tests.simulation.house import CYCLE_TIMEOUT_S, House
from tests.simulation.market import Legs, Market
from tests.simulation.strategy import Acknowledged

FILLS = (EventType.FILL_RECORDED, EventType.ORDER_FILLED)
OF_OUR_OWN_MAKING = frozenset({"POSITION_MISMATCH", "NAKED_POSITION", "DUPLICATE_ORDER", "BOOK_MISMATCH"})
SLACK_S = 1.0
LOOK_EVERY_S = 0.5


class LawBroken(AssertionError):
    """One law, and how it was broken."""


def hold(law: str, true: object, found: object) -> None:
    """This must be so."""
    if not true:
        raise LawBroken(f"{law}: {found}")


class Watch:
    """Asks every instrument, again and again, whether it may be traded, and compares its book with what is true."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._right_s: dict[str, float] = {}
        self.broken: str | None = None
        self.allowed = 0

    async def run(self) -> None:
        while True:
            for stream in tuple(self._house.instruments):
                await self.look(stream)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, stream: str) -> None:
        """Now, and whenever something was written: a book may be right for a moment only."""
        actor = self._house.instruments.get(stream)
        if actor is None:
            return
        permission = await actor.trading_allowed()
        try:
            book = await actor.book() if permission or permission.verified_at is not None else None
        except JournalAway:
            book = None
        if book is not None:
            self.allowed += bool(permission)
            held = {leg.leg: leg.quantity for leg in book.legs}
            self._look(stream, held, allowed=bool(permission))
        else:
            self.note(stream)  # one that was loaded again is not verified yet, and may be right all the same

    def note(self, stream: str) -> None:
        """Note what the book in memory has, before it goes on: after it was loaded again it may be right for as long as
        that takes. Nothing is asked of its actor, which would load it or wake up."""
        actor = self._house.instruments.get(stream)
        if actor is not None and actor.keeper.book is not None:
            self._look(stream, {leg.name: leg.quantity for leg in actor.keeper.book.legs.values()}, allowed=False)

    def _look(self, stream: str, held: Legs, *, allowed: bool) -> None:
        _, symbol = split_name(stream)
        market, now_s = self._house.market_of(stream), time_s()
        true_s = market.last_true_s(symbol, held)
        # A book that is seen for the first time has not been seen wrong before.
        right_s = max(self._right_s.get(stream, now_s), market.lied_s, true_s if true_s is not None else 0.0)
        self._right_s[stream] = right_s
        longest_s = self._house.interval_s + CYCLE_TIMEOUT_S + SLACK_S
        if allowed and now_s - right_s > longest_s and self.broken is None:
            self.broken = (
                f"trading in {stream} is allowed at {now_s:.3f} s on a book that has been wrong since {right_s:.3f} s: "
                f"book {held}, broker {market.traded[symbol].held()}"
            )


def book_is_the_brokers(symbol: str, book: BookState, market: Market) -> None:
    one = market.traded[symbol]
    ours = {leg.leg: leg.quantity for leg in book.legs}
    hold(f"the legs of {symbol} are the broker's", ours == one.held(), f"book {ours}, broker {one.held()}")
    for leg in book.legs:
        theirs = one.legs[leg.leg].average_price
        close = abs(leg.average_price - theirs) <= book.policy.price_tolerance * abs(theirs)
        hold(f"the price of {symbol} {leg.leg} is the broker's", close, f"book {leg.average_price}, broker {theirs}")
    working = {(row.broker_order_id, row.status, row.filled_quantity, row.quantity) for row in market.working(symbol)}
    held = {(row.broker_order_id, row.status, row.filled_quantity, row.quantity) for row in book.open_orders}
    hold(f"the orders of {symbol} are the broker's", held == working, f"book {held}, broker {working}")
    hold(f"no break of {symbol} is open", not book.breaks, book.breaks)
    hold(f"no fill of {symbol} waits", not book.pending_fills, book.pending_fills)


def nothing_is_left_alone(stream: str, records: Iterable[Record], market: Market) -> None:
    """An instrument without an actor has nothing at the broker, and its journal has nothing of it."""
    account, symbol = split_name(stream)
    there = market.traded[symbol].held(), market.working(symbol)
    hold(f"{stream} has an actor while it has anything", there == ({}, []), there)
    made = replay(account, symbol, tuple(records))
    ours = made.legs, list(made.open_orders())
    hold(f"the journal of {stream} has nothing where nobody looks after it", ours == ({}, []), ours)


def book_is_its_replay(symbol: str, book: BookState, records: Iterable[Record], market: Market) -> None:
    """Which is that of the whole stream, whoever continued it meanwhile."""
    then = _replayed(book, tuple(records))
    versions = then.version, book.version
    hold(f"the version of {symbol} is that of its journal", versions[0] == versions[1], versions)
    legs = book.legs, then.legs
    hold(f"the legs of {symbol} are those of its replay", legs[0] == legs[1], legs)
    orders = book.open_orders, then.open_orders
    hold(f"the orders of {symbol} are those of its replay", orders[0] == orders[1], orders)
    book_is_the_brokers(symbol, then, market)


def _replayed(book: BookState, records: tuple[Record, ...]) -> BookState:
    made = replay(book.account, book.instrument, records)
    return book_state(made, book.policy, book.as_of, book.verified_at, None, book.conventions)


def acknowledged_once(acknowledged: Acknowledged, records: Iterable[Record], of_account: str) -> None:
    """Every report to an account that was said to be durable is in the journal, and its fill counts once."""
    fills: Counter[tuple[str, str]] = Counter()
    corrected: set[tuple[str, str]] = set()
    orders: set[tuple[str, str]] = set()
    begun: Counter[tuple[str, str, str]] = Counter()
    positions: set[tuple[str, str]] = set()
    for record in records:
        event, (account, _, symbol) = record.event, record.stream.partition("/")
        if account != of_account or not symbol:
            continue
        if event.type in FILLS and not event.payload.get("inferred"):
            fills[symbol, _key(event)] += 1
            was = event.payload.get("corrects")
            if isinstance(was, dict):
                corrected.add((symbol, scoped_id(str(was["fill_id"]), str(was.get("id_scope", "")))))
        order = event.payload.get("order")
        if isinstance(order, dict):
            orders.add((symbol, str(order["client_order_id"])))
            if event.type is EventType.ORDER_RECORDED and order["status"] == "PENDING_SUBMIT":
                begun[symbol, str(order["client_order_id"]), str(order["submitted_at"])] += 1
        if event.type is EventType.POSITION_RECORDED:
            positions.add((symbol, str(event.payload.get("strategy"))))
    twice = {place: times for place, times in fills.items() if times > 1}
    hold("a fill counts once", not twice, twice)
    lost = {place for place in acknowledged.fills if place not in fills and place not in corrected}
    hold("every acknowledged fill is in the journal", not lost, lost)
    missing = {(symbol, client_id) for symbol, client_id, _ in acknowledged.orders} - orders
    hold("every acknowledged order is in the journal", not missing, missing)
    again = {place: times for place, times in begun.items() if times > 1}
    hold("an order is recorded once", not again, again)
    hold(
        "every acknowledged position is in the journal",
        acknowledged.positions <= positions,
        acknowledged.positions - positions,
    )


def journal_is_whole(records: Iterable[Record]) -> None:
    seen = Counter(record.event.event_id for record in records)
    twice = [name for name, times in seen.items() if times > 1]
    hold("an event is in the journal once", not twice, twice)


def answered_appends_are_in(appended: Mapping[str, tuple[str, int]], records: Iterable[Record]) -> None:
    """What the journal said is durable is in it, at the place it said."""
    places = {record.event.event_id: (record.stream, record.version) for record in records}
    lost = {event_id: place for event_id, place in appended.items() if places.get(event_id) != place}
    hold("what was answered as durable is in the journal", not lost, lost)


def nothing_of_our_own_making(records: Iterable[Record]) -> None:
    """In a market in which nothing is unexplained no difference of these kinds is found, once a book has been in step:
    before, it does not know up to which fill the positions that it took over go."""
    in_step: set[str] = set()
    for record in records:
        event = record.event
        if event.type is EventType.RECONCILED:
            in_step.add(record.stream)
        if event.type is EventType.RECONCILIATION_DISCREPANCY and record.stream in in_step:
            kind = str(event.payload.get("type"))
            words = f"seq {record.seq} of {record.stream}: {dict(event.payload)}"
            hold("no difference is of our own making", kind not in OF_OUR_OWN_MAKING, words)


def events_but_evidence(records: Iterable[Record]) -> list[Event]:
    """What was written of accounts and instruments; the supervisor writes of actors that come and go. After evidence,
    as after any record, a checkpoint may be due."""
    of_us = (record.event for record in records if record.stream != SUPERVISOR)
    return [event for event in of_us if event.type not in (EventType.RECONCILED, EventType.CHECKPOINT)]


def _key(event: Event) -> str:
    return scoped_id(str(event.payload["fill_id"]), str(event.payload.get("id_scope", "")))
