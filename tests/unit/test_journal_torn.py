"""A journal that lost its end: whatever is cut or zeroed, in the file or its log, is refused with what is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.journal.store import Journal
from actors.journal.types import Append, Appended, JournalCorrupt, JournalError, JournalMissing, Verification
from tests.unit.journal_cases import events, url_of, verified, write_five

PAGE = 4096
FRAME = PAGE + 24


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed writer leaves: sixty records, of which the first forty are in the file and the others in its
    log."""
    live, copy = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("copy")
    journal = Journal.open(url_of(live), exclusive=True)
    for version in range(0, 40, 4):
        journal.append([Append("fx/A", version, events(*map(str, range(version, version + 4))))])
    journal.close()
    journal = Journal.open(url_of(live), exclusive=True)
    for version in range(40, 60, 4):
        journal.append([Append("fx/A", version, events(*map(str, range(version, version + 4))))])
    for name in ("journal.db", "journal.db-wal", "journal.db.mark"):
        shutil.copy(live / name, copy / name)
    journal.close()
    return copy


@pytest.fixture
def torn(left_behind: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "torn"
    shutil.copytree(left_behind, directory)
    return directory


def tear(file: Path, how: str, size: int) -> None:
    """Take the last ``size`` bytes away, or make zeros of them."""
    whole = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(whole - size)
        if how == "zeroed":
            opened.truncate(whole)


def refused(directory: Path) -> JournalError:
    with pytest.raises(JournalCorrupt) as raised:
        Journal.open(url_of(directory), exclusive=True)
    return raised.value


def test_what_a_killed_writer_leaves_is_whole(torn: Path) -> None:
    assert verified(torn) == Verification(True, 60)
    journal = Journal.open(url_of(torn), exclusive=True)
    assert journal.append([Append("fx/A", 60, events("60"))]) == [Appended(61, 61)]
    journal.close()


class TestItsLog:
    @pytest.mark.parametrize("frames", [0.5, 1, 2, 4, 9], ids=lambda frames: f"{frames} pages")
    @pytest.mark.parametrize("how", ["cut", "zeroed"])
    def test_commits_that_went_with_the_end_of_the_log_are_missed(self, torn: Path, how: str, frames: float) -> None:
        """FEATURES 14: SQLite itself takes such a log for one that ends earlier."""
        tear(torn / "journal.db-wal", how, int(frames * FRAME))
        found = verified(torn)
        assert not found.ok
        assert 40 <= found.last_whole_seq < 60
        assert found.first_bad_seq == found.last_whole_seq + 1
        error = refused(torn)
        assert f"ends at record {found.last_whole_seq}, and record 60 was durable" in error.found
        assert "journal.db.mark" in error.remedy

    @pytest.mark.parametrize("how", ["gone", "empty"])
    def test_a_log_that_is_gone_is_missed(self, torn: Path, how: str) -> None:
        log = torn / "journal.db-wal"
        log.unlink() if how == "gone" else os.truncate(log, 0)
        found = verified(torn)
        assert (found.ok, found.last_whole_seq, found.first_bad_seq) == (False, 40, 41)
        assert "record 60 was durable" in refused(torn).found

    def test_who_accepts_the_loss_removes_the_mark_and_goes_on(self, torn: Path) -> None:
        (torn / "journal.db-wal").unlink()
        refused(torn)
        (torn / "journal.db.mark").unlink()
        journal = Journal.open(url_of(torn), exclusive=True)
        assert journal.append([Append("fx/A", 40, events("other"))]) == [Appended(41, 41)]
        journal.close()
        assert verified(torn) == Verification(True, 41)

    def test_without_a_mark_the_head_that_was_noted_elsewhere_shows_it(self, torn: Path) -> None:
        reader = Journal.open(url_of(torn), read_only=True)
        head = reader.head()
        reader.close()
        assert head is not None
        for name in ("journal.db.mark", "journal.db-wal", "journal.db-shm"):
            (torn / name).unlink(missing_ok=True)
        reader = Journal.open(url_of(torn), read_only=True)
        assert reader.verify() == Verification(True, 40)
        found = reader.verify(head=head[1])
        reader.close()
        assert (found.ok, found.last_whole_seq) == (False, 40)
        assert "cut off the end" in str(found.reason)


class TestItsFile:
    @pytest.mark.parametrize("pages", [1, 2, 4], ids=lambda pages: f"{pages} pages")
    @pytest.mark.parametrize("how", ["cut", "zeroed"])
    @pytest.mark.parametrize("log", ["with its log", "without its log"])
    def test_the_last_pages_are_missed_and_the_last_whole_record_is_named(
        self, torn: Path, how: str, pages: int, log: str
    ) -> None:
        if log == "without its log":
            (torn / "journal.db-wal").unlink()
        tear(torn / "journal.db", how, pages * PAGE)
        found = Verification(False, 0, None, "it cannot even be opened")
        with contextlib.suppress(JournalCorrupt):
            found = verified(torn)
        if found.ok:  # every page that was torn is in the log, newer
            assert (found.records, log) == (60, "with its log")
            return
        assert found.last_whole_seq < 60
        assert found.reason
        refused(torn)

    @pytest.mark.parametrize("log", ["with its log", "without its log"])
    def test_a_file_of_no_bytes_is_not_begun_anew_where_there_was_one(self, torn: Path, log: str) -> None:
        if log == "without its log":
            (torn / "journal.db-wal").unlink()
        os.truncate(torn / "journal.db", 0)
        error = refused(torn)
        assert "its file is empty, and 60 records were durable" in error.found
        assert "restore a copy" in error.remedy
        with pytest.raises(JournalCorrupt, match="60 records were durable"):
            Journal.open(url_of(torn), read_only=True)
        assert (torn / "journal.db").stat().st_size == 0
        assert (torn / "journal.db-wal").exists() == (log == "with its log")

    def test_a_log_beside_an_empty_file_is_not_thrown_away(self, torn: Path) -> None:
        (torn / "journal.db.mark").unlink()
        os.truncate(torn / "journal.db", 0)
        size = (torn / "journal.db-wal").stat().st_size
        assert "its write-ahead log journal.db-wal is not" in refused(torn).found
        assert (torn / "journal.db-wal").stat().st_size == size

    def test_a_file_that_is_gone_is_not_begun_anew_either(self, torn: Path) -> None:
        (torn / "journal.db").unlink()
        assert "its file is gone" in refused(torn).found
        assert not (torn / "journal.db").exists()

    def test_a_mark_of_which_nothing_can_be_read_still_says_that_there_was_one(self, torn: Path) -> None:
        os.truncate(torn / "journal.db", 0)
        os.truncate(torn / "journal.db.mark", 0)
        assert "its file is empty, and records were durable" in refused(torn).found


class TestTheMark:
    def test_what_a_killed_creation_leaves_is_begun(self, tmp_path: Path) -> None:
        """SQLite leaves a file of no bytes, and there is no mark before the first commit."""
        (tmp_path / "journal.db").touch()
        with pytest.raises(JournalMissing, match="nothing was ever written"):
            Journal.open(url_of(tmp_path), read_only=True)
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        assert journal.append([Append("fx/A", 0, events("1"))]) == [Appended(1, 1)]
        journal.close()

    @pytest.mark.parametrize(
        "text", ["", "\0" * 96, "60", "words and more words", "9" * 40 + " " + "a" * 64], ids=range(5)
    )
    def test_a_mark_that_cannot_be_read_costs_no_work_and_is_written_again(self, tmp_path: Path, text: str) -> None:
        write_five(tmp_path)
        (tmp_path / "journal.db.mark").write_text(text)
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        last = journal.head()
        assert last is not None
        assert (tmp_path / "journal.db.mark").read_text().split() == ["5", last[1]]
        journal.close()

    def test_a_mark_that_cannot_be_written_costs_no_work(self, tmp_path: Path) -> None:
        (tmp_path / "journal.db.mark").mkdir()
        write_five(tmp_path)
        assert verified(tmp_path) == Verification(True, 5)

    def test_it_follows_every_commit(self, tmp_path: Path) -> None:
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        marks = []
        for version in range(3):
            journal.append([Append("fx/A", version, events(str(version)))])
            marks.append((tmp_path / "journal.db.mark").read_text().split()[0])
        journal.close()
        assert marks == ["1", "2", "3"]

    def test_another_journal_in_its_place_is_refused(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        write_five(other)
        journal = Journal.open(url_of(tmp_path), exclusive=True)
        journal.append([Append("fx/A", 0, events("a", "b"))])
        journal.close()
        (other / "journal.db").replace(tmp_path / "journal.db")
        assert "another journal" in refused(tmp_path).found
        found = verified(tmp_path)
        assert (found.ok, found.first_bad_seq) == (False, 2)


@pytest.fixture
def reader(torn: Path) -> Iterator[Journal]:
    opened = Journal.open(url_of(torn), read_only=True)
    yield opened
    opened.close()


class TestAHeadThatWasNoted:
    def test_every_hash_of_the_chain_is_found_at_its_place(self, reader: Journal) -> None:
        written = list(reader.records())
        for record in (written[0], written[29], written[59]):
            assert reader.verify(head=f" {record.hash.upper()}\n") == Verification(True, 60, head_seq=record.seq)

    def test_one_that_is_not_there_says_that_records_are_gone(self, reader: Journal) -> None:
        found = reader.verify(head="ab" * 32)
        assert (found.ok, found.records, found.head_seq) == (False, 60, None)
        assert "cut off the end" in str(found.reason)
        assert "another journal" in str(found.reason)
