"""A Delta table that takes each place of a journal once, whoever writes it, however often, and whatever crashes.

The laws of this module:

* The rows of a commit and the place in the journal that they reach are one commit: both exist, or neither.
* The format records the identifiers of transactions and refuses none of them. The check is ours: an append names the
  place that it continues, and is made against the very version of the table in which that place was read. Of two
  writers that continue the same place, one is refused, since a commit fails when its own identifier was written
  meanwhile.
* A table that another journal filled is not continued, nor one that lost rows: a table restored to an older version
  keeps its newest identifiers, and would have a gap for ever. Therefore the number of rows is an identifier too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from actors.delta.handle import TableHandle
from brokers.errors import Refused, Unreachable
from brokers.frozen import dataclass

T = TypeVar("T")

TRIES = 5
"""How often an append is repeated that lost against a change which did not concern its place."""

KEPT_FOR = timedelta(days=8)
"""How long a file stays after it was replaced: a reader of the last seven days may need it, and clocks differ."""

_PROPERTIES = {
    "delta.deletedFileRetentionDuration": f"interval {KEPT_FOR.days} days",
    "delta.appendOnly": "true",  # allows compaction and vacuum, but nothing that removes rows
}
_DIGITS_OF_HASH = 15


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a journal: the ``seq`` of a record and its ``hash``. ``seq`` 0 is before the first record."""

    seq: int
    hash: str = ""

    @property
    def fingerprint(self) -> int:
        """As much of the hash as the format has room for."""
        return int(self.hash[:_DIGITS_OF_HASH] or "0", 16)


@dataclass(frozen=True, slots=True)
class Reached:
    """The place up to which a table holds the journal. ``fingerprint`` is that of the record at ``seq``."""

    seq: int
    fingerprint: int


class OvertakenError(Exception):
    """Another writer used our name meanwhile: the table has reached another place. Nothing of ours was written."""

    def __init__(self, expected: int, reached: Reached) -> None:
        super().__init__(expected, reached)
        self.expected = expected
        self.reached = reached

    def __str__(self) -> str:
        return f"the table has reached seq {self.reached.seq}, and not {self.expected}: another writer is at work"


