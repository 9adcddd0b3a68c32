"""What an account actor keeps of its broker's snapshots: the newest one by instrument, and the fills since it began.

The laws of this module: a slice's revision changes exactly when its content changes; a fills section is COMPLETE for a
caller only when it has every fill after the caller's cursor; a fill that came twice is kept once, and returned again
only when its commission has arrived since; a fill that was read reaches its instrument, whatever else in its section
could not be read; where the adapter left out a row of an instrument, no section of that instrument is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice

from actors.messages import SliceRequest, Unchanged
from brokers.frozen import dataclass
from brokers.model import (
    AnyRow,
    Claims,
    Complete,
    ContractFacts,
    Conventions,
    Cursor,
    Evidence,
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
    """The newest snapshot's content for one instrument; compared with the one before to number revisions."""

    positions: Section[Position]
    orders: Section[Order]
    fills: str
    fills_seen: tuple[int, int]
    conventions: Conventions
    left_out: str | None
    unread_legs: Mapping[str, str]
    contract: ContractFacts | None
    evidence: tuple[Evidence, ...]
    aside: tuple[Position, ...]
    claims: Claims | None


@dataclass(slots=True)
class _KeptFill:
    """``until`` is the first cursor whose holder has received this fill; ``None`` while no COMPLETE section has had it,
    and then everybody receives it. Of a fill that is not ``at_hand`` only the id is remembered. ``given``: its
    instrument has received it in its present form."""

    fill: Fill
    until: Cursor | None
    at_hand: bool = True
    given: bool = False


@dataclass(frozen=True, slots=True)
class _Gap:
    """Fills before ``end`` that the broker reported as no longer available. Each holder of an older cursor gets this
    once, and then goes on from there."""

    end: Cursor
    reason: str


