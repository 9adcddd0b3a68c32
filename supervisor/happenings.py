"""What the journal says happened, in one line for a person: zombies recovered, ghosts cleared, drift corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.events import EventType, Json, Record, Severity

_GLOSSES = {
    "force_add_position": "zombie recovered",
    "force_close_position": "ghost cleared",
    "force_update_position": "drift corrected",
    "apply_fill": "fill applied",
    "infer_fill": "fill inferred",
    "update_order": "order brought up to date",
    "adopt_order": "order adopted",
    "give_up_order": "order given up",
}
_ORDER_ENDS = {
    EventType.ORDER_CANCELLED: "cancelled",
    EventType.ORDER_EXPIRED: "expired",
    EventType.ORDER_REJECTED: "rejected",
}
_ACTORS = {
    EventType.ACTOR_RESTARTED: "restarted",
    EventType.ACTOR_QUARANTINED: "in quarantine",
}
_CONNECTIONS = {EventType.CONNECTION_LOST: "connection lost", EventType.CONNECTION_RESTORED: "connection restored"}


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened: ``time`` as HH:MM:SS UTC, ``where`` it did, and ``text``."""

    time: str
    where: str
    text: str
    severity: Severity

    def __str__(self) -> str:
        return f"{self.time} {self.where} {self.text}"


def happening(record: Record) -> Happening | None:
    """The line for a record; ``None`` for what only the books need to know."""
    kind, payload = record.event.type, record.event.payload
    text = _text(kind, payload)
    if text is None:
        return None
    where = str(payload.get("actor") or record.stream)
    return Happening(f"{record.event.time:%H:%M:%S}", where, text, record.event.severity)


def _text(kind: EventType, payload: Mapping[str, Json]) -> str | None:
    if kind in {EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED}:
        return _discrepancy(payload)
    if kind is EventType.ORDER_FILLED:
        inferred = " (inferred)" if payload.get("inferred") else ""
        return f"filled {payload.get('side')} {payload.get('quantity')} @ {payload.get('price')}{inferred}"
    if kind in _ORDER_ENDS:
        order = payload.get("order")
        return f"order {_order_name(order)} {_ORDER_ENDS[kind]}" if isinstance(order, dict) else _ORDER_ENDS[kind]
    if kind in _ACTORS or kind in _CONNECTIONS:
        reason = payload.get("reason")
        words = _ACTORS.get(kind) or _CONNECTIONS[kind]
        return f"{words}: {reason}" if reason else words
    if kind is EventType.OPERATOR_ACTION:
        return f"operator: {payload.get('action')}"
    return None


def _discrepancy(payload: Mapping[str, Json]) -> str:
    book, broker = payload.get("book_value"), payload.get("broker_value")
    values = f"{'nothing' if book is None else book} → {'nothing' if broker is None else broker}"
    correction = payload.get("correction")
    if correction is not None:
        done = f"{correction} ({_GLOSSES[str(correction)]})" if str(correction) in _GLOSSES else str(correction)
    else:
        done = "gone by itself" if payload.get("resolved") else "open"
    return f"{payload.get('type')} {payload.get('key')}: {values}, {done}"


def _order_name(order: Mapping[str, Json]) -> str:
    return str(order.get("broker_order_id") or order.get("client_order_id") or order.get("key"))
