"""The work on a break: who took it, what was proposed, who approved it. Pure: a break and a request in, an event out;
and the fold of those events.

The laws of this module:

* A transition is legal by :data:`TRANSITIONS`, or is refused with the reason; nothing else changes the state.
* An approval is for one break and one content, the values of both sides. If either side changes, approvals and
  proposals are void; an acknowledgement ends when the break becomes more severe.
* With four eyes the approver must not be the person who proposed the correction, or who acknowledged the break in its
  present content; the first person's approval is a proposal.
* Work on a break changes no book and allows no trading: the next cycle carries out an approval, on what the broker
  reports then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from actors.book.discrepancies import Break
from actors.book.unreadable import text_of, text_or_none
from actors.events import Event, EventType, Json, Severity, from_iso, to_iso
from brokers.errors import NotDone
from brokers.frozen import dataclass
from brokers.versions import across_versions

REASON_CODES = (
    "BOOKING_ERROR",
    "BROKER_ERROR",
    "CORPORATE_ACTION",
    "FEE_OR_FUNDING",
    "KNOWN_TRANSFER",
    "LATE_FEED",
    "MANUAL_TRADE",
    "SYSTEM_FAULT",
    "TEST",
    "UNDER_INVESTIGATION",
    "OTHER",
)
"""Why a person acted on a break. A configuration can add codes, and remove none."""

Sides = tuple[str | None, str | None]
"""The values of the book and of the broker: the content of a break."""

_GRAVITY = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class BreakState(StrEnum):
    """The state of the work on a break."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"  # a person works on it, until a given time
    PROPOSED = "PROPOSED"  # its correction is proposed, and needs another person
    APPROVED = "APPROVED"  # the next look makes its correction, if nothing has changed
    WAIVED = "WAIVED"  # it may stay open until a given time; that does not allow trading
    RESOLVED = "RESOLVED"  # it is gone, with or without a correction


class BreakAction(StrEnum):
    """What a person may do."""

    ACKNOWLEDGE = "acknowledge"
    ASSIGN = "assign"
    PROPOSE = "propose"
    APPROVE = "approve"
    WAIVE = "waive"


_O, _A, _P, _D, _W = (
    BreakState.OPEN,
    BreakState.ACKNOWLEDGED,
    BreakState.PROPOSED,
    BreakState.APPROVED,
    BreakState.WAIVED,
)
TRANSITIONS: Mapping[BreakAction, Mapping[BreakState, BreakState]] = MappingProxyType(
    {
        BreakAction.ACKNOWLEDGE: {_O: _A, _A: _A, _W: _A},
        BreakAction.ASSIGN: {_O: _O, _A: _A, _P: _P, _D: _D, _W: _W},
        BreakAction.PROPOSE: {_O: _P, _A: _P, _W: _P},
        BreakAction.APPROVE: {_O: _D, _A: _D, _P: _D, _W: _D},
        BreakAction.WAIVE: {_O: _W, _A: _W, _P: _W, _D: _W, _W: _W},  # withdraws an approval
    }
)

_EVENTS: Mapping[BreakAction, EventType] = MappingProxyType(
    {
        BreakAction.ACKNOWLEDGE: EventType.BREAK_ACKNOWLEDGED,
        BreakAction.ASSIGN: EventType.BREAK_ASSIGNED,
        BreakAction.PROPOSE: EventType.BREAK_PROPOSED,
        BreakAction.APPROVE: EventType.BREAK_APPROVED,
        BreakAction.WAIVE: EventType.BREAK_WAIVED,
    }
)
_ACTIONS = {kind: action for action, kind in _EVENTS.items()}
WORK_EVENTS = frozenset(_ACTIONS)
"""The events that record work on a break."""


NOBODY: Final = "nobody"
"""The owner to assign a break to so that it has none, and to select breaks without an owner by."""
UNASSIGNED: Final = "unassigned"
"""The payload key of a BREAK_ASSIGNED that takes a break from its owner."""
SHORTEST_ID: Final = 4
"""The fewest letters of an id that may name a break."""
NOTE_AT_MOST: Final = 2_000
OWNER_AT_MOST: Final = 100


class BreakRefused(NotDone):
    """A request on a break was refused: ``attempted`` names the action and the break."""


@across_versions
@dataclass(frozen=True, slots=True)
class BreakRequest:
    """A person's request. ``by`` is the person, ``reason`` one of the codes, ``note`` a free text. ``until`` is when an
    acknowledgement or a waiver ends, ``owner`` the person to assign the break to (:data:`NOBODY` takes it from its
    owner). ``sides`` are the values that the person saw, which an approval and a proposal need. ``via`` is the channel,
    ``program`` the version and ``process`` the process that sent it, and ``strategy`` the strategy it is for."""

    action: BreakAction
    by: str
    reason: str | None = None
    note: str | None = None
    until: datetime | None = None
    owner: str | None = None
    sides: Sides | None = None
    via: str | None = None
    program: str | None = None
    process: str | None = None
    strategy: str | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class WorkStep:
    """One step of the work on a break: who did it, when, why, and the values of both sides at the time."""

    by: str
    at: datetime
    reason: str | None
    note: str | None
    sides: Sides

    @property
    def person(self) -> str:
        """The person, without the machine."""
        return person(self.by)


