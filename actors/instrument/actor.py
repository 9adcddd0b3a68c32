"""The instrument actor: owns the book of one instrument of one account, as a plain class.

It sleeps until its interval, an event of the broker, a report of the strategy or a request, and then runs one cycle. It
imports no SDK, no database driver and no Ray. This module has its life, its loop and its methods; a cycle is in
:mod:`actors.instrument.cycle`, the book in :mod:`actors.instrument.book_keeper`, the broker's side in
:mod:`actors.instrument.account_client`, and our own reports in :mod:`actors.instrument.recorder`.

The laws of this module:

* Whatever goes wrong in a cycle, the loop goes on.
* Cycles run one at a time (``_cycling``). Within them, cycles and reports take turns at the book (its keeper's
  ``turn``, which is never held during a request to the broker), so that a report does not wait for a broker.
* Health, permission to trade and the book wait for no cycle (health waits for the first one if requested).
* Instruments of one account tick together, so that they share one fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from loguru import logger

from actors.book.book import Book
from actors.book.break_work import UNTOUCHED, BreakRefused, BreakRequest, BreakWork, act
from actors.book.discrepancies import Discrepancy
from actors.book.orders import BookOrder
from actors.book.self_check import SelfCheck
from actors.book.trading_permission import Halt, Obstacle, Permission, Reason, halted_by, obstacles
from actors.book.view import BookState, book_state
from actors.events import Event, Json, Severity, event_id
from actors.instrument.account_client import AccountClient
from actors.instrument.book_keeper import CHECKPOINT_EVERY, BookKeeper
from actors.instrument.cycle import CycleRunner
from actors.instrument.diary import Diary
from actors.instrument.recorder import LEAVES_WITHIN_S, Recorder
from actors.instrument.settings import CycleTrigger, InstrumentSettings
from actors.instrument.statistics import Tally
from actors.instrument.ticks import tick
from actors.journal.client import Fenced
from actors.messages import CycleReport, InstrumentHealth
from actors.names import instrument_name
from actors.reconciliation.own_reports import Report, of_no_order
from actors.reconciliation.reconciliation_pass import Status
from actors.runtime.ports import Runtime
from actors.runtime.steady_clock import SteadyRuntime
from brokers.model import StreamedFill
from brokers.versions import PROGRAM

__all__ = ["CHECKPOINT_EVERY", "LEAVES_WITHIN_S", "STOP_WITHIN_S", "CycleTrigger", "Instrument", "InstrumentSettings"]

STARTING_TOGETHER = timedelta(seconds=5)
"""Actors that start within this time of each other share the fetch of their first cycle."""

SHORTEST_WAIT_S = 0.05
PASSES_BEYOND_PROOF = 4
PATIENCE_S = 20.0
"""How much longer than settle and confirmations a verdict may take before it is returned unfinished: adapters doubt
contradictory data for 10 s, whatever is configured, and the looks around that take their time."""

STOP_WITHIN_S = 5.0
"""How long :meth:`Instrument.stop` lets a cycle finish. Then the cycle is cancelled, which loses nothing: whatever was
acknowledged is on disk, and the supervisor does not wait much longer before it kills."""


class Instrument:
    """Keeps one book in step with its broker. ``keeper`` is the only writer of that book; while ``paused``, no
    scheduled cycle runs."""

    def __init__(self, settings: InstrumentSettings, runtime: Runtime) -> None:
        self.settings = settings
        self._name = instrument_name(settings.account, settings.instrument)
        self._runtime = runtime = SteadyRuntime(runtime)
        self._policy = settings.policy
        self._broker = AccountClient(settings, runtime)
        self.keeper = BookKeeper(settings, runtime, self._broker)
        self._recorder = Recorder(settings, runtime, self.keeper, self._broker)
        self._cycles = CycleRunner(settings, runtime, self.keeper, self._broker, lambda: bool(self._verdicts))
        self._cycling = asyncio.Lock()
        self._awake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._stop: object | None = None  # the one under way
        self.paused = False
        self._halts: tuple[Halt, ...] | None = None
        self._halted_for: set[str] = set()  # the breaks whose halt is known to be in force, or to have ended since
        self._finished_s: float | None = None
        self._looked = asyncio.Event()  # once the first cycle has finished
        self._report: CycleReport | None = None
        self._tally = Tally()
        self._diary = Diary(self._name, self._runtime.monotonic_s)
        self._verdicts: list[dict[str, Discrepancy]] = []

    def __repr__(self) -> str:
        return self._name

    # Life

    async def start(self, halts: tuple[Halt, ...] | None = None) -> None:
        """Begin the scheduled cycles: at once, and then at every tick of the interval. ``halts`` are those in force,
        where they are known. A stop that has not ended yet is taken back: whoever asked for it has died."""
        if self._halts is None:
            self._halts = halts
        if self._stop is not None:
            self._stop = None
            self.paused = False
        if self._loop is None or self._loop.done():
            self.paused = False
            self._loop = self._runtime.spawn(self._name, self._run())

    async def stop(self) -> None:
        """Finish the running cycle, if it ends soon, and run no other, unless :meth:`start` is called meanwhile.
        Nothing is lost: whatever was acknowledged is on disk."""
        self.paused = True
        this = self._stop = object()
        try:
            async with asyncio.timeout(STOP_WITHIN_S), self._cycling:
                pass
        except TimeoutError:
            logger.warning("{}: stopped in the middle of a cycle, which did not end", self._name)
        if self._stop is not this:
            return
        self._stop = None
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()

    async def pause(self) -> None:
        """Run no scheduled cycle until :meth:`resume`; a requested one still runs."""
        self.paused = True

    async def resume(self) -> None:
        """Run scheduled cycles again, the first one at once."""
        self.paused = False
        self._awake.set()

    async def restarted(self, restarts: int, reason: str) -> None:
        """Log that this actor replaces one that died."""
        self._diary.restarted(restarts, reason)

    async def wake(self) -> None:
        """Something happened at the broker: check now."""
        self._awake.set()

    async def streamed(self, executed: Sequence[StreamedFill]) -> None:
        """The broker's stream reported these executions: on return they are in the book and durable, as far as enough
        is known of them. A check follows."""
        try:
            if not self.paused:
                await self._cycles.take(executed)
        finally:
            self._awake.set()

    async def doubt(self) -> None:
        """The journal may have more of this stream than the book: the next cycle, which runs now, checks that first."""
        self.keeper.doubt()
        self._awake.set()

    # Requests

    # ``asked`` are the keys that name the requester in the records of a check.

    async def check(self, asked: Mapping[str, Json] | None = None) -> CycleReport:
        """One throttled cycle: before it is due, nothing is done and the last report is returned again, marked as
        ``throttled``. With an interval of 0 it is always due."""
        if self._report is not None and not self._is_due():
            return replace(self._report, throttled=True)
        return await self.cycle(CycleTrigger(self._runtime.now(), asked=asked))

    async def reconcile_now(
        self, asked: Mapping[str, Json] | None = None, *, dry_run: bool = False, trade: str | None = None
    ) -> CycleReport:
        """An unscheduled verdict, in as many passes as its proof needs. With ``dry_run`` nothing is changed. ``trade``
        names the trade that it follows ("buy", "sell", "close")."""
        return await self._verdict(asked, dry_run=dry_run, trade=trade)

    async def post_trade(self, trade: str, asked: Mapping[str, Json] | None = None) -> CycleReport:
        """A verdict right after a trade ("buy", "sell", "close"), which its events name; it is journaled also if
        everything is in step."""
        return await self._verdict(asked, dry_run=False, trade=trade)

    async def detect_drift(self) -> CycleReport:
        """Find every difference and change nothing."""
        return await self._verdict(None, dry_run=True, trade=None)

    async def health(self, patience_s: float = 0.0) -> InstrumentHealth:
        """The answer to a probe. Waits for no cycle but the first, and for that no longer than ``patience_s``."""
        if patience_s and not self.paused:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._looked.wait()
        age_s = None if self._finished_s is None else self._runtime.monotonic_s() - self._finished_s
        version = self.keeper.book.version if self.keeper.book is not None else 0
        statistics, paused = self._tally.statistics, self.paused
        self._step_seen()
        return InstrumentHealth(
            self._report,
            statistics,
            age_s,
            paused,
            version,
            os.getpid(),
            self._halts,
            self.settings.fingerprint,
            self._verified_age_s(),
            self.keeper.began_version,
            dict(self.keeper.book.work) if self.keeper.book is not None else {},
            self._halts_due(),
            next_check_s=self._next_check_s(),
            program=PROGRAM,
        )

    async def self_check(self) -> SelfCheck:
        """Compare the book in memory with a replay of its journal, at one version. Where they differ the book is
        rebuilt from the journal, and that is journaled, CRITICAL. No cycle waits for the reading."""
        found = await self.keeper.self_check()
        if found.differences and found.skipped is None:
            self._awake.set()
        return found

    async def recent(self, newest: int | None = None) -> list[dict[str, object]]:
        """The newest journal entries of this instrument that are in memory, oldest first."""
        return self.keeper.recent(newest)

    async def trading_allowed(self) -> Permission:
        """Whether trading is allowed, with every reason against it. Never waits for a cycle, nor for the journal."""
        now = self._runtime.now()
        book = self.keeper.book
        breaks = None if book is None else book.breaks.values()
        unverified_s = self._policy.unverified.total_seconds()
        stepped = self._step_seen()
        verified_at = None if stepped else self._cycles.verified_at
        error = f"the clock was set by {stepped.total_seconds():+.3f} s" if stepped else self._last_error()
        pending = () if book is None else book.pending_fills()
        may_stand = self._policy.may_stand
        refused = self._cycles.refused
        reasons = obstacles(breaks, verified_at, unverified_s, self._halts, refused, error, now, pending, may_stand)
        reasons += tuple(Reason(Obstacle.HALTED, halted_by(words)) for words in self._halts_due())
        return Permission(self.settings.account, self.settings.instrument, reasons, now, verified_at)

    async def book(self) -> BookState:
        """The present book. Never waits for a cycle. Raises :class:`JournalAway` while it cannot be loaded."""
        book = await self.keeper.readable()
        conventions = None if self._broker.last is None else self._broker.conventions_of(book)
        now, verified_at = self._runtime.now(), self._cycles.verified_at
        return book_state(book, self._policy, now, verified_at, self._last_error(), conventions)

    async def is_empty(self) -> bool:
        """Whether the present book has no position, no working order, no open break and no pending fill. Where that is
        not known, it is not."""
        return await self._recorder.is_empty()

    async def leave(self) -> bool:
        """Whether the present book is empty. If it is, no report is recorded from now on: nobody would look after what
        this actor recorded before it ends. That lasts until :meth:`stay`, or for :data:`LEAVES_WITHIN_S`."""
        return await self._recorder.is_empty(leaving=True)

    async def stay(self) -> None:
        """Record reports again: it does not end after all."""
        self._recorder.stay()

    async def order_by_ticket(self, ticket: str) -> BookOrder | None:
        """The order with this broker_order_id, also if it ended within the last two days. Raises as :meth:`book`."""
        return (await self.keeper.readable()).find_order_by_ticket(ticket)

    async def set_halts(self, halts: tuple[Halt, ...]) -> None:
        """Exactly these halts apply from now on. (The supervisor journals them, this instrument's own in this stream:
        the next write here is refused once, and then continues from there.)"""
        self._halts = halts
        book = self.keeper.book
        if book is not None and any(halt.scope == self._name for halt in halts):
            self._halted_for.update(book.halts_due)

    def _halts_due(self) -> tuple[str, ...]:
        """The breaks that should halt trading here and have not yet, as text."""
        due = {} if self.keeper.book is None else self.keeper.book.halts_due
        return tuple(words for break_id, words in due.items() if break_id not in self._halted_for)

    # Work on breaks

    async def work_on(self, break_id: str, request: BreakRequest) -> BreakWork:
        """Apply an operator's request to an open break; durable on return. Returns the resulting work on it. The next
        cycle, which begins at once, makes an approved correction, with the broker's values then. Raises
        :class:`BreakRefused`, and :class:`JournalAway` where it is not known to be durable."""
        try:
            work = await self._work_on(break_id, request)
        except Fenced:
            work = await self._work_on(break_id, request)
        self._awake.set()
        return work

    async def _work_on(self, break_id: str, request: BreakRequest) -> BreakWork:
        async with self.keeper.turn:
            book = await self.keeper.in_time()
            found = book.open_break(break_id)
            if found is None:
                attempted = f"{request.action.value} break {break_id[:8]} of {self._name}"
                raise BreakRefused(attempted, "it is not open, or no longer", "List the open breaks again.")
            now = self._runtime.now()
            work = book.work.get(break_id, UNTOUCHED)
            kind, payload = act(found, work, request, four_eyes=self._policy.four_eyes, now=now)
            identity = event_id(book.stream, str(book.version + 1), kind, break_id)
            await self.keeper.write(book, (Event(identity, kind, Severity.INFO, now, payload),))
            return book.work[break_id]

    def _next_check_s(self) -> float | None:
        """Seconds until the next scheduled check; ``None`` while paused."""
        if self.paused:
            return None
        due, report = self._tick(after=True), self._report
        if report is not None and report.recheck_at is not None:
            due = min(due, report.recheck_at)
        return max(0.0, (due - self._runtime.now()).total_seconds())

    def _verified_age_s(self) -> float | None:
        if self._report is None or self._report.verified_at is None:
            return None
        verified_at = None if self._runtime.clock.step else self._cycles.verified_at
        return math.inf if verified_at is None else (self._runtime.now() - verified_at).total_seconds()

    def _step_seen(self) -> timedelta:
        """By how much the clock has jumped without a cycle having handled it: one will, at once."""
        by = self._runtime.clock.step
        if by:
            self._awake.set()
        return by

    def _last_error(self) -> str | None:
        """What was wrong in the last cycle."""
        report = self._report
        if report is None or report.status is Status.SUCCESS:
            return None
        open_breaks = sum(not found.resolved for found in report.discrepancies)
        return f"{report.status}: {report.error or f'{open_breaks} break(s) open'}"

    # Reports

    async def unfit(self, reports: Sequence[Report]) -> tuple[tuple[int, str], ...]:
        """The reports that :meth:`record` would refuse, by their places, with the reasons; nothing is recorded. Raises
        :class:`JournalAway`."""
        return await self._recorder.unfit(reports)

    async def record(self, reports: Sequence[Report], by: Mapping[str, Json] | None = None) -> int:
        """Record our own orders, fills and positions in the book; durable on return. Returns the number of newly
        recorded reports. Raises :class:`JournalAway` when it is not known to be durable: report the same again, what is
        already recorded counts once. Raises ``ValueError`` for a report of another instrument or of an impossible leg;
        then none of them is in the book. ``by`` are the keys that name the reporter in the records."""
        newly_recorded = await self._recorder.record(reports, by or {})
        self._awake.set()
        return newly_recorded

    async def of_no_order(self, reports: Sequence[Report]) -> tuple[str, ...]:
        """The recorded fills that name an order the book does not have, one sentence each. Raises as :meth:`book`."""
        book = await self.keeper.readable()
        return tuple(words for report in reports if (words := of_no_order(book, report)) is not None)

    # The loop

    async def _run(self) -> None:
        occasion = CycleTrigger(max(self._tick(after=False), self._runtime.now() - STARTING_TOGETHER))
        while True:
            if not self.paused:
                await self.cycle(occasion)
            occasion = await self._next_occasion()

    async def _next_occasion(self) -> CycleTrigger:
        """Wait for the next reason for a cycle."""
        report = self._report
        due = self._tick(after=True)
        if report is not None and report.recheck_at is not None:
            due = min(due, report.recheck_at)
        wait_s = max(SHORTEST_WAIT_S, (due - self._runtime.now()).total_seconds())
        try:
            async with asyncio.timeout(wait_s):
                await self._awake.wait()
        except TimeoutError:
            return CycleTrigger(due, calm=report is None or report.recheck_at != due)
        self._awake.clear()
        return CycleTrigger(self._runtime.now())

    def _tick(self, *, after: bool) -> datetime:
        return tick(self.settings.account, self.settings.interval_s, self._runtime.now(), after=after)

    def _is_due(self) -> bool:
        age_s = math.inf if self._finished_s is None else self._runtime.monotonic_s() - self._finished_s
        return age_s >= self.settings.interval_s or bool(self._runtime.clock.step)

    # One verdict

    async def _verdict(self, asked: Mapping[str, Json] | None, *, dry_run: bool, trade: str | None) -> CycleReport:
        """Run passes until there is nothing more to wait for, or the time is up."""
        policy = self._policy
        most = policy.confirmations + PASSES_BEYOND_PROOF
        patience_s = policy.settle.total_seconds() + policy.confirmations * policy.confirm_gap.total_seconds()
        began, began_s = self._runtime.now(), self._runtime.monotonic_s()
        give_up_s = began_s + patience_s + PATIENCE_S
        seen: dict[str, Discrepancy] = {}
        passes = 0
        occasion = CycleTrigger(began, trade, dry_run=dry_run, asked=asked)
        shadow: Book | None = None
        if not dry_run:
            self._verdicts.append(seen)  # a cycle of the loop between two passes belongs to this verdict too
        try:
            while True:
                report, shadow = await self._pass(occasion, shadow)
                passes += 1
                seen.update({found.found.id: found for found in report.discrepancies})
                again = report.recheck_at
                if again is None or report.status is Status.DEGRADED:
                    break
                wait_s = (again - self._runtime.now()).total_seconds()
                if passes >= most and wait_s <= policy.confirm_gap.total_seconds():
                    break
                if self._runtime.monotonic_s() + wait_s > give_up_s:
                    break
                await self._runtime.sleep(max(0.0, wait_s))
                occasion = occasion._replace(not_before=again)
        finally:
            self._verdicts = [verdict for verdict in self._verdicts if verdict is not seen]
        duration_ms = (self._runtime.monotonic_s() - began_s) * 1000
        return replace(report, passes=passes, duration_ms=duration_ms, discrepancies=tuple(seen.values()))

    # One cycle

    async def cycle(self, occasion: CycleTrigger) -> CycleReport:
        """One look at the broker, and the decision on it."""
        report, _ = await self._pass(occasion, None)
        return report

    async def _pass(self, occasion: CycleTrigger, shadow: Book | None) -> tuple[CycleReport, Book | None]:
        """One pass, whatever happens in it. ``shadow`` is the copy of the book that a dry run continues with."""
        began, began_s = self._runtime.now(), self._runtime.monotonic_s()
        async with self._cycling:
            report, shadow = await self._cycles.run(occasion, shadow, began)
        finished_s = self._runtime.monotonic_s()
        report = replace(report, duration_ms=(finished_s - began_s) * 1000, trade=occasion.trade)
        if not occasion.dry_run:
            report = _with(report, self._cycles.found_in_stream())
            self._finished_s = finished_s
            self._looked.set()
            self._report = report
            self._tally.count(report)
            self._diary.write_cycle(report, self._tally.statistics)
            for verdict in self._verdicts:
                verdict.update({found.found.id: found for found in report.discrepancies})
        return report, shadow


def _with(report: CycleReport, found: Sequence[Discrepancy]) -> CycleReport:
    """A report, with the discrepancies found between the cycle before and this one added."""
    here = {one.found.id for one in report.discrepancies}
    new = tuple(one for one in found if one.found.id not in here)
    return replace(report, discrepancies=(*new, *report.discrepancies)) if new else report
