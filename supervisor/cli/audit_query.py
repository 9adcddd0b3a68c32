"""``audit query`` and ``audit tail``: the selected records, as a table, lines, JSON or CSV, and new ones as they come.

Nothing here writes to the journal. With a format for programs, standard output holds nothing else.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

from actors.book.history import who
from actors.events import Record, Severity, to_iso
from actors.journal.hash_chain import record_to_json
from actors.journal.record_filter import ReadingOrder, RecordFilter
from actors.journal.store import Journal
from supervisor.cli.audit_selection import Source, check_known, reading, warn_of_archived, whole
from supervisor.cli.console import Failure, console, say
from supervisor.presentation.event_text import behind, describe
from supervisor.presentation.json_contract import EXIT_OK

if TYPE_CHECKING:
    from rich.table import Table

FOLLOW_S = 0.5
SHOWN_AT_MOST = 100
"""The rows of a table without a limit."""
COLUMNS = ("seq", "stream", "version", "event_id", "time", "type", "severity", "payload", "prev_hash", "hash")
_COLOURS = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    LINES = "lines"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def query(of: Source, asked: RecordFilter, form: Format, *, oldest: bool, limit: int | None, follow: bool) -> int:
    """Print the selected records, the newest first unless ``oldest``; with ``follow`` also the new ones, oldest first.
    A table without a limit shows :data:`SHOWN_AT_MOST` and says when there are more. Raises ``JournalError``.
    """
    if follow:
        _check_endless(asked, form, oldest=oldest)
        return _follow(of, asked, Format.LINES if form is Format.TABLE else form, limit)
    with reading(of) as journal:
        check_known(journal, of, asked.get("account"), asked.get("instrument"))
        order: ReadingOrder = "oldest" if oldest else "newest"
        if form is Format.TABLE:
            found = list(journal.records(**asked, order=order, limit=_one_more(limit)))
            all_seen = len(found) < _one_more(limit)
            _print_table(found, limit, order)
        else:
            counted = _Counted(journal.records(**asked, order=order, limit=limit))
            _printer(form)(counted)
            all_seen = limit is None or counted.count < limit
        if all_seen:
            warn_of_archived(journal, asked.get("since"))
        return whole(journal)


def tail(of: Source, count: int, form: Format, *, follow: bool) -> int:
    """Print the last records, oldest first; with ``follow`` also the new ones. Raises ``JournalError``."""
    if follow:
        _check_endless({}, form, oldest=False)
        return _follow(of, {}, form, count)
    with reading(of) as journal:
        found = _last(journal, {}, count)
        _printer(form)(found)
        if len(found) < count:
            warn_of_archived(journal, None)
        return whole(journal)


class _Counted:
    """Passes records on and counts them."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.count += 1
            yield record


def _one_more(limit: int | None) -> int:
    return (SHOWN_AT_MOST if limit is None else limit) + 1


def _last(journal: Journal, asked: RecordFilter, count: int | None) -> list[Record]:
    found = list(journal.records(**asked, order="newest", limit=count)) if count != 0 else []
    found.reverse()
    return found


# New records


def _check_endless(asked: RecordFilter, form: Format, *, oldest: bool) -> None:
    if form is Format.JSON:
        raise Failure("--json prints one array and --follow never ends: use one of them, or --jsonl")
    if asked.get("until") is not None:
        raise Failure("--until sets an end and --follow never ends: use one of them")
    if oldest:
        raise Failure("--follow starts at the newest record: leave out --oldest")


def _follow(of: Source, asked: RecordFilter, form: Format, count: int | None) -> int:
    write = _printer(form)
    with reading(of) as journal, contextlib.suppress(KeyboardInterrupt):
        check_known(journal, of, asked.get("account"), asked.get("instrument"))
        # The head first: anything written after it was read is new, whether or not the query saw it too.
        after_seq = _head_seq(journal)
        seen = _last(journal, asked, SHOWN_AT_MOST if count is None else count)
        after_seq = max(after_seq, seen[-1].seq if seen else 0)
        write(seen)
        write = _printer(form, header=False)
        while True:
            time.sleep(FOLLOW_S)
            head_seq = _head_seq(journal)
            if head_seq > after_seq:
                new = [one for one in journal.records(**asked, after_seq=after_seq) if one.seq <= head_seq]
                write(new)
                after_seq = head_seq
    return EXIT_OK


def _head_seq(journal: Journal) -> int:
    head = journal.head()
    return 0 if head is None else head[0]


# How it is printed

Write = Callable[[Iterable[Record]], None]


def _printer(form: Format, *, header: bool = True) -> Write:
    match form:
        case Format.JSON:
            return _write_array
        case Format.JSONL:
            return _write_json_lines
        case Format.CSV:
            return _write_csv if header else _write_csv_rows
        case _:
            return _write_lines


def _write_array(records: Iterable[Record]) -> None:
    """One JSON array in plain ASCII, written while the records are read: it may not fit into memory."""
    before = "["
    for record in records:
        sys.stdout.write(f"{before}\n{_json(record)}")
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")
    sys.stdout.flush()


def _write_json_lines(records: Iterable[Record]) -> None:
    for record in records:
        sys.stdout.write(f"{_json(record)}\n")
    sys.stdout.flush()


def _json(record: Record) -> str:
    return json.dumps(record_to_json(record), separators=(",", ":"))


def _write_csv(records: Iterable[Record]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(COLUMNS)
    _write_csv_rows(records)


def _write_csv_rows(records: Iterable[Record]) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    for record in records:
        row = record_to_json(record)
        row["payload"] = json.dumps(row["payload"], separators=(",", ":"), sort_keys=True)
        rows.writerow([row[name] for name in COLUMNS])
    sys.stdout.flush()


def _write_lines(records: Iterable[Record]) -> None:
    for record in records:
        sys.stdout.write(f"{line(record)}\n")
    sys.stdout.flush()


def line(record: Record) -> str:
    """A record in one line for a person."""
    event = record.event
    severity = "" if event.severity == "INFO" else f" {event.severity}"
    text = describe(event)
    words = f"{text}{behind(event, text)}"
    return f"{record.seq:>7} {to_iso(event.time)} {record.stream} {event.type}{severity} {words}".rstrip()


def _print_table(found: list[Record], limit: int | None, order: str) -> None:
    shown = found[: _one_more(limit) - 1]
    if not shown:
        say("no record matches")
        return
    out = console()
    with out.capture() as captured:
        out.print(table(iter(shown)))
    # Not through rich, so that a closed pipe is handled as everywhere else.
    sys.stdout.write(captured.get())
    sys.stdout.flush()
    if len(found) > len(shown):
        say(f"there are more: these are the {order} {len(shown)}. Raise --limit, or narrow it down")


def table(records: Iterator[Record]) -> Table:
    """Records as a table for people."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold dim", collapse_padding=True)
    made.add_column("seq", justify="right", no_wrap=True)
    made.add_column("time (UTC)", no_wrap=True)
    made.add_column("stream", overflow="fold")
    made.add_column("who", overflow="fold")
    made.add_column("severity", no_wrap=True)
    made.add_column("type", overflow="fold")
    made.add_column("what happened", overflow="fold", min_width=20)
    for record in records:
        event = record.event
        severity = Text(event.severity.value, _COLOURS[event.severity])
        at = f"{event.time:%Y-%m-%d %H:%M:%S}.{event.time.microsecond // 1000:03d}"
        made.add_row(str(record.seq), at, record.stream, who(event), severity, event.type.value, describe(event))
    return made
