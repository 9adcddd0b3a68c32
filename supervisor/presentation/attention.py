"""What needs a person, and how urgently: the order of a fleet at a glance, in words that need no colour. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from brokers.frozen import dataclass
from supervisor.presentation.breaks import urgency


class Need(IntEnum):
    """How urgently a person is needed; the most urgent first."""

    ACT = 0  # something waits for a person
    LOOK = 1  # something is wrong that may recover by itself, or was stopped on purpose
    TAKEN = 2  # a person is working on it
    NOTHING = 3


NEED_WORDS: Mapping[Need, str] = {
    Need.ACT: "ACT",
    Need.LOOK: "LOOK",
    Need.TAKEN: "TAKEN",
    Need.NOTHING: "in step",
}


@dataclass(frozen=True, slots=True)
class Attention:
    """What a row needs, the reason as text, and the sort key."""

    need: Need
    why: str
    rank: tuple[int, ...]


def attention(row: Mapping[str, Any], breaks: Sequence[Mapping[str, Any]]) -> Attention:
    """The attention for one instrument of a status document and its open breaks (:func:`.breaks.break_row`)."""
    health = row["health"]
    reasons: list[tuple[Need, tuple[int, ...], str]] = [(*_of_break(one), break_words(one)) for one in breaks]
    if health["state"] == "QUARANTINED":
        reasons.append((Need.ACT, (0,), "quarantined: restart it once the cause is fixed"))
    elif health["state"] == "PENDING":
        reasons.append((Need.ACT, (1,), "pending: no node of the cluster has the labels of its place"))
    elif health["state"] != "UP":
        reasons.append((Need.LOOK, (50,), f"its actor is {health['state'].lower()}"))
    if row["status"] in ("FAILED", "DEGRADED"):
        reasons.append((Need.LOOK, (40,), f"not verified: {row['error'] or row['status']}"))
    elif row["status"] != "SUCCESS" and not breaks:
        reasons.append((Need.LOOK, (45,), str(row["error"] or row["status"])))
    if health.get("halted"):
        reasons.append((Need.LOOK, (60,), "trading is halted"))
    if health["paused"]:
        reasons.append((Need.LOOK, (70,), "paused"))
    return _worst(reasons)


def _worst(reasons: Sequence[tuple[Need, tuple[int, ...], str]]) -> Attention:
    if not reasons:
        return Attention(Need.NOTHING, "", (Need.NOTHING,))
    need, rank, why = min(reasons, key=lambda one: one[:2])
    others = len(reasons) - 1
    return Attention(need, why if not others else f"{why} (and {others} more)", (need, *rank))


def account_attention(account: Mapping[str, Any], breaks: Sequence[Mapping[str, Any]]) -> Attention:
    """The attention for an account itself: its connection, and the breaks that belong to none of its instruments."""
    reasons: list[tuple[Need, tuple[int, ...], str]] = [(*_of_break(one), break_words(one)) for one in breaks]
    if account["error"] is not None:
        reasons.append((Need.LOOK, (35,), f"{account['connection'].lower()}: {account['error']}"))
    return _worst(reasons)


def _of_break(row: Mapping[str, Any]) -> tuple[Need, tuple[int, ...]]:
    taken, gravity, older = urgency(row)
    if taken or row["state"] == "APPROVED":
        return Need.TAKEN, (gravity, older)
    waits = row["severity"] == "CRITICAL" or row["correction"] is not None or row["state"] == "PROPOSED"
    return (Need.ACT if waits else Need.LOOK), (gravity, older)


def break_words(row: Mapping[str, Any]) -> str:
    """A break in one line: type, key, both sides, and the state of the work on it."""
    sides = f"book {row['book_value'] or 'nothing'}, broker {row['broker_value'] or 'nothing'}"
    return f"{row['severity']} {row['type']} {row['key']}: {sides}, {row['state'].lower()}"


def by_place(breaks: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The breaks of each account and instrument (empty: of the account itself), in their given order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in breaks:
        found.setdefault((row["account"], row["instrument"]), []).append(row)
    return found
