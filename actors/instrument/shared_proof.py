"""Decides whether a book that is in step writes that itself, or has its account write it for many at once.

The laws of this module:

* The decision is made as always. Only where a RECONCILED is its single event, nothing was written since the last one,
  and the broker's answer is the same as then, that one event is reported to the account and not written.
* Anything new is written at once: a trade's check, a change, another answer of the broker, a book that was loaded.
* If the account does not accept it, the instrument writes the next one itself.
* At least once a day an instrument writes its own.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from actors.book.book import Book
from actors.book.in_step import GATHERED_AT_LEAST_AFTER, OWN_AT_LEAST_EVERY, InStep
from actors.events import EventType
from actors.instrument.settings import InstrumentSettings
from actors.instrument.ticks import tick
from actors.reconciliation.decide import RECONCILED_AT_MOST_EVERY, unchanged
from actors.reconciliation.grounds import Grounds
from actors.reconciliation.reconciliation_pass import Decision, Status
from actors.runtime.ports import CallError, Runtime
from brokers.model import Slice

REPORT_WITHIN_S = 2.0


class SharedProof:
    """The proofs of one instrument that its account writes."""

    def __init__(self, settings: InstrumentSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._of: tuple[Book, int, str] | None = None
        self._reported_at: datetime | None = None

    def decide(self, grounds: Grounds) -> tuple[Decision, InStep | None]:
        """The decision, and the report to the account in place of its only event."""
        own = grounds.book.reconciled_at
        if own is None or not self._may_share(grounds, own):
            return grounds.decide(), None
        due = self._is_due(own, grounds.now)
        if not due and unchanged(grounds.book, grounds.slice, grounds.policy, grounds.now):
            return Decision(Status.SUCCESS, cursor=grounds.slice.fills_cursor), None
        decision = grounds.decide()
        if [event.type for event in decision.events] != [EventType.RECONCILED]:
            return decision, None
        (proof,) = decision.events
        if "contract" in proof.payload:
            return decision, None
        in_step = InStep(self._settings.instrument, grounds.book.version, proof.payload) if due else None
        return replace(decision, events=()), in_step

    def _may_share(self, grounds: Grounds, own: datetime) -> bool:
        asked = grounds.trade is not None or bool(grounds.asked)
        if self._of is None or asked or grounds.now - own >= OWN_AT_LEAST_EVERY:
            return False
        book, version, revision = self._of
        return grounds.book is book and (version, revision) == (book.version, grounds.slice.revision)

    def _is_due(self, own: datetime, now: datetime) -> bool:
        last = own if self._reported_at is None else max(own, self._reported_at)
        grid = tick(self._settings.account, RECONCILED_AT_MOST_EVERY.total_seconds(), now, after=False)
        return grid - last >= GATHERED_AT_LEAST_AFTER

    def written(self, book: Book, slice_: Slice, decision: Decision) -> None:
        """The decision's events are in the book."""
        if any(event.type is EventType.RECONCILED for event in decision.events):
            self._of, self._reported_at = (book, book.version, slice_.revision), None

    async def report(self, in_step: InStep) -> bool:
        """Report the proof to the account, which writes it. Returns False if the account was not reached: then the
        instrument writes the next one."""
        try:
            await self._runtime.call(self._settings.account, "in_step", in_step, timeout_s=REPORT_WITHIN_S)
        except CallError:
            self._of = None
            return False
        self._reported_at = self._runtime.now()
        return True
