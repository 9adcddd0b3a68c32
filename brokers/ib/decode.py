"""From TWS's rows to the model's sections. Pure.

The laws of this module:

* A row that cannot be read becomes a :class:`RowProblem`; the other rows go on and the section is PARTIAL. Positions of
  zero are left out.
* A number comes from its text and never through a float (see :mod:`brokers.ib.wire`). The one exception is the filled
  quantity of a completed order, which only ib_async's float carries; up to fifteen digits its text is the wire's own.
* Of an execution and its corrections the highest revision counts (see :func:`fills`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType

from brokers.errors import with_remedy
from brokers.frozen import dataclass
from brokers.ib.contracts import Names
from brokers.ib.rows import CompletedOrder, Read, WorkingOrder, order_key
from brokers.ib.wire import BAG, Contract, Execution, Holding, Notice, OrderTerms
from brokers.kit.foreign_row import BadRow
from brokers.model import (
    NET,
    Corrected,
    Fill,
    Order,
    OrderStatus,
    Position,
    Reason,
    RowProblem,
    Section,
    SectionName,
    section,
)

ROW_REMEDY = "Look it up in TWS; it is read again in every cycle"

ORDER_STATUSES = {
    "ApiPending": OrderStatus.PENDING_SUBMIT,
    "PendingSubmit": OrderStatus.PENDING_SUBMIT,
    "PreSubmitted": OrderStatus.OPEN,
    "Submitted": OrderStatus.OPEN,
    "ApiUpdate": OrderStatus.OPEN,
    "PendingCancel": OrderStatus.PENDING_CANCEL,
    "Cancelled": OrderStatus.CANCELLED,
    "ApiCancelled": OrderStatus.CANCELLED,
    "Filled": OrderStatus.FILLED,
    "Inactive": OrderStatus.HELD,
}
"""TWS API documentation, orderStatus. ``Inactive`` is REJECTED where an error came with it. A cancelled order that was
rejected shows that in its error 201 or its ``completedStatus``."""

ORDER_TYPES = {
    "MKT": "MARKET",
    "LMT": "LIMIT",
    "STP": "STOP",
    "STP LMT": "STOP_LIMIT",
    "STP PRT": "STOP_WITH_PROTECTION",
}

_BY_LIMIT = frozenset({"LIT", "LOC"})
_BY_TRIGGER = frozenset({"STP", "STP PRT", "MIT"})
"""TWS API documentation, order types: limit if touched, limit on close; and those whose trigger is ``auxPrice``."""
_WITH_TRIGGER = frozenset({"STP LMT", "LIT"})
"""Those with a limit, and a trigger in ``auxPrice``."""
_TRAILING = "TRAIL"

REJECTIONS = frozenset({200, 201, 203, 387, 388})
"""TWS API documentation, message codes: an order was refused because its contract is not known (200), IB rejected it
(201), the account may not trade it (203), the exchange has no such order type (387), or it is too small (388). After
every other code the order may be alive: warnings, answers to a cancellation and refused changes are among them. So
the rejections are listed, and not the exceptions."""

_PERM_ID = re.compile(r"[1-9][0-9]{5,18}", re.ASCII)
AnyRead = Read[Holding] | Read[WorkingOrder] | Read[CompletedOrder] | Read[Execution]


def contracts(*reads: AnyRead) -> list[Contract]:
    """Every contract that some row names; they are to be named together."""
    found: list[Contract] = []
    for read in reads:
        for fact in read.facts:
            terms = fact.terms if isinstance(fact, WorkingOrder | CompletedOrder) else fact
            found.append(terms.contract)
        found += [trouble.contract for trouble in read.troubles if trouble.contract is not None]
    return found


def positions(read: Read[Holding], names: Names) -> Section[Position]:
    """One leg, ``net``, for each contract held. IB's average cost includes the multiplier and is in whole units of the
    currency, while prices may be in hundredths; both factors are taken out. A cost of 0 counts as not reported (of a
    transfer, for example)."""
    rows: list[Position] = []
    problems = _problems(SectionName.POSITIONS, read, names)
    for fact in read.facts:
        unclear = names.unclear(fact.contract)
        name = names.name(fact.contract)
        if unclear is not None and fact.quantity:
            problems += _unclear(SectionName.POSITIONS, fact.contract, str(fact.contract.con_id), unclear, names)
        elif fact.quantity:
            worth = names.worth(fact.contract)
            average = fact.average_cost / worth if worth is not None else Decimal(0)
            rows.append(Position(name, NET, fact.quantity, average, price_told=bool(average)))
    return section(rows, problems)


def orders(
    working: Read[WorkingOrder],
    completed: Read[CompletedOrder],
    executed: Mapping[str, Executed],
    names: Names,
    errors: Mapping[tuple[int, int], Notice],
) -> Section[Order]:
    """Open and completed orders; an order in both lists counts as completed. ``errors`` are TWS's, by client id and
    order id."""
    problems = _problems(SectionName.ORDERS, working, names) + _problems(SectionName.ORDERS, completed, names)
    rows: dict[str, Order] = {}
    both: tuple[WorkingOrder | CompletedOrder, ...] = (*working.facts, *completed.facts)
    for one in working.facts:
        ids = one.terms.client_id, one.terms.order_id
        names.learn_order(*ids, order_key(one.terms.perm_id, *ids))
    for order in both:
        terms = order.terms
        key = order_key(terms.perm_id, terms.client_id, terms.order_id)
        name = names.name(terms.contract)
        unclear = names.unclear(terms.contract)
        if unclear is not None:
            rows.pop(key, None)
            problems += _unclear(SectionName.ORDERS, terms.contract, key, unclear, names)
            continue
        try:
            if isinstance(order, WorkingOrder):
                error = errors.get((terms.client_id, terms.order_id))
                parent = _parent(order, key, names)
                rows[key] = _working(order, name, key, error, executed.get(key, NOTHING), parent)
            else:
                rows[key] = _completed(order, name, key, executed.get(key, NOTHING))
        except BadRow as error:
            rows.pop(key, None)
            problems.append(_problem(SectionName.ORDERS, name, key, str(error)))
    for keys in _twins(working):
        alive = [key for key in keys if key in rows and not rows[key].status.terminal]
        for key in alive if len(alive) > 1 else ():
            rows[key] = replace(rows[key], twins=tuple(other for other in alive if other != key))
    return section(rows.values(), problems)


def _twins(working: Read[WorkingOrder]) -> list[list[str]]:
    """The permIds that share an order id of one client. TWS API documentation, ``orderId``: it identifies one order of
    a client. An order that was changed while TWS had lost IB has been seen to work twice (NautilusTrader, issue
    4564)."""
    by_ids: dict[tuple[int, int], list[str]] = {}
    for one in working.facts:
        if one.terms.order_id:
            by_ids.setdefault((one.terms.client_id, one.terms.order_id), []).append(str(one.terms.perm_id))
    return [keys for keys in by_ids.values() if len(keys) > 1]


def _parent(order: WorkingOrder, key: str, names: Names) -> str | None:
    """The broker_order_id of the order that it is attached to."""
    parent = order.state.parent_order_id if order.state is not None else 0
    by_id = names.order_key_of(order.terms.client_id, parent) if parent else None
    return by_id or _parent_by_group(order.terms, key)


def _parent_by_group(terms: OrderTerms, key: str) -> str | None:
    """TWS puts orders attached to the same parent into one group, named by the parent's permId. The parent's order id
    is sent only while the parent works."""
    group = terms.oca_group
    return group if group is not None and _PERM_ID.fullmatch(group) and group != key else None


def _working(
    order: WorkingOrder, name: str, key: str, error: Notice | None, executed: Executed, parent: str | None
) -> Order:
    state = order.state
    if state is None:
        raise BadRow("TWS sent no status of it")
    status, reason = _status(state.status), None
    if error is not None and error.code in REJECTIONS and status in {OrderStatus.CANCELLED, OrderStatus.HELD}:
        status, reason = OrderStatus.REJECTED, f"{error.code}: {error.text}"
    filled, average = state.filled, state.average_price
    if order.terms.allocation is not None:
        filled, average, reason = executed.quantity, executed.average, reason or _shared_out(order.terms)
    if status is OrderStatus.OPEN and filled:
        status = OrderStatus.PARTIALLY_FILLED
    quantity = order.terms.quantity
    return _order(order.terms, name, key, quantity, filled, average, status, reason, parent)


def _shared_out(terms: OrderTerms) -> str:
    """The part of an adviser's order that was allocated to this account; its executions show what of it is filled."""
    return f"an adviser's order, shared out by {terms.allocation}: what is filled is this account's part"


