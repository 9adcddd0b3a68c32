"""What actors say to each other beside records and slices. Frozen, picklable, and free of secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

from actors.book.break_work import BreakWork
from actors.book.discrepancies import Discrepancy
from actors.book.trading_permission import Halt
from actors.events import Json
from actors.reconciliation.reconciliation_pass import Status
from brokers.model import Cursor
from brokers.port import Remembered, StreamState

Ago = NewType("Ago", timedelta)
"""How long before a message left its sender something was; negative where it is still to come. Lengths of time mean the
same in every process and on every node, and times do not: no actor's clock is ever compared with another's."""


class Connection(StrEnum):
    """How an account stands with its broker."""

    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    UNREACHABLE = "UNREACHABLE"  # nobody answers; tried again by itself
    REFUSED = "REFUSED"  # the broker said no; a person has to act
    MALFORMED = "MALFORMED"  # what answers is not readable
    FAILED = "FAILED"  # an internal error


@dataclass(frozen=True, slots=True)
class SliceRequest:
    """Asks an account for one instrument's rows, from a snapshot requested no longer ago than ``within``: a length of
    time, which the account counts back from the arrival of this on its own clock, so that no two clocks are compared.
    ``not_before`` is the same as a time, for whoever has the account's clock, and counts where ``within`` is not set.

    ``fills_since`` is the place in the broker's fills up to which the book has dealt with everything. With
    ``known_revision`` the rows are left out when nothing has changed since. A ``whole`` snapshot is one that rests on
    nothing told before. An ``urgent`` request, a person's, does not wait out the pause after a failure. ``calm_within``
    is set where nothing but the interval asks: then it is enough to know that this long ago, at most, nothing had
    changed. ``identity`` is the lasting id of what the book is of, by the broker's word,
    where there is one. ``owners`` are the strategies of its orders, by each of their ids, where it is a combination:
    the fills of its legs are theirs. ``held`` is what the book holds of which the broker has told, ``None`` where
    positions are not compared.
    """

    instrument: str
    not_before: datetime
    fills_since: Cursor | None = None
    known_revision: str | None = None
    whole: bool = False
    urgent: bool = False
    identity: str | None = None
    calm_within: Ago | None = None
    within: Ago | None = None
    held: Remembered | None = None
    owners: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The slice asked for says what the one of this revision said, at a later time. ``asked`` as in a slice."""

    revision: str
    requested_at: datetime
    as_of: datetime
    fills_cursor: Cursor | None
    whole: bool = True
    asked: timedelta | None = None


