"""The tables of the journal and the way to them: connections, pragmas, schema version, errors in our own words.

* A commit is on disk when it returns: SQLite in WAL mode with ``synchronous=FULL``.
* The file is created for its owner alone (0600), and only by a writer: who reads never creates.
* A schema newer than ours is refused before anything else is read.
* What is peculiar to SQLite is in this module; the statements of the journal are SQLAlchemy Core for any database.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from sqlalchemy import (
    URL,
    BigInteger,
    ClauseElement,
    Column,
    Connection,
    Dialect,
    Engine,
    Executable,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Transaction,
    UniqueConstraint,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    inspect,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from actors.book.trading_permission import HALT_TYPES
from actors.events import EventType
from actors.journal.hash_chain import GENESIS, Row
from actors.journal.postgresql import DAMAGED, IN_WORDS, REMEDIES
from actors.journal.postgresql_url import make_server_url, shown_url, with_our_driver
from actors.journal.reading_files import reading_uri
from actors.journal.types import JournalCorrupt, JournalError, JournalMissing, JournalTooNew, JournalUnavailable
from brokers.kit.whole_file import sync

SCHEMA_VERSION: Final = 2
"""1 has no anchor; a writer brings it to 2 in place, and a reader reads both."""

OnConnect = Callable[[sqlite3.Connection], None]
"""Called with each new connection to a SQLite file, before it is used."""

Alone = Callable[[], contextlib.AbstractContextManager[None]]
"""Holds the right to write the journal while it is entered, or raises :class:`JournalInUse`."""

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
RowValues = Row
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
IS_HALT: Final = records.c.type.in_([literal_column(f"'{kind}'") for kind in HALT_TYPES])
"""As :data:`IS_CHECKPOINT`: the few halts of trading among millions of records are looked for at every start."""

halts = Index(
    "journal_records_halt",
    records.c.seq,
    sqlite_where=IS_HALT,
    postgresql_where=IS_HALT,
)
INDEXES: Final = (checkpoints, halts)
# The last record as its writer left it: without it, records cut off the end would leave a chain that looks whole.
head = Table(
    "journal_head",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String, nullable=False),
)
# Where records were moved into an archive, at most one row; see actors.journal.archive_anchor.
anchor = Table(
    "journal_anchor",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String, nullable=False),
    Column("file", String, nullable=False),
    Column("digest", String, nullable=False),
)
archived_versions = Table(
    "journal_archived_versions",
    _metadata,
    Column("stream", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
schema = Table("journal_schema", _metadata, Column("version", Integer, primary_key=True, autoincrement=False))


def parse_url(url: str) -> URL:
    """The URL of a journal, a relative SQLite path made absolute; raises :class:`JournalUnavailable`."""
    try:
        parsed = make_server_url(url)
        parsed = parsed if parsed.get_backend_name() != "postgresql" else with_our_driver(parsed)
        parsed.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError) as error:
        raise JournalUnavailable(
            "open the journal",
            f"there is no driver for its database ({error})",
            "For PostgreSQL install the extra 'postgres' of this package, or use sqlite:///path",
        ) from None
    except (ArgumentError, ValueError):
        raise JournalUnavailable(
            "open the journal",
            "its URL cannot be read",
            "Write journal.url as sqlite:///path/to/file.db or postgresql://user@host/database",
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
    if file is not None:
        return str(file)
    return shown_url(url) if url.get_backend_name() == "postgresql" else url.render_as_string(hide_password=True)


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

    Raises :class:`JournalUnavailable`.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        sync(file.parent)
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
            reading_uri(file) if read_only else f"file:{quote(str(file))}?mode=rw",
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
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(connection.info.pop(_BEGIN, "BEGIN")))
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


def ensure_schema(connection: Connection, url: URL, *, read_only: bool, alone: Alone) -> None:
    """The tables: created by a writer where there are none, and brought to our version where they are older.

    ``alone`` keeps other writers out meanwhile. Raises :class:`JournalTooNew` for a schema newer than ours,
    :class:`JournalMissing` for a reader where nothing was ever written, :class:`JournalCorrupt` where the tables do not
    agree with each other, and what ``alone`` raises.
    """
    found = schema_version(connection)
    if found is None:
        if read_only:
            attempted = f"read the journal {shown(url)}"
            remedy = "Start the supervisor; of a copy made while one wrote, bring the -wal file along"
            raise JournalMissing(attempted, "nothing was ever written to it", remedy)
        _create(connection)
    elif found > SCHEMA_VERSION:
        raise JournalTooNew(
            f"open the journal {shown(url)}",
            f"its schema is version {found}, and this program knows {SCHEMA_VERSION}",
            "Use the version of the program that wrote it, or a newer one",
        )
    elif found < SCHEMA_VERSION and not read_only:
        with alone():
            _migrate(connection)


def schema_version(connection: Connection) -> int | None:
    """The version of the tables there are; ``None`` where nothing was ever written."""
    with connection.begin():
        exists = inspect(connection).has_table(schema.name)
        return connection.execute(select(func.max(schema.c.version))).scalar() if exists else None


def _create(connection: Connection) -> None:
    with connection.begin():
        for table in (schema, head, records, anchor, archived_versions):
            connection.execute(CreateTable(table, if_not_exists=True))
        for index in INDEXES:
            connection.execute(CreateIndex(index, if_not_exists=True))
        if not connection.execute(select(func.count()).select_from(schema)).scalar_one():
            connection.execute(insert(head).values(id=1, seq=0, hash=GENESIS))
            connection.execute(insert(schema).values(version=SCHEMA_VERSION))


def add_indexes(connection: Connection) -> None:
    """The indexes that a writer of an earlier version did not make (it keeps those that are there). Reads all records
    once for each; begins a transaction of its own."""
    with connection.begin():
        found = inspect(connection)
        if not found.has_table(records.name):
            return  # whoever reads it says that it is gone
        there = {one["name"] for one in found.get_indexes(records.name)}
        for index in INDEXES:
            if index.name not in there:
                connection.execute(CreateIndex(index, if_not_exists=True))


def _migrate(connection: Connection) -> None:
    """From version 1, in one transaction: a process that is killed meanwhile leaves a whole version 1."""
    with connection.begin():
        for table in (anchor, archived_versions):
            connection.execute(CreateTable(table, if_not_exists=True))
        connection.execute(update(schema).values(version=SCHEMA_VERSION))


_BEGIN: Final = "how the next transaction begins"
_TAKE_TURN: Final = update(head).where(head.c.id == 1).values(seq=head.c.seq)
_MOVE_HEAD: Final = (
    update(head).where(head.c.id == literal_column("1")).values(seq=bindparam("seq"), hash=bindparam("hash"))
)
_INSERT: Final = insert(records)
_READ_HEAD: Final = select(head.c.seq, head.c.hash)


@contextlib.contextmanager
def writing(connection: Connection) -> Iterator[Transaction]:
    """A transaction that is the one writer's from its beginning, so that what it reads stays true until its commit."""
    if connection.dialect.name == "sqlite":
        connection.info[_BEGIN] = "BEGIN IMMEDIATE"
    with connection.begin() as transaction:
        if connection.dialect.name != "sqlite":
            connection.execute(_TAKE_TURN)
        yield transaction


