"""A book at a past moment, what the broker had reported by then, and what changed between two moments and why. Pure.

The laws of this module:

* A book at a moment is a fold of a prefix of its stream: everything up to the last event that is not later than the
  moment. If a clock went back in between, earlier events that look later are part of it, and the answer states this.
* Records that start with neither a stream's first event nor a checkpoint give no book: unknown is not flat.
* The journal shows what the broker reported, each statement with its time. Silence proves nothing about a position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from actors.book.book import Book
from actors.book.break_work import WORK_EVENTS
from actors.book.checkpoint import replay
from actors.book.discrepancies import Correction, DiscrepancyType
from actors.book.in_step import proofs, still_proven
from actors.book.orders import BookOrder
from actors.book.unreadable import UNUSABLE, UnreadableRecord
from actors.events import Event, EventType, Json, Record, from_iso, to_text
from brokers.frozen import dataclass
from brokers.model import Completeness

_STATEMENTS_AT_MOST = 20
_IDLE_AT_MOST = 5
_FILLS = frozenset({EventType.FILL_RECORDED, EventType.ORDER_FILLED})
_POSITION_PHASES = frozenset({"RECOVERY", "GHOST", "DRIFT"})
_REPORTED = frozenset({EventType.ORDER_RECORDED, EventType.FILL_RECORDED, EventType.POSITION_RECORDED})
_FOUND = frozenset({EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED})
_ORDERS = frozenset(
    {EventType.ORDER_UPDATED, EventType.ORDER_CANCELLED, EventType.ORDER_EXPIRED, EventType.ORDER_REJECTED}
)
_CORRECTING = _ORDERS | {EventType.ORDER_FILLED, EventType.POSITION_SYNCED}
_FROM_BROKER = frozenset({EventType.RECONCILED, EventType.COMMISSION_REPORTED, EventType.FILL_RESTATED})
_BY_OPERATOR = frozenset({EventType.OPERATOR_ACTION, EventType.TRADING_HALTED, EventType.TRADING_RESUMED}) | WORK_EVENTS


class Incomplete(Exception):
    """Records of a stream are missing, so that no book can be folded from the rest."""

    def __init__(self, stream: str, found: str) -> None:
        super().__init__(stream, found)
        self.stream = stream
        self.found = found

    def __str__(self) -> str:
        return f"the records of {self.stream} give no book: {self.found}"


@dataclass(frozen=True, slots=True)
class BrokerStatement:
    """The broker's last known statement about one subject (``position long``, ``order 17``).

    ``at`` is the broker's time if known, else ours; ``seq`` is the record that contains it. ``title`` is shown instead
    of the subject where the subject alone is unclear.
    """

    subject: str
    words: str
    at: datetime
    seq: int
    title: str | None = None


@dataclass(frozen=True, slots=True)
class BookAt:
    """A book at a moment. ``last`` is the record the fold ends with; ``None`` means that nothing was recorded by then,
    so the book is unknown. ``clock_went_back``: the fold contains events that look later than the moment. ``idle`` are
    the newest fills in the fold that changed nothing. ``verified_at`` is the last time up to the moment at which the
    journal proves that the book was in step with its broker."""

    at: datetime
    book: Book
    last: Record | None
    statements: tuple[BrokerStatement, ...]
    clock_went_back: bool = False
    idle: tuple[Record, ...] = ()
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One value of a book before and after, as text; ``None`` where it did not exist."""

    subject: str
    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Explained:
    """A record with who caused it, and why."""

    record: Record
    who: str
    why: str


def up_to(records: Sequence[Record], at: datetime) -> Sequence[Record]:
    """The records up to the last one that is not later than a moment."""
    end = next((place for place in range(len(records), 0, -1) if records[place - 1].event.time <= at), 0)
    return records[:end]


def book_at(
    account: str,
    instrument: str,
    records: Sequence[Record],
    at: datetime,
    earlier: Sequence[Record] = (),
    named: Iterable[Record] = (),
) -> BookAt:
    """The book at a moment. ``records`` are those of its stream in order, from the first or from a checkpoint, at
    least to the moment; ``earlier`` ones only add earlier statements of the broker; ``named`` are those of its account
    that name it as in step. Raises :class:`Incomplete` if one of ``records`` is missing, and
    :class:`UnreadableRecord`."""
    chosen = up_to(records, at)
    _check_whole(f"{account}/{instrument}", chosen)
    book = replay(account, instrument, chosen)
    of_it = [one for record in named for one in proofs(record) if one.stream == book.stream]
    proven = still_proven(book, chosen, of_it, at)
    heard = {record.seq: record for record in (*earlier, *chosen, *(one.record for one in proven))}
    return BookAt(
        at=at,
        book=book,
        last=chosen[-1] if chosen else None,
        statements=statements_of(heard[seq] for seq in sorted(heard)),
        clock_went_back=any(record.event.time > at for record in chosen),
        idle=tuple(record for record in chosen if record.event.type in _FILLS and without_effect(record.event.payload))[
            -_IDLE_AT_MOST:
        ],
        verified_at=max((one.at for one in proven), default=book.reconciled_at),
    )


