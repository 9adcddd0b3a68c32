"""Whether trading in an instrument is allowed, and if not, why: the question a strategy asks before every order. Pure.

The laws of this module: unknown means not allowed (a book never verified, halts not received yet); every reason is
given, not only the first; a halt is a journal record in the stream of what it stops, and only a later TRADING_RESUMED
in the same stream ends it. The system itself never trades: this is an answer, not an action.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum

from actors.book.discrepancies import OF_A_POSITION_OR_AN_ORDER, Break, DiscrepancyType
from actors.book.payloads import ReportedFill
from actors.events import EventType, Json, Record, Severity, to_iso, to_text
from actors.names import SUPERVISOR, account_of, instrument_name
from brokers.frozen import dataclass
from brokers.versions import across_versions

EVERYTHING = SUPERVISOR
"""The stream of a halt of everything."""

HALT_TYPES = (EventType.TRADING_HALTED, EventType.TRADING_RESUMED)


class Obstacle(StrEnum):
    """A reason why trading is not allowed."""

    HALTED = "HALTED"  # an operator halted this instrument, its account, or everything
    CRITICAL_BREAK = "CRITICAL_BREAK"  # a CRITICAL difference between book and broker is open
    OPEN_BREAK = "OPEN_BREAK"  # the two sides disagree on a position or on an order
    PENDING_FILL = "PENDING_FILL"  # a fill is reported, and its leg is not known yet
    ORDER_IN_DOUBT = "ORDER_IN_DOUBT"  # how far an order is filled differs, and no fill shows which side is right
    UNVERIFIED = "UNVERIFIED"  # the book has not been found in step for too long, or never
    ACCOUNT_REFUSED = "ACCOUNT_REFUSED"  # the broker refuses our account
    QUARANTINED = "QUARANTINED"  # the instrument's actor kept dying and stays down
    NO_ANSWER = "NO_ANSWER"  # the instrument's actor cannot be reached


@across_versions
@dataclass(frozen=True, slots=True)
class Reason:
    """One obstacle, with a text for a person."""

    obstacle: Obstacle
    text: str

    def __str__(self) -> str:
        return self.text


@across_versions
@dataclass(frozen=True, slots=True)
class Halt:
    """Trading stopped by an operator. ``scope`` is the stream it is journaled in: ``supervisor`` (everything), an
    account, or an instrument."""

    scope: str
    reason: str | None
    since: datetime

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"{scope_words(self.scope)} halted since {to_iso(self.since)}{why}"

    def to_json(self) -> dict[str, Json]:
        """As ``status --json`` shows it."""
        return {"scope": scope_words(self.scope), "reason": self.reason, "since": to_iso(self.since)}


@across_versions
@dataclass(frozen=True, slots=True)
class Permission:
    """The answer: true if there is no obstacle to trading. ``answered_at`` is the time of the answer by the clock of
    the actor that gave it, ``verified_at`` when the book was last found in step."""

    account: str
    instrument: str
    reasons: tuple[Reason, ...]
    answered_at: datetime
    verified_at: datetime | None

    def __bool__(self) -> bool:
        return not self.reasons


@across_versions
@dataclass(frozen=True, slots=True)
class Halted:
    """The result of an operator's halt or resume. ``scopes`` are those it changed, ``instruments`` the affected ones
    that answered, ``silent`` those that did not (they receive it when they answer). ``remaining`` are the halts that
    still apply to any of them. ``failure`` is why it is not durable, if it is not."""

    scopes: tuple[str, ...]
    instruments: tuple[str, ...]
    silent: tuple[str, ...]
    remaining: tuple[Halt, ...]
    failure: str | None = None


def halted_by(words: str) -> str:
    """The reason of a halt by a break, where the configuration halts on it."""
    return f"halted by {words}, as the configuration says"


def scope_words(scope: str) -> str:
    """A halt's scope as shown to a person."""
    if scope == EVERYTHING:
        return "everything"
    return scope if "/" in scope else f"account {scope}"


def scope_of(account: str | None, instrument: str | None) -> str:
    """The stream of a halt of everything (neither given), an account, or an instrument."""
    if account is None:
        return EVERYTHING
    return account if instrument is None else instrument_name(account, instrument)


