"""What happened in a period, from the journal alone: when each book was proven to match its broker, what differed, what
was corrected and who approved it, who did what. Pure: records in, a document of JSON's types out.

The laws of this module: the same records give the same document; a book without a proof in the period is listed as
such, and never left out; a check of orders and fills that compared no position proves no book; times are ISO 8601 UTC,
lengths are seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from actors.book.break_work import WORK_EVENTS
from actors.book.in_step import proofs
from actors.book.unreadable import UNUSABLE, UnreadableRecord, flag_of, text_of, text_or_none
from actors.events import EventType, Record, from_iso, to_iso
from actors.names import split_name
from brokers.frozen import dataclass
from brokers.model import Completeness
from supervisor.presentation.breaks import BUCKETS, age_bucket
from supervisor.presentation.event_text import counted_restarts, describe

COMPLETE = Completeness.COMPLETE.value
PROOF_HOLDS = timedelta(minutes=15)
"""Proofs are journaled at most every five minutes. A book whose last one is older counts as not verified since then."""

REPORTED_TYPES = (
    EventType.RECONCILED,
    EventType.RECONCILIATION_DISCREPANCY,
    EventType.DISCREPANCY_RESOLVED,
    *sorted(WORK_EVENTS),
    EventType.CONNECTION_LOST,
    EventType.CONNECTION_RESTORED,
    EventType.ACTOR_RESTARTED,
    EventType.ACTOR_QUARANTINED,
    EventType.TRADING_HALTED,
    EventType.TRADING_RESUMED,
    EventType.OPERATOR_ACTION,
    EventType.CONFIGURATION_CHANGED,
    EventType.CLOCK_STEPPED,
    EventType.ALERT_DELIVERED,
    EventType.ALERT_FAILED,
)
"""The types of records that a report is made of."""

DISCREPANCIES = (EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED)
_ACTS = frozenset(
    {
        *WORK_EVENTS,
        EventType.OPERATOR_ACTION,
        EventType.TRADING_HALTED,
        EventType.TRADING_RESUMED,
        EventType.CONFIGURATION_CHANGED,
    }
)


@dataclass(slots=True)
class _Book:
    """One instrument's proofs. ``orders_only`` counts how often its orders and fills were in step while its positions
    were not compared, as in mode paper."""

    proofs: list[datetime] = field(default_factory=list)
    orders_only: int = 0
    before: datetime | None = None  # the last proof before the period


@dataclass(slots=True)
class _Break:
    """One break over its life in the period."""

    first: Mapping[str, Any]
    where: str
    severity: str
    opened_at: datetime
    ended_at: datetime | None = None
    correction: str | None = None
    approved_by: str | None = None


class Report:
    """A report in the making: :meth:`take` every record of ``REPORTED_TYPES`` of the period, oldest first."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self._since, self._until = since, until
        self._books: dict[str, _Book] = {}
        self._breaks: dict[str, _Break] = {}
        self._acts: list[dict[str, Any]] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lost: dict[str, list[tuple[datetime, datetime | None, str]]] = {}
        self._alerts: Counter[tuple[str, str]] = Counter()

    def expect(self, names: Iterable[str]) -> None:
        """Include these instruments, even if no record is about them."""
        for name in names:
            self._books.setdefault(name, _Book())

    def take(self, record: Record) -> None:
        """Add one record. Raises :class:`UnreadableRecord`."""
        try:
            self._take(record)
        except UNUSABLE as error:
            raise UnreadableRecord.of(record, error) from error

    def _take(self, record: Record) -> None:
        event, stream = record.event, record.stream
        if split_name(stream)[1]:
            self._books.setdefault(stream, _Book())
        if event.type is EventType.RECONCILED:
            for proof in proofs(record):
                book = self._books.setdefault(proof.stream, _Book())
                if event.payload.get("positions", COMPLETE) != COMPLETE:
                    book.orders_only += proof.at >= self._since
                elif proof.at < self._since:
                    book.before = proof.at if book.before is None else max(book.before, proof.at)
                else:
                    book.proofs.append(proof.at)
        elif event.type in DISCREPANCIES:
            self._take_break(record)
        elif event.type is EventType.ACTOR_RESTARTED:
            self._counts[event.type.value, str(event.payload.get("actor"))] += counted_restarts(event.payload)
        elif event.type is EventType.ACTOR_QUARANTINED:
            self._counts[event.type.value, str(event.payload.get("actor"))] += 1
        elif event.type is EventType.CLOCK_STEPPED:
            self._counts[event.type.value, stream] += 1
        elif event.type is EventType.CONNECTION_LOST:
            spans = self._lost.setdefault(_connection_of(record), [])
            if not spans or spans[-1][1] is not None:  # else another incarnation reports the same loss again
                spans.append((event.time, None, str(event.payload.get("reason") or "")))
        elif event.type is EventType.CONNECTION_RESTORED:
            spans = self._lost.get(_connection_of(record), [])
            if spans and spans[-1][1] is None:
                spans[-1] = (spans[-1][0], event.time, spans[-1][2])
        elif event.type is EventType.ALERT_DELIVERED:
            self._alerts[str(event.payload["route"]), "delivered"] += 1
        elif event.type is EventType.ALERT_FAILED:
            self._alerts[str(event.payload["route"]), "failed"] += 1
        if event.type in _ACTS and event.payload.get("by"):
            act = {"time": to_iso(event.time), "seq": record.seq, "by": event.payload["by"], "where": stream}
            self._acts.append(act | {"what": event.type.value, "text": describe(event)})

    def _take_break(self, record: Record) -> None:
        payload = record.event.payload
        _check_break(payload)
        own_id = str(payload["id"])
        found = self._breaks.get(own_id)
        if found is None:
            opened_at = from_iso(str(payload["opened_at"]))
            found = _Break(payload, record.stream, record.event.severity.value, opened_at)
            self._breaks[own_id] = found
        elif record.event.type is EventType.RECONCILIATION_DISCREPANCY:
            found.first, found.severity = payload, record.event.severity.value
        if payload["resolved"]:
            found.ended_at = record.event.time
            found.correction = None if payload["correction"] is None else str(payload["correction"])
            found.approved_by = None if payload.get("approved_by") is None else str(payload["approved_by"])

    def take_later(self, record: Record) -> None:
        """Add a break that is first recorded after the period, and was open in it without a record. Raises
        :class:`UnreadableRecord`."""
        try:
            _check_break(record.event.payload)
            payload = record.event.payload
            self._stood(str(payload["id"]), payload, record.stream, record.event.severity.value)
        except UNUSABLE as error:
            raise UnreadableRecord.of(record, error) from error

    def stood(self, row: Mapping[str, Any]) -> None:
        """Add a break that is open now, as a row of the list of open breaks."""
        where = f"{row['account']}/{row['instrument']}" if row["instrument"] else row["account"]
        self._stood(row["id"], row, where, row["severity"])

    def _stood(self, own_id: str, payload: Mapping[str, Any], where: str, severity: str) -> None:
        opened_at = from_iso(str(payload["opened_at"]))
        if own_id not in self._breaks and opened_at < self._until:
            self._breaks[own_id] = _Break(payload, where, severity, opened_at)

    # The document

    def document(self) -> dict[str, Any]:
        """The report, without its part about the journal itself."""
        rows = [self._break_row(own_id, found) for own_id, found in self._breaks.items()]
        return {
            "since": to_iso(self._since),
            "until": to_iso(self._until),
            "instruments": [self._book_row(name, book) for name, book in sorted(self._books.items())],
            "breaks": {
                "total": len(rows),
                "open": sum(row["ended_at"] is None for row in rows),
                "by_type": _counted(rows, "type"),
                "by_cause": _counted(rows, "cause"),
                "by_severity": _counted(rows, "severity"),
                "by_age": {bucket: sum(row["age"] == bucket for row in rows) for bucket in BUCKETS},
                "by_hour": self._by_hour(rows),
                "rows": sorted(rows, key=lambda row: row["opened_at"]),
            },
            "corrections": [row for row in rows if row["correction"] is not None],
            "acts": self._acts,
            "restarts": self._counted_of(EventType.ACTOR_RESTARTED),
            "quarantines": self._counted_of(EventType.ACTOR_QUARANTINED),
            "clock_steps": self._counted_of(EventType.CLOCK_STEPPED),
            "connections": {name: self._outages(spans) for name, spans in sorted(self._lost.items())},
            "alerts": {
                route: {kind: self._alerts[route, kind] for kind in ("delivered", "failed")}
                for route in sorted({route for route, _ in self._alerts})
            },
        }

    def _book_row(self, name: str, book: _Book) -> dict[str, Any]:
        account, instrument = split_name(name)
        book.proofs.sort()  # those that the account wrote are of a slightly earlier moment
        marks = [self._since, *book.proofs, self._until]
        gaps = [later - earlier for earlier, later in pairwise(marks)]
        longest = max(gaps)
        left = timedelta() if book.before is None else max(timedelta(), book.before + PROOF_HOLDS - self._since)
        holds = [left, *(PROOF_HOLDS for _ in book.proofs)]
        beyond = (max(timedelta(), gap - held) for gap, held in zip(gaps, holds, strict=True))
        unproven = sum(beyond, timedelta())
        return {
            "account": account,
            "instrument": instrument,
            "proofs": len(book.proofs),
            "orders_only": book.orders_only,
            "first_proof_at": to_iso(book.proofs[0]) if book.proofs else None,
            "last_proof_at": to_iso(book.proofs[-1]) if book.proofs else None,
            "longest_without_proof_s": round(longest.total_seconds()),
            "not_verified_s": round(unproven.total_seconds()),
            "proof_times": [round((at - self._since).total_seconds()) for at in book.proofs],
        }

    def _break_row(self, own_id: str, found: _Break) -> dict[str, Any]:
        age_s = ((found.ended_at or self._until) - found.opened_at).total_seconds()
        payload = found.first
        account, instrument = split_name(found.where)
        return {
            "id": own_id,
            "account": account,
            "instrument": instrument,
            "type": payload["type"],
            "key": payload["key"],
            "severity": found.severity,
            "cause": payload["cause"],
            "book_value": payload["book_value"],
            "broker_value": payload["broker_value"],
            "opened_at": to_iso(found.opened_at),
            "ended_at": None if found.ended_at is None else to_iso(found.ended_at),
            "age_s": round(age_s),
            "age": age_bucket(age_s),
            "correction": found.correction,
            "approved_by": found.approved_by,
        }

    def _by_hour(self, rows: list[dict[str, Any]]) -> dict[str, int]:
        found = Counter(row["opened_at"][:13] for row in rows if row["opened_at"] >= to_iso(self._since))
        return {f"{hour}:00Z": found[hour] for hour in sorted(found)}

    def _counted_of(self, kind: EventType) -> dict[str, int]:
        return {name: count for (one, name), count in sorted(self._counts.items()) if one == kind.value and count > 0}

    def _outages(self, spans: list[tuple[datetime, datetime | None, str]]) -> dict[str, Any]:
        total = sum((((end or self._until) - begin) for begin, end, _ in spans), timedelta())
        return {
            "outages": len(spans),
            "seconds": round(total.total_seconds()),
            "last_reason": spans[-1][2],
        }


def _check_break(payload: Mapping[str, Any]) -> None:
    """Raise what :mod:`actors.book.unreadable` names for a discrepancy without the values that its row shows."""
    for key in ("id", "type", "key", "opened_at"):
        text_of(payload[key])
    for key in ("cause", "book_value", "broker_value", "correction"):
        text_or_none(payload[key])
    flag_of(payload["resolved"])


def _connection_of(record: Record) -> str:
    """The name of an account's connection, or of the stream beside it: each is lost and restored separately."""
    return f"{record.stream} (stream)" if "stream" in record.event.payload else record.stream


def _counted(rows: list[dict[str, Any]], key: str) -> dict[str, int]:
    found = Counter(row[key] or "none told" for row in rows)
    return {name: found[name] for name in sorted(found)}
