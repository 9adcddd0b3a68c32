"""``audit export``: records into a file, for other programs.

The laws of this module: a file under the requested name is complete (it is written beside it, made durable, and
renamed); records pass through memory in pages; an existing file is replaced only on request.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson

from actors.events import Record, to_iso
from actors.journal.hash_chain import payload_text, record_to_json
from actors.journal.record_filter import RecordFilter
from brokers.kit.whole_file import new_file
from supervisor.cli.audit_query import COLUMNS
from supervisor.cli.audit_selection import Source, check_known, reading, warn_of_archived, whole
from supervisor.cli.console import Failure, console
from supervisor.presentation.event_facts import FACTS, facts

PAGE = 10_000
"""The number of records in memory at once, and of rows in a row group of Parquet."""
EXTRA = "parquet"


DELTA = "delta"
"""The format that is not a file: a table, which is appended to."""


class FileFormat(StrEnum):
    """The formats of an export to a file."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


Write = Callable[[BinaryIO, Iterator[list[Record]]], None]
"""Writes pages of records into a file."""


def export(of: Source, asked: RecordFilter, form: FileFormat, file: Path, *, force: bool) -> int:
    """Write the selected records into ``file``, oldest first, without those appended meanwhile. Raises
    ``JournalError``, and :class:`Failure` where the file exists or cannot be written."""
    if file.exists() and not force:
        raise Failure(f"{file} exists already. Choose another file, or replace it with --force")
    write = _writer(form)
    with reading(of) as journal:
        check_known(journal, of, asked.get("account"), asked.get("instrument"))
        first = next(journal.records(**asked, limit=1), None)
        last = next(journal.records(**asked, order="newest", limit=1), None)
        counted = 0
        with _new_file(file, force=force) as out, _progress(first, last) as advance:

            def pages() -> Iterator[list[Record]]:
                nonlocal counted
                found = journal.records(**asked)
                up_to = 0 if last is None else last.seq
                while page := [record for record in islice(found, PAGE) if record.seq <= up_to]:
                    yield page
                    counted += len(page)
                    advance(page[-1].seq)

            write(out, pages())
        warn_of_archived(journal, asked.get("since"))
        status = whole(journal)
    place = "" if first is None or last is None else f", records {first.seq} to {last.seq}"
    print(f"exported {counted} records to {file}{place}")
    return status


def export_to_delta(of: Source, uri: str) -> int:
    """Add the records that the Delta table at ``uri`` does not hold yet, each once, and create the table where there is
    none. After an interruption, what was written stays. Raises ``JournalError``, ``BrokerError`` where the table cannot
    be written, and :class:`Failure` where the extra is missing or another process writes to the table."""
    try:
        from actors.delta import journal_table
        from actors.delta.once import OvertakenError, Place
    except ImportError:
        extra = f"pip install -e '.[{DELTA}]'"
        raise Failure(f"--format {DELTA} needs the extra {DELTA!r}: {extra}, or use another format") from None
    table = journal_table.journal_table(uri, FACTS)
    with reading(of) as journal:
        reached = table.reached()
        if reached.seq:
            known = next(journal.records(after_seq=reached.seq - 1, limit=1), None)
            same = known is not None and known.seq >= reached.seq
            if same and known is not None and known.seq == reached.seq:
                same = Place(known.seq, known.hash).fingerprint == reached.fingerprint
            if not same:
                raise Failure(f"the table at {uri} holds another journal up to seq {reached.seq}. Choose another table")
        found, seq, counted = journal.records(after_seq=reached.seq), reached.seq, 0
        try:
            while page := list(islice(found, PAGE)):
                rows = [(record, facts(record)) for record in page]
                seq = journal_table.append(table, rows, seq, FACTS).seq
                counted += len(page)
        except OvertakenError as error:
            raise Failure(f"{error}. Let it finish, then try again") from None
        if not reached.seq:
            warn_of_archived(journal, None)
        status = whole(journal)
    print(f"added {counted} records to {uri}, up to record {seq}")
    return status


# The file


@contextlib.contextmanager
def _new_file(file: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file beside ``file`` that takes its name when it is complete and durable, and is removed after any failure."""
    try:
        with new_file(file, replace=force) as out:  # as private as the journal
            yield out
    except FileExistsError:
        raise Failure(f"{file} was created meanwhile. Choose another file, or replace it with --force") from None
    except OSError as error:
        raise _cannot_write(file, error) from None


def _cannot_write(file: Path, error: OSError) -> Failure:
    return Failure(f"could not write {file}: {error.strerror or error}. Nothing of it was kept")


@contextlib.contextmanager
def _progress(first: Record | None, last: Record | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error; call it with the ``seq`` that was reached."""
    out = console(stderr=True)
    if not out.is_terminal or first is None or last is None:
        yield lambda _seq: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    before = first.seq - 1
    with Progress("exporting", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=out) as bar:
        task = bar.add_task("", total=last.seq - before)
        yield lambda seq: bar.update(task, completed=seq - before)


# The formats


def _writer(form: FileFormat) -> Write:
    match form:
        case FileFormat.JSONL:
            return _write_json_lines
        case FileFormat.CSV:
            return _write_csv
        case FileFormat.PARQUET:
            return _parquet_writer()


def _write_json_lines(out: BinaryIO, pages: Iterable[list[Record]]) -> None:
    for page in pages:
        out.writelines(orjson.dumps({**record_to_json(record), **facts(record)}) + b"\n" for record in page)


def _write_csv(out: BinaryIO, pages: Iterable[list[Record]]) -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=False)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow((*COLUMNS, *FACTS))
    for page in pages:
        rows.writerows(map(_row, page))
    text.flush()
    text.detach()


def _row(record: Record) -> tuple[int | str | None, ...]:
    event = record.event
    return (
        record.seq,
        record.stream,
        record.version,
        event.event_id,
        to_iso(event.time),
        event.type.value,
        event.severity.value,
        payload_text(event.payload),
        record.prev_hash,
        record.hash,
        *facts(record).values(),
    )


def _parquet_writer() -> Write:
    """Raises :class:`Failure` where the libraries for Parquet are not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Failure(
            f"--format parquet needs the extra {EXTRA!r}: pip install -e '.[{EXTRA}]', or use --format csv or jsonl"
        ) from None
    kinds = {"seq": pyarrow.int64(), "version": pyarrow.int64(), "time": pyarrow.timestamp("us", tz="UTC")}
    fields = [pyarrow.field(name, kinds.get(name, pyarrow.string()), False) for name in COLUMNS]
    schema = pyarrow.schema([*fields, *(pyarrow.field(name, pyarrow.string()) for name in FACTS)])

    def write(out: BinaryIO, pages: Iterable[list[Record]]) -> None:
        repeated = ["stream", "type", "severity", *FACTS]
        with parquet.ParquetWriter(out, schema, compression="zstd", use_dictionary=repeated) as rows:
            for page in pages:
                columns = [list(column) for column in zip(*map(_row, page), strict=True)]
                columns[COLUMNS.index("time")] = [record.event.time for record in page]
                rows.write_table(pyarrow.table(columns, schema=schema))

    return write
