"""Converts between event payloads and the types that the fold uses. Each pair of functions is one shape of payload.

The laws of this module: a written payload is read back equal; a key that is absent in an older record reads as its
default; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from actors.book.discrepancies import Break, Cause, Correction, DiscrepancyType, Phase
from actors.book.lots import ZERO, Closed, Leg, Lot
from actors.book.orders import BookOrder, Inferred
from actors.book.unreadable import count_of, flag_of, rows_of, text_of, text_or_none, texts_of
from actors.events import Event, Json, Severity, broker_time_from_iso, from_iso, to_iso, to_text
from brokers.clocks import BrokerTime, broker_time
from brokers.frozen import dataclass
from brokers.model import ContractFacts, Corrected, CostBasis, Fill, OrderStatus, Side, is_provisional, scoped_id
from brokers.versions import across_versions

Document = dict[str, Json]


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _time(value: Any) -> datetime | None:
    return None if value is None else from_iso(value)


def _broker_time(value: Any) -> BrokerTime | None:
    return None if value is None else broker_time_from_iso(value)


def _iso(value: datetime | BrokerTime | None) -> str | None:
    return None if value is None else to_iso(value)


# Orders


def order_to(order: BookOrder) -> Document:
    """An order as JSON. Fields that few orders have are left out when empty."""
    document: Document = {
        "key": order.key,
        "broker_order_id": order.broker_order_id,
        "client_order_id": order.client_order_id,
        "side": order.side.value,
        "quantity": to_text(order.quantity),
        "status": order.status.value,
        "filled_quantity": to_text(order.filled_quantity),
        "notional": to_text(order.notional),
        "order_type": order.order_type,
        "limit_price": to_text(order.limit_price),
        "submitted_at": _iso(order.submitted_at),
        "leg": order.leg,
        "strategy": order.strategy,
        "reason": order.reason,
        "adopted": to_text(order.adopted),
        "inferred": [[i.fill_id, to_text(i.quantity), to_text(i.price)] for i in order.inferred],
        "local_at": _iso(order.local_at),
        "ended_at": _iso(order.ended_at),
        "told_at": _iso(order.updated_at),
        "filled_at": _iso(order.filled_at),
        "adopted_at": _iso(order.adopted_at),
        "recorded_at": _iso(order.recorded_at),
        "replaced_by": order.replaced_by,
        "taken_back": to_text(order.taken_back),
    }
    if order.since:
        document["since"] = order.since
    if order.slices:
        document["slices"] = list(order.slices)
    if order.parent is not None:
        document["parent"] = order.parent
    if order.expires_at is not None:
        document["expires_at"] = _iso(order.expires_at)
    if order.lowered_by:
        document["lowered_by"] = to_text(order.lowered_by)
    if order.group is not None:
        document["group"] = order.group
    if order.trigger_price is not None:
        document["trigger_price"] = to_text(order.trigger_price)
    return document


OPEN_ORDER = ("broker_order_id", "client_order_id", "side", "quantity", "filled_quantity", "status")
"""The keys of each working order in an answer."""


def order_view(order: BookOrder, *more: str) -> Document:
    """The keys :data:`OPEN_ORDER` and ``more`` of the document that :func:`order_to` writes."""
    document = order_to(order)
    return {key: document[key] for key in (*OPEN_ORDER, *more)}


def order_from(data: Any) -> BookOrder:
    """The order that :func:`order_to` wrote."""
    return BookOrder(
        key=text_of(data["key"]),
        broker_order_id=text_or_none(data["broker_order_id"]),
        client_order_id=text_or_none(data["client_order_id"]),
        side=Side(data["side"]),
        quantity=Decimal(data["quantity"]),
        status=OrderStatus(data["status"]),
        filled_quantity=Decimal(data["filled_quantity"]),
        notional=Decimal(data["notional"]),
        order_type=text_of(data["order_type"]),
        limit_price=_decimal(data["limit_price"]),
        submitted_at=_time(data["submitted_at"]),
        leg=text_or_none(data["leg"]),
        strategy=text_or_none(data["strategy"]),
        reason=text_or_none(data["reason"]),
        adopted=Decimal(data["adopted"]),
        inferred=tuple(Inferred(text_of(i[0]), Decimal(i[1]), Decimal(i[2])) for i in rows_of(data["inferred"])),
        local_at=_time(data["local_at"]),
        ended_at=_time(data["ended_at"]),
        updated_at=_time(data.get("told_at")),
        filled_at=_time(data.get("filled_at")),
        adopted_at=_broker_time(data.get("adopted_at")),
        recorded_at=_time(data.get("recorded_at")),
        replaced_by=text_or_none(data.get("replaced_by")),
        taken_back=Decimal(data.get("taken_back", "0")),
        since=count_of(data.get("since", 0)),
        slices=texts_of(data.get("slices", [])),
        parent=text_or_none(data.get("parent")),
        expires_at=_broker_time(data.get("expires_at")),
        lowered_by=Decimal(data.get("lowered_by", "0")),
        group=text_or_none(data.get("group")),
        trigger_price=_decimal(data.get("trigger_price")),
    )


# Fills


@across_versions
@dataclass(frozen=True, slots=True)
class BookedFill:
    """A fill and its effect on the book, decided when it was journaled.

    ``legs`` are the signed quantities it adds to each leg: none if a correction already contains it. ``replaces`` are
    the parts of inferred fills it replaces; ``adopted`` is how much of it was counted in the order before we knew the
    order. Of a fill that is not ``counted`` only the id is kept: the order already had all of it, under other ids. A
    fill that ``corrects`` another changes the book by the difference; if the book never had the other one (a quantity
    of 0), the correction counts like any fill, and the other one never does. ``cost`` is the part of its commission in
    the broker's average price, per unit; ``None`` if the average contains none or it is unknown. ``closed`` is what an
    assumed fill takes out of legs, or what a correction gives back to them. ``within`` are the legs whose position our
    side reported while the fill was ``pending``: they already contain it.
    """

    fill_id: str
    order_key: str | None
    side: Side
    quantity: Decimal
    price: Decimal
    time: BrokerTime
    legs: tuple[tuple[str, Decimal], ...]
    cost_basis: CostBasis
    replaces: tuple[tuple[str, Decimal], ...] = ()
    adopted: Decimal = ZERO
    inferred: bool = False
    counted: bool = True
    broker_order_id: str | None = None
    cause: Cause | None = None
    strategy: str | None = None
    commission: Decimal | None = None
    commission_currency: str | None = None
    corrects: Corrected | None = None
    cost: Decimal | None = None
    id_scope: str = ""
    pending: bool = False
    closed: tuple[Closed, ...] = ()
    within: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The id that distinguishes it from every other fill of its book."""
        return scoped_id(self.fill_id, self.id_scope) if self.id_scope else self.fill_id

    @property
    def before(self) -> tuple[Decimal, Decimal]:
        """Quantity and notional that the book already has, from the fill it corrects."""
        was = self.corrects
        return (was.quantity, was.quantity * was.price) if was is not None else (ZERO, ZERO)


