"""Step 2 of a cycle: the fills that the book has not seen, in broker time order. A change that they explain is not
drift.

A fill is applied once, by its id in the scope of that id. Its effect on the legs is decided here, written into its
event, and only repeated by the fold. Four things keep it from counting twice: a watermark (a correction already
contains it), an inferred fill that it replaces, the quantity its order had when we first saw the order, and a position
that our side reported and that contains it, as the broker's positions show (no time shows that).

A fill that our side reported is assumed until the broker reports the same fill: then one event replaces the assumption
with the broker's report, under every policy, and this is no difference between the two sides.

A commission that arrives after its fill is written once, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from actors.book import payloads
from actors.book.book import Book
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase, cause_of, severity_of
from actors.book.lots import ZERO
from actors.book.order_fills import after_fill
from actors.book.orders import BookOrder
from actors.events import EventType, Severity, to_text
from actors.reconciliation.before_fills import unexplained_first
from actors.reconciliation.booked_fills import book_fill, cost_of, infer_fill, inferred_fill, named_leg
from actors.reconciliation.order_matching import order_of_fill, parent_of_fill, replaced_by
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass, Subject
from actors.reconciliation.restated_fills import (
    CORRECTION,
    GUESS,
    booked_correction,
    correct,
    correct_guess,
    may_be_inferred,
    restate_all,
    taken_out_of,
)
from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import (
    NET,
    Complete,
    Fill,
    LegScheme,
    Order,
    OrderQuery,
    Partial,
    rows_of,
)

SET_WITHIN = timedelta(seconds=5)
"""How much later than its stated time a position may have been read. Adapters state a time that is never too late:
whole seconds rounded down, from before the first of several requests."""

__all__ = ["SET_WITHIN", "book_fill", "infer_fill", "inferred_fill", "reconcile_fills"]


def reconcile_fills(work: ReconciliationPass) -> None:
    """Apply every fill of the slice, and of the answers to our look-ups, that the book has not seen. A correction of an
    execution that was never reported is a fill like any other, and the execution itself never counts."""
    if work.book.without_commission:
        _report_commissions(work)
    rows = rows_of(work.slice.fills)
    if work.slice.answers:
        rows = (*rows, *(fill for answer in work.slice.answers for fill in answer.fills))
    in_reports = _in_our_reports(work, rows) if work.book.believed else {}
    if not rows:
        return
    linked = _orders_by_broker_id(work)
    if work.book.reported:
        restate_all(work, rows, linked)
    known_as = work.book.known_as
    new = [fill for fill in rows if known_as(fill) is None]
    if not new:
        return
    applied = work.book.applied
    unique = _once_each(new)
    in_time: list[tuple[Fill, str]] = []
    by_order: dict[str, list[tuple[Fill, BookOrder | None]]] = {}
    lowered: dict[str, Decimal] = {}
    for fill in sorted(unique.values(), key=_broker_order):
        order = order_of_fill(work, fill, linked)
        alone = fill.corrects is not None and _is_new(fill.corrects.key, applied, unique)
        if _corrects_uncounted(work.book, fill) or _is_history(work, fill, order):
            _remember(work, fill, order)
            continue
        if alone and may_be_inferred(fill, order):
            in_time.append((fill, GUESS))
            continue
        if fill.corrects is not None and not alone:
            in_time.append((fill, CORRECTION))
            if order is not None:
                lowered[order.key] = lowered.get(order.key, ZERO) + fill.corrects.quantity - fill.quantity
            continue
        whose = order.key if order is not None else f"unknown:{fill.broker_order_id or fill.fill_id}"
        by_order.setdefault(whose, []).append((fill, order))
        in_time.append((fill, whose))
    wait = {
        whose
        for whose, fills in by_order.items()
        if _wait_for_their_order(work, fills, linked, lowered.get(whose, ZERO))
    }
    in_time = _without_waiting(in_time, wait) if wait else in_time
    by_order = {whose: fills for whose, fills in by_order.items() if whose not in wait}
    owned = {fill.key: order for fills in by_order.values() for fill, order in fills}
    placed = [(fill, owned.get(fill.key)) for fill, _ in in_time]
    unexplained_first(work, [(fill, order, _leg_of(work, fill, order)) for fill, order in placed])
    allowed = {whose: _Allowed.of(work, fills, linked, lowered.get(whose, ZERO)) for whose, fills in by_order.items()}
    contained = _contained(work, in_time, allowed)
    # Whether the positions show a bust is known once the leg has all the other fills that they contain.
    for fill, whose in sorted(in_time, key=lambda one: one[1] == GUESS):
        if whose == GUESS and fill.corrects is not None:
            order = order_of_fill(work, fill, linked)
            if not correct_guess(work, fill, fill.corrects, order):
                _remember(work, fill, order)
        elif whose == CORRECTION and fill.corrects is not None:
            order = order_of_fill(work, fill, linked)
            if _corrects_uncounted(work.book, fill):  # of this slice, too
                _remember(work, fill, order)
            else:
                correct(work, fill, fill.corrects, order, contained=fill.key in in_reports)
        else:
            legs = (one[fill.key] for one in (contained, in_reports) if fill.key in one)
            allowed[whose].apply(work, fill, frozenset(legs))


def _wait_for_their_order(
    work: ReconciliationPass, fills: list[tuple[Fill, BookOrder | None]], linked: dict[str, Order], lowered: Decimal
) -> bool:
    """Whether these fills exceed the rest of their order as we know it, and the broker's list does not show the order,
    or shows it working and with as little room, as it was before them: it may have been amended since. The order is
    looked up; until that succeeds the fills wait, and their legs are held back. ``lowered`` is the quantity that
    corrections in this slice take from the order."""
    fill, order = fills[0]
    if order is None or not order.quantity:
        return False
    row = linked.get(fill.broker_order_id or "")
    if row is not None and (row.status.terminal or not row.quantity):
        return False
    guessed = sum((guess.quantity for guess in order.inferred), ZERO) + order.adopted
    room = order.quantity if row is None else max(order.quantity, row.quantity, row.filled_quantity)
    if order.filled_quantity - guessed - lowered + sum((fill.quantity for fill, _ in fills), ZERO) <= room:
        return False
    query = OrderQuery(work.book.instrument, order.broker_order_id or fill.broker_order_id, order.client_order_id)
    answer = work.answer(query)
    if answer is None:
        work.lookups.append(query)
    elif answer.failure is not None:
        work.unverified.append(f"order {order.subject} could not be looked up: {answer.failure}")
        if answer.again_at is not None:
            work.look_again(answer.again_at)
    else:
        return False  # the broker has answered, and reports no more
    work.deferred.add(order.key)
    work.fills_wait = True
    legs = {_leg_of(work, fill, order) for fill, order in fills}
    shown = {row.leg for row in rows_of(work.slice.positions)}
    work.held_back.update({*work.book.legs, *shown} if None in legs else {leg for leg in legs if leg is not None})
    return True


def _without_waiting(fills: list[tuple[Fill, str]], wait: Container[str]) -> list[tuple[Fill, str]]:
    """Those of these fills that need not wait: a correction waits with the fill that it corrects."""
    left: list[tuple[Fill, str]] = []
    waiting: set[str] = set()
    for fill, whose in fills:
        if whose in wait or (fill.corrects is not None and fill.corrects.key in waiting):
            waiting.add(fill.key)
        else:
            left.append((fill, whose))
    return left


def _leg_of(work: ReconciliationPass, fill: Fill, order: BookOrder | None) -> str | None:
    return named_leg(work.book, fill, order, work.slice.conventions)


def _corrects_uncounted(book: Book, fill: Fill) -> bool:
    """Whether a fill corrects one that changed nothing: then the correction changes nothing either."""
    return fill.corrects is not None and fill.corrects.key in book.uncounted


def _is_new(key: str, applied: Container[str], unique: Container[str]) -> bool:
    return key not in applied and key not in unique


def _contained(
    work: ReconciliationPass, fills: list[tuple[Fill, str]], allowed: Mapping[str, _Allowed]
) -> dict[str, str]:
    """Those of these fills that a leg contains already, each with the leg: it was set so shortly before them that its
    position may contain the first of them, and does. This slice's positions, which contain all of them, equal the
    book's with the others alone. ``fills`` are in the order of the broker's time, each with the key of its decision in
    ``allowed``."""
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete) or work.new_book:
        return {}
    perhaps_in: dict[str, set[str]] = {}
    unclear = set(work.held_back)
    for fill, _ in fills:
        leg = fill.leg or (
            NET if work.slice.conventions.legs is LegScheme.NET and not work.slice.conventions.products else None
        )
        if leg is None:
            return {}
        if fill.corrects is not None or fill.time > work.slice.as_of or work.has_newer_fill(leg):
            unclear.add(leg)
        set_at = work.book.watermarks.get(leg) or work.book.floor
        if set_at is not None and set_at < fill.time <= set_at + SET_WITHIN:
            perhaps_in.setdefault(leg, set()).add(fill.key)
    legs = {leg for leg in perhaps_in if leg not in unclear and work.settled_at(work.book.activity.get(leg)) is None}
    if not legs:
        return {}
    shown = {row.leg: row.quantity for row in section.rows}
    left = {leg: shown.get(leg, ZERO) - _held(work.book, leg) for leg in legs}
    changes: dict[str, list[tuple[str, Decimal]]] = {leg: [] for leg in legs}
    orders = _Orders(work.book)
    for fill, whose in fills:
        if whose in allowed:
            booked = allowed[whose].booked(work, fill, orders)
            for leg, quantity in booked.legs:
                if leg in legs:
                    left[leg] -= quantity
                    changes[leg].append((fill.key, quantity))
    contained: dict[str, str] = {}
    for leg in legs:
        first: list[str] = []
        for key, quantity in changes[leg] if left[leg] else ():
            if key not in perhaps_in[leg]:
                break
            first.append(key)
            left[leg] += quantity
            if not left[leg]:
                contained.update(dict.fromkeys(first, leg))
                break
    return contained


def _held(book: Book, leg: str) -> Decimal:
    held = book.legs.get(leg)
    return held.quantity if held is not None else ZERO


class _Orders:
    """The orders of a book as they will be after fills that are not booked yet, one after another: what was inferred of
    an order gives way to one of its fills alone."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._after: dict[str, BookOrder] = {}

    def get(self, key: str | None) -> BookOrder | None:
        """The order of that key."""
        return None if key is None else self._after.get(key) or self._book.orders.get(key)

    def take(self, booked: payloads.BookedFill, at: datetime) -> None:
        """Go on to the order after this fill."""
        order = self.get(booked.order_key)
        if order is not None and booked.counted:
            self._after[order.key] = after_fill(order, booked, at, ours=False)


