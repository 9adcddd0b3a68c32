"""The OANDA adapter, through the real SDK, against the simulator on loopback."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from brokers.errors import Refused, Unreachable
from brokers.model import (
    Completeness,
    CostBasis,
    Failed,
    LegScheme,
    OrderQuery,
    OrderStatus,
    Partial,
    rows_of,
)
from brokers.oanda import OandaBroker
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator
from tests.brokers.at_oanda import ACCOUNT, BUY, SELL, TOKEN, D, broker, held_account, query, within_s, working
from tests.brokers.listeners import answering, http_answer
from tests.brokers.reading import Time, a_failure, calls_have_ended, completeness, fills, legs, orders

# The adapter's own threads end by themselves after a cut; nothing else may be left either.
pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    calls_have_ended("oanda-")


@pytest.fixture
def sim() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT, TOKEN, instruments=["EUR_USD", "GBP_JPY"])
    simulator.start()
    yield simulator
    simulator.close()


@pytest.fixture
def hedged() -> Iterator[OandaSimulator]:
    simulator = OandaSimulator(ACCOUNT, TOKEN, hedging=True)
    simulator.start()
    yield simulator
    simulator.close()


# -- what a snapshot costs and says --------------------------------------------------------------------------------


async def test_connecting_and_the_first_snapshot_take_one_request_and_the_next_one_each(sim: OandaSimulator) -> None:
    order_id = held_account(sim)
    async with broker(sim, clock=Time()) as adapter:  # what connecting read stays new
        await adapter.connect()
        first = await adapter.snapshot(None)
        assert adapter.calls == 1
        sim.trade("EUR_USD", SELL, D(30), "mine")
        second = await adapter.snapshot(first.fills_cursor)
        assert adapter.calls == 2
        assert legs(first) == {("EUR_USD", "long"): D(100)}
        assert orders(first)[order_id].status is OrderStatus.OPEN
        assert fills(first) == []
        assert legs(second) == {("EUR_USD", "long"): D(70)} == sim.positions()
        assert fills(second) == [("EUR_USD", SELL, D(30), "long")]
        assert (second.conventions.legs, second.conventions.cost_basis) == (LegScheme.SIDED, CostBasis.FIFO)
        assert len(sim.requests) == adapter.calls


async def test_a_reading_that_proved_the_connection_long_ago_is_carried_on_first(sim: OandaSimulator) -> None:
    """PEERS 11"""
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.connect()
        time.passes(2)
        sim.trade("EUR_USD", BUY, D(1))
        snapshot = await adapter.snapshot(None)
        assert legs(snapshot) == {("EUR_USD", "long"): D(1)}
        assert snapshot.requested_at == time.now


async def test_every_contained_fill_is_not_after_as_of_and_every_later_one_is(sim: OandaSimulator) -> None:
    """PEERS 11"""
    async with broker(sim) as adapter:
        cursor: int | None = 0
        for step in range(8):
            sim.trade("EUR_USD", BUY if step % 3 else SELL, D(10))
            snapshot = await adapter.snapshot(cursor)
            sim.trade("EUR_USD", BUY, D(1))
            later = await adapter.snapshot(snapshot.fills_cursor)
            assert all(row.time <= snapshot.as_of for row in rows_of(snapshot.fills))
            assert [row.time > snapshot.as_of for row in rows_of(later.fills)] == [True]
            assert snapshot.as_of <= later.as_of
            cursor = later.fills_cursor


async def test_the_account_is_read_whole_again_after_a_while(sim: OandaSimulator) -> None:
    time = Time()
    async with broker(sim, clock=time, full_every_s=60) as adapter:
        for seconds in (0, 59, 1, 59):
            time.passes(seconds)
            await adapter.snapshot(None)
    asked = ["changes" in request for request in sim.requests]
    assert asked == [False, True, False, True]


async def test_a_clock_set_back_is_no_reason_to_trust_an_old_reading(sim: OandaSimulator) -> None:
    time = Time()
    async with broker(sim, clock=time) as adapter:
        await adapter.connect()
        time.passes(-3600)
        sim.trade("EUR_USD", BUY, D(1))
        assert legs(await adapter.snapshot(None)) == sim.positions()


@pytest.mark.parametrize("since", [0, 1], ids=["from the beginning", "from the first"])
async def test_older_fills_are_read_page_by_page(sim: OandaSimulator, since: int) -> None:
    for _ in range(1100):
        sim.trade("EUR_USD", BUY, D(1))
    async with broker(sim, timeout_s=30.0, clock=Time()) as adapter:  # as above
        await adapter.connect()
        snapshot = await adapter.snapshot(since)
        assert len(fills(snapshot)) == 1100
        assert adapter.calls == 1 + 3
        again = await adapter.snapshot(since)
        assert (again.fills, again.fills_cursor) == (snapshot.fills, snapshot.fills_cursor)


async def test_a_fill_after_the_account_was_read_is_left_for_the_next_snapshot(sim: OandaSimulator) -> None:
    """A fill in the list that is not in the positions would be applied twice."""
    time = Time()
    sim.trade("EUR_USD", BUY, D(5))
    async with broker(sim, clock=time) as adapter:
        await adapter.connect()
        sim.trade("EUR_USD", BUY, D(7))
        first = await adapter.snapshot(0)
        assert (legs(first), len(fills(first))) == ({("EUR_USD", "long"): D(5)}, 1)
        second = await adapter.snapshot(first.fills_cursor)
        assert (legs(second), fills(second)) == ({("EUR_USD", "long"): D(12)}, [("EUR_USD", BUY, D(7), "long")])


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Fault.MALFORMED_ROW, Completeness.PARTIAL), (Fault.EMPTY, Completeness.FAILED)],
    ids=lambda value: value.name,
)
async def test_an_account_with_rows_missing_or_broken_is_not_complete(
    sim: OandaSimulator, fault: Fault, expected: Completeness
) -> None:
    """PEERS 1"""
    held_account(sim)
    async with broker(sim) as adapter:
        sim.faults.add(fault)
        await adapter.connect()
        snapshot = await adapter.snapshot(None)
        assert completeness(snapshot)[:2] == (expected, expected)
        assert legs(await adapter.snapshot(None)) == sim.positions()


@pytest.mark.parametrize("fault", list(Fault), ids=lambda value: value.name)
async def test_a_fault_while_changes_are_read_loses_nothing(sim: OandaSimulator, fault: Fault) -> None:
    """PEERS 1, FEATURES 4"""
    held_account(sim)
    async with broker(sim, timeout_s=within_s(fault)) as adapter:
        first = await adapter.snapshot(None)
        sim.trade("EUR_USD", BUY, D(20))
        sim.faults.add(fault, times=3, match="AccountChanges")
        try:
            during = await adapter.snapshot(first.fills_cursor)
        except (Unreachable, Refused):
            sim.faults.clear()
            during = await adapter.snapshot(first.fills_cursor)
        assert legs(during) == {("EUR_USD", "long"): D(120)} == sim.positions()
        assert fills(during) == [("EUR_USD", BUY, D(20), "long")]


@pytest.mark.parametrize("fault", list(Fault), ids=lambda value: value.name)
async def test_fills_that_cannot_be_read_leave_positions_and_orders_standing(sim: OandaSimulator, fault: Fault) -> None:
    held_account(sim)
    async with broker(sim, timeout_s=within_s(fault)) as adapter:
        sim.faults.add(fault, times=3, match="TransactionsSinceID")
        snapshot = await adapter.snapshot(1)
        assert isinstance(snapshot.fills, Partial if fault is Fault.MALFORMED_ROW else Failed)
        assert legs(snapshot) == sim.positions()
        # An unreadable fill is 3; the order before it was read.
        assert snapshot.fills_cursor == (2 if fault is Fault.MALFORMED_ROW else 1)
        sim.faults.clear()
        assert fills(await adapter.snapshot(1)) == [("EUR_USD", BUY, D(100), "long")]


async def test_changes_out_of_range_are_answered_by_reading_the_account_whole(sim: OandaSimulator) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.trade("EUR_USD", BUY, D(1))
        sim.forget_transactions()
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == sim.positions()
        assert isinstance(snapshot.fills, Failed)
        assert "no longer lists" in snapshot.fills.reason
        sim.trade("EUR_USD", BUY, D(2))
        healed = await adapter.snapshot(snapshot.fills_cursor)
        assert fills(healed) == [("EUR_USD", BUY, D(2), "long")]


async def test_an_account_that_lost_its_rows_without_a_transaction_is_not_believed(sim: OandaSimulator) -> None:
    """PEERS 1: even where every count in the answer agrees that there is nothing."""
    held_account(sim)
    async with broker(sim, full_every_s=0) as adapter:
        await adapter.snapshot(None)
        state = json.loads(sim.dump())
        sim.load(json.dumps({**state, "trades": [], "orders": []}))
        snapshot = await adapter.snapshot(None)
        assert completeness(snapshot)[:2] == (Completeness.FAILED,) * 2


@pytest.mark.parametrize("asks_for_fills", [True, False], ids=["with fills", "without fills"])
async def test_an_answer_older_than_one_already_read_is_not_believed_once(
    sim: OandaSimulator, asks_for_fills: bool
) -> None:
    """PEERS 11"""
    held_account(sim)
    before = sim.dump()
    sim.trade("EUR_USD", BUY, D(11))
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.load(before)
        stale = await adapter.snapshot(cursor if asks_for_fills else None)
        assert completeness(stale) == (Completeness.FAILED,) * 3
        assert legs(await adapter.snapshot(stale.fills_cursor)) == sim.positions()


async def test_an_account_behind_what_the_caller_has_read_is_not_believed_once(sim: OandaSimulator) -> None:
    """PEERS 11, PEERS 15: after a restart only the caller's cursor knows how far the account had come."""
    held_account(sim)
    async with broker(sim) as adapter:
        stale = await adapter.snapshot(99)
        assert completeness(stale) == (Completeness.FAILED,) * 3
        assert legs(await adapter.snapshot(stale.fills_cursor)) == sim.positions()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"token": "wrong-token-0000"}, ["401", "`token`"]), ({"account_id": "101-9"}, ["403", "`token`"])],
    ids=["token", "account"],
)
async def test_wrong_credentials_are_refused_at_once(
    sim: OandaSimulator, settings: dict[str, Any], words: list[str]
) -> None:
    async with broker(sim, **settings) as adapter:
        raised = await a_failure(adapter.connect())
        assert isinstance(raised, Refused)
        assert all(word in str(raised) for word in words)
        assert adapter.calls == 1


