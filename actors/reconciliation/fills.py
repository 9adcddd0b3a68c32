"""Step 2 of a cycle: the fills that the book has not seen, in broker time order. What they explain is not drift.

A fill is applied once, by its id in the scope of that id. What it does to the legs is decided here, written into its
event, and only repeated by the fold. Four things keep it from counting twice: a watermark (a correction contains it
already), an inferred fill it stands in for, the quantity its order had when we first saw the order, and a position of
our own report that has it in it, by what the broker's positions show (no time shows that).

What our side reported of a fill is assumed until the broker reports the same fill: then the broker's word takes its
place in one event, whatever may be corrected, and is no difference between two sides.

A commission that comes after its fill is written once, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from actors.book import payloads
from actors.book.book import Book
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase, cause_of, severity_of
from actors.book.lots import ZERO
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
"""How much later than it says a position may have been taken. Adapters give a time that is surely not too late: whole
seconds rounded down, from before the first of several requests."""

__all__ = ["SET_WITHIN", "book_fill", "infer_fill", "inferred_fill", "reconcile_fills"]


def reconcile_fills(work: ReconciliationPass) -> None:
    """Apply every fill of the slice, and of the answers to our questions, that the book has not seen. A correction of
    an execution that was never told is a fill like any other, and the execution counts for nothing beside it."""
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
    wait = {whose for whose, fills in by_order.items() if _wait_for_their_order(work, fills, linked)}
    by_order = {whose: fills for whose, fills in by_order.items() if whose not in wait}
    in_time = [(fill, whose) for fill, whose in in_time if whose not in wait]
    owned = {fill.key: order for fills in by_order.values() for fill, order in fills}
    placed = [(fill, owned.get(fill.key)) for fill, _ in in_time]
    unexplained_first(work, [(fill, order, _leg_of(work, fill, order)) for fill, order in placed])
    contained = _contained(work, [fill for fill, _ in in_time])
    allowed = {whose: _Allowed.of(work, fills, linked, lowered.get(whose, ZERO)) for whose, fills in by_order.items()}
    for fill, whose in in_time:
        if whose == GUESS and fill.corrects is not None:
            order = order_of_fill(work, fill, linked)
            if not correct_guess(work, fill, fill.corrects, order):
                _remember(work, fill, order)
        elif whose == CORRECTION and fill.corrects is not None:
            order = order_of_fill(work, fill, linked)
            correct(work, fill, fill.corrects, order, contained=fill.key in in_reports)
        else:
            leg = in_reports.get(fill.key) if in_reports else None
            allowed[whose].apply(work, fill, contained if leg is None else contained | {leg})


def _wait_for_their_order(
    work: ReconciliationPass, fills: list[tuple[Fill, BookOrder | None]], linked: dict[str, Order]
) -> bool:
    """Whether these are more than is left of their order as far as we know it, and the broker's list does not show it:
    it may have been amended since. It is asked for; while it cannot be looked up they wait, and nothing is said of
    their legs."""
    fill, order = fills[0]
    if order is None or not order.quantity or (fill.broker_order_id or "") in linked:
        return False
    guessed = sum((guess.quantity for guess in order.inferred), ZERO) + order.adopted
    if order.filled_quantity - guessed + sum((fill.quantity for fill, _ in fills), ZERO) <= order.quantity:
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
        return False  # the broker has answered, and knows of no more
    work.deferred.add(order.key)
    work.fills_wait = True
    legs = {_leg_of(work, fill, order) for fill, order in fills}
    shown = {row.leg for row in rows_of(work.slice.positions)}
    work.held_back.update({*work.book.legs, *shown} if None in legs else {leg for leg in legs if leg is not None})
    return True


def _leg_of(work: ReconciliationPass, fill: Fill, order: BookOrder | None) -> str | None:
    return named_leg(work.book, fill, order, work.slice.conventions)


def _corrects_uncounted(book: Book, fill: Fill) -> bool:
    """Whether a fill corrects one that changed nothing: the correction changes nothing either."""
    return fill.corrects is not None and fill.corrects.key in book.uncounted


def _is_new(key: str, applied: Container[str], unique: Container[str]) -> bool:
    return key not in applied and key not in unique


def _contained(work: ReconciliationPass, fills: list[Fill]) -> frozenset[str]:
    """The legs whose position the book was set to so short a time before these fills that it may contain them, and
    does: the positions of this very slice, which contain them, are the book's without them."""
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete) or work.new_book:
        return frozenset()
    changes: dict[str, Decimal] = {}
    for fill in fills:
        leg = fill.leg or (
            NET if work.slice.conventions.legs is LegScheme.NET and not work.slice.conventions.products else None
        )
        set_at = None if leg is None else work.book.watermarks.get(leg) or work.book.floor
        if leg is None or set_at is None or fill.corrects is not None or fill.time > work.slice.as_of:
            return frozenset()
        if set_at < fill.time <= set_at + SET_WITHIN:
            changes[leg] = changes.get(leg, ZERO) + fill.quantity * fill.side.sign
        elif fill.time > set_at:
            return frozenset()
    if not changes:
        return frozenset()
    shown = {row.leg: row.quantity for row in rows_of(section)}
    held = {name: leg.quantity for name, leg in work.book.legs.items()}
    return frozenset(
        leg
        for leg, change in changes.items()
        if change
        and work.settled_at(work.book.activity.get(leg)) is None
        and shown.get(leg, ZERO) == held.get(leg, ZERO)
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """What one fill does to a leg: one that the book has not seen, or (``reported``) one that it counts already."""

    fill: Fill | payloads.BookedFill
    quantity: Decimal
    perhaps_in: bool
    reported: bool


def _in_our_reports(work: ReconciliationPass, rows: Iterable[Fill]) -> dict[str, str]:
    """The new fills that a position of our own report has in it, each with the leg; those that the book counts beside
    it are restated.

    A fill counts, as it is evidence, unless the position that the broker shows is the book's without it. Those that are
    in the report are the earliest by the broker's time, as the report was made at one moment.
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
        held = work.book.legs.get(leg)
        left = shown.get(leg, ZERO) - (held.quantity if held is not None else ZERO)
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
    """What the fills do to the legs whose position our side reported. A fill that our side reported after it
    is looked at once the positions are settled: they may lag behind it before."""
    book, conventions = work.book, work.slice.conventions
    linked = _orders_by_broker_id(work)
    found: dict[str, list[_Change]] = {}
    unique = _once_each(fill for fill in rows if book.known_as(fill) is None)
    for fill in unique.values():
        order = order_of_fill(work, fill, linked)
        if _corrects_uncounted(book, fill) or _is_history(work, fill, order):
            continue
        if fill.corrects is not None and not _is_new(fill.corrects.key, book.applied, unique):
            legs = booked_correction(book, fill, fill.corrects, order, conventions).legs
        else:
            legs = book_fill(book, fill, order, conventions).legs
        for leg, quantity in legs:
            if leg in book.believed:
                change = _Change(fill, quantity, book.perhaps_in_a_report(leg, order), reported=False)
                found.setdefault(leg, []).append(change)
    for told in book.reported.values():
        for leg, quantity in told.fill.legs:
            order = book.orders.get(told.fill.order_key or "")
            if book.perhaps_in_a_report(leg, order) and work.settled_at(book.activity.get(leg)) is None:
                found.setdefault(leg, []).append(_Change(told.fill, quantity, perhaps_in=True, reported=True))
    return found


def _report_commissions(work: ReconciliationPass) -> None:
    """Write what was charged for fills that are in the book without it. That is no difference between the two sides:
    it is reported under ``alert`` too."""
    lacking = work.book.without_commission
    told = [fill for fill in rows_of(work.slice.fills) if fill.commission is not None and fill.key in lacking]
    for answer in work.slice.answers:
        told.extend(fill for fill in answer.fills if fill.commission is not None and fill.key in lacking)
    for fill in sorted(_once_each(told).values(), key=_broker_order):
        order = work.book.find_order(fill.broker_order_id, None)
        strategy = lacking[fill.key] or (order.strategy if order is not None else None)
        cost = cost_of(fill, work.slice.conventions, work.contract)
        payload = payloads.commission_to(fill, strategy, cost)
        work.note(EventType.COMMISSION_REPORTED, payload, fill.key)


def _once_each(fills: Iterable[Fill]) -> dict[str, Fill]:
    """Each fill once by its id, with its commission where one of its rows has it."""
    unique: dict[str, Fill] = {}
    for fill in fills:
        name = fill.key
        known = unique.get(name)
        if known is None or known.commission is None or fill.commission is not None:
            unique[name] = fill
    return unique


def _remember(work: ReconciliationPass, fill: Fill, order: BookOrder | None) -> None:
    """Record a fill that changes nothing, as the positions of the book's first look contain it."""
    booked = book_fill(work.book, fill, order, work.slice.conventions)
    booked = replace(booked, legs=(), replaces=(), adopted=ZERO, counted=False, corrects=fill.corrects)
    work.tidy(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), fill.fill_id)