def write_nothing(connection: Connection) -> None:
    """A commit that changes nothing, and proves that one is possible."""
    with writing(connection):
        connection.execute(_TAKE_TURN)


def read_head(connection: Connection, attempted: str) -> tuple[int, str]:
    """``seq`` and ``hash`` of the last record as the last commit left them; raises :class:`JournalCorrupt`."""
    row = _directly(connection, _READ_HEAD)
    if row is None:
        raise corrupt(attempted, "the head that the last commit left is gone")
    return row[0], row[1]


def insert_records(connection: Connection, rows: Sequence[RowValues]) -> None:
    """Insert into ``records`` and move the head to the last of them, within the present transaction."""
    _directly(connection, _INSERT, *rows)
    move_head(connection, rows[-1][0], rows[-1][-1])


def move_head(connection: Connection, seq: int, last_hash: str) -> None:
    """Leave the last record's ``seq`` and ``hash`` as the head, within the present transaction."""
    _directly(connection, _MOVE_HEAD, (seq, last_hash))


def _directly(connection: Connection, statement: ClauseElement, *rows: Sequence[object]) -> Any:
    """Run a statement of every commit, whose parameters are in the order it names them; returns the row it finds.

    Straight to the driver where that is SQLite's: the way through SQLAlchemy costs as much as a small commit itself.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        names = list(statement.compile(dialect=connection.dialect).params)
        given = [dict(zip(names, row, strict=True)) for row in rows]
        result = connection.execute(cast("Executable", statement), given or None)
        return result.one_or_none() if result.returns_rows else None
    text = _text_of(statement, connection.dialect)
    try:
        if not rows:
            return driver.execute(text).fetchone()
        driver.executemany(text, rows)
    except sqlite3.Error as error:
        raise DBAPIError.instance(
            text, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
    return None


@functools.lru_cache(maxsize=8)
def _text_of(statement: ClauseElement, dialect: Dialect) -> str:
    return str(statement.compile(dialect=dialect))


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


def in_our_words(error: DBAPIError | sqlite3.Error, attempted: str) -> JournalError:
    """A driver's error as one of ours, without the statement and its rows."""
    original = error.orig if isinstance(error, DBAPIError) else error
    found = " ".join(str(original).split()).rstrip(".")
    state = _state_of(original, found)
    if state in DAMAGED:
        return JournalCorrupt(attempted, found, _KEEP)
    if state in REMEDIES:
        return JournalUnavailable(attempted, found, REMEDIES[state])
    name = str(getattr(original, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or found.startswith(_DAMAGED):
        return JournalCorrupt(attempted, found, _KEEP)
    for prefix, remedy in _REMEDIES.items():
        if name.startswith(prefix):
            return JournalUnavailable(attempted, found, remedy)
    return JournalUnavailable(attempted, found, "Check the database; it is tried again")


def _state_of(error: BaseException | None, found: str) -> str:
    """The SQLSTATE of a server's error; empty where there is none."""
    sqlstate = getattr(error, "sqlstate", None)
    return str(sqlstate) if sqlstate else next((state for words, state in IN_WORDS.items() if words in found), "")


def corrupt(attempted: str, found: str) -> JournalCorrupt:
    """What was read is not what was written."""
    return JournalCorrupt(attempted, found, _KEEP)


def empty_the_log(connection: Connection) -> None:
    """Bring everything that is in SQLite's write-ahead log into the database file itself."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