class OnceTable:
    """One Delta table, local or in an object store, written under one name.

    ``uri`` is a URI of delta-rs: a path, ``s3://…``. Without ``storage_options`` it finds a store's credentials in the
    environment (``AWS_…``). Columns ``added_later`` to the schema (nullable) are added to a table that was created
    without them. No error of this class shows the options. Every method raises :class:`Unreachable` where the store
    does not answer, and :class:`Refused` where a person has to act.
    """

    def __init__(
        self,
        uri: str,
        writer: str,
        schema: pa.Schema,
        *,
        partition_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        storage_options: Mapping[str, str] | None = None,
        added_later: Sequence[str] = (),
    ) -> None:
        self._uri = uri
        self._added_later = frozenset(added_later)
        self._writer = writer
        self._schema = schema
        self._partition_by = list(partition_by)
        self._properties = {**_PROPERTIES, **(properties or {})}
        self._options = dict(storage_options) if storage_options is not None else None
        self._handle = TableHandle(uri, storage_options)
        self._counted_at: int | None = None

    def reached(self) -> Reached:
        """The place up to which the newest version holds the journal; creates the table where there is none."""
        table = self._guarded("read", self._newest)
        return self._reached_in(table)

    def append(self, rows: pa.Table, expected: int, place: Place) -> None:
        """Add ``rows``, which continue the journal after ``expected`` and reach to ``place``. Raises
        :class:`OvertakenError` where the table has reached another place than ``expected``."""
        self._guarded("append to", lambda: self._append(rows, expected, place))

    def compact(self) -> None:
        """Combine many small files into few large ones. The rows stay, and so do the small files, for
        :data:`KEPT_FOR`."""
        self._guarded("compact", lambda: self._newest().optimize.compact())

    def vacuum(self) -> None:
        """Delete files that were replaced longer than :data:`KEPT_FOR` ago, and no younger ones."""
        hours = int(KEPT_FOR.total_seconds() // 3600)
        self._guarded("vacuum", lambda: self._newest().vacuum(retention_hours=hours, dry_run=False))

    def _append(self, rows: pa.Table, expected: int, place: Place) -> None:
        for tried in range(1, TRIES + 1):
            table = self._newest()
            reached = self._reached_in(table)
            if reached.seq != expected:
                raise OvertakenError(expected, reached)
            total = (table.transaction_version(f"{self._writer}:rows") or 0) + rows.num_rows
            marks = [
                Transaction(self._writer, place.seq),
                Transaction(f"{self._writer}:hash", place.fingerprint),
                Transaction(f"{self._writer}:rows", total),
            ]
            before = table.version()
            try:
                write_deltalake(table, rows, mode="append", commit_properties=CommitProperties(app_transactions=marks))
            except CommitFailedError:
                # Another commit came in between. The table shows whether it was one under our name.
                self._handle.forget()
                if tried == TRIES:
                    raise
            else:
                if self._counted_at == before and table.version() == before + 1:
                    self._counted_at = before + 1  # only our commit, so nothing has to be counted
                return

    def _newest(self) -> DeltaTable:
        opened = self._handle.opened
        try:
            table = self._handle.newest()
        except TableNotFoundError:
            DeltaTable.create(
                self._uri,
                self._schema,
                mode="ignore",  # another writer may create it at the same time
                partition_by=self._partition_by,
                configuration=dict(self._properties),
                storage_options=self._options,
            )
            table = self._handle.newest()
        if self._handle.opened != opened:
            self._counted_at = None
            self._check_columns(table)
        self._check_rows(table)
        return table

    def _check_rows(self, table: DeltaTable) -> None:
        """Check that every row that was written is still there. Counted only after another writer's version, since it
        reads every file."""
        if table.version() == self._counted_at:
            return
        written, found = table.transaction_version(f"{self._writer}:rows") or 0, table.count()
        if found != written:
            lost = f"it has {found} rows, and {written} were written: some were removed or added, or it was restored"
            remedy = "Name a new table, which is filled from the journal again, or bring back its newest version."
            raise Refused(f"write to the Delta table {self._uri}", self._writer, lost, remedy)
        self._counted_at = table.version()

    def _check_columns(self, table: DeltaTable) -> None:
        found = {field.name: str(field.type) for field in pa.schema(table.schema().to_arrow())}
        wanted = {field.name: field.type for field in self._schema}
        lacking = sorted(wanted.keys() - found.keys())
        if lacking and self._added_later.issuperset(lacking):
            missing = pa.schema([field for field in self._schema if field.name in lacking])
            table.alter.add_columns(Schema.from_arrow(missing).fields)
            return
        if lacking:
            words = f"it has no column {', '.join(lacking)}; it has {', '.join(sorted(found))}"
            raise Refused(f"write to the Delta table {self._uri}", self._writer, words, "Name a table of its own.")

    def _reached_in(self, table: DeltaTable) -> Reached:
        seq = table.transaction_version(self._writer)
        fingerprint = table.transaction_version(f"{self._writer}:hash")
        return Reached(seq or 0, fingerprint or 0)

    def _guarded(self, attempted: str, work: Callable[[], T]) -> T:
        """Splits errors by remedy. The library's message is shortened, and shows no credential."""
        what = f"{attempted} the Delta table {self._uri}"
        try:
            return work()
        except SchemaMismatchError as error:
            remedy = "Its columns were changed: give ours a table of its own, or put the columns back."
            raise Refused(what, self._writer, self._said(error), remedy) from None
        except (DeltaError, OSError) as error:
            self._handle.forget()
            raise Unreachable(what, self._writer, self._said(error), "It is tried again by itself.") from None

    def _said(self, error: Any) -> str:
        text = " ".join(str(error).split())
        for secret in (self._options or {}).values():
            text = text.replace(secret, "…") if secret else text
        return text[:300]