# -- what is in an answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("escaped", [TOKEN, TOKEN[:-1] + "\\u0030"], ids=["plain", "escaped"])
async def test_a_token_in_a_row_appears_in_no_row(escaped: str) -> None:
    row = {"instrument": "TOKEN", "long": {"units": "TOKEN"}, "short": {"units": "0"}}
    order = {
        "id": "3",
        "type": "LIMIT",
        "state": "PENDING",
        "instrument": "TOKEN",
        "units": "1",
        "clientExtensions": {"id": "TOKEN"},
    }
    account = {"id": ACCOUNT, "positions": [row], "orders": [order], "trades": []}
    body = json.dumps({"account": account, "lastTransactionID": "5"}).replace("TOKEN", escaped).encode()
    with answering(lambda _: iter([http_answer(body)])) as url:
        async with broker(url) as adapter:
            snapshot = await adapter.snapshot(None)
    assert snapshot.problems()
    assert rows_of(snapshot.orders)[0].client_order_id == "***"
    assert TOKEN not in repr(snapshot)


# -- accounts side by side -----------------------------------------------------------------------------------------


async def test_accounts_of_one_process_never_mix() -> None:
    """PEERS 2: the same instrument, and even the same account id, at two hosts."""
    sims = [OandaSimulator(ACCOUNT if n < 2 else f"101-{n}", f"token-number-{n}") for n in range(4)]
    try:
        for units, sim in enumerate(sims, start=1):
            sim.trade("EUR_USD", BUY, D(units))
        adapters = [
            OandaBroker(f"fx{n}", ACCOUNT if n < 2 else f"101-{n}", f"token-number-{n}", sim.start(), 5.0, Time())
            for n, sim in enumerate(sims)
        ]
        for _ in range(5):
            snapshots = await asyncio.gather(*(adapter.snapshot(0) for adapter in adapters))
            assert [legs(s) for s in snapshots] == [sim.positions() for sim in sims]
        for adapter in adapters:
            await adapter.close()
    finally:
        for sim in sims:
            sim.close()