@dataclass(frozen=True, slots=True)
class _Change:
    """The effect of one fill on a leg: a fill that the book has not seen, or (``reported``) one that it already
    counts."""

    fill: Fill | payloads.BookedFill
    quantity: Decimal
    perhaps_in: bool
    reported: bool


def _in_our_reports(work: ReconciliationPass, rows: Iterable[Fill]) -> dict[str, str]:
    """The new fills that a position reported by our side contains, each with the leg. Fills that the book counts in
    addition to that position are restated.

    A fill counts, because it is evidence, unless the broker's position equals the book's without it. The fills in the
    report are the earliest by the broker's time, because the report was made at one moment.
    """
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete | Partial):
        return {}
    shown = {row.leg: row.quantity for row in section.rows}
    changes = _changes_beside_reports(work, rows)
    contained: dict[str, str] = {}
    for leg, of_leg in changes.items():
        if (leg not in shown and isinstance(section, Partial)) or leg in work.slice.unread_legs:
            continue
        leg_changed_at = work.leg_changed_at(leg)
        if leg_changed_at is not None and work.slice.requested_at <= leg_changed_at:
            continue
        left = shown.get(leg, ZERO) - _held(work.book, leg)
        left -= sum((change.quantity for change in of_leg if not change.reported), ZERO)
        earliest: list[_Change] = []
        for change in sorted((one for one in of_leg if one.perhaps_in), key=lambda one: (one.fill.time, one.fill.key)):
            if not left:
                break
            left += change.quantity
            earliest.append(change)
        for change in () if left else earliest:
            if isinstance(change.fill, Fill):
                contained[change.fill.key] = leg
            else:
                taken_out_of(work, change.fill, leg)
    return contained


