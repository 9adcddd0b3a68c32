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
