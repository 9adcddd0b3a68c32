"""Breaks as work to be done: one row a break, sorted by urgency, with its age. Pure.

The law of this module: a row is as old as the last report of its actor; the time is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from actors.book.break_work import UNTOUCHED, BreakState, BreakWork, WorkStep, state_at
from actors.book.discrepancies import Break
from actors.events import Json, to_iso

AGE_BUCKETS = (("1m", 60), ("15m", 900), ("1h", 3600), ("1d", 86400), ("7d", 604800))
"""The age buckets: the first whose limit (in seconds) is above the age; else :data:`OLDEST`."""
OLDEST = "older"
BUCKETS = (*(f"<{name}" for name, _ in AGE_BUCKETS), OLDEST)

_GRAVITY = {"CRITICAL": 0, "WARNING": 1, "INFO": 2}
_URGENCY = {
    BreakState.PROPOSED.value: 0,  # waits for a second person
    BreakState.OPEN.value: 1,
    BreakState.APPROVED.value: 2,
    BreakState.ACKNOWLEDGED.value: 3,
    BreakState.WAIVED.value: 4,
}


def age_bucket(age_s: float) -> str:
    """The bucket of an age."""
    return next((f"<{name}" for name, below_s in AGE_BUCKETS if age_s < below_s), OLDEST)


def break_row(account: str, instrument: str, found: Break, work: BreakWork | None, now: datetime) -> dict[str, Any]:
    """One open break. ``instrument`` is empty where it belongs to the account itself."""
    work = work if work is not None else UNTOUCHED
    age_s = max(0.0, (now - found.opened_at).total_seconds())
    state = state_at(work, now)
    until = work.until if state in (BreakState.ACKNOWLEDGED, BreakState.WAIVED) else None
    return {
        "id": found.id,
        "account": account,
        "instrument": instrument,
        "type": found.type.value,
        "key": found.key,
        "severity": found.severity.value,
        "cause": None if found.cause is None else found.cause.value,
        "book_value": found.book_value,
        "broker_value": found.broker_value,
        "difference": found.difference,
        "opened_at": to_iso(found.opened_at),
        "age_s": int(age_s),
        "age": age_bucket(age_s),
        "state": state.value,
        "until": None if until is None else to_iso(until),
        "owner": work.owner,
        "note": work.note,
        "correction": None if found.offers is None else found.offers.value,
        "strategy": found.strategy,
        "told": found.detail,
        "acknowledged": _step(work.acknowledged),
        "proposed": _step(work.proposed),
        "approved": _step(work.approved),
    }


def _step(step: WorkStep | None) -> Json:
    if step is None:
        return None
    return {"by": step.by, "at": to_iso(step.at), "reason": step.reason, "note": step.note}


def urgency(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """The sort key, most urgent first: what waits for a person before what a person has taken, then by severity, then
    by age."""
    taken = row["state"] in (BreakState.ACKNOWLEDGED, BreakState.WAIVED)
    gravity = _GRAVITY[row["severity"]]
    return (1 if taken else 0), gravity * 10 + _URGENCY[row["state"]], -row["age_s"]


def summary(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of open breaks, by age and by state."""
    listed = list(rows)
    ages, states = Counter(row["age"] for row in listed), Counter(row["state"] for row in listed)
    return {
        "open": len(listed),
        "by_age": {bucket: ages.get(bucket, 0) for bucket in BUCKETS},
        "by_state": {state: states[state] for state in sorted(states)},
    }


def age_words(age_s: float) -> str:
    """An age for a person, in its two largest units: ``3d 4h``, ``12m``, ``5s``."""
    left, words = int(age_s), []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{name}")
        if len(words) == 2 or (words and not count):
            break
    return " ".join(words) or "0s"
