"""The journal's storage: what it answers, what it keeps, and that any later change to it is found."""

from __future__ import annotations

import hashlib
import json
import pickle
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from actors.book.trading_permission import HALT_TYPES
from actors.events import Event, EventType, Payload, Severity
from actors.journal import schema
from actors.journal.hash_chain import GENESIS, canonical, canonical_bytes, chained, record_to_json, rows_of
from actors.journal.store import Journal, Outcome
from actors.journal.types import (
    Append,
    Appended,
    AppendRefused,
    JournalCorrupt,
    JournalError,
    JournalInUse,
    JournalMissing,
    JournalTooNew,
    JournalUnavailable,
    Stale,
    Verification,
)
from tests.unit.journal_cases import START, an_event, change, events, ids, ids_of_names, url_of, write_five


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(url_of(tmp_path), exclusive=True)
    yield opened
    opened.close()


class TestAppending:
    def test_what_was_answered_is_there_after_a_restart(self, tmp_path: Path) -> None:
        """FEATURES 7, FEATURES 14, PEERS 15."""
        first = Journal.open(url_of(tmp_path), exclusive=True)
        assert first.append([Append("fx/A", 0, events("1", "2")), Append("fx/B", 0, events("3"))]) == [
            Appended(2, 2),
            Appended(1, 3),
        ]
        before = first.load("fx/A"), list(first.records()), first.head()
        first.close()
        second = Journal.open(url_of(tmp_path), exclusive=True)
        assert (second.load("fx/A"), list(second.records()), second.head()) == before
        assert second.append([Append("fx/A", 2, events("4"))]) == [Appended(3, 4)]
        assert second.verify() == Verification(True, 4)
        second.close()

    def test_an_event_is_read_back_exactly_as_it_was_written(self, journal: Journal) -> None:
        written = an_event(
            "1", payload={"quantity": "0.10", "n": -(2**63), "ok": True, "none": None, "list": ["é", []]}
        )
        journal.append([Append("fx/A", 0, (written,))])
        assert [record.event for record in journal.records()] == [written]

    def test_a_stale_writer_is_refused_whole_and_the_others_of_its_commit_go_on(self, journal: Journal) -> None:
        journal.append([Append("fx/A", 0, events("1", "2"))])
        answers = journal.append(
            [
                Append("fx/B", 0, events("b1")),
                Append("fx/A", 1, events("late", "later")),
                Append("fx/C", 7, events("c8")),
                Append("fx/A", 2, events("3")),
            ]
        )
        assert answers == [Appended(1, 3), Stale("fx/A", 1, 2), Stale("fx/C", 7, 0), Appended(3, 4)]
        assert ids(journal.load("fx/A").records) == ids_of_names("1", "2", "3")
        assert journal.load("fx/C").version == 0
        assert journal.verify() == Verification(True, 4)

    def test_a_batch_that_is_in_is_answered_again_and_not_written_twice(self, journal: Journal) -> None:
        """PEERS 5, PEERS 15."""
        batch = [Append("fx/A", 0, events("1", "2"))]
        first = journal.append(batch)
        journal.append([Append("fx/A", 2, events("3"))])
        assert journal.append(batch) == first == [Appended(2, 2)]
        assert len(list(journal.records())) == 3

    def test_a_batch_offered_twice_in_one_commit_is_written_once(self, journal: Journal) -> None:
        twice = Append("fx/A", 0, events("1", "2"))
        assert journal.append([twice, twice]) == [Appended(2, 2), Appended(2, 2)]
        assert journal.verify() == Verification(True, 2)

    @pytest.mark.parametrize(
        "offered",
        [
            pytest.param(events("1", "other"), id="one event is another"),
            pytest.param(events("2", "1"), id="another order"),
            pytest.param(events("1", "2", "3"), id="more than there is"),
            pytest.param(events(), id="nothing"),
        ],
    )
    def test_a_batch_that_is_only_partly_in_is_stale(self, journal: Journal, offered: tuple[Event, ...]) -> None:
        journal.append([Append("fx/A", 0, events("1", "2"))])
        assert journal.append([Append("fx/A", 0, offered)]) == [Stale("fx/A", 0, 2)]

    def test_an_append_of_nothing_shows_a_writer_whether_it_is_still_the_writer(self, journal: Journal) -> None:
        assert journal.append([]) == []
        assert journal.append([Append("fx/A", 0, ())]) == [Appended(0, 0)]
        assert journal.append([Append("fx/A", 0, events("1")), Append("fx/A", 1, ())]) == [
            Appended(1, 1),
            Appended(1, 1),
        ]
        assert journal.append([Append("fx/A", 1, ())]) == [Appended(1, 1)]

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param((an_event("x", payload={"price": 1.5}),), id="a float"),  # type: ignore[dict-item]  # the point
            pytest.param((an_event("x", payload={"deep": [{"price": 1.5}]}),), id="a float inside"),  # type: ignore[dict-item]  # the point
            pytest.param((an_event("x", payload={"price": Decimal(1)}),), id="a Decimal"),  # type: ignore[dict-item]  # the point
            pytest.param((an_event("x", payload={"at": START}),), id="a time"),  # type: ignore[dict-item]  # the point
            pytest.param((an_event("x", payload={1: "a"}),), id="a key that is no text"),  # type: ignore[dict-item]  # the point
            pytest.param((an_event("x", payload={"n": 2**70}),), id="an integer beyond 64 bits"),
            pytest.param((an_event("x", payload={"n": "\ud800"}),), id="half a character"),
            pytest.param((replace(an_event("x"), time=START.replace(tzinfo=None)),), id="a time without a zone"),
            pytest.param(events("x", "x"), id="one event twice"),
        ],
    )
    def test_an_append_that_is_wrong_in_itself_is_refused_alone(
        self, journal: Journal, wrong: tuple[Event, ...]
    ) -> None:
        before, refused, after = journal.append(
            [
                Append("fx/A", 0, events("1")),
                Append("fx/B", 0, (*events("b"), *wrong)),
                Append("fx/A", 1, events("2")),
            ]
        )
        assert (before, after) == (Appended(1, 1), Appended(2, 2))
        assert isinstance(refused, AppendRefused)
        assert "fx/B" in str(refused)
        assert journal.load("fx/B").version == 0
        assert journal.verify() == Verification(True, 2)

    def test_of_many_threads_with_one_version_exactly_one_wins(self, journal: Journal) -> None:
        barrier = threading.Barrier(6)
        answers: list[tuple[int, int, Outcome]] = []

        def write(writer: int) -> None:
            for version in range(10):
                barrier.wait()
                (answer,) = journal.append([Append("fx/A", version, events(f"{writer}-{version}"))])
                answers.append((version, writer, answer))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = sorted((version, writer) for version, writer, answer in answers if isinstance(answer, Appended))
        assert [version for version, _ in won] == list(range(10))
        assert ids(journal.load("fx/A").records) == ids_of_names(*(f"{writer}-{version}" for version, writer in won))

    def test_two_writers_without_a_lock_fence_each_other(self, tmp_path: Path) -> None:
        one, two = Journal.open(url_of(tmp_path)), Journal.open(url_of(tmp_path))
        assert one.append([Append("fx/A", 0, events("1"))]) == [Appended(1, 1)]
        assert two.append([Append("fx/A", 0, events("other"))]) == [Stale("fx/A", 0, 1)]
        assert two.append([Append("fx/A", 1, events("2"))]) == [Appended(2, 2)]
        assert one.append([Append("fx/A", 1, events("late")), Append("fx/A", 2, events("3"))]) == [
            Stale("fx/A", 1, 2),
            Appended(3, 3),
        ]
        assert one.verify() == Verification(True, 3)
        one.close()
        two.close()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["fx/A", "fx/B", "supervisor"]), st.integers(-1, 3), st.integers(0, 3)),
            min_size=1,
            max_size=4,
        ),
        max_size=8,
    ),
    st.sets(st.integers(0, 7)),
)
def test_any_history_is_gapless_linked_and_what_was_answered(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[tuple[str, int, int]]], restarts: set[int]
) -> None:
    """PEERS 5: whatever is offered, late, repeated or after restarts, the streams hold what was answered, once."""
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal.open(url_of(directory), exclusive=True)
    model: dict[str, list[Event]] = {"fx/A": [], "fx/B": [], "supervisor": []}
    for number, commit in enumerate(commits):
        if number in restarts:
            journal.close()
            journal = Journal.open(url_of(directory), exclusive=True)
        batch = [
            Append(stream, version, events(*(f"{stream}-{version}-{place}" for place in range(count))))
            for stream, version, count in commit
        ]
        for append, answer in zip(batch, journal.append(batch), strict=True):
            known = model[append.stream]
            last = append.expected_version + len(append.events)
            if append.expected_version == len(known):
                known += append.events
                assert isinstance(answer, Appended)
                assert answer.version == last
            elif append.expected_version >= 0 and append.events == tuple(known[append.expected_version : last]) != ():
                assert isinstance(answer, Appended)
                assert answer.version == last
            else:
                assert answer == Stale(append.stream, append.expected_version, len(known))
    written = list(journal.records())
    assert [record.seq for record in written] == list(range(1, len(written) + 1))
    assert [record.prev_hash for record in written] == [GENESIS, *(record.hash for record in written)][: len(written)]
    for stream, known in model.items():
        tail = journal.load(stream)
        assert [record.version for record in tail.records] == list(range(1, len(known) + 1))
        assert [record.event for record in tail.records] == known
    assert journal.verify() == Verification(True, len(written))
    journal.close()


