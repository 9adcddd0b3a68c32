"""``sup.breaks``: work on breaks through the handle, blocking and awaited; the same as ``python -m supervisor breaks``.

The law of this module: an approval covers what the caller has seen. It names both sides' values of the row that it was
given, and is refused if they have changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.book.break_work import SHORTEST_ID, BreakAction, BreakRefused, Sides
from actors.events import from_iso
from actors.journal.client import JournalAway
from actors.journal.types import JournalError
from actors.names import AUDIT
from actors.runtime.ports import CallError
from supervisor.client.calls import Port, call_with_retry, run_blocking
from supervisor.client.instrument import TIMEOUT_S
from supervisor.client.records import Records
from supervisor.client.supervisor_client import SupervisorClient
from supervisor.errors import HandleError, NotAnswered, UnknownName
from supervisor.presentation.tables import Answer, Cell, Table, columns

Until = datetime | timedelta
Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
ACKNOWLEDGED_FOR = timedelta(hours=8)
_HISTORY = 10_000


class BreakNotChanged(HandleError):
    """The request cannot be applied to this break; the message says why, and what can be done."""


class Breaks(Answer, Sequence[dict[str, Any]]):
    """Open breaks, the most urgent first. One row a break; each is a mapping with its ``id``, both sides' values,
    ``age_s``, ``state``, ``owner``, and ``correction`` if one waits for a person."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        return self._rows[place]

    def to_dict(self) -> dict[str, Any]:
        """``breaks``: the rows."""
        return {"breaks": [dict(row) for row in self._rows]}

    def table(self) -> Table:
        """One row a break."""
        shown = columns(
            "id", "account", "instrument", "type", "key", "severity", ">book_value", ">broker_value", "age", "state",
            "owner", "until", "correction",
        )  # fmt: skip
        rows: list[dict[str, Cell]] = [
            {**{column.key: row[column.key] for column in shown}, "opened_at": from_iso(row["opened_at"])}
            for row in self._rows
        ]
        return Table(f"{len(rows)} open", shown, rows, (), ("opened_at",))


class AsyncBreaks:
    """Work on breaks, for asyncio. A break is named by its id, the beginning of it, or a row of :meth:`list`."""

    def __init__(self, port: Callable[[], Port], strategy: str | None = None) -> None:
        self._port = port
        self._supervisor = SupervisorClient(port, strategy)

    async def list(self) -> Breaks:
        """Every open break. Raises :class:`NotAnswered`."""
        return Breaks(await self._rows())

    async def show(self, which: str | Row) -> Records:
        """The history of a break: every record that names it. A closed break needs its whole id. Raises
        :class:`UnknownName` where several open breaks have ids that begin so, and :class:`NotAnswered`."""
        break_id = which if isinstance(which, str) else str(which["id"])
        rows = await self._rows()
        named = any(row["id"].startswith(break_id) for row in rows)
        filters = {"discrepancy_id": _chosen(rows, break_id)["id"] if named else break_id, "limit": _HISTORY}
        try:
            return Records(await call_with_retry(self._port(), AUDIT, "query", filters, timeout_s=TIMEOUT_S))
        except (CallError, JournalError) as error:
            raise NotAnswered(f"the journal could not be read: {error}") from None

    async def ack(
        self, which: str | Row, *, reason: str, until: Until = ACKNOWLEDGED_FOR, note: str | None = None
    ) -> dict[str, Any]:
        """Take a break until a time, or for a length of time: it causes no reminders meanwhile. Returns its row; the
        change is durable. Raises :class:`BreakNotChanged`, :class:`UnknownName` and :class:`NotAnswered`."""
        return await self._do(BreakAction.ACKNOWLEDGE, which, reason=reason, until=until, note=note)

    async def assign(self, which: str | Row, owner: str | None = None, *, note: str | None = None) -> dict[str, Any]:
        """Assign it to a person, or add a note to it. Returns and raises as :meth:`ack`."""
        return await self._do(BreakAction.ASSIGN, which, owner=owner, note=note)

    async def propose(self, which: str | Row, *, reason: str, note: str | None = None) -> dict[str, Any]:
        """Propose its correction to another person. Returns and raises as :meth:`ack`."""
        return await self._do(BreakAction.PROPOSE, which, reason=reason, note=note)

    async def approve(self, which: str | Row, *, reason: str, note: str | None = None) -> dict[str, Any]:
        """Have the next check make its correction, with the broker's values then, and only if both sides still are what
        the row shows (for an id: what they are now). With ``four_eyes`` the first person's approval is a proposal: see
        ``state``. Returns and raises as :meth:`ack`."""
        return await self._do(BreakAction.APPROVE, which, reason=reason, note=note)

    async def waive(self, which: str | Row, *, reason: str, until: Until, note: str | None = None) -> dict[str, Any]:
        """Let it stand until a time, or for a length of time; it stays open, and forbids trading as before. This
        revokes an approval. Returns and raises as :meth:`ack`."""
        return await self._do(BreakAction.WAIVE, which, reason=reason, until=until, note=note)

    async def _do(
        self,
        action: BreakAction,
        which: str | Row,
        *,
        reason: str | None = None,
        note: str | None = None,
        until: Until | None = None,
        owner: str | None = None,
    ) -> dict[str, Any]:
        row = which if isinstance(which, Mapping) else await self._row(which)
        sides: Sides = (row["book_value"], row["broker_value"])
        ends = datetime.now(UTC) + until if isinstance(until, timedelta) else until
        if ends is not None and ends.tzinfo is None:
            raise ValueError(f"until: {ends} has no time zone")
        try:
            return await self._supervisor.work_on_break(
                action, str(row["id"]), reason=reason, note=note, until=ends, owner=owner, sides=sides
            )
        except BreakRefused as refused:
            raise BreakNotChanged(str(refused)) from None
        except (CallError, JournalAway) as error:
            raise NotAnswered(f"it is unknown whether the break was changed: {error}. List the breaks again") from None

    async def _row(self, break_id: str) -> dict[str, Any]:
        return _chosen(await self._rows(), break_id)

    async def _rows(self) -> Rows:
        try:
            return await self._supervisor.breaks(timeout_s=TIMEOUT_S)
        except CallError as error:
            raise NotAnswered(f"the supervisor did not list its breaks: {error}") from None


