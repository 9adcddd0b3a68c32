"""Turns TWS's rows into facts, and into troubles where a row cannot be read. Pure.

The laws of this module:

* A row that ib_async could not read is a trouble, however much of it we can read: something in it is wrong.
* Rows of the login's other accounts are ignored, readable or not. A row of no account of the login was misread.
* Rows of security types out of scope are left out, readable or not, and their contracts are reported: they are not
  flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Generic, TypeVar

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.ib import wire
from brokers.ib.row_decoder import Ending, Heard
from brokers.ib.wire import Contract, Execution, Holding, OrderState, OrderTerms
from brokers.kit.foreign_row import BadRow

Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A row that could not be read; ``contract`` and ``key`` are the parts that could."""

    contract: Contract | None
    key: str | None
    text: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row of a security type that is out of scope. ``flat`` marks a position of zero."""

    contract: Contract
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Read(Generic[Fact]):
    """The facts of one list, and the contracts of which rows were left out."""

    facts: tuple[Fact, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    left_out: frozenset[LeftOut] = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """The account whose rows are wanted, and the security types in scope (``None`` for all). ``others`` are the further
    accounts of the login: a row of none of them was misread."""

    account_id: str
    sec_types: frozenset[str] | None = None
    others: frozenset[str] = frozenset()

    def has(self, account: str) -> bool:
        """Whether a row is of the account; raises :class:`BadRow` where its account is not one of the login's."""
        if account != self.account_id and account not in self.others:
            raise BadRow(f"its account is {account[:40]!r}, which is none of the login's")
        return account == self.account_id

    def has_type(self, contract: Contract) -> bool:
        """Whether its security type is in scope."""
        return self.sec_types is None or contract.sec_type in self.sec_types


@dataclass(frozen=True, slots=True)
class WorkingOrder:
    """An order with its state; ``state`` is ``None`` where TWS sent none."""

    terms: OrderTerms
    state: OrderState | None


@dataclass(frozen=True, slots=True)
class CompletedOrder:
    """An order that is over."""

    terms: OrderTerms
    ending: Ending


def order_key(perm_id: int, client_id: int, order_id: int) -> str:
    """The broker_order_id: the permId, which an order placed by hand has too; else client id and order id."""
    return str(perm_id) if perm_id else f"{client_id}/{order_id}"


def holdings(rows: Iterable[Heard], scope: Scope) -> Read[Holding]:
    """Positions, one for each contract: the last row received, as an update may come in the middle of a list. A row
    that cannot be read cancels an earlier row of its contract."""
    held: dict[int, Holding] = {}
    listed = _List(scope)
    for row in rows:
        found = listed.read(row, wire.holding, lambda h: (h.account, h.contract))
        if isinstance(found, Holding):
            held[found.contract.con_id] = found
        elif found is not None and found.contract is not None:
            held.pop(found.contract.con_id, None)
    left_out = {one.contract.con_id: one for one in listed.left_out}
    return Read(tuple(held.values()), tuple(listed.troubles), frozenset(left_out.values()))


def working_orders(rows: Sequence[Heard], scope: Scope) -> Read[WorkingOrder]:
    """The open orders of all clients, each with the newest status row that came with it."""
    listed = _List(scope)
    states: dict[str, OrderState] = {}
    terms: dict[str, OrderTerms] = {}
    for row in rows:
        if row.kind == wire.ORDER_STATUS:
            state = listed.read(row, wire.order_state, None)
            if isinstance(state, OrderState):
                states[order_key(state.perm_id, state.client_id, state.order_id)] = state
            continue
        found = listed.read(row, _with_legs(row, wire.open_order), _subject)
        if isinstance(found, OrderTerms):
            terms[order_key(found.perm_id, found.client_id, found.order_id)] = found
    return listed.done(WorkingOrder(order, states.get(key)) for key, order in terms.items())


def completed_orders(rows: Iterable[Heard], scope: Scope) -> Read[CompletedOrder]:
    """Today's completed orders."""
    found: list[CompletedOrder] = []
    listed = _List(scope)
    for row in rows:
        terms = listed.read(row, _with_legs(row, wire.completed_order), _subject)
        if isinstance(terms, OrderTerms) and row.ending is not None:
            found.append(CompletedOrder(terms, row.ending))
    return listed.done(found)