class TestTheChain:
    @given(
        st.lists(
            st.tuples(
                st.text(),
                st.sampled_from(EventType),
                st.sampled_from(Severity),
                st.datetimes(timezones=st.just(UTC)),
                st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()),
            ),
            max_size=4,
        ),
        st.text(),
    )
    def test_what_is_written_hashes_to_what_is_checked(
        self, given_events: list[tuple[str, EventType, Severity, datetime, Payload]], stream: str
    ) -> None:
        """The two are written apart, one for speed and one for suspicion."""
        made = [Event(name, kind, severity, time, payload) for name, kind, severity, time, payload in given_events]
        try:
            rows = rows_of(7, "a" * 64, stream, 3, made)
        except (TypeError, ValueError):
            return  # half a character, which no JSON holds
        before = "a" * 64
        for row, event in zip(rows, made, strict=True):
            form = canonical_bytes(*row[:8])
            assert form == canonical(row[0], stream, row[2], event).encode()
            assert row[8:] == (before, chained(before, form))
            before = row[9]
        assert [(row[0], row[2]) for row in rows] == [(8 + place, 4 + place) for place in range(len(rows))]

    def test_the_canonical_form_and_the_hash_are_those_of_the_contract(self, journal: Journal) -> None:
        journal.append([Append("fx/A", 0, events("1", "2"))])
        prev_hash = "0" * 64
        for record in journal.records():
            shown = record_to_json(record)
            form = json.dumps(
                {key: value for key, value in shown.items() if key not in {"prev_hash", "hash"}},
                sort_keys=True,
                separators=(",", ":"),
                ensure_ascii=False,
            )
            assert canonical(record.seq, record.stream, record.version, record.event) == form
            assert record.prev_hash == prev_hash
            assert record.hash == hashlib.sha256((prev_hash + form).encode()).hexdigest()
            prev_hash = record.hash
            assert list(shown) == (
                ["seq", "stream", "version", "event_id", "time", "type", "severity", "payload", "prev_hash", "hash"]
            )


