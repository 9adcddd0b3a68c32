"""Step 2 of a cycle: the fills that the book has not seen, in broker time order. What they explain is not drift.

A fill is applied once, by its id in the scope of that id. What it does to the legs is decided here, written into its
event, and only repeated by the fold. Four things keep it from counting twice: a watermark (a correction contains it
already), an inferred fill it stands in for, the quantity its order had when we first saw the order, and a position of
our own report that has it in it, by what the broker's positions show (no time tells that).

What our side reported of a fill is assumed until the broker tells the same fill: then the broker's word takes its place
in one event, whatever may be corrected, and is no difference between two sides.

A commission that comes after its fill is written once, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from actors.book import payloads
from actors.book.book import Book
from actors.book.discrepancies import Cause, Correction, DiscrepancyType, Phase, cause_of, severity_of
from actors.book.lots import ZERO
from actors.book.orders import BookOrder
from actors.events import EventType, Severity, event_id, to_text
from actors.reconciliation.before_fills import unexplained_first
from actors.reconciliation.order_matching import order_of_fill, parent_of_fill, replaced_by
from actors.reconciliation.reconciliation_pass import Finding, ReconciliationPass, Subject
from brokers.model import (
    LONG,
    NET,
    SHORT,
    Complete,
    ContractFacts,
    Conventions,
    Corrected,
    Fill,
    LegScheme,
    Order,
    OrderQuery,
    Partial,
    Side,
    is_provisional,
    rows_of,
)

_CORRECTION = "correction"

SET_WITHIN = timedelta(seconds=5)
"""How much later than it says a position may have been taken. Adapters give a time that is surely not too late: whole
seconds rounded down, from before the first of several requests."""


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
        _restate_all(work, rows, linked)
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
        nothing_had = (alone and not fill.quantity) or _corrects_uncounted(work.book, fill)
        if nothing_had or _is_history(work, fill, order):
            _remember(work, fill, order)
            continue
        if fill.corrects is not None and not alone:
            in_time.append((fill, _CORRECTION))
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
    unexplained_first(
        work, [(fill, owned.get(fill.key), _leg_of(work, fill, owned.get(fill.key))) for fill, _ in in_time]
    )
    contained = _contained(work, [fill for fill, _ in in_time])
    allowed = {whose: _Allowed.of(work, fills, linked, lowered.get(whose, ZERO)) for whose, fills in by_order.items()}
    for fill, whose in in_time:
        if whose == _CORRECTION and fill.corrects is not None:
            order = order_of_fill(work, fill, linked)
            _correct(work, fill, fill.corrects, order, contained=fill.key in in_reports)
        else:
            leg = in_reports.get(fill.key)
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
    return _named_leg(work.book, fill, order, work.slice.conventions)


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
        told_at = work.told_of_leg_at(leg)
        if told_at is not None and work.slice.requested_at <= told_at:
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
                _taken_out_of(work, change.fill, leg)
    return contained


def _changes_beside_reports(work: ReconciliationPass, rows: Iterable[Fill]) -> dict[str, list[_Change]]:
    """What the fills do to the legs whose position our side reported. A fill that our side told after such a report
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
            legs = _booked_correction(book, fill, fill.corrects, order, conventions).legs
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


def _taken_out_of(work: ReconciliationPass, was: payloads.BookedFill, leg: str) -> None:
    legs = tuple(part for part in was.legs if part[0] != leg)
    booked = replace(was, legs=legs, commission=None, commission_currency=None)
    work.note(EventType.FILL_RESTATED, payloads.restated_to(booked, was, assumed=True), was.key)


def _restate_all(work: ReconciliationPass, rows: Iterable[Fill], linked: dict[str, Order]) -> None:
    """By the broker's own row of each, or by its correction, which tells of the execution that it corrects, too: else
    that would be taken back where our side did not say that it is."""
    for fill in rows:
        told = fill if fill.corrects is None else _as_it_was(fill, fill.corrects)
        name = work.book.known_as(told)
        assumed = work.book.reported.get(name) if name is not None else None
        if assumed is not None and assumed.fill.counted:
            _restate(work, told, assumed.fill, linked)


