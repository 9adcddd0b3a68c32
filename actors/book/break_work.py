"""The work on a break: who took it, what was proposed, who approved it. Pure: a break and a request in, an event out;
and the fold of those events.

The laws of this module:

* A transition is legal by :data:`TRANSITIONS` or refused with the reason; nothing else changes the state.
* An approval is of one break and of one content, both sides' values. Where either side changes it is void, and so is a
  proposal; an acknowledgement ends where the break becomes graver.
* With four eyes the approver is another person than whoever proposed the correction or acknowledged the break as it
  now is; the first person's approval is a proposal.
* Work on a break changes no book and allows no trading: an approval is carried out by the next cycle, on what the
  broker says then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from actors.book.discrepancies import Break
from actors.events import Event, EventType, Json, Severity, from_iso, to_iso

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
"""Why somebody did what was done. A configuration adds to them, and takes none away."""

Sides = tuple[str | None, str | None]
"""What the book and the broker say: the content of a break."""

_GRAVITY = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class BreakState(StrEnum):
    """Where the work on a break stands."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"  # somebody has it, until a time
    PROPOSED = "PROPOSED"  # its correction is proposed, and takes another person
    APPROVED = "APPROVED"  # its correction is made at the next look, if nothing has changed
    WAIVED = "WAIVED"  # it may stand, until a time; trading is not allowed by that
    RESOLVED = "RESOLVED"  # it is gone, by a correction or by itself


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
        BreakAction.WAIVE: {_O: _W, _A: _W, _P: _W, _D: _W, _W: _W},  # of one approved: that is taken back
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
"""Whom a break is assigned to that is to have no owner, and whose it is then, where breaks are chosen."""
UNASSIGNED: Final = "unassigned"
"""The payload key of a BREAK_ASSIGNED that takes a break from its owner."""
SHORTEST_ID: Final = 4
"""Of the letters of an id that name a break."""
NOTE_AT_MOST: Final = 2_000
OWNER_AT_MOST: Final = 100


class BreakRefused(Exception):
    """This cannot be done to this break: ``attempted``, on which break, ``found`` why not, ``remedy`` what can be."""

    def __init__(self, attempted: str, found: str, remedy: str) -> None:
        super().__init__(attempted, found, remedy)
        self.attempted = attempted
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"could not {self.attempted}: {self.found}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class BreakRequest:
    """What a person asks for. ``by`` is who, ``reason`` one of the codes, ``note`` their words. ``until`` is when an
    acknowledgement or a waiver ends, ``owner`` whom it is assigned to (:data:`NOBODY` takes it from its owner).
    ``sides`` are both sides' values as the person saw them, which an approval and a proposal need. ``via`` is how it
    came in, ``program`` the version it came from, ``process`` the process and ``strategy`` the strategy on whose
    behalf."""

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


@dataclass(frozen=True, slots=True)
class WorkStep:
    """Who did something to a break, when, why, and what both sides said then."""

    by: str
    at: datetime
    reason: str | None
    note: str | None
    sides: Sides

    @property
    def person(self) -> str:
        """The person, from whichever machine."""
        return person(self.by)


@dataclass(frozen=True, slots=True)
class BreakWork:
    """What was done to one open break. ``state`` does not know the time: ask :func:`state_at`."""

    state: BreakState = BreakState.OPEN
    until: datetime | None = None
    owner: str | None = None
    note: str | None = None
    acknowledged: WorkStep | None = None
    proposed: WorkStep | None = None
    approved: WorkStep | None = None

    @property
    def last(self) -> WorkStep | None:
        """The last of its steps."""
        steps = [step for step in (self.acknowledged, self.proposed, self.approved) if step is not None]
        return max(steps, key=lambda step: step.at, default=None)


UNTOUCHED = BreakWork()


def person(by: str) -> str:
    """The person of ``user@machine``: who comes from another machine is not another person."""
    return by.partition("@")[0]


def sides_of(found: Break) -> Sides:
    """What both sides say."""
    return found.book_value, found.broker_value