@pytest.fixture
def five(tmp_path: Path) -> Path:
    write_five(tmp_path)
    return tmp_path


class TestLoading:
    def test_a_stream_is_loaded_from_its_last_checkpoint_inclusive(self, journal: Journal) -> None:
        """FEATURES 20."""
        checkpoint = [an_event(f"c{number}", kind=EventType.CHECKPOINT) for number in range(3)]
        journal.append([Append("fx/A", 0, (*events("1", "2"), checkpoint[0], *events("3"), checkpoint[1]))])
        journal.append([Append("fx/B", 0, (*events("b"), checkpoint[2]))])
        journal.append([Append("fx/A", 5, events("4"))])
        tail = journal.load("fx/A")
        assert (tail.version, [record.version for record in tail.records]) == (6, [5, 6])
        assert tail.records[0].event == checkpoint[1]
        assert journal.load("never") == journal.load("fx") == type(tail)(0, ())

    @pytest.mark.parametrize(
        ("statement", "index"),
        [
            ("SELECT max(version) FROM journal_records WHERE stream = ? AND type = 'CHECKPOINT'", "checkpoint"),
            ("SELECT * FROM journal_records WHERE stream = ? AND version >= 7 ORDER BY version", "autoindex"),
        ],
        ids=["the checkpoint", "the rows after it"],
    )
    def test_loading_reads_only_the_rows_it_gives(self, five: Path, statement: str, index: str) -> None:
        with sqlite3.connect(five / "journal.db") as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", ("fx/A",)).fetchall()
        connection.close()
        assert len(plan) == 1
        assert "SEARCH" in plan[0][3]
        assert index in plan[0][3]

    @pytest.mark.parametrize("types", [HALT_TYPES, HALT_TYPES[:1]], ids=["halts and resumes", "halts alone"])
    def test_halts_are_found_without_reading_the_other_records(self, five: Path, types: tuple[EventType, ...]) -> None:
        ran: list[str] = []
        journal = Journal.open(url_of(five), read_only=True, on_connect=lambda one: one.set_trace_callback(ran.append))
        assert list(journal.records(types=types, after_seq=1, limit=10)) == []
        journal.close()
        with sqlite3.connect(five / "journal.db") as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {ran[-2]}").fetchall()
        connection.close()
        assert "journal_records_halt" in plan[0][3], (ran, plan)

    def test_a_writer_makes_the_index_that_an_earlier_version_did_not(self, five: Path) -> None:
        change(five, "DROP INDEX journal_records_halt")
        reader = Journal.open(url_of(five), read_only=True)
        assert list(reader.records(types=HALT_TYPES)) == []
        reader.close()
        Journal.open(url_of(five), exclusive=True).close()
        change(five, "DROP INDEX journal_records_halt")  # it is there