def _changes_beside_reports(work: ReconciliationPass, rows: Iterable[Fill]) -> dict[str, list[_Change]]:
    """The effects of the fills on the legs whose position our side reported. A fill that our side reported after the
    position is considered only once the positions are settled: until then they may lag behind it."""
    book, conventions = work.book, work.slice.conventions
    linked = _orders_by_broker_id(work)
    found: dict[str, list[_Change]] = {}
    unique = _once_each(fill for fill in rows if book.known_as(fill) is None)
    orders = _Orders(book)
    for fill in sorted(unique.values(), key=_broker_order):
        order = order_of_fill(work, fill, linked)
        if _corrects_uncounted(book, fill) or _is_history(work, fill, order):
            continue
        if fill.corrects is not None and not _is_new(fill.corrects.key, book.applied, unique):
            legs = booked_correction(book, fill, fill.corrects, order, conventions).legs
        else:
            booked = book_fill(book, fill, orders.get(order.key if order is not None else None), conventions)
            orders.take(booked, work.now)
            legs = booked.legs
        for leg, quantity in legs:
            if leg in book.believed:
                change = _Change(fill, quantity, book.perhaps_in_a_report(leg, order), reported=False)
                found.setdefault(leg, []).append(change)
    for assumed in book.reported.values():
        for leg, quantity in assumed.fill.legs:
            order = book.orders.get(assumed.fill.order_key or "")
            if book.perhaps_in_a_report(leg, order) and work.settled_at(book.activity.get(leg)) is None:
                found.setdefault(leg, []).append(_Change(assumed.fill, quantity, perhaps_in=True, reported=True))
    return found