def _completed(order: CompletedOrder, name: str, key: str, executed: Executed) -> Order:
    """TWS often sends neither quantity nor average price of a completed order; today's executions have both. Where they
    do not add up to the filled quantity, their average is not the order's, and the order has none."""
    shared = order.terms.allocation is not None
    stated = Decimal(0) if shared else _stated_filled(order.ending.filled)
    filled = max(stated, executed.quantity)
    status = _status(order.ending.status)
    words = order.ending.completed_status.lower()
    if status is OrderStatus.FILLED and not filled and not shared:
        filled = order.terms.quantity
    if status is not OrderStatus.FILLED and "reject" in words:
        status = OrderStatus.REJECTED
    elif status is OrderStatus.CANCELLED and "expire" in words:
        status = OrderStatus.EXPIRED
    if not status.terminal:
        status = OrderStatus.CANCELLED if status is not OrderStatus.HELD else OrderStatus.REJECTED
    quantity = order.terms.quantity or filled
    if not quantity and status is OrderStatus.FILLED and not shared:
        raise BadRow("it carries no quantity, and no execution of it is known")
    average = executed.average if filled and executed.quantity == filled else None
    reason = _shared_out(order.terms) if shared else order.ending.completed_status or None
    attached_to = order.ending.parent_perm_id
    parent = str(attached_to) if attached_to > 0 else _parent_by_group(order.terms, key)
    return _order(order.terms, name, key, quantity, filled, average, status, reason, parent)


