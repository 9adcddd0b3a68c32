"""Rows of TWS as the model's sections. Pure.

The laws of this module:

* A row that cannot be read becomes a :class:`RowProblem`; the other rows go on and the section is PARTIAL.
* Rows of other accounts and of security types that are not looked after are left out, and so are positions of zero.
* A number comes from its text and never through a float (see :mod:`brokers.ib.wire`). One figure is only had from
  ib_async, as a float: what of a completed order was filled. Up to fifteen digits its text is the wire's own.
* Of an execution and its corrections the highest revision counts, under the id of the first one (see :func:`fills`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Generic, TypeVar

from brokers.ib import wire
from brokers.ib.contracts import Names
from brokers.ib.listener import Ending, Heard
from brokers.ib.wire import BAG, Contract, Execution, Holding, Notice, OrderState, OrderTerms, Unreadable
from brokers.model import (
    NET,
    Fill,
    Order,
    OrderStatus,
    Position,
    RowProblem,
    Section,
    SectionName,
    section,
)

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
"""TWS API documentation, orderStatus. ``Inactive`` is REJECTED where an error came with it, and a cancelled order that
was rejected says so in its error 201 or its ``completedStatus``."""

ORDER_TYPES = {"MKT": "MARKET", "LMT": "LIMIT", "STP": "STOP", "STP LMT": "STOP_LIMIT"}

REJECTED_BY_BROKER = 201
_NO_ERRORS = frozenset({105, 110, 161, 165, 202, 329, 399, 404, 434, 492, 10147, 10148, 10167})
"""TWS API documentation, message codes: warnings about an order, and answers to a cancellation. After each of them the
order may well be alive."""

Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A row that could not be read; ``contract`` and ``key`` are what of it could."""

    contract: Contract | None
    key: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Read(Generic[Fact]):
    """What the rows of one list say."""

    facts: tuple[Fact, ...] = ()
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows are wanted, and of which security types (``None`` for all). ``others`` are the further accounts of the
    login: a row that is of none of them has been misread."""

    account_id: str
    sec_types: frozenset[str] | None = None
    others: frozenset[str] = frozenset()

    def has(self, account: str, contract: Contract) -> bool:
        """Whether a row is wanted; raises :class:`Unreadable` where it is of no account of the login."""
        if account != self.account_id and account not in self.others:
            raise Unreadable(f"its account is {account[:40]!r}, which is none of the login's")
        return account == self.account_id and self.has_type(contract)

    def has_type(self, contract: Contract) -> bool:
        """Whether its security type is."""
        return self.sec_types is None or contract.sec_type in self.sec_types


@dataclass(frozen=True, slots=True)
class WorkingOrder:
    """An order with what became of it; ``state`` is ``None`` where TWS told none."""

    terms: OrderTerms
    state: OrderState | None


@dataclass(frozen=True, slots=True)
class CompletedOrder:
    """An order that is over."""

    terms: OrderTerms
    ending: Ending


# -- rows into facts ---------------------------------------------------------------------------------------------


def holdings(rows: Iterable[Heard], scope: Scope) -> Read[Holding]:
    """Positions, one a contract: the last row heard, as an update may come in the middle of a list. A row that cannot
    be read takes away what an earlier one said of its contract."""
    held: dict[int, Holding] = {}
    troubles: list[Trouble] = []
    for row in rows:
        found = _read(row, wire.holding, lambda h: scope.has(h.account, h.contract), scope)
        if isinstance(found, Trouble):
            troubles.append(found)
            if found.contract is not None:
                held.pop(found.contract.con_id, None)
        elif found is not None:
            held[found.contract.con_id] = found
    return Read(tuple(held.values()), tuple(troubles))


def working_orders(rows: Sequence[Heard], scope: Scope) -> Read[WorkingOrder]:
    """The open orders of all clients, each with the newest status row that came with it."""
    troubles: list[Trouble] = []
    states: dict[str, OrderState] = {}
    terms: dict[str, OrderTerms] = {}
    for row in rows:
        if row.kind == wire.ORDER_STATUS:
            state = _read(row, wire.order_state, lambda _: True, scope)
            if isinstance(state, Trouble):
                troubles.append(state)
            elif state is not None:
                states[order_key(state.perm_id, state.client_id, state.order_id)] = state
            continue
        found = _read(row, wire.open_order, lambda o: scope.has(o.account, o.contract), scope)
        if isinstance(found, Trouble):
            troubles.append(found)
        elif found is not None:
            terms[order_key(found.perm_id, found.client_id, found.order_id)] = found
    return Read(tuple(WorkingOrder(order, states.get(key)) for key, order in terms.items()), tuple(troubles))


def completed_orders(rows: Iterable[Heard], scope: Scope) -> Read[CompletedOrder]:
    """Today's completed orders."""
    found: list[CompletedOrder] = []
    troubles: list[Trouble] = []
    for row in rows:
        terms = _read(row, wire.completed_order, lambda o: scope.has(o.account, o.contract), scope)
        if isinstance(terms, Trouble):
            troubles.append(terms)
        elif terms is not None and row.ending is not None:
            found.append(CompletedOrder(terms, row.ending))
    return Read(tuple(found), tuple(troubles))


