"""The journal in PostgreSQL: the same promises, and the server's own lock. Needs psycopg and pgserver."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from actors.events import EventType, NamedInStep, Severity, to_iso
from actors.journal.store import Journal
from actors.journal.types import (
    Append,
    Appended,
    ArchiveRefused,
    JournalCorrupt,
    JournalInUse,
    JournalMissing,
    Stale,
    Verification,
)
from tests.unit.journal_cases import START, an_event, events, ids, ids_of_names

pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
NUMBERS = count(1)
pgserver: Any = pytest.importorskip("pgserver", reason="there is no PostgreSQL server to test with")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    # Not in pytest's own folder: a server that is started by root runs as another user, and whatever pytest process
    # starts next takes that folder away from all others.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        opened = pgserver.get_server(directory)
        yield opened
        opened.cleanup()


@pytest.fixture
def url(server: Any) -> str:
    name = f"journal_{next(NUMBERS)}"
    server.psql(f"CREATE DATABASE {name}")
    return str(server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    opened = Journal.open(url, exclusive=True)
    yield opened
    opened.close()


def test_what_was_answered_is_there_after_a_restart(url: str) -> None:
    first = Journal.open(url, exclusive=True)
    assert first.append([Append("fx/A", 0, events("1", "2")), Append("fx/B", 0, events("3"))]) == [
        Appended(2, 2),
        Appended(1, 3),
    ]
    before = first.load("fx/A"), list(first.records()), first.head(), first.streams()
    first.close()
    second = Journal.open(url, exclusive=True)
    assert (second.load("fx/A"), list(second.records()), second.head(), second.streams()) == before
    assert second.append([Append("fx/A", 0, events("1", "2")), Append("fx/A", 1, events("late"))]) == [
        Appended(2, 2),
        Stale("fx/A", 1, 2),
    ]
    assert second.verify() == Verification(True, 3)
    second.close()


def test_a_journal_has_one_writer_and_any_readers(journal: Journal, url: str) -> None:
    journal.append([Append("fx/A", 0, events("1"))])
    with pytest.raises(JournalInUse, match="another process is its writer"):
        Journal.open(url, exclusive=True)
    reader = Journal.open(url, read_only=True)
    assert ids(reader.records()) == ids_of_names("1")
    reader.close()
    journal.close()
    Journal.open(url, exclusive=True).close()


def test_two_writers_without_a_lock_fence_each_other(url: str) -> None:
    one, two = Journal.open(url), Journal.open(url)
    assert one.append([Append("fx/A", 0, events("1"))]) == [Appended(1, 1)]
    assert two.append([Append("fx/A", 0, events("other"))]) == [Stale("fx/A", 0, 1)]
    assert two.append([Append("fx/A", 1, events("2"))]) == [Appended(2, 2)]
    assert one.append([Append("fx/A", 2, events("3"))]) == [Appended(3, 3)]
    assert one.verify() == Verification(True, 3)
    one.close()
    two.close()


def test_questions_are_answered_in_its_words_too(journal: Journal) -> None:
    made = [an_event(str(number), payload={"client_order_id": f"c{number}"}) for number in range(3)]
    journal.append([Append("fx/A", 0, tuple(made)), Append("fx", 0, events("lost"))])
    assert [record.seq for record in journal.records(order_id="c1")] == [2]
    assert [record.seq for record in journal.records(account="fx", order="newest", limit=2)] == [4, 3]
    assert len(list(journal.records(types=[EventType.ORDER_FILLED], severity=Severity.INFO))) == 4
    assert [record.seq for record in journal.records(until=START)] == []


def test_what_an_account_names_is_found_by_its_instrument(journal: Journal) -> None:
    look = {"requested_at": to_iso(START), "as_of": to_iso(START), "positions": "COMPLETE"}
    of_many = an_event("many", payload={**look, "instruments": {"A": 1, 'X"Y': 4}}, kind=EventType.RECONCILED)
    journal.append([Append("fx/A", 0, events("1")), Append("fx/B", 0, events("2")), Append("fx", 0, (of_many,))])
    assert [record.seq for record in journal.records(instrument="A")] == [1, 3]
    assert [record.seq for record in journal.records(instrument='X"Y', account="fx", order="newest")] == [3]
    assert [record.seq for record in journal.records(instrument="B")] == [2]
    assert journal.load("fx/A").named == NamedInStep(1, START)
    assert journal.load("fx/B").named is None
    assert journal.versions(["fx/A", "fx", "fx/C"]) == {"fx/A": 1, "fx": 1, "fx/C": 0}


def test_a_change_by_another_hand_is_found(journal: Journal, url: str) -> None:
    """FEATURES 14."""
    journal.append([Append("fx/A", 0, events("1", "2", "3"))])
    journal.close()
    with create_engine(url).begin() as connection:
        connection.exec_driver_sql("UPDATE journal_records SET payload = replace(payload, '191', '291') WHERE seq = 2")
    reader = Journal.open(url, read_only=True)
    found = reader.verify()
    reader.close()
    assert (found.ok, found.first_bad_seq) == (False, 2)
    with pytest.raises(JournalCorrupt, match="record 2 was altered"):
        Journal.open(url, exclusive=True)


def test_a_reader_creates_nothing(url: str) -> None:
    with pytest.raises(JournalMissing, match="nothing was ever written"):
        Journal.open(url, read_only=True)


def test_old_records_move_into_a_file_of_their_own_and_both_verify(url: str, tmp_path: Path) -> None:
    journal = Journal.open(url, exclusive=True)
    journal.append([Append("fx/A", 0, (*events("1", "2"), an_event("point", kind=EventType.CHECKPOINT)))])
    journal.append([Append("fx/A", 3, events("after"))])
    before = journal.load("fx/A")
    reader = Journal.open(url, read_only=True)
    with pytest.raises(ArchiveRefused, match="one writer"):
        reader.archive(START + timedelta(days=99), tmp_path / "old.db")
    done = journal.archive(START + timedelta(days=99), tmp_path / "old.db")
    assert (done.records, done.first_seq, done.last_seq) == (2, 1, 2)
    assert journal.load("fx/A") == before
    assert reader.verify() == Verification(True, 2, archived_seq=2, archive="old.db")
    archive = Journal.open(f"sqlite:///{tmp_path}/old.db", read_only=True)
    assert archive.verify() == Verification(True, 2)
    assert ids(archive.records()) == ids_of_names("1", "2")
    for opened in (reader, archive, journal):
        opened.close()
