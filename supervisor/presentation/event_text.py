"""A journal record as one line for a person: zombies recovered, ghosts cleared, drift corrected.

:func:`summarize` is for people who watch, and leaves out what only the books need; :func:`describe` is for people who
look into the journal afterwards, and has a line for every record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from actors.book.break_work import UNASSIGNED
from actors.book.history import person_behind, without_effect
from actors.book.in_step import named_in
from actors.events import Event, EventType, Json, Record, Severity, from_iso, to_iso
from brokers.frozen import dataclass
from supervisor.presentation.prices import shown_price

_GLOSSES = {
    "force_add_position": "zombie recovered",
    "force_close_position": "ghost cleared",
    "force_update_position": "drift corrected",
    "apply_fill": "fill applied",
    "infer_fill": "fill inferred",
    "update_order": "order updated",
    "adopt_order": "order adopted",
    "give_up_order": "order given up",
}
_DISCREPANCIES = frozenset({EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED})
_BY_FILLS = frozenset({"apply_fill", "infer_fill"})
_ORDER_ENDS = {
    EventType.ORDER_CANCELLED: "cancelled",
    EventType.ORDER_EXPIRED: "expired",
    EventType.ORDER_REJECTED: "rejected",
}
_ACTORS = {
    EventType.ACTOR_QUARANTINED: "in quarantine",
    EventType.ACTOR_PENDING: "cannot be started",
}
_OF_ACTORS = frozenset({EventType.ACTOR_RESTARTED, EventType.ACTOR_QUARANTINED, EventType.ACTOR_PENDING})
_ACTIONS = {
    "stop": "stopped it",
    "pause": "paused",
    "resume": "resumed",
    "restart": "restarted",
    "new key": "switched to a new key",
}
_HALTS = {EventType.TRADING_HALTED: "trading halted", EventType.TRADING_RESUMED: "trading resumed"}
_WORK = {
    EventType.BREAK_ACKNOWLEDGED: "acknowledged",
    EventType.BREAK_ASSIGNED: "assigned",
    EventType.BREAK_PROPOSED: "correction proposed",
    EventType.BREAK_APPROVED: "correction approved",
    EventType.BREAK_WAIVED: "waived",
}
_LONGEST = 160
_OF_ONE_LOOK = timedelta(milliseconds=100)
"""What is recorded within so little is of one look at the broker."""
_NAMES_SHOWN = 3
_CONNECTIONS = {EventType.CONNECTION_LOST: "connection lost", EventType.CONNECTION_RESTORED: "connection restored"}
_STREAMS = {EventType.CONNECTION_LOST: "stream lost", EventType.CONNECTION_RESTORED: "stream live again"}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event: ``time`` as HH:MM:SS UTC, ``where`` it happened, and ``text``."""

    time: str
    where: str
    text: str
    severity: Severity

    def __str__(self) -> str:
        return f"{self.time} {self.where} {self.text}"


def summarize(record: Record) -> Happening | None:
    """The line for a record; ``None`` for a record that only the books need."""
    text = _text(record.event)
    if text is None:
        return None
    where = str(record.event.payload.get("actor") or record.stream)
    return Happening(f"{record.event.time:%H:%M:%S}", where, text, record.event.severity)