def state_at(work: BreakWork, now: datetime) -> BreakState:
    """Where it stands at that time: what was acknowledged or waived until then is open again."""
    ended = work.state in (BreakState.ACKNOWLEDGED, BreakState.WAIVED) and work.until is not None and work.until <= now
    return BreakState.OPEN if ended else work.state


def act(
    found: Break, work: BreakWork, request: BreakRequest, *, four_eyes: bool, now: datetime
) -> tuple[EventType, dict[str, Json]]:
    """The event that a request on an open break makes. Raises :class:`BreakRefused`.

    With ``four_eyes`` an approval by the first person who looks is a proposal.
    """
    action = request.action
    attempted = f"{action.value} break {found.id[:8]} ({found.type} {found.key})"
    if not request.by:
        raise BreakRefused(attempted, "nobody is named who asks for it", "Ask as a user of this machine.")
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
    """Every list and every message shows them: a person is named, and a note is one that can be read."""
    for what, text, longest in (("note", request.note, NOTE_AT_MOST), ("owner", request.owner, OWNER_AT_MOST)):
        if text is None:
            continue
        if not text.strip():
            raise BreakRefused(attempted, f"the {what} is empty", "Leave it out, or say something.")
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
            raise BreakRefused(attempted, "it does not say until when", "Name a time.")
        if request.until <= now:
            raise BreakRefused(attempted, f"{to_iso(request.until)} is over", "Name a time in the future.")


def _check_content(attempted: str, found: Break, request: BreakRequest) -> None:
    if found.offers is None:
        remedy = "It ends when both sides agree, or is acknowledged or waived meanwhile."
        raise BreakRefused(attempted, "no correction of it waits for a person", remedy)
    if request.sides is None:
        raise BreakRefused(attempted, "it does not say what both sides were", "Name the values that you looked at.")
    if request.sides != sides_of(found):
        was, now = _words(request.sides), _words(sides_of(found))
        raise BreakRefused(attempted, f"what you looked at ({was}) is now {now}", "Look at it again.")


def _by_another(attempted: str, found: Break, work: BreakWork, request: BreakRequest) -> BreakAction:
    """Whether this approval is one, or a proposal for another person."""
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
    """Who, why and on what; what was not said is not in it."""
    document: dict[str, Json] = {
        "id": found.id,
        "type": found.type.value,
        "key": found.key,
        "book_value": found.book_value,
        "broker_value": found.broker_value,
        "by": request.by,
    }
    nobody = request.action is BreakAction.ASSIGN and request.owner == NOBODY
    said: dict[str, Json] = {
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
    return document | {key: value for key, value in said.items() if value is not None}


# The fold


def folded(work: BreakWork, event: Event) -> BreakWork:
    """The work after one of the ``WORK_EVENTS``. What was journaled is never refused."""
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
    """The work on a break that was reported otherwise than before."""
    if _GRAVITY[new.severity] > _GRAVITY[old.severity] and work.state is BreakState.ACKNOWLEDGED:
        work = replace(work, state=BreakState.OPEN, until=None, acknowledged=None)
    if sides_of(old) == sides_of(new):
        return work
    decided = work.state in (BreakState.PROPOSED, BreakState.APPROVED)
    return replace(work, state=BreakState.OPEN if decided else work.state, proposed=None, approved=None)


def approved_for(work: BreakWork | None, sides: Sides, asked_at: datetime) -> WorkStep | None:
    """Who approved the correction of just this content, if anybody has, before the broker was asked at ``asked_at``."""
    if work is None or work.state is not BreakState.APPROVED or work.approved is None:
        return None
    step = work.approved
    return step if step.sides == sides and asked_at >= step.at else None


# As JSON


def _step(payload: Mapping[str, Any], at: datetime) -> WorkStep:
    sides = payload.get("book_value"), payload.get("broker_value")
    return WorkStep(str(payload["by"]), at, payload.get("reason"), payload.get("note"), sides)


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
        data["owner"],
        data["note"],
        _step_from(data["acknowledged"]),
        _step_from(data["proposed"]),
        _step_from(data["approved"]),
    )
