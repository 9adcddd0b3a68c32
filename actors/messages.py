"""The messages between actors besides records and slices. Frozen, picklable, and free of secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

from actors.book.break_work import BreakWork
from actors.book.discrepancies import Discrepancy
from actors.book.trading_permission import Halt
from actors.events import Json
from actors.reconciliation.reconciliation_pass import Status
from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import Cursor
from brokers.port import Remembered, StreamState
from brokers.versions import Program, across_versions

Ago = NewType("Ago", timedelta)
"""How long before a message left its sender something was; negative where it is still to come. Lengths of time mean the
same in every process and on every node, and times do not: no actor's clock is ever compared with another's."""


class Connection(StrEnum):
    """The state of an account's connection to its broker."""

    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    UNREACHABLE = "UNREACHABLE"  # there is no answer; retried automatically
    REFUSED = "REFUSED"  # the broker refused; a person has to act
    MALFORMED = "MALFORMED"  # the answer is not readable
    FAILED = "FAILED"  # an internal error


@across_versions
@dataclass(frozen=True, slots=True)
class SliceRequest:
    """Requests one instrument's rows from an account, from a snapshot requested no longer ago than ``within``: a length
    of time, which the account counts back from the arrival of this request on its own clock, so that no two clocks are
    compared. ``not_before`` is the same as a time of the account's own clock, and counts where ``within`` is not set.

    ``fills_since`` is the place in the broker's fills up to which the book has handled everything. With
    ``known_revision`` the rows are left out if nothing has changed since. A ``whole`` snapshot relies on nothing that
    was reported before. An ``urgent`` request, a person's, does not wait out the pause after a failure. ``calm_within``
    is set for a scheduled request: then it is enough to know that nothing had changed up to this long ago. ``identity``
    is the broker's permanent id of the book's contract, if there is one. ``owners`` are the strategies of its orders,
    by each of their ids, for a combination: they also own the fills of its legs. ``held`` is what the book holds by
    the broker's reports, ``None`` where positions are not compared.
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


@across_versions
@dataclass(frozen=True, slots=True)
class Unchanged:
    """The requested slice equals that of this revision, at a later time. ``asked`` as in a slice."""

    revision: str
    requested_at: datetime
    as_of: BrokerTime
    fills_cursor: Cursor | None
    whole: bool = True
    asked: timedelta | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class NoSlice:
    """The broker could not be asked, or its answer was unreadable. ``retry_at`` is the time of the next try, by the
    account's clock and for people; ``retry_in`` is how long after this answer that is."""

    connection: Connection
    reason: str
    retry_at: datetime | None = None
    retry_in: timedelta | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class CycleReport:
    """The result of one cycle, or of one verdict of several passes.

    ``book`` and ``broker`` are the objects of the JSON contract. ``unverified`` is true when a broker or the journal
    left something unanswered, so that there is no verdict whatever else was found. ``trade`` is the kind of trade that
    the check followed, if any. ``throttled`` means that this is an earlier report again, since no check was due.
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


@across_versions
@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of an instrument actor since it started, or together with its former incarnations'."""

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
        """Both together: an actor's and those of its former incarnation."""
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


@across_versions
@dataclass(frozen=True, slots=True)
class InstrumentHealth:
    """An instrument actor's answer to a probe. ``cycle_age_s`` is the time since its last cycle finished; ``halts`` are
    those that it knows to apply to it, ``None`` before it has received them. ``fingerprint`` covers its settings.
    ``verified_age_s`` is how long before this answer, as the actor measured it, its book was found in step by the
    report; infinite where that no longer counts, since the book is another or the clock was set. ``began_version`` is
    the version at which this actor first loaded its book, ``None`` before. ``work`` is the operators' work on its open
    breaks, by break id; ``halts_due`` describes the breaks that should halt trading here and have not yet.
    ``program`` is what its process runs."""

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
    program: Program | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class AlertsHealth:
    """The alerts actor's answer to a probe. ``cursor`` is how far it has read the journal, ``subjects`` the number of
    problems that are open or whose end is not reported; ``waiting``, ``delivered``, ``failed`` (tries) and ``failing``
    (why) are by route. ``program`` is what its process runs."""

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
    program: Program | None = None

    def to_json(self) -> dict[str, Json]:
        """The form of ``status --json``."""
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


@across_versions
@dataclass(frozen=True, slots=True)
class AccountHealth:
    """An account actor's answer to a probe. ``unowned`` are instruments of the account for which no actor is started;
    ``discrepancies`` those that belong to no instrument. ``stream`` is the state of the broker's own stream, if it has
    one; ``managed`` and ``ignored`` are the instruments that it knows as such, ``fingerprint`` covers the rest of its
    settings. ``work`` is the operators' work on its open breaks, by break id. ``call_seconds`` is the total time of its
    fetches, ``call_errors`` how many failed, ``clock_steps`` how often its clock was set. ``login`` is the broker's own
    id of the account that was reached; ``double`` is why nothing of it is believed, where another account reaches the
    same login. ``program`` is what its process runs."""

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
    program: Program | None = None

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
