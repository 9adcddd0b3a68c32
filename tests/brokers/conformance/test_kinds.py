"""What ends or changes a position without an order of ours: the same story over each broker at which it can happen,
from the wire to the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.book.discrepancies import Cause
from brokers.model import NET, Reason, Side
from brokers.mt5 import enumerations as mt5
from brokers.oanda import decode as oanda
from brokers.simulators.ib_wire import SimContract
from brokers.simulators.kite import KiteSimulator
from tests.brokers.kite_contracts import FUTURE, LAST_DAY, an_account, at, it_is, until_the_table_is_read
from tests.brokers.one_look import OneLook, one_look

D = Decimal


@dataclass(frozen=True)
class Story:
    """``begins`` makes what is held, ``happens`` what nobody ordered; then the book holds ``legs`` of the symbol, and
    the break has this ``cause``. ``lots`` is how many lots are held."""

    broker: str
    cause: Cause
    happens: Callable[[Any, str, OneLook], object]
    quantity: Callable[[Decimal], Decimal]
    symbol: str | None = None
    begins: Callable[[Any, str, OneLook], object] = lambda sim, symbol, place: sim.trade(
        symbol, Side.BUY, place.kind.lot
    )

    def __str__(self) -> str:
        return f"{self.broker}-{self.cause.value.lower()}"


NOTHING = D(0)
EXPIRED = "XYZ   260102C00050000"
CALL, PUT, STOCK = "XYZ   270115C00050000", "XYZ   270115P00050000", "XYZ"


def held_beside_shares(options: Decimal) -> Callable[[Any, str, OneLook], object]:
    """An option, and some of its shares."""

    def begins(simulator: Any, symbol: str, _: OneLook) -> None:
        simulator.set_position(symbol, NET, options, D(2))
        simulator.set_position(STOCK, NET, D(100), D(45))

    return begins


def a_night(simulator: Any, symbol: str, _: OneLook) -> None:
    """What was bought for delivery is delivered; our clock knows of no other day."""
    simulator.next_day()
    simulator.set_clock(6)


def settled(simulator: Any, symbol: str, _: OneLook) -> None:
    """The option is gone, and 100 shares have come at its strike of 50."""
    simulator.set_position(symbol, NET, NOTHING, NOTHING)
    simulator.set_position(STOCK, NET, D(200), D("47.5"))


def only_leg(simulator: Any, symbol: str) -> str:
    (leg,) = [leg for name, leg in simulator.positions() if name == symbol]
    return str(leg)


STORIES = [
    Story("oanda", Cause.LIQUIDATION, lambda sim, symbol, _: sim.close_out(symbol), lambda lot: NOTHING),
    Story("mt5", Cause.LIQUIDATION, lambda sim, symbol, _: sim.stop_out(only_leg(sim, symbol)), lambda lot: NOTHING),
    Story("ib", Cause.LIQUIDATION, lambda sim, symbol, _: sim.liquidate(symbol), lambda lot: NOTHING),
    Story("ib", Cause.SPLIT, lambda sim, symbol, _: sim.split(symbol, D(4)), lambda lot: 4 * lot),
    Story("ib", Cause.SPLIT, lambda sim, symbol, _: sim.split(symbol, D("0.5")), lambda lot: lot / 2),
    Story(
        "kite",
        Cause.CONVERSION,
        lambda sim, symbol, place: sim.convert(symbol, "MIS", "CNC", place.kind.lot),
        lambda lot: lot,
    ),
    Story("kite", Cause.SQUARE_OFF, lambda sim, symbol, _: sim.square_off(symbol), lambda lot: NOTHING),
    Story(
        "kite",
        Cause.SETTLEMENT,
        a_night,
        lambda lot: lot,
        begins=lambda sim, symbol, place: sim.trade(symbol, Side.BUY, place.kind.lot, product="CNC"),
    ),
    Story(
        "oanda",
        Cause.TRANSFER,
        lambda sim, symbol, _: sim.close_out(symbol, "FIXED_PRICE_ORDER_DIVISION_ACCOUNT_MIGRATION"),
        lambda lot: NOTHING,
    ),
    Story("mt5", Cause.STOP_LOSS, lambda sim, symbol, _: sim.hit(only_leg(sim, symbol), "sl"), lambda lot: NOTHING),
    Story("mt5", Cause.MERGER, lambda sim, symbol, _: sim.stop_out(only_leg(sim, symbol), 10), lambda lot: NOTHING),
    Story(
        "ib",
        Cause.EXPIRY,
        lambda sim, symbol, _: sim.expire(symbol),
        lambda lot: NOTHING,
        symbol=EXPIRED,
        begins=lambda sim, symbol, place: sim.set_position(symbol, NET, place.kind.lot, D("0.5")),
    ),
    Story("ib", Cause.EXERCISE, settled, lambda lot: NOTHING, symbol=CALL, begins=held_beside_shares(D(1))),
    Story("ib", Cause.ASSIGNMENT, settled, lambda lot: NOTHING, symbol=PUT, begins=held_beside_shares(D(-1))),
]


@pytest.mark.parametrize("story", STORIES, ids=str)
async def test_what_nobody_ordered_is_reported_by_its_cause_and_the_units_add_up(story: Story, tmp_path: Path) -> None:
    with one_look(story.broker, tmp_path) as place:
        symbol = story.symbol or place.kind.symbols[0]
        names = (symbol, place.kind.symbols[1], *((STOCK,) if symbol in (CALL, PUT) else ()))
        story.begins(place.simulator, symbol, place)
        place.simulator.trade(place.kind.symbols[1], Side.BUY, place.kind.lot)
        await place.look(*names)
        if story.broker == "kite":
            place.simulator.set_clock(5)  # it dates to the second, and the next one is another than the first look's
        story.happens(place.simulator, symbol, place)
        _, reports = await place.look(*names)
        causes = {one.found.cause for one in reports[symbol].discrepancies}
        assert story.cause in causes
        legs: Any = reports[symbol].book["legs"]
        assert sum((D(leg["quantity"]) for leg in legs), NOTHING) == story.quantity(place.kind.lot)
        _, reports = await place.look(*names)
        assert reports[symbol].discrepancies == ()
        assert reports[symbol].status == "SUCCESS"


async def test_a_contract_that_is_gone_after_its_last_day_has_expired_at_kite_too(tmp_path: Path) -> None:
    """By a clock that is set: its exchange's table lists it on its last day, and it is gone the next morning."""
    async with an_account(tmp_path) as world:
        kite = world.simulator
        assert isinstance(kite, KiteSimulator)
        kite.describe(FUTURE, LAST_DAY, name="NIFTY")
        await world.verdict()
        await until_the_table_is_read(world)
        it_is(world, at(15, 40))
        await world.verdict()
        it_is(world, at(9, 20, day=26))
        kite.end_day()
        report = await world.verdict()
        causes = {one.found.cause for one in report.discrepancies}
        assert (causes, report.book["legs"], report.status) == ({Cause.EXPIRY}, [], "SUCCESS")
        assert (await world.verdict()).discrepancies == ()