def _as_it_was(fill: Fill, was: Corrected) -> Fill:
    said = replace(fill, fill_id=was.fill_id, id_scope=was.id_scope, quantity=was.quantity, price=was.price)
    return replace(said, corrects=None, commission=None)


def _restate(work: ReconciliationPass, fill: Fill, was: payloads.BookedFill, linked: dict[str, Order]) -> None:
    """Let the broker's word on a fill take the place of what was assumed of it."""
    order = order_of_fill(work, fill, linked)
    named_before = was.order_key is None and was.broker_order_id is not None
    if order is not None and named_before and was.broker_order_id == order.broker_order_id:
        was = replace(was, order_key=order.key)  # it came before its order, and was counted in it with that
    was = replace(was, legs=tuple(part for part in was.legs if not work.book.covered(part[0], was.time)))
    ours = work.book.orders.get(was.order_key) if was.order_key is not None else None
    row = linked.get(fill.broker_order_id or "")
    if order is None and ours is not None and ours.side is fill.side:
        differs = fill.broker_order_id not in (None, ours.broker_order_id)
        another = differs and (ours.broker_order_id is not None or row is not None)
        order = None if another else ours
    named = _named_leg(work.book, fill, order, work.slice.conventions) or (row.leg if row is not None else None)
    same_terms = (fill.side, fill.quantity, fill.price) == (was.side, was.quantity, was.price)
    if order is not None:
        same_order = order.key == was.order_key
    else:
        same_order = ours is None and fill.broker_order_id in (None, was.broker_order_id)
    same_legs = not was.pending and (not was.legs or named is None or all(leg == named for leg, _ in was.legs))
    if same_terms and same_order and same_legs and not _names_its_order(fill, order, row):
        return
    told = replace(fill, leg=named)
    without = work.book
    if was.legs:
        without = work.book.fork()
        without.undo_legs(was)
    booked = book_fill(without, told, order, work.slice.conventions, contract=work.contract)
    contained = not was.legs and not was.pending
    booked = replace(
        booked,
        legs=() if contained else allocate(without, told, fill.quantity, order, work.slice.conventions),
        adopted=min(was.adopted, fill.quantity) if same_order else booked.adopted,
        replaces=was.replaces if same_order else booked.replaces,
        strategy=was.strategy or booked.strategy,
        commission=None,
        commission_currency=None,
        cause=was.cause,
    )
    names = fill.broker_order_id if row is None else row.broker_order_id
    payload = payloads.restated_to(booked, was, assumed=False, names_order=names)
    work.note(EventType.FILL_RESTATED, payload, fill.key)


def _names_its_order(fill: Fill, order: BookOrder | None, row: Order | None) -> bool:
    """Whether the fill alone tells which of the broker's orders ours is: its row is not shown, and another's with the
    same client id may be (of the order that took its place)."""
    if order is None or order.broker_order_id is not None or row is not None:
        return False
    return fill.broker_order_id is not None and not is_provisional(fill.broker_order_id)


def attribute(work: ReconciliationPass, was: payloads.BookedFill, leg: str | None) -> None:
    """Let a fill that waited for its leg be in this one, by the positions that the broker shows; in none (``None``)
    where they contain it in a way that only they tell. The broker's own word on it may still come."""
    legs = () if leg is None else ((leg, was.quantity * was.side.sign),)
    booked = replace(was, legs=legs, pending=False, commission=None, commission_currency=None)
    work.note(EventType.FILL_RESTATED, payloads.restated_to(booked, was, assumed=True), was.key)


def _report_commissions(work: ReconciliationPass) -> None:
    """Write what was charged for fills that are in the book without it. That is no difference between the two sides:
    it is told under ``alert`` too."""
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
    """Each fill once by its id, with its commission where one of its rows tells it."""
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