class SnapshotCache:
    """The newest snapshot of one account, and the fills that it may still have to return.

    ``incarnation`` keeps the revisions of two incarnations of an account actor apart.
    """

    def __init__(self, account: str, incarnation: str) -> None:
        self._account = account
        self._incarnation = incarnation
        self._snapshot: Snapshot | None = None
        self._claims_of: Callable[[str], Claims] | None = None
        self._said: dict[str, _Said] = {}
        self._revisions: dict[str, int] = defaultdict(int)
        self._fills: dict[str, list[_KeptFill]] = defaultdict(list)
        self._by_id: dict[str, _KeptFill] = {}
        self._fill_counts: dict[str, int] = defaultdict(int)
        self._charged_late: dict[str, int] = defaultdict(int)
        self._covered_from: Cursor | None = None
        self._gap: _Gap | None = None
        self.fills_cursor: Cursor | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot."""
        return self._snapshot

    def instruments(self) -> frozenset[str]:
        """Every instrument with a position, a working order or an unreadable row in the newest snapshot, or a fill
        since this cache began or since the instrument was forgotten."""
        return frozenset(instrument for instrument, kept in self._fills.items() if kept) | self._shown()

    def _shown(self) -> frozenset[str]:
        """The instruments of which the newest snapshot shows anything besides fills."""
        if self._snapshot is None:
            return frozenset()
        held = {position.instrument for position in rows_of(self._snapshot.positions)}
        working = {order.instrument for order in rows_of(self._snapshot.orders) if not order.status.terminal}
        unreadable = {problem.instrument for problem in self._snapshot.problems() if problem.instrument is not None}
        return frozenset(held | working | unreadable)

    def forget(self, instrument: str) -> bool:
        """Drop the fills of an instrument that it has received; their ids are remembered. Returns False, and drops
        nothing, where the newest snapshot shows anything of it or it has not received a fill: it is not empty."""
        kept_fills = self._fills.get(instrument, [])
        if not all(kept.given for kept in kept_fills) or instrument in self._shown():
            return False
        for kept in kept_fills:
            kept.at_hand = False
        self._fills.pop(instrument, None)
        return True

    def covers(self, fills_since: Cursor | None) -> bool:
        """Whether every fill after that cursor that the broker still has is, or will be, among the fills kept here."""
        if fills_since is None or self._before_gap(fills_since) is not None:
            return True
        return self._covered_from is not None and self._covered_from <= fills_since

    def has_fills_after(self, instrument: str, cursor: Cursor | None) -> bool:
        """Whether a fill of the instrument is kept here that the holder of this cursor has not received."""
        kept = self._fills.get(instrument, ())
        return any(cursor is None or one.until is None or one.until > cursor for one in kept)

    def take(
        self, snapshot: Snapshot, asked_since: Cursor | None, claims_of: Callable[[str], Claims] | None = None
    ) -> None:
        """Take a new snapshot, whose fills were requested from ``asked_since``, and the claims of each instrument in a
        book kept elsewhere at that time."""
        self._snapshot = snapshot
        self._claims_of = claims_of
        self._take_fills(snapshot, asked_since)
        self._forget_oldest(snapshot, asked_since)
        positions, orders = _grouped(snapshot.positions), _grouped(snapshot.orders)
        fills_say = _fills_say(snapshot.fills)
        for instrument in self._said.keys() | positions.keys() | orders.keys() | self._fills.keys():
            self._compare(instrument, positions, orders, fills_say)

    def slice(self, request: SliceRequest) -> Slice | Unchanged:
        """The newest rows of one instrument. There must be a snapshot."""
        snapshot = self._snapshot
        assert snapshot is not None  # noqa: S101 - the account actor calls this only then
        instrument = request.instrument
        if instrument not in self._said:
            empty: dict[str, list[Position]] = {}
            none: dict[str, list[Order]] = {}
            self._compare(instrument, empty, none, _fills_say(snapshot.fills))
        said = self._said[instrument]
        gap = self._before_gap(request.fills_since)
        known_to = ":gap" if gap is not None else "" if self.covers(request.fills_since) else ":part"
        revision = f"{self._incarnation}:{instrument}:{self._revisions[instrument]}{known_to}"
        cursor = self.fills_cursor if isinstance(snapshot.fills, Complete) else None
        cursor = gap.end if gap is not None else cursor
        if said.left_out is not None:
            cursor = None  # its fills are not known, so no book may move its cursor past them
        if revision == request.known_revision:
            return Unchanged(revision, snapshot.requested_at, snapshot.as_of, cursor, snapshot.whole)
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
            whole=snapshot.whole,
            unread_legs=said.unread_legs,
            contract=said.contract,
            evidence=said.evidence,
            aside=said.aside,
            claims=said.claims,
        )

    def _fills_for(self, request: SliceRequest) -> Section[Fill]:
        assert self._snapshot is not None  # noqa: S101 - as in slice
        section = self._snapshot.fills
        if isinstance(section, Failed | Unsupported):
            return section
        left_out = self._snapshot.left_out.get(request.instrument)
        if left_out is not None:
            return Failed(left_out)
        since = request.fills_since
        gap = self._before_gap(since)
        if gap is not None:
            return Failed(gap.reason)
        if not self.covers(since):
            return Failed(f"the fills since {since} have not been read")
        chosen = [
            k for k in self._fills.get(request.instrument, ()) if since is None or k.until is None or k.until > since
        ]
        for kept in chosen:
            kept.given = True
        rows = tuple(kept.fill for kept in chosen)
        return _of_one_instrument(section, request.instrument, rows)

    def _take_fills(self, snapshot: Snapshot, asked_since: Cursor | None) -> None:
        section, cursor = snapshot.fills, snapshot.fills_cursor
        if isinstance(section, Failed):
            # Where the adapter continues after the requested cursor, what lies between is no longer available.
            if asked_since is not None and cursor is not None and cursor > asked_since:
                self._gap = _Gap(cursor, section.reason)
                self.fills_cursor = cursor
            return
        if isinstance(section, Complete | Partial):
            start = asked_since if asked_since is not None else cursor
            if start is not None and (self._covered_from is None or start < self._covered_from):
                self._covered_from = start
            self.fills_cursor = cursor if cursor is not None else self.fills_cursor
        until = cursor if isinstance(section, Complete) else None
        for fill in rows_of(section):
            kept = self._by_id.get(fill.account_key)
            if kept is None:
                kept = self._by_id[fill.account_key] = _KeptFill(fill, until)
                self._fills[fill.instrument].append(kept)
                self._fill_counts[fill.instrument] += 1  # their number stays the same once the oldest are forgotten
            elif _is_charged_late(kept.fill, fill):
                self._give_again(kept, fill, until)
            elif kept.until is None:
                kept.until = until

    def _give_again(self, kept: _KeptFill, fill: Fill, until: Cursor | None) -> None:
        """The commission of a fill has arrived. The cursor need not have moved with it, so the holder of the present
        one receives the fill again; for an instrument that was forgotten it is something new."""
        kept.fill = replace(kept.fill, commission=fill.commission, commission_currency=fill.commission_currency)
        kept.until = None if until is None else until + 1
        kept.given = False
        self._charged_late[kept.fill.instrument] += 1
        if not kept.at_hand:
            kept.at_hand = True
            self._by_id[fill.account_key] = self._by_id.pop(fill.account_key)
            self._fills[kept.fill.instrument].append(kept)

    def _before_gap(self, cursor: Cursor | None) -> _Gap | None:
        """The gap that a holder of this cursor has not been given yet."""
        return self._gap if cursor is not None and self._gap is not None and cursor < self._gap.end else None

    def _compare(
        self,
        instrument: str,
        positions: dict[str, list[Position]],
        orders: dict[str, list[Order]],
        fills_say: str,
    ) -> None:
        assert self._snapshot is not None  # noqa: S101 - take has just set it
        left_out = self._snapshot.left_out.get(instrument)
        said = _Said(
            _section_for(self._snapshot.positions, instrument, positions, left_out),
            _section_for(self._snapshot.orders, instrument, orders, left_out),
            fills_say + repr(_problems_for(self._snapshot.fills, instrument)),
            (self._fill_counts.get(instrument, 0), self._charged_late.get(instrument, 0)),
            self._snapshot.conventions,
            left_out,
            self._snapshot.unread_legs,
            self._snapshot.contracts.get(instrument),
            tuple(one for one in self._snapshot.evidence if one.instrument == instrument),
            tuple(one for one in self._snapshot.aside if one.instrument == instrument),
            None if self._claims_of is None else self._claims_of(instrument),
        )
        if self._said.get(instrument) != said:
            self._revisions[instrument] += 1
            self._said[instrument] = said

    def _forget_oldest(self, snapshot: Snapshot, asked_since: Cursor | None) -> None:
        """Bound the memory. What is forgotten is no longer covered, and is requested again if anybody needs it. What
        this very fetch brought stays, however much it is and however long it has been known: otherwise nobody would
        ever receive it. Everything after the cursor of a complete fetch is in it, and is covered."""
        rows = rows_of(snapshot.fills)
        too_many = len(self._by_id) - max(FILLS_KEPT, len(rows))
        if too_many <= 0:
            return
        brought = {fill.account_key for fill in rows}
        whole_from = asked_since if isinstance(snapshot.fills, Complete) else None
        for name in list(islice((name for name in self._by_id if name not in brought), too_many)):
            forgotten = self._by_id.pop(name)
            if not forgotten.at_hand:
                continue
            self._fills[forgotten.fill.instrument].remove(forgotten)
            gone = forgotten.until if forgotten.until is not None else self.fills_cursor
            if gone is not None:
                gone = gone if whole_from is None else min(gone, whole_from)
                self._covered_from = max(self._covered_from or gone, gone)


def with_owners(slice_: Slice, owners: Mapping[str, str]) -> Slice:
    """The slice with the owning order's strategy added to the fills of a combination's legs."""
    section = slice_.fills
    if not owners or not isinstance(section, Complete | Partial) or not any(fill.combination for fill in section.rows):
        return slice_
    rows = tuple(
        replace(fill, owner=owners.get(fill.broker_order_id or "") or owners.get(fill.client_order_id or ""))
        if fill.combination not in (None, slice_.instrument)
        else fill
        for fill in section.rows
    )
    return replace(slice_, fills=replace(section, rows=rows))


def _is_charged_late(known: Fill, newer: Fill) -> bool:
    """Whether a fill now has a commission that it did not have before."""
    if newer.commission is None:
        return False
    return (newer.commission, newer.commission_currency) != (known.commission, known.commission_currency)


def _grouped(section: Section[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(section):
        groups[row.instrument].append(row)
    return groups


def _problems_for(section: Section[AnyRow], instrument: str) -> tuple[RowProblem, ...]:
    return tuple(p for p in problems_of(section) if p.instrument is None or p.instrument == instrument)


def _section_for(
    section: Section[Row], instrument: str, groups: dict[str, list[Row]], left_out: str | None
) -> Section[Row]:
    """One instrument's part of a section: an unreadable row of another instrument makes it no less complete. A row that
    was left out makes it FAILED, whatever other rows it has: they may be of another contract than those of the book."""
    if isinstance(section, Failed | Unsupported):
        return section
    if left_out is not None:
        return Failed(left_out)
    return _of_one_instrument(section, instrument, tuple(groups.get(instrument, ())))


def _of_one_instrument(
    section: Complete[AnyRow] | Partial[AnyRow], instrument: str, rows: tuple[Row, ...]
) -> Complete[Row] | Partial[Row]:
    """Its rows, PARTIAL where an unreadable row may belong to it or rows are missing for another reason."""
    problems = _problems_for(section, instrument)
    partly_known = bool(problems) or (isinstance(section, Partial) and not section.problems)
    return Partial(rows, problems) if partly_known else Complete(rows)


def _fills_say(section: Section[Fill]) -> str:
    return section.reason if isinstance(section, Failed) else section.completeness.value
