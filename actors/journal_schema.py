"""The tables of the journal and the way to them: connections, pragmas, schema version, errors in our own words.

* A commit is on disk when it returns: SQLite in WAL mode with ``synchronous=FULL``.
* The file is created for its owner alone (0600), and only by a writer: who reads never creates.
* A schema newer than ours is refused before anything else is read.
* What is peculiar to SQLite is in this module; the statements of the journal are SQLAlchemy Core for any database.
"""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    inspect,
    literal_column,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from actors.chain import GENESIS
from actors.events import EventType
from actors.journal_types import JournalCorrupt, JournalError, JournalMissing, JournalTooNew, JournalUnavailable

SCHEMA_VERSION: Final = 1

OnConnect = Callable[[sqlite3.Connection], None]
"""Called with each new connection to a SQLite file, before it is used."""

_metadata = MetaData()
_Seq = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row id

records = Table(
    "journal_records",
    _metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("stream", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("event_id", String, nullable=False),
    Column("time", String, nullable=False),
    Column("type", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("prev_hash", String, nullable=False),
    Column("hash", String, nullable=False),
    UniqueConstraint("stream", "version", name="journal_records_version"),
)
RowValues = tuple[int, str, int, str, str, str, str, str, str, str]
"""A row of ``records`` as it is written: the values of its columns, in their order."""

IS_CHECKPOINT: Final = records.c.type == literal_column(f"'{EventType.CHECKPOINT}'")
"""Written as a literal, because a partial index serves no bound parameter."""

checkpoints = Index(
    "journal_records_checkpoint",
    records.c.stream,
    records.c.version,
    sqlite_where=IS_CHECKPOINT,
    postgresql_where=IS_CHECKPOINT,
)
# The last record as its writer left it: without it, records cut off the end would leave a chain that looks whole.
head = Table(
    "journal_head",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String, nullable=False),
)
schema = Table("journal_schema", _metadata, Column("version", Integer, primary_key=True, autoincrement=False))


def parse_url(url: str) -> URL:
    """The URL of a journal, a relative SQLite path made absolute; raises :class:`JournalUnavailable`."""
    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError) as error:
        raise JournalUnavailable(
            "open the journal", f"there is no driver for its database ({error})", "Install one, or use sqlite:///path"
        ) from None
    except ArgumentError:
        raise JournalUnavailable(
            "open the journal", "its URL cannot be read", "Write journal.url as sqlite:///path/to/file.db"
        ) from None
    if parsed.get_backend_name() != "sqlite":
        return parsed
    if parsed.database in {None, "", ":memory:"}:
        raise JournalUnavailable(
            "open the journal", "its URL names no file, and what is in memory is not durable", "Name a file"
        )
    return parsed.set(database=str(Path(str(parsed.database)).resolve()))


def file_of(url: URL) -> Path | None:
    """The file of a SQLite journal; ``None`` for a database that is a server."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def shown(url: URL) -> str:
    """A journal's name for people: the path of its file, or its URL without the password."""
    file = file_of(url)
    return str(file) if file is not None else url.render_as_string(hide_password=True)


def make_directory(file: Path) -> None:
    """The directory of a journal's file, created where it is missing; raises :class:`JournalUnavailable`."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalUnavailable(
            f"create the directory {file.parent} of the journal",
            error.strerror or str(error),
            "Make it possible to create it, or name another place in journal.url",
        ) from error


def identity_of(file: Path | None) -> tuple[int, int] | None:
    """Which file stands at the path now; ``None`` where there is none."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create_file(file: Path) -> None:
    """An empty file for its owner alone, where there is none.

    Raises :class:`JournalUnavailable`, and :class:`JournalCorrupt` where only the log of a journal is left.
    """
    log = file.with_name(file.name + "-wal")
    if not file.exists() and log.exists():
        raise corrupt(f"open the journal {file}", f"it is not there, but its write-ahead log {log} is")
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        return
    except OSError as error:
        raise JournalUnavailable(
            f"create the journal {file}",
            error.strerror or str(error),
            "Make its directory writable and give it space, or name another place in journal.url",
        ) from error


