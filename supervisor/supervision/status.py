"""How living and dead actors are shown: states in words, and the ``health`` of ``status --json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from actors.book.trading_permission import Halt
from actors.events import Json, to_iso
from actors.instrument.views import NOTHING_KNOWN
from actors.messages import AccountHealth, CycleReport, InstrumentHealth
from actors.reconciliation.reconciliation_pass import Status
from actors.runtime.nodes import Node
from supervisor.tree.model import (
    LIVING,
    Backoff,
    Child,
    ChildKey,
    Ending,
    InQuarantine,
    Kind,
    Pending,
    State,
)
from supervisor.tree.story import STATE_NAMES

HEALTH_AGE_S = 3.0
"""How old a probe's answer may be: a shown report is up to this much older than its actor's own."""


def state_name(state: State) -> str:
    """One word for a state."""
    return STATE_NAMES[type(state)]


def state_words(child: Child | None) -> str:
    """The state of an actor, and why."""
    if child is None:
        return "its actor has not been started yet"
    match child.state:
        case Backoff(reason=reason):
            return f"its actor died and is being restarted: {reason}"
        case InQuarantine(reason=reason):
            return f"its actor is in quarantine: {reason}"
        case Pending(reason=reason):
            return f"its actor cannot be started: {reason}"
        case Ending(death=str(death)):
            return f"its actor is being killed: {death}"
        case _:
            return f"its actor is {state_name(child.state).lower()}"


def aged(last: CycleReport, health: InstrumentHealth, max_age_s: float, now: datetime) -> CycleReport:
    """The last report as it counts now: a book last found in step too long ago (its actor is paused or hangs) is no
    longer known to be in step."""
    if last.status is not Status.SUCCESS or last.verified_at is None:
        return last
    age_s = verified_age_s(last, health, now)
    if age_s <= max_age_s + HEALTH_AGE_S:
        return last
    why = "it is paused" if health.paused else "its actor has not finished a cycle yet"
    error = f"not verified for {age_s:.0f} s: {why}" if age_s < math.inf else "not verified since the clock was set"
    return replace(last, status=Status.DEGRADED, error=error, unverified=True)


def verified_age_s(last: CycleReport, health: InstrumentHealth, now: datetime) -> float:
    """Seconds since the book was found in step: as its actor measured them, else by the clocks of both machines."""
    if health.verified_age_s is not None or last.verified_at is None:
        return math.inf if health.verified_age_s is None else health.verified_age_s
    return (now - last.verified_at).total_seconds()


def is_empty(report: CycleReport | None) -> bool:
    """Whether an instrument was last found in step without a position, a working order or an open break."""
    if report is None or report.status is not Status.SUCCESS:
        return False
    return not report.book["legs"] and not report.book["open_orders"]


def absent(
    account: str,
    instrument: str,
    child: Child | None,
    last: CycleReport | None,
    now: datetime,
    error: str | None = None,
) -> CycleReport:
    """The report of an instrument whose actor does not answer: its last report, marked as unverified."""
    why = error if error is not None else state_words(child)
    if last is not None:
        return replace(last, status=Status.DEGRADED, error=why, broker=dict(NOTHING_KNOWN), unverified=True)
    return CycleReport(
        account=account,
        instrument=instrument,
        status=Status.DEGRADED,
        error=why,
        finished_at=now,
        duration_ms=0.0,
        passes=0,
        book={"legs": [], "open_orders": []},
        broker=dict(NOTHING_KNOWN),
        unverified=True,
    )


def add_health(
    result: dict[str, Any],
    children: Mapping[ChildKey, Child],
    healths: Mapping[str, InstrumentHealth],
    now: datetime,
    halts_on: Callable[[str], tuple[Halt, ...] | None] = lambda _: (),
) -> None:
    """Add each instrument's ``health`` to the document; ``halts_on`` returns the halts that apply to it, ``None`` while
    they are not known."""
    for account in result["accounts"]:
        for row in account["instruments"]:
            name = f"{account['account']}/{row['instrument']}"
            child = children.get(ChildKey(Kind.INSTRUMENT, name))
            halts = halts_on(name)
            row["health"] = _health(child, healths.get(name), now)
            row["health"]["halted"] = None if halts is None else [halt.to_json() for halt in halts]


def add_account_health(result: dict[str, Any], healths: Sequence[AccountHealth]) -> None:
    """Add each account's ``health`` to the document: among others, when a broker that failed is tried again, and the
    state of its stream (``None`` where it has none)."""
    for account, health in zip(result["accounts"], healths, strict=True):
        account["health"] = {
            "retry_at": None if health.retry_at is None else to_iso(health.retry_at),
            "stream": None if health.stream is None else health.stream.value,
            "fetches": health.fetches,
            "call_seconds": round(health.call_seconds, 6),
            "call_errors": health.call_errors,
            "clock_steps": health.clock_steps,
            "pid": health.pid,
        }


NO_NODES: Mapping[str, Node] = MappingProxyType({})
_SHOWN = (Kind.AUDIT, Kind.SINK, Kind.ALERTS, Kind.ACCOUNT, Kind.INSTRUMENT)
assert set(_SHOWN) == set(Kind)  # noqa: S101 - a kind left out would fail in a status, and not here


def actor_rows(
    children: Mapping[ChildKey, Child], pids: Mapping[str, int], nodes: Mapping[str, Node] = NO_NODES
) -> list[dict[str, Any]]:
    """Every actor with its state and its process: infrastructure first, then accounts and instruments. ``program`` is
    the version that its process runs, ``place`` are the node labels it needs, ``node`` is the node it runs on, from the
    ``nodes`` of the cluster."""
    return [
        {
            "name": key.name,
            "kind": key.kind.name.lower(),
            "state": state_name(child.state),
            "reason": getattr(child.state, "reason", None) or getattr(child.state, "death", None),
            "restarts": child.restarts,
            "pid": pids.get(key.name),
            "program": child.program or None,
            "place": {} if child.spec is None else dict(child.spec.place),
            "node": _node(nodes.get(child.node or "")) if isinstance(child.state, LIVING) else None,
        }
        for key, child in sorted(children.items(), key=lambda item: (_SHOWN.index(item[0].kind), item[0]))
    ]


def add_nodes(result: dict[str, Any], actors: Sequence[Mapping[str, Any]]) -> None:
    """Add the ``node`` of its actor to each instrument's ``health``, from the rows of all actors."""
    nodes = {row["name"]: row["node"] for row in actors}
    for account in result["accounts"]:
        for row in account["instruments"]:
            row["health"]["node"] = nodes.get(f"{account['account']}/{row['instrument']}")


