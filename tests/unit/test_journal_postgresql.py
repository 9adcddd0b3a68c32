"""The journal in PostgreSQL: the same promises, and the server's own lock. Needs psycopg and pgserver."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from actors.events import Event, EventType, NamedInStep, Severity, to_iso
from actors.journal.actor import Audit
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
from supervisor.config.loader import load
from supervisor.supervision.specs import audit_actor
from tests.unit.fakes import in_this_thread
from tests.unit.journal_cases import START, an_event, events, ids, ids_of_names
from tests.unit.test_journal_evidence import alone, audit
from tests.unit.test_retention_drill import BEGIN, PER_YEAR, YEAR

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


class TestTheDrillOnAServer:
    """Three archives of a journal in PostgreSQL, in SQLite and in Parquet."""

    @pytest.fixture
    def years(self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("JOURNAL_URL", url)
        (tmp_path / "accounts.yaml").write_text(
            f"journal: {{url: '${{JOURNAL_URL}}', state_dir: {tmp_path}/state, heads: [{tmp_path}/elsewhere.txt]}}\n"
            "accounts: [{name: fx, broker: paper, instruments: [A]}]\n"
        )
        for year in range(4):
            asyncio.run(one_life(tmp_path, of_a_year(year)))
        for year, name in enumerate(("year0.db", "year1.parquet", "year2.db")):
            before = (BEGIN + (year + 1) * YEAR - timedelta(hours=1)).isoformat()
            done = audit("archive", tmp_path / name, "--before", before, "-c", tmp_path / "accounts.yaml")
            assert done.exit_code == 0, done.output
        return tmp_path

    def test_each_archive_proves_itself_and_its_records_under_the_newest_head(self, years: Path) -> None:
        place, key = ("-c", years / "accounts.yaml"), years / "state" / "journal.pub"
        files = [years / name for name in ("year0.db", "year1.parquet", "year2.db")]
        for file in files:
            found = audit("verify", "--journal", file, "--key", key, "--tree", "--json")
            document = json.loads(found.stdout)
            assert (document["ok"], document["signatures"]) == (True, True), document
            assert document["signed_heads"] >= 1
        for seq, file in ((5, files[0]), (PER_YEAR + 9, files[1]), (3 * PER_YEAR - 1, files[2])):
            made = audit("prove", seq, *place, "--archive", file, "-o", years / "proof.json")
            assert made.exit_code == 0, made.output
            assert alone(years / "proof.json", key).returncode == 0
        named = [part for file in files for part in ("--archive", file)]
        assert audit("verify", *place, "--tree", *named).exit_code == 0
        assert audit("verify", *place, "--heads", years / "elsewhere.txt", *named).exit_code == 0
        since = audit("prove", "--since", PER_YEAR, *place, *named, "-o", years / "since.json")
        assert since.exit_code == 0, since.output
        checked = audit("check", years / "since.json", "--key", key, "--heads", years / "elsewhere.txt")
        assert (checked.exit_code, "agrees with your heads" in checked.output) == (0, True), checked.output

    def test_one_that_is_lost_is_missed_and_taken_where_it_is_put_beside_the_files_of_this_machine(
        self, years: Path
    ) -> None:
        place = ("-c", years / "accounts.yaml")
        missed = audit("verify", *place, "--tree")
        assert (missed.exit_code, "NOT intact" in missed.output) == (3, False), missed.output
        for name in ("year0.db", "year1.parquet", "year2.db"):
            shutil.copy(years / name, years / "state")
        assert audit("verify", *place, "--tree").exit_code == 0

    def test_an_older_backup_is_refused_and_shows_by_a_head_that_went_elsewhere(
        self, years: Path, server: Any, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = make_url(url).database
        older = f"{name}_older"
        server.psql(f"CREATE DATABASE {older} TEMPLATE {name}")
        asyncio.run(one_life(years, events("later")))
        monkeypatch.setenv("JOURNAL_URL", url.replace(f"/{name}", f"/{older}"))
        place, heads = ("-c", years / "accounts.yaml"), years / "elsewhere.txt"
        with pytest.raises(JournalCorrupt, match="what came between is lost"):
            asyncio.run(one_life(years, events("instead")))
        # Whoever takes it up on purpose removes the mark; a head that went elsewhere still shows what is missing.
        (years / "state" / "journal.mark").unlink()
        assert audit("verify", *place).exit_code == 0
        found = audit("verify", *place, "--heads", heads)
        assert (found.exit_code, "the end is cut off" in found.output) == (1, True), found.output
        asyncio.run(one_life(years, events("instead")))
        found = audit("verify", *place, "--heads", heads)
        assert (found.exit_code, "split view" in found.output) == (1, True), found.output


def of_a_year(year: int) -> tuple[Event, ...]:
    """Its events, the last of them a checkpoint."""
    written = [replace(an_event(f"{year} {n}"), time=BEGIN + year * YEAR + timedelta(hours=n)) for n in range(PER_YEAR)]
    written[-1] = replace(written[-1], type=EventType.CHECKPOINT, time=BEGIN + (year + 1) * YEAR - timedelta(hours=1))
    return tuple(written)


async def one_life(directory: Path, happened: Sequence[Event]) -> None:
    """One life of the audit actor of the configuration there, in which these events are appended."""
    actor = Audit(*audit_actor(load(directory / "accounts.yaml")), run_blocking=in_this_thread)
    await actor.open()
    await actor.append("fx/A", (await actor.load("fx/A")).version, happened)
    await actor.close()
    assert (await actor.health())["evidence_error"] is None
