"""The journal in other hands: an edited record, a torn file, one flipped bit are found, by `verify` and on opening."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from actors.events import event_id
from actors.journal.store import Journal
from actors.journal.types import (
    Append,
    JournalCorrupt,
)
from tests.unit.journal_cases import change, events, url_of, verified, write_five


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(url_of(tmp_path), exclusive=True)
    yield opened
    opened.close()


@pytest.fixture
def five(tmp_path: Path) -> Path:
    write_five(tmp_path)
    return tmp_path


TEXT_COLUMNS = ["stream", "event_id", "time", "type", "severity", "payload", "prev_hash", "hash"]


class TestTampering:
    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(TEXT_COLUMNS), st.integers(1, 5), st.integers(0, 10_000), st.integers(1, 255))
    def test_one_flipped_byte_anywhere_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, column: str, seq: int, place: int, flip: int
    ) -> None:
        """FEATURES 14."""
        directory = tmp_path_factory.mktemp("journal")
        write_five(directory)
        with sqlite3.connect(directory / "journal.db") as connection:
            (text,) = connection.execute(f"SELECT {column} FROM journal_records WHERE seq = ?", (seq,)).fetchone()  # noqa: S608 - a column of our list
            raw = bytearray(text.encode())
            raw[place % len(raw)] ^= flip
            try:
                connection.execute(
                    f"UPDATE journal_records SET {column} = CAST(? AS TEXT) WHERE seq = ?",  # noqa: S608 - as above
                    (bytes(raw), seq),
                )
            except sqlite3.IntegrityError:  # the name of the other stream, which has that version
                reject()
        connection.close()
        found = verified(directory)
        assert (found.ok, found.first_bad_seq) == (False, seq)
        assert found.reason
        with pytest.raises(JournalCorrupt):
            Journal.open(url_of(directory), exclusive=True)

    @pytest.mark.parametrize(
        ("statement", "first_bad_seq", "reason"),
        [
            pytest.param("DELETE FROM journal_records WHERE seq = 3", 3, "missing", id="a record deleted"),
            pytest.param("DELETE FROM journal_records WHERE seq = 1", 1, "missing", id="the first deleted"),
            pytest.param("DELETE FROM journal_records WHERE seq >= 4", 4, "cut off", id="the last two deleted"),
            pytest.param("DELETE FROM journal_records", 1, "cut off", id="all deleted"),
            pytest.param("UPDATE journal_records SET version = 9 WHERE seq = 2", 2, "altered", id="a version changed"),
            pytest.param(
                "UPDATE journal_records SET seq = 6 WHERE seq = 5", 5, "missing", id="a record moved to the end"
            ),
            pytest.param(
                "INSERT INTO journal_records SELECT 6, stream, 4, event_id, time, type, severity, payload, hash, hash"
                " FROM journal_records WHERE seq = 5",
                6,
                "altered",
                id="a record added with a made-up hash",
            ),
            pytest.param("UPDATE journal_head SET seq = 4", 5, "another hand", id="the head moved back"),
            pytest.param("UPDATE journal_head SET hash = 'x'", 6, "not the one", id="the head renamed"),
            pytest.param("DELETE FROM journal_head", None, "head", id="the head deleted"),
            pytest.param("DROP TABLE journal_records", 1, "no such table", id="the table dropped"),
        ],
    )
    def test_what_is_cut_moved_or_added_is_found(
        self, five: Path, statement: str, first_bad_seq: int | None, reason: str
    ) -> None:
        """FEATURES 14."""
        change(five, statement)
        found = verified(five)
        assert (found.ok, found.first_bad_seq) == (False, first_bad_seq)
        assert reason in str(found.reason)
        with pytest.raises(JournalCorrupt):
            Journal.open(url_of(five), exclusive=True)

    @pytest.mark.parametrize(
        ("rewrite", "reason"),
        [
            pytest.param(lambda row: {**row, "version": 4}, "version", id="a version left out"),
            pytest.param(lambda row: {**row, "event_id": event_id("test", "1")}, "event id", id="an event id again"),
        ],
    )
    def test_a_chain_made_again_by_somebody_who_knows_how_still_shows_what_is_wrong_with_it(
        self, five: Path, rewrite: Callable[[dict[str, Any]], dict[str, Any]], reason: str
    ) -> None:
        with sqlite3.connect(five / "journal.db") as connection:
            connection.row_factory = sqlite3.Row
            row = rewrite(dict(connection.execute("SELECT * FROM journal_records WHERE seq = 5").fetchone()))
            form = {key: row[key] for key in sorted(row) if key not in {"prev_hash", "hash", "payload"}}
            form["payload"] = json.loads(row["payload"])
            text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            new_hash = hashlib.sha256((row["prev_hash"] + text).encode()).hexdigest()
            connection.execute(
                "UPDATE journal_records SET version = ?, event_id = ?, hash = ? WHERE seq = 5",
                (row["version"], row["event_id"], new_hash),
            )
            connection.execute("UPDATE journal_head SET hash = ?", (new_hash,))
        connection.close()
        assert "not the one that was durable" in str(verified(five).reason) or reason == "version"
        (five / "journal.db.mark").unlink()
        found = verified(five)
        assert (found.ok, found.first_bad_seq) == (False, 5)
        assert reason in str(found.reason)

    def test_an_altered_record_is_not_loaded_into_a_book(self, five: Path) -> None:
        change(five, "UPDATE journal_records SET payload = replace(payload, '191', '291') WHERE seq = 1")
        journal = Journal.open(url_of(five), read_only=True)
        with pytest.raises(JournalCorrupt, match="record 1 was altered"):
            journal.load("fx/A")
        assert journal.load("fx/B").version == 2
        journal.close()

    @pytest.mark.parametrize("payload", ["null", "[]", "7", "", "{"])
    def test_a_record_whose_payload_is_no_object_is_corrupt_for_whoever_reads_it(
        self, five: Path, payload: str
    ) -> None:
        change(five, "UPDATE journal_records SET payload = ? WHERE seq = 2", payload)
        journal = Journal.open(url_of(five), read_only=True)
        with pytest.raises(JournalCorrupt, match="record 2 cannot be read"):
            list(journal.records())
        journal.close()
        assert verified(five).first_bad_seq == 2

    @pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "soon", ""])
    def test_a_record_whose_time_is_none_is_corrupt_for_whoever_reads_it(self, five: Path, time: str) -> None:
        change(five, "UPDATE journal_records SET time = ? WHERE seq = 2", time)
        journal = Journal.open(url_of(five), read_only=True)
        with pytest.raises(JournalCorrupt, match="record 2 cannot be read"):
            list(journal.records())
        journal.close()
        assert verified(five).first_bad_seq == 2

    def test_a_journal_changed_under_its_writer_takes_no_more(self, journal: Journal, tmp_path: Path) -> None:
        journal.append([Append("fx/A", 0, events("1", "2"))])
        change(tmp_path, "UPDATE journal_head SET seq = 1")
        with pytest.raises(JournalCorrupt):
            journal.append([Append("fx/A", 2, events("3"))])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed journal of four hundred records, whose last pages hold rows and indexes."""
    directory = tmp_path_factory.mktemp("many")
    journal = Journal.open(url_of(directory), exclusive=True)
    for version in range(0, 400, 20):
        journal.append([Append("fx/A", version, events(*map(str, range(version, version + 20))))])
    journal.close()
    return directory


