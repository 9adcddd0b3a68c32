"""The last entries of one instrument's journal, kept in memory within a fixed budget."""

from __future__ import annotations

import json
from collections import deque

from actors.events import Event, EventType, to_iso

ENTRIES = 1_000
BYTES = 900_000


class Recent:
    """At most ``entries`` entries and ``budget`` bytes of text; the oldest are dropped automatically."""

    def __init__(self, entries: int = ENTRIES, budget: int = BYTES) -> None:
        self._texts: deque[bytes] = deque()
        self._entries = entries
        self._budget = budget
        self._size = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, event: Event) -> None:
        """Keep an event. A checkpoint has nothing new and is left out."""
        if event.type is EventType.CHECKPOINT:
            return
        entry = {
            "time": to_iso(event.time),
            "type": event.type.value,
            "severity": event.severity.value,
            "payload": dict(event.payload),
        }
        text = json.dumps(entry, separators=(",", ":")).encode()
        self._texts.append(text)
        self._size += len(text)
        while len(self._texts) > self._entries or self._size > self._budget:
            self._size -= len(self._texts.popleft())

    def entries(self, newest: int | None = None) -> list[dict[str, object]]:
        """The newest entries (all of them for ``None``), oldest first."""
        texts = list(self._texts)
        first = 0 if newest is None else max(0, len(texts) - newest)
        return [json.loads(text) for text in texts[first:]]