@dataclass(frozen=True, slots=True)
class NoSlice:
    """The broker could not be asked, or did not answer readably. ``retry_at`` is when it will be asked again, by the
    account's clock and for people; ``retry_in`` is how long that is after this answer."""

    connection: Connection
    reason: str
    retry_at: datetime | None = None
    retry_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CycleReport:
    """How one cycle, or one verdict of several passes, ended.

    ``book`` and ``broker`` are the objects of the JSON contract. ``unverified`` is true when a broker or the journal
    left something unanswered, so that no verdict could be reached whatever else was found. ``trade`` is the kind of
    trade after which the check was asked for, if any. ``throttled`` says that this is an earlier report again, as no
    check was due.
    """

    account: str
    instrument: str
    status: Status
    error: str | None
    finished_at: datetime
    duration_ms: float
    passes: int
    book: Mapping[str, Json]
    broker: Mapping[str, Json]
    discrepancies: tuple[Discrepancy, ...] = ()
    unverified: bool = False
    verified_at: datetime | None = None
    recheck_at: datetime | None = None
    trade: str | None = None
    throttled: bool = False

    def to_json(self) -> dict[str, Json]:
        """The object of the JSON contract for one instrument."""
        return {
            "instrument": self.instrument,
            "status": self.status.value,
            "error": self.error,
            "passes": self.passes,
            "book": dict(self.book),
            "broker": dict(self.broker),
            "discrepancies": [found.to_json() for found in self.discrepancies],
        }


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an instrument actor has done since it started, or with those it came in the place of."""

    cycles: int = 0
    successes: int = 0
    failures: int = 0
    discrepancies: int = 0
    critical: int = 0
    corrections: int = 0
    by_type: Mapping[str, int] = field(default_factory=dict)
    mean_cycle_ms: float = 0.0
    longest_cycle_ms: float = 0.0
    by_status: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: Statistics) -> Statistics:
        """Both together: of an actor and of the one in whose place it came."""
        cycles = self.cycles + other.cycles
        kinds = self.by_type.keys() | other.by_type.keys()
        worked_ms = self.mean_cycle_ms * self.cycles + other.mean_cycle_ms * other.cycles
        return Statistics(
            cycles=cycles,
            successes=self.successes + other.successes,
            failures=self.failures + other.failures,
            discrepancies=self.discrepancies + other.discrepancies,
            critical=self.critical + other.critical,
            corrections=self.corrections + other.corrections,
            by_type={kind: self.by_type.get(kind, 0) + other.by_type.get(kind, 0) for kind in kinds},
            mean_cycle_ms=worked_ms / cycles if cycles else 0.0,
            longest_cycle_ms=max(self.longest_cycle_ms, other.longest_cycle_ms),
            by_status=Counter(self.by_status) + Counter(other.by_status),
        )

    @property
    def success_rate(self) -> float | None:
        """The share of cycles that ended SUCCESS; ``None`` before the first."""
        return self.successes / self.cycles if self.cycles else None


@dataclass(frozen=True, slots=True)
class InstrumentHealth:
    """What a probe learns of an instrument actor. ``cycle_age_s`` is the time since its last cycle finished; ``halts``
    are those it knows to apply to it, ``None`` while nobody has told it. ``fingerprint`` stands for its settings.
    ``verified_age_s`` is how long before this answer, as the actor measured it, its book was found in step as the
    report says; infinite where that counts no more, as the book is another or the clock was set. ``began_version`` is
    that of the book when this actor first had it, ``None`` before. ``work`` is what people did to its open breaks, by
    their ids; ``halts_due`` are in words the breaks that are to halt trading here and have not yet."""

    report: CycleReport | None
    statistics: Statistics
    cycle_age_s: float | None
    paused: bool
    version: int
    pid: int
    halts: tuple[Halt, ...] | None = None
    fingerprint: str | None = None
    verified_age_s: float | None = field(default=None, compare=False)
    began_version: int | None = None
    work: Mapping[str, BreakWork] = field(default_factory=dict)
    halts_due: tuple[str, ...] = ()
    next_check_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class AlertsHealth:
    """What a probe learns of the alerts actor. ``cursor`` is how far it has read the journal, ``subjects`` how much is
    amiss or not told to its end; ``waiting``, ``delivered``, ``failed`` (tries) and ``failing`` (why) are by route."""

    pid: int
    cursor: int
    caught_up: bool
    error: str | None
    subjects: int
    waiting: Mapping[str, int]
    delivered: Mapping[str, int]
    failed: Mapping[str, int]
    failing: Mapping[str, str]
    fingerprint: str | None = None

    def to_json(self) -> dict[str, Json]:
        """As ``status --json`` shows it."""
        return {
            "cursor": self.cursor,
            "caught_up": self.caught_up,
            "error": self.error,
            "subjects": self.subjects,
            "waiting": dict(self.waiting),
            "delivered": dict(self.delivered),
            "failed": dict(self.failed),
            "failing": dict(self.failing),
        }


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """What a probe learns of an account actor. ``unowned`` are instruments the account has and nobody is started
    for; ``discrepancies`` those that belong to no instrument. ``stream`` is how the broker's own stream stands, where
    it has one; ``managed`` and ``ignored`` are the instruments it knows as such, ``fingerprint`` stands for the rest of
    what it was started with. ``work`` is what people did to its open breaks, by their ids. ``call_seconds`` is how long
    its fetches have taken together, ``call_errors`` how many failed, ``clock_steps`` how often its clock was set.
    ``login`` is the broker's own id of what was reached; ``double`` is why nothing of it is believed, where another
    account reaches the same."""

    account: str
    broker: str
    connection: Connection
    error: str | None
    broker_calls: int
    fetches: int
    retry_at: datetime | None
    unowned: tuple[str, ...]
    discrepancies: tuple[Discrepancy, ...]
    pid: int
    stream: StreamState | None = None
    managed: frozenset[str] | None = None
    ignored: frozenset[str] = frozenset()
    fingerprint: str | None = None
    work: Mapping[str, BreakWork] = field(default_factory=dict)
    call_seconds: float = 0.0
    call_errors: int = 0
    clock_steps: int = 0
    login: str | None = None
    double: str | None = None

    def to_json(self) -> dict[str, Json]:
        """The account's part of the JSON contract, without its instruments."""
        return {
            "account": self.account,
            "broker": self.broker,
            "connection": self.connection.value,
            "error": self.error,
            "broker_calls": self.broker_calls,
            "discrepancies": [found.to_json() for found in self.discrepancies],
        }
