"""``audit verify`` and ``audit head``: is the journal what was written, and where does it end? Nothing here writes."""

from __future__ import annotations

import re
from typing import Any

from actors.events import to_iso
from actors.journal.types import JournalCorrupt, Verification
from supervisor.cli.audit_selection import Source, reading
from supervisor.cli.console import Failure, print_json
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK

Head = tuple[int, str, str]
"""``seq``, ``hash`` and time of the last record."""

_HASH = re.compile(r"[0-9a-f]{64}")


def verify(of: Source, *, head: str | None, as_json: bool) -> int:
    """Read the whole journal again and print whether it is what was written; with ``head``, a hash noted before, also
    whether everything up to it is still there. Raises ``JournalError`` where it cannot be read now."""
    if head is not None and not _HASH.fullmatch(head.lower()):
        raise Failure(f"--head {head}: a hash is 64 hexadecimal digits, as `audit head` prints it")
    last: Head | None = None
    try:
        with reading(of) as journal:
            # The head is read first: what is appended meanwhile is verified besides.
            last = _written(journal.head())
            result = journal.verify(head=None if head is None else head.lower())
    except JournalCorrupt as error:
        result = Verification(False, 0, None, error.found)
    if as_json:
        print_json(_document(result, last))
    else:
        print(_words(result, last, head))
    return EXIT_OK if result.ok else EXIT_BREAK_OPEN


def head(of: Source, *, as_json: bool) -> int:
    """Print ``seq``, ``hash`` and time of the last record: kept elsewhere, they prove the rest to ``verify --head``."""
    with reading(of) as journal:
        last = _written(journal.head())
    if as_json:
        print_json(_head_document(last) or {"seq": 0, "hash": None, "time": None})
    else:
        print("the journal is empty" if last is None else " ".join(map(str, last)))
    return EXIT_OK


def _written(found: tuple[int, str, Any] | None) -> Head | None:
    return None if found is None else (found[0], found[1], to_iso(found[2]))


def _head_document(last: Head | None) -> dict[str, Any] | None:
    return None if last is None else dict(zip(("seq", "hash", "time"), last, strict=True))


def _document(result: Verification, last: Head | None) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "records": result.records,
        "first_bad_seq": result.first_bad_seq,
        "reason": result.reason,
        "head": _head_document(last),
        "archived_seq": result.archived_seq,
        "archive": result.archive,
    }


def _words(result: Verification, last: Head | None, head: str | None) -> str:
    if result.ok:
        end = "it is empty" if last is None else f"head {last[0]} {last[1]}"
        proven = "" if head is None else f", and nothing is gone since {head.lower()}"
        before = f", the {result.archived_seq} before are in {result.archive}" if result.archived_seq else ""
        return f"{result.records} record{'' if result.records == 1 else 's'}, chain intact, {end}{before}{proven}"
    if result.first_bad_seq is None:
        return f"NOT intact: {result.reason}. {result.records} records were found right"
    return f"NOT intact at record {result.first_bad_seq}: {result.reason}. {result.records} records before it are right"
