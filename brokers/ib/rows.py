"""Lists of TWS's rows as facts, and as troubles where a row cannot be read. Pure.

The laws of this module:

* A row that ib_async could not read is a trouble, whatever of it we can: something in it is not as it should be.
* Rows of the login's other accounts and of security types that are not looked after are left out, readable or not. A
  row that is of no account of the login has been misread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Generic, TypeVar

from brokers.ib import wire
from brokers.ib.listener import Ending, Heard
from brokers.ib.wire import Contract, Execution, Holding, OrderState, OrderTerms, Unreadable

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


def order_key(perm_id: int, client_id: int, order_id: int) -> str:
    """The broker_order_id: the permId, which an order placed by hand has too, else client and order id."""
    return str(perm_id) if perm_id else f"{client_id}/{order_id}"


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
_KEY_AT = {wire.OPEN_ORDER: 25, wire.EXECUTION: 14, wire.COMPLETED_ORDER: 23}


def _trouble(row: Heard, text: str, scope: Scope) -> Trouble | None:
    told = f"{text}: {wire.quote(row.fields)}"
    account = _account_of(row)
    if account in scope.others:
        return None
    if account != scope.account_id:
        return Trouble(None, None, told)
    contract = _contract_of(row)
    if contract is not None and not scope.has_type(contract):
        return None
    if row.kind == wire.POSITION:
        return Trouble(contract, None if contract is None else str(contract.con_id), told)
    key_at = _KEY_AT[row.kind]
    return Trouble(contract, row.fields[key_at] if len(row.fields) > key_at else None, told)


def _account_of(row: Heard) -> str | None:
    """The account of a row in which no field is out of its place, as far as can be seen. Where one is lacking another
    stands in its place: in rows of positions their number tells, in others the account itself, which comes after the
    contract."""
    account_at = _ACCOUNT_AT.get(row.kind)
    if account_at is None or len(row.fields) <= account_at:
        return None
    if row.kind == wire.POSITION and len(row.fields) != wire.POSITION_FIELDS:
        return None
    return row.fields[account_at]


def _contract_of(row: Heard) -> Contract | None:
    begin = wire.CONTRACT_AT.get(row.kind)
    if begin is None:
        return None
    try:
        return wire.contract(row.fields[begin : begin + 11])
    except Unreadable:
        return None