def _broker_order(fill: Fill) -> tuple[BrokerTime, bool, int, str]:
    """A correction comes after what it corrects, whatever its id: both have the time of the execution."""
    return fill.time, fill.corrects is not None, len(fill.fill_id), fill.fill_id


def _is_history(work: ReconciliationPass, fill: Fill, order: BookOrder | None) -> bool:
    """Whether a fill is from before the book's first look, of an order that was not ours: the positions contain it, and
    the order's row is all we go by."""
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
    """What was decided of the fills of one order. ``cap`` is how much of it the broker itself says is filled, at most;
    ``None`` where it does not say. ``told`` is what its row in this slice says is filled. ``subject`` is the difference
    that they were reported as, if they were."""

    order_key: str | None
    cause: Cause
    cap: Decimal | None
    apply_them: bool
    strategy: str | None = None
    told: Decimal | None = None
    subject: Subject | None = None

    @classmethod
    def of(
        cls,
        work: ReconciliationPass,
        fills: list[tuple[Fill, BookOrder | None]],
        linked: dict[str, Order],
        lowered: Decimal,
    ) -> _Allowed:
        """Report them as one difference; not at all where the order has had every unit of them, under other ids, as
        the quantity it was adopted with, or as what was inferred. ``lowered`` is what corrections in this very slice
        take from the order: its row has them in it, and the fills have not."""
        first, order = fills[0]
        row = linked.get(first.broker_order_id or "")
        row_filled = row.filled_quantity + lowered if row is not None else ZERO
        amended = row.quantity if row is not None else ZERO
        cap = None if order is None else max(order.quantity, amended, row_filled) or None
        told = next((fill.reason for fill, _ in fills if fill.reason is not None), None)
        whose = order if order is not None else replaced_by(work, first.broker_order_id)
        whose = whose if whose is not None else parent_of_fill(work, first, row)
        owner = first.owner if whose is None else whose.strategy  # of a combination's order, which is in its own book
        strange = whose is None and owner is None
        cause = cause_of(told, Cause.EXTERNAL_TRADE if strange else Cause.MISSED_FILL)
        usual = Severity.WARNING if strange and not work.new_book else Severity.INFO
        strategy = owner
        counted = row_filled if row is not None and order is not None and order.adopted else None
        conventions = work.slice.conventions
        if not any(book_fill(work.book, fill, order, conventions, cap).counted for fill, _ in fills):
            return cls(order.key if order is not None else None, cause, cap, apply_them=True, strategy=strategy)
        missed = sum((fill.quantity for fill, _ in fills), ZERO)
        guessed = sum((guess.quantity for guess in order.inferred), ZERO) if order is not None else ZERO
        if missed <= guessed:  # what was inferred gives way to it, which is no difference
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
        """Apply one of them; ``contained`` are the legs that have it already."""
        if self.apply_them:
            order = work.book.orders.get(self.order_key) if self.order_key is not None else None
            told = self.told if fill.time <= work.slice.as_of else None
            booked = book_fill(
                work.book,
                fill,
                order,
                work.slice.conventions,
                self.cap,
                self.cause,
                self.strategy,
                contract=work.contract,
                filled=told,
                contained=contained,
            )
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
