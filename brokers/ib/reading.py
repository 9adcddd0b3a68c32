"""One reading of an account, from its lists to the sections of a snapshot. Pure, except for the names it learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from brokers.clocks import BrokerTime
from brokers.errors import with_remedy
from brokers.frozen import dataclass
from brokers.ib import decode
from brokers.ib.contracts import Names
from brokers.ib.rows import CompletedOrder, Read, WorkingOrder, order_key
from brokers.ib.wire import BAG, Execution, Holding, Notice
from brokers.kit.doubt import FILLS_KEPT_COMING, doubted
from brokers.kit.order_lookup import is_meant, with_its_fills
from brokers.model import (
    Complete,
    ContractFacts,
    Failed,
    Fill,
    Order,
    OrderAnswer,
    OrderQuery,
    Partial,
    Position,
    RowProblem,
    Section,
    SectionName,
    problems_of,
    rows_of,
    section,
)


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of one reading; a list that is missing is the reason in words. ``server_s`` is TWS's epoch second just
    before the first of them was requested."""

    requested_at: datetime
    server_s: int
    positions: Read[Holding] | str
    working: Read[WorkingOrder] | str
    completed: Read[CompletedOrder] | str
    executions: Read[Execution] | str

    @property
    def began_at(self) -> BrokerTime:
        """TWS's time just before the first list was requested, in whole seconds."""
        return BrokerTime.fromtimestamp(self.server_s, UTC)

    def any_known(self) -> bool:
        """Whether some section is known at least in part."""
        return any(isinstance(read, Read) for read in (self.positions, self.working, self.executions))


@dataclass(frozen=True, slots=True)
class Reading:
    """The sections. ``listed`` are the executions as (instrument, execId), each revision separately. ``left_out`` maps
    an instrument of which a row was left out to why and what to do."""

    lists: Lists
    positions: Section[Position]
    orders: Section[Order]
    fills: Section[Fill]
    listed: tuple[tuple[str, str], ...]
    left_out: Mapping[str, str]
    contracts: Mapping[str, ContractFacts]


def read(
    lists: Lists, names: Names, errors: Mapping[tuple[int, int], Notice], commissions: decode.Commissions
) -> Reading:
    """Decode all lists; their contracts are named together."""
    lists = _with_combinations(lists, names)
    reads = [r for r in (lists.positions, lists.working, lists.completed, lists.executions) if isinstance(r, Read)]
    flat = (
        {fact.contract for fact in lists.positions.facts if not fact.quantity}
        if not isinstance(lists.positions, str)
        else set()
    )
    named = decode.contracts(*reads)
    names.learn(contract for contract in named if contract not in flat)
    names.learn(named)  # a contract no longer held takes no name from one that is
    positions: Section[Position]
    fills: Section[Fill]
    if isinstance(lists.positions, str):
        positions = Failed(lists.positions)
    else:
        positions = decode.positions(lists.positions, names)
    executed: dict[str, decode.Executed] = {}
    listed: tuple[tuple[str, str], ...] = ()
    if isinstance(lists.executions, str):
        fills = Failed(lists.executions)
    else:
        fills = decode.fills(lists.executions, names, commissions)
        executed = decode.executed(lists.executions)
        listed = tuple((names.name(one.contract), one.exec_id) for one in lists.executions.facts)
    orders = _orders(lists, executed, names, errors)
    facts = {names.name(c): names.facts(c) for c in decode.contracts(*reads) if names.unclear(c) is None}
    return Reading(lists, positions, orders, fills, listed, _left_out(lists, names), facts)


def _with_combinations(lists: Lists, names: Names) -> Lists:
    """The executions of combinations with the legs that their orders carry."""
    for orders in (lists.working, lists.completed):
        for order in orders.facts if isinstance(orders, Read) else ():
            terms = order.terms
            if terms.contract.sec_type == BAG:
                names.learn_combination(order_key(terms.perm_id, terms.client_id, terms.order_id), terms.contract)
    if isinstance(lists.executions, str):
        return lists
    facts = tuple(_as_ordered(one, names) for one in lists.executions.facts)
    return replace(lists, executions=replace(lists.executions, facts=facts))


def _as_ordered(one: Execution, names: Names) -> Execution:
    if one.contract.sec_type != BAG:
        return one
    key = order_key(one.perm_id, one.client_id, one.order_id)
    names.learn_combination(key, one.contract)
    return replace(one, contract=names.combination_of(key) or one.contract)