@across_versions
@dataclass(frozen=True, slots=True)
class BreakWork:
    """The work done on one open break. ``state`` ignores that time passes: see :func:`state_at`."""

    state: BreakState = BreakState.OPEN
    until: datetime | None = None
    owner: str | None = None
    note: str | None = None
    acknowledged: WorkStep | None = None
    proposed: WorkStep | None = None
    approved: WorkStep | None = None

    @property
    def last(self) -> WorkStep | None:
        """The latest step."""
        steps = [step for step in (self.acknowledged, self.proposed, self.approved) if step is not None]
        return max(steps, key=lambda step: step.at, default=None)


UNTOUCHED = BreakWork()


def person(by: str) -> str:
    """The person in ``user@machine``: the same user on another machine is the same person."""
    return by.partition("@")[0]


def sides_of(found: Break) -> Sides:
    """The values of both sides."""
    return found.book_value, found.broker_value


def state_at(work: BreakWork, now: datetime) -> BreakState:
    """The state at that time: a break is open again once its acknowledgement or waiver has ended."""
    ended = work.state in (BreakState.ACKNOWLEDGED, BreakState.WAIVED) and work.until is not None and work.until <= now
    return BreakState.OPEN if ended else work.state


def act(
    found: Break, work: BreakWork, request: BreakRequest, *, four_eyes: bool, now: datetime
) -> tuple[EventType, dict[str, Json]]:
    """The type and payload of the event for a request on an open break. Raises :class:`BreakRefused`.

    With ``four_eyes`` the first person's approval is a proposal.
    """
    action = request.action
    attempted = f"{action.value} break {found.id[:8]} ({found.type} {found.key})"
    if not request.by:
        raise BreakRefused(attempted, "the request names no person", "Send it as a user of this machine.")
    _check_words(attempted, request)
    state = state_at(work, now)
    if state not in TRANSITIONS[action]:
        step = work.last
        who = f" by {step.by}" if step is not None else ""
        raise BreakRefused(attempted, f"it is {state}{who}", "Waive it to take that back, and begin again.")
    _check_terms(attempted, request, now)
    if action in (BreakAction.PROPOSE, BreakAction.APPROVE):
        _check_content(attempted, found, request)
    if action is BreakAction.APPROVE and four_eyes:
        action = _by_another(attempted, found, work, request)
    return _EVENTS[action], _payload(found, request)


def _check_words(attempted: str, request: BreakRequest) -> None:
    """Check note and owner: lists and messages show them, so they must be neither blank nor too long."""
    for what, text, longest in (("note", request.note, NOTE_AT_MOST), ("owner", request.owner, OWNER_AT_MOST)):
        if text is None:
            continue
        if not text.strip():
            raise BreakRefused(attempted, f"the {what} is empty", "Leave it out, or fill it in.")
        if len(text) > longest:
            found = f"the {what} has {len(text)} characters, and {longest} are the most"
            raise BreakRefused(attempted, found, "Shorten it, and say where the rest can be read.")


def _check_terms(attempted: str, request: BreakRequest, now: datetime) -> None:
    if request.action is BreakAction.ASSIGN:
        if request.owner is None and request.note is None:
            raise BreakRefused(attempted, "neither an owner nor a note is given", "Give one of them.")
        return
    if request.reason is None:
        raise BreakRefused(attempted, "no reason is given", "Give one of the reason codes.")
    if request.action in (BreakAction.ACKNOWLEDGE, BreakAction.WAIVE):
        if request.until is None:
            raise BreakRefused(attempted, "it does not say until when", "Give a time.")
        if request.until <= now:
            raise BreakRefused(attempted, f"{to_iso(request.until)} is over", "Give a time in the future.")


def _check_content(attempted: str, found: Break, request: BreakRequest) -> None:
    if found.offers is None:
        remedy = "It ends when both sides agree, or is acknowledged or waived meanwhile."
        raise BreakRefused(attempted, "no correction of it waits for a person", remedy)
    if request.sides is None:
        raise BreakRefused(attempted, "it does not give both sides' values", "Give the values that you looked at.")
    if request.sides != sides_of(found):
        was, now = _words(request.sides), _words(sides_of(found))
        raise BreakRefused(attempted, f"what you looked at ({was}) is now {now}", "Look at it again.")


def _by_another(attempted: str, found: Break, work: BreakWork, request: BreakRequest) -> BreakAction:
    """Whether this approval counts as one, or as a proposal for another person."""
    sides = sides_of(found)
    proposed = work.proposed if work.state is BreakState.PROPOSED else None
    steps = [step for step in (proposed, work.acknowledged) if step is not None and step.sides == sides]
    me = person(request.by)
    if steps and all(step.person != me for step in steps):
        return BreakAction.APPROVE
    if proposed is not None:
        mine = "proposed it" if proposed.person == me else "acknowledged it as it now is"
        raise BreakRefused(attempted, f"{me} {mine}, and four_eyes is set", "Another person has to approve it.")
    return BreakAction.PROPOSE


