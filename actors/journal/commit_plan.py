"""What one commit will write: each append of a batch decided in its turn, on the version its stream has by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from sqlalchemy import Connection, bindparam, literal_column, select

from actors.events import Event, to_iso
from actors.journal.archive_anchor import archived_version
from actors.journal.hash_chain import payload_text, rows_of
from actors.journal.schema import RowValues, records
from actors.journal.types import Append, Appended, AppendRefused, Stale
from brokers.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Heads:
    """The last record of the journal (0 and 64 zeros when it is empty), and the versions known of its streams."""

    seq: int
    hash: str
    versions: dict[str, int] = field(default_factory=dict)


# Made once: putting a statement together takes longer than what it asks for.
_LAST_VERSION: Final = (
    select(records.c.version)
    .where(records.c.stream == bindparam("of"))
    .order_by(records.c.version.desc())
    .limit(literal_column("1"))
)


def version_of(connection: Connection, stream: str) -> int:
    """Where a stream stands; 0 for one that is new."""
    return connection.execute(_LAST_VERSION, {"of": stream}).scalar() or archived_version(connection, stream)


class Plan:
    """The rows of one commit. ``rows``, ``seq`` and ``hash`` are what it adds and where it ends.

    Made inside the transaction that will write it, so that what it reads stays true.
    """

    def __init__(self, connection: Connection, heads: Heads) -> None:
        self._connection = connection
        self._versions = dict(heads.versions)
        self.seq = heads.seq
        self.hash = heads.hash
        self.rows: list[RowValues] = []

    def heads(self) -> Heads:
        """The heads as they are once the plan is committed."""
        return Heads(self.seq, self.hash, self._versions)

    def decide(self, append: Append) -> Appended | Stale | AppendRefused:
        """Take the append into the plan, or say why not; one that is not taken leaves no trace."""
        actual = self._version(append.stream)
        if append.expected_version != actual:
            known = self._already_in(append)
            return known or Stale(append.stream, append.expected_version, actual)
        if not append.events:
            return Appended(actual, self._seq_of(append.stream, actual))
        try:
            rows = self._rows(append.stream, actual, append.events)
        except (TypeError, ValueError) as error:
            return AppendRefused(
                f"append {len(append.events)} events to {append.stream} after version {actual}",
                str(error),
                "Nothing of it was written. This is an error of the program: report it",
            )
        self.rows += rows
        self.seq, self.hash = rows[-1][0], rows[-1][-1]
        self._versions[append.stream] = actual + len(rows)
        return Appended(actual + len(rows), self.seq)

    def _rows(self, stream: str, version: int, events: Sequence[Event]) -> list[RowValues]:
        if len({event.event_id for event in events}) != len(events):
            raise ValueError("one event id stands in it twice")
        return rows_of(self.seq, self.hash, stream, version, events)

    def _version(self, stream: str) -> int:
        known = self._versions.get(stream)
        if known is None:
            known = self._versions[stream] = version_of(self._connection, stream)
        return known

    def _seq_of(self, stream: str, version: int) -> int:
        planned = self._planned_rows(stream, version, version)
        if planned:
            return planned[0][0]
        place = select(records.c.seq).where(records.c.stream == stream, records.c.version == version)
        return self._connection.execute(place).scalar() or 0

    def _already_in(self, append: Append) -> Appended | None:
        """The answer this very append got, or would have got, when it was offered before."""
        first, last = append.expected_version + 1, append.expected_version + len(append.events)
        if not append.events or last > self._version(append.stream):
            return None
        columns = records.c
        place = (
            select(columns.event_id, columns.time, columns.type, columns.severity, columns.payload, columns.seq)
            .where(columns.stream == append.stream, columns.version.between(first, last))
            .order_by(columns.version)
        )
        found = [(tuple(row[:5]), row.seq) for row in self._connection.execute(place)]
        found += [((*row[3:7], row[7]), row[0]) for row in self._planned_rows(append.stream, first, last)]
        # By their whole content: two writers at one version can give the same id to different decisions.
        if [content for content, _ in found] != [_content(event) for event in append.events]:
            return None
        return Appended(last, found[-1][1])

    def _planned_rows(self, stream: str, first: int, last: int) -> list[RowValues]:
        return [row for row in self.rows if row[1] == stream and first <= row[2] <= last]


def _content(event: Event) -> tuple[str, str, str, str, str]:
    try:
        payload = payload_text(event.payload)
    except (TypeError, ValueError):
        payload = ""  # no record has it
    return event.event_id, to_iso(event.time), event.type.value, event.severity.value, payload
