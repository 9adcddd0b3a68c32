"""A book that another system keeps in a Delta table: the newest row of each contract and leg.

The laws of this module:

* What cannot be read correctly is not read: a protocol, a deletion vector, a mapped, renamed or retyped column is an
  error that names it, and a row without its contract or its time is a doubt about every contract it may belong to.
* No filter relies on the statistics of files: those of decimals are doubles, and lose rows. Rows are compared.
* While files are only added, only the new ones are read. When a file is gone (compacted, restored, rewritten, deleted),
  all are read again; a table that replaced another is read from its beginning.
* Numbers are exact: a decimal's digits, a float's shortest ones. Each number has the precision of its column.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from actors.delta.book_rows import AHEAD_AT_MOST, EPOCH, FLOAT_DIGITS, MICROSECOND, DeltaBook, State, time_of
from actors.delta.book_spec import BookTableSpec
from actors.delta.correction_rows import row_table
from actors.delta.file_group import FileGroup
from actors.delta.handle import TableHandle
from actors.delta.latest_rows import KEY, LEG, ORDER, TIED, TIME, latest, newest_places
from actors.events import to_iso
from actors.reconciliation.reconciliation_pass import ClaimCorrection
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.frozen import dataclass
from brokers.spec import SecretRef

T = TypeVar("T")

ROWS_AT_ONCE = 1_000_000
"""The number of rows in memory at a time, however long the table is."""

FILES_AT_ONCE = 250
"""And the number of files: a small one takes several times its rows until it is combined with others."""

TRIES = 5
"""How often a correction that lost against another writer is appended again."""

SAFE_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "columnMapping", "deletionVectors"})
"""The features that do not change how files are read, and two that are checked where they are in use."""

PLACE: Final = "place"
_READER_VERSION = 3
_OUT_OF_ORDER = frozenset({"CREATE TABLE", "CREATE OR REPLACE TABLE", "WRITE", "ADD CONSTRAINT", "SET TBLPROPERTIES"})
_LOWEST = -(2**63)


class DeltaBookTable:
    """One account's book in one Delta table. Its methods block; call one at a time."""

    def __init__(self, spec: BookTableSpec) -> None:
        self._spec = spec
        options = {k: v.resolve() if isinstance(v, SecretRef) else v for k, v in spec.options.items()}
        self._handle = TableHandle(spec.uri, options)
        self._secrets = tuple(options.values())
        self._state: State | None = None
        self._types: dict[str, pa.DataType] | None = None
        self._lock = threading.Lock()
        self._book: DeltaBook | None = None

    @property
    def max_age(self) -> timedelta | None:
        """How old its content may be; ``None``: no limit."""
        return None if self._spec.max_age_s is None else timedelta(seconds=self._spec.max_age_s)

    def read(self, now: datetime) -> DeltaBook:
        """The newest version. Raises :class:`Unreachable`, :class:`Malformed` and :class:`Refused`."""
        with self._lock:
            state = self._guarded(self._read)
            stale = self._stale(state, now)
            if self._book is None or not self._book.still_says(state, now, stale):
                self._book = DeltaBook(self._spec, state, now, stale)
            return self._book

    def about(self) -> list[str]:
        """What a person should know about its columns before a book relies on them, one sentence each. Raises as
        :meth:`read`."""
        schema = self._guarded(lambda: self._schema(self._handle.newest()))
        words = []
        for name in filter(None, (self._spec.quantity, self._spec.average_price)):
            kind = schema.field(name).type
            if kind in FLOAT_DIGITS:
                words.append(f"column {name} is {kind}: it is compared to {FLOAT_DIGITS[kind]} significant digits")
            elif pa.types.is_decimal(kind) and kind.scale < 18:
                words.append(
                    f"column {name} is decimal({kind.precision}, {kind.scale}): a number with more than {kind.scale} "
                    "places is compared within its last place"
                )
            elif pa.types.is_integer(kind):
                words.append(f"column {name} is {kind}: a fraction is compared within one unit")
        if schema.field(self._spec.time).type.tz is None:
            words.append(f"column {self._spec.time} has no time zone: its times are taken as UTC")
        if self._spec.where and not self._guarded(self._read).rows.num_rows:
            chosen = ", ".join(f"{column} {' or '.join(texts)}" for column, texts in self._spec.where.items())
            words.append(
                f"no row has {chosen} (where): the book of this account is empty. See that both are written alike"
            )
        return words

    def correct(
        self, instrument: str, identity: str | None, corrections: Sequence[ClaimCorrection], now: datetime
    ) -> int:
        """Append the rows that it lacks, each once for its discrepancy, however often and by whomever; returns the
        number of new ones. Raises as :meth:`read`, and :class:`Refused` where it is not writable or a column cannot
        hold a number exactly."""
        if not self._spec.writable:
            raise self._refused("it is not writable", "Set book.writable: true to have it corrected.")
        with self._lock:
            return self._guarded(lambda: self._correct(instrument, identity, corrections, now))

    def _correct(
        self, instrument: str, identity: str | None, corrections: Sequence[ClaimCorrection], now: datetime
    ) -> int:
        for tried in range(1, TRIES + 1):
            state = self._read()
            table = self._handle.newest()
            if table.version() != state.version:
                continue
            # The transaction's identifier and its rows are one commit, made against the version that was read.
            new = [one for one in corrections if table.transaction_version(_mark(one)) is None]
            if not new:
                return 0
            key = identity if self._spec.by_identity and identity is not None else instrument
            rows = row_table(self._spec, state.schema, key, new, self._after(state, key, now))
            marks = [Transaction(_mark(one), 1) for one in new]
            try:
                write_deltalake(table, rows, mode="append", commit_properties=CommitProperties(app_transactions=marks))
            except CommitFailedError:
                self._handle.forget()
                if tried == TRIES:
                    raise
            else:
                return len(new)
        return 0

    def _after(self, state: State, key: str, now: datetime) -> datetime:
        """The present time, but later than every existing row of the contract."""
        times = [time_of(state.rows[TIME][place].as_py()) for place in state.places.get(key, ())]
        return max([now, *(at + MICROSECOND for at in times if at - now <= AHEAD_AT_MOST)])

    # Reading

    def _read(self) -> State:
        for _ in range(2):
            try:
                return self._newest_state()
            except FileNotFoundError:
                # Vacuumed during the reading: the newest version has other files, unless it too has lost some.
                self._state = None
                self._handle.forget()
        return self._newest_state()

    def _newest_state(self) -> State:
        table = self._handle.newest()
        known = self._state
        if known is not None and (known.opened, known.version) == (self._handle.opened, table.version()):
            return known
        schema = self._schema(table)
        files = _files(table)
        goes_on = known is not None and known.opened == self._handle.opened and known.schema == schema
        if known is None or not goes_on or not known.files <= files.keys():
            known = State(self._handle.opened, -1, schema, frozenset(), self._nothing(schema))
        new = [place for place in sorted(files.values(), key=lambda one: one.modified) if place.path not in known.files]
        state = self._with_files(table, known, new)
        self._state = state = self._finished(table, state, files.keys())
        return state

    def _with_files(self, table: DeltaTable, known: State, new: Sequence[_File]) -> State:
        rows, nobodys, timeless = known.rows, list(known.nobodys), set(known.timeless)
        for group in self._groups(table, known.schema, new):
            whole = group.read(self._columns()) if group.is_of_small_files else None
            narrow = group.read(self._columns(values=False)) if whole is None else whole
            numbered = narrow.append_column(PLACE, pa.array(np.arange(narrow.num_rows)))
            made, without_key, without_time = self._normal(numbered, values=False)
            nobodys.extend(without_key)
            timeless.update(without_time)
            newest = made[PLACE].to_numpy()[newest_places(made)]
            values = group.at(newest, self._columns()) if whole is None else whole.take(pa.array(newest))
            rows = latest(pa.concat_tables([rows, self._normal(values)[0]]))
        timed = sorted(at for at in nobodys if at is not None)
        newest_of_nobody: tuple[int | None, ...] = (None,) if None in nobodys else tuple(timed[-1:])
        return State(known.opened, -1, known.schema, frozenset(), rows, newest_of_nobody, frozenset(timeless))

    def _finished(self, table: DeltaTable, state: State, files: Iterable[str]) -> State:
        places: dict[str, list[int]] = {}
        for place, key in enumerate(state.rows[KEY].to_pylist()):
            places.setdefault(key, []).append(place)
        unordered = None
        if ORDER not in state.rows.column_names and pc.any(state.rows[TIED]).as_py():
            unordered = self._lost_order(table)
        return State(
            state.opened,
            table.version(),
            state.schema,
            frozenset(files),
            state.rows,
            state.nobodys,
            state.timeless,
            unordered,
            places,
            {name: state.rows[name].to_pylist() for name in (LEG, TIME, TIED, "quantity", "price", "discrepancy")},
        )

    def _lost_order(self, table: DeltaTable) -> str | None:
        """Why the order in which rows of one time came is lost: a compaction reorders them."""
        commits = table.history()
        for commit in commits:
            mode = (commit.get("operationParameters") or {}).get("mode", "Append")
            if commit.get("operation") not in _OUT_OF_ORDER or str(mode).lower() not in ("append", "errorifexists"):
                return f"version {commit['version']} ({commit.get('operation')}) lost the order in which they came"
        if not commits or commits[-1]["version"] > 0:
            return "the log no longer has the order in which they came"
        return None

    def _groups(self, table: DeltaTable, schema: pa.Schema, files: Sequence[_File]) -> Iterable[FileGroup]:
        """The files in their order, in groups of about :data:`ROWS_AT_ONCE` rows, or :data:`FILES_AT_ONCE`."""
        filesystem = self._filesystem(table)
        group = FileGroup(schema, filesystem, near=self._is_near)
        for one in files:
            group.add(one.path, one.partition, one.rows)
            if group.rows >= ROWS_AT_ONCE or group.files >= FILES_AT_ONCE:
                yield group
                group = FileGroup(schema, filesystem, near=self._is_near)
        if group.rows:
            yield group

    @property
    def _is_near(self) -> bool:
        return "://" not in self._spec.uri

    def _filesystem(self, table: DeltaTable) -> pa_fs.FileSystem:
        if self._is_near:
            return pa_fs.SubTreeFileSystem(self._spec.uri, pa_fs.LocalFileSystem())
        handler = DeltaStorageHandler.from_table(table._table, self._handle.options)  # noqa: SLF001 - as deltalake itself calls it
        return pa_fs.PyFileSystem(handler)

    def _columns(self, *, values: bool = True) -> tuple[str, ...]:
        """The columns to read; without ``values`` only those that decide which row is the newest."""
        spec = self._spec
        named = [spec.key, spec.leg, spec.time, spec.order, *spec.where]
        if values:
            named += [spec.quantity, spec.average_price]
        if values and spec.writable:
            named.append(spec.discrepancy)
        return tuple(dict.fromkeys(name for name in named if name))

    def _nothing(self, schema: pa.Schema) -> pa.Table:
        return self._normal(pa.table({name: pa.array([], schema.field(name).type) for name in self._columns()}))[0]

    def _normal(self, rows: pa.Table, *, values: bool = True) -> tuple[pa.Table, list[int | None], set[str]]:
        """Rows with the columns by which they are compared. Rows that cannot be compared are left out: returns the
        times of those without a contract or a leg, and the contracts of those without a time."""
        spec = self._spec
        for column, texts in spec.where.items():
            rows = rows.filter(pc.is_in(rows[column].cast(pa.string()), pa.array(texts, pa.string())))
        key = rows[spec.key]
        key = key if pa.types.is_string(key.type) else key.cast(pa.string())
        leg = rows[spec.leg].cast(pa.string()) if spec.leg else pa.chunked_array([pa.nulls(rows.num_rows, pa.string())])
        time = rows[spec.time].cast(pa.timestamp("us", rows.schema.field(spec.time).type.tz)).cast(pa.int64())
        columns: dict[str, Any] = {KEY: key, LEG: leg, TIME: time}
        if spec.order:
            columns[ORDER] = pc.fill_null(rows[spec.order].cast(pa.int64()), _LOWEST)
        if values:
            columns["quantity"] = rows[spec.quantity]
            none = pa.nulls(rows.num_rows, pa.float64())
            columns["price"] = rows[spec.average_price] if spec.average_price else none
            has_note = spec.writable and spec.discrepancy in rows.column_names
            columns["discrepancy"] = rows[spec.discrepancy] if has_note else pa.nulls(rows.num_rows, pa.string())
            columns[TIED] = pa.repeat(False, rows.num_rows)
        else:
            columns[PLACE] = rows[PLACE]
        made = pa.table(columns)
        if not (key.null_count or time.null_count or (spec.leg and leg.null_count)):
            return made, [], set()
        no_key = pc.or_(pc.is_null(key), pc.is_null(leg)) if spec.leg else pc.is_null(key)
        no_time = pc.is_null(time)
        without_key = made.filter(no_key)[TIME].to_pylist()
        without_time = set(made.filter(pc.and_(no_time, pc.invert(no_key)))[KEY].to_pylist())
        return made.filter(pc.invert(pc.or_(no_key, no_time))), without_key, without_time

    # The table's form

    def _schema(self, table: DeltaTable) -> pa.Schema:
        """Its columns, checked to be the configured ones, and readable."""
        self._check_protocol(table)
        schema = pa.schema(table.schema().to_arrow())
        marks = (self._spec.source, self._spec.discrepancy) if self._spec.writable else ()
        lacking = [name for name in dict.fromkeys((*self._columns(), *marks)) if name not in schema.names]
        if lacking:
            found = f"it has no column {', '.join(lacking)}; it has {', '.join(schema.names)}"
            remedy = "Name the columns as they are called now under book.columns."
            if self._spec.writable and set(lacking) <= {self._spec.source, self._spec.discrepancy}:
                remedy = "A writable book marks its corrections there: add it as text, or say writable: false."
            raise self._malformed(found, remedy)
        spec = self._spec
        numbers = "a decimal, a float or a whole number"
        wanted: list[tuple[str | None, Callable[[pa.DataType], bool], str]] = [
            (spec.key, _is_name, "text or a whole number"),
            (spec.leg, _is_name, "text or a whole number"),
            (spec.time, pa.types.is_timestamp, "a timestamp"),
            (spec.quantity, _is_number, numbers),
            (spec.average_price, _is_number, numbers),
            (spec.order, pa.types.is_integer, "a whole number"),
        ]
        for name, fits, words in wanted:
            if name and not fits(schema.field(name).type):
                found = f"column {name} is {schema.field(name).type}, and has to be {words}"
                raise self._malformed(found, "Name another column, or write its values as such.")
        types = {name: schema.field(name).type for name in self._columns()}
        changed = [name for name, kind in types.items() if self._types is not None and self._types.get(name) != kind]
        if changed and self._types is not None:
            name = changed[0]
            found = f"column {name} was {self._types[name]}, and is {types[name]} now"
            remedy = "Put it back, or restart the account to go on with the new type."
            raise self._malformed(found, remedy)
        self._types = types
        return schema

    def _check_protocol(self, table: DeltaTable) -> None:
        protocol = table.protocol()
        features = set(protocol.reader_features or ())
        strange = sorted(features - SAFE_FEATURES)
        if protocol.min_reader_version > _READER_VERSION or strange:
            found = (
                f"its protocol is reader version {protocol.min_reader_version} with {', '.join(strange) or 'nothing'}"
            )
            raise self._malformed(found, "Drop the feature from the table, or keep the book in one without it.")
        mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
        if mapping != "none":
            found = f"its columns are mapped (delta.columnMapping.mode is {mapping}): names in files are others"
            raise self._malformed(found, "Rewrite it without column mapping.")
        if "deletionVectors" in features and pa.table(table.deletion_vectors()).num_rows:
            found = "some of its rows are deleted by deletion vectors"
            remedy = "Rewrite it (REORG TABLE … APPLY (PURGE)) and set delta.enableDeletionVectors=false."
            raise self._malformed(found, remedy)

    def _stale(self, state: State, now: datetime) -> str | None:
        """Why its whole content is too old, as text."""
        max_age = self.max_age
        if max_age is None:
            return None
        stamp = self._handle.commit.get("timestamp")
        version_at = None if stamp is None else EPOCH + timedelta(milliseconds=int(stamp))
        for what, at in (("newest row", state.newest), (f"version {state.version}", version_at)):
            if at is None and state.nobodys:
                continue  # it has rows, and what they lack is reported for each contract
            if at is None or now - at > max_age:
                found = "it has no row" if at is None else f"its {what} is of {to_iso(at)}"
                limit = f"older than max_age_s ({max_age.total_seconds():g})"
                return (
                    f"{found}, {limit}: check the program that writes it"
                    if at
                    else f"{found}: check the program that writes it"
                )
        return None

    # Errors

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except BrokerError:
            raise
        except TableNotFoundError:
            raise self._refused("there is no Delta table", "Name the table that the book is kept in.") from None
        except FileNotFoundError as error:
            found = f"a file of its newest version is gone ({self._said(error)}): it was vacuumed too early, or deleted"
            raise self._malformed(found, "Bring the file back, or rewrite the book.") from None
        except pa.ArrowInvalid as error:
            raise self._malformed(self._said(error), "Look at the files and columns that it names.") from None
        except (DeltaError, OSError) as error:
            self._handle.forget()
            text = self._said(error)
            if any(word in text for word in ("Unsupported", "not supported", "olumn mapping", "Schema error")):
                remedy = "It is written in a protocol that this version cannot read: keep the book in another one."
                raise self._malformed(text, remedy) from None
            remedy = "It is read again by itself."
            raise Unreachable(self._attempted, self._spec.account, text, remedy) from None

    @property
    def _attempted(self) -> str:
        return f"read the book in the Delta table {self._spec.uri}"

    def _malformed(self, found: str, remedy: str) -> Malformed:
        return Malformed(self._attempted, self._spec.account, found, remedy)

    def _refused(self, found: str, remedy: str) -> Refused:
        return Refused(self._attempted, self._spec.account, found, remedy)

    def _said(self, error: Any) -> str:
        text = " ".join(str(error).split())
        for secret in self._secrets:
            text = text.replace(secret, "…") if secret else text
        return text[:300]


def _mark(one: ClaimCorrection) -> str:
    """The transaction that corrects a discrepancy, once and for all."""
    return f"reconciliation-correction:{one.discrepancy}"


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    modified: int
    partition: Mapping[str, Any]
    rows: int | None


def _files(table: DeltaTable) -> dict[str, _File]:
    """The files of a version, by path. A file elsewhere, as in a clone, has its whole address as its path."""
    actions = pa.table(table.get_add_actions(flatten=True))
    names = [name for name in actions.column_names if name.startswith("partition.")]
    columns = {name.removeprefix("partition."): actions[name].to_pylist() for name in names}
    listed = [actions[name].to_pylist() for name in ("path", "modification_time", "num_records")]
    found = {}
    for place, (raw, modified, rows) in enumerate(zip(*listed, strict=True)):
        path = unquote(raw)
        found[path] = _File(path, modified, {name: values[place] for name, values in columns.items()}, rows)
    return found


def _is_name(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal128(kind) or kind in FLOAT_DIGITS or pa.types.is_integer(kind))