class TestTornFiles:
    @pytest.mark.parametrize("pages", [1, 2, 3, 5, 8], ids=lambda pages: f"{pages} pages")
    @pytest.mark.parametrize("tear", ["cut", "zeroed"])
    def test_a_file_that_lost_its_last_pages_is_never_accepted(
        self, many: Path, tmp_path: Path, tear: str, pages: int
    ) -> None:
        file = tmp_path / "journal.db"
        shutil.copy(many / "journal.db", file)
        size = file.stat().st_size
        with file.open("r+b") as torn:
            torn.truncate(size - pages * 4096)
            if tear == "zeroed":
                torn.truncate(size)
        with contextlib.suppress(JournalCorrupt):
            found = verified(tmp_path)
            assert not found.ok
            assert found.reason
        with pytest.raises(JournalCorrupt):
            Journal.open(url_of(tmp_path), exclusive=True)

    @settings(max_examples=60, deadline=None)
    @given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.sampled_from(["payload", "hash"]))
    def test_one_flipped_bit_of_the_file_inside_a_record_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, many: Path, place: float, bit: int, which: str
    ) -> None:
        """FEATURES 14."""
        directory = tmp_path_factory.mktemp("bit")
        file = directory / "journal.db"
        shutil.copy(many / "journal.db", file)
        with sqlite3.connect(file) as connection:
            values = connection.execute(f"SELECT {which} FROM journal_records ORDER BY seq").fetchall()  # noqa: S608 - a column of ours
        connection.close()
        seq = int(place * len(values)) + 1
        value = values[seq - 1][0].encode()
        raw = bytearray(file.read_bytes())
        # A hash stands in its own record and in the next one: the chain is broken at either.
        raw[raw.index(value) + int(place * 1e6) % len(value)] ^= 1 << bit
        file.write_bytes(raw)
        found = verified(directory)
        assert not found.ok
        assert found.first_bad_seq is not None
        assert abs(found.first_bad_seq - seq) <= 1
