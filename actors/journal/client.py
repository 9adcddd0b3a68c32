"""A writer's end of one stream of the journal.

The law of this module: what an actor holds in memory and the version it goes on from change together, after the audit
actor has made the events durable, and never before.
"""

from __future__ import annotations

import contextlib

from actors.events import Event, Record, StreamTail
from actors.journal.record_filter import RecordQuery
from actors.journal.types import Appended, JournalError, Stale
from actors.names import AUDIT, SUPERVISOR
from actors.runtime.ports import CallError, Runtime

JOURNAL_TIMEOUT_S = 20.0
_NO_VERSION = -1


class JournalAway(Exception):
    """The journal did not accept or return events: nothing may be changed on its account."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"the journal is not available: {self.found}"


class Fenced(Exception):
    """Somebody else continued the stream: this writer's memory is out of date. Reload, then go on."""

    def __init__(self, stale: Stale) -> None:
        super().__init__(stale)
        self.stale = stale

    def __str__(self) -> str:
        found = self.stale
        return f"stream {found.stream} is at version {found.actual_version}, not {found.expected_version}"


async def append(runtime: Runtime, stream: str, version: int, events: tuple[Event, ...]) -> Appended:
    """Make events durable after ``version``. Raises :class:`JournalAway` or :class:`Fenced`."""
    try:
        answer = await runtime.call(AUDIT, "append", stream, version, events, timeout_s=JOURNAL_TIMEOUT_S)
    except (CallError, JournalError) as error:
        raise JournalAway(str(error)) from None
    if isinstance(answer, Stale):
        raise Fenced(answer)
    assert isinstance(answer, Appended)  # noqa: S101 - the audit actor returns one of the two
    if events and answer.version != version + len(events):
        found = f"{stream}: the answer to {len(events)} events after version {version} names version {answer.version}"
        raise JournalAway(found + ", so it may be another append's. The version is asked for before the next one")
    return answer


async def load(runtime: Runtime, stream: str) -> StreamTail:
    """The records of a stream from its last checkpoint. Raises :class:`JournalAway`."""
    try:
        tail = await runtime.call(AUDIT, "load", stream, timeout_s=JOURNAL_TIMEOUT_S)
    except (CallError, JournalError) as error:
        raise JournalAway(str(error)) from None
    assert isinstance(tail, StreamTail)  # noqa: S101 - as above
    others = sorted({record.stream for record in tail.records} - {stream})
    if others:
        raise JournalAway(f"{stream}: the answer has the records of {', '.join(others)}. It is asked for again")
    return tail


async def version(runtime: Runtime, stream: str) -> int:
    """Where a stream stands, without reading it. Raises :class:`JournalAway`."""
    try:
        return (await append(runtime, stream, _NO_VERSION, ())).version
    except Fenced as fenced:
        return fenced.stale.actual_version


async def settle(runtime: Runtime, timeout_s: float = JOURNAL_TIMEOUT_S) -> None:
    """Return once every append that the journal has received is durable or never will be. A process that has died may
    have sent some: whoever takes its place and decides by what the journal has calls this first. Appends are answered
    in the order of their arrival, and a journal that takes nothing now did not take the earlier ones; only one whose
    queue is full says so at once, with them still in it. Raises :class:`CallError` where nothing is known."""
    with contextlib.suppress(JournalError):
        await runtime.call(AUDIT, "append", SUPERVISOR, _NO_VERSION, (), timeout_s=timeout_s)


async def settled_records(runtime: Runtime, asked: RecordQuery, timeout_s: float = JOURNAL_TIMEOUT_S) -> list[Record]:
    """The records that meet every condition, those included that a predecessor of the caller sent and that were not
    durable yet: see :func:`settle`. Raises :class:`CallError` and :class:`JournalError`."""
    until_s = runtime.monotonic_s() + timeout_s
    await settle(runtime, timeout_s)
    left_s = max(0.0, until_s - runtime.monotonic_s())
    found: list[Record] = await runtime.call(AUDIT, "query", asked, timeout_s=left_s)
    return found


async def load_before(runtime: Runtime, stream: str, version: int) -> list[Record]:
    """The records of a stream from its last checkpoint before ``version``. Raises :class:`JournalAway`."""
    try:
        found: list[Record] = await runtime.call(AUDIT, "load_before", stream, version, timeout_s=JOURNAL_TIMEOUT_S)
    except (CallError, JournalError) as error:
        raise JournalAway(str(error)) from None
    return found