@dataclass(frozen=True)
class Unexplained:
    """Something that a broker does of which it gives no evidence: so much is held, and then so much."""

    broker: str
    what: str
    before: Decimal
    after: Decimal

    def __str__(self) -> str:
        return f"{self.broker}-{self.what}"


WITHOUT_EVIDENCE = [
    Unexplained("ib", "a merger paid in shares", D(100), D(37)),
    Unexplained("ib", "a dividend in shares", D(100), D(105)),
    Unexplained("ib", "a forced buy-in", D(-100), D(-40)),
    Unexplained("kite", "a bonus issue", D(100), D(105)),
    Unexplained("oanda", "units that came from nowhere", D(100), D(105)),
    Unexplained("mt5", "a forced buy-in", D("-0.1"), D("-0.04")),
]


@pytest.mark.parametrize("story", WITHOUT_EVIDENCE, ids=str)
async def test_what_a_broker_gives_no_evidence_of_stays_unexplained(story: Unexplained, tmp_path: Path) -> None:
    with one_look(story.broker, tmp_path) as place:
        symbol, other = place.kind.symbols
        leg = place.simulator.set_position(symbol, "", story.before, D(100))
        place.simulator.trade(other, Side.BUY, place.kind.lot)
        await place.look()
        place.simulator.set_position(symbol, leg, story.after, D(300))  # at another cost: no split
        _, reports = await place.look()
        assert {one.found.cause for one in reports[symbol].discrepancies} == {Cause.UNEXPLAINED}


def test_no_adapter_claims_a_dividend_or_a_forced_buy_in_and_only_mt5_a_merger() -> None:
    """As the table of causes in ARCHITECTURE.md says: whoever builds one says there on what evidence."""
    known = {one for table in (mt5.DEAL_REASONS, mt5.ORDER_REASONS) for one in table.by_value.values()}
    assert Reason.MERGER in known
    assert not {Reason.DIVIDEND, Reason.FORCED_BUY_IN} & (known | set(oanda.FILL_REASONS.values()))
    assert Reason.MERGER not in oanda.FILL_REASONS.values()


async def test_a_position_that_the_server_re_opens_under_another_ticket_is_the_same_position(tmp_path: Path) -> None:
    with one_look("mt5", tmp_path) as place:
        symbol = place.kind.symbols[0]
        place.simulator.trade(symbol, Side.BUY, place.kind.lot)
        _, before = await place.look()
        place.simulator.reopen_for_swap(only_leg(place.simulator, symbol))
        _, after = await place.look()
        assert (after[symbol].status, after[symbol].discrepancies) == ("SUCCESS", ())
        assert after[symbol].book["legs"] == before[symbol].book["legs"]


async def test_a_contract_whose_ticker_changes_is_the_same_instrument_and_one_that_is_replaced_waits_for_a_person(
    tmp_path: Path,
) -> None:
    with one_look("ib", tmp_path) as place:
        tws, name = place.simulator, "FB"
        tws.describe(name, SimContract(107113386, "FB", local_symbol="FB"))
        tws.set_position(name, NET, D(100), D(200))
        tws.trade("MSFT", Side.BUY, D(1))
        await place.look(name, "MSFT")
        tws.describe(name, SimContract(107113386, "META", local_symbol="META"))
        _, reports = await place.look(name, "MSFT")
        assert (reports[name].status, reports[name].discrepancies) == ("SUCCESS", ())
        tws.describe(name, SimContract(999999001, "FB", local_symbol="FB"))
        tws.set_position(name, NET, D(10), D(2000))
        _, reports = await place.look(name, "MSFT")
        (found,) = reports[name].discrepancies
        assert (found.found.cause, found.resolved) == (Cause.REPLACED_BY, False)
        legs: Any = reports[name].book["legs"]
        assert [leg["quantity"] for leg in legs] == ["100"]
