"""The chain read on every core: it calls right what is, and nothing else; what is wrong is left to who can name it."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.events import Json
from actors.journal import parallel_verification
from actors.journal.hash_chain import GENESIS, Row, canonical_bytes, chained
from actors.journal.parallel_verification import PAGE, _numpy, all_right
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


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str]]:
    """More records than a piece holds at once, of two streams."""
    directory = tmp_path_factory.mktemp("pages")
    journal = Journal.open(url_of(directory), exclusive=True)
    half = PAGE // 2 + 20
    journal.append([Append(stream, 0, events(*(f"{stream}{n}" for n in range(half)))) for stream in ("fx/A", "fx/B")])
    journal.append([Append("fx/A", half, events("last"))])
    head = journal.head()
    journal.close()
    assert head is not None
    return directory, head[:2]


@pytest.mark.parametrize(
    ("seq", "prev_hash", "version"),
    [
        pytest.param(None, None, None, id="nothing"),
        pytest.param(PAGE + 1, "f" * 64, None, id="a link between two pages"),
        pytest.param(400, "f" * 64, None, id="a link between two pieces"),
        pytest.param(700, "f" * 64, None, id="a link within a page"),
        pytest.param(PAGE + 1, None, 5000, id="a version of the next page"),
        pytest.param(2 * (PAGE // 2 + 20) + 1, None, 5000, id="a version of the next piece"),
    ],
)
def test_a_chain_made_again_from_where_it_was_cut_is_not_right_wherever_that_is(
    pages: tuple[Path, tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seq: int | None,
    prev_hash: str | None,
    version: int | None,
) -> None:
    monkeypatch.setattr(parallel_verification, "CHUNK", PAGE + 8 if seq != 400 else 399)
    shutil.copy(pages[0] / "journal.db", tmp_path)
    end = pages[1] if seq is None else (pages[1][0], rehash(tmp_path, seq, prev_hash=prev_hash, version=version))
    assert right(tmp_path, end) is (seq is None)


@pytest.mark.parametrize(
    ("column", "place", "value"),
    [
        (4, "time", '2025-01-06T14:30:00.0000"0Z'),
        (4, "time", "2025-01-06T14:30:00.0000\\0Z"),
        (3, "event_id", '"' * 32),
        (5, "type", 'ORDER"FILLED'),
        (6, "severity", "LOUD"),
    ],
)
def test_a_hash_over_what_is_no_json_is_not_right(tmp_path: Path, column: int, place: str, value: str) -> None:
    """Somebody who makes the chain again and leaves out what JSON escapes."""
    journal = Journal.open(url_of(tmp_path), exclusive=True)
    journal.append([Append("fx/A", 0, events("1"))])
    journal.close()
    ((*row, before, _),) = _rows(tmp_path)
    content: list[Any] = row
    form = canonical_bytes(*content).decode().replace(f'"{content[column]}"', f'"{value}"')
    own = chained(before, form.encode())
    change(tmp_path, f"UPDATE journal_records SET {place} = ?, hash = ?", value, own)  # noqa: S608 - a column of ours
    change(tmp_path, "UPDATE journal_head SET hash = ?", own)
    assert not right(tmp_path, (1, own))


def test_processes_that_do_not_come_up_say_nothing_of_the_journal(
    written: tuple[Path, tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a program without a guard around its main part verifies: the journal is then read in one process."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(written[0] / "no such program.py"), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert not right(*written)


def _rows(directory: Path) -> list[Row]:
    with sqlite3.connect(directory / "journal.db") as connection:
        rows = connection.execute("SELECT * FROM journal_records ORDER BY seq").fetchall()
    connection.close()
    return rows


def rehash_with_twice(directory: Path) -> tuple[int, str]:
    """Somebody gives a record the event id of the one before it, and hashes everything after it again."""
    return len(_rows(directory)), rehash(directory, 30, event_id=_rows(directory)[28][3])


def rehash(directory: Path, seq: int, **changed: str | int | None) -> str:
    """Somebody changes a record, and hashes it and everything after it again; the last hash."""
    columns = ("seq", "stream", "version", "event_id", "time", "type", "severity", "payload", "prev_hash", "hash")
    rows, before = _rows(directory)[seq - 1 :], ""
    connection = sqlite3.connect(directory / "journal.db")
    with connection:
        for row in rows:
            content: list[Any] = list(row)
            if row[0] == seq:
                for column, value in changed.items():
                    content[columns.index(column)] = content[columns.index(column)] if value is None else value
                before = content[-2]
            content[-2], content[-1] = before, chained(before, canonical_bytes(*content[:-2]))
            before = content[-1]
            connection.execute("DELETE FROM journal_records WHERE seq = ?", (row[0],))
            connection.execute("INSERT INTO journal_records VALUES (?,?,?,?,?,?,?,?,?,?)", content)
    connection.close()
    return before