def _correct(work: ReconciliationPass, fill: Fill, was: Corrected, order: BookOrder | None, *, contained: bool) -> None:
    """The broker took back what it said of an execution: the book is changed by the difference. Where positions were
    taken over since then, they contain it."""
    apply_it = work.found(
        Finding(
            type=DiscrepancyType.MISSED_FILL,
            key=fill.fill_id,
            phase=Phase.FILLS,
            severity=Severity.WARNING,
            cause=Cause.MISSED_FILL,
            book_value=f"{to_text(was.quantity)} @ {to_text(was.price)}",
            broker_value=f"{to_text(fill.quantity)} @ {to_text(fill.price)}",
            difference=to_text(fill.quantity - was.quantity),
            correction=Correction.APPLY_FILL,
            strategy=order.strategy if order is not None else None,
        )
    )
    if apply_it:
        booked = _booked_correction(work.book, fill, was, order, work.slice.conventions, contained=contained)
        work.emit(EventType.ORDER_FILLED, payloads.booked_fill_to(booked), fill.fill_id)


def _booked_correction(
    book: Book,
    fill: Fill,
    was: Corrected,
    order: BookOrder | None,
    conventions: Conventions,
    *,
    contained: bool = False,
) -> payloads.BookedFill:
    leg = fill.leg or (order.leg if order is not None else None) or NET
    contained = contained or book.covered(leg, fill.time)
    more = fill.quantity - was.quantity
    guessed: list[tuple[str, Decimal]] = []
    for guess in order.inferred if order is not None else ():  # its row has counted it before
        part = min(max(more, ZERO), guess.quantity)
        if part:
            guessed.append((guess.fill_id, part))
            more -= part
    return replace(
        book_fill(book, fill, order, conventions, cause=Cause.MISSED_FILL),
        legs=() if contained else ((leg, more * fill.side.sign),),
        replaces=(*guessed, *(() if contained else ((was.key, min(was.quantity, fill.quantity)),))),
        adopted=ZERO,
        counted=True,
        corrects=was,
    )


def _broker_order(fill: Fill) -> tuple[datetime, bool, int, str]:
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


def _was_adopted(order: BookOrder, fill: Fill) -> bool:
    return order.adopted_at is None or fill.time <= order.adopted_at


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
        """Report them as one difference; not at all where the order has had every unit of them, under other ids or
        as the quantity it was adopted with. ``lowered`` is what corrections in this very slice take from the order:
        its row has them in it, and the fills have not."""
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
                told=told,
                contained=contained,
            )
            document = payloads.booked_fill_to(booked)
            if self.subject is None:
                work.tidy(EventType.ORDER_FILLED, document, fill.fill_id)
            else:
                work.emit(
                    EventType.ORDER_FILLED, document, fill.fill_id, subject=self.subject, told=payloads.ToldFill(booked)
                )


def book_fill(
    book: Book,
    fill: Fill,
    order: BookOrder | None,
    conventions: Conventions,
    cap: Decimal | None = None,
    cause: Cause | None = None,
    strategy: str | None = None,
    contract: ContractFacts | None = None,
    told: Decimal | None = None,
    contained: frozenset[str] = frozenset(),
) -> payloads.BookedFill:
    """What a fill does to a book: which parts of inferred fills it stands in for, and what it adds to which legs.

    ``cap`` is the most that can be filled of its order: what exceeds it was counted before, under another id.
    ``told`` is how much the broker says is filled of it, this fill included: what exceeds that is among the adopted.
    ``contained`` are the legs that have it already.
    """
    adopted = ZERO
    if order is not None and order.adopted:
        adopted = fill.quantity if _was_adopted(order, fill) else ZERO
        if told is not None:
            adopted = max(adopted, order.filled_quantity + fill.quantity - told)
        adopted = min(adopted, fill.quantity, order.adopted)
    replaces: list[tuple[str, Decimal]] = []
    fresh = fill.quantity - adopted
    for guess in order.inferred if order is not None else ():
        part = min(fresh, guess.quantity)
        if part:
            replaces.append((guess.fill_id, part))
            fresh -= part
    counted = order is None or cap is None or order.filled_quantity + fresh <= cap or bool(replaces)
    legs = allocate(book, fill, adopted + fresh, order, conventions) if counted else ()
    if contained and all(leg in contained for leg, _ in legs):
        legs = ()
    return payloads.BookedFill(
        fill_id=fill.fill_id,
        order_key=order.key if order is not None else None,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        time=fill.time,
        legs=legs,
        cost_basis=conventions.cost_basis,
        replaces=tuple(replaces),
        adopted=adopted,
        counted=counted,
        broker_order_id=fill.broker_order_id,
        cause=cause,
        strategy=strategy if strategy is not None or order is None else order.strategy,
        commission=fill.commission,
        commission_currency=fill.commission_currency,
        corrects=None if fill.corrects is None else replace(fill.corrects, quantity=ZERO),
        cost=cost_of(fill, conventions, contract),
        id_scope=fill.id_scope,
    )