def _left_out(lists: Lists, names: Names) -> dict[str, str]:
    """Every name that a left-out contract may have. A missing list is FAILED for all instruments instead."""
    found: dict[str, str] = {}
    for what, one in (
        ("a position", lists.positions),
        ("a working order", lists.working),
        ("an order of today", lists.completed),
        ("an execution of today", lists.executions),
    ):
        rows = one.left_out if isinstance(one, Read) else ()
        for contract in sorted((row.contract for row in rows if not row.flat), key=lambda c: c.con_id):
            for name in names.claimed(contract):
                found.setdefault(name, names.left_out(contract, name, what))
    return found


def without_commission(fills: Section[Fill], listed: Iterable[tuple[str, str]]) -> dict[str, Fill]:
    """The fills without a commission so far, by the execId for which TWS will send it. That is the fill's id, except
    for a correction that TWS lists alone (see :func:`brokers.ib.decode.fills`): then it is the lowest one listed."""
    lacking = [fill for fill in rows_of(fills) if fill.commission is None]
    if not lacking:
        return {}
    exec_ids = {exec_id for _, exec_id in listed}
    found: dict[str, Fill] = {}
    for fill in lacking:
        if fill.fill_id in exec_ids:
            found[fill.fill_id] = fill
            continue
        root = fill.fill_id.rpartition(".")[0]
        revisions = [one for one in exec_ids if one.rpartition(".")[0] == root]
        if revisions:
            found[min(revisions, key=lambda one: int(one.rpartition(".")[2]))] = fill
    return found


def _orders(
    lists: Lists,
    executed: Mapping[str, decode.Executed],
    names: Names,
    errors: Mapping[tuple[int, int], Notice],
) -> Section[Order]:
    """Without the completed orders the section still has the working ones, and a problem for what is missing."""
    if isinstance(lists.working, str):
        return Failed(lists.working)
    if isinstance(lists.completed, Read):
        return decode.orders(lists.working, lists.completed, executed, names, errors)
    half = decode.orders(lists.working, Read(), executed, names, errors)
    lacking = RowProblem(SectionName.ORDERS, None, "completed orders", lists.completed)
    return section(rows_of(half), (*problems_of(half), lacking))


def in_doubt(reading: Reading, moved: frozenset[str]) -> Reading:
    """The positions, with those in doubt that kept being traded while they were read."""
    text = with_remedy(FILLS_KEPT_COMING, "Both are read again in the next cycle")
    return replace(reading, positions=doubted(reading.positions, moved, text))


def answer(query: OrderQuery, reading: Reading) -> OrderAnswer:
    """The answer that a reading holds for one order."""
    orders = reading.orders
    if query.instrument in reading.left_out:
        return OrderAnswer(query, failure=reading.left_out[query.instrument])
    if not isinstance(orders, Complete | Partial):
        return OrderAnswer(query, failure=orders.reason if isinstance(orders, Failed) else "TWS lists no orders")
    found = [order for order in orders.rows if is_meant(query, order)]
    if len(found) > 1:
        name = f"the orderRef {query.client_order_id!r}"
        return _unclear(query, f"{len(found)} orders of {query.instrument} carry {name}")
    if not found:
        return _not_found(query, reading, problems_of(orders))
    order = found[0]
    if order.instrument != query.instrument:
        return _unclear(query, f"order {order.broker_order_id} is one of {order.instrument}")
    return with_its_fills(query, order, reading.fills, "fill")


def _not_found(query: OrderQuery, reading: Reading, problems: tuple[RowProblem, ...]) -> OrderAnswer:
    """ "No such order": only when nothing that could show it is missing."""
    if problems:
        return OrderAnswer(query, failure=f"what could show it cannot be read: {problems[0].text}")
    if isinstance(reading.fills, Failed):
        return OrderAnswer(query, failure=f"it is in no list, and its fills are not known: {reading.fills.reason}")
    if problems_of(reading.fills):
        return OrderAnswer(query, failure=f"a fill that could be its own: {problems_of(reading.fills)[0].text}")
    fills = [fill for fill in rows_of(reading.fills) if is_meant(query, fill) and fill.instrument == query.instrument]
    if fills:
        return _unclear(query, f"TWS lists {len(fills)} executions of it, and the order in no list")
    return OrderAnswer(query)


def _unclear(query: OrderQuery, found: str) -> OrderAnswer:
    return OrderAnswer(query, failure=with_remedy(found, "Look the order up in TWS"))