def _chosen(rows: Rows, break_id: str) -> dict[str, Any]:
    if len(break_id) < SHORTEST_ID:
        raise UnknownName(f"the id {break_id!r} is too short. Give at least {SHORTEST_ID} letters of it")
    found = [row for row in rows if row["id"].startswith(break_id)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(row["id"][:12] for row in rows[:10]) or "none"
    raise UnknownName(f"{len(found) or 'no'} open breaks have an id that starts with {break_id!r}. Open: {known}")


class BlockingBreaks:
    """Work on breaks. :class:`AsyncBreaks` documents each method."""

    def __init__(self, port: Callable[[], Port], strategy: str | None = None) -> None:
        self._work = AsyncBreaks(port, strategy)

    def list(self) -> Breaks:
        """See :meth:`AsyncBreaks.list`."""
        return run_blocking(self._work.list())

    def show(self, which: str | Row) -> Records:
        """See :meth:`AsyncBreaks.show`."""
        return run_blocking(self._work.show(which))

    def ack(
        self, which: str | Row, *, reason: str, until: Until = ACKNOWLEDGED_FOR, note: str | None = None
    ) -> dict[str, Any]:
        """See :meth:`AsyncBreaks.ack`."""
        return run_blocking(self._work.ack(which, reason=reason, until=until, note=note))

    def assign(self, which: str | Row, owner: str | None = None, *, note: str | None = None) -> dict[str, Any]:
        """See :meth:`AsyncBreaks.assign`."""
        return run_blocking(self._work.assign(which, owner, note=note))

    def propose(self, which: str | Row, *, reason: str, note: str | None = None) -> dict[str, Any]:
        """See :meth:`AsyncBreaks.propose`."""
        return run_blocking(self._work.propose(which, reason=reason, note=note))

    def approve(self, which: str | Row, *, reason: str, note: str | None = None) -> dict[str, Any]:
        """See :meth:`AsyncBreaks.approve`."""
        return run_blocking(self._work.approve(which, reason=reason, note=note))

    def waive(self, which: str | Row, *, reason: str, until: Until, note: str | None = None) -> dict[str, Any]:
        """See :meth:`AsyncBreaks.waive`."""
        return run_blocking(self._work.waive(which, reason=reason, until=until, note=note))