def executions(rows: Iterable[Heard], scope: Scope, zone: tzinfo | None, latest: datetime) -> Read[Execution]:
    """Executions in every revision heard. One after ``latest`` has been read in a wrong time zone."""

    def read(fields: wire.Fields) -> Execution:
        found = wire.execution(fields, zone)
        if found.time > latest:
            raise Unreadable(f"time is {found.time:%Y-%m-%d %H:%M:%S} UTC, which TWS's own clock has not reached")
        return found

    found: dict[str, Execution] = {}
    troubles: list[Trouble] = []
    for row in rows:
        one = _read(row, read, lambda e: scope.has(e.account, e.contract), scope)
        if isinstance(one, Trouble):
            troubles.append(one)
        elif one is not None:
            found[one.exec_id] = one
    return Read(tuple(found.values()), tuple(troubles))


def _read(
    row: Heard, parse: Callable[[wire.Fields], Fact], wanted: Callable[[Fact], bool], scope: Scope
) -> Fact | Trouble | None:
    """One row: what it says, ``None`` where it is not wanted, or why it cannot be read. Whose row it is counts even
    then: what cannot be read of another account is none of ours."""
    try:
        fact = parse(row.fields)
        if row.trouble is not None:
            raise Unreadable(f"ib_async could not read it ({row.trouble})")
        return fact if wanted(fact) else None
    except Unreadable as error:
        return _trouble(row, str(error), scope)


_ACCOUNT_AT = {wire.POSITION: 2, wire.OPEN_ORDER: 20, wire.EXECUTION: 16, wire.COMPLETED_ORDER: 19}
_KEY_AT = {wire.ORDER_STATUS: 6, wire.OPEN_ORDER: 25, wire.EXECUTION: 14, wire.COMPLETED_ORDER: 23}
_LENGTH = {wire.POSITION: 16, wire.OPEN_ORDER: 60, wire.EXECUTION: 31, wire.COMPLETED_ORDER: 60}


def _trouble(row: Heard, text: str, scope: Scope) -> Trouble | None:
    contract: Contract | None = None
    key: str | None = None
    # In a row that is too short a field may stand in the place of another one.
    if len(row.fields) >= _LENGTH.get(row.kind, 12):
        account_at = _ACCOUNT_AT.get(row.kind)
        if account_at is not None and row.fields[account_at] in scope.others:
            return None
        key = row.fields[_KEY_AT[row.kind]] if row.kind in _KEY_AT else None
        contract = _contract_of(row)
        if contract is not None and not scope.has_type(contract):
            return None
    if row.kind == wire.POSITION and contract is not None:
        key = str(contract.con_id)
    return Trouble(contract, key or None, f"{text}: {wire.quote(row.fields)}")


def _contract_of(row: Heard) -> Contract | None:
    begin = wire.CONTRACT_AT.get(row.kind)
    if begin is None:
        return None
    try:
        return wire.contract(row.fields[begin : begin + 11])
    except Unreadable:
        return None


# -- facts into sections -----------------------------------------------------------------------------------------


