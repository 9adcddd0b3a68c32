"""Reads the lists of an account over its session, whole or updated by pushes, and keeps what the next reading needs.

The laws of this module:

* Positions, orders and executions are requested in this order; positions and executions again while something is
  executed in between. So every fill that the positions contain is among the executions, and the executions contain no
  other.
* Each list stands alone: one that did not come to its end becomes a reason in words, and the others go on.
* A reading is updated by pushes only over the connection it was made on, and only for a while.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

from loguru import logger

from brokers.clocks import BrokerTime, broker_time
from brokers.errors import Malformed, Unreachable, with_remedy
from brokers.frozen import dataclass
from brokers.ib import decode, rows, wire
from brokers.ib.commissions import Commissions
from brokers.ib.contracts import Names
from brokers.ib.executions import Listing
from brokers.ib.link import (
    COMPLETED_ORDERS,
    CURRENT_TIME,
    EXECUTIONS,
    OPEN_ORDERS,
    POSITIONS,
    Declined,
    Ended,
    NoAnswer,
    contract_details,
)
from brokers.ib.order_lives import Hours, Lives
from brokers.ib.pushed_changes import carried, is_whole
from brokers.ib.reading import Lists, Reading, in_doubt, read
from brokers.ib.row_decoder import Heard
from brokers.ib.rows import Read, Scope, WorkingOrder
from brokers.ib.session import GATEWAY, Session
from brokers.ib.wire import Execution, Holding, Notice
from brokers.kit.foreign_row import BadRow
from brokers.model import Complete, ContractFacts, Failed, StreamedFill, rows_of
from brokers.port import Clock

_REREADS = 2
_CLOCKS_APART = timedelta(minutes=5)
_PUSHED_KINDS = frozenset({0, wire.POSITION, wire.OPEN_ORDER, wire.ORDER_STATUS, wire.EXECUTION})

_DETAILS_TRIES = 2
_HOURS = 20
_HOURS_EVERY_S = 3600.0
_DETAILS_S = 2.0
"""Contract details must not use up the time of an account's reading."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The last reading, if pushes may update it: the connection it was made on, how often TWS had lost touch by then,
    and when everything was last read."""

    lists: Lists
    generation: int
    losses: int
    whole_at_s: float


class Reader:
    """Reads one account. ``zone_seen`` is TWS's time zone as far as it is known. ``day_ended`` says that TWS began its
    list of executions anew; the caller resets it. ``instrument_of`` maps a broker_order_id to its instrument."""

    def __init__(
        self,
        account: str,
        session: Session,
        client_id: int,
        scope: Scope,
        names: Names,
        commissions: Commissions,
        zone: tzinfo | None,
        full_every_s: float,
        clock: Clock,
    ) -> None:
        self.zone_seen = zone
        self.day_ended = False
        self.carried = False
        self.last_heard_at: datetime | None = None
        self._heard_tick: float | None = None
        self.instrument_of: dict[str, str] = {}
        self._account = account
        self._session = session
        self._client_id = client_id
        self._scope = scope
        self._names = names
        self._commissions = commissions
        self._zone = zone
        self._full_every_s = full_every_s
        self._clock = clock
        self._listing = Listing()
        self._held_at: int | None = None
        self._kept: _Kept | None = None
        self._losses = 0
        self._pushed: list[Heard] = []
        self._live_executions: dict[str, Heard] = {}
        self._revisions: dict[str, dict[int, Execution]] = {}
        self._held: dict[int, Decimal] = {}
        self._details_asked: dict[int, int] = {}
        self._hours_asked: dict[int, float] = {}
        self._lives = Lives()
        self._portfolio: dict[int, Decimal] = {}

    # -- rows that TWS pushes --------------------------------------------------------------------------------------

    def hear(self, heard: Heard) -> None:
        """Take a row that no request asked for."""
        self._heard_anything()
        if heard.kind in _PUSHED_KINDS:
            self._pushed.append(heard)
        if heard.kind == wire.POSITION:
            self._note_held(rows.holdings([heard], self._scope_now()))
        if heard.kind == wire.EXECUTION and len(heard.fields) > 14:
            self._live_executions[heard.fields[14]] = heard

    def executed(self, heard: Heard) -> StreamedFill | None:
        """The execution in a pushed row: a first revision, of a contract that is clear, dated in a known time zone;
        ``None`` in any doubt. Only the lists show what corrects another execution and what belongs to a combination."""
        if self._kept is None or heard.trouble is not None:
            return None
        lists = self._kept.lists
        now = lists.began_at + (self._clock() - lists.requested_at)
        read = rows.executions([heard], self._scope_now(), self._zone, now + _CLOCKS_APART)
        known = decode.fills(read, self._names)
        if len(read.facts) != 1 or not isinstance(known, Complete) or len(known.rows) != 1:
            return None
        contract, fill = read.facts[0].contract, known.rows[0]
        if read.facts[0].revision != 1 or fill.combination is not None:
            return None
        return StreamedFill(fill, identity=str(contract.con_id))

    def hear_portfolio(self, con_id: int, held: Decimal) -> bool:
        """Take a row of the portfolio; return whether it shows a quantity that no position row has shown."""
        self._portfolio[con_id] = held
        return self._held.get(con_id, Decimal(0)) != held

    def distrust(self) -> None:
        """Stop updating the last reading: TWS was out of touch."""
        self._losses += 1

    def silent_s(self) -> float | None:
        """For how long TWS has sent nothing, by the monotonic clock; ``None`` before the first row."""
        return None if self._heard_tick is None else time.monotonic() - self._heard_tick

    def _heard_anything(self) -> None:
        self.last_heard_at, self._heard_tick = self._clock(), time.monotonic()

    def undisturbed(self) -> datetime | None:
        """When TWS last sent anything, where the last reading still stands; else ``None``."""
        kept = self._kept
        if self._disagreeing():
            return None
        if kept is None or self._pushed or not self._fits(kept) or self._is_due(kept) or self.last_heard_at is None:
            return None
        return max(kept.lists.requested_at, self.last_heard_at)

    def handed_out(self) -> None:
        """The caller has received the executions pushed so far."""
        self._live_executions.clear()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def now(self, *, beginning: bool, whole: bool = False) -> Reading:
        """The account now. At the ``beginning`` of a book the method waits until the second of the newest execution is
        over. With ``whole`` everything is read, and no earlier reading is updated by pushes (:attr:`carried` says which
        it was). Raises as :meth:`brokers.port.Broker.snapshot` does."""
        if not beginning and not whole:
            reading = await self._carry_on(self._session.deadline())
            if reading is not None:
                self.carried = True
                return reading
        self.carried = False
        self._kept, losses = None, self._losses
        reading = await self._read(self._session.deadline())
        for _ in range(_REREADS if beginning else 0):
            if not _in_its_own_second(reading):
                break
            await asyncio.sleep(1.0)
            reading = await self._read(self._session.deadline())
        ends_at = self._session.deadline()
        moved = self._listing.moved(reading.listed)
        emptied = not moved and self._is_emptied(reading)
        for _ in range(_REREADS):
            if not moved and not emptied:
                break
            reading, emptied = await self._read_again(reading, ends_at), False
            moved = self._listing.moved(reading.listed)
        self._session.in_touch()
        reading = self._believed(in_doubt(reading, moved))
        if not moved and losses == self._losses:
            self._keep(reading)
        return reading

    async def orders_and_fills(self) -> Reading:
        """Everything but the positions."""
        await self._session.linked()
        lists = await self._orders_and_executions(self._session.deadline())
        self._session.in_touch()
        reading = read(lists, self._names, self._errors(), self._commissions.known)
        return replace(reading, orders=self._lives.known(reading.orders))

    async def open_orders(self) -> Read[WorkingOrder]:
        """The open orders alone. Raises ``NoAnswer``, ``Declined`` and broker errors."""
        found = await self._session.ask(OPEN_ORDERS, self._session.deadline())
        return rows.working_orders(found, self._scope_now())

    async def server_time(self, ends_at: float) -> int:
        """TWS's epoch second. Raises broker errors."""
        attempted = "read TWS's clock"
        try:
            try:
                answers = await self._session.ask(CURRENT_TIME, ends_at)
            except Ended:  # it often ended long ago, and is only noticed now
                answers = await self._session.ask(CURRENT_TIME, ends_at)
            self._heard_anything()
            return wire.server_time(answers[-1].fields if answers else ())
        except (NoAnswer, Declined) as error:
            raise Unreachable(attempted, self._account, str(error), GATEWAY) from None
        except BadRow as error:
            raise Malformed(attempted, self._account, str(error), "It is requested again by itself") from None

    def _scope_now(self) -> Scope:
        return replace(self._scope, others=self._session.others)

    def _errors(self) -> dict[tuple[int, int], Notice]:
        return {(self._client_id, order_id): notice for order_id, notice in self._session.errors.items()}

    async def _carry_on(self, ends_at: float) -> Reading | None:
        """The last reading with what TWS pushed since, for two messages; ``None`` where everything has to be read.
        TWS's answers and pushes come in one order, so every push from before its clock's answer has been received."""
        kept, self._kept = self._kept, None
        if kept is None or not self._fits(kept):
            return None
        if self._is_due(kept):
            return None
        requested_at = self._clock()
        server_s = await self.server_time(ends_at)
        found = await self._session.asked(OPEN_ORDERS, ends_at)
        if isinstance(found, str) or not self._fits(kept):
            return None
        latest = BrokerTime.fromtimestamp(server_s, UTC) + _CLOCKS_APART
        scope, pushed = self._scope_now(), self._pushed
        if any(row.kind == 0 or row.trouble is not None for row in pushed):
            return None
        lists = carried(kept.lists, pushed, rows.working_orders(found, scope), scope, self._zone, latest)
        if lists is None or self._disagreeing() or isinstance(lists.positions, str):
            return None
        unasked = self._names.unmagnified(decode.contracts(lists.positions))
        if any(contract.con_id not in self._details_asked for contract in unasked):
            return None
        self._pushed = []
        lists = replace(lists, requested_at=requested_at, server_s=server_s)
        self._kept = replace(kept, lists=lists)
        await self._ask_hours(lists, ends_at)
        reading = self._decoded(lists)
        self._listing.moved(reading.listed)
        return reading

    def _is_due(self, kept: _Kept) -> bool:
        """Whether everything has to be read again."""
        return time.monotonic() - kept.whole_at_s >= self._full_every_s

    def _fits(self, kept: _Kept) -> bool:
        """Whether it was read over the present connection, and TWS has not lost touch since."""
        return self._session.alive and (kept.generation, kept.losses) == (self._session.generation, self._losses)

    def _keep(self, reading: Reading) -> None:
        if is_whole(reading.lists) and isinstance(reading.positions, Complete):
            self._kept = _Kept(reading.lists, self._session.generation, self._losses, time.monotonic())

    def _decoded(self, lists: Lists) -> Reading:
        reading = self._with_lives(read(lists, self._names, self._errors(), self._commissions.known))
        self.instrument_of = {order.broker_order_id: order.instrument for order in rows_of(reading.orders)}
        return reading

    async def _read(self, ends_at: float) -> Reading:
        requested_at = self._clock()
        server_s = await self.server_time(ends_at)
        held = await self._positions(ends_at)
        rest = await self._orders_and_executions(ends_at, server_s)
        lists = replace(rest, requested_at=requested_at, positions=held)
        await self._ask_magnifiers(lists, ends_at)
        await self._ask_hours(lists, ends_at)
        if not lists.any_known():
            remedy = "The account counts as unverified; it is requested again by itself"
            raise Unreachable("read the account", self._account, str(lists.positions), remedy)
        return self._decoded(lists)

    async def _ask_magnifiers(self, lists: Lists, ends_at: float) -> None:
        """Request the unit of price of contracts that may be quoted in hundredths, once for each, whatever the
        interval. While TWS does not answer, their average costs count as not reported."""
        reads = [one for one in (lists.positions, lists.executions) if isinstance(one, Read)]
        for contract in self._names.unmagnified(contract for one in reads for contract in decode.contracts(one)):
            tries = self._details_asked.get(contract.con_id, 0)
            if tries >= _DETAILS_TRIES:
                continue
            self._details_asked[contract.con_id] = tries + 1
            self._names.unsaid.add(contract.con_id)
            answers = await self._session.asked(
                contract_details(contract.con_id), min(ends_at, time.monotonic() + _DETAILS_S)
            )
            if isinstance(answers, str):
                logger.warning("{}: the price unit of {}: {}", self._account, contract.local_symbol, answers)
                return
            self._take_details(answers)

    def _take_details(self, answers: list[Heard]) -> None:
        for row in answers:
            try:
                con_id, magnifier = wire.price_magnifier(row.fields)
            except BadRow:
                continue
            self._names.magnifiers[con_id] = magnifier
            self._names.unsaid.discard(con_id)
            self._lives.learn(con_id, Hours.parse(*wire.contract_hours(row.fields)[1:]))

    async def _ask_hours(self, lists: Lists, ends_at: float) -> None:
        """Request the trading hours of contracts whose working orders depend on them, or whose last day is near: a few
        in each reading, and no contract twice an hour. Without the hours no end of an order or contract is claimed."""
        now = time.monotonic()
        lacking = [] if isinstance(lists.working, str) else self._lives.lacking(lists.working.facts, lists.began_at)
        if isinstance(lists.positions, Read):
            held = (fact.contract for fact in lists.positions.facts if fact.quantity)
            lacking += self._lives.expiring(held, lists.began_at)
        due = [one for one in lacking if now - self._hours_asked.get(one, now - _HOURS_EVERY_S) >= _HOURS_EVERY_S]
        for con_id in due[:_HOURS]:
            self._hours_asked[con_id] = now
            answers = await self._session.asked(contract_details(con_id), min(ends_at, time.monotonic() + _DETAILS_S))
            if isinstance(answers, str):
                return
            self._take_details(answers)

    def _with_lives(self, reading: Reading) -> Reading:
        working, now = reading.lists.working, reading.lists.began_at
        reading = replace(reading, contracts={name: self._with_end(one) for name, one in reading.contracts.items()})
        if isinstance(working, str):
            return reading
        return replace(reading, orders=self._lives.with_ends(reading.orders, working.facts, now))

    def _with_end(self, facts: ContractFacts) -> ContractFacts:
        if facts.expiry is None or facts.identity is None:
            return facts
        ends_at = self._lives.last_moment(int(facts.identity), facts.expiry)
        return facts if ends_at is None else replace(facts, ends_at=ends_at)

    async def _read_again(self, reading: Reading, ends_at: float) -> Reading:
        """The same with positions and executions of now. Its times stay: it contains no less than it did then."""
        held = await self._positions(ends_at)
        executed = await self._executions(ends_at, reading.lists.began_at)
        lists = replace(reading.lists, positions=held, executions=executed)
        return self._with_lives(read(lists, self._names, self._errors(), self._commissions.known))

    async def _positions(self, ends_at: float) -> Read[Holding] | str:
        found = await self._session.asked(POSITIONS, ends_at)
        self._pushed.clear()  # what was pushed before the list ended is in it
        if isinstance(found, str):
            return found
        held = rows.holdings(found, self._scope_now())
        self._held.clear()
        self._portfolio.clear()  # as above: it may speak of what was held before
        self._note_held(held)
        return held

    def _note_held(self, positions: Read[Holding]) -> None:
        self._held.update({fact.contract.con_id: fact.quantity for fact in positions.facts})

    def _disagreeing(self) -> bool:
        """Whether the portfolio shows a quantity that no position row has shown; then the positions are read anew."""
        return any(self._held.get(con_id, Decimal(0)) != held for con_id, held in self._portfolio.items())

    def _is_emptied(self, reading: Reading) -> bool:
        """Whether positions were held before and no row is left."""
        held = reading.lists.positions
        return self._held_at is not None and isinstance(held, Read) and not held.facts and not held.troubles

    def _believed(self, reading: Reading) -> Reading:
        """A TWS that has just started may show no position yet. So a list without rows, where there were positions
        before, is not accepted the first time after a reconnect; on the same connection it is requested twice."""
        held, emptied = reading.lists.positions, self._is_emptied(reading)
        if isinstance(held, str) or held.troubles:
            return reading
        before, now = self._held_at, self._session.generation
        self._held_at = now if held.facts else None
        if not emptied or before == now:
            return reading
        reason = with_remedy("no position is left after a reconnect", "It is accepted when TWS shows it again")
        return replace(reading, positions=Failed(reason))

    async def _orders_and_executions(self, ends_at: float, server_s: int | None = None) -> Lists:
        working = await self._session.asked(OPEN_ORDERS, ends_at)
        completed = await self._session.asked(COMPLETED_ORDERS, ends_at)
        requested_at = self._clock()
        clock = broker_time(requested_at) if server_s is None else BrokerTime.fromtimestamp(server_s, UTC)
        executed = await self._executions(ends_at, clock)
        scope = self._scope_now()
        return Lists(
            requested_at=requested_at,
            server_s=int(clock.timestamp()),
            positions="the positions were not requested",
            working=working if isinstance(working, str) else rows.working_orders(working, scope),
            completed=completed if isinstance(completed, str) else rows.completed_orders(completed, scope),
            executions=executed,
        )

    async def _executions(self, ends_at: float, clock: BrokerTime) -> Read[Execution] | str:
        """The executions listed, and those pushed that are not listed yet or no longer."""
        found = await self._session.asked(EXECUTIONS, ends_at)
        if isinstance(found, str):
            return found
        scope, latest = self._scope_now(), clock + _CLOCKS_APART
        listed = rows.executions(found, scope, self._zone, latest)
        for one in listed.facts:
            self._live_executions.pop(one.exec_id, None)
            if one.zone is not None and self._zone is None:
                self.zone_seen = ZoneInfo(one.zone)
        if not listed.troubles:
            self.day_ended |= self._listing.cut(one.root for one in listed.facts)
        live = rows.executions(self._live_executions.values(), scope, self._zone, latest)
        facts = self._with_what_they_correct((*listed.facts, *live.facts), complete=not listed.troubles)
        return Read(facts, (*listed.troubles, *live.troubles), listed.left_out | live.left_out)

    def _with_what_they_correct(self, facts: tuple[Execution, ...], *, complete: bool) -> tuple[Execution, ...]:
        """TWS may list a correction alone: add the earlier revisions of its execution, seen over this connection or an
        earlier one."""
        by_root: dict[str, dict[int, Execution]] = {}
        for one in facts:
            by_root.setdefault(one.root, {})[one.revision] = one
        added = [
            earlier
            for root, revisions in by_root.items()
            for number, earlier in self._revisions.get(root, {}).items()
            if number not in revisions and number < max(revisions)
        ]
        kept = {} if complete else dict(self._revisions)  # what is listed no longer was of another day
        for root, revisions in by_root.items():
            kept[root] = self._revisions.get(root, {}) | revisions
        self._revisions = kept
        return (*facts, *added)


def _in_its_own_second(reading: Reading) -> bool:
    """Whether an execution is dated to the second in which the reading began."""
    found = reading.lists.executions
    began = reading.lists.began_at
    return isinstance(found, Read) and any(began <= one.time < began + _CLOCKS_APART for one in found.facts)