class Summaries:
    """:func:`summarize` over records in their order, one line for each happening. A missed fill: its discrepancy has
    the line; the fill that is booked for it at the same time has none, nor has its order where that was another
    system's and is over. An order that ended: its discrepancy has the line, unless the broker names a reason. An open
    break: it is recorded again at every further check, and has another line only when its values or its severity have
    changed."""

    def __init__(self) -> None:
        self._filling: dict[str, dict[str, Record]] = {}  # of each stream, by order
        self._updating: dict[str, Record] = {}
        self._open: dict[str, tuple[str, Severity]] = {}

    def of(self, record: Record) -> Happening | None:
        """The line for the next record; ``None`` where it needs none."""
        event = record.event
        if event.type in _DISCREPANCIES and self._has_a_line_already(event):
            return None
        if self._has_a_line(record):
            return None
        if event.type in _DISCREPANCIES and str(event.payload.get("correction")) in _BY_FILLS:
            self._filled_in_this_look(record)[str(event.payload.get("key"))] = record
        elif event.type in _DISCREPANCIES and event.payload.get("correction") == "update_order":
            self._updating[record.stream] = record
        return summarize(record)

    def _filled_in_this_look(self, record: Record) -> dict[str, Record]:
        """The missed fills of the same look at the broker as this record, by order; those of earlier looks go."""
        kept = self._filling.setdefault(record.stream, {})
        for key in [key for key, one in kept.items() if record.event.time - one.event.time > _OF_ONE_LOOK]:
            del kept[key]
        return kept

    def _has_a_line(self, record: Record) -> bool:
        """Whether an earlier line covers this record."""
        event = record.event
        in_this_look, updated = self._filled_in_this_look(record), self._updating.get(record.stream)
        if event.type is EventType.ORDER_FILLED:
            return any(one.event.time == event.time for one in in_this_look.values())
        if event.type in _ORDER_ENDS and updated is not None and updated.event.time == event.time:
            order = event.payload.get("order")
            ended = order if isinstance(order, dict) else {}
            return not ended.get("reason") and _order_name(ended) == str(updated.event.payload.get("key"))
        adopted = event.type in _DISCREPANCIES and event.payload.get("correction") == "adopt_order"
        filled = in_this_look.get(str(event.payload.get("key")))
        if filled is None or not adopted:
            return False
        # It was filled, is over, and all of it is in that fill: nothing more is worth a line.
        whole = f" FILLED filled {filled.event.payload.get('broker_value')}"
        return str(event.payload.get("broker_value")).endswith(whole)

    def _has_a_line_already(self, event: Event) -> bool:
        """Whether this break had a line already, open and with the same values."""
        payload, break_id = event.payload, str(event.payload.get("id"))
        if payload.get("resolved"):
            self._open.pop(break_id, None)
            return False
        says = _difference(payload), event.severity
        shown = self._open.get(break_id) == says
        self._open[break_id] = says
        return shown


def counted_restarts(payload: Mapping[str, Json]) -> int:
    """How many restarts an ACTOR_RESTARTED counts for: none if its node was lost or drains, and minus one if that takes
    back a restart that was counted before."""
    if payload.get("counted") is not False:
        return 1
    return -1 if payload.get("forgives") else 0


def describe(event: Event) -> str:
    """A description of any event."""
    kind, payload = event.type, event.payload
    text = _text(event)
    if text is not None:
        cause, actor = payload.get("cause"), payload.get("actor")
        text = f"{text}, {cause}" if cause and kind in _DISCREPANCIES else text
        return f"{actor}: {text}" if actor and kind in _OF_ACTORS else text
    order = payload.get("order")
    if isinstance(order, dict):
        return _order(order)
    match kind:
        case EventType.FILL_RECORDED:
            return _fill(payload)
        case EventType.ACTOR_STARTED:
            return f"{payload.get('actor')}: started"
        case EventType.FILL_RESTATED:
            what = f"{payload.get('side')} {payload.get('quantity')} @ {payload.get('price')}"
            return f"fill {payload.get('fill_id')} is {what}{_in_legs(payload.get('legs'))}"
        case EventType.COMMISSION_REPORTED:
            amount = f"{payload.get('commission')} {payload.get('commission_currency') or ''}".rstrip()
            return f"commission {amount} of fill {payload.get('fill_id')}"
        case EventType.POSITION_RECORDED | EventType.POSITION_SYNCED:
            correction = payload.get("correction")
            by = f", {correction}" if correction else ""
            price = shown_price(payload.get("average_price"))
            if "moved_from" in payload:
                return f"{payload.get('moved')} went from {payload.get('moved_from')} to {payload.get('leg')}{by}"
            return f"{payload.get('leg')} is {payload.get('quantity')} @ {price}{by}"
        case EventType.RECONCILED:
            sections = ", ".join(f"{name} {payload.get(name)}" for name in ("positions", "orders", "fills"))
            named = named_in(event)
            return f"in step: {'' if named is None else f'{_names(named)}; '}{sections}"
        case EventType.ALERT_DELIVERED:
            return f"sent to {payload.get('route')} ({payload.get('kind')}): {payload.get('title')}"
        case EventType.CHECKPOINT:
            return "the whole state" if "router" in payload else "the whole book"
        case EventType.CONFIGURATION_CHANGED:
            desired = payload.get("desired")
            return f"{len(desired)} actors desired" if isinstance(desired, list) else _plain(payload)
        case _:
            return _plain(payload)


