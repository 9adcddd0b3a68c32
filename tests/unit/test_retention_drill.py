"""The drill for records that are kept for five and six years: three archives beside a journal that goes on, one lost
and found again, one corrupted and named; the file itself damaged, restored from an older backup, moved elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.journal.store import Journal
from actors.journal.types import Append, JournalCorrupt
from tests.unit.journal_cases import START, an_event, url_of
from tests.unit.test_journal_evidence import CONFIG, alone, audit, notes, run_audit

YEAR = timedelta(days=365)
BEGIN = START - 6 * YEAR
PER_YEAR = 333
"""Not a multiple of anything: every cut is in the middle of a tile of the tree."""


def a_year(directory: Path, year: int) -> None:
    """Events of one year, the last of them a checkpoint, after which the year before may go."""
    journal = Journal.open(url_of(directory), exclusive=True)
    version = journal.load("fx/A").version
    written = [
        replace(an_event(f"{year} {number}"), time=BEGIN + year * YEAR + timedelta(hours=number))
        for number in range(PER_YEAR)
    ]
    written[-1] = replace(written[-1], type=EventType.CHECKPOINT, time=BEGIN + (year + 1) * YEAR - timedelta(hours=1))
    journal.append([Append("fx/A", version, tuple(written))])
    journal.close()


def archived(directory: Path, year: int) -> Path:
    """The archive of a year, as `audit archive` moves it out."""
    file = directory / f"year{year}.db"
    before = (BEGIN + (year + 1) * YEAR - timedelta(hours=1)).isoformat()
    result = audit("archive", file, "--before", before, "-c", directory / "accounts.yaml")
    assert result.exit_code == 0, result.output
    assert file.exists(), result.output
    return file


def verify(file: Path, *more: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(audit("verify", "--journal", file, "--json", *more).stdout)
    return found


@pytest.fixture
def six_years(tmp_path: Path) -> Path:
    """A journal of six years, of which the first three are in an archive each."""
    (tmp_path / "accounts.yaml").write_text(CONFIG.format(tmp_path))
    for year in range(6):
        a_year(tmp_path, year)
        asyncio.run(run_audit(tmp_path))
    for year in range(3):
        archived(tmp_path, year)
    asyncio.run(run_audit(tmp_path, "and on", stream="fx/B"))
    return tmp_path


class TestTheDrill:
    def test_each_archive_and_the_journal_prove_themselves_against_the_signed_heads(self, six_years: Path) -> None:
        key = six_years / "journal.db.pub"
        begin = 0
        for year in range(3):
            found = verify(six_years / f"year{year}.db", "--key", key)
            assert (found["ok"], found["signatures"]) == (True, True), found
            assert found["archived_seq"] == begin
            assert found["signed_heads"] >= year + 1
            begin = found["head"]["seq"]
        live = verify(six_years / "journal.db")
        assert (live["ok"], live["archived_seq"], live["archive"]) == (True, begin, "year2.db")

    def test_a_record_of_every_year_is_proven_under_the_newest_head(self, six_years: Path) -> None:
        archives = [part for year in range(3) for part in ("--archive", six_years / f"year{year}.db")]
        for seq in (1, 300, 400, 700, 999, 1500, 1998):
            proof = six_years / f"proof{seq}.json"
            made = audit("prove", seq, "--journal", six_years / "journal.db", *archives, "-o", proof)
            assert made.exit_code == 0, made.output
            outside = alone(proof, six_years / "journal.db.pub")
            assert outside.returncode == 0, outside.stderr

    def test_one_that_is_lost_is_missed_and_one_that_is_found_again_is_taken(self, six_years: Path) -> None:
        lost, elsewhere = six_years / "year1.db", six_years / "attic.db"
        lost.rename(elsewhere)
        live = six_years / "journal.db"
        missed = audit("prove", 400, "--journal", live)
        assert missed.exit_code == 3
        assert "no record 400 here" in missed.stderr
        assert verify(live)["ok"]  # what is left is whole, and says where the rest is
        assert audit("prove", 1500, "--journal", live).exit_code == 0
        assert audit("prove", 400, "--journal", live, "--archive", elsewhere).exit_code == 0

    def test_one_that_was_corrupted_is_named(self, six_years: Path) -> None:
        file = six_years / "year1.db"
        os.chmod(file, 0o600)
        data = file.read_bytes()
        assert data.count(b'"fill_id":"1 7"') == 1
        file.write_bytes(data.replace(b'"fill_id":"1 7"', b'"fill_id":"1 8"'))
        found = verify(file)
        assert not found["ok"]
        assert "was altered" in found["reason"]
        named = audit("prove", found["first_bad_seq"], "--journal", six_years / "journal.db", "--archive", file)
        assert named.exit_code != 0
        assert "was altered" in named.stderr
        assert verify(six_years / "year0.db")["ok"]
        assert verify(six_years / "year2.db")["ok"]

    def test_one_that_is_lost_leaves_what_needs_it_unverified_and_calls_nothing_changed(self, six_years: Path) -> None:
        live, lost, attic = six_years / "journal.db", six_years / "year1.db", six_years / "attic.db"
        kept, older = six_years / "kept.txt", six_years / "older.txt"
        kept.write_text("".join(f"{note}\n" for note in notes(six_years)))
        older.write_text(next(note for note in notes(six_years) if note.split("\n")[1] == str(PER_YEAR)))
        lost.rename(attic)
        for asked in (("--tree",), ("--since", older), ("--heads", older)):
            missed = audit("verify", "--journal", live, *asked)
            assert (missed.exit_code, "NOT intact" in missed.output) == (3, False), missed.output
            assert "beside" in missed.output
            found = audit("verify", "--journal", live, *asked, "--archive", attic)
            assert found.exit_code == 0, found.output
        some = verify(live, "--heads", kept)
        assert (some["ok"], some["heads_in_archives"] > 0) == (True, True), some
        assert verify(live, "--heads", kept, "--archive", attic)["heads_in_archives"] == 0
        since = verify(live, "--since", older, "--archive", attic)
        head, cut = since["head"]["seq"], verify(live)["archived_seq"]
        assert (since["records"], since["archived_seq"]) == (head - cut, cut)


class TestWhatBecomesOfTheFile:
    def test_pages_that_are_damaged_are_named_and_nothing_is_appended(self, six_years: Path) -> None:
        file = six_years / "journal.db"
        data = bytearray(file.read_bytes())
        middle = data.rindex(b'"fill_id":"4 100"') // 4096 * 4096
        data[middle : middle + 4096] = b"\xa5" * 4096
        file.write_bytes(bytes(data))
        assert not verify(file)["ok"]

    def test_an_older_backup_is_refused_and_named(self, six_years: Path) -> None:
        backup = six_years / "backup.db"
        shutil.copy(six_years / "journal.db", backup)
        asyncio.run(run_audit(six_years, "later", stream="fx/B"))
        newest = six_years / "newest.txt"
        newest.write_text(notes(six_years)[-1])
        shutil.copy(backup, six_years / "journal.db")
        with pytest.raises(JournalCorrupt, match="what came between is lost"):
            asyncio.run(run_audit(six_years))
        # Whoever takes it up on purpose removes the mark; a head that went elsewhere still shows what is missing.
        (six_years / "journal.db.mark").unlink()
        asyncio.run(run_audit(six_years))
        assert "the end is cut off" in verify(six_years / "journal.db", "--heads", newest)["reason"]

    def test_one_that_moved_to_another_machine_goes_on_with_its_key(
        self, six_years: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        there = tmp_path_factory.mktemp("there")
        for file in six_years.glob("journal.db*"):
            shutil.copy(file, there / file.name)
        health = asyncio.run(run_audit(there, "there", stream="fx/B"))
        assert health["evidence_error"] is None
        before, after = notes(six_years)[-1], notes(there)[-1]
        assert before.split("\n")[0] == after.split("\n")[0]
        assert verify(there / "journal.db", "--key", six_years / "journal.db.pub")["ok"]

    def test_one_that_moved_without_its_key_says_so(
        self, six_years: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        there = tmp_path_factory.mktemp("there")
        shutil.copy(six_years / "journal.db", there / "journal.db")
        health = asyncio.run(run_audit(there, "there", stream="fx/B"))
        assert "is gone, and heads were signed with it" in health["evidence_error"]
