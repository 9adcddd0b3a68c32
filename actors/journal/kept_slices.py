"""What decisions rested on, kept beside the journal: every slice of a broker that was new or that something was decided
on, each part of it once, compressed.

* It is a store of its own, and no second truth: the journal is whole without it, and what is in it is proven by the
  hashes that stand in the journal's events. It may be moved away while nobody writes the journal; another one begins.
* A pass is durable here before its events are in the journal.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from actors.journal.reading_files import reading_uri
from actors.journal.schema import create_file, make_directory
from actors.journal.types import JournalUnavailable

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS parts (hash BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passes (
    number INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL, hash BLOB NOT NULL UNIQUE,
    data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS passes_of_stream ON passes (stream, number);
"""
_PACKED_1: Final = b"\x01"
_WORDS_1: Final = (
    b'"parent":null,"waits_for_open":false,"commission_currency":null,"corrects":null,"id_scope":"","combination":null,'
    b'"closing":false,"position_id":null,"commission":null,"origin":null,"reason":null,"replaced_by":null,"leg":null,'
    b'"submitted_at":null,"average_fill_price":null,"limit_price":null,"order_type":"UNKNOWN","filled_quantity":"0",'
    b'"status":"OPEN","broker_order_id":"","client_order_id":null,"side":"BUY","fill_id":"","time":"2026-01-01T00:00:00'
    b'+00:00","open_average":null,"price_told":true,"average_price":"1.0","quantity":"100","instrument":"["COMPLETE",['
    b'[],null]"policy":"","positions":"","orders":"","fills":"","beside":"{"account":"","as_of":"2026-01-01T00:00:00.'
    b'000000Z","before":"","decided":0,"fills_cursor":null,"instrument":"","now":"2026-01-01T00:00:00.000000Z",'
    b'"requested_at":"2026-01-01T00:00:00.000000Z","rests_on":"","trade":null,"verified_at":"2026-01-01T00:00:00.'
    b'000000Z","version":1}'
)
"""What the first form is packed with. What is stored is read with it: it must never change; another form has another
first byte."""


def packed(data: bytes) -> bytes:
    """Compressed, behind a byte that names the form."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _WORDS_1)
    return _PACKED_1 + compressor.compress(data) + compressor.flush()


def unpacked(data: bytes) -> bytes | None:
    """What was packed; ``None`` for what is damaged, or of a later form."""
    if data[:1] != _PACKED_1:
        return None
    try:
        return zlib.decompressobj(-15, _WORDS_1).decompress(data[1:])
    except zlib.error:
        return None


class KeptSlices:
    """The store in one file. Its methods may be called from any thread. Each raises :class:`JournalUnavailable`."""

    def __init__(self, file: Path, *, read_only: bool = False) -> None:
        self._file = file
        self._mutex = threading.Lock()
        with self._in_words("open"):
            if not read_only and not file.exists():
                make_directory(file)
                create_file(file)
            self._connection = sqlite3.connect(
                reading_uri(file) if read_only else f"file:{quote(str(file))}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            if read_only:
                self._connection.execute("SELECT 1 FROM passes LIMIT 1").fetchone()
            else:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.executescript(_TABLES)

    def keep(self, stream: str, version: int, own: str, entry: bytes, parts: Mapping[str, bytes]) -> None:
        """Keep a pass of a stream, decided on that version; durable when it returns. The same again changes nothing.
        Raises ``ValueError`` where a hash is not that of its content."""
        for name, data in ((own, entry), *parts.items()):
            if sha256(data).hexdigest() != name:
                raise ValueError(f"{name} is not the SHA-256 of what was to be kept under it")
        with self._mutex, self._in_words("write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for name, data in parts.items():
                    known = self._connection.execute("SELECT 1 FROM parts WHERE hash = ?", (bytes.fromhex(name),))
                    if known.fetchone() is None:
                        self._connection.execute("INSERT INTO parts VALUES (?, ?)", (bytes.fromhex(name), packed(data)))
                self._connection.execute(
                    "INSERT OR IGNORE INTO passes (stream, version, hash, data) VALUES (?, ?, ?, ?)",
                    (stream, version, bytes.fromhex(own), packed(entry)),
                )
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def streams(self) -> list[str]:
        """The streams that passes are kept of, sorted."""
        with self._mutex, self._in_words("read"):
            found = self._connection.execute("SELECT DISTINCT stream FROM passes ORDER BY stream").fetchall()
        return [stream for (stream,) in found]

    def passes(self, stream: str) -> Iterator[tuple[str, bytes | None]]:
        """The passes of a stream as they were kept, oldest first: hash and entry; ``None`` for one that is damaged."""
        with self._mutex, self._in_words("read"):
            found = self._connection.execute(
                "SELECT hash, data FROM passes WHERE stream = ? ORDER BY version, number", (stream,)
            ).fetchall()
        for own, data in found:
            yield own.hex(), unpacked(data)

    def part(self, own: str) -> bytes | None:
        """A part by its hash; ``None`` where it is not kept, or damaged."""
        with self._mutex, self._in_words("read"):
            found = self._connection.execute("SELECT data FROM parts WHERE hash = ?", (bytes.fromhex(own),)).fetchone()
        return None if found is None else unpacked(found[0])

    def close(self) -> None:
        """Give it up. May be called twice."""
        with self._mutex, contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _in_words(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalUnavailable(
                f"{doing} the kept slices {self._file}",
                str(error),
                "Check the file and its disk; moved away while nobody writes the journal, another one begins",
            ) from None
