"""What is peculiar to a journal in PostgreSQL.

* Its one writer holds an advisory lock of the database, by the very connection it writes with: a writer that lost its
  connection lost its lock, and takes it again with the next one or is refused. A writer whose machine is gone loses it
  when the server hears nothing of it any more.
* A commit is on the server's disk when it returns, and on that of its synchronous standby where it has one, whatever
  the server's default for that is. What an earlier commit left unanswered is settled in the same way before it is
  believed.
* Of several servers that accept writes, the one of the newest timeline is the primary: each promotion begins a
  timeline. A former primary that comes back is on an older one, and is never written to again.

PostgreSQL documentation, version 14 or newer: "Advisory Locks", "synchronous_commit", "Timelines", "TCP Settings".
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from actors.journal.high_water_mark import ServerSeen
from actors.journal.types import JournalInUse, JournalUnavailable
from brokers.frozen import dataclass

_LOCK: Final = int.from_bytes(b"journal")
"""One for each database: advisory locks of different databases do not meet."""

CONNECT_WITHIN_S: Final = 5
_LOST_AFTER_S: Final = 20
"""A peer that acknowledges nothing for so long is gone, with the lock that it held."""

_OF_OUR_END: Final = {
    "connect_timeout": CONNECT_WITHIN_S,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": _LOST_AFTER_S * 1000,
}
_OF_THE_SERVERS_END: Final = (
    "tcp_keepalives_idle = 5",
    "tcp_keepalives_interval = 5",
    "tcp_keepalives_count = 3",
    f"tcp_user_timeout = {_LOST_AFTER_S * 1000}",
)
_WAITS_FOR_STANDBY: Final = frozenset({"on", "remote_apply"})

_SERVER: Final = text(
    "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',"
    " current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), current_setting('fsync'),"
    " pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"
)
_IDENTITY: Final = text(
    "SELECT system_identifier::text, CASE WHEN pg_is_in_recovery() THEN NULL"
    " ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END FROM pg_control_system()"
)
_HOLDER: Final = text(
    "SELECT a.application_name, host(a.client_addr), a.pid, a.wait_event FROM pg_locks l JOIN pg_stat_activity a"
    " USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::bigint = :high"
    " AND l.objid::bigint = :low AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_END: Final = text(
    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE pid = :pid AND backend_start = :began"
)


@dataclass(frozen=True, slots=True)
class Backend:
    """The server's end of one connection."""

    pid: int
    began: Any


@dataclass(frozen=True, slots=True)
class Server:
    """What a server said of itself. ``identity`` is ``None`` where it does not say (some that are rented do not).
    ``cautions`` are sentences about what it does not promise."""

    standby: bool
    read_only: bool
    synchronous_commit: str
    backend: Backend
    identity: ServerSeen | None
    cautions: tuple[str, ...]

    @property
    def timeline(self) -> int:
        """Its timeline; 0 where it is not known, and of a standby."""
        return 0 if self.identity is None else self.identity.timeline


def server_engine(server: URL, *, answer_within_s: float) -> Engine:
    """An engine for one server, whose connections wait for nothing for ever."""
    engine = create_engine(server, poolclass=NullPool, hide_parameters=True)

    def connect(_: object, __: object, arguments: list[Any], given: dict[str, Any]) -> Any:
        from actors.journal.postgresql_connection import BoundedConnection

        name = {"fallback_application_name": f"journal: {socket.gethostname()[:40]}, process {os.getpid()}"}
        made = BoundedConnection.connect(*arguments, **{**_OF_OUR_END, **name, **given})
        made.patience_s = answer_within_s
        return made

    event.listen(engine, "do_connect", connect)
    return engine


def wait_at_most(connection: Connection, answer_within_s: float) -> None:
    """Bound every later answer on this connection."""
    driver: Any = connection.connection.driver_connection
    driver.patience_s = answer_within_s


def is_lost(connection: Connection) -> bool:
    """Whether this connection, which nobody used for a while, has been ended by its server."""
    driver: Any = connection.connection.driver_connection
    return not connection.in_transaction() and bool(driver.lost())


