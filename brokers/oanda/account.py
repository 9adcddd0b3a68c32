"""The account as last read: whole from one AccountDetails, or updated by AccountChanges. Pure.

The laws of this module:

* Everything is decoded before anything is kept: a reading is replaced as a whole, never half merged.
* Any doubt about changes (a gap, a transaction whose effect is not shown, an unreadable row) raises :class:`Doubt`, and
  the account is read whole again. Doubt costs a request; a wrong merge costs money.
* An answer that counts more than it lists proves nothing: the section is failed, not short or empty. A row that is
  listed and not counted is evidence all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

from brokers.clocks import BrokerTime
from brokers.errors import with_remedy
from brokers.frozen import dataclass
from brokers.kit.foreign_row import BadAnswer, BadRow, Json, Unusable, mapping, text
from brokers.model import (
    Complete,
    Failed,
    Fill,
    Order,
    OrderStatus,
    Partial,
    Position,
    RowProblem,
    SectionName,
    section,
)
from brokers.oanda.decode import (
    OF_THE_ACCOUNT,
    ROW_REMEDY,
    OrderFacts,
    Trade,
    fill_row,
    is_in_utc,
    moment,
    named_by_client,
    order_facts,
    order_row,
    position_rows,
    problem,
    rejected_row,
    trade,
    transaction_id,
)

KEPT_ENDED_ORDERS = 500
"""How many ended orders a reading keeps. AccountDetails lists pending orders only, so AccountChanges reports an end
once; a caller that lost that one snapshot must still see it in the next."""

SECTION_REMEDY = "It is read again in the next cycle; if it goes on, look at OANDA's platform and its status page"

_LISTS = (
    "ordersCreated",
    "ordersCancelled",
    "ordersFilled",
    "ordersTriggered",
    "tradesOpened",
    "tradesReduced",
    "tradesClosed",
    "positions",
    "transactions",
)

# An order created and ended within one period is in two lists; the list of its end comes last and wins.
_ORDER_LISTS = (
    ("ordersCreated", None),
    ("ordersTriggered", None),
    ("ordersCancelled", "CANCELLED"),
    ("ordersFilled", "FILLED"),
)

# Transactions whose whole effect on positions and orders AccountChanges lists. ORDER_CLIENT_EXTENSIONS_MODIFY is not
# one of them: no list names an order whose client id changed. After an unknown type everything is read again, too.
_MERGEABLE = OF_THE_ACCOUNT | {"ORDER_FILL", "ORDER_CANCEL", "ORDER_CANCEL_REJECT"}


class Doubt(Unusable):
    """Changes that cannot be merged with certainty; the text says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the account as of transaction ``last``.

    ``newest`` is the newest broker time that is certainly contained. ``why_no_positions`` and ``why_no_orders`` are set
    where a section is failed. ``ended`` are orders seen to end, oldest first. A ``hedging`` account may hold both legs
    of an instrument.
    """

    last: int
    newest: BrokerTime | None
    positions: Mapping[str, tuple[Position, ...]]
    trades: Mapping[str, Trade]
    pending: Mapping[str, OrderFacts]
    ended: Mapping[str, Order]
    problems: tuple[RowProblem, ...] = ()
    why_no_positions: str | None = None
    why_no_orders: str | None = None
    hedging: bool = False

    @property
    def whole(self) -> bool:
        """Whether everything was read, so that changes can be merged into it."""
        return not self.problems and self.why_no_positions is None and self.why_no_orders is None

    def lost_from(self, known: Reading) -> bool:
        """Whether a leg or a pending order of ``known`` is missing here or has another size. Readings with unread rows
        or failed sections are not compared."""
        if not self.whole:
            return False
        legs = {(leg.instrument, leg.leg): leg.quantity for rows in self.positions.values() for leg in rows}
        before = {(leg.instrument, leg.leg): leg.quantity for rows in known.positions.values() for leg in rows}
        return any(legs.get(key) != quantity for key, quantity in before.items()) or not set(known.pending) <= set(
            self.pending
        )

    def position_section(self) -> Complete[Position] | Partial[Position] | Failed:
        """The legs that are not flat."""
        if self.why_no_positions is not None:
            return Failed(with_remedy(self.why_no_positions, SECTION_REMEDY))
        rows = (leg for legs in self.positions.values() for leg in legs)
        return section(rows, (p for p in self.problems if p.section is SectionName.POSITIONS))

    def order_section(self) -> Complete[Order] | Partial[Order] | Failed:
        """The pending orders, and those seen to end."""
        if self.why_no_orders is not None:
            return Failed(with_remedy(self.why_no_orders, SECTION_REMEDY))
        problems = [p for p in self.problems if p.section is SectionName.ORDERS]
        rows: list[Order] = []
        for facts in self.pending.values():
            try:
                rows.append(order_row(facts, self.trades.get(facts.trade_id or "")))
            except BadRow as why:
                message = with_remedy(f"order {facts.order_id} {why}", ROW_REMEDY)
                problems.append(RowProblem(SectionName.ORDERS, facts.instrument, facts.order_id, message))
        return section([*rows, *self.ended_rows()], problems)

    def ended_rows(self) -> tuple[Order, ...]:
        """The orders seen to end, oldest first. A rejected one does not carry the client id of an order that is pending
        or ended otherwise: a caller that knows the order by that id alone means the one that the broker accepted."""
        named = {facts.client_order_id for facts in self.pending.values()}
        named |= {order.client_order_id for order in self.ended.values() if order.status is not OrderStatus.REJECTED}
        return tuple(
            replace(order, client_order_id=None)
            if order.status is OrderStatus.REJECTED and order.client_order_id in named
            else order
            for order in self.ended.values()
        )


def last_transaction(payload: Json) -> int:
    """The transaction up to which an answer is valid; raises :class:`BadAnswer` when the answer does not name it."""
    try:
        return transaction_id(payload, "lastTransactionID")
    except BadRow as why:
        raise BadAnswer(f"the answer has {why}") from None


def read_details(payload: Json, ended: Mapping[str, Order]) -> Reading:
    """An AccountDetails answer, with the ended orders known before it.

    Raises :class:`BadAnswer` when the answer does not name its account or its last transaction.
    """
    account = payload.get("account")
    if not isinstance(account, dict):
        raise BadAnswer("the answer has no account")
    last = last_transaction(payload)
    if account.get("lastTransactionID") is not None and last_transaction(account) != last:
        raise BadAnswer("the answer names two different last transactions")
    problems: list[RowProblem] = []
    trades = _trades(account)
    positions, why_no_positions = _positions(account, trades, problems)
    pending, why_no_orders = _pending(account, trades, problems)
    return Reading(
        last=last,
        newest=_newest([*_rows(account, "trades"), *_rows(account, "orders")], ("openTime", "createTime")),
        positions=positions,
        trades=trades,
        pending=pending,
        ended={key: order for key, order in ended.items() if key not in pending},
        problems=tuple(problems),
        why_no_positions=why_no_positions,
        why_no_orders=why_no_orders,
        hedging=is_hedging(account),
    )


def is_hedging(account: Json) -> bool:
    """Whether an account may hold both legs of an instrument. OANDA v20 documentation, Account: ``hedgingEnabled``."""
    return account.get("hedgingEnabled") is True


def _rows(fields: Json, key: str) -> list[Any]:
    value = fields.get(key)
    return value if isinstance(value, list) else []


def _newest(rows: Iterable[object], keys: Sequence[str], floor: BrokerTime | None = None) -> BrokerTime | None:
    """The newest readable time. One that cannot be read only makes the result older, which is safe."""
    values = [row[key] for row in rows if isinstance(row, dict) for key in keys if row.get(key) is not None]
    newest = floor
    for value in _latest_texts(values) or values:
        try:
            at = moment(value)
        except BadRow:
            continue
        newest = at if newest is None or at > newest else newest
    return newest


def _latest_texts(values: Sequence[object]) -> tuple[str, ...]:
    """The latest text, where all are times in UTC of one form and length; empty where they are not."""
    if not values or not all(type(value) is str and is_in_utc(value) for value in values):
        return ()
    texts = cast("Sequence[str]", values)
    return (max(texts),) if len({len(text) for text in texts}) == 1 else ()


def _count(account: Json, key: str) -> int | None:
    value = account.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _trades(account: Json) -> dict[str, Trade]:
    """The open trades that can be read; a row that depends on another one reports that itself."""
    found: dict[str, Trade] = {}
    for row in _rows(account, "trades"):
        try:
            lot = trade(row)
        except BadRow:
            continue
        found[lot.trade_id] = lot
    return found


def _positions(
    account: Json, trades: Mapping[str, Trade], problems: list[RowProblem]
) -> tuple[dict[str, tuple[Position, ...]], str | None]:
    if not isinstance(account.get("positions"), list):
        return {}, "the account details came without their list of positions"
    found: dict[str, tuple[Position, ...]] = {}
    twice: set[str] = set()
    unread: list[RowProblem] = []
    for row in account["positions"]:
        try:
            instrument, legs = position_rows(row)
            if found.setdefault(instrument, legs) != legs:
                twice.add(instrument)
                raise BadRow(f"{instrument} is listed twice, differently")
        except BadRow as why:
            unread.append(problem(SectionName.POSITIONS, row, why))
    for instrument in twice:
        del found[instrument]
    problems += unread
    return found, _contradiction(account, found, trades, unread)


def _contradiction(
    account: Json, found: Mapping[str, tuple[Position, ...]], trades: Mapping[str, Trade], unread: Sequence[RowProblem]
) -> str | None:
    """Why the listed positions cannot be all there are, judged by the rest of the same answer.

    ``openPositionCount`` may count a hedged instrument once or by its legs; both are accepted. A count below the listed
    rows proves nothing: a readable row stands for itself.
    """
    legs = {(leg.instrument, leg.leg) for rows in found.values() for leg in rows}
    instruments = {instrument for instrument, _ in legs}
    count = _count(account, "openPositionCount")
    if count is not None and count > len(legs) + 2 * len(unread):
        return f"the account says that it has {count} open positions and lists {len(instruments)}"
    lots = _count(account, "openTradeCount")
    if lots is not None and lots > 0 and not legs and not unread:
        return f"the account says that it has {lots} open trades and lists no open position"
    if not any(row.instrument is None for row in unread):
        unclear = {row.instrument for row in unread}
        for lot in trades.values():
            if lot.units and lot.instrument not in unclear and (lot.instrument, lot.leg) not in legs:
                return (
                    f"trade {lot.trade_id} is open in {lot.instrument} {lot.leg}, which is listed as flat or not at all"
                )
    return None


def _pending(
    account: Json, trades: Mapping[str, Trade], problems: list[RowProblem]
) -> tuple[dict[str, OrderFacts], str | None]:
    if not isinstance(account.get("orders"), list):
        return {}, "the account details came without their list of orders"
    found: dict[str, OrderFacts] = {}
    for row in account["orders"]:
        try:
            facts = order_facts(row, hedging=is_hedging(account))
            if facts.state not in {"PENDING", "TRIGGERED"}:
                continue
            if facts.units is None:
                order_row(facts, trades.get(facts.trade_id or ""))  # it depends on a trade, which must be known
            known = found.setdefault(facts.order_id, facts)
            if known is not facts and known != facts:
                raise BadRow(f"order {facts.order_id} is listed twice, differently")
        except BadRow as why:
            problems.append(problem(SectionName.ORDERS, row, why))
    count = _count(account, "pendingOrderCount")
    if count is not None and count > len(account["orders"]):
        return found, f"the account says that it has {count} pending orders and lists {len(account['orders'])}"
    return found, None


@dataclass(frozen=True, slots=True)
class Merged:
    """An updated reading, and the transactions that updated it."""

    reading: Reading
    transactions: tuple[Json, ...]


def merge(known: Reading, payload: Json, account_id: str) -> Merged:
    """An AccountChanges answer since ``known.last``, merged. Raises :class:`Doubt`."""
    try:
        return _merge(known, payload, account_id)
    except (BadRow, BadAnswer) as why:
        raise Doubt(str(why)) from None


def _merge(known: Reading, payload: Json, account_id: str) -> Merged:
    last = last_transaction(payload)
    changes = mapping(payload.get("changes"), "changes")
    for key in _LISTS:
        if not isinstance(changes.get(key), list):
            raise Doubt(f"the changes came without {key}")
    transactions = _transactions(changes["transactions"], known.last, last, account_id)
    if not transactions and any(changes[key] for key in _LISTS):
        raise Doubt("there are changes without a transaction")
    fills = {_order_of(row): fill_row(row) for row in transactions if row["type"] == "ORDER_FILL"}
    cancels = {_order_of(row): row for row in transactions if row["type"] == "ORDER_CANCEL"}
    if len(fills) != sum(row["type"] == "ORDER_FILL" for row in transactions):
        raise Doubt("an order has several fills")
    changed = dict(position_rows(row) for row in changes["positions"])
    for fill in fills.values():
        if fill.instrument not in changed:
            raise Doubt(f"fill {fill.fill_id} is not in the changed positions")
    trades, closed = _merge_trades(known, changes)
    pending, ended = _merge_orders(known, changes, {**closed, **trades, **known.trades}, fills, cancels)
    _check_orders_shown(transactions, pending, ended)
    ended.update(_rejections(transactions))
    return Merged(
        Reading(
            last=last,
            newest=_newest(transactions, ("time",), known.newest),
            positions={**known.positions, **changed},
            trades=trades,
            pending=pending,
            ended=_newest_kept(ended),
            hedging=known.hedging,
        ),
        transactions,
    )


def _order_of(transaction: Json) -> str:
    return text(transaction, "orderID")


def _transactions(rows: Sequence[object], since: int, last: int, account_id: str) -> tuple[Json, ...]:
    """Every transaction after ``since`` up to ``last``, without a gap (ids of an account are consecutive)."""
    if last < since:
        raise Doubt(f"the last transaction is {last}, and {since} was already read")
    found = tuple(mapping(row, "a transaction") for row in rows)
    if len(found) != last - since or [transaction_id(row, "id") for row in found] != list(range(since + 1, last + 1)):
        raise Doubt(f"the transactions from {since + 1} to {last} are not all there")
    for row in found:
        kind = text(row, "type")
        if kind not in _MERGEABLE and not kind.endswith(("_ORDER", "_ORDER_REJECT")):
            raise Doubt(f"a {kind} may have changed what no list of changes shows")
        if row.get("accountID", account_id) != account_id:
            raise Doubt("a transaction is of another account")
    return found


def _merge_trades(known: Reading, changes: Json) -> tuple[dict[str, Trade], dict[str, Trade]]:
    """The open trades, and those that closed."""
    trades = dict(known.trades)
    for key in ("tradesOpened", "tradesReduced"):
        for row in changes[key]:
            lot = trade(row)
            trades[lot.trade_id] = lot
    closed = {lot.trade_id: lot for lot in map(trade, changes["tradesClosed"])}
    return {key: lot for key, lot in trades.items() if key not in closed and lot.units}, closed


def _merge_orders(
    known: Reading, changes: Json, trades: Mapping[str, Trade], fills: Mapping[str, Fill], cancels: Mapping[str, Json]
) -> tuple[dict[str, OrderFacts], dict[str, Order]]:
    pending, ended = dict(known.pending), dict(known.ended)
    for key, end in _ORDER_LISTS:
        for row in changes[key]:
            facts = order_facts(row, hedging=known.hedging)
            if end is not None and facts.state != end:
                raise Doubt(f"order {facts.order_id} is among {key} and has state {facts.state}")
            if facts.state in {"PENDING", "TRIGGERED"}:
                if facts.order_id not in ended:
                    pending[facts.order_id] = facts
                continue
            fill, cancel = fills.get(facts.order_id), cancels.get(facts.order_id)
            if (fill if facts.state == "FILLED" else cancel) is None:
                raise Doubt(f"order {facts.order_id} is {facts.state} without a transaction that shows how")
            pending.pop(facts.order_id, None)
            ended[facts.order_id] = order_row(facts, trades.get(facts.trade_id or ""), fill, cancel)
    return pending, ended


def _check_orders_shown(
    transactions: Iterable[Json], pending: Mapping[str, OrderFacts], ended: Mapping[str, Order]
) -> None:
    """Check that every order that a transaction created or ended is among the changed ones."""
    for row in transactions:
        kind = row["type"]
        if kind in {"ORDER_FILL", "ORDER_CANCEL"} and _order_of(row) not in ended:
            raise Doubt(f"the end of order {_order_of(row)} is not in the changed orders")
        if kind.endswith("_ORDER") and row["id"] not in pending and row["id"] not in ended:
            raise Doubt(f"order {row['id']} was created and is not in the changed orders")


def with_rejections(reading: Reading, transactions: Iterable[object]) -> Reading:
    """The same, with the orders that these transactions, read without any changes, refused to create."""
    found = _rejections(transactions)
    return replace(reading, ended=_newest_kept({**found, **reading.ended})) if found else reading


def _newest_kept(ended: Mapping[str, Order]) -> dict[str, Order]:
    return dict(islice(ended.items(), max(0, len(ended) - KEPT_ENDED_ORDERS), None))


def _rejections(transactions: Iterable[object]) -> dict[str, Order]:
    """Orders that were refused at creation. An order without units of its own (it depended on a trade) is left out: it
    never worked, and nobody waits for it under that id. A rejected order does not carry a client id with which another
    of these transactions created an order."""
    found: dict[str, Order] = {}
    created: set[str | None] = set()
    for row in transactions:
        try:
            fields = mapping(row, "a transaction")
            kind = text(fields, "type")
            if kind.endswith("_ORDER"):
                created.add(named_by_client(fields))
            elif kind.endswith("_ORDER_REJECT") and fields.get("units") is not None:
                order = rejected_row(fields)
                found[order.broker_order_id] = order
        except BadRow:
            continue  # it refused or created something that can still be looked up by its id
    return {
        key: replace(order, client_order_id=None) if order.client_order_id in created else order
        for key, order in found.items()
    }