async def test_an_answer_for_another_account_is_refused() -> None:
    body = json.dumps({"account": {"id": "101-7", "positions": [], "orders": []}, "lastTransactionID": "5"}).encode()
    with answering(lambda _: iter([http_answer(body)])) as url:
        async with broker(url) as adapter:
            raised = await a_failure(adapter.connect())
    assert isinstance(raised, Refused)
    assert "101-7" in str(raised)
    assert ACCOUNT in str(raised)


# -- positions and fills -------------------------------------------------------------------------------------------


async def test_hedged_legs_stand_side_by_side(hedged: OandaSimulator) -> None:
    async with broker(hedged) as adapter:
        await adapter.snapshot(None)
        hedged.trade("EUR_USD", BUY, D(100))
        hedged.trade("EUR_USD", SELL, D(40))
        snapshot = await adapter.snapshot(1)
        assert legs(snapshot) == {("EUR_USD", "long"): D(100), ("EUR_USD", "short"): D(-40)}
        assert fills(snapshot) == [("EUR_USD", BUY, D(100), "long"), ("EUR_USD", SELL, D(40), "short")]
        hedged.close_by_hand("EUR_USD")
        closed = await adapter.snapshot(snapshot.fills_cursor)
        assert legs(closed) == {}
        assert fills(closed) == [("EUR_USD", SELL, D(100), "long"), ("EUR_USD", BUY, D(40), "short")]


