"""Options on shares that become shares: what two readings of a Kite account are evidence of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokers.clocks import broker_time
from brokers.kite.deliveries import DAYS, Deliveries
from brokers.model import ContractFacts, Evidence, Position, Reason
from brokers.simulators.kite import KiteSimulator
from tests.brokers.at_kite import KEY, TOKEN, USER, broker
from tests.brokers.following import PATIENCE_S
from tests.brokers.kite_contracts import LAST_DAY, at

D = Decimal
CALL, PUT, STOCK = "NFO:RELIANCE25NOV1500CE", "NFO:RELIANCE25NOV1500PE", "NSE:RELIANCE"


def option(right: str) -> ContractFacts:
    return ContractFacts(
        None, "OPT", LAST_DAY, right, D(1500), "RELIANCE", currency="INR", ends_at=broker_time(at(15, 30))
    )


CONTRACTS = {CALL: option("C"), PUT: option("P"), "NFO:RELIANCE25NOVFUT": ContractFacts(None, "FUT", LAST_DAY)}


def shares(quantity: int, price: object, *, name: str = STOCK, priced: bool = True) -> Position:
    return Position(name, "holdings", D(quantity), D(str(price)) if priced else D(0), price_told=priced)


THE_NEXT_EVENING = at(19, 0, day=26)


@dataclass(frozen=True)
class Delivery:
    """What is held of one contract on its last day, the shares ``before`` and after it, and what that is."""

    story: str
    contract: str
    quantity: int
    before: tuple[Position, ...]
    after: tuple[Position, ...]
    reason: Reason | None
    change: int = 0
    came_at: datetime = THE_NEXT_EVENING
    traded: tuple[str, ...] = ()
    over: bool = True

    def __str__(self) -> str:
        return self.story


DELIVERIES = [
    Delivery("a call is exercised", CALL, 500, (), (shares(500, 1500),), Reason.EXERCISE, 500),
    Delivery("beside what is held", CALL, 500, (shares(100, 1200),), (shares(600, 1450),), Reason.EXERCISE, 500),
    Delivery("a put is assigned", PUT, -500, (), (shares(500, 1500),), Reason.ASSIGNMENT, 500),
    Delivery("a put is exercised", PUT, 500, (shares(500, 1200),), (), Reason.EXERCISE, -500),
    Delivery("a call is assigned", CALL, -500, (shares(700, 1200),), (shares(200, 1200),), Reason.ASSIGNMENT, -500),
    Delivery("the other exchange", CALL, 500, (), (shares(500, 1500, name="BSE:RELIANCE"),), Reason.EXERCISE, 500),
    Delivery("nothing comes", CALL, 500, (), (), None),
    Delivery("another quantity", CALL, 500, (), (shares(499, 1500),), None),
    Delivery("another price", CALL, 500, (), (shares(500, 1480),), None),
    Delivery("no price is known", CALL, 500, (), (shares(500, 0, priced=False),), None),
    Delivery("another share", CALL, 500, (), (shares(500, 1500, name="NSE:RELINFRA"),), None),
    Delivery("they go where they should come", CALL, 500, (shares(500, 1500),), (), None),
    Delivery("they were bought", CALL, 500, (), (shares(500, 1500),), None, traded=(STOCK,)),
    Delivery(
        "they were bought before", CALL, 500, (Position(STOCK, "CNC", D(500), D(1500)),), (shares(500, 1500),), None
    ),
    Delivery("too late", CALL, 500, (), (shares(500, 1500),), None, came_at=at(15, 31) + DAYS),
    Delivery("its end is not certain", CALL, 500, (), (shares(500, 1500),), None, over=False),
    Delivery("a future has no strike", "NFO:RELIANCE25NOVFUT", 500, (), (shares(500, 1500),), None),
]


@pytest.mark.parametrize("story", DELIVERIES, ids=str)
def test_shares_that_come_or_go_are_those_of_an_option_where_number_strike_and_time_say_so(story: Delivery) -> None:
    deliveries = Deliveries(lambda name, now: story.over)
    held = Position(story.contract, "NRML", D(story.quantity), D(20))
    assert deliveries.look((held, *story.before), CONTRACTS, (), broker_time(at(15, 20))) == ()
    assert deliveries.look(story.before, CONTRACTS, (), broker_time(at(9, 20, day=26))) == ()
    found = deliveries.look(story.after, CONTRACTS, story.traded, broker_time(story.came_at))
    if story.reason is None:
        assert found == ()
        return
    stock, contract = found
    assert (stock.reason, stock.change, stock.price) == (story.reason, D(story.change), D(1500))
    assert (stock.linked, contract.linked) == ((story.contract,), (stock.instrument,))
    assert (contract.reason, contract.leg, contract.change) == (story.reason, "NRML", D(-story.quantity))
    assert deliveries.look(story.after, CONTRACTS, (), broker_time(story.came_at + timedelta(minutes=11))) == ()


def test_of_two_options_that_the_shares_may_be_of_none_is_chosen() -> None:
    deliveries = Deliveries(lambda name, now: True)
    both = (Position(CALL, "NRML", D(500), D(20)), Position(PUT, "NRML", D(-500), D(20)))
    deliveries.look(both, CONTRACTS, (), broker_time(at(15, 20)))
    deliveries.look((), CONTRACTS, (), broker_time(at(9, 20, day=26)))
    found: tuple[Evidence, ...] = deliveries.look((shares(500, 1500),), CONTRACTS, (), broker_time(at(19, 0, day=26)))
    assert found == ()


async def test_the_adapter_reports_of_a_delivery_what_its_lists_and_the_exchanges_table_show() -> None:
    kite = KiteSimulator(KEY, TOKEN, USER, instruments=[CALL, STOCK])
    now = at(10)

    def it_is(time: datetime) -> None:
        nonlocal now
        now = time
        kite.set_clock((time - datetime.now(UTC)).total_seconds())

    it_is(at(10))
    kite.describe(CALL, LAST_DAY, "CE", D(1500), lot=500, name="RELIANCE")
    kite.set_position(CALL, "NRML", D(500), D(20))
    kite.set_position("NSE:INFY", "NRML", D(1), D(1500))
    try:
        async with broker(kite, clock=lambda: now, include_holdings=True) as adapter, asyncio.timeout(PATIENCE_S):
            while not (await adapter.snapshot(None)).contracts:
                await asyncio.sleep(0)
            it_is(at(15, 40))
            await adapter.snapshot(None)
            it_is(at(9, 20, day=26))
            kite.end_day()
            gone = await adapter.snapshot(None)
            assert (gone.contracts[CALL].has_expired(broker_time(now)), gone.evidence) == (True, ())
            kite.set_holding(STOCK, D(500), D(1500))
            it_is(at(19, 0, day=26))
            found = (await adapter.snapshot(None)).evidence
    finally:
        kite.close()
    assert {(one.instrument, one.reason, one.change) for one in found} == {
        (STOCK, Reason.EXERCISE, D(500)),
        (CALL, Reason.EXERCISE, D(-500)),
    }