def behind(event: Event, text: str) -> str:
    """Who caused or requested an event, in brackets, unless ``text`` names them; else empty."""
    order = event.payload.get("order")
    of_order = {"strategy": order.get("strategy")} if isinstance(order, dict) else {}
    words = ", ".join(one for one in person_behind({**of_order, **event.payload}) if one not in text)
    return f" [{words}]" if words else ""


def _names(named: Mapping[str, int]) -> str:
    """The first of the instruments that an account's record names."""
    shown = ", ".join(list(named)[:_NAMES_SHOWN])
    more = len(named) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _fill(payload: Mapping[str, Json]) -> str:
    """A fill, and why it had no effect where it had none."""
    text = f"filled {payload.get('side')} {payload.get('quantity')} @ {payload.get('price')}"
    if payload.get("inferred"):
        text += " (inferred)"
    if payload.get("pending"):
        text += ", waiting for the broker to name its leg"
    why = without_effect(payload)
    return text if why is None else f"{text} at {payload.get('time')}, without effect: {why}"


def _outage(payload: Mapping[str, Json]) -> str:
    span = f"from {_clock(str(payload.get('since')))} to {_clock(str(payload.get('until')))}"
    return f"the journal could not be written {span}: {payload.get('reason')}"


def _in_legs(legs: Json) -> str:
    names = [str(leg[0]) for leg in legs if isinstance(leg, list)] if isinstance(legs, list) else []
    return f" in {', '.join(names)}" if names else ""


def _order(order: Mapping[str, Json]) -> str:
    price = order.get("limit_price")
    at = f" @ {price}" if price is not None else ""
    filled = f", filled {order.get('filled_quantity')}" if order.get("filled_quantity") != "0" else ""
    terms = f"{order.get('side')} {order.get('quantity')}{at}"
    return f"order {_order_name(order)} {terms}: {order.get('status')}{filled}"


def _plain(payload: Mapping[str, Json]) -> str:
    """The plain values of a payload."""
    plain = {key: value for key, value in payload.items() if isinstance(value, str | int) and value != ""}
    return " ".join(f"{key}={value}" for key, value in plain.items())[:_LONGEST]


def _text(event: Event) -> str | None:
    kind, payload = event.type, event.payload
    if kind in _DISCREPANCIES:
        return _discrepancy(payload, to_iso(event.time))
    if kind is EventType.ORDER_FILLED:
        return _fill(payload)
    if kind is EventType.FILL_RECORDED:  # one that changed the book has a line there
        return _fill(payload) if without_effect(payload) else None
    if kind is EventType.JOURNAL_RESTORED:
        return _outage(payload)
    if kind in _ORDER_ENDS:
        return _order_end(kind, payload)
    if kind in _OF_ACTORS or kind in _CONNECTIONS:
        reason = payload.get("reason")
        if kind is EventType.ACTOR_RESTARTED:
            return f"{reason}, restarted" if reason else "restarted"
        words = _ACTORS.get(kind) or (_STREAMS if payload.get("stream") else _CONNECTIONS)[kind]
        return f"{words}: {reason}" if reason else words
    by = f" by {payload['by']}" if payload.get("by") else ""
    if kind in _HALTS:
        return f"{_HALTS[kind]}{by}" + (f": {payload['reason']}" if payload.get("reason") else "")
    changes = payload.get("changes")
    if kind is EventType.CONFIGURATION_CHANGED and isinstance(changes, list):
        return f"configuration changed{by}: {'; '.join(map(str, changes))}"
    if kind in _WORK:
        return _work(kind, payload)
    if kind is EventType.ALERT_FAILED:
        return f"route {payload.get('route')} does not accept alerts: {payload.get('reason')}"
    if kind is EventType.OPERATOR_ACTION and payload.get("action") == "roll":
        return _roll(payload)
    if kind is EventType.OPERATOR_ACTION:
        whom = payload.get("instruments") or payload.get("actor") or ()
        names = whom if isinstance(whom, str) else ", ".join(map(str, whom)) if isinstance(whom, list) else ""
        action = str(payload.get("action"))
        how = f" ({payload['signal']})" if payload.get("signal") else ""
        return f"{payload.get('by') or 'an operator'} {_ACTIONS.get(action, action)} {names}".rstrip() + how
    return None