def folded(records: Iterable[Record]) -> dict[str, Halt]:
    """The halts in force after these records, oldest first, by scope. Records of other types are ignored."""
    halts: dict[str, Halt] = {}
    for record in records:
        if record.event.type is EventType.TRADING_HALTED:
            reason = record.event.payload.get("reason")
            halts[record.stream] = Halt(record.stream, None if reason is None else str(reason), record.event.time)
        elif record.event.type is EventType.TRADING_RESUMED:
            halts.pop(record.stream, None)
    return halts


def halts_on(name: str, halts: Mapping[str, Halt]) -> tuple[Halt, ...]:
    """The halts that stop an instrument (``account/symbol``): of everything, of its account, its own."""
    scopes = (EVERYTHING, account_of(name), name)
    return tuple(halts[scope] for scope in scopes if scope in halts)


def obstacles(
    breaks: Iterable[Break] | None,
    verified_at: datetime | None,
    unverified_s: float,
    halts: tuple[Halt, ...] | None,
    refused: str | None,
    last_error: str | None,
    now: datetime,
    pending: Iterable[ReportedFill] = (),
    may_stand: Collection[DiscrepancyType] = frozenset(),
) -> tuple[Reason, ...]:
    """All obstacles to trading.

    ``breaks`` are the open ones, ``None`` while the book is not loaded; ``halts`` those that apply, ``None`` while they
    are unknown; ``refused`` is the broker's refusal, if its last answer was one; ``last_error`` is what went wrong in
    the last cycle; ``pending`` are the fills that wait for the broker to name their leg. Breaks of the types in
    ``may_stand`` are no obstacle.
    """
    reasons: list[Reason] = []
    if halts is None:
        reasons.append(Reason(Obstacle.HALTED, "whether trading is halted is not known yet"))
    reasons += [Reason(Obstacle.HALTED, str(halt)) for halt in halts or ()]
    if refused is not None:
        reasons.append(Reason(Obstacle.ACCOUNT_REFUSED, f"the broker refuses this account: {refused}"))
    standing = [(found, _obstacle(found)) for found in breaks or () if found.type not in may_stand]
    reasons += [Reason(obstacle, _words(found)) for found, obstacle in standing if obstacle is not None]
    reasons += [Reason(Obstacle.PENDING_FILL, _waits(reported)) for reported in pending]
    reasons += _unverified(breaks, verified_at, unverified_s, last_error, now)
    return tuple(reasons)


def _obstacle(found: Break) -> Obstacle | None:
    if found.severity is Severity.CRITICAL:
        return Obstacle.CRITICAL_BREAK
    if found.type is DiscrepancyType.FILLED_MISMATCH:
        return Obstacle.ORDER_IN_DOUBT
    return Obstacle.OPEN_BREAK if found.type in OF_A_POSITION_OR_AN_ORDER else None


def _unverified(
    breaks: Iterable[Break] | None, verified_at: datetime | None, unverified_s: float, error: str | None, now: datetime
) -> list[Reason]:
    why = f": {error}" if error else ""
    if breaks is None:
        return [Reason(Obstacle.UNVERIFIED, f"the book has not been loaded{why}")]
    if verified_at is None:
        return [Reason(Obstacle.UNVERIFIED, f"the book has not been found in step since its actor started{why}")]
    age_s = (now - verified_at).total_seconds()
    if age_s < 0:
        found = f"the book was last verified {-age_s:.1f} s in the future, which proves nothing"
        text = f"{found}: check this machine's clock{why}"
        return [Reason(Obstacle.UNVERIFIED, text)]
    if age_s <= unverified_s:
        return []
    text = f"the book was last verified {age_s:.1f} s ago, more than unverified_s ({unverified_s:g}){why}"
    return [Reason(Obstacle.UNVERIFIED, text)]


def _waits(reported: ReportedFill) -> str:
    fill, at = reported.fill, to_iso(reported.at)
    what = f"{fill.side} {to_text(fill.quantity)} @ {to_text(fill.price)}"
    return f"fill {fill.fill_id} ({what}, reported at {at}) is in no leg until the broker names its leg"


def _words(found: Break) -> str:
    sides = f"book {found.book_value or 'nothing'}, broker {found.broker_value or 'nothing'}"
    return f"{found.type} {found.key} is open since {to_iso(found.opened_at)}: {sides}"
