"""One cycle of an instrument: slice → decide → journal → apply → report.

The laws of this module:

* Whatever goes wrong in a cycle, it ends in a typed report.
* The request to the broker runs outside our turn at the book; the decision is made in our own turn, on the book as it
  is then, and written in that same turn.
* Executions that the broker's stream reported are recorded in one turn, without a request to anything but the journal;
  the next cycle reports them, and verifies them like everything else.
* A dry run decides on a copy of the book and writes nothing.
* A cycle that is fenced starts again once, on the book loaded again. So does one during which our clock was set while
  the broker was asked: that time is by another clock than the book's times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from loguru import logger

from actors.book.book import Book
from actors.book.discrepancies import Discrepancy
from actors.book.policy import Correct
from actors.instrument.account_client import LOOK_AGAIN_AFTER, AccountClient
from actors.instrument.book_keeper import BookKeeper, apply
from actors.instrument.reports import away, unverified, verified
from actors.instrument.settings import CycleTrigger, InstrumentSettings
from actors.instrument.shared_proof import SharedProof
from actors.instrument.slice_keeper import SliceKeeper
from actors.journal.client import Fenced, JournalAway
from actors.messages import Connection, CycleReport, NoSlice
from actors.names import instrument_name
from actors.reconciliation.grounds import Grounds
from actors.reconciliation.reconciliation_pass import Decision, Status
from actors.runtime.ports import CallError
from actors.runtime.steady_clock import SteadyRuntime
from brokers.model import Slice, StreamedFill

ROUNDS_OF_QUESTIONS = 3


class _ClockWasSet(Exception):
    """Our clock was set while the broker was asked: that time is by another clock than the book's times."""

    def __str__(self) -> str:
        found = "this machine's clock was set while the broker was being asked, so its answer cannot be dated"
        return f"{found}. It is asked again"


