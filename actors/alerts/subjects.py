"""Turns journal records into subjects of alerts, and finds their ends. Pure.

The law of this module: one subject for one problem, under an id that the record itself has, however often the problem
is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from actors.book.break_work import UNASSIGNED, WORK_EVENTS
from actors.events import EventType, Json, Record, Severity, from_iso, to_iso
from actors.names import AUDIT, SUPERVISOR, split_name
from brokers.frozen import dataclass

_DISCREPANCIES = (EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED)
FOLLOWED = (
    *_DISCREPANCIES,
    *sorted(WORK_EVENTS),
    EventType.CONNECTION_LOST,
    EventType.CONNECTION_RESTORED,
    EventType.ACTOR_QUARANTINED,
    EventType.ACTOR_PENDING,
    EventType.ACTOR_STARTED,
    EventType.TRADING_HALTED,
    EventType.TRADING_RESUMED,
    EventType.CLOCK_STEPPED,
    EventType.OPERATOR_ACTION,
    EventType.CONFIGURATION_CHANGED,
    EventType.ALERT_DELIVERED,
)
"""The types of records that are relevant here."""

UPGRADE_STOPPED = "UPGRADE_STOPPED"
"""The kind of the subject of an upgrade that did not come to its end, which is journaled as an OPERATOR_ACTION."""

GRAVITY = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
DEGRADING = frozenset({"CONNECTION_LOST", "STALE_DATA"})
"""The kinds of subjects that a broker's maintenance explains."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One problem. ``kind`` is the type of a break, or of the event that reported it. ``ended`` is how it ended, as
    text, ``None`` while it lasts. ``muted_until`` is when a person's acknowledgement or waiver ends, ``owner`` who has
    taken it. ``sides`` are both sides' values of a break, ``proposed_by`` who proposed its correction to another
    person. ``dropped`` is why it is no longer checked, as text: its instrument or account left the configuration while
    it was open."""

    id: str
    kind: str
    severity: Severity
    account: str
    instrument: str
    text: str
    since: datetime
    seq: int
    ended: str | None = None
    muted_until: datetime | None = None
    owner: str | None = None
    sides: str = ""
    proposed_by: str | None = None
    dropped: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will be reported of it but its end."""
        return self.ended is not None or self.dropped is not None

    @property
    def where(self) -> str:
        """Its account and instrument."""
        return f"{self.account}/{self.instrument}" if self.instrument else self.account

    @property
    def head(self) -> str:
        """A short description."""
        return f"{self.severity} {self.where} {self.kind}"


def of_record(record: Record, known: Mapping[str, Subject]) -> Subject | None:
    """The subject of a record, in its state after it; ``None`` where the record has none. ``known`` are the subjects
    before it."""
    event, payload = record.event, record.event.payload
    account, instrument = split_name(record.stream)
    kind = event.type
    if kind in _DISCREPANCIES:
        return _of_break(record, account, instrument, known)
    if kind in WORK_EVENTS:
        return _worked_on(known.get(str(payload["id"])), record)
    place = (account, instrument)
    match kind:
        case EventType.CONNECTION_LOST:
            what = "stream" if payload.get("stream") else "connection"
            return _new(
                record, f"{what}:{account}", place, f"{what} lost: {payload.get('reason') or 'no reason given'}"
            )
        case EventType.CONNECTION_RESTORED:
            what = "stream" if payload.get("stream") else "connection"
            return _over(known.get(f"{what}:{account}"), f"{what} restored")
        case EventType.ACTOR_QUARANTINED:
            name = str(payload.get("actor"))
            text = (
                f"in quarantine: {payload.get('reason')}. End the quarantine with: python -m supervisor restart {name}"
            )
            return _new(record, f"quarantine:{name}", split_name(name), text)
        case EventType.ACTOR_PENDING:
            name = str(payload.get("actor"))
            return _new(record, f"pending:{name}", split_name(name), f"cannot be started: {payload.get('reason')}")
        case EventType.ACTOR_STARTED:
            stood = [known.get(f"{why}:{payload.get('actor')}") for why in ("pending", "quarantine")]
            lasts = next((one for one in stood if one is not None and one.ended is None), None)
            return _over(lasts, "started again")
        case EventType.TRADING_HALTED:
            by = f" by {payload['by']}" if payload.get("by") else ""
            return _new(record, f"halt:{record.stream}", place, f"trading halted{by}: {payload.get('reason') or ''}")
        case EventType.TRADING_RESUMED:
            by = f" by {payload['by']}" if payload.get("by") else ""
            return _over(known.get(f"halt:{record.stream}"), f"trading resumed{by}")
        case EventType.CLOCK_STEPPED:
            text = f"the clock was set by {payload.get('by_s')} s"
            return replace(_new(record, f"clock:{event.event_id}", place, text), ended="everything is verified again")
        case EventType.OPERATOR_ACTION if payload.get("action") == "roll":
            return _of_upgrade(record, known)
    return None