def _node(node: Node | None) -> Json:
    if node is None:
        return None
    return {"id": node.name, "address": node.address, "labels": dict(node.shown), "draining": node.draining}


def _health(child: Child | None, health: InstrumentHealth | None, now: datetime) -> dict[str, Any]:
    report = health.report if health is not None else None
    statistics = health.statistics if health is not None else None
    rate = statistics.success_rate if statistics is not None else None
    verified_at = report.verified_at if report is not None else None
    age_s = math.inf if report is None or health is None else verified_age_s(report, health, now)
    return {
        "state": state_name(child.state) if child is not None else "WAITING",
        "paused": health.paused if health is not None else False,
        "restarts": child.restarts if child is not None else 0,
        "pid": health.pid if health is not None else None,
        "version": health.version if health is not None else 0,
        "verified_at": to_iso(verified_at) if verified_at is not None else None,
        "verified_age_s": round(age_s, 3) if age_s < math.inf else None,
        "last_cycle_at": to_iso(report.finished_at) if report is not None else None,
        "next_check_s": None if health is None or health.next_check_s is None else round(health.next_check_s, 3),
        "last_cycle_ms": round(report.duration_ms, 3) if report is not None else None,
        "cycles": statistics.cycles if statistics is not None else 0,
        "cycles_by_status": dict(statistics.by_status) if statistics is not None else {},
        "success_rate": round(rate, 6) if rate is not None else None,
        "discrepancies": statistics.discrepancies if statistics is not None else 0,
        "critical": statistics.critical if statistics is not None else 0,
        "corrections": statistics.corrections if statistics is not None else 0,
        "by_type": dict(statistics.by_type) if statistics is not None else {},
        "mean_cycle_ms": round(statistics.mean_cycle_ms, 3) if statistics is not None else None,
    }