def cost_of(fill: Fill, conventions: Conventions, contract: ContractFacts | None) -> Decimal | None:
    """What a fill's commission adds to the average price that the broker tells, a unit and in terms of the price;
    ``None`` where that average has no commission in it, or what is needed to tell is not known."""
    if not conventions.commission_in_average or fill.commission is None or contract is None or not fill.quantity:
        return None
    if fill.commission_currency not in (None, contract.currency):
        return None
    return fill.commission / fill.quantity / contract.multiplier


def allocate(
    book: Book, fill: Fill, quantity: Decimal, order: BookOrder | None, conventions: Conventions
) -> tuple[tuple[str, Decimal], ...]:
    """The signed quantities by which ``quantity`` units of a fill change each leg.

    A fill joins the leg its ``leg`` names, else the one its order or position id names, else it closes legs of the
    other side in FIFO order and opens the account's usual leg with the rest. Nothing, where the book was corrected to a
    position that contains it.
    """
    if not quantity or fill.combination == book.instrument:
        return ()
    named = _named_leg(book, fill, order, conventions)
    signed = quantity * fill.side.sign
    if named is not None and fill.closing:
        return () if book.covered(named, fill.time) else _out_of(book, named, signed)
    if named is not None:
        return () if book.covered(named, fill.time) else _into(book, named, signed, conventions)
    if book.covered(None, fill.time):
        return ()
    return _first_in_first_out(book, fill, signed, conventions)


def _out_of(book: Book, leg: str, signed: Decimal) -> tuple[tuple[str, Decimal], ...]:
    """A leg is closed at most, and never opened."""
    held = book.legs.get(leg)
    if held is None or (held.quantity > 0) == (signed > 0):
        return ()
    return ((leg, min(abs(signed), abs(held.quantity)) * (1 if signed > 0 else -1)),)


def _named_leg(book: Book, fill: Fill, order: BookOrder | None, conventions: Conventions) -> str | None:
    named = fill.leg or (order.leg if order is not None else None)
    if named is None and (conventions.legs is LegScheme.TICKET or fill.position_id in book.legs):
        named = fill.position_id
    one_leg = conventions.legs is LegScheme.NET and not conventions.products
    return NET if named is None and one_leg else named


def _into(book: Book, leg: str, signed: Decimal, conventions: Conventions) -> tuple[tuple[str, Decimal], ...]:
    """A leg that has only one side is closed at most; what exceeds it was never in our book."""
    held = book.legs.get(leg)
    one_sided = conventions.legs in (LegScheme.SIDED, LegScheme.TICKET)
    if one_sided and leg in (LONG, SHORT):
        closing = (leg == LONG) == (signed < 0)
        if closing:
            most = abs(held.quantity) if held is not None else ZERO
            signed = min(abs(signed), most) * (1 if signed > 0 else -1)
    elif one_sided and held is not None and (held.quantity > 0) != (signed > 0):
        signed = min(abs(signed), abs(held.quantity)) * (1 if signed > 0 else -1)
    return ((leg, signed),) if signed else ()


