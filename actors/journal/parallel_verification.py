"""The whole chain of a SQLite journal read again on every core, for journals of millions of records.

It only ever says "all of it is right": hashes, links, gaps in ``seq``, versions of each stream, event ids that stand
twice, the file's structure. Whatever it does not find right is left to :mod:`verification`, which finds what and where;
so is an event id that is no hexadecimal number of 32 digits. The canonical form is put together as it is in
:mod:`hash_chain`; that it can be read in one way only, so that no content moves from one column into another under the
same hash, is seen to for many records at once.

Of its time a seventh is SHA-256, two fifths is what Python's SQLite takes to hand out a row, a sixth the check of the
file's structure. Rows are read in pages that stay in the processor's cache: at once they take half as long again.
With numpy, event ids are compared in a tenth of the time that SQLite takes for it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson

from actors.events import EventType, Severity
from actors.journal.reading_files import reading_uri

CHUNK: Final = 50_000
"""Records of one piece of work."""
PAGE: Final = 512
"""Records that a piece holds at once."""
WORTH_IT: Final = 200_000
"""Records from which the processes pay for their start."""
_KINDS: Final = frozenset(kind.value for kind in EventType)
_SEVERITIES: Final = frozenset(severity.value for severity in Severity)
_TIME_LENGTH: Final = len("2025-01-06T14:30:00.000000Z")
_TIME_DIGITS: Final = b"0123456789-:.TZ"
_ID_LENGTH: Final = 32

_ROWS: Final = (
    "SELECT seq, stream, version, event_id, time, type, severity, payload, prev_hash, hash"
    " FROM journal_records WHERE seq > ? AND seq <= ? ORDER BY seq"
)
_TWICE: Final = "SELECT 1 FROM journal_records GROUP BY stream, event_id HAVING count(*) > 1 LIMIT 1"

Versions = dict[str, tuple[int, int]]
"""By stream, its first and its last version in a piece."""
Piece = tuple[str, str, Versions, bytes]
"""The hash before a piece, its last hash, its versions, and the first half of each event id."""


def all_right(
    file: Path,
    start: tuple[int, str, Mapping[str, int]],
    end: tuple[int, str],
    progress: Callable[[int], None],
    *,
    processes: int | None = None,
) -> bool:
    """Whether every record after ``start`` (seq, hash and the versions there) up to ``end`` (seq and hash) is right.
    ``progress`` receives how many were read so far."""
    begin, last_hash, versions = start[0], start[1], dict(start[2])
    context = multiprocessing.get_context("spawn")  # a fork would carry our connections and threads along
    # Rows hold nothing that could refer to itself: looking for that among them takes a tenth of the time.
    with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context, initializer=gc.disable) as pool:
        try:
            beside = [pool.submit(_sound, str(file))]
            if _numpy() is None:
                beside.append(pool.submit(_nothing_twice, str(file)))
            pieces: list[tuple[int, Future[Piece | None]]] = []
            for first in range(begin, end[0], CHUNK):
                last = min(first + CHUNK, end[0])
                pieces.append((last, pool.submit(_piece, str(file), first, last)))
            ids: list[bytes] = []
            for last, future in pieces:
                piece = future.result()
                if piece is None or piece[0] != last_hash or not _continued(versions, piece[2]):
                    return False
                last_hash = piece[1]
                ids.append(piece[3])
                progress(last - begin)
            return last_hash == end[1] and _all_differ(ids) and all(one.result() for one in beside)
        except (sqlite3.Error, BrokenProcessPool):
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
    return sqlite3.connect(reading_uri(Path(file)), uri=True)


class _Quoted(dict[str, str]):
    """Names as JSON writes them: there are few, and they come again and again."""

    def __missing__(self, name: str) -> str:
        self[name] = quoted = orjson.dumps(name).decode()
        return quoted


def _hashes(rows: Sequence[tuple[Any, ...]], names: _Quoted) -> list[str]:
    """What the hash of each record should be. Raises ``TypeError`` for a stream that is no text."""
    return [
        sha256(
            f'{prev}{{"event_id":"{event_id}","payload":{payload},"seq":{seq},"severity":"{severity}",'
            f'"stream":{names[stream]},"time":"{time}","type":"{kind}","version":{version}}}'.encode()
        ).hexdigest()
        for seq, stream, version, event_id, time, kind, severity, payload, prev, _ in rows
    ]


@cache
def _numpy() -> Any:
    """The library, which comes with some of the extras; ``None`` where it is not."""
    try:
        return import_module("numpy")
    except ImportError:
        return None


def _piece(file: str, after: int, last: int) -> Piece | None:
    """One piece read again; ``None`` where anything in it is not right, or not usual."""
    connection = _connect(file)
    try:
        cursor = connection.execute(_ROWS, (after, last))
        walk = _Walk()
        read = 0
        while rows := cursor.fetchmany(PAGE):
            if not walk.follow(rows):
                return None
            read += len(rows)
    finally:
        connection.close()
    # Each seq is there once, and they come in order: as many as there should be means that none is missing.
    return walk.piece() if read == last - after else None


class _Walk:
    """A piece as far as it was read."""

    def __init__(self) -> None:
        self._names = _Quoted()
        self._before: str | None = None
        self._hash = ""
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._halves: list[bytes] = []

    def follow(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Whether the next records are right, and follow those before."""
        try:
            own = _hashes(rows, self._names)
        except TypeError:
            return False  # a stream that is no text
        _, streams, numbers, event_ids, times, kinds, severities, payloads, before, hashes = zip(*rows, strict=True)
        if own != list(hashes) or before[1:] != hashes[:-1]:
            return False
        if self._before is None:
            self._before = before[0]
        elif self._hash != before[0]:
            return False
        self._hash = hashes[-1]
        if not _one_reading(event_ids, times, set(kinds), set(severities), payloads):
            return False
        self._halves.append(memoryview(bytes.fromhex("".join(event_ids))).cast("Q")[::2].tobytes())
        return self._count(streams, numbers)

    def piece(self) -> Piece:
        """What is to be held against the pieces beside this one."""
        versions = {stream: (self._first[stream], last) for stream, last in self._last.items()}
        return self._before or "", self._hash, versions, b"".join(self._halves)

    def _count(self, streams: Sequence[str], numbers: Sequence[int]) -> bool:
        last = self._last
        for stream, version in zip(streams, numbers, strict=True):
            known = last.get(stream)
            if known is None:
                if type(version) is not int:
                    return False
                self._first[stream] = version
            elif version != known + 1:
                return False
            last[stream] = version
        return True