@dataclass(slots=True)
class FillSource:
    """The fill that an event's payload was built from, and its order before and after the event was applied. When the
    same event is applied to the same order again, the result is reused."""

    fill: BookedFill
    before: BookOrder | None = None
    after: BookOrder | None = None


def booked_fill_to(fill: BookedFill) -> Document:
    """A fill and its effect as JSON. The cost, the scope of the id, ``pending``, ``within`` and ``closed`` are left out
    when empty."""
    document: Document = {
        "fill_id": fill.fill_id,
        "order_key": fill.order_key,
        "broker_order_id": fill.broker_order_id,
        "side": str(fill.side),
        "quantity": to_text(fill.quantity),
        "price": to_text(fill.price),
        "time": to_iso(fill.time),
        "legs": [[name, to_text(quantity)] for name, quantity in fill.legs],
        "cost_basis": str(fill.cost_basis),
        "replaces": [[name, to_text(quantity)] for name, quantity in fill.replaces],
        "adopted": to_text(fill.adopted),
        "inferred": fill.inferred,
        "counted": fill.counted,
        "cause": None if fill.cause is None else str(fill.cause),
        "strategy": fill.strategy,
        "commission": to_text(fill.commission),
        "commission_currency": fill.commission_currency,
        "corrects": None if (was := fill.corrects) is None else _corrected_to(was),
    }
    if fill.cost is not None:
        document["cost"] = to_text(fill.cost)
    if fill.id_scope:
        document["id_scope"] = fill.id_scope
    if fill.pending:
        document["pending"] = True
    if fill.within:
        document["within"] = list(fill.within)
    if fill.closed:
        document["closed"] = [
            [one.leg, to_text(one.average_price), to_text(one.cost), _lots_to(one.lots)] for one in fill.closed
        ]
    return document


def _corrected_to(was: Corrected) -> Document:
    document: Document = {"fill_id": was.fill_id, "quantity": to_text(was.quantity), "price": to_text(was.price)}
    if was.id_scope:
        document["id_scope"] = was.id_scope
    return document


