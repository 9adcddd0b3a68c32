"""Kind: an answer from before what was already on its way. A process dies with an append at the journal that the disk
has not taken yet. It becomes durable after the death, and whoever takes its place decides as if it were."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.account.break_work import AccountWork
from actors.book.payloads import break_to
from actors.events import Event, EventType, Severity
from actors.journal import client
from actors.journal.actor import Audit
from actors.journal.store import Journal
from actors.journal.types import Append, JournalUnavailable
from actors.names import AUDIT, SUPERVISOR
from actors.runtime.ports import LocalRuntime
from supervisor.supervision.books import held_in_our_books
from supervisor.supervision.halts import Halting
from tests.unit.builders import ACCOUNT, Desk, at, order_report, slice_at, unmanaged
from tests.unit.journal_cases import url_of


class SlowDisk:
    """A journal's disk that takes nothing until a test lets it."""

    def __init__(self) -> None:
        self.entered, self.may_end = threading.Event(), threading.Event()
        self.full = False

    def __call__(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        def append(journal: Journal, batch: Sequence[Append]) -> Any:
            self.entered.set()
            self.may_end.wait()
            if self.full:
                raise JournalUnavailable("append", "the disk is full", "Make room")
            return commit(journal, batch)

        return append


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk()
    monkeypatch.setattr(Journal, "append", disk(Journal.append))
    yield disk
    disk.may_end.set()


def recorded() -> tuple[str, tuple[Event, ...]]:
    desk = Desk()
    desk.look(slice_at(0))
    desk.report(order_report("c1"), at_s=1)
    return desk.book.stream, tuple(desk.events)


def halted() -> tuple[str, tuple[Event, ...]]:
    body = {"scope": "everything", "reason": "news"}
    return SUPERVISOR, (Event("h1", EventType.TRADING_HALTED, Severity.WARNING, at(1), body),)


def opened() -> tuple[str, tuple[Event, ...]]:
    found = unmanaged(at(1))
    body = break_to(found, resolved=False, correction=None)
    return ACCOUNT, (Event("b1", EventType.RECONCILIATION_DISCREPANCY, Severity.WARNING, at(1), body),)


async def books(runtime: LocalRuntime) -> list[str]:
    return sorted(await held_in_our_books(ACCOUNT, runtime))


async def halts(runtime: LocalRuntime) -> list[str]:
    halting = Halting(runtime)
    await halting.learn()
    return [str(halt.reason) for halt in halting.on(f"{ACCOUNT}/EUR_USD") or ()]


async def breaks(runtime: LocalRuntime) -> list[str]:
    before = await AccountWork(ACCOUNT, runtime).recall()
    assert before is not None
    return [found.id for found in before.breaks]


async def records(runtime: LocalRuntime) -> list[str]:
    return [record.event.event_id for record in await client.settled_records(runtime, {"stream": SUPERVISOR})]


@pytest.mark.parametrize("takes", [True, False], ids=["the disk takes it", "the disk is full"])
@pytest.mark.parametrize(
    ("sent", "read", "found"),
    [
        (recorded, books, [recorded()[0].partition("/")[2]]),
        (halted, halts, ["news"]),
        (opened, breaks, ["b1"]),
        (halted, records, ["h1"]),
    ],
    ids=["which books hold anything", "which halts are in force", "which breaks are open", "any records"],
)
async def test_what_a_process_sent_before_it_died_is_known_to_whoever_takes_its_place(
    tmp_path: Path,
    disk: SlowDisk,
    sent: Callable[[], tuple[str, tuple[Event, ...]]],
    read: Callable[[LocalRuntime], Coroutine[Any, Any, list[str]]],
    found: list[str],
    takes: bool,
) -> None:
    runtime = LocalRuntime(lambda: at(5), time.monotonic, random.Random(1).random)  # noqa: S311 - the same each time
    audit = Audit(url_of(tmp_path))
    runtime.register(AUDIT, audit)
    await audit.open()
    stream, events = sent()
    of_the_dead = asyncio.create_task(audit.append(stream, 0, events))
    await asyncio.to_thread(disk.entered.wait)
    reading = asyncio.create_task(read(runtime))
    while not reading.done() and not (await audit.health())["waiting"]:
        await asyncio.sleep(0)  # until it waits behind the append, or was answered from before it
    disk.full = not takes
    disk.may_end.set()
    assert await reading == (found if takes else [])
    await asyncio.gather(of_the_dead, return_exceptions=True)
    await audit.close()
