"""The state of one pass: the working book, the events that led to it, and the discrepancies found so far.

The laws of this module: the real book is never changed (the first event makes a copy); an event is applied to the
working book exactly as the journal's reader will apply it; under ``correct: alert`` a correction is tried on the
working book, so that a difference it explains is not reported a second time, but it is not written; a correction that a
person approved is written if it does not depend on one that was only tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from actors.book import payloads
from actors.book.book import Book, UnsyncedFills
from actors.book.break_work import WorkStep, approved_for
from actors.book.discrepancies import (
    IN_A_TABLE,
    Break,
    Cause,
    Correction,
    Discrepancy,
    DiscrepancyType,
    Phase,
)
from actors.book.policy import Correct, Policy
from actors.events import Event, EventType, Json, Severity, event_id
from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import ContractFacts, Failed, IdScope, OrderAnswer, OrderQuery, Slice
from brokers.versions import across_versions

IN_A_TABLE_TOO = frozenset(
    {
        DiscrepancyType.MISSING_LOCALLY,
        DiscrepancyType.NAKED_POSITION,
        DiscrepancyType.POSITION_MISMATCH,
        DiscrepancyType.PRICE_MISMATCH,
    }
)
"""The differences that belong to a book kept elsewhere, if there is one, and are corrected there."""
Subject = tuple[DiscrepancyType, str]
"""The type and key of a difference: a book has at most one open break of each."""


_NONE = Decimal(0)


class Status(StrEnum):
    """How a cycle ended, best first."""

    SUCCESS = "SUCCESS"  # in step, no open break
    PARTIAL = "PARTIAL"  # a section is unknown, a row unreadable, or a break open
    DEGRADED = "DEGRADED"  # the broker or the journal could not be reached: the book is unverified
    FAILED = "FAILED"  # an internal error


@across_versions
@dataclass(frozen=True, slots=True)
class ClaimCorrection:
    """A row that a book kept elsewhere lacks: the broker's position in a leg, and the break that the row ends."""

    discrepancy: str
    leg: str
    quantity: Decimal
    average_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of one pass.

    If ``lookups`` is not empty, nothing else is decided yet: look up these orders at the broker and reconcile the slice
    again with the answers. Otherwise journal ``events`` and then apply them, and cancel the stale orders in ``cancels``
    at the broker. ``recheck_at`` is when a verdict needs another look (``None``: the next regular one suffices).
    ``unverified`` names what the broker left unanswered. ``claim_corrections`` are rows that a book kept elsewhere
    lacks. ``cursor`` is the place in the broker's fills up to which this book has handled everything, ``None`` if it
    has not.
    """

    status: Status
    events: tuple[Event, ...] = ()
    discrepancies: tuple[Discrepancy, ...] = ()
    lookups: tuple[OrderQuery, ...] = ()
    cancels: tuple[OrderQuery, ...] = ()
    recheck_at: datetime | None = None
    unverified: tuple[str, ...] = ()
    cursor: int | None = None
    claim_corrections: tuple[ClaimCorrection, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference as a phase finds it. ``correction`` is ``None`` if there is none; one that is ``for_a_person`` is
    made only with a person's approval.

    A difference that ``needs_proof`` (law 4: its correction destroys) is corrected only after enough COMPLETE sections,
    each requested ``settle`` after ``activity``, our side's last action on the subject.
    """

    type: DiscrepancyType
    key: str
    phase: Phase
    severity: Severity
    book_value: str | None
    broker_value: str | None
    correction: Correction | None
    cause: Cause | None = None
    difference: str | None = None
    needs_proof: bool = False
    activity: datetime | None = None
    cancel_asked: bool = False
    strategy: str | None = None
    linked: tuple[str, ...] = ()
    detail: str | None = None
    for_a_person: bool = False

    @property
    def subject(self) -> Subject:
        """Its type and key."""
        return self.type, self.key


