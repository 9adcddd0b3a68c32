"""The vocabulary of the journal.

An event is something that happened to one stream (an instrument, an account, or the supervisor), in a form that
JSON can hold: ``payload`` contains only strings, integers, booleans, ``None``, lists and objects. Decimals are
written as strings and times as ISO 8601 UTC, so that a number is read back exactly as it was written.

Event ids are derived from content and place, never from a clock or a random source: the same input gives the same
events, and a batch that is offered twice is recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from brokers.clocks import BrokerTime
from brokers.errors import NotDone
from brokers.frozen import dataclass
from brokers.versions import across_versions

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]
Payload = Mapping[str, Json]


class Severity(StrEnum):
    """How much a person should mind."""

    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class EventType(StrEnum):
    """Everything the journal can hold."""

    ORDER_RECORDED = "ORDER_RECORDED"
    FILL_RECORDED = "FILL_RECORDED"
    POSITION_RECORDED = "POSITION_RECORDED"
    ORDER_UPDATED = "ORDER_UPDATED"
    ORDER_FILLED = "ORDER_FILLED"
    ORDER_CANCELLED = "ORDER_CANCELLED"
    ORDER_EXPIRED = "ORDER_EXPIRED"
    ORDER_REJECTED = "ORDER_REJECTED"
    FILL_RESTATED = "FILL_RESTATED"
    COMMISSION_REPORTED = "COMMISSION_REPORTED"
    POSITION_SYNCED = "POSITION_SYNCED"
    RECONCILIATION_DISCREPANCY = "RECONCILIATION_DISCREPANCY"
    DISCREPANCY_RESOLVED = "DISCREPANCY_RESOLVED"
    RECONCILED = "RECONCILED"
    CONNECTION_LOST = "CONNECTION_LOST"
    CONNECTION_RESTORED = "CONNECTION_RESTORED"
    ACTOR_STARTED = "ACTOR_STARTED"
    ACTOR_RESTARTED = "ACTOR_RESTARTED"
    ACTOR_QUARANTINED = "ACTOR_QUARANTINED"
    ACTOR_PENDING = "ACTOR_PENDING"
    CONFIGURATION_CHANGED = "CONFIGURATION_CHANGED"
    TRADING_HALTED = "TRADING_HALTED"
    TRADING_RESUMED = "TRADING_RESUMED"
    OPERATOR_ACTION = "OPERATOR_ACTION"
    CHECKPOINT = "CHECKPOINT"
    CLOCK_STEPPED = "CLOCK_STEPPED"
    JOURNAL_RESTORED = "JOURNAL_RESTORED"
    BREAK_ACKNOWLEDGED = "BREAK_ACKNOWLEDGED"
    BREAK_ASSIGNED = "BREAK_ASSIGNED"
    BREAK_PROPOSED = "BREAK_PROPOSED"
    BREAK_APPROVED = "BREAK_APPROVED"
    BREAK_WAIVED = "BREAK_WAIVED"
    ALERT_DELIVERED = "ALERT_DELIVERED"
    ALERT_FAILED = "ALERT_FAILED"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, before it has a place in the journal.

    ``source`` is what the payload was made of, for a reader in the same process: it says nothing that the payload does
    not say, and goes no further.
    """

    event_id: str
    type: EventType
    severity: Severity
    time: datetime
    payload: Payload
    source: object = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        return Event, (self.event_id, self.type, self.severity, self.time, self.payload)


@across_versions
@dataclass(frozen=True, slots=True)
class Record:
    """An event with its place: ``seq`` is gapless over the whole journal, ``version`` within its stream (from 1).

    ``hash`` is the lower-case hexadecimal SHA-256 over ``prev_hash`` and the canonical form of the rest.
    """

    seq: int
    stream: str
    version: int
    event: Event
    prev_hash: str
    hash: str


class JournalError(NotDone):
    """The base of the journal's errors."""


@across_versions
@dataclass(frozen=True, slots=True)
class NamedInStep:
    """At which version of its book, and what time of its clock, an account named an instrument as being in step."""

    version: int
    at: datetime


@across_versions
@dataclass(frozen=True, slots=True)
class StreamTail:
    """What a writer needs to go on with a stream: the records from the last checkpoint (that one included, where
    there is one) to the end, oldest first, and the version to continue from (0 for a new stream). ``named`` is where
    the account of an instrument last named it. ``age`` is how long ago the newest record came, by the monotonic clock
    of the audit actor; where that actor is younger than the record (``older``) its own age. The times in the records
    are by the clocks of those who wrote them, which may not agree with the reader's."""

    version: int
    records: tuple[Record, ...]
    named: NamedInStep | None = None
    age: timedelta | None = field(default=None, compare=False)
    older: bool = field(default=True, compare=False)


def event_id(stream: str, *parts: str) -> str:
    """An id that only the content decides."""
    return hashlib.sha256("\x1f".join((stream, *parts)).encode()).hexdigest()[:32]


def to_text(value: Decimal | None) -> str | None:
    """A Decimal as plain digits (never an exponent), without trailing zeros; ``None`` stays ``None``."""
    return None if value is None else _plain(value)


@lru_cache(maxsize=4_096)  # equal numbers have one text, and the same quantities and prices come again and again
def _plain(value: Decimal) -> str:
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"", "-0", "-"} else text


def to_iso(value: datetime | BrokerTime) -> str:
    """An aware time as ISO 8601 UTC with microseconds, ending in ``Z``."""
    return _iso(value if value.tzinfo is UTC else value.astimezone(UTC))


@lru_cache(maxsize=256)  # what one pass writes has few times; only UTC, as elsewhere equal times may be an hour apart
def _iso(utc: datetime) -> str:
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def from_iso(text: str) -> datetime:
    """The aware UTC time that :func:`to_iso` wrote. Raises ``ValueError`` for what is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:  # the first or the last day there is, in another zone
        raise ValueError(f"{text} is no time") from None


broker_time_from_iso: Callable[[str], BrokerTime] = from_iso  # type: ignore[assignment]  # see brokers/clocks.py
"""The same of a time by the broker's clock."""
