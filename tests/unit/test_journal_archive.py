"""Old records moved into an archive: both halves prove themselves, no book changes, and no crash loses anything."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from actors.events import Event, EventType, Record, StreamTail
from actors.journal.hash_chain import GENESIS
from actors.journal.store import Journal
from actors.journal.types import (
    Append,
    Appended,
    Archived,
    ArchiveRefused,
    JournalCorrupt,
    JournalError,
    JournalUnavailable,
    Stale,
    Verification,
)
from tests.unit.journal_cases import START, an_event, change, child_environment, url_of, verified

STREAMS = ("cfd/A", "fx", "fx/A", "fx/B", "supervisor")


def at(minute: int, *, kind: EventType = EventType.ORDER_FILLED, name: str = "") -> Event:
    return replace(an_event(name or f"{minute} {kind}", kind=kind), time=START + timedelta(minutes=minute))


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def fill(journal: Journal) -> None:
    """Twelve records, one a minute from 1 on. Only fx/B has no checkpoint; the last one of fx/A is record 7."""
    point = EventType.CHECKPOINT
    answers = journal.append(
        [
            Append("fx/A", 0, (at(1), at(2, kind=point), at(3))),
            Append("fx", 0, (at(4),)),
            Append("cfd/A", 0, (at(5),)),
            Append("cfd/A", 1, (at(6, kind=point),)),
            Append("fx/A", 3, (at(7, kind=point), at(8))),
            Append("supervisor", 0, (at(9),)),
            Append("fx/B", 0, (at(10), at(11))),
            Append("fx/A", 5, (at(12),)),
        ]
    )
    assert all(isinstance(answer, Appended) for answer in answers)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(url_of(tmp_path), exclusive=True)
    fill(opened)
    yield opened
    opened.close()


def tails(journal: Journal) -> dict[str, StreamTail]:
    return {stream: journal.load(stream) for stream in STREAMS}


def books(journal: Journal) -> dict[str, StreamTail]:
    """What the instruments' books are folded from."""
    return {stream: journal.load(stream) for stream in STREAMS if "/" in stream}


def read(file: Path) -> list[Record]:
    opened = Journal.open(f"sqlite:///{file}", read_only=True)
    try:
        return list(opened.records())
    finally:
        opened.close()


def verify(file: Path, head: str | None = None) -> Verification:
    opened = Journal.open(f"sqlite:///{file}", read_only=True)
    try:
        return opened.verify(head=head)
    finally:
        opened.close()