def ask_server(connection: Connection, place: str, *, several: bool) -> Server:
    """What the server is, that this new connection leads to."""
    with connection.begin():
        standby, read_only, commits, standbys, fsync, pid, began = connection.execute(_SERVER).one()
    identity = None
    # Not every user of every server may ask for this.
    with contextlib.suppress(DBAPIError), connection.begin():
        system, timeline = connection.execute(_IDENTITY).one()
        identity = None if timeline is None else ServerSeen(system, timeline)
    cautions = []
    if several and not standbys and not standby:
        cautions.append(
            f"{place} waits for no standby (synchronous_standby_names is empty): if another of the servers in "
            "journal.url takes over, what was written last is lost. Name the standby there"
        )
    if fsync != "on":
        cautions.append(f"{place} has fsync = {fsync}: a power failure there can lose or damage the journal. Set it on")
    return Server(standby, read_only, commits, Backend(pid, began), identity, tuple(cautions))


def refuse_former_primary(server: Server, seen: ServerSeen | None, attempted: str) -> None:
    """Raises :class:`JournalUnavailable` where the journal went on at a standby of this server since."""
    found = server.identity
    if found is None or seen is None or found.system != seen.system or found.timeline >= seen.timeline:
        return
    raise JournalUnavailable(
        attempted,
        f"it is a former primary that came back: it is on timeline {found.timeline}, and the journal went on on "
        f"timeline {seen.timeline} of another server",
        "Stop it, and make it a standby of the present one (pg_rewind or pg_basebackup)",
    )


def settle_writer(connection: Connection, server: Server, attempted: str) -> None:
    """Make a new connection keep the laws of a writer, but for the lock. Raises :class:`JournalUnavailable` where the
    server accepts no writes."""
    if server.standby:
        remedy = "Promote it, or name the primary in journal.url; it goes on by itself"
        raise JournalUnavailable(attempted, "the server is a standby", remedy)
    if server.read_only:
        raise JournalUnavailable(
            attempted,
            "the server lets nobody write (default_transaction_read_only is on)",
            "Find out why it was set, and set it off; it goes on by itself",
        )
    with connection.begin():
        if server.synchronous_commit not in _WAITS_FOR_STANDBY:
            connection.exec_driver_sql("SET synchronous_commit TO on")
        for setting in _OF_THE_SERVERS_END:
            connection.exec_driver_sql(f"SET {setting}")


def take_lock(connection: Connection, former: Backend | None, attempted: str) -> None:
    """Become the one writer. ``former`` is the server's end of a connection of ours that was given up: it may hold the
    lock still, where it waits for a standby and does not see that nobody is there any more. A server takes a moment to
    see that a connection was closed: a lock that is held is tried for a second. Raises :class:`JournalInUse` where
    another holds it."""
    with connection.begin():
        if _locked(connection):
            return
        if former is not None:
            connection.execute(_END, {"pid": former.pid, "began": former.began})
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if _locked(connection):
                return
            time.sleep(0.02)
        holder = connection.execute(_HOLDER, {"high": _LOCK >> 32, "low": _LOCK & 0xFFFFFFFF}).first()
    known = "" if holder is None else f" ({_words_of(*holder)})"
    raise JournalInUse(
        attempted,
        f"another process is its writer already{known}",
        "A journal has one writer: let it do the work, or end it (a supervisor by: python -m supervisor stop)",
    )


def _locked(connection: Connection) -> bool:
    return bool(connection.execute(select(func.pg_try_advisory_lock(_LOCK))).scalar())


def _words_of(name: str, address: str | None, pid: int, waits_for: str | None) -> str:
    at = "on the server's own machine" if address is None else f"at {address}"
    waiting = ", whose last commit waits for a standby" if waits_for == "SyncRep" else ""
    return f"{name or 'unnamed'}, {at}, the server's process {pid}{waiting}"


REMEDIES: Final = {
    "53100": "Free space on the server's disk; it goes on by itself",
    "53300": "Give it connections: close others, or raise the server's max_connections; it goes on by itself",
    "25006": "Make the server writable; it goes on by itself",
    "42501": "Give the user of journal.url the right to create and write the tables of the database",
}
"""By SQLSTATE; see "PostgreSQL Error Codes"."""
DAMAGED: Final = frozenset({"42P01", "42703", "XX001", "XX002"})
"""A table or a column that was there is gone, or what the server reads is damaged."""
IN_WORDS: Final = {"too many clients": "53300", "remaining connection slots": "53300"}
"""While it connects, the driver reports no SQLSTATE."""
