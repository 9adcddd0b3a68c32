"""Journals that released versions wrote, kept as they were: each later version reads, verifies, replays and continues
them. ``golden/VERSION`` holds a plain journal with every type of event, the same cut by `audit archive` with its
archive, and what that version itself said of them. A release adds its own directory and leaves the others alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.book.checkpoint import replay
from actors.events import Record
from actors.journal.hash_chain import canonical, chained
from actors.journal.store import Journal
from actors.journal.types import Append, Appended
from supervisor.cli.main import app
from tests.unit.journal_cases import events

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(place.name for place in GOLDEN.iterdir())


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A directory with the three journals of a version, and what it said of them."""
    source = GOLDEN / str(request.param)
    for packed in source.glob("*.gz"):
        (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return tmp_path, json.loads((source / "expected.json").read_text())


def audit(*arguments: object) -> Any:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def contains(found: Any, expected: Any) -> bool:
    """Whether everything expected is said, further keys aside."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(contains(found.get(key), value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(contains, found, expected))
    return bool(found == expected)


def all_records(file: Path) -> list[Record]:
    journal = Journal.open(f"sqlite:///{file}", read_only=True)
    try:
        return list(journal.records())
    finally:
        journal.close()


class TestAJournalOfAnEarlierVersion:
    def test_it_is_read_and_verified_to_the_same_head(self, golden: tuple[Path, dict[str, Any]]) -> None:
        directory, expected = golden
        assert contains(audit("verify", "--journal", directory / "plain.db"), expected["verify"])
        assert contains(audit("verify", "--journal", directory / "cut.db"), expected["cut"])
        assert audit("head", "--journal", directory / "plain.db") == expected["head"]

    def test_it_holds_every_type_of_event_that_version_knew(self, golden: tuple[Path, dict[str, Any]]) -> None:
        directory, expected = golden
        found = {record.event.type.value for record in all_records(directory / "plain.db")}
        assert sorted(found) == expected["types"]

    def test_every_book_is_what_it_was(self, golden: tuple[Path, dict[str, Any]]) -> None:
        directory, expected = golden
        assert len(expected["replays"]) > 10
        for one in expected["replays"]:
            where = ("--account", one["account"], "--instrument", one["instrument"], "--at", one["at"])
            assert contains(audit("replay", "--journal", directory / "plain.db", *where), one)
            cut = ("--journal", directory / "cut.db", "--archive", directory / "archive.db")
            again = audit("replay", *cut, *where)
            assert again["book"] == one["book"], where

    @pytest.mark.parametrize("name", ["plain", "cut"])
    def test_it_is_continued_and_no_byte_of_its_records_changes(
        self, golden: tuple[Path, dict[str, Any]], name: str
    ) -> None:
        directory, _ = golden
        file = directory / f"{name}.db"
        before = all_records(file)
        journal = Journal.open(f"sqlite:///{file}", exclusive=True)
        tail = journal.load("fx/GBP_JPY")
        book = replay("fx", "GBP_JPY", tail.records)
        assert book.version == tail.version
        last = before[-1].seq
        assert journal.append([Append("fx/NEW", 0, events("new"))]) == [Appended(1, last + 1)]
        journal.close()
        after = all_records(file)
        assert after[:-1] == before
        assert after[-1].prev_hash == before[-1].hash
        for record in after:
            form = canonical(record.seq, record.stream, record.version, record.event)
            assert chained(record.prev_hash, form.encode()) == record.hash
        assert audit("verify", "--journal", file)["ok"]
