"""The book: what we believe about one instrument, as a fold of its events.

The laws of this module:

* :meth:`Book.apply` is the only way in. It never looks at a clock, and never fails on an event that was journaled.
* Applying the same events in the same order gives the same book, to the digit.
* A fill changes legs once, by its id in the scope of that id, however often it is reported. When the broker restates a
  fill, what was assumed of it is undone to the unit.
* A correction leaves a watermark on its leg: a fill not later than that is contained in the correction. A position
  that our side reports has no broker time and leaves no watermark: such reports are numbered instead.

The vocabulary of the systems this replaces: :meth:`positions_by_ticket`, :meth:`find_order_by_ticket`; the three
``force_…_position`` corrections are events made in :mod:`actors.reconciliation.positions`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from actors.book import payloads
from actors.book.break_work import UNTOUCHED, WORK_EVENTS, BreakWork, after_change, folded
from actors.book.discrepancies import Break, DiscrepancyType
from actors.book.flapping import RecentReports
from actors.book.lots import ZERO, Leg
from actors.book.order_fills import after_fill, after_recount, after_reported_fill
from actors.book.orders import BookOrder
from actors.book.payloads import BookedFill, FillSource, ReportedFill
from actors.book.unreadable import count_of, flag_of, text_of, texts_of
from actors.events import Event, EventType, Json, broker_time_from_iso
from actors.names import instrument_name
from brokers.clocks import BrokerTime, broker_time
from brokers.frozen import dataclass
from brokers.model import Completeness, ContractFacts, Fill, is_provisional, scoped_id

ENDED_ORDERS_KEPT_FOR = timedelta(days=2)
FILL_IDS_KEPT = 20_000
ORPHANS_KEPT = 5_000
REPORTED_KEPT = 5_000
SAME_DAY = timedelta(hours=12)
WITHOUT_COMMISSION_KEPT = 5_000
"""The bound for a broker that never reports a commission."""


@dataclass(frozen=True, slots=True)
class UnsyncedFills:
    """The fills that a broker reported for a leg: our time of the newest, and the lowest and highest signed sum of the
    newest one, two, three … of them. A position that lags behind lacks one of these sums."""

    at: datetime
    low: Decimal
    high: Decimal

    def with_fill(self, at: datetime, quantity: Decimal) -> UnsyncedFills:
        """The same with one more fill."""
        return UnsyncedFills(at, quantity + min(self.low, ZERO), quantity + max(self.high, ZERO))


_NO_FILLS = UnsyncedFills(datetime.min.replace(tzinfo=UTC), ZERO, ZERO)


class Book:
    """One instrument of one account.

    ``version`` is the version of the last applied event. ``baseline`` is the broker time at which the book was first
    compared with a snapshot: anything the broker did before, and never reported to us, is history. ``floor`` is the
    same if that snapshot showed positions: they contain every fill up to then. ``known_at`` is our time when the broker
    last reported a change of a leg (a fill, another position): a snapshot requested before that is outdated.
    ``believed`` are the legs whose position our side reported and no broker has confirmed since, each with the number
    of that report (``position_reports`` counts them): no time shows which fills such a position contains.
    ``opened_by`` maps fills that are still held to the keys of their orders: such an order is not forgotten.
    ``unsynced`` are the fills that the broker reported for a leg since its position was last in step or set.
    ``orphans`` are quantity and notional of fills that arrived before their order, by broker_order_id.
    ``applied`` are the fills in the book, by their id in its scope; ``uncounted`` are those of them that only their id
    is kept of. ``reported`` are those that our side reported and the broker has not restated; one that is ``pending``
    waits for the broker to name its leg, and is in no leg until then. ``without_commission`` are the applied fills
    whose commission is not reported yet, each with its strategy. ``contract`` is the broker's latest description of the
    instrument itself. ``claimed`` are the legs that a book kept elsewhere set, each with the time of the row that did.
    ``work`` is what people did about the open breaks, by the break's id. ``halts_due`` are the breaks that should halt
    trading here and have not yet, by their ids, each with its description. ``recent_reports`` counts the recent reports
    of each break. ``clean`` is the revision of the last slice found in step, and ``clean_under`` the policy it was
    compared under; any event clears them. These last three are not part of the state.
    """

    def __init__(self, account: str, instrument: str) -> None:
        self.account = account
        self.instrument = instrument
        self.stream = instrument_name(account, instrument)
        self.version = 0
        self.legs: dict[str, Leg] = {}
        self.orders: dict[str, BookOrder] = {}
        self.applied: dict[str, None] = {}
        self.uncounted: dict[str, None] = {}
        self.breaks: dict[tuple[DiscrepancyType, str], Break] = {}
        self.watermarks: dict[str, BrokerTime] = {}
        self.believed: dict[str, int] = {}
        self.position_reports = 0
        self.activity: dict[str, datetime] = {}
        self.last_local_at: datetime | None = None
        self.baseline: BrokerTime | None = None
        self.floor: BrokerTime | None = None
        self.known_at: dict[str, datetime] = {}
        self.opened_by: dict[str, str] = {}
        self.unsynced: dict[str, UnsyncedFills] = {}
        self.orphans: dict[str, tuple[Decimal, Decimal]] = {}
        self.reported: dict[str, ReportedFill] = {}
        self.without_commission: dict[str, str | None] = {}
        self.contract: ContractFacts | None = None
        self.claimed: dict[str, datetime] = {}
        self.work: dict[str, BreakWork] = {}
        self.halts_due: dict[str, str] = {}
        self.recent_reports: RecentReports[tuple[DiscrepancyType, str]] = RecentReports()
        self.cursor: int | None = None
        self.reconciled_at: datetime | None = None
        self.clean: str | None = None
        self.clean_under: object = None
        self._open: dict[str, None] = {}
        self._by_broker_id: dict[str, str] = {}
        self._by_client_id: dict[str, tuple[str, ...]] = {}
        self._successors: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Book({self.stream}, version {self.version})"

    # Queries

    def leg(self, name: str) -> Leg | None:
        """The leg of that name, if anything is held in it."""
        return self.legs.get(name)

    def positions_by_ticket(self) -> dict[str, Leg]:
        """The legs by name: by ticket where the account is hedging (MT5)."""
        return dict(self.legs)

    def find_order_by_ticket(self, ticket: str | int) -> BookOrder | None:
        """The order with this broker_order_id (an MT5 order ticket)."""
        return self.order_of_id(str(ticket))

    def order_of_id(self, broker_order_id: str) -> BookOrder | None:
        """The order with this broker_order_id."""
        key = self._by_broker_id.get(broker_order_id)
        return self.orders.get(key) if key is not None else None

    def find_order(self, broker_order_id: str | None, client_order_id: str | None) -> BookOrder | None:
        """The order with this broker_order_id; else one with this client_order_id whose broker_order_id one of the two
        sides does not know (client ids need not be unique at a broker): the first that has not ended, else the last."""
        if broker_order_id is not None:
            key = self._by_broker_id.get(broker_order_id)
            if key is not None:
                return self.orders[key]
        if client_order_id is None:
            return None
        candidates = self.orders_by_client_id(client_order_id)
        if broker_order_id is not None:
            candidates = [o for o in candidates if o.broker_order_id is None or is_provisional(o.broker_order_id)]
        working = [order for order in candidates if not order.status.terminal]
        return working[0] if working else (candidates[-1] if candidates else None)

    def orders_by_client_id(self, client_order_id: str) -> list[BookOrder]:
        """Every order with this client_order_id, in the order they became known."""
        return [self.orders[key] for key in self._by_client_id.get(client_order_id, ())]

    def order_of_held(self, fill_id: str) -> BookOrder | None:
        """The order of a fill that is still held."""
        key = self.opened_by.get(fill_id)
        return self.orders.get(key) if key is not None else None

    def replaced_order(self, broker_order_id: str) -> BookOrder | None:
        """The order that the one with this broker_order_id replaced."""
        key = self._successors.get(broker_order_id)
        return self.orders.get(key) if key is not None else None

    def known_as(self, fill: Fill) -> str | None:
        """The key under which a fill is already in the book; ``None`` if it is not.

        A fill whose id needs a scope may have been recorded without one: by a report before the account described its
        ids, or in a journal of an earlier version of this program. It is the same fill unless its day or side differs.
        """
        key = fill.key
        if key in self.applied:
            return key
        if not fill.id_scope or fill.fill_id not in self.applied:
            return None
        reported = self.reported.get(fill.fill_id)
        if reported is None:
            return fill.fill_id
        same = reported.fill.side is fill.side and abs(reported.fill.time - fill.time) < SAME_DAY
        return fill.fill_id if same else None

    def pending_fills(self) -> list[ReportedFill]:
        """The reported fills that wait for the broker to name the leg they changed, earliest first."""
        if not self.reported:
            return []
        waiting = [reported for reported in self.reported.values() if reported.fill.pending]
        return sorted(waiting, key=lambda reported: (reported.fill.time, reported.fill.key))

    def open_orders(self, but: Container[str] = ()) -> Iterator[BookOrder]:
        """The orders that have not ended, except those with these keys."""
        return (self.orders[key] for key in self._open if key not in but)

    @property
    def has_nothing(self) -> bool:
        """Whether it has no position, no working order, no open break and no pending fill."""
        waits = self.legs or self.breaks or self.pending_fills()
        return not waits and not any(True for _ in self.open_orders())

    def covered(self, leg: str | None, time: BrokerTime) -> bool:
        """Whether the positions the book was last set to, or first compared with, already contain a fill of that time.
        With ``None``, whether those of any leg do."""
        if self.floor is not None and time <= self.floor:
            return True
        if leg is None:
            return any(time <= watermark for watermark in self.watermarks.values())
        watermark = self.watermarks.get(leg)
        return watermark is not None and time <= watermark

    def perhaps_in_a_report(self, leg: str, order: BookOrder | None) -> bool:
        """Whether the position that our side reported for a leg may already contain a fill of this order that is
        reported later. It cannot if our side recorded the order itself after the position."""
        number = self.believed.get(leg)
        if number is None:
            return False
        return order is None or order.adopted_at is not None or order.since < number

    # Changes

    def apply(self, event: Event) -> None:
        """Fold in one event. It must be the next of this book's stream."""
        self.version += 1
        self.clean = None
        fold = self._FOLDS.get(event.type)  # the other types do not change the book
        if fold is not None:
            fold(self, event)

    def remember_clean(self, revision: str, policy: object) -> None:
        """Remember that a slice of this revision was in step under this policy."""
        self.clean, self.clean_under = revision, policy

    def fork(self) -> Book:
        """A copy to try events on; the original does not change."""
        other = Book.__new__(Book)
        other.__dict__.update(self.__dict__)
        other.legs = {name: leg.copy() for name, leg in self.legs.items()}
        for name in (
            "orders",
            "applied",
            "uncounted",
            "breaks",
            "watermarks",
            "believed",
            "activity",
            "known_at",
            "unsynced",
            "opened_by",
            "orphans",
            "reported",
            "without_commission",
            "claimed",
            "work",
            "halts_due",
            "_open",
            "_by_broker_id",
            "_by_client_id",
            "_successors",
        ):
            setattr(other, name, dict(getattr(self, name)))
        other.recent_reports = self.recent_reports.copy()
        return other

    def put(self, order: BookOrder) -> None:
        """Store this order under all its ids. Only for the fold and for :mod:`actors.book.checkpoint`."""
        key, name = order.key, order.broker_order_id
        before = self.orders.get(key)
        left = before.broker_order_id if before is not None else None
        if left is not None and left != name and self._by_broker_id.get(left) == key:
            del self._by_broker_id[left]
        self.orders[key] = order
        if order.status.terminal:
            self._open.pop(key, None)
        else:
            self._open[key] = None
        if name is not None:
            self._by_broker_id[name] = key
            self.orphans.pop(name, None)
        for part in order.slices:
            self._by_broker_id[part] = key
            self.orphans.pop(part, None)
        if order.client_order_id is not None:
            known = self._by_client_id.get(order.client_order_id, ())
            if key not in known:
                self._by_client_id[order.client_order_id] = (*known, key)
        if order.replaced_by is not None:
            self._successors[order.replaced_by] = key

    def _forget(self, order: BookOrder) -> None:
        """Remove this order and all its ids."""
        del self.orders[order.key]
        self._open.pop(order.key, None)
        for name in (order.broker_order_id, *order.slices):
            if name is not None and self._by_broker_id.get(name) == order.key:
                del self._by_broker_id[name]
        if order.client_order_id is not None:
            left = tuple(key for key in self._by_client_id.pop(order.client_order_id, ()) if key != order.key)
            if left:
                self._by_client_id[order.client_order_id] = left
        if order.replaced_by is not None and self._successors.get(order.replaced_by) == order.key:
            del self._successors[order.replaced_by]

    def names(self) -> dict[str, Json]:
        """The indexes from ids to orders, and the sequence of the open orders, as far as they cannot be derived from
        the list of orders. Only for :mod:`actors.book.checkpoint`."""
        derived = Book(self.account, self.instrument)
        for order in self.orders.values():
            derived.put(order)
        found: dict[str, Json] = {}
        if list(derived._open) != list(self._open):
            found["open"] = list(self._open)
        for place, theirs, ours in (
            ("broker", derived._by_broker_id, self._by_broker_id),
            ("successors", derived._successors, self._successors),
        ):
            if theirs != ours:
                found[place] = {key: ours.get(key) for key in (*theirs, *ours) if theirs.get(key) != ours.get(key)}
        if derived._by_client_id != self._by_client_id:
            found["client"] = {
                key: list(of) for key, of in self._by_client_id.items() if derived._by_client_id.get(key) != of
            }
        return found

    def rename(self, names: Mapping[str, Any]) -> None:
        """Restore the indexes that :meth:`names` returned, in a book that has the same orders in the same sequence.
        Only for :mod:`actors.book.checkpoint`."""
        self._open, self._by_broker_id, self._by_client_id, self._successors = {}, {}, {}, {}
        for order in list(self.orders.values()):
            self.put(order)
        if "open" in names:
            self._open = dict.fromkeys(texts_of(names["open"]))
        for place, ours in (("broker", self._by_broker_id), ("successors", self._successors)):
            for key, means in names.get(place, {}).items():
                if means is None:
                    ours.pop(key, None)
                else:
                    ours[key] = text_of(means)
        self._by_client_id |= {key: texts_of(of) for key, of in names.get("client", {}).items()}

    def _forget_old(self, now: datetime) -> None:
        """Bound the memory: drop orders that ended long ago, the oldest fill ids, the times of legs closed long ago."""
        limit = now - ENDED_ORDERS_KEPT_FOR
        held = {lot.fill_id for leg in self.legs.values() for lot in leg.lots}
        self.opened_by = {name: key for name, key in self.opened_by.items() if name in held}
        kept = set(self.opened_by.values())  # a fill that closes their position belongs to their strategy
        ended = [o for o in self.orders.values() if o.ended_at is not None and o.ended_at < limit and o.key not in kept]
        for order in ended:
            self._forget(order)
        for key in [key for key, one in self.reported.items() if one.at < limit and not one.fill.pending]:
            del self.reported[key]
        while len(self.reported) > REPORTED_KEPT:
            del self.reported[next(iter(self.reported))]
        while len(self.applied) > FILL_IDS_KEPT:
            oldest = next(iter(self.applied))
            del self.applied[oldest]
            self.uncounted.pop(oldest, None)
            self.without_commission.pop(oldest, None)
        while len(self.without_commission) > WITHOUT_COMMISSION_KEPT:
            del self.without_commission[next(iter(self.without_commission))]
        while len(self.orphans) > ORPHANS_KEPT:
            del self.orphans[next(iter(self.orphans))]
        by_broker = broker_time(limit)  # days: it does not matter by which clock
        for leg in [leg for leg, at in self.watermarks.items() if at < by_broker and leg not in self.legs]:
            del self.watermarks[leg]
        for times in (self.activity, self.known_at):
            for leg in [leg for leg, at in times.items() if at < limit and leg not in self.legs]:
                del times[leg]
        for leg in [leg for leg in self.believed if leg not in self.activity and leg not in self.legs]:
            del self.believed[leg]

    def _on_order(self, event: Event) -> None:
        order = payloads.order_from(event.payload["order"])
        same = event.payload.get("merges")
        if isinstance(same, str) and same in self.orders:
            self._forget(self.orders[same])
            for key, reported in self.reported.items():
                if reported.fill.order_key == same:
                    self.reported[key] = replace(reported, fill=replace(reported.fill, order_key=order.key))
            self.opened_by = {name: order.key if key == same else key for name, key in self.opened_by.items()}
        if order.status.terminal and order.ended_at is None:
            order = replace(order, ended_at=event.time)
        known = self.orders.get(order.key)
        since = self.position_reports if known is None else known.since
        if order.since != since and not event.payload.get("merges"):
            order = replace(order, since=since)
        if order.recorded_at is None and known is not None and known.recorded_at is not None:
            order = replace(order, recorded_at=known.recorded_at)
        if event.type is EventType.ORDER_RECORDED:
            first = order.recorded_at or event.time
            order = replace(self._with_orphans(order), local_at=event.time, recorded_at=first)
            self._touch(event.time)
        else:
            order = replace(order, updated_at=event.time)
        self.put(order)

    def _with_orphans(self, order: BookOrder) -> BookOrder:
        """The order with the fills that arrived before it."""
        quantity, notional = self.orphans.get(order.broker_order_id or "", (ZERO, ZERO))
        if not quantity:
            return order
        return replace(order, filled_quantity=order.filled_quantity + quantity, notional=order.notional + notional)

    def _on_fill(self, event: Event) -> None:
        source = event.source if isinstance(event.source, FillSource) else None
        fill = source.fill if source is not None else payloads.booked_fill_from(event.payload)
        name = fill.key
        if name in self.applied:
            return
        self.applied[name] = None
        if fill.corrects is not None:
            self.applied[fill.corrects.key] = None
        if fill.commission is None and not fill.inferred:
            self.without_commission[name] = fill.strategy
        if not fill.counted:
            self.uncounted[name] = None
            return
        ours = event.type is EventType.FILL_RECORDED
        if ours:
            self.reported[name] = ReportedFill(fill, event.time)
        order = self.orders.get(fill.order_key) if fill.order_key is not None else None
        if order is not None:
            if order.broker_order_id is None:
                order = self._with_orphans(payloads.with_ids(order, fill.broker_order_id, None))
            self.put(after_reported_fill(order, fill, event.time, source, ours=ours))
            if fill.legs:
                self.opened_by[name] = order.key
        elif fill.broker_order_id is not None:
            had, paid = fill.before
            self._orphan(fill.broker_order_id, fill.quantity - had, fill.quantity * fill.price - paid)
        for replaced_id, quantity in fill.replaces:
            for leg in self.legs.values():
                leg.reprice(replaced_id, quantity, fill.price, name)
                if fill.cost is not None:
                    leg.charge(name, fill.cost)
        changed_at = self.activity if ours else self.known_at
        for leg_name, quantity in fill.legs:
            if fill.corrects is not None:
                # Inferred units of an execution that was never reported have the key of its correction by now.
                opened_as = fill.corrects.key if fill.corrects.quantity else name
                quantity = self._given_back(leg_name, fill, opened_as, quantity)
            self._trade(leg_name, quantity, fill, name)
            changed_at[leg_name] = event.time
            if not ours and not fill.inferred:
                self.unsynced[leg_name] = self.unsynced.get(leg_name, _NO_FILLS).with_fill(event.time, quantity)
        if ours:
            self._touch(event.time)

    def _orphan(self, broker_order_id: str, quantity: Decimal, notional: Decimal) -> None:
        had, paid = self.orphans.get(broker_order_id, (ZERO, ZERO))
        if had + quantity or paid + notional:
            self.orphans[broker_order_id] = (had + quantity, paid + notional)
        else:
            self.orphans.pop(broker_order_id, None)

    def _leg_of(self, name: str, at: BrokerTime) -> Leg:
        leg = self.legs.get(name)
        if leg is None:
            leg = self.legs[name] = Leg(name, at)
        return leg

    def _trade(self, name: str, quantity: Decimal, fill: BookedFill, fill_key: str | None) -> None:
        leg = self._leg_of(name, fill.time)
        cost = fill.cost if fill.cost is not None and fill_key is not None else ZERO
        leg.trade(quantity, fill.price, fill_key, fill.time, fill.cost_basis, cost)
        if not leg.quantity:
            del self.legs[name]

    def _on_restated(self, event: Event) -> None:
        """Replace what was assumed of a fill, in its order and in its legs."""
        was = payloads.booked_fill_from(event.payload["was"])  # type: ignore[arg-type]  # written by restated_to
        fill = payloads.booked_fill_from(event.payload)
        old, name = was.key, fill.key
        self.reported.pop(old, None)
        self.applied[name] = None
        if flag_of(event.payload["assumed"]):
            self.reported[name] = ReportedFill(fill, event.time)
        if old != name and old in self.without_commission:
            self.without_commission[name] = self.without_commission.pop(old)
        self._restate_order(fill, was, event.time)
        names = event.payload.get("names_order")
        if isinstance(names, str) and fill.order_key in self.orders:
            self._name(self.orders[fill.order_key], names)
        self.opened_by.pop(old, None)
        if fill.order_key in self.orders and fill.legs:
            self.opened_by[name] = str(fill.order_key)
        if was.legs == fill.legs and not fill.pending:
            for leg_name, quantity in fill.legs:
                if leg_name in self.legs:
                    self.legs[leg_name].reprice(old, abs(quantity), fill.price, name)
        else:
            self.undo_legs(was)
            for leg_name, quantity in fill.legs:
                self._trade(leg_name, quantity, fill, name)
        for leg_name, _ in (*was.legs, *fill.legs):
            self.known_at[leg_name] = event.time

    def _name(self, order: BookOrder, broker_order_id: str) -> None:
        """Give an order the broker_order_id that one of its fills names."""
        if order.broker_order_id is None:
            self.put(self._with_orphans(payloads.with_ids(order, broker_order_id, None)))

    def undo_legs(self, was: BookedFill) -> None:
        """Take out of the legs what a fill put into them. For the fold, and to try the fill on legs without it."""
        for name, quantity in was.legs:
            rest = self._given_back(name, was, was.key, -quantity)
            self._trade(name, rest, was, None)

    def _given_back(self, name: str, fill: BookedFill, opened_as: str, quantity: Decimal) -> Decimal:
        """Take back what was opened in a leg under a fill's key, and reopen what the fill closed there. Returns the
        rest of the quantity."""
        leg = self._leg_of(name, fill.time)
        rest = leg.take_back(opened_as, quantity)
        for closed in fill.closed:
            if closed.leg == name:
                rest -= leg.reopen(closed, fill.time, fill.cost_basis)
        return rest

    def _restate_order(self, fill: BookedFill, was: BookedFill, at: datetime) -> None:
        before = self.orders.get(was.order_key) if was.order_key is not None else None
        after = self.orders.get(fill.order_key) if fill.order_key is not None else None
        if before is not None and before is after:
            more, paid = fill.quantity - was.quantity, fill.quantity * fill.price - was.quantity * was.price
            if more or paid:
                less, lowered_by = before.without(-more)
                known_before = (-more - less) * was.price
                recounted = after_recount(
                    before, before.filled_quantity - less, before.notional + paid + known_before, at
                )
                self.put(replace(recounted, lowered_by=lowered_by))
            return
        if before is not None:
            less, lowered_by = before.without(was.quantity - was.adopted)
            recounted = after_recount(before, before.filled_quantity - less, before.notional - less * was.price, at)
            self.put(replace(recounted, adopted=before.adopted + was.adopted, lowered_by=lowered_by))
        elif was.broker_order_id is not None:
            self._orphan(was.broker_order_id, -was.quantity, -was.quantity * was.price)
        if after is not None:
            self.put(after_fill(after, fill, at, ours=False))
        elif fill.broker_order_id is not None:
            self._orphan(fill.broker_order_id, fill.quantity, fill.quantity * fill.price)

    def _on_commission(self, event: Event) -> None:
        fill_id, id_scope = text_of(event.payload["fill_id"]), text_of(event.payload.get("id_scope", ""))
        name = scoped_id(fill_id, id_scope)
        self.without_commission.pop(name, None)
        cost = event.payload.get("cost")
        for leg in self.legs.values() if cost is not None else ():
            leg.charge(name, Decimal(str(cost)))

    def _on_checkpoint(self, event: Event) -> None:
        """A checkpoint adds nothing. But one of an earlier version of this program lacks newer keys, and a fold that
        starts from it must give the same book as a fold that passes it."""
        if "without_commission" not in event.payload:
            self.without_commission.clear()
        if "believed" not in event.payload:
            self.believed.clear()
            self.uncounted.clear()
            self.position_reports = 0
            for order in list(self.orders.values()):
                self.orders[order.key] = replace(order, since=0)
        if "claimed" not in event.payload:
            self.claimed.clear()
        if "told" not in event.payload:
            self.unsynced.clear()
        if "opened_by" not in event.payload:
            self.opened_by.clear()
        if "reported" not in event.payload:
            self.reported.clear()
            for order in list(self.orders.values()):
                self.orders[order.key] = replace(order, recorded_at=None, replaced_by=None, taken_back=ZERO)
            self.rename({})

    def _on_position(self, event: Event) -> None:
        moved = payloads.move_from(event.payload)
        if moved is not None:
            self._on_move(event.time, payloads.opened_at_in(event.payload, moved[-1], event.time), *moved)
            return
        name, quantity, price, watermark = payloads.position_from(event.payload)
        ratio, leg = payloads.ratio_from(event.payload), self.legs.get(name)
        if ratio is not None and leg is not None:
            leg.scale(ratio)
        if ratio is None or leg is None or (leg.quantity, leg.average_price) != (quantity, price):
            self._hold(name, quantity, price, payloads.opened_at_in(event.payload, watermark, event.time))
        if watermark is None:
            self._believe(name, payloads.waiting_in(event.payload))
        else:
            self._confirm(name, watermark)
        self.unsynced.pop(name, None)
        if event.type is EventType.POSITION_RECORDED:
            claimed_at = payloads.claimed_at(event.payload)
            self.claimed.pop(name, None)
            if claimed_at is not None:
                # Its writer was active at the time in the row, not when we read it.
                self.claimed[name] = claimed_at
                self.activity[name] = min(claimed_at, event.time)
            if payloads.is_claim(event.payload):
                return
            self.activity[name] = event.time
            self._touch(event.time)
            return
        self.known_at[name] = event.time
        if self.baseline is None:
            self.baseline = watermark

    def _believe(self, leg: str, waiting: tuple[str, ...]) -> None:
        """Our side reported the position of a leg: it contains the fills reported before it, and those that wait for
        their leg if it is this one."""
        self.position_reports += 1
        self.believed[leg] = self.position_reports
        for key, one in self.reported.items():
            if any(name == leg for name, _ in one.fill.legs):
                others = tuple(part for part in one.fill.legs if part[0] != leg)
                self.reported[key] = replace(one, fill=replace(one.fill, legs=others))
        for key in waiting:
            if key in self.reported:
                one = self.reported[key]
                self.reported[key] = replace(one, fill=replace(one.fill, within=(*one.fill.within, leg)))

    def _confirm(self, leg: str, watermark: BrokerTime) -> None:
        """The broker reported the position of a leg, as of this broker time."""
        self.watermarks[leg] = max(watermark, self.watermarks.get(leg, watermark))
        self.believed.pop(leg, None)

    def _on_move(
        self,
        at: datetime,
        opened_at: BrokerTime,
        source: str,
        target: str,
        quantity: Decimal,
        price: Decimal,
        watermark: BrokerTime,
    ) -> None:
        """Move lots from one leg to another. They close lots there if that leg is on the opposite side."""
        giver = self.legs.setdefault(source, Leg(source, opened_at))
        taker = self.legs.setdefault(target, Leg(target, opened_at))
        taker.receive(giver.give(quantity, price, opened_at), price, opened_at)
        for leg in (giver, taker):
            self.unsynced.pop(leg.name, None)
            if not leg.quantity:
                del self.legs[leg.name]
            self._confirm(leg.name, watermark)
            self.known_at[leg.name] = at

    def _hold(self, name: str, quantity: Decimal, price: Decimal, at: BrokerTime) -> None:
        if not quantity:
            self.legs.pop(name, None)
            return
        leg = self.legs.setdefault(name, Leg(name, at))
        leg.hold(quantity, price, at)

    def _on_discrepancy(self, event: Event) -> None:
        found = payloads.break_of(event)
        if self.baseline is None:
            self.baseline = found.first_look
        old = self.breaks.get((found.type, found.key))
        if found.halts and not (old is not None and old.id == found.id and old.halts):
            self.halts_due[found.id] = f"{found.type} {found.key}"
        if flag_of(event.payload["resolved"]):
            self._close(found.type, found.key)
            return
        self.breaks[(found.type, found.key)] = found
        self.recent_reports.add((found.type, found.key), event.time)
        work = self.work.get(found.id)
        if work is not None and old is not None:
            self.work[found.id] = after_change(work, old, found)

    def _on_resolved(self, event: Event) -> None:
        self._close(DiscrepancyType(text_of(event.payload["type"])), text_of(event.payload["key"]))

    def _close(self, kind: DiscrepancyType, key: str) -> None:
        """Close a break and drop what was decided about it: that applies to no other break."""
        gone = self.breaks.pop((kind, key), None)
        if gone is not None:
            self.work.pop(gone.id, None)

    def open_break(self, break_id: str) -> Break | None:
        """The open break of that id."""
        return next((found for found in self.breaks.values() if found.id == break_id), None)

    def _on_work(self, event: Event) -> None:
        break_id = text_of(event.payload["id"])
        if self.open_break(break_id) is not None:
            self.work[break_id] = folded(self.work.get(break_id, UNTOUCHED), event)

    def _on_halted(self, event: Event) -> None:
        del event
        self.halts_due.clear()

    def _on_reconciled(self, event: Event) -> None:
        as_of = broker_time_from_iso(str(event.payload["as_of"]))
        if self.baseline is None:
            self.baseline = as_of
        cursor = event.payload["fills_cursor"]
        if cursor is not None:
            self.cursor = count_of(cursor)
        if event.payload.get("contract") is not None:
            self.contract = payloads.contract_from(event.payload["contract"])
        self.reconciled_at = event.time
        self._forget_old(event.time)
        if Completeness(text_of(event.payload["positions"])) is Completeness.COMPLETE:
            self.floor = self.floor or as_of
            self.unsynced.clear()
            for leg in list(self.believed):
                self._confirm(leg, as_of)

    def _on_clock_step(self, event: Event) -> None:
        """Our earlier times are of another clock than the later ones: everything done or reported counts as done or
        reported now, sightings prove nothing any more, and the book must be found in step again."""
        at, back = event.time, payloads.reports_back(event.payload)
        self.last_local_at = None if self.last_local_at is None else at
        self.activity = dict.fromkeys(self.activity, at)
        self.known_at = dict.fromkeys(self.known_at, at)
        self.unsynced = {leg: replace(fills, at=at) for leg, fills in self.unsynced.items()}
        self.reported = {key: replace(reported, at=at) for key, reported in self.reported.items()}
        for order in list(self.orders.values()):
            self.orders[order.key] = replace(
                order,
                local_at=order.local_at and at,
                updated_at=order.updated_at and at,
                filled_at=order.filled_at and at,
                recorded_at=order.recorded_at and order.recorded_at - back,
                ended_at=order.ended_at and order.ended_at - back,
            )
        for place, found in list(self.breaks.items()):
            if found.seen_at:
                self.breaks[place] = replace(found, seen_at=())
        for break_id, work in self.work.items():
            if work.approved is not None:
                self.work[break_id] = replace(work, approved=replace(work.approved, at=at))
        self.reconciled_at = None

    def newest_own_time(self) -> datetime | None:
        """The latest of our own times in the book, by the clock of the actor that wrote that event."""
        times = [*self.activity.values(), *self.known_at.values()]
        times += [at for found in self.breaks.values() for at in found.seen_at]
        times += [work.approved.at for work in self.work.values() if work.approved is not None]
        perhaps = [self.last_local_at, self.reconciled_at]
        for order in self.orders.values():
            perhaps += [order.local_at, order.updated_at, order.filled_at]
        return max((*times, *(at for at in perhaps if at is not None)), default=None)

    def _touch(self, at: datetime) -> None:
        self.last_local_at = at if self.last_local_at is None else max(at, self.last_local_at)

    _FOLDS: ClassVar[dict[EventType, Callable[[Book, Event], None]]] = {
        EventType.ORDER_RECORDED: _on_order,
        EventType.ORDER_UPDATED: _on_order,
        EventType.ORDER_CANCELLED: _on_order,
        EventType.ORDER_EXPIRED: _on_order,
        EventType.ORDER_REJECTED: _on_order,
        EventType.FILL_RECORDED: _on_fill,
        EventType.ORDER_FILLED: _on_fill,
        EventType.FILL_RESTATED: _on_restated,
        EventType.COMMISSION_REPORTED: _on_commission,
        EventType.POSITION_RECORDED: _on_position,
        EventType.POSITION_SYNCED: _on_position,
        EventType.RECONCILIATION_DISCREPANCY: _on_discrepancy,
        EventType.DISCREPANCY_RESOLVED: _on_resolved,
        EventType.RECONCILED: _on_reconciled,
        EventType.CHECKPOINT: _on_checkpoint,
        EventType.CLOCK_STEPPED: _on_clock_step,
        EventType.TRADING_HALTED: _on_halted,
        **dict.fromkeys(WORK_EVENTS, _on_work),
    }