def _of_upgrade(record: Record, known: Mapping[str, Subject]) -> Subject | None:
    """One that stopped leaves two versions running until it is begun again."""
    payload, own_id = record.event.payload, "upgrade"
    match payload.get("state"):
        case "began":
            return _over(known.get(own_id), f"the upgrade to {payload.get('to')} goes on")
        case "done":
            return _over(known.get(own_id), f"every actor runs {payload.get('to')}")
    where = f" at {payload['actor']}" if payload.get("actor") else ""
    left = payload.get("left")
    others = f"; of another version: {', '.join(map(str, left))}" if isinstance(left, list) and left else ""
    text = f"the upgrade to {payload.get('to')} stopped{where}: {payload.get('reason')}{others}"
    return replace(_new(record, own_id, (record.stream, ""), text), kind=UPGRADE_STOPPED)


def _of_break(record: Record, account: str, instrument: str, known: Mapping[str, Subject]) -> Subject | None:
    payload = record.event.payload
    break_id = str(payload["id"])
    before = known.get(break_id)
    resolved = bool(payload["resolved"])
    if record.event.type is EventType.DISCREPANCY_RESOLVED and before is None:
        return None  # it was never reported
    cause = f", {payload['cause']}" if payload.get("cause") else ""
    waits = f"; {payload['offers']} waits for approval" if payload.get("offers") and not resolved else ""
    severity = before.severity if before is not None and resolved else record.event.severity
    return Subject(
        id=break_id,
        kind=str(payload["type"]),
        severity=severity,
        account=account,
        instrument=instrument,
        text=f"{payload['key']}: {_sides(payload)}{cause}{waits}",
        since=from_iso(str(payload["opened_at"])),
        seq=record.seq,
        ended=_how_it_ended(payload) if resolved else None,
        muted_until=_still_muted(before, severity),
        owner=before.owner if before is not None else None,
        sides=_sides(payload),
        proposed_by=_still_proposed(before, payload),
    )


def _still_muted(before: Subject | None, severity: Severity) -> datetime | None:
    """An acknowledgement ends where the break becomes graver."""
    return before.muted_until if before is not None and GRAVITY[severity] <= GRAVITY[before.severity] else None


def _still_proposed(before: Subject | None, payload: Mapping[str, Any]) -> str | None:
    """A proposal holds only for both sides' values at its time."""
    return before.proposed_by if before is not None and before.sides == _sides(payload) else None


def _sides(payload: Mapping[str, Any]) -> str:
    return f"book {payload.get('book_value') or 'nothing'}, broker {payload.get('broker_value') or 'nothing'}"


def _how_it_ended(payload: Mapping[str, Any]) -> str:
    correction = payload.get("correction")
    if correction is None:
        return "gone without a correction"
    by = f", approved by {payload['approved_by']}" if payload.get("approved_by") else ""
    return f"corrected by {correction}{by}"


def _worked_on(before: Subject | None, record: Record) -> Subject | None:
    if before is None:
        return None
    payload, by = record.event.payload, str(record.event.payload.get("by"))
    owner = None if payload.get(UNASSIGNED) else payload.get("owner") or before.owner
    worked = replace(before, owner=None if owner is None else str(owner))
    match record.event.type:
        case EventType.BREAK_ACKNOWLEDGED:
            return replace(worked, muted_until=from_iso(str(payload["until"])), owner=worked.owner or by)
        case EventType.BREAK_WAIVED:
            return replace(worked, muted_until=from_iso(str(payload["until"])), proposed_by=None)
        case EventType.BREAK_PROPOSED:  # it now waits for a second person, whoever had taken it before
            return replace(worked, muted_until=None, proposed_by=by)
        case EventType.BREAK_APPROVED:
            return replace(worked, muted_until=None, proposed_by=None)
        case _:
            return worked


def _new(record: Record, own_id: str, place: tuple[str, str], text: str) -> Subject:
    event = record.event
    account, instrument = place if place[0] not in (SUPERVISOR, AUDIT) else (place[0], "")
    return Subject(own_id, event.type.value, event.severity, account, instrument, text, event.time, record.seq)


def _over(before: Subject | None, how: str) -> Subject | None:
    return None if before is None else replace(before, ended=how)


def subject_to(subject: Subject) -> dict[str, Json]:
    """A subject as JSON."""
    return {
        "id": subject.id,
        "kind": subject.kind,
        "severity": subject.severity.value,
        "account": subject.account,
        "instrument": subject.instrument,
        "text": subject.text,
        "since": to_iso(subject.since),
        "seq": subject.seq,
        "ended": subject.ended,
        "muted_until": None if subject.muted_until is None else to_iso(subject.muted_until),
        "owner": subject.owner,
        "sides": subject.sides,
        "proposed_by": subject.proposed_by,
        "dropped": subject.dropped,
    }


def subject_from(data: Mapping[str, Any]) -> Subject:
    """The subject that :func:`subject_to` wrote."""
    return Subject(
        id=data["id"],
        kind=data["kind"],
        severity=Severity(data["severity"]),
        account=data["account"],
        instrument=data["instrument"],
        text=data["text"],
        since=from_iso(data["since"]),
        seq=data["seq"],
        ended=data["ended"],
        muted_until=None if data["muted_until"] is None else from_iso(data["muted_until"]),
        owner=data["owner"],
        sides=data.get("sides", ""),
        proposed_by=data.get("proposed_by"),
        dropped=data.get("dropped"),
    )
