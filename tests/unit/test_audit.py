"""The audit actor: what it promises to many writers at once, and what it does while the journal is away."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from actors.events import EventType, StreamTail
from actors.journal import actor
from actors.journal.actor import Audit
from actors.journal.store import Journal
from actors.journal.types import (
    Appended,
    AppendRefused,
    JournalInUse,
    JournalUnavailable,
    Stale,
    Verification,
)
from tests.unit.journal_cases import an_event, events, ids, ids_of_names, url_of

T = TypeVar("T")


class Gate:
    """Runs work in this very thread, when a test lets it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()

    async def __call__(self, work: Callable[[], T], /) -> T:
        self.arrived.set()
        await self.open.wait()
        return work()


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Disk:
    """Opens journals on a disk that can be full, or away."""

    def __init__(self) -> None:
        self.away = False
        self.opened = 0
        self._full = False
        self._connections: list[sqlite3.Connection] = []

    def __call__(self, url: str, *, exclusive: bool = False, read_only: bool = False) -> Journal:
        self.opened += exclusive
        if self.away:
            raise JournalUnavailable("open the journal", "the disk is away", "Bring it back")
        return Journal.open(url, exclusive=exclusive, read_only=read_only, on_connect=self._connect)

    def set_full(self, full: bool) -> None:
        """From now on nothing can be written, or everything again."""
        self._full = full
        for connection in self._connections:
            with contextlib.suppress(sqlite3.ProgrammingError):  # one that is closed by now
                connection.execute(f"PRAGMA query_only={int(full)}")

    def _connect(self, connection: sqlite3.Connection) -> None:
        self._connections.append(connection)
        connection.execute(f"PRAGMA query_only={int(self._full)}")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def audit(tmp_path: Path, gate: Gate, clock: Clock, disk: Disk) -> AsyncIterator[Audit]:
    actor = Audit(url_of(tmp_path), run_blocking=gate, monotonic=clock, open_journal=disk)
    yield actor
    gate.open.set()
    await actor.close()


async def offered(audit: Audit, gate: Gate, *appends: tuple[str, int, str]) -> list[asyncio.Task[Appended | Stale]]:
    """These appends, waiting together for a commit that the closed gate holds up."""
    tasks = [asyncio.create_task(audit.append(stream, version, events(name))) for stream, version, name in appends]
    gate.arrived.clear()
    await gate.arrived.wait()
    return tasks


async def test_an_append_is_answered_when_another_reader_can_see_it(audit: Audit, tmp_path: Path) -> None:
    """FEATURES 14."""
    assert await audit.append("fx/A", 0, events("1", "2")) == Appended(2, 2)
    assert await audit.append("fx/A", 0, events("late")) == Stale("fx/A", 0, 2)
    reader = Journal.open(url_of(tmp_path), read_only=True)
    assert ids(reader.records()) == ids_of_names("1", "2")
    reader.close()
    assert ids((await audit.load("fx/A")).records) == ids_of_names("1", "2")
    assert await audit.load("fx/B") == StreamTail(0, ())