def _words(sides: Sides) -> str:
    return f"book {sides[0] or 'nothing'}, broker {sides[1] or 'nothing'}"


def _payload(found: Break, request: BreakRequest) -> dict[str, Json]:
    """The payload: who, why and on which content. Absent values are left out."""
    document: dict[str, Json] = {
        "id": found.id,
        "type": found.type.value,
        "key": found.key,
        "book_value": found.book_value,
        "broker_value": found.broker_value,
        "by": request.by,
    }
    nobody = request.action is BreakAction.ASSIGN and request.owner == NOBODY
    optional: dict[str, Json] = {
        "reason": request.reason,
        "note": request.note,
        "owner": None if nobody else request.owner,
        UNASSIGNED: True if nobody else None,
        "via": request.via,
        "program": request.program,
        "process": request.process,
        "strategy": request.strategy,
        "until": None if request.until is None else to_iso(request.until),
        "correction": found.offers.value
        if found.offers is not None and request.action in (BreakAction.PROPOSE, BreakAction.APPROVE)
        else None,
    }
    return document | {key: value for key, value in optional.items() if value is not None}


# The fold


def folded(work: BreakWork, event: Event) -> BreakWork:
    """The work after one of the ``WORK_EVENTS``. A journaled event is never refused; raises as
    :mod:`actors.book.unreadable` says for a payload that is none of such an event."""
    action, payload = _ACTIONS[event.type], event.payload
    note = payload.get("note")
    work = replace(work, note=work.note if note is None else str(note))
    if action is BreakAction.ASSIGN:
        owner = payload.get("owner")
        if payload.get(UNASSIGNED):
            return replace(work, owner=None)
        return replace(work, owner=work.owner if owner is None else str(owner))
    step = _step(payload, event.time)
    until = from_iso(str(payload["until"])) if "until" in payload else None
    match action:
        case BreakAction.ACKNOWLEDGE:
            state, owner = BreakState.ACKNOWLEDGED, work.owner or step.by
            return replace(work, state=state, until=until, owner=owner, acknowledged=step)
        case BreakAction.PROPOSE:
            return replace(work, state=BreakState.PROPOSED, until=None, proposed=step, approved=None)
        case BreakAction.APPROVE:
            return replace(work, state=BreakState.APPROVED, until=None, approved=step)
        case _:
            return replace(work, state=BreakState.WAIVED, until=until, proposed=None, approved=None)


def after_change(work: BreakWork, old: Break, new: Break) -> BreakWork:
    """The work on a break after it was reported with another content or severity."""
    if _GRAVITY[new.severity] > _GRAVITY[old.severity] and work.state is BreakState.ACKNOWLEDGED:
        work = replace(work, state=BreakState.OPEN, until=None, acknowledged=None)
    if sides_of(old) == sides_of(new):
        return work
    decided = work.state in (BreakState.PROPOSED, BreakState.APPROVED)
    return replace(work, state=BreakState.OPEN if decided else work.state, proposed=None, approved=None)


def approved_for(work: BreakWork | None, sides: Sides, asked_at: datetime) -> WorkStep | None:
    """The approval of the correction of exactly this content, if there is one from before the request to the broker at
    ``asked_at``."""
    if work is None or work.state is not BreakState.APPROVED or work.approved is None:
        return None
    step = work.approved
    return step if step.sides == sides and asked_at >= step.at else None


# As JSON


def _step(payload: Mapping[str, Any], at: datetime) -> WorkStep:
    sides = payload.get("book_value"), payload.get("broker_value")
    book, broker = map(text_or_none, sides)
    reason, note = text_or_none(payload.get("reason")), text_or_none(payload.get("note"))
    return WorkStep(text_of(payload["by"]), at, reason, note, (book, broker))


def _step_to(step: WorkStep | None) -> Json:
    if step is None:
        return None
    book, broker = step.sides
    document: dict[str, Json] = {"by": step.by, "at": to_iso(step.at), "reason": step.reason, "note": step.note}
    return document | {"book_value": book, "broker_value": broker}


def _step_from(data: Any) -> WorkStep | None:
    return None if data is None else _step(data, from_iso(data["at"]))


def work_to(work: BreakWork) -> dict[str, Json]:
    """The work on a break as JSON."""
    return {
        "state": work.state.value,
        "until": None if work.until is None else to_iso(work.until),
        "owner": work.owner,
        "note": work.note,
        "acknowledged": _step_to(work.acknowledged),
        "proposed": _step_to(work.proposed),
        "approved": _step_to(work.approved),
    }


def work_from(data: Mapping[str, Any]) -> BreakWork:
    """The work that :func:`work_to` wrote."""
    return BreakWork(
        BreakState(data["state"]),
        None if data["until"] is None else from_iso(data["until"]),
        text_or_none(data["owner"]),
        text_or_none(data["note"]),
        _step_from(data["acknowledged"]),
        _step_from(data["proposed"]),
        _step_from(data["approved"]),
    )