class CycleRunner:
    """Runs the cycles of one instrument. The caller of :meth:`run` runs one at a time.

    ``refused`` is why the broker does not answer, while it does not. ``is_awaited`` returns whether a caller waits for
    a verdict.
    """

    def __init__(
        self,
        settings: InstrumentSettings,
        runtime: SteadyRuntime,
        keeper: BookKeeper,
        broker: AccountClient,
        is_awaited: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._name = instrument_name(settings.account, settings.instrument)
        self._runtime = runtime
        self._policy = settings.policy
        self._keeper = keeper
        self._broker = broker
        self._is_awaited = is_awaited
        self._slices = SliceKeeper(self._name, runtime) if settings.keep_slices else None
        self._proof = SharedProof(settings, runtime)
        self._began_at: datetime | None = None
        self._verified: tuple[datetime, Book, int] | None = None
        self.refused: str | None = None
        self._executed: list[StreamedFill] = []
        self._found_in_stream: dict[str, Discrepancy] = {}

    @property
    def verified_at(self) -> datetime | None:
        """When the broker was asked for the last slice that agreed with the book in memory, by the present clock:
        nothing from another book, or from before the clock was set, verifies it."""
        if self._verified is None:
            return None
        at, book, stepped = self._verified
        return at if book is self._keeper.book and stepped == self._keeper.stepped else None

    async def run(
        self, occasion: CycleTrigger, shadow: Book | None, began: datetime
    ) -> tuple[CycleReport, Book | None]:
        """One cycle, whatever happens in it. ``shadow`` is the copy of the book that a dry run continues with."""
        if self._began_at is None:
            self._began_at = began
        limit_s = self._settings.cycle_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                try:
                    return await self._look(occasion, shadow)
                except Fenced:
                    return await self._look(occasion, shadow)
                except _ClockWasSet:
                    return await self._look(occasion, None)
        except TimeoutError:
            report = self._unverified(Status.DEGRADED, f"the cycle did not end within {limit_s:g} s")
        except (JournalAway, Fenced, _ClockWasSet, CallError) as error:
            report = self._unverified(Status.DEGRADED, str(error))
            report = away(report, self._runtime.now() + LOOK_AGAIN_AFTER, self._broker.last, began)
        except Exception as error:  # noqa: BLE001 - whatever the error, the next cycle tries again
            logger.exception("{}: the cycle failed", self._name)
            report = self._unverified(Status.FAILED, f"an internal error: {type(error).__name__}: {error}")
        return report, shadow

    async def take(self, executed: Sequence[StreamedFill]) -> None:
        """Record executions that the stream reported in the book, as far as enough is known of them; durable on return.
        The next cycle handles the rest, whatever the reason. Executions that arrive during the wait for the turn are
        recorded together with these."""
        self._executed += executed
        try:
            async with self._keeper.turn:
                executed, self._executed = self._executed, []
                if executed and self._keeper.book is not None and not self._runtime.clock.step:
                    await self._take(executed)
        except (JournalAway, Fenced, CallError) as error:
            logger.warning("{}: executions from the broker's stream wait for the next cycle: {}", self._name, error)
        except Exception:  # noqa: BLE001 - whatever the error, the look that follows finds the same executions
            logger.exception("{}: an internal error while recording executions from the stream", self._name)

    async def _take(self, executed: Sequence[StreamedFill]) -> None:
        book = await self._keeper.loaded()
        slice_ = self._broker.streamed(book, executed, self._runtime.now())
        if slice_ is None:
            return
        grounds = self._grounds(book, slice_, CycleTrigger(slice_.requested_at))
        decision = grounds.decide()
        if decision.events:
            await self._write(grounds, decision)
            self._found_in_stream.update({found.found.id: found for found in decision.discrepancies})

    def found_in_stream(self) -> tuple[Discrepancy, ...]:
        """The discrepancies found in the stream's executions since the last call."""
        found, self._found_in_stream = tuple(self._found_in_stream.values()), {}
        return found

    async def _look(self, occasion: CycleTrigger, shadow: Book | None) -> tuple[CycleReport, Book | None]:
        dry_run = occasion.dry_run
        async with self._keeper.turn:
            book = shadow or await (self._keeper.loaded() if dry_run else self._keeper.in_time())
            stepped = self._keeper.stepped
        if dry_run and shadow is None:
            shadow = book = self._keeper.shadow_of(book)
        seen_at = self._keeper.in_step_at(book)
        slice_ = await self._broker.slice(book, occasion, seen_at, urgent=dry_run or self._is_awaited())
        self.refused = None
        if isinstance(slice_, NoSlice):
            return await self._no_slice(slice_, occasion), shadow
        self._check_clock(stepped)
        self._broker.remember(slice_)
        for _ in range(ROUNDS_OF_QUESTIONS):
            async with self._keeper.turn:
                self._check_clock(stepped)
                book = shadow or await self._keeper.loaded()
                grounds = self._grounds(book, slice_, occasion)
                decision, in_step = (grounds.decide(), None) if dry_run else self._proof.decide(grounds)
                if not decision.lookups:
                    if dry_run:
                        apply(book, decision.events)
                    else:
                        await self._write(grounds, decision)
                    break
            slice_ = slice_.with_answers(await self._broker.find_orders(decision.lookups))
        else:
            orders = ", ".join(query.broker_order_id or query.client_order_id or "?" for query in decision.lookups)
            return self._unverified(
                Status.PARTIAL, f"the broker's answers do not show what became of orders {orders}. It is asked again"
            ), shadow
        if not dry_run:
            if decision.status is Status.SUCCESS:
                self._verified = slice_.requested_at, book, stepped
            if in_step is not None and await self._proof.report(in_step):
                self._keeper.named(book, in_step.requested_at)
            await self._after(decision, slice_)
        return verified(self._settings, book, slice_, decision, self.verified_at, self._runtime.now()), shadow

    def _check_clock(self, stepped: int) -> None:
        if self._keeper.stepped != stepped:
            raise _ClockWasSet

    def _grounds(self, book: Book, slice_: Slice, occasion: CycleTrigger) -> Grounds:
        policy = self._policy
        if occasion.dry_run:
            policy = replace(policy, correct=Correct.ALERT, approvals=False, halt_on=(), halt_after=())
        verified_at = self.verified_at or self._keeper.in_step_at(book) or self._began_at
        return Grounds(book, slice_, policy, self._runtime.now(), verified_at, occasion.trade, occasion.asked)

    async def _write(self, grounds: Grounds, decision: Decision) -> None:
        """Journal and apply the decision, after its grounds are kept if that is configured."""
        events = grounds.events_of(decision)
        if self._slices is not None:
            events = await self._slices.with_pass(grounds, events)
        await self._keeper.write(grounds.book, events)
        self._proof.written(grounds.book, grounds.slice, decision)

    async def _after(self, decision: Decision, slice_: Slice) -> None:
        """Carry out what a decision requests besides its events."""
        self._broker.dealt_with(decision, slice_)
        for query in decision.cancels:
            await self._broker.cancel(query)
        if decision.claim_corrections and self._settings.writable_table:
            await self._broker.correct_table(decision.claim_corrections)

    async def _no_slice(self, answer: NoSlice, occasion: CycleTrigger) -> CycleReport:
        """The broker returned no slice. A book that has been unverified for too long is a discrepancy of its own, and
        is journaled as one."""
        self.refused = answer.reason if answer.connection is Connection.REFUSED else None
        if not occasion.dry_run:
            async with self._keeper.turn:
                book = await self._keeper.in_time()
                now = self._runtime.now()
                grounds = self._grounds(book, self._broker.nothing_known(answer.reason, now), occasion)
                decision = grounds.decide()
                if decision.events:
                    await self._write(grounds, decision)
        return replace(self._unverified(Status.DEGRADED, answer.reason), recheck_at=answer.retry_at)

    def _unverified(self, status: Status, error: str) -> CycleReport:
        return unverified(self._settings, status, error, self._keeper.book, self.verified_at, self._runtime.now())