class TestOpening:
    def test_the_file_and_its_directory_are_its_owners_alone(self, tmp_path: Path) -> None:
        Journal.open(f"sqlite:///{tmp_path}/new/deep/journal.db", exclusive=True).close()
        assert (tmp_path / "new/deep").stat().st_mode & 0o077 == 0
        assert {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "new/deep").iterdir()} == {
            "journal.db": 0o600,
            "journal.db.lock": 0o600,
        }

    @pytest.mark.parametrize(
        ("url", "error", "found"),
        [
            pytest.param("sqlite:///{0}", JournalUnavailable, "unable to open", id="a directory in its place"),
            pytest.param("sqlite:///{0}/file/journal.db", JournalUnavailable, "directory", id="a file above it"),
            pytest.param("sqlite:///{0}/file", JournalCorrupt, "not a database", id="something else in its place"),
            pytest.param("sqlite:///{0}/only-a-log", JournalCorrupt, "write-ahead log", id="only its log is left"),
            pytest.param("sqlite://", JournalUnavailable, "not durable", id="in memory"),
            pytest.param("journal.db", JournalUnavailable, "cannot be read", id="no URL"),
            pytest.param("nothing://host/db", JournalUnavailable, "no driver", id="no such database"),
        ],
    )
    def test_what_cannot_be_opened_says_why(
        self, tmp_path: Path, url: str, error: type[JournalError], found: str
    ) -> None:
        (tmp_path / "file").write_bytes(b"not a database, for sure" * 100)
        (tmp_path / "only-a-log-wal").write_bytes(b"x")
        with pytest.raises(error, match=found) as raised:
            Journal.open(url.format(tmp_path))
        assert raised.value.remedy

    def test_a_journal_of_a_newer_program_is_refused(self, five: Path) -> None:
        change(five, "UPDATE journal_schema SET version = 99")
        for writes in (True, False):
            with pytest.raises(JournalTooNew, match="version 99"):
                Journal.open(url_of(five), exclusive=writes, read_only=not writes)
        change(five, "UPDATE journal_schema SET version = 1")
        Journal.open(url_of(five), exclusive=True).close()

    def test_a_reader_creates_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(JournalMissing, match="no such file"):
            Journal.open(url_of(tmp_path / "none"), read_only=True)
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "journal.db").touch()
        with pytest.raises(JournalMissing, match="nothing was ever written"):
            Journal.open(url_of(tmp_path), read_only=True)

    def test_a_reader_sees_each_commit_and_writes_none(self, journal: Journal, tmp_path: Path) -> None:
        reader = Journal.open(url_of(tmp_path), read_only=True)
        assert reader.head() is None
        for version in range(3):
            journal.append([Append("fx/A", version, events(str(version)))])
            assert reader.load("fx/A").version == version + 1
        assert reader.verify() == Verification(True, 3)
        with pytest.raises(JournalUnavailable, match="reading only"):
            reader.append([Append("fx/A", 3, events("3"))])
        reader.close()

    def test_a_closed_journal_says_so(self, journal: Journal) -> None:
        journal.close()
        journal.close()
        with pytest.raises(JournalUnavailable, match="closed"):
            journal.append([Append("fx/A", 0, events("1"))])
        with pytest.raises(JournalUnavailable, match="closed"):
            journal.verify()

    def test_a_journal_has_one_writer(self, journal: Journal, tmp_path: Path) -> None:
        with pytest.raises(JournalInUse, match=r"journal\.db"):
            Journal.open(url_of(tmp_path), exclusive=True)
        assert journal.append([Append("fx/A", 0, events("1"))]) == [Appended(1, 1)]
        journal.close()
        Journal.open(url_of(tmp_path), exclusive=True).close()

    def test_its_tables_are_those_of_another_database_too(self) -> None:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped
        for table in (schema.records, schema.head, schema.schema):
            assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        index, halts = (str(CreateIndex(one).compile(dialect=dialect)) for one in schema.INDEXES)
        assert index.endswith("WHERE type = 'CHECKPOINT'")
        assert halts.endswith("WHERE type IN ('TRADING_HALTED', 'TRADING_RESUMED')")


