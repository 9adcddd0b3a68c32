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
from brokers.model import Side
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
]


@pytest.mark.parametrize("story", STORIES, ids=str)
async def test_what_nobody_ordered_is_told_by_its_cause_and_the_units_add_up(story: Story, tmp_path: Path) -> None:
    with one_look(story.broker, tmp_path) as place:
        symbol = place.kind.symbols[0]
        story.begins(place.simulator, symbol, place)
        place.simulator.trade(place.kind.symbols[1], Side.BUY, place.kind.lot)
        await place.look()
        if story.broker == "kite":
            place.simulator.set_clock(5)  # it dates to the second, and the next one is another than the first look's
        story.happens(place.simulator, symbol, place)
        _, reports = await place.look()
        causes = {one.found.cause for one in reports[symbol].discrepancies}
        assert story.cause in causes
        legs: Any = reports[symbol].book["legs"]
        assert sum((D(leg["quantity"]) for leg in legs), NOTHING) == story.quantity(place.kind.lot)
        _, reports = await place.look()
        assert reports[symbol].discrepancies == ()
        assert reports[symbol].status == "SUCCESS"