def _with_legs(row: Heard, parse: Callable[[wire.Fields], OrderTerms]) -> Callable[[wire.Fields], OrderTerms]:
    def read(fields: wire.Fields) -> OrderTerms:
        terms = parse(fields)
        if row.good_till:
            terms = replace(terms, good_till=row.good_till)
        return replace(terms, contract=replace(terms.contract, legs=row.legs)) if row.legs else terms

    return read


def _subject(terms: OrderTerms) -> tuple[str | None, Contract]:
    """An adviser's order is of no single account."""
    return (None if terms.allocation is not None else terms.account), terms.contract


def executions(rows: Iterable[Heard], scope: Scope, zone: tzinfo | None, latest: BrokerTime) -> Read[Execution]:
    """Executions, every revision received. One after ``latest`` was read in a wrong time zone."""

    def read(fields: wire.Fields) -> Execution:
        found = wire.execution(fields, zone)
        if found.time > latest:
            raise BadRow(f"time is {found.time:%Y-%m-%d %H:%M:%S} UTC, which TWS's own clock has not reached")
        return found

    found: dict[str, Execution] = {}
    listed = _List(scope)
    for row in rows:
        one = listed.read(row, read, lambda e: (e.account, e.contract))
        if isinstance(one, Execution):
            found[one.exec_id] = one
    return listed.done(found.values())


class _List:
    """Collects one list: what cannot be read, and what is left out."""

    def __init__(self, scope: Scope) -> None:
        self.troubles: list[Trouble] = []
        self.left_out: list[LeftOut] = []
        self._scope = scope

    def read(
        self,
        row: Heard,
        parse: Callable[[wire.Fields], Fact],
        subject: Callable[[Fact], tuple[str | None, Contract]] | None,
    ) -> Fact | Trouble | None:
        """One row; ``None`` where it is of another account or left out."""
        found = _read(row, parse, subject, self._scope)
        if isinstance(found, LeftOut):
            self.left_out.append(found)
            return None
        if isinstance(found, Trouble):
            self.troubles.append(found)
        return found

    def done(self, facts: Iterable[Fact]) -> Read[Fact]:
        """The list, with what its rows say."""
        return Read(tuple(facts), tuple(self.troubles), frozenset(self.left_out))


def _read(
    row: Heard,
    parse: Callable[[wire.Fields], Fact],
    subject: Callable[[Fact], tuple[str | None, Contract]] | None,
    scope: Scope,
) -> Fact | Trouble | LeftOut | None:
    """One row: its fact, ``None`` for another account, that it was left out, or why it cannot be read. Its account
    decides even then. ``subject`` returns account and contract, where the fact has them."""
    try:
        fact = parse(row.fields)
        if row.trouble is not None:
            raise BadRow(f"ib_async could not read it ({row.trouble})")
        if subject is None:
            return fact
        account, contract = subject(fact)
        if account is not None and not scope.has(account):
            return None
        if not scope.has_type(contract):
            return LeftOut(contract, flat=isinstance(fact, Holding) and not fact.quantity)
        return fact
    except BadRow as error:
        return _trouble(row, str(error), scope)


_ACCOUNT_AT = {wire.POSITION: 2, wire.OPEN_ORDER: 20, wire.EXECUTION: 16, wire.COMPLETED_ORDER: 19}
_KEY_AT = {wire.OPEN_ORDER: 25, wire.EXECUTION: 14, wire.COMPLETED_ORDER: 23}


def _trouble(row: Heard, text: str, scope: Scope) -> Trouble | LeftOut | None:
    message = f"{text}: {wire.quote(row.fields)}"
    account = _account_of(row)
    if account in scope.others:
        return None
    if account != scope.account_id:
        return Trouble(None, None, message)
    contract = _contract_of(row)
    if contract is not None and not scope.has_type(contract):
        return LeftOut(contract)
    if row.kind == wire.POSITION:
        return Trouble(contract, None if contract is None else str(contract.con_id), message)
    key_at = _KEY_AT[row.kind]
    return Trouble(contract, row.fields[key_at] if len(row.fields) > key_at else None, message)


def _account_of(row: Heard) -> str | None:
    """The account of a row whose fields are, as far as can be seen, in place. A missing field shifts the others: a
    position row shows that by its number of fields, any other row by its account, which comes after the contract."""
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
    except BadRow:
        return None