def commission_to(fill: Fill, strategy: str | None, cost: Decimal | None = None) -> Document:
    """The commission of a fill that was journaled without one, as JSON; with the same keys as in the fill's event."""
    document: Document = {
        "fill_id": fill.fill_id,
        "broker_order_id": fill.broker_order_id,
        "strategy": strategy,
        "commission": to_text(fill.commission),
        "commission_currency": fill.commission_currency,
    }
    if cost is not None:
        document["cost"] = to_text(cost)
    if fill.id_scope:
        document["id_scope"] = fill.id_scope
    return document


def booked_fill_from(data: Mapping[str, Any]) -> BookedFill:
    """The fill that :func:`booked_fill_to` wrote."""
    return BookedFill(
        fill_id=text_of(data["fill_id"]),
        order_key=text_or_none(data["order_key"]),
        side=Side(data["side"]),
        quantity=Decimal(data["quantity"]),
        price=Decimal(data["price"]),
        time=broker_time_from_iso(data["time"]),
        legs=tuple((text_of(name), Decimal(quantity)) for name, quantity in rows_of(data["legs"])),
        cost_basis=CostBasis(data["cost_basis"]),
        replaces=tuple((text_of(name), Decimal(quantity)) for name, quantity in rows_of(data["replaces"])),
        adopted=Decimal(data["adopted"]),
        inferred=flag_of(data["inferred"]),
        counted=flag_of(data["counted"]),
        broker_order_id=text_or_none(data["broker_order_id"]),
        cause=None if data["cause"] is None else Cause(data["cause"]),
        strategy=text_or_none(data["strategy"]),
        commission=_decimal(data.get("commission")),
        commission_currency=text_or_none(data.get("commission_currency")),
        corrects=_corrected(data.get("corrects")),
        cost=_decimal(data.get("cost")),
        id_scope=text_of(data.get("id_scope", "")),
        pending=flag_of(data.get("pending", False)),
        within=texts_of(data.get("within", [])),
        closed=tuple(
            Closed(text_of(leg), Decimal(average), Decimal(cost), tuple(_lots_from(lots)))
            for leg, average, cost, lots in rows_of(data.get("closed", []))
        ),
    )


def _corrected(data: Any) -> Corrected | None:
    if data is None:
        return None
    fill_id, id_scope = text_of(data["fill_id"]), text_of(data.get("id_scope", ""))
    return Corrected(fill_id, Decimal(data["quantity"]), Decimal(data["price"]), id_scope)


@across_versions
@dataclass(frozen=True, slots=True)
class ReportedFill:
    """A fill as our side reported it ``at`` our time. Until the broker reports it too, its order, side, quantity, price
    and legs are assumed."""

    fill: BookedFill
    at: datetime


def reported_to(reported: ReportedFill) -> Document:
    """A reported fill as JSON."""
    return {"at": to_iso(reported.at), "fill": booked_fill_to(reported.fill)}


def reported_from(data: Mapping[str, Any]) -> ReportedFill:
    """The reported fill that :func:`reported_to` wrote."""
    return ReportedFill(booked_fill_from(data["fill"]), from_iso(data["at"]))


def restated_to(fill: BookedFill, was: BookedFill, *, assumed: bool, names_order: str | None = None) -> Document:
    """A fill that replaces what was assumed about it, as JSON. If it is itself still ``assumed``, the broker's report
    replaces it in turn. ``names_order`` is the broker_order_id of its order as the broker reported it, which records of
    an earlier version lack."""
    document = {**booked_fill_to(fill), "was": booked_fill_to(was), "assumed": assumed}
    return document if names_order is None else document | {"names_order": names_order}


# Positions


def position_to(
    leg: str,
    quantity: Decimal,
    price: Decimal,
    watermark: BrokerTime | None,
    correction: Correction | None,
    ratio: Decimal | None = None,
) -> Document:
    """The new state of a leg, and the broker time up to which it contains fills: ``None`` in a report of ours, which
    has no broker time. Lots that it opens have the same time. After a split, ``ratio`` is new units per old one, and
    the lots are scaled by it."""
    document: Document = {
        "leg": leg,
        "quantity": to_text(quantity),
        "average_price": to_text(price),
        "watermark": _iso(watermark),
        "correction": None if correction is None else correction.value,
    }
    if watermark is not None:
        document[OPENED_AT] = document["watermark"]
    if ratio is not None:
        document["ratio"] = to_text(ratio)
    return document


OPENED_AT = "opened_at"
"""The key of the broker's time of the lots that a position opens."""