def without_effect(payload: Mapping[str, Json]) -> str | None:
    """Why a fill in the journal changed no position; ``None`` if it did, or still may."""
    if payload.get("counted") is False:
        return "the book had it already"
    if payload.get("legs") == [] and not (payload.get("replaces") or payload.get("pending") or payload.get("corrects")):
        return "the positions, as the book was last set to them, contain it"
    return None


def _check_whole(stream: str, records: Sequence[Record]) -> None:
    if not records:
        return
    first = records[0]
    if first.version != 1 and first.event.type is not EventType.CHECKPOINT:
        raise Incomplete(stream, f"they begin at version {first.version}, which is not a checkpoint")
    for version, record in enumerate(records, first.version):
        if record.version != version:
            raise Incomplete(stream, f"version {version} is missing before record {record.seq}")


# What the broker reported


def statements_of(records: Iterable[Record]) -> tuple[BrokerStatement, ...]:
    """The broker's last statement about each subject according to these records, newest first. Raises
    :class:`UnreadableRecord`."""
    last: dict[str, BrokerStatement] = {}
    given_up_at: datetime | None = None
    for record in records:
        event = record.event
        if event.type in _FOUND and event.payload.get("correction") == Correction.GIVE_UP_ORDER:
            given_up_at = event.time
        elif event.type is EventType.ORDER_CANCELLED and event.time == given_up_at:
            continue  # our own conclusion, because the broker does not know the order
        try:
            said = tuple(_statements(record))
        except UNUSABLE as error:
            raise UnreadableRecord.of(record, error) from error
        for statement in said:
            last.pop(statement.subject, None)
            last[statement.subject] = statement
    return tuple(reversed(last.values()))[:_STATEMENTS_AT_MOST]


def _statements(record: Record) -> Iterator[BrokerStatement]:
    event, payload = record.event, record.event.payload
    match event.type:
        case EventType.POSITION_SYNCED:
            words = f"{payload['quantity']} @ {payload['average_price']}" if payload["quantity"] != "0" else "nothing"
            yield BrokerStatement(f"position {payload['leg']}", words, from_iso(str(payload["watermark"])), record.seq)
        case EventType.RECONCILED:
            names = ("positions", "orders", "fills")
            sections = ", ".join(f"{name} {payload[name]}" for name in names)
            compared = [name for name in names if payload[name] != Completeness.UNSUPPORTED]
            subject = "everything" if len(compared) == len(names) else " and ".join(compared)
            yield BrokerStatement(
                subject, f"the same as the book ({sections})", from_iso(str(payload["as_of"])), record.seq
            )
        case EventType.ORDER_FILLED | EventType.FILL_RESTATED if not (
            payload.get("inferred") or payload.get("assumed")
        ):
            words = f"{payload['side']} {payload['quantity']} @ {payload['price']}, {payload['fill_id']}"
            yield BrokerStatement("last fill", words, from_iso(str(payload["time"])), record.seq)
        case EventType.COMMISSION_REPORTED:
            words = f"{payload['commission']} {payload['commission_currency'] or ''}".rstrip()
            yield BrokerStatement("last commission", f"{words}, {payload['fill_id']}", event.time, record.seq)
        case EventType.RECONCILIATION_DISCREPANCY if "key" in payload:
            yield from _statements_in_discrepancy(record)
        case EventType.DISCREPANCY_RESOLVED if payload.get("correction"):  # else it repeats the first statement
            yield from _statements_in_discrepancy(record)
        case kind if kind in _ORDERS and isinstance(payload.get("order"), dict):
            order: Any = payload["order"]
            words = f"{order['status']}, filled {order['filled_quantity']} of {order['quantity']}"
            yield BrokerStatement(f"order {_order_name(order)}", words, event.time, record.seq)


def _statements_in_discrepancy(record: Record) -> Iterator[BrokerStatement]:
    payload = record.event.payload
    value, key = payload.get("broker_value"), payload["key"]
    phase = payload.get("phase")
    if phase in _POSITION_PHASES:
        price = "average price " if payload.get("type") == "PRICE_MISMATCH" else ""
        words = "nothing" if value is None else f"{price}{value}"
        yield BrokerStatement(f"position {key}", words, record.event.time, record.seq)
    elif phase == "ORDERS":
        yield BrokerStatement(
            f"order {key}", "nothing of it" if value is None else str(value), record.event.time, record.seq
        )
    elif value is not None:
        kind = str(payload.get("type"))
        title = f"missed fill of order {key}" if kind == DiscrepancyType.MISSED_FILL else f"{kind} {key}"
        yield BrokerStatement(str(key), str(value), record.event.time, record.seq, title)


def _order_name(order: Mapping[str, Any]) -> str:
    return str(order.get("broker_order_id") or order.get("client_order_id") or order["key"])


# What changed


