"""``audit``: reading the journal, beside a running supervisor or without one. Nothing here writes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from actors.chain import record_to_json
from actors.events import Record, to_iso
from actors.journal import Journal
from actors.journal_types import JournalCorrupt, Verification
from supervisor.config import Configuration
from supervisor.console import Failure, print_json
from supervisor.document import EXIT_BREAK_OPEN, EXIT_OK
from supervisor.happenings import happening

FOLLOW_S = 0.5


@contextlib.contextmanager
def _reading(configuration: Configuration) -> Iterator[Journal]:
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        yield journal
    finally:
        journal.close()


def tail(configuration: Configuration, count: int, *, as_json: bool, follow: bool) -> int:
    """Print the last records, oldest first, and with ``follow`` those that come. Raises ``JournalError``."""
    if as_json and follow:
        raise Failure("--json prints one array, and --follow never ends: use one of them")
    with _reading(configuration) as journal:
        last = list(journal.records(order="newest", limit=count)) if count else []
        last.reverse()
        if as_json:
            print_json([record_to_json(record) for record in last])
            return EXIT_OK
        _print(last)
        if follow:
            head = journal.head()
            after_seq = last[-1].seq if last else head[0] if head else 0
            with contextlib.suppress(KeyboardInterrupt):
                _follow(journal, after_seq)
    return EXIT_OK


def _follow(journal: Journal, after_seq: int) -> None:
    while True:
        new = list(journal.records(after_seq=after_seq))
        _print(new)
        after_seq = new[-1].seq if new else after_seq
        time.sleep(FOLLOW_S)


def verify(configuration: Configuration, *, as_json: bool) -> int:
    """Read the whole journal again and print whether it is what was written. Raises ``JournalError`` where it cannot
    be read now."""
    head: tuple[int, str, str] | None = None
    try:
        with _reading(configuration) as journal:
            # The head is read first: what is appended meanwhile is verified besides.
            found = journal.head()
            head = None if found is None else (found[0], found[1], to_iso(found[2]))
            result = journal.verify()
    except JournalCorrupt as error:
        result = Verification(False, 0, None, error.found)
    if as_json:
        print_json(_document(result, head))
    else:
        print(_words(result, head))
    return EXIT_OK if result.ok else EXIT_BREAK_OPEN


def _document(result: Verification, head: tuple[int, str, str] | None) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "records": result.records,
        "first_bad_seq": result.first_bad_seq,
        "reason": result.reason,
        "head": None if head is None else dict(zip(("seq", "hash", "time"), head, strict=True)),
    }


def _words(result: Verification, head: tuple[int, str, str] | None) -> str:
    if result.ok:
        end = "it is empty" if head is None else f"head {head[0]} {head[1]}"
        return f"{result.records} record{'' if result.records == 1 else 's'}, chain intact, {end}"
    place = "" if result.first_bad_seq is None else f" at record {result.first_bad_seq}"
    return f"NOT intact{place}: {result.reason}. {result.records} records before it are right"


def _print(records: Sequence[Record]) -> None:
    for record in records:
        print(line(record), flush=True)


def line(record: Record) -> str:
    """A record in one line for a person."""
    event, said = record.event, happening(record)
    what = said.text if said is not None else _brief(record)
    severity = "" if event.severity == "INFO" else f" {event.severity}"
    return f"{record.seq:>7} {to_iso(event.time)} {record.stream} {event.type}{severity} {what}".rstrip()


def _brief(record: Record) -> str:
    """The plain values of a payload."""
    plain = {key: value for key, value in record.event.payload.items() if isinstance(value, str | int) and value != ""}
    return " ".join(f"{key}={value}" for key, value in plain.items())[:160]
