"""The instrument actor: owns the book of one instrument of one account, as a plain class.

It sleeps until its interval, an event of the broker's, a report of the strategy's or a request, and then runs one
cycle: slice → decide → journal → apply → report. It imports no SDK, no database driver and no Ray.

The laws of this module:

* The book changes only by events that the audit actor has made durable first.
* Whatever goes wrong in a cycle, it ends in a typed report, and the loop goes on.
* A report that arrives while a cycle runs is never undone by that cycle's older slice: both take turns at the book,
  and the decision is made on the book as it then is.
* Instruments of one account tick together, so that they share one fetch.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from loguru import logger

from actors import stream
from actors.book import Book
from actors.book_state import BookState, book_state
from actors.breaks import NEEDS_PROOF, Discrepancy
from actors.checkpoint import checkpoint, checkpoint_event, replay
from actors.events import Event, Json, Record, stream_of
from actors.legs import impossible
from actors.messages import (
    Connection,
    CycleReport,
    InstrumentHealth,
    NoSlice,
    SliceRequest,
    Unchanged,
)
from actors.order_entry import hand_over, to_hand_over
from actors.orders import BookOrder
from actors.permission import Halt, Permission, obstacles
from actors.policy import Correct, Policy
from actors.recent import Recent
from actors.reconcile import evidence_of, reconcile
from actors.reports import PositionReport, Report, events_of
from actors.runtime import CallError, Runtime
from actors.schedule import tick
from actors.selfcheck import Folded, SelfCheck, differences, event_of, fold
from actors.stream import Fenced, JournalAway
from actors.tally import Tally
from actors.views import NOTHING_KNOWN, book_view, broker_view
from actors.working import Decision, Status
from brokers.model import NET, Conventions, Failed, LegScheme, OrderAnswer, OrderQuery, Slice

CHECKPOINT_EVERY = 250
"""Events of a stream between two checkpoints: what a restart has to read at most."""

STARTING_TOGETHER = timedelta(seconds=5)
"""Actors that start within this time of each other share the fetch of their first cycle."""

SHORTEST_WAIT_S = 0.05
PASSES_BEYOND_PROOF = 4
PATIENCE_S = 10.0
"""How much longer than settle and confirmations a verdict may take before it is given as it stands."""

LOOK_AGAIN_AFTER = timedelta(seconds=2)
"""When one of our own actors did not answer: it is being restarted, and a long interval must not pass meanwhile."""

STOP_WITHIN_S = 5.0
"""How long :meth:`Instrument.stop` lets a cycle finish. Then the cycle is cut off, which loses nothing: what was
acknowledged is on disk, and the supervisor waits not much longer before it kills."""

ROUNDS_OF_QUESTIONS = 3
CALM_SHARE = 2 / 3
"""Of ``max_age``, how old the proof may be that nothing has changed, where nothing but the interval asks for it."""

SLICE_SHARE = 0.8
"""Of a cycle's time, what the account may take for its answer: the rest is for saying that there was none."""