def engine_for(
    url: URL, *, read_only: bool, busy_timeout_s: float, doubtful: bool, on_connect: OnConnect | None
) -> Engine:
    """An engine whose connections keep the laws of this module.

    ``doubtful`` says that an earlier commit failed: what the write-ahead log seems to hold is then moved into the
    file, and known to be there, before anything is read from it.
    """
    file = file_of(url)
    if file is None:
        return create_engine(url, poolclass=NullPool, hide_parameters=True)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(file))}?mode={'ro' if read_only else 'rw'}",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if on_connect is not None:
                on_connect(connection)
            if not read_only:
                _make_durable(connection, file, must_settle=doubtful)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    # The driver would begin a transaction only before some statements; ours begin where SQLAlchemy says so.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _make_durable(connection: sqlite3.Connection, file: Path, *, must_settle: bool) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise JournalUnavailable(
            f"open the journal {file}",
            f"its file system allows the journal mode {mode} only",
            "Put it on a local disk",
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # After a crash or a failed fsync the log may hold a commit that is in the cache of the operating system and not
    # on disk. A checkpoint syncs the log, copies it and syncs the copy.
    busy, logged, moved = connection.execute(
        f"PRAGMA wal_checkpoint({'FULL' if must_settle else 'PASSIVE'})"
    ).fetchone()
    if must_settle and (busy or logged != moved):
        raise JournalUnavailable(
            f"open the journal {file} again after a failed commit",
            "a reader keeps its write-ahead log from being settled",
            "It is tried again; end a reader that stays",
        )


def ensure_schema(connection: Connection, url: URL, *, read_only: bool) -> None:
    """The tables, created by a writer where there are none.

    Raises :class:`JournalTooNew` for a schema newer than ours, :class:`JournalMissing` for a reader where nothing was
    ever written, :class:`JournalCorrupt` where the tables do not agree with each other.
    """
    with connection.begin():
        exists = inspect(connection).has_table(schema.name)
        versions = connection.execute(select(schema.c.version)).scalars().all() if exists else []
    if versions:
        _check_version(max(versions), url)
    elif read_only:
        raise JournalMissing(f"read the journal {shown(url)}", "nothing was ever written to it", "Start the supervisor")
    else:
        _create(connection)


def _check_version(found: int, url: URL) -> None:
    if found > SCHEMA_VERSION:
        raise JournalTooNew(
            f"open the journal {shown(url)}",
            f"its schema is version {found}, and this program knows {SCHEMA_VERSION}",
            "Use the version of the program that wrote it, or a newer one",
        )


def _create(connection: Connection) -> None:
    with connection.begin():
        for table in (schema, head, records):
            connection.execute(CreateTable(table, if_not_exists=True))
        connection.execute(CreateIndex(checkpoints, if_not_exists=True))
        if not connection.execute(select(func.count()).select_from(schema)).scalar_one():
            connection.execute(insert(head).values(id=1, seq=0, hash=GENESIS))
            connection.execute(insert(schema).values(version=SCHEMA_VERSION))


@functools.lru_cache(maxsize=4)
def _insert_text(dialect: Dialect) -> str:
    return str(insert(records).compile(dialect=dialect))


def insert_records(connection: Connection, rows: Sequence[RowValues]) -> None:
    """Insert into ``records`` within the present transaction."""
    if connection.dialect.positional:
        # Straight to the driver: binding each row by its names would cost as much as the insert itself.
        connection.exec_driver_sql(_insert_text(connection.dialect), rows)
    else:
        names = records.c.keys()
        connection.execute(insert(records), [dict(zip(names, row, strict=True)) for row in rows])


_REMEDIES: Final = {
    "SQLITE_FULL": "Free space on its disk; it goes on by itself",
    "SQLITE_READONLY": "Make the file and its directory writable for this user",
    "SQLITE_BUSY": "Another process holds it; it is tried again",
    "SQLITE_LOCKED": "Another process holds it; it is tried again",
    "SQLITE_CANTOPEN": "Check that the path is a file that this user may open, in a writable directory",
    "SQLITE_IOERR": "Check its disk for space and for errors",
}
_DAMAGED: Final = ("Could not decode to UTF-8", "no such table", "no such column")
_KEEP: Final = "Keep the files as they are, run `audit verify`, and restore from a copy"


def in_our_words(error: DBAPIError, attempted: str) -> JournalError:
    """A driver's error as one of ours, without the statement and its rows."""
    found = str(error.orig).strip()
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or found.startswith(_DAMAGED):
        return JournalCorrupt(attempted, found, _KEEP)
    for prefix, remedy in _REMEDIES.items():
        if name.startswith(prefix):
            return JournalUnavailable(attempted, found, remedy)
    return JournalUnavailable(attempted, found, "Check the database; it is tried again")


def corrupt(attempted: str, found: str) -> JournalCorrupt:
    """What was read is not what was written."""
    return JournalCorrupt(attempted, found, _KEEP)


def empty_the_log(connection: Connection) -> None:
    """Bring everything that is in SQLite's write-ahead log into the database file itself."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
