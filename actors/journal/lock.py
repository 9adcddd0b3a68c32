"""One writing process for one journal file.

The lock is the operating system's (``flock``) on a file beside the journal, so it ends with the process that holds
it, however that process ends. The file itself stays: a lock file that is removed can be locked twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from actors.journal.types import JournalInUse, JournalUnavailable
from brokers.kit.foreign_row import read_json


class JournalLock:
    """The right to write one journal. ``database`` is the path of its file; may be used from any thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._owner = database.with_name(database.name + ".owner")
        self._path = database.with_name(database.name + ".lock")
        self._lock = FileLock(self._path, timeout=0, mode=0o600, thread_local=False)

    def acquire(self) -> None:
        """Take the lock at once. Raises :class:`JournalInUse` when another holds it, naming its process where that is
        known, and :class:`JournalUnavailable` when the lock file cannot be used."""
        attempted = f"become the writer of the journal {self._database}"
        try:
            self._lock.acquire()
        except Timeout:
            raise JournalInUse(
                attempted,
                f"{self._holder()} is its writer already",
                "A journal has one writer: let it do the work, or end it (a supervisor by: python -m supervisor stop)",
            ) from None
        except OSError as error:
            raise JournalUnavailable(
                attempted,
                f"the lock file {self._path} cannot be used ({error.strerror or error})",
                "Make its directory writable for this user",
            ) from error
        self._sign()

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._owner.unlink(missing_ok=True)
            self._lock.release()

    def _sign(self) -> None:
        # A courtesy to the next process that is refused: failing to write it must not cost us the lock, and an earlier
        # holder's number must not be taken for ours.
        with contextlib.suppress(OSError):
            self._owner.unlink(missing_ok=True)
            descriptor = os.open(self._owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)

    def _holder(self) -> str:
        try:
            owner = read_json(self._owner.read_bytes())
            pid, host = int(owner["pid"]), str(owner["host"])
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
        return f"process {pid}" if host == socket.gethostname() else f"process {pid} on {host}"