def _first_in_first_out(
    book: Book, fill: Fill, signed: Decimal, conventions: Conventions
) -> tuple[tuple[str, Decimal], ...]:
    parts: list[tuple[str, Decimal]] = []
    for leg in sorted(book.legs.values(), key=lambda leg: (leg.opened_at, leg.name)):
        if signed and (leg.quantity > 0) != (signed > 0):
            part = min(abs(signed), abs(leg.quantity)) * (1 if signed > 0 else -1)
            parts.append((leg.name, part))
            signed -= part
    if signed:
        parts.append((_usual_leg(fill, conventions), signed))
    return tuple(parts)


def _usual_leg(fill: Fill, conventions: Conventions) -> str:
    if conventions.products:
        return NET  # nobody says the product, and nothing is pending: from before the first look
    if conventions.legs is LegScheme.SIDED:
        return LONG if fill.side is Side.BUY else SHORT
    return fill.position_id or fill.broker_order_id or fill.fill_id


def infer_fill(work: ReconciliationPass, order: BookOrder, row: Order) -> payloads.BookedFill | None:
    """The fill that must have happened for an order to be filled as far as the broker says, at the incremental price;
    ``None`` where no price is known at all.

    It changes legs only where that brings them nearer to what the broker holds: a correction may contain it already.
    """
    quantity = row.filled_quantity - order.filled_quantity
    price = _incremental_price(work, order, row, quantity)
    if price is None:
        return None
    contract = work.slice.contract
    fill = Fill(
        instrument=work.book.instrument,
        fill_id="inferred",
        broker_order_id=row.broker_order_id,
        side=order.side,
        quantity=quantity,
        price=price,
        time=work.slice.as_of,
        leg=row.leg,
        combination=work.book.instrument if contract is not None and not contract.held else None,
    )
    legs = allocate(work.book, fill, quantity, order, work.slice.conventions)
    legs = legs if _brings_nearer(work, legs) else ()
    named = payloads.with_ids(order, row.broker_order_id, None)
    return inferred_fill(work, named, quantity, price, row.filled_quantity, legs)


def inferred_fill(
    work: ReconciliationPass,
    order: BookOrder,
    quantity: Decimal,
    price: Decimal,
    filled: Decimal,
    legs: tuple[tuple[str, Decimal], ...],
) -> payloads.BookedFill:
    """A fill that nobody told, of an order that is ``filled`` so far with it; under an id that is used once."""
    return payloads.BookedFill(
        fill_id="inferred:" + event_id(work.book.stream, order.key, str(to_text(filled)), work.place),
        order_key=order.key,
        side=order.side,
        quantity=quantity,
        price=price,
        time=work.slice.as_of,
        legs=legs,
        cost_basis=work.slice.conventions.cost_basis,
        inferred=True,
        broker_order_id=order.broker_order_id,
        cause=Cause.MISSED_FILL,
        strategy=order.strategy,
    )


def _incremental_price(work: ReconciliationPass, order: BookOrder, row: Order, quantity: Decimal) -> Decimal | None:
    average = row.average_fill_price
    if average is not None:
        price = (average * row.filled_quantity - order.notional) / quantity
        if price > 0 or average <= 0 or order.notional < 0:
            return price  # zero or less only where the order is known to have traded there
    held = [position.average_price for position in rows_of(work.slice.positions)]
    return row.limit_price or order.limit_price or average or (held[0] if held else None)


def _brings_nearer(work: ReconciliationPass, legs: tuple[tuple[str, Decimal], ...]) -> bool:
    section = work.slice.positions
    if not work.policy.positions or not isinstance(section, Complete):
        return True
    broker = {position.leg: position.quantity for position in rows_of(section)}
    before = after = ZERO
    for name, change in legs:
        held = work.book.legs.get(name)
        ours = held.quantity if held is not None else ZERO
        before += abs(ours - broker.get(name, ZERO))
        after += abs(ours + change - broker.get(name, ZERO))
    return after < before
