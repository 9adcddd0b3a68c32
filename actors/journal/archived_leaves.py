"""The leaves of the Merkle tree that are in archives: out of the archives that somebody names, and of those that lie
beside the journal under the names that it and they know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from actors.journal.archive_anchor import Anchor, read_anchor
from actors.journal.evidence_tables import READ_TREE as ATTEMPTED
from actors.journal.evidence_tables import LeavesElsewhere, chain_hashes
from actors.journal.parquet_archive import readable
from actors.journal.schema import read_head
from actors.journal.types import JournalUnavailable

T = TypeVar("T")


def archived_leaves(connection: Connection, folder: Path | None, archives: Sequence[Path] = ()) -> LeavesElsewhere:
    """Gives the chain hashes of archived records of the journal that ``connection`` reads, within its present
    transaction. ``folder`` is where its archives lie unless they are named in ``archives``.

    What it gives is believed no further than a signed root agrees with it. It raises ``JournalUnavailable`` where an
    archive is not there.
    """
    spans: dict[Path, tuple[Anchor, int]] = {}

    def leaves(first: int, last: int) -> list[str]:
        found: dict[int, str] = {}
        newest = read_anchor(connection, ATTEMPTED).file
        waiting = [] if folder is None or newest is None else [folder / newest]
        waiting += [file.absolute() for file in archives]
        seen = set[Path]()
        while waiting and len(found) < last - first + 1:
            file = waiting.pop()
            if file in seen or not file.exists():
                continue
            seen.add(file)
            if file not in spans:
                spans[file] = _reading(file, _span)
            start, end = spans[file]
            if start.seq < last and first <= end:
                found |= _reading(file, partial(_hashes, after=max(first - 1, start.seq), last=last))
            if folder is not None and start.file is not None:
                waiting.append(folder / start.file)
        missing = next((seq for seq in range(first, last + 1) if seq not in found), None)
        if missing is not None:
            raise JournalUnavailable(
                ATTEMPTED,
                f"it needs record {missing}, which is in an archive that is not here",
                "Put the archive beside the journal, or name it (--archive FILE)",
            )
        return [found[seq] for seq in range(first, last + 1)]

    return leaves


def _reading(file: Path, work: Callable[[Connection], T]) -> T:
    from actors.journal.store import Journal

    journal = Journal.open(f"sqlite:///{readable(file)}", read_only=True)
    try:
        return journal.with_connection(work)
    finally:
        journal.close()


def _span(connection: Connection) -> tuple[Anchor, int]:
    with connection.begin():
        return read_anchor(connection, ATTEMPTED), read_head(connection, ATTEMPTED)[0]


def _hashes(connection: Connection, *, after: int, last: int) -> dict[int, str]:
    with connection.begin():
        return dict(enumerate(chain_hashes(connection, after, last), after + 1))