async def test_an_order_of_a_hedging_account_works_on_the_leg_that_it_opens(
    sim: OandaSimulator, hedged: OandaSimulator
) -> None:
    """OANDA v20 documentation, OrderPositionFill: DEFAULT is OPEN_ONLY in an account that hedges. A stop of that kind
    closes nothing: it opens the other leg, and protects none."""
    for simulator, leg in ((hedged, "short"), (sim, None)):
        simulator.trade("EUR_USD", BUY, D(100))
        async with broker(simulator) as adapter:
            first = simulator.place_limit("EUR_USD", SELL, D(100), D(2))
            cursor = (await adapter.snapshot(None)).fills_cursor
            second = simulator.place_limit("EUR_USD", SELL, D(100), D(3))
            shown = {row.broker_order_id: row.leg for row in rows_of((await adapter.snapshot(cursor)).orders)}
            assert (shown[first], shown[second]) == (leg, leg)
            (answer,) = await adapter.find_orders([OrderQuery("EUR_USD", first, None)])
            assert answer.order is not None
            assert answer.order.leg == leg


async def test_a_fill_that_nets_over_zero_names_no_leg(sim: OandaSimulator) -> None:
    sim.trade("EUR_USD", BUY, D(100))
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.trade("EUR_USD", SELL, D(150))
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == {("EUR_USD", "short"): D(-50)}
        assert fills(snapshot) == [("EUR_USD", SELL, D(150), None)]
        assert adapter.calls == 2


async def test_a_partial_close_leaves_the_average_of_the_lots_that_are_left(sim: OandaSimulator) -> None:
    for price in ("1.1", "1.3"):
        sim.set_price("EUR_USD", D(price))
        sim.trade("EUR_USD", BUY, D(10))
    sim.trade("EUR_USD", SELL, D(10))
    async with broker(sim) as adapter:
        (leg,) = rows_of((await adapter.snapshot(None)).positions)
        assert (leg.quantity, leg.average_price) == (D(10), D("1.3"))


