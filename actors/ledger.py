"""What an account actor keeps of its broker's snapshots: the newest one by instrument, and the fills since it began.

The laws of this module: a slice's revision changes exactly when what it says changes; a fills section is COMPLETE for
a caller only when every fill after the caller's cursor is in it; a fill that came twice is kept once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from actors.messages import SliceRequest, Unchanged
from brokers.model import (
    AnyRow,
    Complete,
    Cursor,
    Failed,
    Fill,
    Order,
    Partial,
    Position,
    Row,
    RowProblem,
    Section,
    Slice,
    Snapshot,
    Unsupported,
    problems_of,
    rows_of,
)

FILLS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class _Said:
    """What the newest snapshot said of one instrument; compared with the one before to number revisions."""

    positions: Section[Position]
    orders: Section[Order]
    fills: str
    fills_seen: int


@dataclass(frozen=True, slots=True)
class _KeptFill:
    fill: Fill
    until: Cursor | None


class Ledger:
    """The newest snapshot of one account, and the fills it may still have to hand out.

    ``incarnation`` keeps the revisions of two incarnations of an account actor apart.
    """

    def __init__(self, account: str, incarnation: str) -> None:
        self._account = account
        self._incarnation = incarnation
        self._snapshot: Snapshot | None = None
        self._said: dict[str, _Said] = {}
        self._revisions: dict[str, int] = defaultdict(int)
        self._fills: dict[str, list[_KeptFill]] = defaultdict(list)
        self._fill_ids: dict[str, str] = {}
        self._covered_from: Cursor | None = None
        self._gap = False
        self.fills_cursor: Cursor | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest one."""
        return self._snapshot

    def instruments(self) -> frozenset[str]:
        """Every instrument with a position or an order in the newest snapshot, or a fill since we began."""
        now = self._snapshot.instruments() if self._snapshot is not None else frozenset()
        return now | {instrument for instrument, kept in self._fills.items() if kept}

    def covers(self, fills_since: Cursor | None) -> bool:
        """Whether every fill after that cursor is, or will be, among the fills kept here."""
        if fills_since is None:
            return True
        return self._covered_from is not None and self._covered_from <= fills_since

    def take(self, snapshot: Snapshot, asked_since: Cursor | None) -> None:
        """A new snapshot, whose fills were asked for from ``asked_since``."""
        self._snapshot = snapshot
        self._gap = False
        if isinstance(snapshot.fills, Complete):
            start = asked_since if asked_since is not None else snapshot.fills_cursor
            if self._covered_from is None or (start is not None and start < self._covered_from):
                self._covered_from = start
            self.fills_cursor = snapshot.fills_cursor
        elif snapshot.fills_cursor is not None:
            self._go_on_from(snapshot.fills_cursor, asked_since)
        for fill in rows_of(snapshot.fills):
            if fill.fill_id not in self._fill_ids:
                self._fill_ids[fill.fill_id] = fill.instrument
                self._fills[fill.instrument].append(_KeptFill(fill, snapshot.fills_cursor))
        self._forget_oldest()
        positions, orders = _grouped(snapshot.positions), _grouped(snapshot.orders)
        fills_say = _fills_say(snapshot.fills)
        for instrument in self._said.keys() | positions.keys() | orders.keys() | self._fills.keys():
            self._compare(instrument, positions, orders, fills_say)

    def _go_on_from(self, cursor: Cursor, asked_since: Cursor | None) -> None:
        """A fills section that is not COMPLETE says where to ask next. Where that is further on than was asked, what
        lies between is lost at the broker: it is not covered, and whoever needed it is told once."""
        self._gap = cursor != asked_since and isinstance(self._snapshot and self._snapshot.fills, Failed)
        if self._gap:
            self._covered_from = cursor
        self.fills_cursor = cursor

    def slice(self, request: SliceRequest) -> Slice | Unchanged:
        """The newest rows of one instrument. There must be a snapshot."""
        snapshot = self._snapshot
        assert snapshot is not None  # noqa: S101 - the account actor asks only then
        instrument = request.instrument
        if instrument not in self._said:
            empty: dict[str, list[Position]] = {}
            none: dict[str, list[Order]] = {}
            self._compare(instrument, empty, none, _fills_say(snapshot.fills))
        said = self._said[instrument]
        revision = f"{self._incarnation}:{instrument}:{self._revisions[instrument]}"
        cursor = self.fills_cursor if isinstance(snapshot.fills, Complete) or self._gap else None
        if revision == request.known_revision:
            return Unchanged(revision, snapshot.requested_at, snapshot.as_of, cursor)
        return Slice(
            account=self._account,
            instrument=instrument,
            requested_at=snapshot.requested_at,
            as_of=snapshot.as_of,
            positions=said.positions,
            orders=said.orders,
            fills=self._fills_for(request),
            fills_cursor=cursor,
            conventions=snapshot.conventions,
            revision=revision,
        )

    def unowned_problems(self) -> tuple[RowProblem, ...]:
        """Unreadable rows that name no instrument."""
        problems = self._snapshot.problems() if self._snapshot is not None else ()
        return tuple(problem for problem in problems if problem.instrument is None)

    def _fills_for(self, request: SliceRequest) -> Section[Fill]:
        assert self._snapshot is not None  # noqa: S101 - as in slice
        section = self._snapshot.fills
        if isinstance(section, Failed | Unsupported):
            return section
        since = request.fills_since
        if not self.covers(since):
            return Failed(f"fills since {since} are not at hand")
        kept = self._fills.get(request.instrument, ())
        rows = tuple(k.fill for k in kept if since is None or k.until is None or k.until > since)
        problems = _problems_for(section, request.instrument)
        return Partial(rows, problems) if problems else Complete(rows)

    def _compare(
        self,
        instrument: str,
        positions: dict[str, list[Position]],
        orders: dict[str, list[Order]],
        fills_say: str,
    ) -> None:
        assert self._snapshot is not None  # noqa: S101 - take has just set it
        said = _Said(
            _section_for(self._snapshot.positions, instrument, positions),
            _section_for(self._snapshot.orders, instrument, orders),
            fills_say + repr(_problems_for(self._snapshot.fills, instrument)),
            len(self._fills.get(instrument, ())),
        )
        if self._said.get(instrument) != said:
            self._revisions[instrument] += 1
            self._said[instrument] = said

    def _forget_oldest(self) -> None:
        """Bound the memory. What is forgotten is no longer covered, and is asked for again if anybody needs it."""
        while len(self._fill_ids) > FILLS_KEPT:
            oldest = next(iter(self._fill_ids))
            instrument = self._fill_ids.pop(oldest)
            forgotten = self._fills[instrument].pop(0)
            if forgotten.until is not None:
                self._covered_from = max(self._covered_from or forgotten.until, forgotten.until)


def _grouped(section: Section[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(section):
        groups[row.instrument].append(row)
    return groups


def _problems_for(section: Section[AnyRow], instrument: str) -> tuple[RowProblem, ...]:
    return tuple(p for p in problems_of(section) if p.instrument is None or p.instrument == instrument)


def _section_for(section: Section[Row], instrument: str, groups: dict[str, list[Row]]) -> Section[Row]:
    """One instrument's part of a section: an unreadable row of another instrument makes it no less complete."""
    if isinstance(section, Failed | Unsupported):
        return section
    rows = tuple(groups.get(instrument, ()))
    problems = _problems_for(section, instrument)
    partly_known = bool(problems) or (isinstance(section, Partial) and not section.problems)
    return Partial(rows, problems) if partly_known else Complete(rows)


def _fills_say(section: Section[Fill]) -> str:
    return section.reason if isinstance(section, Failed) else section.completeness.value
