"""Archives as Parquet: any tool reads the records, and the file proves itself as an archive in SQLite does."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.journal.store import Journal
from tests.unit.journal_cases import url_of
from tests.unit.test_journal_evidence import CONFIG, alone, audit, run_audit
from tests.unit.test_retention_drill import BEGIN, PER_YEAR, YEAR, a_year, verify


def archive(directory: Path, year: int, name: str) -> Path:
    before = (BEGIN + (year + 1) * YEAR).isoformat()
    result = audit("archive", directory / name, "--before", before, "-c", directory / "accounts.yaml")
    assert result.exit_code == 0, result.output
    return directory / name


@pytest.fixture
def years(tmp_path: Path) -> Path:
    """A journal of three years, the first in an archive as Parquet and the second in one as SQLite."""
    (tmp_path / "accounts.yaml").write_text(CONFIG.format(tmp_path))
    for year in range(3):
        a_year(tmp_path, year)
        asyncio.run(run_audit(tmp_path))
    archive(tmp_path, 0, "year0.parquet")
    archive(tmp_path, 1, "year1.db")
    asyncio.run(run_audit(tmp_path, "and on", stream="fx/B"))
    return tmp_path


def test_it_proves_itself_against_the_signed_heads_and_the_chain_goes_on_after_it(years: Path) -> None:
    key = years / "journal.db.pub"
    first = verify(years / "year0.parquet", "--key", key)
    assert (first["ok"], first["signatures"], first["archived_seq"]) == (True, True, 0), first
    assert first["signed_heads"] >= 1
    second = verify(years / "year1.db", "--key", key)
    assert (second["ok"], second["archive"], second["archived_seq"]) == (True, "year0.parquet", first["head"]["seq"])
    assert verify(years / "journal.db", "--tree")["ok"]
    assert sorted(one.name for one in years.glob("year*")) == ["year0.parquet", "year1.db"]
    assert (years / "year0.parquet").stat().st_mode & 0o777 == 0o400


def test_any_tool_reads_its_records(years: Path) -> None:
    table = pq.read_table(years / "year0.parquet")
    assert table.column_names[:4] == ["seq", "stream", "version", "event_id"]
    assert table["seq"].to_pylist() == list(range(1, verify(years / "year0.parquet")["head"]["seq"] + 1))
    assert len(table) >= PER_YEAR - 1
    assert set(table["stream"].to_pylist()) == {"fx/A"}


def test_a_record_in_it_is_proven_under_the_newest_head_and_replayed(years: Path) -> None:
    proof = years / "proof.json"
    made = audit("prove", 5, "--journal", years / "journal.db", "--archive", years / "year0.parquet", "-o", proof)
    assert made.exit_code == 0, made.output
    assert alone(proof, years / "journal.db.pub").returncode == 0
    found = audit("query", "--journal", years / "year0.parquet", "-n", "1", "--oldest", "--jsonl")
    assert '"seq":1,' in found.stdout.replace(" ", "")


def test_a_record_that_was_changed_in_it_is_named(years: Path) -> None:
    file = years / "year0.parquet"
    table = pq.read_table(file)
    payloads = table["payload"].to_pylist()
    payloads[6] = payloads[6].replace("191.20", "191.21")
    spoilt = table.set_column(table.column_names.index("payload"), "payload", [payloads])
    os.chmod(file, 0o600)
    pq.write_table(spoilt, file)
    found = verify(file)
    assert (found["ok"], found["first_bad_seq"]) == (False, 7)
    assert "was altered" in found["reason"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xa5" * 400 + b"PAR1"])
def test_one_that_is_damaged_or_something_else_is_named(years: Path, content: bytes) -> None:
    file = years / "year0.parquet"
    os.chmod(file, 0o600)
    file.write_bytes(content)
    found = audit("verify", "--journal", file)
    assert found.exit_code == 1
    assert "NOT intact: it is damaged, or no archive of a journal" in found.output
    assert verify(years / "journal.db")["ok"]


def test_columns_without_what_proves_them_are_no_archive(years: Path) -> None:
    file = years / "year0.parquet"
    table = pq.read_table(file).replace_schema_metadata(None)
    os.chmod(file, 0o600)
    pq.write_table(table, file)
    found = audit("verify", "--journal", file)
    assert found.exit_code == 1
    assert "its metadata are those of another file" in found.output


def test_the_archive_before_it_is_found_beside_it(years: Path) -> None:
    later = years / "year2.parquet"
    before = (BEGIN + 3 * YEAR - timedelta(hours=1)).isoformat()
    assert audit("archive", later, "--before", before, "-c", years / "accounts.yaml").exit_code == 0
    found = audit("verify", "--journal", later, "--tree")
    assert found.exit_code == 0, found.output
    assert "are in year1.db, which was not read" in found.output


def test_one_that_is_not_there_is_named(years: Path) -> None:
    found = audit("verify", "--journal", years / "none.parquet")
    assert found.exit_code == 3
    assert "there is no such file" in found.output


def test_without_the_library_nothing_is_cut(years: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = verify(years / "journal.db")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    before_ = (BEGIN + 3 * YEAR - timedelta(hours=1)).isoformat()
    found = audit("archive", years / "more.parquet", "--before", before_, "-c", years / "accounts.yaml")
    assert found.exit_code == 3
    assert "Install the extra 'parquet'" in found.output
    after = verify(years / "journal.db")
    assert after["records"] == before["records"]
    assert not list(years.glob("more*"))
    journal = Journal.open(url_of(years), read_only=True)
    journal.close()
