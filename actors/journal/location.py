"""Where a journal is: a database, and for a SQLite file what stands beside it: its lock, its mark, its log.

* One that was begun is never begun again: a file that is gone, empty or replaced is refused, with what to do.
* The tables are brought to our version by a process that has the right to write them, alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from actors.journal.evidence_tables import add_tables
from actors.journal.high_water_mark import Mark, Seen
from actors.journal.lock import JournalLock
from actors.journal.postgresql import is_lost
from actors.journal.postgresql_servers import Servers
from actors.journal.schema import (
    OnConnect,
    add_indexes,
    corrupt,
    create_file,
    engine_for,
    ensure_schema,
    file_of,
    identity_of,
    make_directory,
    parse_url,
    schema_version,
    shown,
    write_nothing,
)
from actors.journal.types import JournalCorrupt, JournalMissing, JournalUnavailable
from actors.journal.verification import check_seen

READER_WAITS_S: Final = 60.0
"""How long a reader waits for an answer of a server: a question may read much."""
WRITER_WAITS_S: Final = 10.0
"""How long a writer waits: less than an actor waits for its append."""

MOVING_MUCH_S: Final = 1800.0


class Place:
    """The place of one journal. ``name`` may be shown, ``file`` is ``None`` for a database that is a server,
    where the lock is the server's and held by the connection that writes; what is to stand on this machine then stands
    ``beside``, if that is given, and each answer is waited for ``answer_within_s``."""

    def __init__(
        self,
        url: str,
        *,
        exclusive: bool,
        read_only: bool,
        busy_timeout_s: float,
        on_connect: OnConnect | None,
        beside: Path | None = None,
        answer_within_s: float | None = None,
    ) -> None:
        self._url = parse_url(url)
        self.name = shown(self._url)
        self.file = file_of(self._url)
        self.dialect = self._url.get_backend_name()
        self.read_only = read_only
        self._exclusive = exclusive
        self._busy_timeout_s = busy_timeout_s
        self._on_connect = on_connect
        self._lock = JournalLock(self.file) if exclusive and self.file is not None else None
        self._mark = Mark(self.file) if self.file is not None else None
        self._servers: Servers | None = None
        if self.dialect == "postgresql":
            waits_s = answer_within_s or (READER_WAITS_S if read_only else WRITER_WAITS_S)
            self._servers = Servers(self._url, read_only=read_only, exclusive=exclusive, answer_within_s=waits_s)
            self._mark = None if beside is None else Mark(beside, of_server=True)
        self._identity: tuple[int, int] | None = None

    @property
    def held(self) -> bool:
        """Whether this process is its one writer: by the lock of its file, or of the server that it is in."""
        return self._exclusive and (self._lock is not None or self.file is None)

    def take(self) -> None:
        """Make the directory, and this process the one writer where it is to be. Raises what :class:`JournalLock`
        and :func:`make_directory` do."""
        if self.file is not None and not self.read_only:
            make_directory(self.file)
        if self._servers is not None and self._mark is not None and not self.read_only:
            with contextlib.suppress(JournalUnavailable):  # a mark that cannot be written costs no work
                make_directory(self._mark.path)
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
        if not self.read_only:
            create_file(self.file)

    def connect(
        self,
        attempted: str,
        *,
        read_only: bool,
        doubtful: bool = False,
        believe: Callable[[Connection], None] = lambda _: None,
    ) -> Connection:
        """A new connection to tables of our version (or, to read, of an older one), whose content ``believe`` accepts:
        it raises :class:`JournalCorrupt` where that is not what was written."""
        if self._servers is not None:
            seen = self.seen()
            servers = self._servers
            if read_only and not self.read_only:  # beside the writer's own connection
                servers = Servers(self._url, read_only=True, exclusive=False, answer_within_s=READER_WAITS_S)
            prepare = partial(self._prepare_server, attempted, seen, read_only=read_only, believe=believe)
            return servers.connect(attempted, None if seen is None else seen.server, prepare)
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
            ensure_schema(connection, self._url, read_only=read_only, alone=self._alone)
            if not read_only:
                add_indexes(connection)
                add_tables(connection)
            believe(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_server(
        self,
        attempted: str,
        seen: Seen | None,
        connection: Connection,
        strict: bool,
        *,
        read_only: bool,
        believe: Callable[[Connection], None],
    ) -> None:
        if seen is not None and schema_version(connection) is None:
            found = f"its database is empty, and {seen.seq} records were durable"
            raise JournalCorrupt(attempted, found, self.remedy)
        ensure_schema(connection, self._url, read_only=read_only, alone=self._alone)
        if strict and seen is not None:  # before anything is written there
            check_seen(connection, seen, attempted, self.remedy)
        if not read_only:
            add_indexes(connection)
            add_tables(connection)
            # What an earlier commit left unanswered may be on this server's disk alone. This commit waits for the
            # standby to have all that came before it, too.
            write_nothing(connection)
        believe(connection)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What the server in use does not promise, in sentences."""
        return self._servers.cautions if self._servers is not None else ()

    def lost(self, connection: Connection) -> bool:
        """Whether the server has ended this connection since it was used last."""
        return self._servers is not None and is_lost(connection)

    def give_up(self, connection: Connection) -> None:
        """Close a connection, whatever state it is in."""
        if self._servers is not None:
            connection.invalidate()  # nothing is asked of its server any more, which may be gone
        connection.close()

    def be_patient(self, connection: Connection, *, much: bool = True) -> None:
        """Wait longer for each answer of a server from now on: one statement may move all that there is."""
        if self._servers is not None:
            self._servers.be_patient(connection, MOVING_MUCH_S if much else None)

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
            server = None if self._servers is None else self._servers.identity
            self._mark.write(seq, last_hash, server, sync=sync)

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
