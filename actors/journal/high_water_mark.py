"""The high-water mark: what a journal's file has held, kept in a small file beside it.

A database whose end is gone looks whole when whole commits are missing, and an empty file looks like a journal that
was never begun. So each commit that is durable leaves its ``seq`` and ``hash`` in the mark, and a journal that holds
less than its mark is not taken up again without a word.

* The mark never says more than what is durable: it is written after the commit, and may say less after a crash.
* Of a journal in PostgreSQL it also says which server that was, by its system identifier and its timeline: a standby
  that lacks the last records is found when it takes over, and a former primary when it comes back.
* It is evidence, not state: a mark that is missing, cannot be written or cannot be read costs no work, as long as there
  is a journal beside it. Who accepts a loss, or puts an older copy in place on purpose, removes the mark.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from brokers.frozen import dataclass

_FORM: Final = re.compile(r"(\d{1,19}) ([0-9a-f]{64})(?: (\d{1,20}) (\d{1,10}))?\s*\Z")
_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """A server that a journal was written to: the system that it and its standbys are, and its timeline."""

    system: str
    timeline: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A record that was durable: its ``seq`` and ``hash``, and the server that said so where it was one."""

    seq: int
    hash: str
    server: ServerSeen | None = None


class Mark:
    """The mark of the journal file ``database``, or of a journal on a ``server`` whose other files have that name.
    Used by one thread at a time."""

    def __init__(self, database: Path, *, of_server: bool = False) -> None:
        self.path = database.with_name(database.name + ".mark")
        self._of_server = of_server
        self._descriptor: int | None = None

    @property
    def remedy(self) -> str:
        """What a person can do about a journal that holds less than its mark."""
        if self._of_server:
            return (
                "Bring the server back that has all of it (the former primary), and let a standby that has all of it "
                "take over. Only to go on without what is missing, or with another journal: stop the supervisor, "
                f"remove {self.path}, and start it again"
            )
        return (
            "Put the whole journal back (with its -wal file where it has one), or restore a copy. Only to go on "
            f"without what is missing, remove {self.path}"
        )

    def exists(self) -> bool:
        """Whether records were durable once, whatever can be read of them."""
        return self.path.is_file()

    def read(self) -> Seen | None:
        """What was durable, as far as is known."""
        try:
            found = _FORM.match(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        if found is None:
            return None
        server = None if found[3] is None else ServerSeen(found[3], int(found[4]))
        return Seen(int(found[1]), found[2], server)

    def write(self, seq: int, last_hash: str, server: ServerSeen | None = None, *, sync: bool = False) -> None:
        """Say that this record is durable now; with ``sync`` also after a power failure."""
        # One short line that is overwritten in place: cheap enough for every commit, and never half written for the
        # successor of a killed process.
        known = "" if server is None else f" {server.system} {server.timeline}"
        line = f"{seq} {last_hash}{known}".ljust(_LENGTH - 1) + "\n"
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                os.ftruncate(self._descriptor, _LENGTH)
            os.pwrite(self._descriptor, line.encode(), 0)
            if sync:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the file back. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