def _one_reading(
    event_ids: Sequence[str],
    times: Sequence[str],
    kinds: set[str],
    severities: set[str],
    payloads: Sequence[str],
) -> bool:
    """Whether no column but the payload can hold what would be part of its neighbour in the canonical form."""
    if not (kinds <= _KINDS and severities <= _SEVERITIES and set(map(type, payloads)) == {str}):
        return False
    try:
        return (
            set(map(len, times)) == {_TIME_LENGTH}
            and not "".join(times).encode().translate(None, _TIME_DIGITS)
            and set(map(len, event_ids)) == {_ID_LENGTH}
            and len(bytes.fromhex("".join(event_ids))) * 2 == len(event_ids) * _ID_LENGTH
        )
    except (TypeError, ValueError):
        return False  # a field that is no text, or no hexadecimal number


def _all_differ(ids: Sequence[bytes]) -> bool:
    """Whether no event id stands twice, in whichever stream. Without numpy that was asked of SQLite."""
    numpy = _numpy()
    if numpy is None:
        return True
    every = numpy.frombuffer(b"".join(ids), dtype="<u8").copy()
    every.sort()
    return not bool((every[1:] == every[:-1]).any())


def _nothing_twice(file: str) -> bool:
    connection = _connect(file)
    try:
        return connection.execute(_TWICE).fetchone() is None
    finally:
        connection.close()


def _sound(file: str) -> bool:
    connection = _connect(file)
    try:
        connection.execute("PRAGMA cache_size=-131072")  # each record is looked up in every index
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    finally:
        connection.close()