def _report_commissions(work: ReconciliationPass) -> None:
    """Write the commissions of fills that are in the book without one. That is no difference between the two sides: it
    is written under ``alert`` too."""
    lacking = work.book.without_commission
    charged = [fill for fill in rows_of(work.slice.fills) if fill.commission is not None and fill.key in lacking]
    for answer in work.slice.answers:
        charged.extend(fill for fill in answer.fills if fill.commission is not None and fill.key in lacking)
    for fill in sorted(_once_each(charged).values(), key=_broker_order):
        order = work.book.find_order(fill.broker_order_id, None)
        strategy = lacking[fill.key] or (order.strategy if order is not None else None)
        cost = cost_of(fill, work.slice.conventions, work.contract)
        payload = payloads.commission_to(fill, strategy, cost)
        work.note(EventType.COMMISSION_REPORTED, payload, fill.key)


def _once_each(fills: Iterable[Fill]) -> dict[str, Fill]:
    """Each fill once by its id, with its commission if one of its rows has it."""
    unique: dict[str, Fill] = {}
    for fill in fills:
        name = fill.key
        known = unique.get(name)
        if known is None or known.commission is None or fill.commission is not None:
            unique[name] = fill
    return unique


def _remember(work: ReconciliationPass, fill: Fill, order: BookOrder | None) -> None:
    """Record a fill that changes nothing, because the book already contains it."""
    booked = book_fill(work.book, fill, order, work.slice.conventions)
    booked = replace(booked, legs=(), replaces=(), adopted=ZERO, counted=False, corrects=fill.corrects)
    work.tidy(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), fill.fill_id)


def _broker_order(fill: Fill) -> tuple[BrokerTime, bool, int, str]:
    """The sort key of fills. A correction comes after the fill that it corrects, whatever its id: both have the time of
    the execution."""
    return fill.time, fill.corrects is not None, len(fill.fill_id), fill.fill_id


def _is_history(work: ReconciliationPass, fill: Fill, order: BookOrder | None) -> bool:
    """Whether a fill is from before the book's first look and its order was not ours: the positions contain it, and the
    order's row alone counts."""
    if order is not None and order.adopted_at is None:
        return False
    if work.book.baseline is not None:
        return fill.time <= work.book.baseline
    return fill.time <= (work.slice.as_of if order is None or order.adopted_at is None else order.adopted_at)


