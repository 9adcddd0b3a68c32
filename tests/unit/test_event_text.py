"""What the journal holds reads as one line for a person."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from actors.events import Event, EventType, Json, Severity
from supervisor.presentation.event_text import describe

LOST, RESTORED = EventType.CONNECTION_LOST, EventType.CONNECTION_RESTORED
CONNECTIONS: dict[str, tuple[EventType, dict[str, Json], str]] = {
    "a lost connection": (LOST, {"reason": "fx: time-out"}, "connection lost: fx: time-out"),
    "a connection that is back": (RESTORED, {"account": "fx"}, "connection restored"),
    "a lost stream": (LOST, {"stream": "SILENT", "reason": "fx: not heard of"}, "stream lost: fx: not heard of"),
    "a stream that is back": (RESTORED, {"account": "fx", "stream": "LIVE"}, "stream live again"),
}


@pytest.mark.parametrize(("kind", "payload", "line"), CONNECTIONS.values(), ids=CONNECTIONS.keys())
def test_a_connection_and_a_stream_are_told_apart(kind: EventType, payload: dict[str, Json], line: str) -> None:
    event = Event("1", kind, Severity.WARNING, datetime(2026, 1, 5, tzinfo=UTC), payload)

    assert describe(event) == line


DISCREPANCIES: dict[str, tuple[dict[str, Json], str]] = {
    "a book that nobody could verify": (
        {"type": "STALE_DATA", "key": "verified", "book_value": "2026-01-05T20:57:42.100000Z", "broker_value": None},
        "STALE_DATA: not verified since 20:57:42, open",
    ),
    "a fill that was missed": (
        {"type": "MISSED_FILL", "key": "88", "book_value": None, "broker_value": "200", "correction": "apply_fill"},
        "missed fill of order 88: 200, apply_fill (fill applied)",
    ),
    "a position that nobody looks after": (
        {"type": "UNMANAGED_INSTRUMENT", "key": "AUD_USD", "book_value": None, "broker_value": "in the account: net 5"},
        "UNMANAGED_INSTRUMENT AUD_USD: in the account: net 5, open",
    ),
    "a ghost": (
        {"type": "NAKED_POSITION", "key": "long", "book_value": "150", "correction": "force_close_position"},
        "NAKED_POSITION long: 150 → nothing, force_close_position (ghost cleared)",
    ),
}


@pytest.mark.parametrize(("payload", "line"), DISCREPANCIES.values(), ids=DISCREPANCIES.keys())
def test_a_discrepancy_is_a_sentence(payload: dict[str, Json], line: str) -> None:
    kind = EventType.RECONCILIATION_DISCREPANCY
    assert describe(Event("1", kind, Severity.WARNING, datetime(2026, 1, 5, tzinfo=UTC), payload)) == line
