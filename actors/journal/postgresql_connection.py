"""A connection to PostgreSQL that waits for no answer for ever. Imports psycopg: only what connects imports this.

* A server that hangs still has its connections taken and its packets acknowledged by its kernel, so that no time-out
  of TCP ends them; and ``statement_timeout`` does not bound a COMMIT that waits for a synchronous standby. So each wait
  is bounded here, and a connection whose answer is late is closed.
* A wait for a synchronous standby that is cancelled at the server ends in a COMMIT that succeeds, with a WARNING. Such
  a commit is reported as failed here: it is on one disk only.

PostgreSQL documentation: "Synchronous Replication", "Connection Settings".
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

from psycopg import Connection, OperationalError
from psycopg.errors import Diagnostic

T = TypeVar("T")

_WARNING: Final = "01000"


class BoundedConnection(Connection[Any]):
    """Waits ``patience_s`` at most for each answer of the server, and raises ``OperationalError`` then."""

    patience_s: float = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._warnings: list[str] = []
        self.add_notice_handler(self._hear)

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Run what waits for the server; raises ``OperationalError`` when its time is over."""
        try:
            return super().wait(self._in_time(gen), *args, **kwargs)
        except _Late:
            self.close()
            raise OperationalError(f"the server gave no answer within {self.patience_s:g} s") from None

    def lost(self) -> bool:
        """Whether the server has ended this idle connection, as far as has been heard; asks nobody."""
        try:
            for _ in range(2):  # its last words, and the end
                self.pgconn.consume_input()
        except OperationalError:
            return True
        return self.closed

    def commit(self) -> None:
        """Commit; raises ``OperationalError`` where the server did not wait for its synchronous standby."""
        self._warnings.clear()
        super().commit()
        if self._warnings:
            self.close()
            raise OperationalError(f"the commit is not known to be on the standby ({self._warnings[0]})")

    def _hear(self, said: Diagnostic) -> None:
        if said.sqlstate == _WARNING and said.severity_nonlocalized == "WARNING":
            self._warnings.append(said.message_primary or "a warning without words")

    def _in_time(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + self.patience_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                # psycopg looks up from its wait every tenth of a second, with nothing.
                if not ready and time.monotonic() >= deadline:
                    raise _Late
                wanted = gen.send(ready)
        except StopIteration as ended:
            result: T = ended.value
            return result


class _Late(BaseException):
    """Not an error of the driver, which would be handled on the way by asking the server once more."""
