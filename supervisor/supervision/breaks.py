"""The open breaks of everything that runs, and an operator's work on one of them.

The laws of this module: a list calls no actor, and is as old as the last probes; the actor that owns a break decides
what is done to it and makes that durable, and the next list shows the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from actors.book.break_work import SHORTEST_ID, BreakRefused, BreakRequest, BreakWork
from actors.book.discrepancies import Break
from actors.names import split_name
from actors.runtime.ports import Runtime
from supervisor.presentation.breaks import break_row, urgency
from supervisor.supervision.desired import DesiredState
from supervisor.supervision.health import HealthRegistry

WORK_TIMEOUT_S = 30.0


class BreakDesk:
    """All open breaks. ``refresh`` asks an actor for its health, so that the effect of work on a break is seen."""

    def __init__(
        self,
        runtime: Runtime,
        desired: DesiredState,
        healths: HealthRegistry,
        refresh: Callable[[str], Awaitable[None]],
    ) -> None:
        self._runtime = runtime
        self._desired = desired
        self._healths = healths
        self._refresh = refresh

    def rows(self) -> list[dict[str, Any]]:
        """Every open break; the one that most needs a person comes first."""
        now = self._runtime.now()
        found = (
            break_row(*split_name(name), found, work.get(found.id), now)
            for name, found, work in self._healths.open_breaks()
        )
        return sorted(found, key=urgency)

    async def work_on(self, break_id: str, request: BreakRequest) -> dict[str, Any]:
        """Apply an operator's request to the break with this id, or whose id begins with it. Returns its new row.

        Raises :class:`BreakRefused`, and whatever the call to its actor raises."""
        attempted = f"{request.action.value} break {break_id}"
        if request.reason is not None:
            codes = self._desired.configuration.breaks.all_reason_codes
            if request.reason not in codes:
                known = f"Use one of {', '.join(codes)}. The configuration can add more (breaks.reason_codes)."
                raise BreakRefused(attempted, f"{request.reason} is not a reason code", known)
        name, found = self._named(attempted, break_id)
        work: BreakWork = await self._runtime.call(name, "work_on", found.id, request, timeout_s=WORK_TIMEOUT_S)
        await self._refresh(name)
        return break_row(*split_name(name), found, work, self._runtime.now())

    def _named(self, attempted: str, break_id: str) -> tuple[str, Break]:
        named = [(name, found) for name, found, _ in self._healths.open_breaks() if found.id.startswith(break_id)]
        if len(break_id) < SHORTEST_ID:
            raise BreakRefused(attempted, "the id is too short", f"Give at least {SHORTEST_ID} letters of it.")
        if not named:
            raise BreakRefused(attempted, "no break with that id is open", "List the open breaks again.")
        if len(named) > 1:
            ids = ", ".join(found.id for _, found in named[:5])
            raise BreakRefused(
                attempted, f"{len(named)} open breaks have ids that start like this ({ids})", "Give more of it."
            )
        return named[0]


def with_work(document: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Add to each open discrepancy of a status document its age and the work on it."""
    by_place: Mapping[tuple[Any, ...], dict[str, Any]] = {
        (row["account"], row["instrument"], row["id"]): row for row in rows
    }
    for account in document["accounts"]:
        for place in (account, *account["instruments"]):
            for one in place["discrepancies"]:
                row = by_place.get((account["account"], place.get("instrument", ""), one["id"]))
                if row is not None and not one["resolved"]:
                    one |= {key: row[key] for key in ("opened_at", "age_s", "age", "state", "until", "owner")}
