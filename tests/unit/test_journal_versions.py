"""A journal of an older schema: read as it is, brought to ours in place, and by one process alone."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from actors.events import EventType
from actors.journal import schema
from actors.journal.store import Journal
from actors.journal.types import Append, Appended, JournalInUse, Verification
from tests.unit.journal_cases import START, an_event, change, events, url_of, write_five


@pytest.fixture
def five(tmp_path: Path) -> Path:
    write_five(tmp_path)
    return tmp_path


def first_version(directory: Path) -> None:
    """Make a journal be one of schema version 1, which knew no archives."""
    for table in ("journal_anchor", "journal_archived_versions"):
        change(directory, f"DROP TABLE {table}")
    change(directory, "UPDATE journal_schema SET version = 1")


def schema_version(directory: Path) -> int:
    with sqlite3.connect(directory / "journal.db") as connection:
        (found,) = connection.execute("SELECT max(version) FROM journal_schema").fetchone()
    connection.close()
    return int(found)


class TestAnOlderVersion:
    def test_a_reader_reads_it_and_leaves_it_as_it_is(self, five: Path) -> None:
        first_version(five)
        reader = Journal.open(url_of(five), read_only=True)
        assert reader.verify() == Verification(True, 5)
        assert (reader.load("fx/A").version, len(list(reader.records())), reader.streams()) == (3, 5, ["fx/A", "fx/B"])
        reader.close()
        assert schema_version(five) == 1

    @pytest.mark.parametrize("exclusive", [True, False], ids=["the one writer", "a writer without the lock"])
    def test_a_writer_brings_it_to_ours_in_place(self, five: Path, exclusive: bool) -> None:
        first_version(five)
        before = (five / "journal.db").stat().st_ino
        journal = Journal.open(url_of(five), exclusive=exclusive)
        assert journal.append([Append("fx/A", 3, events("6"))]) == [Appended(4, 6)]
        assert journal.verify() == Verification(True, 6)
        journal.close()
        assert schema_version(five) == schema.SCHEMA_VERSION == 2
        assert (five / "journal.db").stat().st_ino == before

    def test_it_is_brought_to_ours_under_the_lock_alone(self, five: Path) -> None:
        holder = Journal.open(url_of(five), exclusive=True)
        first_version(five)
        with pytest.raises(JournalInUse):
            Journal.open(url_of(five))
        assert schema_version(five) == 1
        holder.close()

    def test_a_reader_of_it_goes_on_while_it_is_brought_to_ours_and_cut(self, five: Path) -> None:
        first_version(five)
        reader = Journal.open(url_of(five), read_only=True)
        assert reader.load("fx/A").version == 3
        journal = Journal.open(url_of(five), exclusive=True)
        point = an_event("point", kind=EventType.CHECKPOINT)
        journal.append([Append("fx/A", 3, (point,)), Append("fx/B", 2, (replace(point, event_id="b"),))])
        assert journal.archive(START + timedelta(days=99), five / "old.db").records == 5
        assert [record.version for record in reader.load("fx/A").records] == [4]
        assert reader.verify() == Verification(True, 2, archived_seq=5, archive="old.db")
        reader.close()
        journal.close()