async def test_a_tail_says_how_long_ago_its_newest_record_came(
    audit: Audit, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that nobody sets; of one that came before the actor began, only that it is older than the actor."""

    async def age(of: Audit) -> tuple[float | None, bool]:
        tail = await of.load("fx/A")
        return None if tail.age is None else tail.age.total_seconds(), tail.older

    await audit.append("fx/A", 0, events("1"))
    clock.now_s += 3
    assert await age(audit) == (3, False)
    clock.now_s += 2
    assert await audit.append("fx/A", 0, events("late")) == Stale("fx/A", 0, 1)
    assert await audit.append("fx/A", 1, ()) == Appended(1, 1)
    assert await age(audit) == (5, False), "neither wrote anything"

    def unheard(self: Journal, batch: Any) -> Any:
        committed(self, batch)
        raise JournalUnavailable("append", "the connection broke", "Send it again")

    committed = Journal.append
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "append", unheard)
        with pytest.raises(JournalUnavailable):
            await audit.append("fx/A", 1, events("2"))
    clock.now_s += 4
    assert await age(audit) == (0, True), "it came after the one we know of"
    await audit.close()
    successor = Audit(url_of(tmp_path), monotonic=clock)
    await successor.open()
    clock.now_s += 7
    assert await age(successor) == (7, True)
    await successor.close()


async def test_appends_that_wait_while_a_commit_runs_share_the_next_one(audit: Audit, gate: Gate, clock: Clock) -> None:
    await audit.open()
    gate.open.clear()
    first = await offered(audit, gate, ("fx/S0", 0, "first"))
    others = [asyncio.create_task(audit.append(f"fx/S{number}", 0, events("e"))) for number in range(1, 50)]
    while (await audit.health())["waiting"] != 49:
        await asyncio.sleep(0)
    assert not any(task.done() for task in first + others)
    clock.now_s += 0.25
    gate.open.set()
    answers = await asyncio.gather(*first, *others)
    assert answers == [Appended(1, seq) for seq in range(1, 51)]
    health = await audit.health()
    assert (health["commits"], health["appended_events"], health["last_seq"], health["waiting"]) == (2, 50, 50, 0)
    assert health["append_us"] == 250_000


async def test_who_loads_a_stream_is_given_what_was_accepted_for_it_before(tmp_path: Path, gate: Gate) -> None:
    """Its writer was killed: what it had sent becomes durable all the same, and whoever takes its place must know."""
    in_turn = asyncio.Lock()

    async def one_thread(work: Callable[[], T], /) -> T:
        async with in_turn:
            return await gate(work)

    audit = Audit(url_of(tmp_path), run_blocking=one_thread)
    await audit.open()
    gate.open.clear()
    first = await offered(audit, gate, ("fx/A", 0, "first"))
    waits = asyncio.create_task(audit.append("fx/B", 0, events("1", "2")))
    while not (await audit.health())["waiting"]:
        await asyncio.sleep(0)
    loaded = asyncio.create_task(audit.load("fx/B"))
    await asyncio.sleep(0)
    gate.open.set()
    assert ids((await loaded).records) == ids_of_names("1", "2")
    await asyncio.gather(*first, waits)
    await audit.close()


async def test_a_commit_is_bounded_and_nothing_is_left_behind(tmp_path: Path, gate: Gate) -> None:
    audit = Audit(url_of(tmp_path), run_blocking=gate, max_batch_events=10)
    await audit.open()
    gate.open.clear()
    first = await offered(audit, gate, ("fx/S", 0, "first"))
    sizes = [4, 4, 4, 25, 1]
    others = [
        asyncio.create_task(audit.append(f"fx/S{number}", 0, events(*map(str, range(size)))))
        for number, size in enumerate(sizes)
    ]
    while (await audit.health())["waiting"] != len(sizes):
        await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(*first, *others)
    assert [answer.version for answer in answers if isinstance(answer, Appended)] == [1, *sizes]
    assert (await audit.health())["commits"] == 5  # 1 | 4 + 4 | 4 | 25 | 1
    await audit.close()


async def test_of_one_commit_each_gets_its_own_answer(audit: Audit, gate: Gate) -> None:
    await audit.append("fx/A", 0, events("1"))
    gate.open.clear()
    tasks = await offered(audit, gate, ("fx/B", 0, "b"), ("fx/A", 0, "late"), ("fx/A", 1, "2"))
    wrong = asyncio.create_task(audit.append("fx/C", 0, [an_event("x", payload={"price": 1.5})]))  # type: ignore[dict-item]  # the point
    gate.open.set()
    assert await asyncio.gather(*tasks) == [Appended(1, 2), Stale("fx/A", 0, 1), Appended(2, 3)]
    with pytest.raises(AppendRefused, match="float"):
        await wrong
    health = await audit.health()
    assert (health["stale"], health["refused"], health["writable"], health["error"]) == (1, 1, True, None)
    assert await audit.verify() == Verification(True, 3)


async def test_two_writers_with_one_version_get_one_place(tmp_path: Path) -> None:
    """PEERS 15."""
    audit = Audit(url_of(tmp_path))
    for version in range(5):
        answers = await asyncio.gather(
            *(audit.append("fx/A", version, events(f"{version}-{writer}")) for writer in range(8))
        )
        assert sum(isinstance(answer, Appended) for answer in answers) == 1
    assert (await audit.load("fx/A")).version == 5
    assert await audit.verify() == Verification(True, 5)
    await audit.close()


async def test_a_writer_that_lost_its_answer_offers_again_and_is_answered(audit: Audit, gate: Gate) -> None:
    """PEERS 5: a caller that gave up while the commit ran finds its events in, once."""
    await audit.open()
    gate.open.clear()
    (lost, other) = await offered(audit, gate, ("fx/A", 0, "1"), ("fx/B", 0, "b"))
    lost.cancel()
    gate.open.set()
    assert await other == Appended(1, 2)
    assert await audit.append("fx/A", 0, events("1")) == Appended(1, 1)
    assert (await audit.health())["appended_events"] == 2


async def test_a_full_disk_fails_every_append_of_the_commit_and_loses_nothing_acknowledged(
    audit: Audit, gate: Gate, disk: Disk
) -> None:
    """FEATURES 14: what was answered is there, what was not is not, and it goes on by itself."""
    await audit.append("fx/A", 0, events("1"))
    gate.open.clear()
    tasks = await offered(audit, gate, ("fx/A", 1, "2"), ("fx/B", 0, "b"))
    disk.set_full(True)
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [JournalUnavailable, JournalUnavailable]
    assert answers[0] is not answers[1]
    health = await audit.health()
    assert (health["writable"], health["failed_commits"], health["appended_events"]) == (False, 1, 1)
    assert "readonly" in str(health["error"])
    with pytest.raises(JournalUnavailable):
        await audit.append("fx/A", 1, events("2"))
    assert ids((await audit.load("fx/A")).records) == ids_of_names("1")
    disk.set_full(False)
    assert await audit.append("fx/A", 1, events("2")) == Appended(2, 2)
    health = await audit.health()
    assert (health["writable"], health["error"], health["away_since"]) == (True, None, None)
    outage: Any = health["last_outage"]
    assert outage["since"] < outage["until"]
    assert "readonly" in outage["reason"]
    assert await audit.verify() == Verification(True, 2)


async def test_health_finds_out_by_itself_that_the_disk_has_space_again(audit: Audit, disk: Disk, clock: Clock) -> None:
    await audit.append("fx/A", 0, events("1"))
    disk.set_full(True)
    with pytest.raises(JournalUnavailable):
        await audit.append("fx/A", 1, events("2"))
    disk.set_full(False)
    for _ in range(5):
        assert (await audit.health())["writable"] is False  # not sooner than a second after the failure
        await asyncio.sleep(0)
    clock.now_s += 1
    while not (await audit.health())["writable"]:
        await asyncio.sleep(0)


async def test_a_journal_that_cannot_be_opened_leaves_the_actor_alive_and_trying_once_a_second(
    audit: Audit, disk: Disk, clock: Clock
) -> None:
    """FEATURES 7."""
    disk.away = True
    with pytest.raises(JournalUnavailable, match="the disk is away"):
        await audit.open()
    health = await audit.health()
    assert (health["writable"], disk.opened) == (False, 1)
    assert "the disk is away" in str(health["error"])
    for call in (audit.append("fx/A", 0, events("1")), audit.load("fx/A"), audit.records(), audit.wait_for(0, 5)):
        with pytest.raises(JournalUnavailable, match="the disk is away"):
            await call
    assert disk.opened == 1
    disk.away = False
    clock.now_s += 1
    assert await audit.append("fx/A", 0, events("1")) == Appended(1, 1)
    assert disk.opened == 2
    assert (await audit.health())["writable"] is True


async def test_a_journal_with_another_writer_is_refused_and_taken_when_that_one_ends(
    audit: Audit, tmp_path: Path, clock: Clock
) -> None:
    other = Journal.open(url_of(tmp_path), exclusive=True)
    with pytest.raises(JournalInUse, match="is its writer already"):
        await audit.append("fx/A", 0, events("1"))
    assert "is its writer already" in str((await audit.health())["error"])
    other.close()
    clock.now_s += 1
    assert await audit.append("fx/A", 0, events("1")) == Appended(1, 1)


async def test_a_subscriber_gets_each_record_once_as_soon_as_it_is_written(audit: Audit) -> None:
    await audit.append("fx/A", 0, events("1", "2"))
    assert [record.seq for record in await audit.wait_for(0, 0)] == [1, 2]
    assert [record.seq for record in await audit.wait_for(1, 5, limit=1)] == [2]
    assert await audit.wait_for(2, 0) == []
    assert await audit.wait_for(2, 0.02) == []
    waiting = [asyncio.create_task(audit.wait_for(2, 30)) for _ in range(2)]
    await asyncio.sleep(0)
    await audit.append("fx/A", 0, events("late"))
    assert not any(task.done() for task in waiting)
    await audit.append("fx/A", 2, events("3"))
    assert [[record.seq for record in await task] for task in waiting] == [[3], [3]]


async def test_a_subscriber_learns_when_the_actor_closes(audit: Audit) -> None:
    await audit.open()
    waiting = asyncio.create_task(audit.wait_for(0, 30))
    await asyncio.sleep(0)
    await audit.close()
    with pytest.raises(JournalUnavailable, match="the audit actor has ended"):
        await waiting


async def test_questions_are_answered_within_their_limit(audit: Audit) -> None:
    assert await audit.head() is None
    await audit.append("fx/A", 0, (*events("1", "2"), an_event("c", kind=EventType.CHECKPOINT)))
    await audit.append("cfd/A", 0, events("3"))
    assert [record.seq for record in await audit.records(account="fx", order="newest", limit=2)] == [3, 2]
    assert [record.seq for record in await audit.records(types=[EventType.CHECKPOINT])] == [3]
    assert [record.seq for record in await audit.records(instrument="A", after_seq=2)] == [3, 4]
    head = await audit.head()
    assert head is not None
    assert head[:2] == (4, (await audit.records(after_seq=3))[0].hash)
    assert [record.version for record in (await audit.load("fx/A")).records] == [3]


def test_it_may_be_made_before_there_is_a_loop_and_keeps_what_it_wrote_over_restarts(tmp_path: Path) -> None:
    """FEATURES 7, PEERS 15."""

    async def life(audit: Audit, version: int) -> StreamTail:
        await audit.open()
        assert await audit.append("fx/A", version, events(str(version))) == Appended(version + 1, version + 1)
        tail = await audit.load("fx/A")
        await audit.close()
        await audit.close()
        with pytest.raises(JournalUnavailable, match="the audit actor has ended"):
            await audit.append("fx/A", version + 1, events("x"))
        return tail

    for version in range(3):
        audit = Audit(url_of(tmp_path))
        assert repr(audit) == "audit"
        tail = asyncio.run(life(audit, version))
        assert ids(tail.records) == ids_of_names(*map(str, range(version + 1)))


async def test_appends_that_wait_for_a_disk_that_hangs_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "WAITING_AT_MOST", 50)
    gate = Gate()
    audit = Audit(url_of(tmp_path), run_blocking=gate)
    await audit.open()
    gate.open.clear()
    offered = [asyncio.create_task(audit.append(f"fx/{number}", 0, [an_event(str(number))])) for number in range(60)]
    while sum(one.done() for one in offered) < 9:
        await asyncio.sleep(0)
    refused = [one for one in offered if one.done()]
    for one in refused:
        with pytest.raises(JournalUnavailable, match="50 appends wait"):
            await one
    gate.open.set()
    taken = await asyncio.gather(*(one for one in offered if one not in refused))
    assert all(isinstance(one, Appended) for one in taken)
    assert len(taken) + len(refused) == 60
    await audit.close()