def contracts(*reads: Read[Holding] | Read[WorkingOrder] | Read[CompletedOrder] | Read[Execution]) -> list[Contract]:
    """Every contract that some row speaks of, to be named together."""
    found: list[Contract] = []
    for read in reads:
        for fact in read.facts:
            terms = fact.terms if isinstance(fact, WorkingOrder | CompletedOrder) else fact
            found.append(terms.contract)
        found += [trouble.contract for trouble in read.troubles if trouble.contract is not None]
    return found


def positions(read: Read[Holding], names: Names) -> Section[Position]:
    """One leg, ``net``, for each contract held. IB's average cost contains the multiplier, so it is taken out."""
    rows: list[Position] = []
    problems = _problems(SectionName.POSITIONS, read, names)
    for fact in read.facts:
        unclear = names.unclear(fact.contract)
        name = names.name(fact.contract)
        if unclear is not None and fact.quantity:
            problems.append(RowProblem(SectionName.POSITIONS, name, str(fact.contract.con_id), unclear))
        elif fact.quantity:
            rows.append(Position(name, NET, fact.quantity, fact.average_cost / fact.contract.multiplier))
    return section(rows, problems)


def order_key(perm_id: int, client_id: int, order_id: int) -> str:
    """The broker_order_id: the permId, which an order placed by hand has too, else client and order id."""
    return str(perm_id) if perm_id else f"{client_id}/{order_id}"


def orders(
    working: Read[WorkingOrder],
    completed: Read[CompletedOrder],
    executed: Mapping[str, Executed],
    names: Names,
    errors: Mapping[tuple[int, int], Notice],
) -> Section[Order]:
    """Open and completed orders, an order in both lists as the completed one. ``errors`` are TWS's, by client and order
    id."""
    problems = _problems(SectionName.ORDERS, working, names) + _problems(SectionName.ORDERS, completed, names)
    rows: dict[str, Order] = {}
    for order in (*working.facts, *completed.facts):
        terms = order.terms
        key = order_key(terms.perm_id, terms.client_id, terms.order_id)
        name = names.name(terms.contract)
        try:
            unclear = names.unclear(terms.contract)
            if unclear is not None:
                raise Unreadable(unclear)
            if isinstance(order, WorkingOrder):
                rows[key] = _working(order, name, key, errors.get((terms.client_id, terms.order_id)))
            else:
                rows[key] = _completed(order, name, key, executed.get(key, NOTHING))
        except Unreadable as error:
            rows.pop(key, None)
            problems.append(RowProblem(SectionName.ORDERS, name, key, str(error)))
    return section(rows.values(), problems)


def _working(order: WorkingOrder, name: str, key: str, error: Notice | None) -> Order:
    state = order.state
    if state is None:
        raise Unreadable("TWS told no status of it")
    status, reason = _status(state.status), None
    if error is not None and error.code not in _NO_ERRORS:
        rejected = error.code == REJECTED_BY_BROKER and status is OrderStatus.CANCELLED
        if rejected or status is OrderStatus.HELD:
            status, reason = OrderStatus.REJECTED, f"{error.code}: {error.text}"
    if status is OrderStatus.OPEN and state.filled:
        status = OrderStatus.PARTIALLY_FILLED
    if not order.terms.quantity:
        raise Unreadable("its quantity is 0")
    return replace(
        _order(order.terms, name, key),
        filled_quantity=state.filled,
        average_fill_price=state.average_price,
        status=status,
        reason=reason,
    )


def _completed(order: CompletedOrder, name: str, key: str, executed: Executed) -> Order:
    """TWS often tells neither quantity nor average price of a completed order; today's executions do. Where they do not
    add up to what is filled, their average is not the order's and none is given."""
    told = _filled_by_its_word(order.ending.filled)
    filled = max(told, executed.quantity)
    status = _status(order.ending.status)
    words = order.ending.completed_status.lower()
    if status is OrderStatus.FILLED and not filled:
        filled = order.terms.quantity
    if status is not OrderStatus.FILLED and "reject" in words:
        status = OrderStatus.REJECTED
    elif status is OrderStatus.CANCELLED and "expire" in words:
        status = OrderStatus.EXPIRED
    if not status.terminal:
        status = OrderStatus.CANCELLED if status is not OrderStatus.HELD else OrderStatus.REJECTED
    quantity = order.terms.quantity or filled
    if not quantity:
        raise Unreadable("it tells no quantity, and no execution of it is known")
    return replace(
        _order(order.terms, name, key),
        quantity=max(quantity, filled),
        filled_quantity=filled,
        average_fill_price=executed.average if filled and executed.quantity == filled else None,
        status=status,
        reason=order.ending.completed_status or None,
    )


