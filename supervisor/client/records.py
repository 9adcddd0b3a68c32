"""The handle's answers from the journal: records, and an instrument's newest entries."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from actors.book.history import who
from actors.events import EventType, Payload, Record, Severity, from_iso, to_iso
from actors.journal.hash_chain import record_to_json
from actors.journal.record_filter import RecordFilter
from brokers.frozen import dataclass
from supervisor.client.arguments import word
from supervisor.presentation.event_text import summarize
from supervisor.presentation.tables import Answer, Cell, Table, columns


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the journal."""

    record: Record

    @property
    def seq(self) -> int:
        """Its number in the whole journal; resume after it with ``after_seq``."""
        return self.record.seq

    @property
    def stream(self) -> str:
        """Its owner: an instrument (``account/symbol``), an account, or ``supervisor``."""
        return self.record.stream

    @property
    def time(self) -> datetime:
        """When it happened."""
        return self.record.event.time

    @property
    def type(self) -> EventType:
        """The type of the event."""
        return self.record.event.type

    @property
    def severity(self) -> Severity:
        """How serious it is."""
        return self.record.event.severity

    @property
    def payload(self) -> Payload:
        """Everything that was recorded."""
        return self.record.event.payload

    @property
    def text(self) -> str:
        """A short description."""
        said = summarize(self.record)
        return said.text if said is not None else _words(self.payload)

    @property
    def who(self) -> str:
        """Who caused it: a strategy or our own side, the reconciliation and its requester, or an operator."""
        return who(self.record.event)

    def to_dict(self) -> dict[str, Any]:
        """The record, in the form of ``audit query --json``."""
        return dict(record_to_json(self.record))

    def __str__(self) -> str:
        return f"{self.seq} {to_iso(self.time)} {self.stream} {self.type} {self.text}".rstrip()


class Records(Answer, Sequence[Entry]):
    """Records of the journal. One row a record."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._entries = [Entry(record) for record in records]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: Any) -> Any:
        return self._entries[place]

    def to_dict(self) -> dict[str, Any]:
        """``records``, each in the form of ``audit query --json``."""
        return {"records": [entry.to_dict() for entry in self._entries]}

    def table(self) -> Table:
        """One row a record; a frame also has its payload as JSON."""
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
    """The newest entries that an instrument's actor has in memory, oldest first. One row an entry."""

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
        """One row an entry."""
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
    """The requested types of events; a single one may be given alone. Raises ``ValueError`` with the known ones."""
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise TypeError(f"types: found {given!r}, expected one of {', '.join(EventType)}, or several")
    named = (given,) if isinstance(given, str) else given
    return tuple(word(EventType, "types", one) for one in named)


def severity_of(given: Severity | str | None) -> Severity | None:
    """The requested severity. Raises ``ValueError`` with the known ones."""
    return None if given is None else word(Severity, "severity", given)


def live_filter(
    types: Collection[EventType | str] | None,
    severity: Severity | str | None,
    account: str | None,
    instrument: str | None,
) -> RecordFilter:
    """The filter of live events; raises as :func:`event_types` and :func:`severity_of`."""
    return {
        "types": event_types(types),
        "severity": severity_of(severity),
        "account": account,
        "instrument": instrument,
    }


def _json_text(payload: Mapping[str, Any]) -> str:
    return json.dumps(dict(payload), separators=(",", ":"), sort_keys=True)


def _words(payload: Payload) -> str:
    """The position, fill or order in a record that only the books need."""
    order = payload.get("order")
    if isinstance(order, dict):
        name = order.get("client_order_id") or order.get("broker_order_id")
        return f"{name}: {order.get('side')} {order.get('quantity')} {order.get('status')}"
    if "quantity" not in payload:
        return ""
    what = payload.get("side") or payload.get("leg")
    return f"{what} {payload['quantity']} @ {payload.get('price') or payload.get('average_price')}"