def opened_at_in(data: Mapping[str, Any], watermark: BrokerTime | None, recorded_at: datetime) -> BrokerTime:
    """The time of the lots that a position opens. In a report of ours, and in records of an earlier version, it is the
    time of the record instead of the broker's."""
    opened_at = data.get(OPENED_AT)
    if opened_at is None:
        return broker_time(recorded_at)
    return watermark if watermark is not None and opened_at == data["watermark"] else broker_time_from_iso(opened_at)


WAITING = "waiting"
"""The key under which a position that our side reported lists the fills that waited for their leg at the time."""


def waiting_in(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the fills that waited for their leg when a position was reported; none in records of an earlier
    version."""
    return texts_of(data.get(WAITING, []))


def claim_to(leg: str, quantity: Decimal, price: Decimal, watermark: BrokerTime, at: datetime | None) -> Document:
    """A leg as a book kept elsewhere has it, by its row of time ``at``; ``None`` if it has no row of the leg."""
    claimed_at = None if at is None else to_iso(at)
    return {**position_to(leg, quantity, price, watermark, None), "claimed_at": claimed_at}


def is_claim(data: Mapping[str, Any]) -> bool:
    """Whether a recorded position came from a book kept elsewhere."""
    return "claimed_at" in data


def claimed_at(data: Mapping[str, Any]) -> datetime | None:
    """The time of the row that set a leg; ``None`` if no row did."""
    found = data.get("claimed_at")
    return None if found is None else from_iso(found)


def position_from(data: Mapping[str, Any]) -> tuple[str, Decimal, Decimal, BrokerTime | None]:
    """Leg, quantity, average price and watermark, as :func:`position_to` wrote them."""
    leg, quantity, price = text_of(data["leg"]), Decimal(data["quantity"]), Decimal(data["average_price"])
    return leg, quantity, price, _broker_time(data["watermark"])


def move_to(
    source: str,
    target: str,
    moved: Decimal,
    quantity: Decimal,
    price: Decimal,
    watermark: BrokerTime,
    cause: Cause,
) -> Document:
    """A signed quantity that moves from one leg to another, which then holds ``quantity``. ``price`` is the average
    price it was held at."""
    document = position_to(target, quantity, price, watermark, Correction.MOVE_POSITION)
    document["moved"] = to_text(moved)
    document["moved_from"] = source
    document["cause"] = cause.value
    return document


def move_from(data: Mapping[str, Any]) -> tuple[str, str, Decimal, Decimal, BrokerTime] | None:
    """Source, target, quantity, price and watermark, as :func:`move_to` wrote them; ``None`` where nothing moved."""
    if "moved_from" not in data:
        return None
    moved, price = Decimal(data["moved"]), Decimal(data["average_price"])
    source, target = text_of(data["moved_from"]), text_of(data["leg"])
    return source, target, moved, price, broker_time_from_iso(data["watermark"])


def ratio_from(data: Mapping[str, Any]) -> Decimal | None:
    """New units per old one if the leg was split, else ``None``."""
    return _decimal(data.get("ratio"))


# Contracts


def contract_to(facts: ContractFacts) -> Document:
    """A broker's description of an instrument, as JSON."""
    document: Document = {
        "identity": facts.identity,
        "kind": facts.kind,
        "expiry": None if facts.expiry is None else facts.expiry.isoformat(),
        "right": facts.right,
        "strike": to_text(facts.strike),
        "underlying": facts.underlying,
        "multiplier": to_text(facts.multiplier),
        "currency": facts.currency,
        "held": facts.held,
    }
    if facts.ends_at is not None:
        document["ends_at"] = _iso(facts.ends_at)
    if not facts.expiry_certain:
        document["expiry_certain"] = False
    return document


def contract_from(data: Any) -> ContractFacts:
    """The facts that :func:`contract_to` wrote."""
    return ContractFacts(
        identity=text_or_none(data["identity"]),
        kind=text_or_none(data["kind"]),
        expiry=None if data["expiry"] is None else date.fromisoformat(data["expiry"]),
        right=text_or_none(data["right"]),
        strike=_decimal(data["strike"]),
        underlying=text_or_none(data["underlying"]),
        multiplier=Decimal(data["multiplier"]),
        currency=text_or_none(data["currency"]),
        held=flag_of(data["held"]),
        ends_at=_broker_time(data.get("ends_at")),
        expiry_certain=flag_of(data.get("expiry_certain", True)),
    )


# Clocks


def clock_step_to(by: timedelta) -> Document:
    """By how much a machine's wall clock jumped against its monotonic clock; negative is back."""
    return {"by_s": to_text(_seconds(by))}


def book_clock_step_to(by: timedelta) -> Document:
    """The same for a book's stream: the times at which our side reported its orders go back with the clock."""
    document = clock_step_to(by)
    return document | {"reports_back_s": to_text(-_seconds(by))} if by < timedelta() else document


def reports_back(data: Mapping[str, Any]) -> timedelta:
    """By how much the times of our side's reports go back; zero in records of an earlier version."""
    return timedelta(seconds=float(data.get("reports_back_s", 0)))


def _seconds(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(microseconds=1)) / 1_000_000


# Discrepancies


def break_to(found: Break, *, resolved: bool, correction: Correction | None) -> Document:
    """A discrepancy as JSON. Optional fields are left out when empty."""
    document: Document = {
        "id": found.id,
        "type": found.type.value,
        "key": found.key,
        "phase": found.phase.value,
        "cause": None if found.cause is None else found.cause.value,
        "book_value": found.book_value,
        "broker_value": found.broker_value,
        "difference": found.difference,
        "opened_at": to_iso(found.opened_at),
        "seen_at": [to_iso(at) for at in found.seen_at],
        "cancel_asked": found.cancel_asked,
        "strategy": found.strategy,
        "resolved": resolved,
        "correction": None if correction is None else correction.value,
    }
    if found.linked:
        document["linked"] = list(found.linked)
    if found.detail is not None:
        document["told"] = found.detail
    if found.alias is not None:
        document["alias"] = found.alias
    if found.offers is not None:
        document["offers"] = found.offers.value
    if found.halts:
        document["halts"] = True
    if found.first_look is not None:
        document["first_look"] = to_iso(found.first_look)
    return document


def break_from(data: Mapping[str, Any], severity: Severity) -> Break:
    """The discrepancy that :func:`break_to` wrote; its severity is the event's."""
    return Break(
        id=text_of(data["id"]),
        type=DiscrepancyType(data["type"]),
        key=text_of(data["key"]),
        severity=severity,
        phase=Phase(data["phase"]),
        cause=None if data["cause"] is None else Cause(data["cause"]),
        book_value=text_or_none(data["book_value"]),
        broker_value=text_or_none(data["broker_value"]),
        difference=text_or_none(data["difference"]),
        opened_at=from_iso(data["opened_at"]),
        seen_at=tuple(from_iso(at) for at in rows_of(data["seen_at"])),
        cancel_asked=flag_of(data["cancel_asked"]),
        strategy=text_or_none(data["strategy"]),
        linked=texts_of(data.get("linked", [])),
        detail=text_or_none(data.get("told")),
        alias=text_or_none(data.get("alias")),
        offers=None if data.get("offers") is None else Correction(data["offers"]),
        halts=flag_of(data.get("halts", False)),
        first_look=_broker_time(data.get("first_look")),
    )


def break_of(event: Event) -> Break:
    """The discrepancy in a RECONCILIATION_DISCREPANCY event."""
    if isinstance(event.source, Break):
        return event.source
    return break_from(event.payload, event.severity)


# Legs


def leg_to(leg: Leg) -> Document:
    """A leg with its lots as JSON. Averages keep every digit, because a replay must give the same ones."""
    document: Document = {
        "leg": leg.name,
        "opened_at": to_iso(leg.opened_at),
        "quantity": to_text(leg.quantity),
        "average_price": to_text(leg.average_price),
        "lots": _lots_to(leg.lots),
    }
    if leg.cost:
        document["cost"] = to_text(leg.cost)
    return document


def leg_from(data: Any) -> Leg:
    """The leg that :func:`leg_to` wrote."""
    lots = _lots_from(data["lots"])
    opened_at, cost = broker_time_from_iso(data["opened_at"]), Decimal(data.get("cost", 0))
    return Leg(text_of(data["leg"]), opened_at, Decimal(data["quantity"]), Decimal(data["average_price"]), lots, cost)


def _lots_to(lots: Iterable[Lot]) -> list[Json]:
    return [[to_text(lot.quantity), to_text(lot.price), lot.fill_id, to_iso(lot.opened_at)] for lot in lots]


def _lots_from(data: Any) -> Iterator[Lot]:
    return (
        Lot(Decimal(q), Decimal(p), text_or_none(fill_id), broker_time_from_iso(at))
        for q, p, fill_id, at in rows_of(data)
    )


def with_ids(order: BookOrder, broker_order_id: str | None, client_order_id: str | None) -> BookOrder:
    """The order with ids that have become known; a known id is kept, unless it is provisional."""
    known = None if is_provisional(order.broker_order_id) else order.broker_order_id
    return replace(
        order,
        broker_order_id=known or broker_order_id or order.broker_order_id,
        client_order_id=order.client_order_id or client_order_id,
    )
