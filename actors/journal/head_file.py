"""The heads file: where the journal ended, noted from time to time in a text file that can be kept elsewhere.

One line, ``seq hash time``, is added when the journal has grown, at most once a minute, and at the end. Each of them
proves to `audit verify --head` that nothing before it was changed or cut off since. A line that cannot be written is
reported once, and delays nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from loguru import logger

from actors.events import to_iso
from brokers.kit.whole_file import append_durably

Head = tuple[int, str, datetime]
"""``seq``, ``hash`` and time of a journal's last record."""

NOTE_EVERY_S: Final = 60.0


class HeadsFile:
    """One journal's heads file. ``noted`` is the ``seq`` of its last record when this begins: it is not noted again."""

    def __init__(self, path: Path, monotonic: Callable[[], float], noted: int) -> None:
        self._path = path
        self._monotonic = monotonic
        self._noted = noted
        self._tried_at: float | None = None
        self.error: str | None = None

    def due(self, seq: int) -> bool:
        """Whether the journal has grown since the last line, and that line is old enough."""
        waited = self._tried_at is None or self._monotonic() - self._tried_at >= NOTE_EVERY_S
        return seq > self._noted and waited

    def note(self, head: Head | None) -> None:
        """Add a line for this head, if it is another than the last. Waits for the disk; never raises."""
        self._tried_at = self._monotonic()
        if head is None or head[0] <= self._noted:
            return
        seq, last_hash, time = head
        try:
            append_durably(self._path, f"{seq} {last_hash} {to_iso(time)}\n")
        except OSError as error:
            found = f"could not note the journal's head in {self._path}: {error.strerror or error}"
            if self.error is None:
                logger.error("{}. Make it writable, or name another journal.head_file", found)
            self.error = found
            return
        self._noted, self.error = seq, None
