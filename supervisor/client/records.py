"""What the handle answers from the journal: records, and an instrument's newest entries."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actors.book.history import who
from actors.events import EventType, Payload, Record, Severity, from_iso, to_iso
from actors.journal.hash_chain import record_to_json
from actors.journal.record_filter import RecordFilter
from supervisor.client.arguments import word
from supervisor.presentation.event_text import summarize
from supervisor.presentation.tables import Answer, Cell, Table, columns


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the journal."""

    record: Record

    @property
    def seq(self) -> int:
        """Its place in the whole journal; resume after it with ``after_seq``."""
        return self.record.seq

    @property
    def stream(self) -> str:
        """Whom it is of: an instrument (``account/symbol``), an account, or ``supervisor``."""
        return self.record.stream

    @property
    def time(self) -> datetime:
        """When it happened."""
        return self.record.event.time

    @property
    def type(self) -> EventType:
        """What happened."""
        return self.record.event.type

    @property
    def severity(self) -> Severity:
        """How much a person should mind."""
        return self.record.event.severity

    @property
    def payload(self) -> Payload:
        """All that was recorded of it."""
        return self.record.event.payload

    @property
    def text(self) -> str:
        """It in a few words."""
        said = summarize(self.record)
        return said.text if said is not None else _words(self.payload)

    @property
    def who(self) -> str:
        """Who brought it about: a strategy or our own side, the reconciliation and who asked for it, an operator."""
        return who(self.record.event)

    def to_dict(self) -> dict[str, Any]:
        """The record, as ``audit query --json`` prints it."""
        return dict(record_to_json(self.record))

    def __str__(self) -> str:
        return f"{self.seq} {to_iso(self.time)} {self.stream} {self.type} {self.text}".rstrip()


class Records(Answer, Sequence[Entry]):
    """Records of the journal. A row a record."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._entries = [Entry(record) for record in records]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: Any) -> Any:
        return self._entries[place]

    def to_dict(self) -> dict[str, Any]:
        """``records``, each as ``audit query --json`` prints it."""
        return {"records": [entry.to_dict() for entry in self._entries]}

    def table(self) -> Table:
        """A row a record; a frame has its payload as JSON besides."""
        rows: list[dict[str, Cell]] = [
            {
                "seq": entry.seq,
                "time": entry.time,
                "stream": entry.stream,
                "type": entry.type.value,
                "severity": entry.severity.value,
                "who": entry.who,
                "text": entry.text,
                "payload": _json_text(entry.payload),
            }
            for entry in self._entries
        ]
        shown = columns(">seq", "time", "stream", "type", "severity", "who", ("text", "what"))
        return Table(f"{len(rows)} records", shown, rows, (), ("payload",))


class Recent(Answer, Sequence[dict[str, Any]]):
    """The newest entries that an instrument's actor has at hand, oldest first. A row an entry."""

    def __init__(self, name: str, entries: Sequence[dict[str, Any]]) -> None:
        self._name = name
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: Any) -> Any:
        return self._entries[place]

    def to_dict(self) -> dict[str, Any]:
        """``entries``."""
        return {"entries": list(self._entries)}

    def table(self) -> Table:
        """A row an entry."""
        rows: list[dict[str, Cell]] = [
            {
                "time": from_iso(entry["time"]),
                "type": entry["type"],
                "severity": entry["severity"],
                "payload": _json_text(entry["payload"]),
            }
            for entry in self._entries
        ]
        shown = columns("time", "type", "severity", "payload")
        return Table(f"{self._name}: the newest {len(rows)} entries", shown, rows)


def event_types(given: Collection[EventType | str] | None) -> tuple[EventType, ...] | None:
    """The types of events that are wanted; one may be named by itself. Raises ``ValueError`` with those there are."""
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise TypeError(f"types: found {given!r}, expected one of {', '.join(EventType)}, or several")
    named = (given,) if isinstance(given, str) else given
    return tuple(word(EventType, "types", one) for one in named)


def severity_of(given: Severity | str | None) -> Severity | None:
    """The severity that is wanted. Raises ``ValueError`` with those there are."""
    return None if given is None else word(Severity, "severity", given)


def live_filter(
    types: Collection[EventType | str] | None,
    severity: Severity | str | None,
    account: str | None,
    instrument: str | None,
) -> RecordFilter:
    """Which live events are wanted; raises as :func:`event_types` and :func:`severity_of`."""
    return {
        "types": event_types(types),
        "severity": severity_of(severity),
        "account": account,
        "instrument": instrument,
    }


def _json_text(payload: Mapping[str, Any]) -> str:
    return json.dumps(dict(payload), separators=(",", ":"), sort_keys=True)


def _words(payload: Payload) -> str:
    """What a record for the books alone says of a position, a fill or an order."""
    order = payload.get("order")
    if isinstance(order, dict):
        name = order.get("client_order_id") or order.get("broker_order_id")
        return f"{name}: {order.get('side')} {order.get('quantity')} {order.get('status')}"
    if "quantity" not in payload:
        return ""
    what = payload.get("side") or payload.get("leg")
    return f"{what} {payload['quantity']} @ {payload.get('price') or payload.get('average_price')}"
