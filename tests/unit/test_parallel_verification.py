"""The chain read on every core: it calls right what is, and nothing else; what is wrong is left to who can name it."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.events import Json
from actors.journal.hash_chain import GENESIS, Row, canonical_bytes, chained
from actors.journal.parallel_verification import _numpy, all_right
from actors.journal.store import Journal
from actors.journal.types import Append
from tests.unit.journal_cases import an_event, change, events, url_of


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, tuple[int, str]]:
    journal = Journal.open(url_of(tmp_path), exclusive=True)
    odd = an_event('quote " backslash \\ tab \t line \n é 😀', payload={"text": 'a "b" \\ \x01 \x7f é 😀', "n": 7})
    journal.append([Append('fx/O"D\\D é', 0, (odd,)), Append("fx/A", 0, events(*map(str, range(50))))])
    journal.append([Append("fx/B", 0, events("x")), Append("fx/A", 50, events("last"))])
    head = journal.head()
    journal.close()
    assert head is not None
    return tmp_path, head[:2]


def right(directory: Path, end: tuple[int, str]) -> bool:
    read: list[int] = []
    found = all_right(directory / "journal.db", (0, GENESIS, {}), end, read.append, processes=2)
    assert not found or read[-1] == end[0]
    return found


def test_what_is_right_is_called_right_whatever_stands_in_it(written: tuple[Path, tuple[int, str]]) -> None:
    assert right(*written)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal_records SET payload = '{}' WHERE seq = 20",
        "UPDATE journal_records SET payload = CAST(payload AS BLOB) WHERE seq = 20",
        "UPDATE journal_records SET version = version + 1000 WHERE seq = 53",
        "UPDATE journal_records SET prev_hash = hash WHERE seq = 20",
        "DELETE FROM journal_records WHERE seq = 20",
        "DELETE FROM journal_records WHERE seq = 1",
        "UPDATE journal_records SET stream = CAST(stream AS BLOB) WHERE seq = 20",
        "UPDATE journal_records SET time = CAST(time AS BLOB) WHERE seq = 20",
        "UPDATE journal_records SET hash = CAST(hash AS BLOB) WHERE seq = 20",
        "UPDATE journal_records SET type = type || char(0) WHERE seq = 20",
        "UPDATE journal_records SET payload = payload || char(0) || 'more' WHERE seq = 20",
        "UPDATE journal_records SET event_id = (SELECT event_id FROM journal_records WHERE seq = 21) WHERE seq = 20",
    ],
)
def test_what_is_not_is_never_called_right(written: tuple[Path, tuple[int, str]], statement: str) -> None:
    directory, end = written
    change(directory, statement)
    assert not right(directory, end)


def test_content_that_moves_into_another_column_under_the_same_hash_is_not_right(tmp_path: Path) -> None:
    """A payload that looks like the end of a record: its columns can be cut elsewhere, with the very same hash."""
    time = "2025-01-06T14:30:00.000000Z"
    inner: dict[str, Json] = {"a": 1, "seq": 1, "severity": "INFO", "stream": "fx/A"}
    inner |= {"time": time, "type": "CHECKPOINT", "z": 1}
    journal = Journal.open(url_of(tmp_path), exclusive=True)
    journal.append([Append("fx/A", 0, (an_event("1", payload={"payload": inner}),))])
    head = journal.head()
    journal.close()
    assert head is not None
    assert right(tmp_path, head[:2])
    (whole,) = _rows(tmp_path)
    cut = whole[7].index('"seq":1')
    rest = whole[7][cut:].partition('"type":"')[2] + f',"seq":1,"severity":"INFO","stream":"fx/A","time":"{whole[4]}"'
    rest += f',"type":"{whole[5]}'
    change(
        tmp_path,
        "UPDATE journal_records SET payload = ?, type = ?, time = ?",
        whole[7][:cut].rstrip(","),
        rest,
        time,
    )
    assert not right(tmp_path, head[:2])


@pytest.mark.parametrize("twice", [False, True])
def test_an_event_id_that_stands_twice_is_seen_with_numpy_and_without(
    written: tuple[Path, tuple[int, str]], monkeypatch: pytest.MonkeyPatch, *, twice: bool
) -> None:
    directory, end = written
    if twice:
        end = rehash_with_twice(directory)
    for name in ("numpy", "no numpy"):
        _numpy.cache_clear()
        if name == "no numpy":
            monkeypatch.setitem(sys.modules, "numpy", None)
        assert right(directory, end) is not twice
    _numpy.cache_clear()


def _rows(directory: Path) -> list[Row]:
    with sqlite3.connect(directory / "journal.db") as connection:
        rows = connection.execute("SELECT * FROM journal_records ORDER BY seq").fetchall()
    connection.close()
    return rows


def rehash_with_twice(directory: Path) -> tuple[int, str]:
    """Somebody gives a record the event id of the one before it, and hashes everything after it again."""
    rows = _rows(directory)
    before, made = GENESIS, []
    for row in rows:
        content: list[Any] = [*row[:-2]]
        if row[0] == 30:
            content[3] = rows[28][3]
        own = chained(before, canonical_bytes(*content))
        made.append((content[3], before, own, row[0]))
        before = own
    for one in made:
        change(directory, "UPDATE journal_records SET event_id = ?, prev_hash = ?, hash = ? WHERE seq = ?", *one)
    return len(rows), before
