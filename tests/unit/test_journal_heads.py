"""The heads file: where the journal ended, from time to time, so that a copy of it can prove the rest."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from loguru import logger

from actors.events import to_iso
from actors.journal.actor import Audit
from actors.journal.head_file import NOTE_EVERY_S
from actors.journal.store import Journal
from supervisor.config.loader import load
from supervisor.config.models import Configuration, ConfigurationError
from supervisor.supervision.specs import audit_actor
from tests.unit.fakes import in_this_thread
from tests.unit.journal_cases import events, url_of


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return tmp_path / "heads.txt"


@pytest_asyncio.fixture
async def audit(tmp_path: Path, heads: Path, clock: Clock) -> AsyncIterator[Audit]:
    actor = Audit(url_of(tmp_path), str(heads), run_blocking=in_this_thread, monotonic=clock)
    yield actor
    await actor.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="ERROR")
    yield lines
    logger.remove(sink)


async def append(audit: Audit, version: int) -> None:
    await audit.append("fx/A", version, events(str(version)))
    await turn()


async def turn() -> None:
    """A turn of the loop, in which what was begun is done: the work itself runs in this thread."""
    for _ in range(3):
        await asyncio.sleep(0)


async def probe(audit: Audit) -> None:
    await audit.health()
    await turn()


def noted(heads: Path) -> list[int]:
    return [int(line.split()[0]) for line in heads.read_text().splitlines()] if heads.exists() else []


async def test_each_line_is_a_head_that_verifies(audit: Audit, heads: Path, clock: Clock) -> None:
    """FEATURES 14."""
    for version in range(3):
        await append(audit, version)
        clock.now_s += NOTE_EVERY_S
    for line in heads.read_text().splitlines():
        seq, last_hash, time = line.split(" ")
        found = await audit.verify(head=last_hash)
        assert (found.ok, found.head_seq) == (True, int(seq))
        (record,) = await audit.records(after_seq=int(seq) - 1, limit=1)
        assert (record.hash, to_iso(record.event.time)) == (last_hash, time)
    assert noted(heads) == [1, 2, 3]
    assert stat.S_IMODE(heads.stat().st_mode) == 0o600


async def test_it_grows_at_most_once_a_minute_and_only_with_the_journal(
    audit: Audit, heads: Path, clock: Clock
) -> None:
    for version in range(5):
        await append(audit, version)
    assert noted(heads) == [1]
    clock.now_s += NOTE_EVERY_S - 1
    await probe(audit)
    assert noted(heads) == [1]
    clock.now_s += 1
    await probe(audit)
    assert noted(heads) == [1, 5]
    clock.now_s += NOTE_EVERY_S
    await probe(audit)
    assert noted(heads) == [1, 5]


async def test_what_came_since_the_last_line_is_noted_at_the_end_and_once(
    audit: Audit, heads: Path, tmp_path: Path
) -> None:
    for version in range(3):
        await append(audit, version)
    await audit.close()
    await audit.close()
    assert noted(heads) == [1, 3]
    again = Audit(url_of(tmp_path), str(heads), run_blocking=in_this_thread)
    await again.open()
    await again.close()
    assert noted(heads) == [1, 3]


async def test_a_file_that_cannot_be_written_is_named_once_and_stops_nothing(
    audit: Audit, heads: Path, clock: Clock, logged: list[str]
) -> None:
    heads.mkdir()
    for version in range(3):
        await append(audit, version)
        clock.now_s += NOTE_EVERY_S
    await probe(audit)
    clock.now_s += NOTE_EVERY_S
    heads.rmdir()
    health = await audit.health()
    assert (health["writable"], health["error"], health["last_seq"]) == (True, None, 3)
    assert str(heads) in str(health["head_file_error"])
    assert len(logged) == 1
    assert f"could not note the journal's head in {heads}: Is a directory" in logged[0]
    await turn()
    assert (await audit.health())["head_file_error"] is None
    assert noted(heads) == [3]


async def test_without_one_nothing_is_noted(tmp_path: Path) -> None:
    audit = Audit(url_of(tmp_path), run_blocking=in_this_thread)
    await audit.append("fx/A", 0, events("1"))
    assert (await audit.health())["head_file_error"] is None
    await audit.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.db", "journal.db.lock", "journal.db.mark"]


async def test_a_line_proves_that_the_end_was_cut_off(audit: Audit, heads: Path, tmp_path: Path) -> None:
    """FEATURES 14: whoever puts an older copy in place, mark and all, does not have the line."""
    await append(audit, 0)
    await audit.close()
    older = [(path, path.read_bytes()) for path in tmp_path.iterdir() if path.name.startswith("journal.db")]
    again = Audit(url_of(tmp_path), str(heads), run_blocking=in_this_thread)
    await append(again, 1)
    await again.close()
    for path, held in older:
        path.write_bytes(held)
    reader = Journal.open(url_of(tmp_path), read_only=True)
    first, second = (line.split()[1] for line in heads.read_text().splitlines())
    assert reader.verify().ok
    assert reader.verify(head=first).ok
    found = reader.verify(head=second)
    reader.close()
    assert not found.ok
    assert "cut off the end" in str(found.reason)


ACCOUNT = "{name: fx, broker: mt5, instruments: [EURUSD]}"


def configured(directory: Path, journal: str) -> Configuration:
    path = directory / "accounts.yaml"
    path.write_text(f"journal: {journal}\naccounts: [{ACCOUNT}]\n")
    return load(path, {})


def test_the_configuration_names_it_absolute_and_the_audit_actor_is_given_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = configured(tmp_path, "{url: 'sqlite:///var/journal.db', head_file: mirror/heads.txt}")
    assert audit_actor(given)[:2] == (f"sqlite:///{tmp_path}/var/journal.db", f"{tmp_path}/mirror/heads.txt")
    assert audit_actor(configured(tmp_path, "{head_file: null}"))[1] is None
    assert audit_actor(configured(tmp_path, "{url: 'sqlite:///var/journal.db'}"))[1] is None


@pytest.mark.parametrize("wrong", ["''", "mirror/", "7", "[heads.txt]", "true"])
def test_what_names_no_file_is_an_error_of_the_configuration(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        configured(tmp_path, f"{{head_file: {wrong}}}")
    (problem,) = raised.value.problems
    assert (problem.key, problem.line) == ("journal.head_file", 1)
    assert "path of a file" in problem.expected
