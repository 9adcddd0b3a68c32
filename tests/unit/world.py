"""A broker that does anything, and books that follow it: what the properties of the core are tried on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from actors.book.book import Book
from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.book.policy import Correct, Policy
from actors.events import Event, EventType
from actors.instrument.book_keeper import clock_stepped
from actors.reconciliation.decide import reconcile
from actors.reconciliation.own_reports import FillReport, OrderReport, PositionReport, Report, events_of
from actors.reconciliation.reconciliation_pass import Decision
from brokers.clocks import shown
from brokers.model import NET, Complete, CostBasis, LegScheme, OrderStatus, Partial, Side, Slice, rows_of, scoped_id
from tests.unit.builders import ACCOUNT, INSTRUMENT, check_lots, records
from tests.unit.model_broker import ModelBroker

SETTLE_MS, GAP_MS = 5000, 500
ENDS = {EventType.ORDER_CANCELLED, EventType.ORDER_EXPIRED, EventType.ORDER_REJECTED}
FILLS = {EventType.FILL_RECORDED, EventType.ORDER_FILLED}
STEPS = (
    "place", "lose_confirmation", "adopt_elsewhere", "fill", "fill", "fill_and_report", "trade_outside",
    "correct_an_execution", "charge", "charge", "change_silently", "end", "amend", "believe", "look", "look", "look",
    "look_badly", "look_badly", "look_late", "look_torn", "look_lagging", "restart", "restart_from_checkpoint", "wait",
    "wait", "wait_long", "supersede", "supersede", "report_barely", "report_barely", "pass_a_day", "set_our_clock",
    "stream", "stream", "stream", "fill_and_stream",
)  # fmt: skip


def says_less_is_filled(event: Event) -> bool:
    """Whether it is a proven difference between an order that had ended and one that works again with less filled."""
    ours, theirs = (
        re.fullmatch(r".* (\w+) filled (\S+)", str(event.payload.get(side))) for side in ("book_value", "broker_value")
    )
    return (
        event.type is EventType.DISCREPANCY_RESOLVED
        and event.payload["type"] == "ORDER_STATUS_MISMATCH"
        and ours is not None
        and theirs is not None
        and OrderStatus(ours[1]).terminal > OrderStatus(theirs[1]).terminal
        and Decimal(ours[2]) > Decimal(theirs[2])
    )


@dataclass
class World:
    """A model broker, a book with its journal, and what goes wrong between them."""

    broker: ModelBroker
    policy: Policy
    random: Random
    book: Book = field(default_factory=lambda: Book(ACCOUNT, INSTRUMENT))
    events: list[Event] = field(default_factory=list)
    cursor: int | None = None
    late: list[Slice] = field(default_factory=list)
    clients: int = 0
    tags: int = 99  # client ids are used again after so many
    absent: dict[str, list[datetime]] = field(default_factory=dict)
    unlisted: dict[str, list[datetime]] = field(default_factory=dict)
    cheapest: int = 10

    # What happens

    def price(self, b: int) -> int:
        return b % 7 + self.cheapest

    def step(self, name: str, a: int, b: int) -> None:
        self.broker.now_ms += 1
        getattr(self, name)(a, b)

    def _leg(self, a: int) -> str:
        if self.broker.scheme is LegScheme.NET:
            return NET
        if self.broker.scheme is LegScheme.SIDED:
            return ("long", "short")[a % 2]
        held = sorted(self.broker.legs)
        return held[a % len(held)] if held and a % 3 else f"T{a % 4}"

    def _side(self, b: int) -> Side:
        return Side.BUY if b % 2 else Side.SELL

    def _order_id(self, a: int) -> str | None:
        ids = [key for key, row in self.broker.orders.items() if not row.status.terminal]
        return ids[a % len(ids)] if ids else None

    def _send(self, a: int, b: int) -> OrderReport:
        self.clients += 1
        client_id = f"c{self.clients % self.tags}"
        return OrderReport(
            INSTRUMENT, client_id, None, self._side(b), Decimal(a % 9 + 1), "LIMIT", Decimal(self.price(b)),
            OrderStatus.PENDING_SUBMIT, self.broker.our_time, None,
        )  # fmt: skip

    def place(self, a: int, b: int) -> None:
        report = self._send(a, b)
        self.report(report)
        self.broker.place(report.client_order_id, report.side, a % 9 + 1, self.price(b), None)

    def lose_confirmation(self, a: int, b: int) -> None:
        """The order never reached the broker."""
        self.report(self._send(a, b))

    def adopt_elsewhere(self, a: int, b: int) -> None:
        self.broker.place(None, self._side(b), a % 9 + 1, self.price(b), None)

    def fill(self, a: int, b: int) -> None:
        if key := self._order_id(a):
            self.broker.execute(key, b % 5 + 1, self.price(b), (0, 0, 300, 20_000)[a % 4])

    def fill_and_report(self, a: int, b: int) -> None:
        key = self._order_id(a)
        done = self.broker.execute(key, b % 5 + 1, self.price(b), 300 * (a % 3)) if key else None
        if key and done is not None:
            row = self.broker.orders[key]
            for _ in range(1 + a % 2):
                self.report(
                    FillReport(
                        INSTRUMENT, done.fill_id, key, done.side, done.quantity, done.price, shown(done.time),
                        row.client_order_id, done.leg,
                    )
                )  # fmt: skip

    def report_barely(self, a: int, b: int) -> None:
        """A fill is reported without its leg, and by one of its order's ids, or without any."""
        key = self._order_id(a)
        done = self.broker.execute(key, b % 5 + 1, self.price(b), (0, 300, 20_000)[a % 3]) if key else None
        if key and done is not None:
            client_id = self.broker.orders[key].client_order_id
            ids = ((key, None), (None, client_id), (None, None))[b % 3]
            self.report(
                FillReport(
                    INSTRUMENT, done.fill_id, ids[0], done.side, done.quantity, done.price, shown(done.time), ids[1]
                )
            )

    def supersede(self, a: int, b: int) -> None:
        if key := self._order_id(a):
            self.broker.supersede(key, b % 7 + 1, self.price(b))

    def pass_a_day(self, a: int, b: int) -> None:
        """The night, in which the ids of some brokers begin anew."""
        self.look()
        self.broker.now_ms += 86_400_000 + a

    def trade_outside(self, a: int, b: int) -> None:
        self.broker.external(self._leg(a), self._side(b), a % 6 + 1, self.price(b), (0, 300, 20_000)[b % 3])

    def correct_an_execution(self, a: int, b: int) -> None:
        self.broker.correct(a, b % 7, self.price(b), (0, 300, 20_000)[a % 3], lowers=True)

    def charge(self, a: int, b: int) -> None:
        """The broker reports a commission after its execution, or with it if that is not reported yet."""
        self.broker.charge(a, b % 3)

    def change_silently(self, a: int, b: int) -> None:
        quantity = a % 9 if b % 2 else -(a % 9)
        self.broker.silently(self._leg(a + b), quantity, self.price(b))

    def end(self, a: int, b: int) -> None:
        if key := self._order_id(a):
            status = (OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED)[b % 3]
            self.broker.end(key, status)

    def amend(self, a: int, b: int) -> None:
        if key := self._order_id(a):
            self.broker.amend(key, a % 9 + 3, self.price(b))

    def believe(self, a: int, b: int) -> None:
        """Our side reports a position of its own accord, right or wrong."""
        quantity = Decimal(a % 7 - 3)
        if self.broker.scheme is LegScheme.SIDED:
            quantity = abs(quantity) if self._leg(a) == "long" else -abs(quantity)
        self.report(PositionReport(INSTRUMENT, self._leg(a), quantity, Decimal(self.price(b))))

    def set_our_clock(self, a: int, b: int) -> None:
        """Our clock jumps, and not the broker's. What was asked for before is not heard any more."""
        by = timedelta(seconds=(-3000, -30, -2, 2, 30, 3000)[a % 6])
        self.broker.ours_ahead += by
        self.late.clear()
        self.absent.clear()
        self.unlisted.clear()
        self.write((clock_stepped(self.book, by, self.broker.our_time),))

    def wait(self, a: int, b: int) -> None:
        self.broker.now_ms += 100 * (a % 13)

    def wait_long(self, a: int, b: int) -> None:
        self.broker.now_ms += SETTLE_MS + a * 100

    def restart(self, a: int, b: int) -> None:
        before = checkpoint(self.book)
        self.book = replay(ACCOUNT, INSTRUMENT, records(self.events))
        assert checkpoint(self.book) == before
        self.cursor = self.book.cursor

    def restart_from_checkpoint(self, a: int, b: int) -> None:
        before = checkpoint(self.book)
        place = (a * 37 + b) % (len(self.events) + 1)
        early = replay(ACCOUNT, INSTRUMENT, records(self.events[:place]))
        event = checkpoint_event(early, self.broker.our_time)
        document = replace(event, payload=orjson.loads(orjson.dumps(dict(event.payload))))
        rest = [document, *self.events[place:]]
        self.book = replay(ACCOUNT, INSTRUMENT, records(rest, after=place))
        assert checkpoint(self.book) == before
        self.book.version = len(self.events)
        self.cursor = self.book.cursor

    # What is done about it

    def look(self, a: int = 0, b: int = 0) -> Decision:
        return self.reconcile(self.broker.say(("C", "C", "C"), self.cursor, self.random))

    def look_badly(self, a: int, b: int) -> None:
        kinds = ("CPF"[a % 3], "CPF"[b % 3], "CPF"[a // 3 % 3])
        self.reconcile(self.broker.say(kinds, self.cursor, self.random), answers_fail=b % 4 == 0)

    def look_late(self, a: int, b: int) -> None:
        """An answer from a while ago arrives only now, and the next one takes its place on the way."""
        if self.late:
            self.reconcile(self.late.pop(0), late=True)
        self.late.append(self.broker.say(("C", "C", "C"), self.cursor, self.random))

    def look_torn(self, a: int, b: int) -> None:
        """Positions and orders were read, then things happened, then the fills were read."""
        if self.late:
            old = self.late.pop(0)
            new = self.broker.say(("C", "C", "C"), self.cursor, self.random)
            self.reconcile(replace(old, fills=new.fills, fills_cursor=new.fills_cursor), late=True)

    def look_lagging(self, a: int, b: int) -> None:
        """The broker's list of orders, or of positions, is not as new as it says."""
        if self.late:
            old = self.late.pop(0)
            new = self.broker.say(("C", "C", "C"), self.cursor, self.random)
            self.reconcile(replace(new, orders=old.orders) if a % 2 else replace(new, positions=old.positions))

    def fill_and_stream(self, a: int, b: int) -> None:
        """What a stream is for: it delivers a fill as soon as it is made."""
        self.fill(a, b)
        self.reconcile(self.broker.stream([fill for _, fill in self.broker.fills[-1:]], with_rows=b % 3 > 0))

    def trade_and_stream(self, a: int, b: int) -> None:
        self.trade_outside(a, b)
        self.reconcile(self.broker.stream([fill for _, fill in self.broker.fills[-1:]], with_rows=a % 4 > 0))

    def stream(self, a: int, b: int) -> None:
        """A stream delivers some of the past executions, for the first time or again, in any order."""
        sent = [fill for _, fill in self.broker.fills[-(a % 5 + 1) :]]
        self.random.shuffle(sent)
        sent = sent[: b % 4 + 1]
        self.reconcile(self.broker.stream([*sent, *sent[: a % 2]], with_rows=b % 3 > 0))

    def report(self, report: Report) -> None:
        self.write(events_of(self.book, [report], self.broker.conventions, self.broker.our_time))

    def reconcile(self, slice_: Slice, *, answers_fail: bool = False, late: bool = False) -> Decision:
        now = self.broker.our_time
        decision = reconcile(self.book, slice_, self.policy, now)
        for _ in range(3):
            if not decision.lookups:
                break
            answers = [self.broker.answer(query, self.random, fails=answers_fail) for query in decision.lookups]
            slice_ = slice_.with_answers(answers)
            decision = reconcile(self.book, slice_, self.policy, now)
        assert not decision.lookups
        twin = reconcile(replay(ACCOUNT, INSTRUMENT, records(self.events)), slice_, self.policy, now)
        assert twin.events == decision.events
        self._check_pass(slice_, decision)
        before = checkpoint(self.book)
        self.write(decision.events)
        if self.policy.correct is Correct.ALERT:
            after = checkpoint(self.book)
            said = {event.type for event in decision.events}
            agreed = EventType.RECONCILED in said  # after which a position is of that time, and what is old forgotten
            for name in () if EventType.FILL_RESTATED in said else ("legs", "orders", "applied", "activity"):
                was, now_is = rows_of_document(before[name]), rows_of_document(after[name])
                assert [one for one in was if not agreed or one in now_is] == now_is, name
            assert agreed or before["watermarks"] == after["watermarks"]
        again = reconcile(self.book, slice_, self.policy, now)
        assert again.events == ()
        assert again.lookups == ()
        if decision.cursor is not None and not late:
            self.cursor = decision.cursor
        return decision

    def _check_pass(self, slice_: Slice, decision: Decision) -> None:
        for event in decision.events:
            if slice_.positions.completeness == "FAILED":
                assert event.type is not EventType.POSITION_SYNCED
            if event.type is EventType.POSITION_SYNCED and isinstance(slice_.positions, Partial):
                assert event.payload["quantity"] != "0"
            if event.type in ENDS and slice_.orders.completeness == "FAILED":
                raise AssertionError("a failed section ended an order")
        self._check_proof(slice_, decision)
        self._check_proof_of_orders(slice_, decision)

    def _check_proof(self, slice_: Slice, decision: Decision) -> None:
        """No leg is closed but by looks at complete positions without it, far enough apart and settled."""
        shown = {row.leg for row in rows_of(slice_.positions)}
        for leg in self.book.legs:
            if isinstance(slice_.positions, Complete) and leg not in shown:
                self.absent.setdefault(leg, []).append(slice_.requested_at)
        for leg in shown:  # an older answer that still shows it does not speak against a newer one
            self.absent[leg] = [at for at in self.absent.get(leg, []) if at > slice_.requested_at]
        for event in decision.events:
            if event.type is EventType.POSITION_SYNCED and event.payload["quantity"] == "0":
                leg = str(event.payload["leg"])
                active = self.book.activity.get(leg)
                looks = [at for at in self.absent.pop(leg) if active is None or at - active >= self.policy.settle]
                assert max(looks) - min(looks) >= self.policy.confirm_gap

    def _check_proof_of_orders(self, slice_: Slice, decision: Decision) -> None:
        """No order is given up but by looks at complete orders without it, far enough apart, none with it between."""
        rows = rows_of(slice_.orders)
        names = {row.broker_order_id for row in rows}
        if self.tags == 99:  # else another order may have its client id
            names |= {row.client_order_id for row in rows if row.client_order_id is not None}
        for order in self.book.orders.values():
            looks = self.unlisted.setdefault(order.key, [])
            if {order.broker_order_id, order.client_order_id} & names:
                looks[:] = [at for at in looks if at > slice_.requested_at]
            elif isinstance(slice_.orders, Complete):
                looks.append(slice_.requested_at)
        for event in decision.events:
            document: Any = event.payload.get("order")
            if event.type is EventType.ORDER_CANCELLED and document["reason"] == "not found at the broker":
                looks = self.unlisted.pop(document["key"])
                assert max(looks) - min(looks) >= self.policy.confirm_gap

    def write(self, events: tuple[Event, ...]) -> None:
        lowered = any(
            event.type is EventType.FILL_RESTATED
            or event.payload.get("corrects") is not None
            or event.payload.get("type") == "FILLED_MISMATCH"
            or says_less_is_filled(event)
            for event in events
        )
        filled = {} if lowered else {key: order.filled_quantity for key, order in self.book.orders.items()}
        for event in events:
            orjson.dumps(dict(event.payload))
            self.events.append(event)
            self.book.apply(event)
            check_lots(self.book)
        for key, order in self.book.orders.items():
            assert order.filled_quantity >= filled.get(key, 0)
        assert len({event.event_id for event in self.events}) == len(self.events)

    # What must come of it

    def settle(self) -> Decision:
        """Everything late arrives; then two complete snapshots, settled and far enough apart, and as many more as what
        the last one found asks for: an order's end, the change that it leaves, and its price are one after another."""
        self.broker.now_ms += 60_000
        for slice_ in self.late:
            self.reconcile(slice_, late=True)
        self.look()
        self.broker.now_ms += SETTLE_MS + GAP_MS
        self.look()
        for _ in range(3):
            self.broker.now_ms += GAP_MS
            last = self.look()
            if last.status == "SUCCESS":
                break
        return last

    def check_commissions(self) -> None:
        """The journal has the commission of each fill exactly once, if the broker reported it."""
        filled = {named(e) for e in self.events if e.type in FILLS and not e.payload["inferred"]}
        charges = [named(e) for e in self.events if e.payload.get("commission") is not None]
        assert len(set(charges)) == len(charges)
        charged = {fill.key for _, fill in self.broker.fills if fill.commission is not None}
        assert set(charges) == (charged & filled if self.broker.reports_fills else set())
        assert set(self.book.without_commission) == filled - set(charges)

    def check_truth(self) -> None:
        assert {n: leg.quantity for n, leg in self.book.legs.items()} == {
            n: leg.quantity for n, leg in self.broker.legs.items()
        }
        for name, leg in self.broker.legs.items():
            ours = self.book.legs[name].average_price
            assert abs(ours - leg.average_price) <= self.policy.price_tolerance * abs(leg.average_price)
        theirs = {
            (key, row.status, row.filled_quantity, row.quantity)
            for key, row in self.broker.orders.items()
            if not row.status.terminal
        }
        assert {(o.broker_order_id, o.status, o.filled_quantity, o.quantity) for o in self.book.open_orders()} == theirs


def rows_of_document(part: Any) -> list[Any]:
    return list(part.items()) if isinstance(part, dict) else list(part)


def named(event: Event) -> str:
    return scoped_id(str(event.payload["fill_id"]), str(event.payload.get("id_scope", "")))


worlds = st.builds(
    lambda scheme, basis, shows_ended, reports_fills, daily_ids, resolution_ms, tags, cheapest, seed: World(
        ModelBroker(scheme, basis, shows_ended, reports_fills, daily_ids, resolution_ms),
        Policy(settle=timedelta(milliseconds=SETTLE_MS), confirm_gap=timedelta(milliseconds=GAP_MS)),
        Random(seed),  # noqa: S311 - a test's own
        tags=tags,
        cheapest=cheapest,
    ),
    st.sampled_from(LegScheme),
    st.sampled_from(CostBasis),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 1000]),
    st.sampled_from([99, 2, 1]),
    st.sampled_from([10, -3]),  # oil has been sold below zero
    st.integers(0, 99),
)
steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 30), st.integers(0, 30))
programs = st.lists(steps, max_size=12) | st.lists(steps, min_size=12, max_size=40)
CAMPAIGN = int(os.environ.get("PROPERTY_CAMPAIGN", "1"))
"""How many times more examples than the default run tries."""


def runs(examples: int) -> settings:
    return settings(
        max_examples=examples * CAMPAIGN,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def world_of(
    scheme: LegScheme, *, shows_ended: bool = False, reports_fills: bool = False, tags: int = 99, seed: int = 0
) -> World:
    policy = Policy(settle=timedelta(milliseconds=SETTLE_MS), confirm_gap=timedelta(milliseconds=GAP_MS))
    broker = ModelBroker(scheme, CostBasis.WEIGHTED, shows_ended, reports_fills, False)
    return World(broker, policy, Random(seed), tags=tags)  # noqa: S311 - a test's own