def _order(terms: OrderTerms, name: str, key: str) -> Order:
    return Order(
        instrument=name,
        broker_order_id=key,
        client_order_id=terms.order_ref,
        side=terms.side,
        quantity=terms.quantity,
        filled_quantity=Decimal(0),
        status=OrderStatus.OPEN,
        order_type=ORDER_TYPES.get(terms.order_type, terms.order_type.replace(" ", "_")),
        limit_price=terms.limit_price if "LMT" in terms.order_type or "LIMIT" in terms.order_type else None,
    )


def _status(word: str) -> OrderStatus:
    status = ORDER_STATUSES.get(word)
    if status is None:
        raise Unreadable(f"its status {word[:40]!r} is none that is known")
    return status


def _filled_by_its_word(text: str) -> Decimal:
    """ib_async's float for ``filledQuantity``: nothing where it is unset."""
    try:
        value = Decimal(text)
    except ArithmeticError:
        return Decimal(0)
    if not value.is_finite() or value < 0 or (value and abs(value.adjusted()) > 18):
        return Decimal(0)
    return value.normalize() if value == value.to_integral_value() else value


@dataclass(frozen=True, slots=True)
class Executed:
    """What today's executions of one order add up to."""

    quantity: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)

    @property
    def average(self) -> Decimal | None:
        """Their average price."""
        return self.notional / self.quantity if self.quantity else None


NOTHING = Executed()


def executed(read: Read[Execution]) -> dict[str, Executed]:
    """By broker_order_id. A combination's own executions count, and not those of its legs."""
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
    latest: dict[str, Execution] = {}
    for one in found:
        other = latest.get(one.root)
        if other is None or one.revision > other.revision:
            latest[one.root] = one
    return sorted(latest.values(), key=lambda one: (one.time, one.exec_id))


def fills(read: Read[Execution], names: Names) -> Section[Fill]:
    """One fill for each execution that moved a position, in the order of broker time.

    ``fill_id`` is the execId; a corrected execution keeps the id it had first, whose revision IB writes as ``01``, and
    has the values of its highest correction. So a correction is never counted beside what it corrects. A book that
    applied the first values does not see it as a fill: what it changed comes with the positions, as quantity or price
    drift. An execution of a combination moves nothing by itself, as its legs have executions of their own; a correction
    to nothing is a bust.
    """
    rows: list[Fill] = []
    problems = _problems(SectionName.FILLS, read, names)
    for one in newest(read.facts):
        if one.contract.sec_type == BAG or not one.quantity:
            continue
        name, unclear = names.name(one.contract), names.unclear(one.contract)
        if unclear is not None:
            problems.append(RowProblem(SectionName.FILLS, name, one.exec_id, unclear))
            continue
        rows.append(
            Fill(
                instrument=name,
                fill_id=first_id(one),
                broker_order_id=order_key(one.perm_id, one.client_id, one.order_id) if _has_order(one) else None,
                side=one.side,
                quantity=one.quantity,
                price=one.price,
                time=one.time,
                leg=NET,
                client_order_id=one.order_ref,
            )
        )
    return section(rows, problems)


def _has_order(one: Execution) -> bool:
    return bool(one.perm_id or one.order_id)


def first_id(one: Execution) -> str:
    """The execId of the first revision."""
    width = len(one.exec_id) - len(one.root) - 1
    return f"{one.root}.{1:0{width}d}"


def _problems(
    name: SectionName, read: Read[Holding] | Read[WorkingOrder] | Read[CompletedOrder] | Read[Execution], names: Names
) -> list[RowProblem]:
    return [
        RowProblem(name, None if t.contract is None else names.name(t.contract), t.key, t.text) for t in read.troubles
    ]