@pytest.mark.parametrize(
    "error",
    [JournalUnavailable, JournalMissing, JournalInUse, JournalCorrupt, JournalTooNew, AppendRefused],
)
def test_an_error_of_the_journal_survives_the_way_between_actors(error: type[JournalError]) -> None:
    original = error("append 2 events", "the disk is full", "Free space")
    copy = pickle.loads(pickle.dumps(original))  # noqa: S301 - our own bytes
    assert type(copy) is error
    assert (copy.attempted, copy.found, copy.remedy) == ("append 2 events", "the disk is full", "Free space")
    assert str(copy) == str(original) == "could not append 2 events: the disk is full. Free space"


@pytest.mark.parametrize(
    "value",
    [
        Append("fx/A", 0, events("1")),
        Appended(1, 2),
        Stale("fx/A", 1, 2),
        Verification(False, 3, 4, "why"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_between_actors_is_equal_when_it_arrives(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes


def test_a_copy_of_the_file_alone_is_whole_once_its_writer_has_closed(tmp_path: Path) -> None:
    """Though somebody was reading when the writer closed."""
    write_five(tmp_path)
    reader = Journal.open(url_of(tmp_path), read_only=True)
    journal = Journal.open(url_of(tmp_path), exclusive=True)
    journal.append([Append("fx/A", 3, events("6"))])
    assert len(list(reader.records())) == 6
    journal.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "journal.db").write_bytes((tmp_path / "journal.db").read_bytes())
    reader.close()

    copied = Journal.open(url_of(copy), read_only=True)
    assert copied.verify().records == 6
    copied.close()