class TestACut:
    def test_both_halves_verify_and_every_book_is_what_it_was(self, journal: Journal, tmp_path: Path) -> None:
        """FEATURES 7, FEATURES 14."""
        whole, before = list(journal.records()), books(journal)
        file = tmp_path / "2025.db"
        done = journal.archive(minute(6), file)
        assert done == Archived(5, 1, 5, whole[4].hash, str(file), None)
        assert read(file) == whole[:5]
        assert list(journal.records()) == whole[5:]
        assert verify(file) == Verification(True, 5)
        assert journal.verify() == Verification(True, 7, archived_seq=5, archive="2025.db")
        assert journal.verify().last_whole_seq == 12
        assert books(journal) == before
        assert {stream: journal.load(stream).version for stream in ("fx", "supervisor")} == {"fx": 1, "supervisor": 1}
        journal.close()
        reopened = Journal.open(url_of(tmp_path), exclusive=True)
        assert books(reopened) == before
        assert reopened.head() == (12, whole[11].hash, whole[11].event.time)
        reopened.close()

    def test_the_streams_go_on_where_they_were(self, journal: Journal, tmp_path: Path) -> None:
        journal.archive(minute(6), tmp_path / "2025.db")
        journal.close()
        reopened = Journal.open(url_of(tmp_path), exclusive=True)
        assert reopened.append(
            [
                Append("fx", 0, (at(13),)),
                Append("fx", 1, (at(14),)),
                Append("cfd/A", 2, (at(15),)),
                Append("new/A", 0, (at(16),)),
            ]
        ) == [Stale("fx", 0, 1), Appended(2, 13), Appended(3, 14), Appended(1, 15)]
        assert [record.version for record in reopened.load("fx").records] == [2]
        assert reopened.verify() == Verification(True, 10, archived_seq=5, archive="2025.db")
        reopened.close()

    def test_an_archived_batch_that_is_offered_again_is_not_written_twice(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        journal.archive(minute(6), tmp_path / "2025.db")
        assert journal.append([Append("fx", 0, (at(4),))]) == [Stale("fx", 0, 1)]

    @pytest.mark.parametrize(
        ("before", "last_seq", "held_by"),
        [
            pytest.param(minute(1), 0, None, id="nothing is that old"),
            pytest.param(minute(2), 1, None, id="up to an instant, exclusive"),
            pytest.param(minute(6) + timedelta(seconds=1), 5, "cfd/A", id="not the last checkpoint of a stream"),
            pytest.param(minute(100), 5, "cfd/A", id="nor what comes after it"),
        ],
    )
    def test_it_ends_before_the_first_record_that_a_book_needs(
        self, journal: Journal, tmp_path: Path, before: datetime, last_seq: int, held_by: str | None
    ) -> None:
        whole = list(journal.records())
        file = tmp_path / "2025.db"
        done = journal.archive(before, file)
        assert (done.records, done.first_seq, done.last_seq, done.held_by) == (last_seq, 1, last_seq, held_by)
        assert done.last_hash == (whole[last_seq - 1].hash if last_seq else GENESIS)
        assert file.exists() == bool(last_seq)
        assert list(journal.records()) == whole[last_seq:]

    def test_an_instrument_without_a_checkpoint_keeps_all_it_has_and_a_checkpoint_lets_go(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        for stream, version in (("fx/A", 6), ("cfd/A", 2)):
            journal.append([Append(stream, version, (at(20, kind=EventType.CHECKPOINT, name=stream),))])
        assert journal.archive(minute(100), tmp_path / "1.db").last_seq == 9
        assert journal.archive(minute(100), tmp_path / "2.db").held_by == "fx/B"
        journal.append([Append("fx/B", 2, (at(21, kind=EventType.CHECKPOINT),))])
        done = journal.archive(minute(100), tmp_path / "2.db")
        assert (done.first_seq, done.last_seq, done.held_by) == (10, 12, "fx/A")

    def test_a_record_that_is_younger_than_the_cut_stays_though_an_older_one_follows_it(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx", 0, (at(1), at(9), at(2), at(3)))])
        assert journal.archive(minute(5), tmp_path / "2025.db").last_seq == 1
        journal.close()

    def test_the_last_record_stays_so_that_the_journal_knows_where_it_ended(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx", 0, (at(1), at(2), at(3)))])
        assert journal.archive(minute(100), tmp_path / "2025.db").last_seq == 2
        assert journal.verify() == Verification(True, 1, archived_seq=2, archive="2025.db")
        journal.close()

    def test_cut_after_cut_the_archives_join_without_a_gap(self, journal: Journal, tmp_path: Path) -> None:
        whole = list(journal.records())
        for number in (2, 4, 6):
            journal.archive(minute(number), tmp_path / f"{number}.db")
        assert [verify(tmp_path / f"{number}.db") for number in (2, 4, 6)] == [
            Verification(True, 1),
            Verification(True, 2, archived_seq=1, archive="2.db"),
            Verification(True, 2, archived_seq=3, archive="4.db"),
        ]
        kept = [record for number in (2, 4, 6) for record in read(tmp_path / f"{number}.db")]
        assert kept + list(journal.records()) == whole

    def test_a_head_that_was_noted_is_found_in_the_half_that_has_it(self, journal: Journal, tmp_path: Path) -> None:
        whole = list(journal.records())
        file = tmp_path / "2025.db"
        journal.archive(minute(6), file)
        assert journal.verify(head=whole[8].hash).head_seq == 9
        assert journal.verify(head=whole[4].hash).head_seq == verify(file, whole[4].hash).head_seq == 5
        found = journal.verify(head=whole[2].hash)
        assert not found.ok
        assert "records up to 5 are in the archive 2025.db" in str(found.reason)
        assert verify(file, whole[2].hash).head_seq == 3

    def test_the_archive_is_one_file_for_its_owner_that_nobody_writes_on(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        (tmp_path / "kept").mkdir()
        file = tmp_path / "kept" / "2025.db"
        journal.archive(minute(6), file)
        assert verify(file).ok
        assert os.listdir(tmp_path / "kept") == ["2025.db"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o400


class TestWhatIsRefused:
    def test_a_file_that_exists_is_never_written_over(self, journal: Journal, tmp_path: Path) -> None:
        file = tmp_path / "2025.db"
        file.write_text("kept")
        with pytest.raises(ArchiveRefused, match="no archive is written over"):
            journal.archive(minute(6), file)
        assert file.read_text() == "kept"
        assert len(list(journal.records())) == 12

    @pytest.mark.parametrize("read_only", [False, True], ids=["a writer without the lock", "a reader"])
    def test_only_the_one_writer_cuts(self, journal: Journal, tmp_path: Path, read_only: bool) -> None:
        other = Journal.open(url_of(tmp_path), read_only=read_only)
        with pytest.raises(ArchiveRefused, match="Stop the supervisor"):
            other.archive(minute(6), tmp_path / "2025.db")
        other.close()
        assert len(list(journal.records())) == 12

    def test_a_time_without_a_zone_and_a_directory_that_is_not_there_are_said_so(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="zone"):
            journal.archive(minute(6).replace(tzinfo=None), tmp_path / "2025.db")
        with pytest.raises(JournalUnavailable, match="directory"):
            journal.archive(minute(6), tmp_path / "none" / "2025.db")
        assert journal.verify() == Verification(True, 12)

    def test_records_that_were_altered_do_not_leave(self, journal: Journal, tmp_path: Path) -> None:
        change(tmp_path, "UPDATE journal_records SET payload = replace(payload, '191', '291') WHERE seq = 3")
        with pytest.raises(JournalCorrupt, match="record 3 was altered"):
            journal.archive(minute(6), tmp_path / "2025.db")
        assert [name for name in os.listdir(tmp_path) if name.startswith("2025")] == []
        assert len(read(tmp_path / "journal.db")) == 12


class TestAfterwards:
    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            pytest.param("UPDATE journal_anchor SET seq = 4", "altered", id="the anchor's seq"),
            pytest.param("UPDATE journal_anchor SET hash = replace(hash, 'a', 'b')", "altered", id="the anchor's hash"),
            pytest.param("UPDATE journal_anchor SET file = 'other.db'", "altered", id="the anchor's file"),
            pytest.param("UPDATE journal_archived_versions SET version = 2", "altered", id="a version"),
            pytest.param("DELETE FROM journal_archived_versions WHERE stream = 'fx'", "altered", id="a stream gone"),
            pytest.param("DELETE FROM journal_anchor", "anchor", id="the anchor gone"),
            pytest.param("DELETE FROM journal_records WHERE seq = 6", "record 6 is missing", id="the first record"),
        ],
    )
    def test_what_is_changed_about_the_cut_is_found(
        self, journal: Journal, tmp_path: Path, statement: str, reason: str
    ) -> None:
        """FEATURES 14."""
        journal.archive(minute(6), tmp_path / "2025.db")
        journal.close()
        change(tmp_path, statement)
        found = verified(tmp_path)
        assert not found.ok
        assert reason in str(found.reason)
        with pytest.raises(JournalCorrupt):
            Journal.open(url_of(tmp_path), exclusive=True)

    def test_an_anchor_that_is_gone_with_all_it_says_leaves_a_gap(self, journal: Journal, tmp_path: Path) -> None:
        journal.archive(minute(6), tmp_path / "2025.db")
        journal.close()
        change(tmp_path, "DELETE FROM journal_anchor")
        change(tmp_path, "DELETE FROM journal_archived_versions")
        found = verified(tmp_path)
        assert (found.ok, found.first_bad_seq, found.reason) == (
            False,
            1,
            "record 1 is missing: 0 is followed by 6",
        )


CRASHED = """
    import os, sys
    from datetime import timedelta
    from pathlib import Path
    from actors.journal.store import Journal
    from journal_cases import START
    url, file, last = sys.argv[1:]
    journal = Journal.open(url, exclusive=True)
    journal.archive(START + timedelta(minutes=6), Path(file), step=lambda step: os._exit(9) if step == last else None)
"""


@pytest.mark.parametrize("step", ["written", "named", "cut"])
def test_a_process_that_is_killed_at_any_step_loses_nothing(journal: Journal, tmp_path: Path, step: str) -> None:
    """FEATURES 7, PEERS 15."""
    whole, before = list(journal.records()), books(journal)
    journal.close()
    file = tmp_path / "2025.db"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASHED), url_of(tmp_path), str(file), step],
        env=child_environment(),
        check=False,
        timeout=60,
    )
    assert done.returncode == 9
    reopened = Journal.open(url_of(tmp_path), exclusive=True)
    assert reopened.verify().ok
    assert books(reopened) == before
    kept = read(file) if file.exists() else []
    assert {record.seq: record for record in kept + list(reopened.records())} == {r.seq: r for r in whole}
    if step != "cut":
        assert list(reopened.records()) == whole
        again = tmp_path / "again.db" if file.exists() else file
        assert reopened.archive(minute(6), again).records == 5
        assert read(again) == whole[:5]
    reopened.close()


def test_an_archive_that_cannot_be_written_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal.open(url_of(tmp_path), exclusive=True)
    fill(journal)
    whole = list(journal.records())
    (tmp_path / "2025.db.part").mkdir()  # nothing can be written under that name
    with pytest.raises(JournalError):
        journal.archive(minute(6), tmp_path / "2025.db")
    assert list(journal.records()) == whole
    assert journal.verify() == Verification(True, 12)
    journal.close()
