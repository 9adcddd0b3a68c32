"""The chain read on every core: it calls right what is, and nothing else; what is wrong is left to who can name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.journal.hash_chain import GENESIS
from actors.journal.parallel_verification import all_right
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
        "UPDATE journal_records SET event_id = (SELECT event_id FROM journal_records WHERE seq = 21) WHERE seq = 20",
    ],
)
def test_what_is_not_is_never_called_right(written: tuple[Path, tuple[int, str]], statement: str) -> None:
    directory, end = written
    change(directory, statement)
    assert not right(directory, end)