@dataclass(frozen=True, slots=True)
class InstrumentSettings:
    """Which instrument, how often it is checked (seconds; 0 is as often as asked), how long one cycle may take, and by
    which rules. With ``venue`` the account has a venue of our own, and orders that are recorded are handed to it.
    ``fingerprint`` stands for all of this, for whoever asks whether it is still what is wanted."""

    account: str
    instrument: str
    interval_s: float
    cycle_timeout_s: float
    policy: Policy
    venue: bool = False
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why the broker is looked at: no earlier than when it is to be asked, the trade after which, and whether anything
    but the interval asks for it (``calm``: nothing does)."""

    not_before: datetime
    trade: str | None = None
    dry_run: bool = False
    calm: bool = False


class Instrument:
    """Keeps one book in step with its broker."""

    def __init__(self, settings: InstrumentSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._name = stream_of(settings.account, settings.instrument)
        self._runtime = runtime
        self._book: Book | None = None
        self._policy = settings.policy
        self._turn = asyncio.Lock()
        self._cycling = asyncio.Lock()
        self._awake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._paused = False
        self._cursor: int | None = None
        self._conventions = settings.policy.conventions
        self._checkpointed = 0
        self._proven = 0
        self._last: Slice | None = None
        self._verified_at: datetime | None = None
        self._refused: str | None = None
        self._halts: tuple[Halt, ...] | None = None
        self._began_at: datetime | None = None
        self._finished_s: float | None = None
        self._report: CycleReport | None = None
        self._tally = Tally()
        self._recent = Recent()
        self._recent_version = 0
        self._verdicts: list[dict[str, Discrepancy]] = []

    def __repr__(self) -> str:
        return self._name

    # Life

    async def start(self) -> None:
        """Begin to check by ourselves: at once, and then at every tick of the interval."""
        if self._loop is None or self._loop.done():
            self._paused = False
            self._loop = self._runtime.spawn(self._name, self._run())

    async def stop(self) -> None:
        """Finish the cycle under way, if it ends soon, and run no other. Nothing is lost: what was acknowledged is on
        disk."""
        self._paused = True
        try:
            async with asyncio.timeout(STOP_WITHIN_S), self._cycling:
                pass
        except TimeoutError:
            logger.warning("{}: stopped in the middle of a cycle, which did not end", self._name)
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()

    async def pause(self) -> None:
        """Run no cycle by ourselves until :meth:`resume`; one that is asked for still runs."""
        self._paused = True

    async def resume(self) -> None:
        """Go on, with a cycle at once."""
        self._paused = False
        self._awake.set()

    async def wake(self) -> None:
        """Something happened at the broker: check now."""
        self._awake.set()

    # Asking

    async def check(self) -> CycleReport:
        """One throttled cycle: before its time is due it does nothing and gives the last report again. With an
        interval of 0 it is always due."""
        if self._report is not None and not self._is_due():
            return self._report
        return await self._cycle(Occasion(self._runtime.now()))

    async def reconcile_now(self, *, dry_run: bool = False, trade: str | None = None) -> CycleReport:
        """A verdict now, past the schedule, in as many passes as its proof needs. With ``dry_run`` nothing is
        changed. ``trade`` names the trade after which this is asked ("buy", "sell", "close")."""
        return await self._verdict(dry_run=dry_run, trade=trade)

    async def post_trade(self, trade: str) -> CycleReport:
        """A verdict right after a trade ("buy", "sell", "close"), which its events name; one that finds everything in
        step is in the journal too."""
        return await self._verdict(dry_run=False, trade=trade)

    async def detect_drift(self) -> CycleReport:
        """Every difference there is, nothing changed."""
        return await self._verdict(dry_run=True, trade=None)

    async def health(self) -> InstrumentHealth:
        """What a probe asks. Never waits for a cycle."""
        age_s = None if self._finished_s is None else self._runtime.monotonic_s() - self._finished_s
        version = self._book.version if self._book is not None else 0
        statistics, paused = self._tally.statistics, self._paused
        fingerprint = self._settings.fingerprint
        return InstrumentHealth(self._report, statistics, age_s, paused, version, os.getpid(), self._halts, fingerprint)

    async def self_check(self) -> SelfCheck:
        """Compare the book in memory with what its journal makes, at one version. Where they differ the book is made
        anew from the journal, and that is journaled, CRITICAL. Cycles wait for none of the reading."""
        try:
            async with self._turn:
                book = await self._loaded()
                version, held = book.version, checkpoint(book)
            found = await self._compared(version, held)
            return await self._made_anew(found) if found.differences else found
        except (JournalAway, Fenced) as away:
            return SelfCheck(self._name, 0, skipped=str(away))

    async def _compared(self, version: int, held: Mapping[str, Json]) -> SelfCheck:
        folded = self._folded(await self._records_to_check(), version)
        if folded is None:
            return SelfCheck(self._name, version, skipped=f"the journal does not reach from a beginning to {version}")
        found = folded.wrong or differences(held, checkpoint(folded.book))
        if not found:
            self._proven = max(self._proven, folded.proven)
        return SelfCheck(self._name, version, found)

    async def _made_anew(self, found: SelfCheck) -> SelfCheck:
        async with self._turn:
            folded = self._folded(await self._records_to_check(), None)
            if folded is None:
                return replace(found, skipped="the journal does not reach from a beginning to its end")
            self._book = book = folded.book
            self._cursor = self._last = None
            try:
                await self._write(book, (event_of(book, found, self._runtime.now()),))
                if folded.wrong:
                    await self._checkpoint(book)  # else the next load would begin with the wrong one
            except (JournalAway, Fenced) as away:
                logger.critical("{}: that its book was wrong could not be journaled: {}", self._name, away)
        self._awake.set()
        return found

    async def _records_to_check(self) -> list[Record]:
        """From the last checkpoint that was found right, or else from as far back as is given: those between are to be
        checked themselves."""
        return await stream.load_before(self._runtime, self._name, self._proven + 1 if self._proven else 0)

    def _folded(self, records: Sequence[Record], version: int | None) -> Folded | None:
        return fold(self._settings.account, self._settings.instrument, records, version)

    async def recent(self, newest: int | None = None) -> list[dict[str, object]]:
        """The newest journal entries of this instrument that are at hand, oldest first."""
        return self._recent.entries(newest)

    async def trading_allowed(self) -> Permission:
        """Whether trading is allowed, with everything that stands against it. Never waits for a cycle, nor for the
        journal."""
        now = self._runtime.now()
        breaks = None if self._book is None else self._book.breaks.values()
        unverified_s = self._policy.unverified.total_seconds()
        reasons = obstacles(
            breaks, self._verified_at, unverified_s, self._halts, self._refused, self._last_error(), now
        )
        return Permission(self._settings.account, self._settings.instrument, reasons, now, self._verified_at)

    async def book(self) -> BookState:
        """What the book holds now. Never waits for a cycle. Raises :class:`JournalAway` while it cannot be loaded."""
        book = await self._readable()
        return book_state(book, self._policy, self._runtime.now(), self._verified_at, self._last_error())

    async def order_by_ticket(self, ticket: str) -> BookOrder | None:
        """The order with this broker_order_id, ended ones of the last two days among them. Raises as :meth:`book`."""
        return (await self._readable()).find_order_by_ticket(ticket)

    async def set_halts(self, halts: tuple[Halt, ...]) -> None:
        """These halts, and no others, apply from now on. (The supervisor writes them, this instrument's own into its
        stream: the next write here is refused once, and goes on from there.)"""
        self._halts = halts

    async def _readable(self) -> Book:
        if self._book is not None:
            return self._book
        async with self._turn:
            return await self._loaded()

    def _last_error(self) -> str | None:
        """What was amiss in the last cycle."""
        report = self._report
        if report is None or report.status is Status.SUCCESS:
            return None
        open_breaks = sum(not found.resolved for found in report.discrepancies)
        return f"{report.status}: {report.error or f'{open_breaks} break(s) open'}"

    # Reporting

    async def record(self, reports: Sequence[Report]) -> int:
        """Make our own orders, fills and positions part of the book; durable when it returns. Gives how many were
        news. Raises :class:`JournalAway` when it is not known to be durable: report the same again, what is in counts
        once. Raises ``ValueError`` for a report of another instrument, or of a leg that there cannot be, and then
        nothing of it is in the book."""
        try:
            news, orders = await self._record(reports)
        except Fenced:
            news, orders = await self._record(reports)
        await hand_over(self._runtime, self._settings.account, self._settings.instrument, orders)
        self._awake.set()
        return news

    async def _record(self, reports: Sequence[Report]) -> tuple[int, tuple[BookOrder, ...]]:
        async with self._turn:
            book = await self._loaded()
            conventions = self._conventions_of(book)
            for report in reports:
                self._check_leg(report, conventions)
            events = events_of(book, reports, conventions, self._runtime.now())
            await self._write(book, events)
            return len(events), to_hand_over(book, reports) if self._settings.venue else ()

    def _conventions_of(self, book: Book) -> Conventions:
        """As the broker last said; before it has said anything, as its name and the legs of the book tell."""
        if self._last is None and (NET in book.legs or NET in book.watermarks):
            return replace(self._conventions, legs=LegScheme.NET)
        return self._conventions

    def _check_leg(self, report: Report, conventions: Conventions) -> None:
        if report.leg is None:
            return
        quantity = report.quantity if isinstance(report, PositionReport) else None
        instead = impossible(conventions.legs, report.leg, quantity, mode_told=self._last is not None)
        if instead is not None:
            raise ValueError(f"{self._name}: there can be no leg {report.leg!r} as reported, expected {instead}")

    # The loop

    async def _run(self) -> None:
        occasion = Occasion(max(self._tick(after=False), self._runtime.now() - STARTING_TOGETHER))
        while True:
            if not self._paused:
                await self._cycle(occasion)
            occasion = await self._next_occasion()

    async def _next_occasion(self) -> Occasion:
        """Wait for the next reason to look."""
        report = self._report
        due = self._tick(after=True)
        if report is not None and report.recheck_at is not None:
            due = min(due, report.recheck_at)
        wait_s = max(SHORTEST_WAIT_S, (due - self._runtime.now()).total_seconds())
        try:
            async with asyncio.timeout(wait_s):
                await self._awake.wait()
        except TimeoutError:
            return Occasion(due, calm=report is None or report.recheck_at != due)
        self._awake.clear()
        return Occasion(self._runtime.now())

    def _tick(self, *, after: bool) -> datetime:
        return tick(self._settings.account, self._settings.interval_s, self._runtime.now(), after=after)

    def _is_due(self) -> bool:
        report = self._report
        age_s = (self._runtime.now() - report.finished_at).total_seconds() if report is not None else math.inf
        return age_s >= self._settings.interval_s

    # One verdict

    async def _verdict(self, *, dry_run: bool, trade: str | None) -> CycleReport:
        """Passes until nothing more is to be waited for, or patience ends."""
        policy = self._policy
        most = policy.confirmations + PASSES_BEYOND_PROOF
        patience_s = policy.settle.total_seconds() + policy.confirmations * policy.confirm_gap.total_seconds()
        began = self._runtime.now()
        give_up_at = began + timedelta(seconds=patience_s + PATIENCE_S)
        seen: dict[str, Discrepancy] = {}
        passes = 0
        occasion = Occasion(began, trade, dry_run=dry_run)
        shadow: Book | None = None
        if not dry_run:
            self._verdicts.append(seen)  # a cycle of the loop's between two passes belongs to this verdict too
        try:
            while True:
                report, shadow = await self._pass(occasion, shadow)
                passes += 1
                seen.update({found.found.id: found for found in report.discrepancies})
                again = report.recheck_at
                if again is None or passes >= most or again > give_up_at or report.status is Status.DEGRADED:
                    break
                await self._runtime.sleep(max(0.0, (again - self._runtime.now()).total_seconds()))
                occasion = replace(occasion, not_before=again)
        finally:
            self._verdicts = [verdict for verdict in self._verdicts if verdict is not seen]
        duration_ms = (self._runtime.now() - began).total_seconds() * 1000
        return replace(report, passes=passes, duration_ms=duration_ms, discrepancies=tuple(seen.values()))

    # One cycle

    async def _cycle(self, occasion: Occasion) -> CycleReport:
        report, _ = await self._pass(occasion, None)
        return report

    async def _pass(self, occasion: Occasion, shadow: Book | None) -> tuple[CycleReport, Book | None]:
        """One pass, whatever happens in it. ``shadow`` is the copy of the book a dry run goes on with."""
        began, began_s = self._runtime.now(), self._runtime.monotonic_s()
        if self._began_at is None:
            self._began_at = began
        async with self._cycling:
            try:
                async with asyncio.timeout(self._settings.cycle_timeout_s):
                    try:
                        report, shadow = await self._look(occasion, shadow)
                    except Fenced:
                        report, shadow = await self._look(occasion, shadow)
            except TimeoutError:
                limit_s = self._settings.cycle_timeout_s
                report = self._unverified(Status.DEGRADED, f"the cycle did not end within {limit_s:g} s")
            except (JournalAway, Fenced, CallError) as away:
                report = self._away(str(away), began)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next cycle tries again
                logger.exception("{}: the cycle failed", self._name)
                report = self._unverified(Status.FAILED, f"an error of ours: {type(error).__name__}: {error}")
        finished_s = self._runtime.monotonic_s()
        report = replace(report, duration_ms=(finished_s - began_s) * 1000, trade=occasion.trade)
        if not occasion.dry_run:
            self._finished_s = finished_s
            self._report = report
            self._tally.count(report)
            for verdict in self._verdicts:
                verdict.update({found.found.id: found for found in report.discrepancies})
        return report, shadow

    async def _look(self, occasion: Occasion, shadow: Book | None) -> tuple[CycleReport, Book | None]:
        dry_run, trade = occasion.dry_run, occasion.trade
        async with self._turn:
            book = shadow or await self._loaded()
        if dry_run and shadow is None:
            shadow = book = book.fork()
        slice_ = await self._ask_slice(book, occasion)
        self._refused = None
        if isinstance(slice_, NoSlice):
            self._refused = slice_.reason if slice_.connection is Connection.REFUSED else None
            await self._note_failure(slice_, dry_run=dry_run)
            return replace(self._unverified(Status.DEGRADED, slice_.reason), recheck_at=slice_.retry_at), shadow
        self._remember(slice_)
        for _ in range(ROUNDS_OF_QUESTIONS):
            async with self._turn:
                book = shadow or await self._loaded()
                decision = self._decide(book, slice_, dry_run=dry_run)
                if not decision.lookups:
                    if dry_run:
                        _apply(book, decision.events)
                    else:
                        events = decision.events
                        if trade is not None and not events and decision.status is Status.SUCCESS:
                            events = evidence_of(book, slice_, self._policy, self._runtime.now())
                        await self._write(book, self._with_trade(events, trade))
                    break
            slice_ = slice_.with_answers(await self._ask_orders(decision.lookups))
        else:
            asked = ", ".join(query.broker_order_id or query.client_order_id or "?" for query in decision.lookups)
            return self._unverified(Status.PARTIAL, f"the broker's answers left orders {asked} open"), shadow
        if not dry_run:
            await self._after(decision, slice_)
        return self._verified(book, slice_, decision), shadow

    async def _ask_slice(self, book: Book, occasion: Occasion) -> Slice | NoSlice:
        """The slice in full: rows that have not changed are those we were sent before. One that is to prove something
        rests on nothing the broker said before."""
        not_before = occasion.not_before if book.last_local_at is None else max(occasion.not_before, book.last_local_at)
        urgent = occasion.dry_run or bool(self._verdicts)
        last = self._last
        cursor = self._cursor if self._cursor is not None else book.cursor
        known = last.revision if last is not None else None
        whole = any(kind in NEEDS_PROOF for kind, _ in book.breaks)
        calm = occasion.calm and not urgent and known is not None and book.clean == known
        calm_since = self._runtime.now() - self._policy.max_age * CALM_SHARE if calm else None
        request = SliceRequest(self._settings.instrument, not_before, cursor, known, whole, urgent, calm_since)
        timeout_s = self._settings.cycle_timeout_s * SLICE_SHARE
        try:
            answer = await self._runtime.call(self._settings.account, "slice", request, timeout_s=timeout_s)
        except CallError as error:
            return NoSlice(Connection.UNREACHABLE, str(error), self._runtime.now() + LOOK_AGAIN_AFTER)
        if isinstance(answer, Unchanged):
            assert last is not None  # noqa: S101 - only then is a revision offered
            answer = replace(
                last,
                requested_at=answer.requested_at,
                as_of=answer.as_of,
                fills_cursor=answer.fills_cursor,
                whole=answer.whole,
            )
        assert isinstance(answer, Slice | NoSlice)  # noqa: S101 - the account actor gives one of these
        return answer

    async def _ask_orders(self, queries: Sequence[OrderQuery]) -> tuple[OrderAnswer, ...]:
        try:
            answers = await self._runtime.call(
                self._settings.account, "find_orders", queries, timeout_s=self._settings.cycle_timeout_s
            )
        except CallError as error:
            return tuple(OrderAnswer(query, failure=str(error)) for query in queries)
        return tuple(answers)

    def _remember(self, slice_: Slice) -> None:
        self._last = slice_
        if not isinstance(slice_.positions, Failed):
            self._conventions = slice_.conventions

    def _decide(self, book: Book, slice_: Slice, *, dry_run: bool) -> Decision:
        policy = replace(self._policy, correct=Correct.ALERT) if dry_run else self._policy
        verified_at = self._verified_at or book.reconciled_at or self._began_at
        return reconcile(book, slice_, policy, self._runtime.now(), verified_at)

    async def _note_failure(self, answer: NoSlice, *, dry_run: bool) -> None:
        """A book that has gone unverified for too long is a discrepancy of its own, journaled as such."""
        if dry_run:
            return
        now = self._runtime.now()
        failed = Failed(answer.reason)
        async with self._turn:
            book = await self._loaded()
            slice_ = Slice(
                account=self._settings.account,
                instrument=self._settings.instrument,
                requested_at=now,
                as_of=now,
                positions=failed,
                orders=failed,
                fills=failed,
                fills_cursor=None,
                conventions=self._conventions,
                revision="",
            )
            await self._write(book, self._decide(book, slice_, dry_run=False).events)

    def _with_trade(self, events: tuple[Event, ...], trade: str | None) -> tuple[Event, ...]:
        if trade is None:
            return events
        return tuple(replace(event, payload={**event.payload, "trade": trade}) for event in events)

    async def _after(self, decision: Decision, slice_: Slice) -> None:
        """What a decision asks for besides its events."""
        if decision.cursor is not None:
            self._cursor = decision.cursor
        elif isinstance(slice_.fills, Failed) and slice_.fills_cursor is not None:
            # Those fills are lost at the broker. This cycle has said so; asking for them again would find nothing.
            self._cursor = slice_.fills_cursor
        if decision.status is Status.SUCCESS:
            self._verified_at = slice_.requested_at
        for query in decision.cancels:
            await self._cancel(query)

    async def _cancel(self, query: OrderQuery) -> None:
        try:
            refused = await self._runtime.call(
                self._settings.account, "cancel_order", query, timeout_s=self._settings.cycle_timeout_s
            )
        except CallError as error:
            refused = str(error)
        outcome = "asked for" if refused is None else f"refused: {refused}"
        logger.warning("{}: cancellation of stale order {}: {}", self._name, query.broker_order_id, outcome)

    # The book

    async def _loaded(self) -> Book:
        """The book, replayed from the journal where it is not in memory."""
        if self._book is None:
            tail = await stream.load(self._runtime, self._name)
            self._book = replay(self._settings.account, self._settings.instrument, tail.records)
            self._checkpointed = tail.records[0].version if tail.records else 0
            self._cursor = self._last = None
            for record in tail.records:
                if record.version > self._recent_version:
                    self._keep(record.version, record.event)
        return self._book

    async def _write(self, book: Book, events: tuple[Event, ...]) -> None:
        """Journal, then apply.

        A stream that somebody else continued is loaded again before anything else. So is one to which our own events
        were written although no answer came: its version tells.
        """
        if not events:
            return
        try:
            await stream.append(self._runtime, self._name, book.version, events)
        except Fenced as fenced:
            logger.warning("{}: {}; loading it again", self._name, fenced)
            self._book = None
            raise
        for version, event in enumerate(events, book.version + 1):
            self._keep(version, event)
        _apply(book, events)
        if book.version - self._checkpointed >= CHECKPOINT_EVERY:
            await self._checkpoint(book)

    def _keep(self, version: int, event: Event) -> None:
        self._recent.add(event)
        self._recent_version = version

    async def _checkpoint(self, book: Book) -> None:
        event = checkpoint_event(book, self._runtime.now())
        try:
            await stream.append(self._runtime, self._name, book.version, (event,))
        except Fenced:
            self._book = None
        except JournalAway as away:
            logger.warning("{}: no checkpoint: {}", self._name, away)
        else:
            book.apply(event)
            self._checkpointed = book.version

    # Reports

    def _verified(self, book: Book, slice_: Slice, decision: Decision) -> CycleReport:
        needed = {"positions": slice_.positions, "orders": slice_.orders, "fills": slice_.fills}
        if not self._policy.positions:
            del needed["positions"]
        failed = {name: section for name, section in needed.items() if isinstance(section, Failed)}
        unknown = [f"{name} not known: {section.reason}" for name, section in failed.items()]
        return CycleReport(
            account=self._settings.account,
            instrument=self._settings.instrument,
            status=decision.status,
            error="; ".join([*unknown, *decision.unverified]) or None,
            finished_at=self._runtime.now(),
            duration_ms=0.0,
            passes=1,
            book=book_view(book),
            broker=broker_view(slice_),
            discrepancies=decision.discrepancies,
            unverified=bool(decision.unverified or unknown),
            verified_at=self._verified_at,
            recheck_at=decision.recheck_at,
        )

    def _away(self, error: str, began: datetime) -> CycleReport:
        """The journal, or another of our actors, did not answer: looked at again soon. What the broker said is told."""
        report = replace(self._unverified(Status.DEGRADED, error), recheck_at=self._runtime.now() + LOOK_AGAIN_AFTER)
        last = self._last
        heard = last is not None and last.requested_at >= began
        return replace(report, broker=broker_view(last)) if last is not None and heard else report

    def _unverified(self, status: Status, error: str) -> CycleReport:
        book = self._book
        open_breaks = tuple(Discrepancy(found, False, None) for found in book.breaks.values()) if book else ()
        return CycleReport(
            account=self._settings.account,
            instrument=self._settings.instrument,
            status=status,
            error=error,
            finished_at=self._runtime.now(),
            duration_ms=0.0,
            passes=1,
            book=book_view(book) if book is not None else {"legs": [], "open_orders": []},
            broker=dict(NOTHING_KNOWN),
            discrepancies=open_breaks,
            unverified=True,
            verified_at=self._verified_at,
        )


def _apply(book: Book, events: Sequence[Event]) -> None:
    for event in events:
        book.apply(event)
