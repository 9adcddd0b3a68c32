"""Which of the servers that ``journal.url`` names is connected to: the primary, and after a failover the new one.

The law of this module: among those that answer, the newest timeline is asked first, and one that another process
writes to ends the search: no writer goes around another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import chain
from typing import Final

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from actors.journal.high_water_mark import ServerSeen
from actors.journal.postgresql import (
    CONNECT_WITHIN_S,
    Backend,
    Server,
    ask_server,
    refuse_former_primary,
    server_engine,
    settle_writer,
    take_lock,
    wait_at_most,
)
from actors.journal.postgresql_url import each_server, only_primary, place_of
from actors.journal.schema import in_our_words, parse_url
from actors.journal.types import JournalCorrupt, JournalError, JournalInUse, JournalTooNew, JournalUnavailable
from brokers.frozen import dataclass

_WORST_FIRST: Final = (JournalCorrupt, JournalTooNew)


@dataclass(frozen=True, slots=True)
class _Reached:
    place: str
    connection: Connection
    server: Server


class Servers:
    """The servers of one journal, for a writer or for a reader. ``cautions`` are those of the one in use."""

    def __init__(self, url: URL, *, read_only: bool, exclusive: bool, answer_within_s: float) -> None:
        self._each = each_server(url)
        self._only_primary = only_primary(url)
        self._read_only = read_only
        self._exclusive = exclusive
        self._answer_within_s = answer_within_s
        self._former: dict[str, Backend] = {}
        self.identity: ServerSeen | None = None
        self.cautions: tuple[str, ...] = ()

    def connect(
        self, attempted: str, seen: ServerSeen | None, prepare: Callable[[Connection, bool], None]
    ) -> Connection:
        """A connection to the primary that ``prepare`` accepts; it raises ``JournalError`` where it does not. Its
        second argument says whether missing records are a reason to: not for a reader that found no better server, and
        shows it."""
        problems: list[tuple[str, JournalError]] = []
        reached = self._reach(attempted, problems)
        # By timeline, and else in the order of the URL.
        reached.sort(key=lambda one: (one.server.standby, -one.server.timeline))
        doubted: list[_Reached] = []
        with contextlib.ExitStack() as others:
            for one in reached:
                others.callback(_give_up, one.connection)
            for one in chain(reached, doubted):  # the doubted ones are known when all have been tried
                try:
                    self._use(one, attempted, seen)
                    prepare(one.connection, one not in doubted)
                except JournalInUse:
                    raise
                except (JournalError, DBAPIError) as error:
                    found = error if isinstance(error, JournalError) else in_our_words(error, attempted)
                    problems.append((one.place, found))
                    if self._read_only and isinstance(found, JournalCorrupt) and one not in doubted:
                        doubted.append(one)
                else:
                    others.pop_all()
                    for left in reached:
                        if left is not one:
                            _give_up(left.connection)
                    self.identity, self.cautions = one.server.identity or self.identity, one.server.cautions
                    return one.connection
        raise self._of_all(attempted, problems)

    def be_patient(self, connection: Connection, answer_within_s: float | None) -> None:
        """Wait so long for each answer on this connection from now on; ``None``: as long as usual."""
        wait_at_most(connection, answer_within_s or self._answer_within_s)

    def _reach(self, attempted: str, problems: list[tuple[str, JournalError]]) -> list[_Reached]:
        reached = []
        for url in self._each:
            place = place_of(url)
            try:
                connection = server_engine(url, answer_within_s=self._answer_within_s).connect()
                try:
                    server = ask_server(connection, place, several=len(self._each) > 1)
                except BaseException:
                    _give_up(connection)
                    raise
            except DBAPIError as error:
                problems.append((place, in_our_words(error, attempted)))
            else:
                reached.append(_Reached(place, connection, server))
        return reached

    def _use(self, one: _Reached, attempted: str, seen: ServerSeen | None) -> None:
        for known in (seen, self.identity):
            refuse_former_primary(one.server, known, attempted)
        if self._read_only:
            if one.server.standby and self._only_primary:
                raise JournalUnavailable(
                    attempted,
                    "it is a standby, which may be behind",
                    "It is tried again; to read one, write target_session_attrs=any into the URL",
                )
            one.connection.execution_options(postgresql_readonly=True)
            return
        settle_writer(one.connection, one.server, attempted)
        if self._exclusive:
            former, self._former[one.place] = self._former.get(one.place), one.server.backend
            take_lock(one.connection, former, attempted)

    def _of_all(self, attempted: str, problems: list[tuple[str, JournalError]]) -> JournalError:
        if len(self._each) == 1:
            return problems[0][1]
        found = "; ".join(dict.fromkeys(f"{place}: {error.found}" for place, error in problems))
        remedies = ". ".join(dict.fromkeys(error.remedy for _, error in problems))
        kinds = [type(error) for _, error in problems]
        worst = next((kind for kind in _WORST_FIRST if kind in kinds), None)
        kind = worst or (kinds[0] if len(set(kinds)) == 1 else JournalUnavailable)
        return kind(attempted, found, remedies)


def cautions_of_server(url: str) -> tuple[str, ...]:
    """What the server that a journal's URL leads to does not promise, in sentences; empty for a file. Writes nothing.
    Raises ``JournalError`` where none of its servers answers."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "postgresql":
        return ()
    servers = Servers(parsed, read_only=True, exclusive=False, answer_within_s=CONNECT_WITHIN_S)
    _give_up(servers.connect("look at the journal's server", None, lambda _, __: None))
    return servers.cautions


def _give_up(connection: Connection) -> None:
    with contextlib.suppress(DBAPIError):
        connection.invalidate()
    connection.close()