def changes(before: Book, after: Book) -> tuple[Change, ...]:
    """Every value that differs between two books of one instrument: legs, orders, open breaks."""
    rows_before, rows_after = _values(before), _values(after)
    subjects = dict.fromkeys([*rows_before, *rows_after])
    found = []
    for subject in subjects:
        old, new = rows_before.get(subject, {}), rows_after.get(subject, {})
        found += [
            Change(subject, field, old.get(field), new.get(field))
            for field in dict.fromkeys([*old, *new])
            if old.get(field) != new.get(field)
        ]
    return tuple(found)


def _values(book: Book) -> dict[str, dict[str, str | None]]:
    values: dict[str, dict[str, str | None]] = {}
    for leg in book.legs.values():
        values[f"leg {leg.name}"] = {
            "quantity": to_text(leg.quantity),
            "average_price": to_text(leg.average_price),
        }
    for order in book.orders.values():
        values[f"order {order.broker_order_id or order.client_order_id or order.key}"] = _order_values(order)
    for found in book.breaks.values():
        values[f"break {found.type} {found.key}"] = {
            "severity": found.severity.value,
            "book_value": found.book_value,
            "broker_value": found.broker_value,
        }
    return values


def _order_values(order: BookOrder) -> dict[str, str | None]:
    return {
        "status": order.status.value,
        "side": order.side.value,
        "quantity": to_text(order.quantity),
        "filled_quantity": to_text(order.filled_quantity),
        "limit_price": to_text(order.limit_price),
    }


# Who and why


def explained(records: Iterable[Record]) -> Iterator[Explained]:
    """Each record with who caused it and why. Records of several streams may be mixed; those of one stream are in its
    order."""
    found: dict[str, Event] = {}
    for record in records:
        event = record.event
        if event.type in _FOUND:
            found[record.stream] = event
        # A correction follows its discrepancy in the same pass, and so has the same time.
        cause = found.get(record.stream)
        if cause is not None and cause.time != event.time:
            cause = None
        yield Explained(record, who(event), why(event, cause))


def who(event: Event) -> str:
    """Who caused an event: a strategy or our own side, the reconciliation, an operator, the system."""
    payload = event.payload
    if event.type in _REPORTED:
        order = payload.get("order")
        strategy = payload.get("strategy") or (order.get("strategy") if isinstance(order, dict) else None)
        return f"strategy {strategy}{_person(payload)}" if strategy else f"our side{_person(payload)}"
    if payload.get("phase") == "SELF_CHECK":
        return "self-check"
    if event.type in _CORRECTING or event.type in _FOUND or event.type in _FROM_BROKER:
        asked = ", ".join(person_behind(payload))
        return f"reconciliation, asked for by {asked}" if asked else "reconciliation"
    named = event.type in _BY_OPERATOR or payload.get("by")
    return f"operator{_person(payload, strategy=True)}" if named else "system"


def person_behind(payload: Mapping[str, Json], *, strategy: bool = True) -> tuple[str, ...]:
    """Who caused an event, or requested the check that found it, as far as known: the user and machine, the process,
    the strategy."""
    asked = payload.get("asked")
    origin = asked if isinstance(asked, dict) else payload if payload.get("by") else {}
    by, process, named = (origin.get(key) for key in ("by", "process", "strategy"))
    words = (by, f"process {process}" if process else None, f"strategy {named}" if named and strategy else None)
    return tuple(str(one) for one in words if one)


def _person(payload: Mapping[str, Json], *, strategy: bool = False) -> str:
    """The same in brackets, if known: `` (alice@desk, process 4711 trade.py)``."""
    words = ", ".join(person_behind(payload, strategy=strategy))
    return f" ({words})" if words else ""


def why(event: Event, cause: Event | None = None) -> str:
    """Why an event happened, as far as the journal shows; ``cause`` is the discrepancy of the same pass, if any."""
    payload = event.payload
    after = f", after a {payload['trade']}" if payload.get("trade") else ""
    if event.type in _REPORTED:
        return f"it was reported to us{after}"
    if payload.get("phase") == "SELF_CHECK":
        return "the book in memory and its journal differed"
    if event.type in _FOUND:
        return f"{payload.get('cause') or 'the two sides differed'}{after}"
    if event.type is EventType.RECONCILED:
        return f"both sides were the same{after}"
    if event.type is EventType.FILL_RESTATED:
        by = "the broker's positions" if payload.get("assumed") else "the broker's own report"
        return f"{by} replaced what was assumed about the fill{after}"
    if event.type is EventType.COMMISSION_REPORTED:
        return f"the broker reported it after the fill{after}"
    if event.type in _CORRECTING:
        return f"{_cause_words(payload, cause)}{after}"
    reason = payload.get("reason")
    return str(reason) if reason else ""


def _cause_words(payload: Mapping[str, Json], cause: Event | None) -> str:
    named = payload.get("cause")
    if cause is None or cause.payload.get("correction") is None:
        return f"the broker said so ({named})" if named else "the broker said so"
    found = cause.payload
    book, broker = (found.get(side) for side in ("book_value", "broker_value"))
    sides = f"book {'nothing' if book is None else book}, broker {'nothing' if broker is None else broker}"
    return f"{found.get('type')} {found.get('key')}: {sides}, {found.get('cause') or named or 'no cause known'}"
