"""When heads are where they belong: at most a minute after what they cover, at every stop, and all of them once a place
that was away is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from actors.journal.actor import Audit
from actors.journal.evidence import LAST_WORDS_S, Evidence
from actors.journal.head_checks import notes_in
from actors.journal.signed_head import parse_head
from actors.journal.store import Append, Journal
from tests.unit.fakes import in_this_thread
from tests.unit.journal_cases import events, url_of
from tests.unit.test_journal_evidence import settings
from tests.unit.virtual_time import virtual_time

T = TypeVar("T")
PROBED_EVERY_S = 5.0


def now() -> datetime:
    return datetime(2026, 1, 31, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())


def an_audit(directory: Path, *places: Path) -> Audit:
    return Audit(
        url_of(directory),
        None,
        settings(directory, places=tuple(map(str, places))),
        run_blocking=in_this_thread,
        monotonic=lambda: asyncio.get_running_loop().time(),
        now=now,
    )


def sizes(file: Path) -> list[int]:
    return [parse_head(note).size for note in notes_in(file)] if file.exists() else []


async def probed(audit: Audit, for_s: float) -> None:
    """What the supervisor does meanwhile."""
    for _ in range(int(for_s / PROBED_EVERY_S)):
        await asyncio.sleep(PROBED_EVERY_S)
        await audit.health()


@virtual_time
async def test_what_is_written_is_under_a_head_elsewhere_within_a_minute_and_at_the_stop_at_once(
    tmp_path: Path,
) -> None:
    file, loop = tmp_path / "elsewhere.txt", asyncio.get_running_loop()
    audit = an_audit(tmp_path, file)
    await audit.open()
    written: list[float] = []
    for pause_s in (0, 5, 40, 0, 0, 90, 10, 45, 0, 50, 100):
        await audit.append("fx/A", len(written), events(str(len(written))))
        written.append(loop.time())
        until = loop.time() + pause_s
        while loop.time() < until:
            await probed(audit, PROBED_EVERY_S)
            covered = max(sizes(file), default=0)
            assert all(loop.time() - at <= 60 for at in written[covered:])
    await audit.append("fx/A", len(written), events("the last one"))
    await audit.close()
    assert sizes(file)[-1] == len(written) + 1


@virtual_time
async def test_a_place_that_was_away_has_every_head_once_it_is_back(tmp_path: Path) -> None:
    away, near = tmp_path / "mounted" / "heads.txt", tmp_path / "near.txt"
    audit = an_audit(tmp_path, away, near)
    await audit.open()
    for number in range(5):
        await audit.append("fx/A", number, events(str(number)))
        await probed(audit, 60)
    assert "heads.txt: No such file" in str((await audit.health())["evidence_error"])
    assert not away.exists()
    away.parent.mkdir()
    await probed(audit, 60)
    assert sizes(away) == sizes(near) == [1, 2, 3, 4, 5]
    assert (await audit.health())["evidence_error"] is None
    away.rename(tmp_path / "given.txt")
    away.parent.rmdir()
    await audit.append("fx/A", 5, events("at the stop"))
    await audit.close()
    assert sizes(near)[-1] == 6
    away.parent.mkdir()
    again = an_audit(tmp_path, away, near)
    await again.open()
    await probed(again, 60)
    await again.close()
    assert sizes(away) == [6]


@virtual_time
async def test_a_stop_waits_five_seconds_for_a_place_that_hangs_also_where_it_hung_before(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    def write(work: Callable[[], T], /) -> Awaitable[T]:
        answer: asyncio.Future[T] = loop.create_future()
        answer.set_result(work())
        return answer

    def hang(work: Callable[[], T], /) -> Awaitable[T]:
        return loop.create_future()

    journal = Journal.open(url_of(tmp_path), exclusive=True)
    journal.append([Append("fx/A", 0, events("1"))])
    evidence = Evidence(settings(tmp_path, places=(str(tmp_path / "place"),)), now, loop.time)
    evidence.begin(journal)
    before = asyncio.create_task(evidence.work(write, hang))
    await asyncio.sleep(1)
    evidence.hurry()
    await before
    await evidence.end(write, hang)
    assert loop.time() <= 1 + LAST_WORDS_S + 0.1
    journal.close()


@virtual_time
async def test_closing_the_audit_actor_waits_no_longer_for_what_was_being_sent_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    sending = asyncio.Event()

    def hang(work: Callable[[], T], /) -> Awaitable[T]:
        sending.set()
        return loop.create_future()

    audit = an_audit(tmp_path, tmp_path / "place")
    monkeypatch.setattr(audit, "_publish", hang)
    await audit.open()
    await audit.append("fx/A", 0, events("1"))
    await sending.wait()
    began = loop.time()
    await audit.close()
    assert loop.time() - began <= LAST_WORDS_S + 0.1
