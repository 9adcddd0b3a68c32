"""Where a journal is: a database, and for a SQLite file what stands beside it: its lock, its mark, its log.

* One that was begun is never begun again: a file that is gone, empty or replaced is refused, with what to do.
* The tables are brought to our version by a process that has the right to write them, alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from actors.journal.evidence_tables import add_tables
from actors.journal.high_water_mark import Mark, Seen
from actors.journal.lock import JournalLock
from actors.journal.postgresql import settle_postgresql
from actors.journal.schema import (
    OnConnect,
    corrupt,
    create_file,
    engine_for,
    ensure_schema,
    file_of,
    identity_of,
    make_directory,
    parse_url,
    shown,
)
from actors.journal.types import JournalCorrupt, JournalMissing, JournalUnavailable


class Place:
    """The place of one journal. ``name`` may be shown, ``file`` is ``None`` for a database that is a server,
    where the lock is the server's and held by the connection that writes."""

    def __init__(
        self, url: str, *, exclusive: bool, read_only: bool, busy_timeout_s: float, on_connect: OnConnect | None
    ) -> None:
        self._url = parse_url(url)
        self.name = shown(self._url)
        self.file = file_of(self._url)
        self.dialect = self._url.get_backend_name()
        self._read_only = read_only
        self._exclusive = exclusive
        self._busy_timeout_s = busy_timeout_s
        self._on_connect = on_connect
        self._lock = JournalLock(self.file) if exclusive and self.file is not None else None
        self._mark = Mark(self.file) if self.file is not None else None
        self._identity: tuple[int, int] | None = None

    @property
    def held(self) -> bool:
        """Whether this process is its one writer: by the lock of its file, or of the server that it is in."""
        return self._exclusive and (self._lock is not None or self.file is None)

    def take(self) -> None:
        """Make the directory, and this process the one writer where it is to be. Raises what :class:`JournalLock`
        and :func:`make_directory` do."""
        if self.file is not None and not self._read_only:
            make_directory(self.file)
        if self._lock is not None:
            self._lock.acquire()

    def give_back(self) -> None:
        """Let another process write. May be called twice."""
        if self._mark is not None:
            self._mark.close()
        if self._lock is not None:
            self._lock.release()

    def begin(self, attempted: str) -> None:
        """Before the first connection: a file where there never was one, or :class:`JournalCorrupt` where there was."""
        if self.file is None or self._identity is not None:
            return
        if not self.file.exists() or not self.file.stat().st_size:
            found = "is empty" if self.file.exists() else "is gone"
            if self._mark is not None and self._mark.exists():
                seen = self._mark.read()
                held = "records" if seen is None else f"{seen.seq} records"
                raise JournalCorrupt(attempted, f"its file {found}, and {held} were durable", self.remedy)
            log = self.file.with_name(self.file.name + "-wal")
            if log.exists() and log.stat().st_size:
                # SQLite would throw the log away, and with it what was acknowledged.
                raise corrupt(attempted, f"its file {found}, and its write-ahead log {log.name} is not")
        if not self._read_only:
            create_file(self.file)

    def connect(self, attempted: str, *, read_only: bool, doubtful: bool = False) -> Connection:
        """A new connection to tables of our version (or, to read, of an older one)."""
        if self.file is not None and read_only and not self.file.exists():
            raise JournalMissing(attempted, "there is no such file", "Check journal.url, or start the supervisor")
        engine = engine_for(
            self._url,
            read_only=read_only,
            busy_timeout_s=self._busy_timeout_s,
            doubtful=doubtful,
            on_connect=self._on_connect,
        )
        connection = engine.connect()
        try:
            if self.dialect == "postgresql":
                settle_postgresql(connection, attempted, exclusive=self._exclusive, read_only=read_only)
            ensure_schema(connection, self._url, read_only=read_only, alone=self._alone)
            if not read_only:
                add_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def remember(self) -> None:
        """The file that stands there now is the one in use."""
        self._identity = identity_of(self.file)

    def check(self, attempted: str) -> None:
        """Raises :class:`JournalUnavailable` where another file stands there than the one in use."""
        # Commits to a file that was moved or removed succeed, and are lost with it.
        if identity_of(self.file) != self._identity:
            found = "its file was moved, removed or replaced while in use"
            raise JournalUnavailable(attempted, found, "Put it back where it was")

    def seen(self) -> Seen | None:
        """The last record that is known to have been durable here."""
        return self._mark.read() if self._mark is not None else None

    @property
    def remedy(self) -> str:
        """What a person can do where what was durable is not there."""
        return self._mark.remedy if self._mark is not None else "Restore a copy"

    def leave_mark(self, seq: int, last_hash: str, *, sync: bool = False) -> None:
        """Let it be known that this record is durable. Never raises."""
        if self._mark is not None and seq:
            self._mark.write(seq, last_hash, sync=sync)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock is not None or self.file is None:
            yield
            return
        lock = JournalLock(Path(self.file))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
