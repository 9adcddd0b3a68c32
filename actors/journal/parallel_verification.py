"""The whole chain of a SQLite journal read again on every core, for journals of millions of records.

It only ever says "all of it is right": hashes, links, gaps in ``seq``, versions of each stream, event ids that stand
twice, the file's structure. Whatever it does not find right is left to :mod:`verification`, which finds what and where.
SQLite builds the canonical form itself, so that Python hashes bytes and compares, and nothing else, for each record.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

CHUNK: Final = 50_000
"""Records of one piece of work."""
WORTH_IT: Final = 200_000
"""Records from which the processes pay for their start."""

_TEXT: Final = (
    "prev_hash || '{\"event_id\":' || json_quote(event_id) || ',\"payload\":'"
    " || CASE typeof(payload) WHEN 'text' THEN payload END || ',\"seq\":' || seq"
    " || ',\"severity\":' || json_quote(severity) || ',\"stream\":' || json_quote(stream)"
    " || ',\"time\":' || json_quote(time) || ',\"type\":' || json_quote(type) || ',\"version\":' || version || '}'"
)
_ROWS: Final = (
    f"SELECT seq, stream, version, prev_hash, hash, CAST({_TEXT} AS BLOB)"  # noqa: S608 - columns of ours
    " FROM journal_records WHERE seq > ? AND seq <= ? ORDER BY seq"
)
_TWICE: Final = "SELECT 1 FROM journal_records GROUP BY stream, event_id HAVING count(*) > 1 LIMIT 1"

Versions = dict[str, tuple[int, int]]
"""By stream, its first and its last version in a piece."""
Piece = tuple[str, str, Versions]
"""The hash before a piece, its last hash, and its versions."""


def all_right(
    file: Path,
    start: tuple[int, str, Mapping[str, int]],
    end: tuple[int, str],
    progress: Callable[[int], None],
    *,
    processes: int | None = None,
) -> bool:
    """Whether every record after ``start`` (seq, hash and the versions there) up to ``end`` (seq and hash) is right.
    ``progress`` is told how many were read so far."""
    begin, last_hash, versions = start[0], start[1], dict(start[2])
    context = multiprocessing.get_context("spawn")  # a fork would carry our connections and threads along
    with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context) as pool:
        beside = [pool.submit(_nothing_twice, str(file)), pool.submit(_sound, str(file))]
        pieces: list[tuple[int, Future[Piece | None]]] = []
        for first in range(begin, end[0], CHUNK):
            last = min(first + CHUNK, end[0])
            pieces.append((last, pool.submit(_piece, str(file), first, last)))
        try:
            for last, future in pieces:
                piece = future.result()
                if piece is None or piece[0] != last_hash or not _continued(versions, piece[2]):
                    return False
                last_hash = piece[1]
                progress(last - begin)
            return last_hash == end[1] and all(one.result() for one in beside)
        except sqlite3.Error:
            return False
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _continued(versions: dict[str, int], found: Versions) -> bool:
    for stream, (first, last) in found.items():
        if versions.get(stream, 0) + 1 != first:
            return False
        versions[stream] = last
    return True


def _connect(file: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True)


def _piece(file: str, after: int, last: int) -> Piece | None:
    """One piece read again; ``None`` where anything in it is not right."""
    connection = _connect(file)
    try:
        expected, previous, begin = after + 1, None, ""
        first: dict[str, int] = {}
        versions: dict[str, int] = {}
        for seq, stream, version, prev_hash, own, text in connection.execute(_ROWS, (after, last)):
            if previous is None:
                begin = previous = prev_hash
            if seq != expected or prev_hash != previous or text is None or sha256(text).hexdigest() != own:
                return None
            known = versions.get(stream)
            if known is None:
                first[stream] = version
            elif version != known + 1:
                return None
            versions[stream], previous = version, own
            expected += 1
        if expected != last + 1 or previous is None:
            return None
        return begin, previous, {stream: (first[stream], versions[stream]) for stream in versions}
    finally:
        connection.close()


def _nothing_twice(file: str) -> bool:
    connection = _connect(file)
    try:
        return connection.execute(_TWICE).fetchone() is None
    finally:
        connection.close()


def _sound(file: str) -> bool:
    connection = _connect(file)
    try:
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    finally:
        connection.close()