async def test_a_position_set_without_a_fill_is_seen_by_the_cheap_snapshot(sim: OandaSimulator) -> None:
    held_account(sim)
    async with broker(sim) as adapter:
        cursor = (await adapter.snapshot(None)).fills_cursor
        sim.set_position("EUR_USD", "short", D(-7), D("1.5"))
        snapshot = await adapter.snapshot(cursor)
        assert legs(snapshot) == {("EUR_USD", "short"): D(-7)}
        assert (fills(snapshot), adapter.calls) == ([], 2)


# -- cheap equals whole --------------------------------------------------------------------------------------------


def one_step(sim: OandaSimulator, rng: random.Random) -> None:
    """One thing that can happen to an account."""
    instrument = rng.choice(["EUR_USD", "GBP_JPY", "USD_CHF"])
    side = rng.choice([BUY, SELL])
    quantity = D(rng.randint(1, 200)) / rng.choice([1, 10])
    resting = [row["id"] for row in json.loads(sim.dump())["orders"] if row["state"] == "PENDING"]
    order_id = str(rng.choice(resting)) if resting else None
    match rng.randint(0, 11):
        case 0 | 1 | 2:
            sim.set_price(instrument, sim.price(instrument) + D(rng.randint(-50, 50)) / 1000)
            sim.trade(instrument, side, quantity, f"c{rng.randint(0, 9)}")
        case 3 | 4:
            sim.place_limit(instrument, side, quantity, sim.price(instrument))
        case 5 if order_id:
            sim.fill_order(order_id)
        case 6 if order_id:
            sim.fill_order(order_id, quantity)
        case 7 if order_id:
            sim.end_order(order_id, rng.choice(["CANCELLED", "EXPIRED", "REJECTED"]))
        case 8 if order_id:
            sim.replace_order(order_id, D(1))
        case 9:
            held = sorted(sim.positions())
            if held:
                sim.place_dependent(*rng.choice(held), rng.choice(["STOP_LOSS", "TAKE_PROFIT"]), D(1))
        case 10:
            sim.close_by_hand(instrument)
        case 11:
            leg, sign = rng.choice([("long", 1), ("short", -1)])
            sim.set_position(instrument, leg, quantity * sign * rng.randint(0, 1), sim.price(instrument))
        case _:
            sim.reject(instrument, side, quantity)


@pytest.mark.parametrize("hedging", [False, True], ids=["netting", "hedging"])
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_cheap_snapshot_equals_a_whole_one(seed: int, hedging: bool) -> None:
    """FEATURES 24"""
    rng = random.Random(seed)  # noqa: S311 - a reproducible walk
    sim = OandaSimulator(ACCOUNT, TOKEN, hedging=hedging, seed=seed)
    sim.start()
    try:
        async with broker(sim, timeout_s=30.0) as cheap:
            cursor = (await cheap.snapshot(None)).fills_cursor
            seen: list[Any] = []
            for _ in range(25):
                for _ in range(rng.randint(0, 5)):
                    one_step(sim, rng)
                before = cheap.calls
                carried = await cheap.snapshot(cursor)
                assert cheap.calls == before + 1
                async with broker(sim, timeout_s=30.0) as fresh:
                    whole = await fresh.snapshot(cursor)
                assert legs(carried) == legs(whole) == sim.positions()
                assert set(rows_of(carried.positions)) == set(rows_of(whole.positions))
                assert carried.fills == whole.fills
                assert carried.fills_cursor == whole.fills_cursor
                assert working(carried) == working(whole)
                cursor = carried.fills_cursor
                seen += rows_of(carried.fills)
            ended = [row for row in orders(carried).values() if row.status.terminal]
            answers = await cheap.find_orders([query(row.broker_order_id) for row in ended])
            assert [answer.order for answer in answers] == ended
            assert len({row.fill_id for row in seen}) == len(seen)
    finally:
        sim.close()