def _roll(payload: Mapping[str, Json]) -> str:
    """An upgrade of the code, actor by actor: its beginning or its end."""
    to, actor = payload.get("to"), payload.get("actor")
    if payload.get("state") == "began":
        left, actors = payload.get("from"), payload.get("actors")
        versions = ", ".join(map(str, left)) if isinstance(left, list) else ""
        many = len(actors) if isinstance(actors, list) else 0
        them = f"{many} actor{'' if many == 1 else 's'}" + (" and the supervisor" if payload.get("supervisor") else "")
        return f"{payload.get('by') or 'an operator'} began to upgrade {them}: {versions} → {to}"
    if payload.get("state") == "done":
        return f"every actor runs {to}"
    others = payload.get("left")
    left_words = f"; of another version: {', '.join(map(str, others))}" if isinstance(others, list) and others else ""
    return f"the upgrade to {to} stopped{f' at {actor}' if actor else ''}: {payload.get('reason')}{left_words}"


def _work(kind: EventType, payload: Mapping[str, Json]) -> str:
    """Who did what to a break, until when, and why."""
    said = [_WORK[kind], f"by {payload.get('by')}"]
    if payload.get("owner"):
        said.append(f"to {payload['owner']}")
    elif payload.get(UNASSIGNED):
        said.append("to nobody")
    if payload.get("until"):
        said.append(f"until {str(payload['until'])[:16]}Z")
    why = ", ".join(str(payload[key]) for key in ("reason", "note") if payload.get(key))
    return f"{_difference(payload)}, {' '.join(said)}" + (f": {why}" if why else "")


def _order_end(kind: EventType, payload: Mapping[str, Json]) -> str:
    order = payload.get("order")
    if not isinstance(order, dict):
        return _ORDER_ENDS[kind]
    why = f": {order['reason']}" if order.get("reason") else ""
    return f"order {_order_name(order)} {_ORDER_ENDS[kind]}{why}"


def _discrepancy(payload: Mapping[str, Json], time: str) -> str:
    if payload.get("type") == "BOOK_MISMATCH":
        return f"the book differed from its journal: {payload.get('book_value')}, {payload.get('correction')}"
    correction = payload.get("correction")
    if correction is not None:
        done = f"{correction} ({_GLOSSES[str(correction)]})" if str(correction) in _GLOSSES else str(correction)
        if payload.get("approved_by"):
            done += f", approved by {payload['approved_by']}"
    else:
        still = "still " if _is_older(payload.get("opened_at"), time) else ""
        done = "gone without a correction" if payload.get("resolved") else f"{still}open"
    return f"{_difference(payload)}, {done}"


def _difference(payload: Mapping[str, Json]) -> str:
    """The discrepancy: both sides' values, or a sentence where one side has none."""
    kind, key, book, broker = (payload.get(one) for one in ("type", "key", "book_value", "broker_value"))
    match kind:
        case "STALE_DATA" if book is not None:
            return f"STALE_DATA: not verified since {_clock(str(book))}"
        case "MISSED_FILL":
            external = "external " if payload.get("cause") == "EXTERNAL_TRADE" else ""
            return f"missed fill of {external}order {key}: {broker if book is None else f'{book} → {broker}'}"
        case "UNMANAGED_INSTRUMENT":
            return f"UNMANAGED_INSTRUMENT {key}: {broker}"
        case _:
            return f"{kind} {key}: {'nothing' if book is None else book} → {'nothing' if broker is None else broker}"


def _is_older(opened_at: Json, time: str) -> bool:
    """Whether a break was opened before this record of it. An account's own is recorded a moment after it is found."""
    if not isinstance(opened_at, str) or opened_at == time:
        return False
    try:
        return from_iso(time) - from_iso(opened_at) > _OF_ONE_LOOK
    except ValueError:
        return False


def _clock(time: str) -> str:
    """The time of day of an ISO time; any other text unchanged."""
    return time[11:19] if len(time) > 19 and time[10] == "T" else time


def _order_name(order: Mapping[str, Json]) -> str:
    return str(order.get("broker_order_id") or order.get("client_order_id") or order.get("key"))