def _orders_by_broker_id(work: ReconciliationPass) -> dict[str, Order]:
    rows = [*rows_of(work.slice.orders), *(a.order for a in work.slice.answers if a.order is not None)]
    return {name: row for row in rows for name in (row.broker_order_id, *row.slices)}


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The decision on the fills of one order. ``cap`` is the most that can be filled of it, ``None`` if unknown.
    ``filled`` is the filled quantity in its row of this slice. ``subject`` is the difference that the fills were
    reported as, if they were."""

    order_key: str | None
    cause: Cause
    cap: Decimal | None
    apply_them: bool
    strategy: str | None = None
    filled: Decimal | None = None
    subject: Subject | None = None

    @classmethod
    def of(
        cls,
        work: ReconciliationPass,
        fills: list[tuple[Fill, BookOrder | None]],
        linked: dict[str, Order],
        lowered: Decimal,
    ) -> _Allowed:
        """Report them as one difference; not at all if the order already has every unit of them, under other ids, as
        adopted or as inferred quantity. ``lowered`` is the quantity that corrections in this slice take from the order:
        its row contains them, and the fills do not."""
        first, order = fills[0]
        row = linked.get(first.broker_order_id or "")
        row_filled = row.filled_quantity + lowered if row is not None else ZERO
        amended = row.quantity if row is not None else ZERO
        ordered = ZERO if order is None else max(order.quantity, amended)
        cap = max(ordered, row_filled) if ordered else None  # of an order for an amount of cash none is known
        if cap is not None and order is not None and order.filled_quantity > cap:
            cap = None  # what our side reported has more: the order was enlarged, and nobody has shown us to what
        reason = next((fill.reason for fill, _ in fills if fill.reason is not None), None)
        whose = order if order is not None else replaced_by(work, first.broker_order_id)
        whose = whose if whose is not None else parent_of_fill(work, first, row)
        owner = first.owner if whose is None else whose.strategy  # first.owner: a combination's order, in its own book
        strange = whose is None and owner is None
        cause = cause_of(reason, Cause.EXTERNAL_TRADE if strange else Cause.MISSED_FILL)
        usual = Severity.WARNING if strange and not work.new_book else Severity.INFO
        strategy = owner
        counted = row_filled if row is not None and order is not None and order.adopted else None
        conventions = work.slice.conventions
        if not any(book_fill(work.book, fill, order, conventions, cap).counted for fill, _ in fills):
            whole = order.key if order is not None else None  # what it was adopted with need not be in its legs yet
            most = cap if counted is None else counted
            return cls(whole, cause, cap, apply_them=True, strategy=strategy, filled=most)
        missed = sum((fill.quantity for fill, _ in fills), ZERO)
        guessed = sum((guess.quantity for guess in order.inferred), ZERO) if order is not None else ZERO
        if missed <= guessed:  # it only replaces inferred units, which is no difference
            return cls(order.key if order is not None else None, cause, cap, apply_them=True, strategy=strategy)
        missed -= guessed
        had = order.filled_quantity if order is not None else None
        filled = (had or ZERO) + missed
        found = Finding(
            type=DiscrepancyType.MISSED_FILL,
            key=order.subject if order is not None else (first.broker_order_id or first.fill_id),
            phase=Phase.FILLS,
            severity=severity_of(cause, usual),
            cause=cause,
            book_value=to_text(had),
            broker_value=to_text(filled if cap is None else min(filled, cap)),
            difference=to_text(missed),
            correction=Correction.APPLY_FILL,
            strategy=strategy,
            linked=tuple(sorted({f.combination for f, _ in fills if f.combination} - {work.book.instrument})),
        )
        return cls(
            order.key if order is not None else None, cause, cap, work.found(found), strategy, counted, found.subject
        )

    def apply(self, work: ReconciliationPass, fill: Fill, contained: frozenset[str]) -> None:
        """Apply one of them; ``contained`` are the legs that already contain it."""
        if self.apply_them:
            booked = self._booked(work, fill, work.book.orders.get(self.order_key or ""), contained)
            if fill.time > work.slice.as_of:
                work.later_fills.update(leg for leg, _ in booked.legs)
            document = payloads.booked_fill_to(booked)
            if booked.replaces and self.subject is None:
                work.note(EventType.ORDER_FILLED, document, fill.fill_id)
            elif self.subject is None:
                work.tidy(EventType.ORDER_FILLED, document, fill.fill_id)
            else:
                work.emit(
                    EventType.ORDER_FILLED,
                    document,
                    fill.fill_id,
                    subject=self.subject,
                    source=payloads.FillSource(booked),
                )

    def booked(self, work: ReconciliationPass, fill: Fill, orders: _Orders) -> payloads.BookedFill:
        """The effect of one of them on a book with these orders, if no leg contains it."""
        booked = self._booked(work, fill, orders.get(self.order_key), frozenset())
        orders.take(booked, work.now)
        return booked

    def _booked(
        self, work: ReconciliationPass, fill: Fill, order: BookOrder | None, contained: frozenset[str]
    ) -> payloads.BookedFill:
        return book_fill(
            work.book,
            fill,
            order,
            work.slice.conventions,
            self.cap,
            self.cause,
            self.strategy,
            contract=work.contract,
            filled=self.filled if fill.time <= work.slice.as_of else None,
            contained=contained,
        )