@dataclass(frozen=True, slots=True)
class Trial:
    """A difference with a correction that a pass under ``alert`` found, and whether the correction is ``approved``."""

    finding: Finding
    approved: bool


class ReconciliationPass:
    """The state of one pass. Only the phases change it, through :meth:`found`, :meth:`emit`, :meth:`tidy` and the like.

    ``approved`` are the subjects whose correction a person approved: it may be written although the policy is
    ``alert``.
    """

    def __init__(
        self,
        book: Book,
        slice_: Slice,
        policy: Policy,
        now: datetime,
        approved: frozenset[Subject] = frozenset(),
    ) -> None:
        self.book = book
        self.slice = slice_
        self.policy = policy
        self.now = now
        self.auto = policy.correct is Correct.AUTO
        self.new_book = book.baseline is None
        self.order_ids_recur = slice_.conventions.order_ids is not IdScope.ACCOUNT
        self.events: list[Event] = []
        self.discrepancies: dict[str, Discrepancy] = {}
        self.touched: set[tuple[DiscrepancyType, str]] = set()
        self.deferred: set[str] = set()
        self.held_back: set[str] = set()
        self.fills_wait = False  # some fills were not handled: they are requested again
        self.lookups: list[OrderQuery] = []
        self.cancels: list[OrderQuery] = []
        self.unverified: list[str] = []
        self.recheck_at: datetime | None = None
        self.links: dict[str, str] | None = None
        self.wanted: dict[str, Break] = {}
        self.trials: list[Trial] = []
        self.tried_legs: set[str] = set()
        self.later_fills: set[str] = set()  # the legs of fills from after the slice's positions
        self.tidied = False
        self._approved = approved
        self._made: set[Subject] = set()
        self._last: Subject | None = None
        self._original = book
        self._as_written: Book | None = None
        self._answers: dict[tuple[str | None, str | None], OrderAnswer] | None = None

    @property
    def contract(self) -> ContractFacts | None:
        """The broker's description of the instrument: from this slice, or else the last one."""
        return self.slice.contract if self.slice.contract is not None else self.book.contract

    @property
    def as_written(self) -> Book:
        """The book as the next pass finds it, without corrections that were only tried. Events that are written in any
        case must depend on it alone: otherwise the next look, without those trials, would decide differently."""
        return self.book if self._as_written is None else self._as_written

    def answer(self, query: OrderQuery) -> OrderAnswer | None:
        """The broker's answer to this query, if it was sent, possibly before the order's broker_order_id was known."""
        if self._answers is None:
            self._answers = {
                (a.order.broker_order_id, a.query.client_order_id): a for a in self.slice.answers if a.order is not None
            }
            self._answers |= {(a.query.broker_order_id, a.query.client_order_id): a for a in self.slice.answers}
        return self._answers.get((query.broker_order_id, query.client_order_id))

    def emit(
        self,
        kind: EventType,
        payload: Mapping[str, Json],
        identity: str,
        severity: Severity = Severity.INFO,
        subject: Subject | None = None,
        source: object = None,
    ) -> None:
        """Apply the correction of a difference (the last one found, unless ``subject`` names another) to the working
        book, and write it unless it is only tried. ``source`` is the object that the payload was built from."""
        written = self.auto or (subject or self._last) in self._made
        if not written and isinstance(legs := payload.get("legs"), list):
            self.tried_legs.update(str(leg[0]) for leg in legs if isinstance(leg, list))
        self._apply(self._event(kind, payload, identity, severity, source), written=written)

    def tidy(self, kind: EventType, payload: Mapping[str, Json], identity: str) -> None:
        """As :meth:`emit`, for a change that is no difference by itself: merged orders, a fill that already counts."""
        self.tidied = self.tidied or "order" in payload
        self._apply(self._event(kind, payload, identity, Severity.INFO), written=self.auto)

    def note(self, kind: EventType, payload: Mapping[str, Json], identity: str) -> None:
        """Apply and write an event that corrects nothing, under every policy."""
        self._apply(self._event(kind, payload, identity, Severity.INFO), written=True)

    def evidence(self, payload: Mapping[str, Json]) -> None:
        """Apply and write a RECONCILED, under every policy."""
        self.note(EventType.RECONCILED, payload, "reconciled")

    def found(self, it: Finding) -> bool:
        """Report a difference. True if the caller must now make its correction (or try it, under ``alert``)."""
        elsewhere = self.slice.claims is not None and it.type in IN_A_TABLE_TOO
        may_try = not self.auto and not elsewhere and it.correction is not None and not it.for_a_person
        if not self.auto and it.subject in self.touched:
            return may_try  # one break for each subject: the first report of this pass stands
        self._last = it.subject
        old = self.book.breaks.get(it.subject)
        if old is not None and _is_of_the_first_look(it, old):
            it = replace(it, severity=old.severity, cause=old.cause)
        offers = it.correction if it.for_a_person or not self.auto else None
        approval = self._approval(it, old) if offers is not None else None
        if not self.auto and it.correction is not None:
            self.trials.append(Trial(it, approval is not None))
        approved = approval is not None and (self.auto or it.subject in self._approved)
        by_itself = self.auto and not it.for_a_person
        # A correction for a person collects its proof too, so that the proof exists when it is approved.
        sightings = self._sightings(it, old) if it.needs_proof and (self.auto or approved) else ()
        proven = not it.needs_proof or len(sightings) >= self.policy.confirmations
        may_correct = it.correction is not None and proven and (by_itself or approved)
        correct_now = may_correct and not elsewhere
        new = Break(
            id=self._break_id(it) if old is None else old.id,
            type=it.type,
            key=it.key,
            severity=it.severity,
            phase=it.phase,
            cause=it.cause,
            book_value=it.book_value,
            broker_value=it.broker_value,
            difference=it.difference,
            opened_at=old.opened_at if old is not None else self.now,
            seen_at=sightings,
            cancel_asked=it.cancel_asked or (old is not None and old.cancel_asked),
            strategy=it.strategy,
            linked=it.linked,
            detail=it.detail,
            alias=IN_A_TABLE.get(it.type) if self.slice.claims is not None else None,
            offers=offers,
            halts=self._halts(it.type, it.severity, old),
            first_look=self._first_look(old),
        )
        if may_correct and elsewhere:
            self.wanted[it.key] = new
        if correct_now:
            self._made.add(it.subject)
        if correct_now and old is not None:
            self._resolve(new, it.correction, approval if approved else None)
        elif correct_now or (new != old and not self._is_kept_back(new, old)):
            self._report(new, resolved=correct_now, correction=it.correction if correct_now else None)
        self.touched.add((it.type, it.key))
        self.discrepancies[new.id] = Discrepancy(new, correct_now, it.correction if correct_now else None)
        return correct_now or may_try

    def _is_kept_back(self, new: Break, old: Break | None) -> bool:
        """Whether the report of an open break that flaps is suppressed, because no decision depends on it. A new
        sighting, another severity and a halt of trading are always reported."""
        if old is None or not self.book.recent_reports.flaps((new.type, new.key), self.now):
            return False
        return new.seen_at == old.seen_at and new.severity is old.severity and new.halts == old.halts

    def _approval(self, it: Finding, old: Break | None) -> WorkStep | None:
        """The approval of the correction of exactly this difference, from before this slice was requested."""
        if old is None or not self.policy.approvals:
            return None
        work = self.book.work.get(old.id)
        return approved_for(work, (it.book_value, it.broker_value), self.slice.requested_at)

    def _halts(self, kind: DiscrepancyType, severity: Severity, old: Break | None) -> bool:
        """Whether a difference halts trading; a break that does continues to."""
        if kind in self.policy.halt_on or (old is not None and old.halts):
            return True
        after = dict(self.policy.halt_after).get(severity)
        return after is not None and self.now - (old.opened_at if old is not None else self.now) >= after

    def stands(self, found: Break) -> Break:
        """An open break that this pass did not check, or found unchanged; reported again if its age now halts
        trading."""
        if found.halts or not self._halts(found.type, found.severity, found):
            return found
        found = replace(found, halts=True)
        self._report(found, resolved=False, correction=None)
        return found

    def gone(self, found: Break, correction: Correction | None = None) -> None:
        """Resolve an open break whose difference no longer exists. ``correction`` is the correction that was made
        outside of our book, if any."""
        self._resolve(found, correction)
        self.discrepancies[found.id] = Discrepancy(found, resolved=True, correction=correction)

    def still_open(self, found: Break) -> None:
        """List an open break that this pass did not report."""
        self.discrepancies[found.id] = Discrepancy(found, resolved=False, correction=None)

    def defer(self, key: str, until: datetime | None = None) -> None:
        """Conclude nothing about this leg or order from this slice, and look again."""
        self.deferred.add(key)
        self.look_again(until if until is not None else self.now + self.policy.confirm_gap)

    def may_judge(self, leg: str, change: Decimal = _NONE) -> bool:
        """Whether this slice is new enough to judge a leg; if not, another look is requested. A leg is not judged while
        its change may come from an order whose outcome is unknown. A ``change`` that takes back reported fills may be a
        position that lags behind them."""
        if leg in self.held_back:
            self.defer(leg)
            return False
        return self.is_settled(leg, change)

    def is_settled(self, leg: str, change: Decimal = _NONE) -> bool:
        """Whether this slice is new enough for the position of a leg; if not, another look is requested."""
        settled_at = self.settled_at(self.book.activity.get(leg))
        if settled_at is not None:
            self.defer(leg, settled_at)
            return False
        known_at = self.leg_changed_at(leg)
        if known_at is not None and self.slice.requested_at <= known_at:
            self.defer(leg)
            return False
        settled_at = self.settled_at(self.last_activity(leg, change))
        if settled_at is not None:
            self.defer(leg, settled_at)
            return False
        return True

    def newer_legs(self) -> frozenset[str]:
        """The legs with a fill that this slice's positions need not contain: by the broker's time it came after them,
        or it was heard of after they were requested."""
        since = self.slice.requested_at
        newer = self.later_fills | {leg for leg, at in self._original.known_at.items() if at >= since}
        for reported in self._original.reported.values():
            if reported.fill.time > self.slice.as_of and self.settled_at(reported.at) is not None:
                newer.update(leg for leg, _ in reported.fill.legs)
        return frozenset(newer)

    def has_newer_fill(self, leg: str) -> bool:
        """Whether the book has a fill of a leg that its broker reported after this slice was requested."""
        fills = self._original.unsynced.get(leg)
        return fills is not None and fills.at >= self.slice.requested_at

    @property
    def place(self) -> str:
        """The version of the next event of this pass, which makes a name unique for ever."""
        return str(self._next_version())

    def look_again(self, at: datetime) -> None:
        """Request another look at that time, or earlier if there is another reason for it."""
        at = max(at, self.now)
        self.recheck_at = at if self.recheck_at is None else min(at, self.recheck_at)

    def last_activity(self, leg: str, change: Decimal) -> datetime | None:
        """When our side last acted on a leg, or its broker reported a fill that the change takes back: the position may
        lag behind either."""
        ours = self.book.activity.get(leg)
        if not self.undoes_fills(leg, change):
            return ours
        reported = self._unsynced[leg].at
        return reported if ours is None else max(ours, reported)

    def undoes_fills(self, leg: str, change: Decimal) -> bool:
        """Whether a difference takes back one or several of the newest fills that the broker reported for a leg since
        its position was last in step or set."""
        fills = self._unsynced.get(leg)
        return fills is not None and bool(change) and fills.low <= -change <= fills.high

    @property
    def _unsynced(self) -> Mapping[str, UnsyncedFills]:
        return (self.book if self.auto else self._original).unsynced

    def leg_changed_at(self, leg: str) -> datetime | None:
        """When the broker last reported a change of a leg. A correction that is only tried, under ``alert``, does not
        count: it would keep the leg from ever being judged."""
        return (self.book if self.auto else self._original).known_at.get(leg)

    def settled_at(self, activity: datetime | None) -> datetime | None:
        """The earliest request time at which a slice counts after that activity; ``None`` if this one does."""
        if activity is None or self.slice.requested_at >= activity + self.policy.settle:
            return None
        return activity + self.policy.settle

    def _sightings(self, it: Finding, old: Break | None) -> tuple[datetime, ...]:
        """The times that count as proof, including this slice's if it counts."""
        taken_at = self.slice.requested_at
        since = None if it.activity is None else it.activity + self.policy.settle
        same = old is not None and old.book_value == it.book_value  # else they are of another state of the subject
        seen = tuple(at for at in old.seen_at if since is None or at >= since) if old is not None and same else ()
        if len(seen) >= self.policy.confirmations:
            return seen
        if since is not None and taken_at < since:
            self.look_again(since)
        elif not self.slice.whole:
            pass  # the slice reuses an earlier answer: a mistake in that one would confirm itself
        elif not seen or (taken_at > seen[-1] and taken_at - seen[-1] >= self.policy.confirm_gap):
            seen = (*seen, taken_at)
        if len(seen) < self.policy.confirmations:
            self.look_again(max(self.now, taken_at) + self.policy.confirm_gap)
        return seen

    def _break_id(self, it: Finding) -> str:
        return event_id(self.book.stream, str(self._next_version()), it.type, it.key)

    def _report(self, found: Break, *, resolved: bool, correction: Correction | None) -> None:
        payload = payloads.break_to(found, resolved=resolved, correction=correction)
        kind = EventType.RECONCILIATION_DISCREPANCY
        self._apply(self._event(kind, payload, found.id, found.severity, found), written=True)

    def _first_look(self, old: Break | None) -> BrokerTime | None:
        if self.new_book and self._shows_what_is_there():
            return self.slice.as_of
        return old.first_look if old is not None else None

    def _shows_what_is_there(self) -> bool:
        """Whether this look can be the first: it has positions and orders, and is recent."""
        unknown = isinstance(self.slice.orders, Failed) or (
            self.policy.positions and isinstance(self.slice.positions, Failed)
        )
        return not unknown and self.now - self.slice.requested_at <= self.policy.max_age

    def _resolve(self, found: Break, correction: Correction | None, approval: WorkStep | None = None) -> None:
        payload = payloads.break_to(replace(found, seen_at=(), first_look=None), resolved=True, correction=correction)
        if approval is not None:
            payload["approved_by"] = approval.by
        self._apply(self._event(EventType.DISCREPANCY_RESOLVED, payload, found.id, Severity.INFO), written=True)

    def _next_version(self) -> int:
        return self._original.version + len(self.events) + 1

    def _event(
        self, kind: EventType, payload: Mapping[str, Json], identity: str, severity: Severity, source: object = None
    ) -> Event:
        name = event_id(self.book.stream, str(self._next_version()), kind, identity)
        return Event(name, kind, severity, self.now, payload, source)

    def _apply(self, event: Event, *, written: bool) -> None:
        if self.book is self._original:
            self.book = self.book.fork()
        if not written and self._as_written is None:
            self._as_written = self.book.fork()
        self.book.apply(event)
        if written and self._as_written is not None:
            self._as_written.apply(event)
        if written:
            self.events.append(event)


def _is_of_the_first_look(it: Finding, old: Break) -> bool:
    """Whether an open break existed when the book was first compared, and has not changed since."""
    if old.severity is not Severity.INFO:
        return False
    if old.first_look is not None and it.book_value == old.book_value and it.broker_value == old.broker_value:
        return True
    if old.cause is not None:
        return False
    same = it.type is DiscrepancyType.MISSING_LOCALLY and it.broker_value == old.broker_value
    return same or it.type is DiscrepancyType.EXTERNAL_ORDER