def _order(
    terms: OrderTerms,
    name: str,
    key: str,
    quantity: Decimal,
    filled: Decimal,
    average: Decimal | None,
    status: OrderStatus,
    reason: str | None,
    parent: str | None,
) -> Order:
    return Order(
        instrument=name,
        broker_order_id=key,
        client_order_id=terms.order_ref,
        side=terms.side,
        quantity=quantity,
        filled_quantity=filled,
        average_fill_price=average,
        status=status,
        reason=reason,
        parent=parent,
        order_type=ORDER_TYPES.get(terms.order_type, terms.order_type.replace(" ", "_")),
        limit_price=_working_price(terms),
        trigger_price=(terms.aux_price or None) if terms.order_type in _WITH_TRIGGER else None,
        group=terms.oca_group,
    )


def _working_price(terms: OrderTerms) -> Decimal | None:
    """The price at which an order works: its limit, or the trigger of one that has none. ``None`` for a trailing order,
    whose prices TWS recalculates with the market: shown, they would be an amendment at every tick."""
    kind = terms.order_type
    if kind.startswith(_TRAILING):
        return None
    if kind in _BY_TRIGGER:
        return terms.aux_price or None
    return terms.limit_price if "LMT" in kind or "LIMIT" in kind or kind in _BY_LIMIT else None


def _status(word: str) -> OrderStatus:
    status = ORDER_STATUSES.get(word)
    if status is None:
        raise BadRow(f"its status {word[:40]!r} is not known")
    return status


def _stated_filled(text: str) -> Decimal:
    """ib_async's float for ``filledQuantity``; 0 where it is unset."""
    try:
        value = Decimal(text)
    except ArithmeticError:
        return Decimal(0)
    if not value.is_finite() or value < 0 or (value and abs(value.adjusted()) > 18):
        return Decimal(0)
    return value.to_integral_value() if value == value.to_integral_value() else value


@dataclass(frozen=True, slots=True)
class Executed:
    """The sum of today's executions of one order."""

    quantity: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)

    @property
    def average(self) -> Decimal | None:
        """Their average price."""
        return self.notional / self.quantity if self.quantity else None


NOTHING = Executed()


def executed(read: Read[Execution]) -> dict[str, Executed]:
    """By broker_order_id. Of a combination's order only the combination's own executions count, not its legs'."""
    by_order: dict[str, list[Execution]] = {}
    for one in newest(read.facts):
        by_order.setdefault(order_key(one.perm_id, one.client_id, one.order_id), []).append(one)
    sums: dict[str, Executed] = {}
    for key, ones in by_order.items():
        whole = [one for one in ones if one.contract.sec_type == BAG] or ones
        quantity = sum((one.quantity for one in whole), Decimal(0))
        sums[key] = Executed(quantity, sum((one.quantity * one.price for one in whole), Decimal(0)))
    return sums


