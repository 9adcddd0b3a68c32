"""The audit actor: the one writer of the journal, as a plain class.

* ``append`` answers when the events are on disk. Appends that wait while a commit runs share the next one.
* A write that fails is answered with an error, for every append of that commit; nothing of it was acknowledged. The
  next append tries again, so that work goes on automatically once the cause is gone.
* A journal that cannot be opened does not end the actor: it reports the reason in :meth:`Audit.health`, raises it from
  every call, and tries to open the journal again at most once a second.
* The event loop never waits for the disk: the journal is written in one thread and read in another.
* The journal's end is noted in ``head_file``, if there is one, and signed where evidence is kept: beside the writing,
  and never instead of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, Unpack, cast

from loguru import logger

from actors.events import Event, EventType, Json, Record, StreamTail, to_iso
from actors.journal.evidence import Evidence, EvidenceSettings, RunBlocking
from actors.journal.head_file import HeadsFile
from actors.journal.record_filter import RecordQuery
from actors.journal.types import (
    Append,
    Appended,
    AppendRefused,
    JournalError,
    JournalUnavailable,
    Stale,
    Verification,
)
from actors.names import AUDIT
from actors.runtime.bounded_log import BoundedLog
from brokers.frozen import dataclass
from brokers.versions import PROGRAM

if TYPE_CHECKING:
    from actors.journal.kept_slices import KeptSlices
    from actors.journal.store import Journal, Outcome

T = TypeVar("T")

_REOPEN_AFTER_S: Final = 1.0
MOST_RECORDS: Final = 1000
"""How many records a query returns if it sets no limit."""
_CHECKPOINTS_AT_MOST: Final = 8
"""How far :meth:`Audit.load_before` goes back: its result is held in memory and sent."""


WAITING_AT_MOST: Final = 20_000
"""Appends that wait for a disk that hangs. A further append gets an error, and is sent again by its writer."""


class OpenJournal(Protocol):
    """:meth:`Journal.open`, or a stand-in for it."""

    def __call__(self, url: str, *, exclusive: bool = False, read_only: bool = False) -> Journal:
        """The journal, open; raises :class:`JournalError`."""


class _Thread:
    """A thread of its own for blocking work, started when it is first needed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def _outside(work: Callable[[], T], /) -> Awaitable[T]:
    """Work that waits for somebody outside, in a thread that no other work and no end of the process waits for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("T", result))

    def run() -> None:
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="audit-publish", daemon=True).start()
    return answer


@dataclass(frozen=True, slots=True)
class _Waiting:
    append: Append
    answer: asyncio.Future[Outcome]
    came_s: float


def _opening_beside(beside: str | None) -> OpenJournal:
    def open_journal(url: str, *, exclusive: bool = False, read_only: bool = False) -> Journal:
        # Imported here: creating the actor only names this class, and must not import the database driver.
        from actors.journal.store import Journal

        files = None if beside is None else Path(beside)
        return Journal.open(url, exclusive=exclusive, read_only=read_only, beside=files)

    return open_journal


class Audit:
    """The journal, shared by every actor.

    ``head_file`` is the path of a heads file (:mod:`head_file`), ``evidence`` what signed heads are made with.
    ``run_blocking`` replaces the threads of its own; ``monotonic`` returns seconds and limits how often a journal that
    cannot be opened is tried again, and a head noted; ``max_batch_events`` bounds one commit (a single larger append is
    still one).
    """

    def __init__(
        self,
        journal_url: str,
        head_file: str | None = None,
        evidence: EvidenceSettings | None = None,
        *,
        run_blocking: RunBlocking | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        max_batch_events: int = 5000,
        open_journal: OpenJournal | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = journal_url
        self._evidence = Evidence(evidence, now, monotonic) if evidence is not None else None
        self._slices_file = None if evidence is None else evidence.slices
        self._slices: KeptSlices | None = None
        self._slices_error: str | None = None
        self._head_file = head_file
        self._heads: HeadsFile | None = None
        self._noting: asyncio.Task[None] | None = None
        self._proving: asyncio.Task[None] | None = None
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._came: dict[str, tuple[int, float]] = {}  # the newest record of each stream: its version, when it came
        self._max_batch_events = max_batch_events
        self._open_journal = open_journal or _opening_beside(None if evidence is None else evidence.beside)
        self._threads = [_Thread(f"audit-{name}") for name in ("write", "read", "verify", "slices")]
        self._write, self._read, self._check, self._keep = (run_blocking or thread for thread in self._threads)
        self._publish = run_blocking or _outside
        self._journal: Journal | None = None
        self._reader: Journal | None = None
        self._opening: asyncio.Task[Journal] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._next_commit: asyncio.Future[None] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._taken: list[_Waiting] = []
        self._round: asyncio.Future[None] | None = None  # ends with the running commit, or the next one
        self._error: JournalError | None = None
        self._tried_at: float | None = None
        self._now = now
        self._away_since: datetime | None = None
        self._outage: dict[str, Json] | None = None
        self._closed = False
        self._last_seq: int | None = None
        self._log = BoundedLog(AUDIT, monotonic)
        self._append_s = 0.0
        self._counts = dict.fromkeys(("appended_events", "commits", "failed_commits", "stale", "refused"), 0)

    def __repr__(self) -> str:
        return "audit"

    async def open(self) -> None:
        """Become the writer of the journal now. Raises :class:`JournalError` when that is not possible; the actor
        stays usable, and later calls try again."""
        self._tried_at = None
        await self._opened()

    async def restarted(self, restarts: int, reason: str) -> None:
        """Log that this actor replaces one that died."""
        self._log.restarted(restarts, reason)

    async def append(self, stream: str, expected_version: int, events: Sequence[Event]) -> Appended | Stale:
        """Continue ``stream`` after ``expected_version`` with all of these or none, and answer when that is durable.

        Raises :class:`JournalUnavailable` when it is not known to be durable (send the same again to find out), and
        :class:`AppendRefused` for events that can never be written. If the caller stops waiting, they may be in.
        """
        append = Append(stream, expected_version, tuple(events))
        came_s = self._monotonic()
        await self._opened()
        if len(self._waiting) >= WAITING_AT_MOST:
            raise JournalUnavailable(
                "append",
                f"{len(self._waiting)} appends wait, and the disk takes none",
                "Check why its disk does not write",
            )
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(append, answer, came_s))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting())
        outcome = await answer
        if isinstance(outcome, AppendRefused):
            raise outcome
        return outcome

    async def keep_pass(self, stream: str, version: int, own: str, entry: bytes, parts: Mapping[str, bytes]) -> None:
        """Keep the grounds of a decision (see :mod:`kept_slices`), durable on return. Raises
        :class:`JournalUnavailable` where they are not kept."""
        await self._opened()
        try:
            await self._keep(lambda: self._kept_slices().keep(stream, version, own, entry, parts))
        except JournalError as error:
            self._slices_error = str(error)
            raise
        self._slices_error = None

    async def load(self, stream: str) -> StreamTail:
        """The end of a stream from its last checkpoint on, from which its state is folded; raises
        :class:`JournalError`. Earlier appends to it are either in this or will never be: its writer may have died, and
        its successor must not be given less than becomes durable."""
        journal = await self._opened()
        while any(one.append.stream == stream for one in (*self._taken, *self._waiting)):
            if self._round is None:
                self._round = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._round])
        tail = await self._write(lambda: journal.load(stream))
        version, came_s = self._came.get(stream, (None, self._began_s))
        older = version != tail.version
        # A record that came after the one we know of, by a commit of which we never heard, may be of this moment.
        age_s = 0.0 if older and version is not None else self._monotonic() - came_s
        return replace(tail, age=timedelta(seconds=age_s), older=older)

    async def versions(self, streams: Sequence[str]) -> dict[str, int]:
        """The version of each of these streams on disk, 0 where there is none; raises :class:`JournalError`."""
        await self._opened()
        return await self._read(lambda: self._reading().versions(streams))

    async def load_before(self, stream: str, version: int) -> list[Record]:
        """The records of a stream, oldest first, from its last checkpoint before ``version`` (of the newest few), or
        else from the first there is, to its end; raises :class:`JournalError`."""
        await self._opened()
        return await self._read(lambda: _from_checkpoint(self._reading(), stream, version))

    async def records(self, **asked: Unpack[RecordQuery]) -> list[Record]:
        """The records that meet every condition, at most ``limit`` (1000); see :meth:`Journal.records`."""
        return await self.query(asked)

    async def query(self, asked: RecordQuery) -> list[Record]:
        """As :meth:`records`, with the conditions in one mapping, for calls through a runtime."""
        await self._opened()
        limited: RecordQuery = {"limit": MOST_RECORDS, **asked}
        return await self._read(lambda: list(self._reading().records(**limited)))

    async def streams(self) -> list[str]:
        """The names of all streams, sorted."""
        await self._opened()
        return await self._read(lambda: self._reading().streams())

    async def wait_for(self, after_seq: int, timeout_s: float, limit: int = MOST_RECORDS) -> list[Record]:
        """The records after ``after_seq``, at most ``limit``, as soon as there are any; none after ``timeout_s``.

        A subscriber calls it again with the last ``seq`` it received, and misses nothing.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            committed = self._commit_after_this()
            found = await self.records(after_seq=after_seq, limit=limit)
            left = deadline - loop.time()
            if found or left <= 0:
                return found
            await asyncio.wait([committed], timeout=left)

    async def verify(self, *, head: str | None = None) -> Verification:
        """Read and check the whole journal while appends go on; see :meth:`Journal.verify`."""
        journal = await self._opened()
        return await self._check(lambda: journal.verify(head=head))

    async def head(self) -> tuple[int, str, datetime] | None:
        """``seq``, ``hash`` and time of the last record; ``None`` for an empty journal."""
        await self._opened()
        return await self._read(lambda: self._reading().head())

    async def health(self) -> dict[str, Json]:
        """What was written, and whether more can be; answers at once, whatever the disk does.

        ``error`` is why not; while there is one, a background task checks whether it still holds. ``last_outage`` is
        the last time that it could not be written: ``since``, ``until`` and the ``reason``. ``closed`` is there after
        :meth:`close`: whoever closed it and did not end it has died.
        """
        if not self._closed and self._error is not None and self._probing is None and self._may_try():
            self._probing = asyncio.create_task(self._probe())
        self._note_head_when_due()
        self._log_state()
        return {
            "pid": os.getpid(),
            "program": PROGRAM.to_json(),
            "writable": self._journal is not None and self._error is None,
            "error": None if self._error is None else str(self._error),
            "away_since": None if self._away_since is None else to_iso(self._away_since),
            "last_outage": self._outage,
            "last_seq": self._last_seq,
            "waiting": len(self._waiting),
            "head_file_error": None if self._heads is None else self._heads.error,
            "evidence_error": self._evidence_error(),
            "evidence_caution": None if self._evidence is None else self._evidence.caution,
            "signed_size": None if self._evidence is None else self._evidence.signed_size,
            **self._counts,
            "append_us": round(self._append_s * 1e6),
            **({"closed": True} if self._closed else {}),
        }

    async def close(self) -> None:
        """Write what waits, then release the journal. May be called twice."""
        self._closed = True
        while tasks := [task for task in (self._opening, self._writing, self._probing) if task is not None]:
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._evidence is not None:
            self._evidence.hurry()
        for beside in (self._noting, self._proving):
            if beside is not None:
                await asyncio.gather(beside, return_exceptions=True)
        if self._heads is not None and self._journal is not None:
            await self._note_head(self._heads)
        if self._evidence is not None and self._journal is not None:
            await self._evidence.end(self._write, self._publish)
        slices, self._slices = self._slices, None
        if slices is not None:
            await self._keep(slices.close)
        journal, self._journal = self._journal, None
        reader, self._reader = self._reader, None
        # The writer last: only it can move the write-ahead log into the file.
        if reader is not None:
            await self._read(reader.close)
        if journal is not None:
            await self._write(journal.close)
        self._wake()
        for thread in self._threads:
            thread.close()

    async def _opened(self) -> Journal:
        if self._closed:
            raise _closed()
        if self._journal is not None:
            return self._journal
        if self._opening is None:
            if self._error is not None and not self._may_try():
                raise _again(self._error)
            self._opening = asyncio.create_task(self._open())
        # Shielded: a caller that gives up must not cancel it for the others.
        return await asyncio.shield(self._opening)

    async def _open(self) -> Journal:
        self._tried_at = self._monotonic()
        try:
            journal, self._last_seq = await self._write(self._open_as_writer)
        except JournalError as error:
            self._fails(error)
            raise
        finally:
            self._opening = None
        self._journal, self._began_s = journal, self._monotonic()
        self._came.clear()  # another may have written meanwhile
        self._works()
        if self._head_file is not None and self._heads is None:
            self._heads = HeadsFile(Path(self._head_file), self._monotonic, self._last_seq or 0)
        return journal

    def _open_as_writer(self) -> tuple[Journal, int]:
        journal = self._open_journal(self._url, exclusive=True)
        try:
            head = journal.head()
            if self._evidence is not None:
                self._evidence.begin(journal)
        except BaseException:
            journal.close()
            raise
        return journal, 0 if head is None else head[0]

    def _may_try(self) -> bool:
        return self._tried_at is None or self._monotonic() - self._tried_at >= _REOPEN_AFTER_S

    async def _probe(self) -> None:
        try:
            journal = await self._opened()
            if self._error is not None:
                self._tried_at = self._monotonic()
                await self._write(journal.probe)
                self._works()
        except JournalError as error:
            self._fails(error)
        finally:
            self._probing = None

    def _fails(self, error: JournalError) -> None:
        self._error = error
        self._away_since = self._away_since or self._now()
        self._log_state()

    def _works(self) -> None:
        if self._away_since is not None:
            since, until = to_iso(self._away_since), to_iso(self._now())
            self._outage = {"since": since, "until": until, "reason": str(self._error)}
        self._error = self._away_since = None

    def _log_state(self) -> None:
        """Log its state."""
        stands = (None if self._error is None else self._error.found, self._evidence_error(), self._cautions())
        self._log.write(stands, self._line)

    def _line(self) -> str:
        counts, beside = self._counts, self._evidence_error()
        parts = ["writing" if self._error is None else str(self._error), *([beside] if beside else [])]
        parts += self._cautions()
        parts.append(
            f"records {counts['appended_events']} in {counts['commits']} commits, failed {counts['failed_commits']}, "
            f"last record {self._last_seq or 0}"
        )
        return "; ".join(parts)

    def _cautions(self) -> tuple[str, ...]:
        # After a failover they are those of the new server.
        return () if self._journal is None else self._journal.cautions

    def _reading(self) -> Journal:
        # Apart from the writer: a long query must not delay an append.
        if self._reader is None:
            self._reader = self._open_journal(self._url, read_only=True)
        return self._reader

    def _kept_slices(self) -> KeptSlices:
        from actors.journal.kept_slices import KeptSlices

        if self._slices_file is None:
            raise JournalUnavailable(
                "keep what a decision rested on", "this journal keeps no slices", "Set journal.keep_slices"
            )
        if self._slices is None:
            self._slices = KeptSlices(Path(self._slices_file))
        return self._slices

    def _evidence_error(self) -> str | None:
        found = [None if self._evidence is None else self._evidence.error, self._slices_error]
        return "; ".join(filter(None, found)) or None

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                self._taken = self._take()
                if self._taken:
                    await self._commit(self._taken)
                self._end_round()
        finally:
            self._end_round()
            self._writing = None

    def _end_round(self) -> None:
        self._taken = []
        if self._round is not None:
            self._round.set_result(None)
            self._round = None

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        events = 0
        while self._waiting:
            events += len(self._waiting[0].append.events)
            if taken and events > self._max_batch_events:
                break
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                taken.append(waiting)
        return taken

    async def _commit(self, taken: list[_Waiting]) -> None:
        journal, batch = self._journal, [waiting.append for waiting in taken]
        began_s = self._monotonic()
        try:
            if journal is None:
                raise _closed()
            outcomes = await self._write(lambda: journal.append(batch))
        except JournalError as error:
            self._fails(error)
            self._tried_at = self._monotonic()
            self._counts["failed_commits"] += 1
            _fail(taken, error)
            return
        except BaseException as error:
            _fail(taken, error)
            if isinstance(error, Exception):  # an internal error: these appends get it, the others go on
                return
            raise
        self._append_s += self._monotonic() - began_s
        self._works()
        self._count(outcomes)
        for waiting, outcome in zip(taken, outcomes, strict=True):
            if waiting.append.events and isinstance(outcome, Appended):
                self._came[waiting.append.stream] = (outcome.version, waiting.came_s)
            if not waiting.answer.done():
                waiting.answer.set_result(outcome)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        before = self._last_seq or 0
        last = max((outcome.last_seq for outcome in outcomes if isinstance(outcome, Appended)), default=before)
        self._counts["stale"] += sum(isinstance(outcome, Stale) for outcome in outcomes)
        self._counts["refused"] += sum(isinstance(outcome, AppendRefused) for outcome in outcomes)
        if last > before:
            self._counts["appended_events"] += last - before
            self._counts["commits"] += 1
            self._last_seq = last
            self._log_state()
            self._wake()
            self._note_head_when_due()

    def _note_head_when_due(self) -> None:
        free = not self._closed and (self._noting is None or self._noting.done())
        if free and self._heads is not None and self._heads.due(self._last_seq or 0):
            self._noting = asyncio.create_task(self._note_head(self._heads))
        free = not self._closed and (self._proving is None or self._proving.done())
        if free and self._evidence is not None and self._journal is not None and self._evidence.due():
            self._proving = asyncio.create_task(self._evidence.work(self._write, self._publish))

    async def _note_head(self, heads: HeadsFile) -> None:
        try:
            await self._read(lambda: heads.note(self._reading().head()))
        except JournalError as error:
            logger.warning("the journal's head is not in journal.head_file: {}", error)

    def _commit_after_this(self) -> asyncio.Future[None]:
        if self._next_commit is None:
            self._next_commit = asyncio.get_running_loop().create_future()
        return self._next_commit

    def _wake(self) -> None:
        if self._next_commit is not None:
            self._next_commit.set_result(None)
            self._next_commit = None


def _from_checkpoint(journal: Journal, stream: str, version: int) -> list[Record]:
    newest = list(
        journal.records(stream=stream, types=(EventType.CHECKPOINT,), order="newest", limit=_CHECKPOINTS_AT_MOST)
    )
    start = next((found for found in newest if found.version < version), None)
    if start is None and len(newest) == _CHECKPOINTS_AT_MOST:
        start = newest[-1]
    return list(journal.records(stream=stream, after_seq=start.seq - 1 if start is not None else 0))


def _fail(taken: Sequence[_Waiting], error: BaseException) -> None:
    for waiting in taken:
        if waiting.answer.done():
            continue
        if isinstance(error, JournalError):
            waiting.answer.set_exception(_again(error))
        elif isinstance(error, Exception):
            waiting.answer.set_exception(error)
        else:
            waiting.answer.cancel()


def _again(error: JournalError) -> JournalError:
    """An equal error, so that each caller that raises it has a traceback of its own."""
    return type(error)(error.attempted, error.found, error.remedy)


def _closed() -> JournalUnavailable:
    remedy = "The supervisor starts it again, unless it is stopping"
    return JournalUnavailable("use the journal", "the audit actor has ended", remedy)
