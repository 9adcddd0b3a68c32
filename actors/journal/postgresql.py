"""What is peculiar to a journal in PostgreSQL.

* Its one writer holds an advisory lock of the database, by the very connection it writes with: a writer that lost its
  connection lost its lock, and takes it again with the next one or is refused.
* A commit is on the server's disk when it returns, whatever the server's default for that is.

PostgreSQL documentation: "Advisory Locks", "synchronous_commit".
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

from actors.journal.types import JournalInUse

_LOCK: Final = int.from_bytes(b"journal")
"""One for each database: advisory locks of different databases do not meet."""


def settle_postgresql(connection: Connection, attempted: str, *, exclusive: bool, read_only: bool) -> None:
    """Make a new connection keep these laws. Raises :class:`JournalInUse` where another holds the lock."""
    if read_only:
        connection.execution_options(postgresql_readonly=True)
        return
    with connection.begin():
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off":
            connection.exec_driver_sql("SET synchronous_commit TO on")
        if exclusive and not connection.execute(select(func.pg_try_advisory_lock(_LOCK))).scalar():
            raise JournalInUse(
                attempted,
                "another process is its writer already",
                "A journal has one writer: let it do the work, or end it (a supervisor by: python -m supervisor stop)",
            )