def newest(found: Iterable[Execution]) -> list[Execution]:
    """Of each execution its highest revision, in the order of broker time."""
    return sorted((group[-1] for group in _revisions(found)), key=lambda one: (one.time, one.exec_id))


Commissions = Mapping[str, tuple[Decimal | None, str | None]]
"""Commission and currency by execId: TWS sends them in messages of their own."""


def fills(read: Read[Execution], names: Names, commissions: Commissions = MappingProxyType({})) -> Section[Fill]:
    """One fill for each execution that moved a position, and one for each correction of it, in the order of broker
    time.

    ``fill_id`` is the execId. The lowest revision that TWS lists of an execution gets the id of the first revision,
    which IB numbers ``01``, so that a book recognises the execution when TWS lists a correction alone. Every further
    revision corrects the one before it. A correction to nothing is a bust. A combination has executions of its own
    beside those of its legs: each is a fill of its own instrument and names its combination. A conversion of currencies
    names itself, as it counts in its order and moves no position.
    """
    rows: list[Fill] = []
    problems = _problems(SectionName.FILLS, read, names)
    for revisions in _revisions(read.facts):
        one = revisions[0]
        if not one.quantity:
            continue
        name, unclear = names.name(one.contract), names.unclear(one.contract)
        if unclear is not None:
            problems += _unclear(SectionName.FILLS, one.contract, one.exec_id, unclear, names)
            continue
        bag = names.combination_of(order_key(one.perm_id, one.client_id, one.order_id))
        if one.contract.sec_type == BAG:
            bag = one.contract
        combination = names.name(bag) if bag is not None else name if one.conversion else None
        fill = _fill(one, first_id(one), name, commissions, combination)
        rows.append(fill)
        for further in revisions[1:]:
            was = Corrected(fill.fill_id, fill.quantity, fill.price)
            fill = replace(_fill(further, further.exec_id, name, commissions, combination), corrects=was)
            rows.append(fill)
    return section(rows, problems)


def _fill(one: Execution, fill_id: str, name: str, commissions: Commissions, combination: str | None) -> Fill:
    commission, currency = commissions.get(one.exec_id, (None, None))
    return Fill(
        instrument=name,
        fill_id=fill_id,
        broker_order_id=order_key(one.perm_id, one.client_id, one.order_id) if _has_order(one) else None,
        side=one.side,
        quantity=one.quantity,
        price=one.price,
        time=one.time,
        leg=NET,
        client_order_id=one.order_ref,
        commission=commission,
        commission_currency=currency,
        reason=Reason.LIQUIDATION if one.liquidation else None,
        combination=combination,
    )


def _revisions(found: Iterable[Execution]) -> list[list[Execution]]:
    """The revisions of each execution, lowest first, in the order of broker time."""
    by_root: dict[str, dict[int, Execution]] = {}
    for one in found:
        by_root.setdefault(one.root, {})[one.revision] = one
    groups = [[revisions[number] for number in sorted(revisions)] for revisions in by_root.values()]
    return sorted(groups, key=lambda group: (group[0].time, group[0].exec_id))


def _has_order(one: Execution) -> bool:
    return bool(one.perm_id or one.order_id)


def first_id(one: Execution) -> str:
    """The execId of the first revision."""
    width = len(one.exec_id) - len(one.root) - 1
    return f"{one.root}.{1:0{width}d}"


def _problems(name: SectionName, read: AnyRead, names: Names) -> list[RowProblem]:
    problems: list[RowProblem] = []
    for t in read.troubles:
        instruments = (None,) if t.contract is None else names.names(t.contract)
        problems += [_problem(name, instrument, t.key, t.text) for instrument in instruments]
    return problems


def _unclear(name: SectionName, contract: Contract, key: str, why: str, names: Names) -> list[RowProblem]:
    """One for each name that the row's contract may have."""
    return [_problem(name, instrument, key, why) for instrument in names.names(contract)]


def _problem(name: SectionName, instrument: str | None, key: str | None, text: str) -> RowProblem:
    return RowProblem(name, instrument, key, with_remedy(text, ROW_REMEDY))
