"""What a fill took out of a leg comes back as it was, where the fill turns out to be another one, or none."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from actors.book.checkpoint import checkpoint, checkpoint_event, replay
from actors.book.policy import Correct, Policy
from actors.events import EventType
from actors.reconciliation.own_reports import events_of
from brokers.model import ContractFacts, Conventions, Corrected, CostBasis, Fill, LegScheme, OrderStatus, Position, Side
from tests.unit.builders import (
    ACCOUNT,
    INSTRUMENT,
    SIDED,
    TICKET,
    Desk,
    at,
    dec,
    fill,
    fill_report,
    order,
    pos,
    records,
    slice_at,
)

FILLED = OrderStatus.FILLED
FIFO = Conventions(LegScheme.NET, CostBasis.FIFO)
WEIGHTED = Conventions(LegScheme.NET, CostBasis.WEIGHTED)
COSTLY = Conventions(LegScheme.NET, CostBasis.WEIGHTED, commission_in_average=True)


def held(desk: Desk) -> dict[str, tuple[float, float]]:
    """Quantity and average price by leg."""
    return {name: (float(quantity), round(float(price), 9)) for name, (quantity, price) in desk.held().items()}


def from_every_checkpoint(desk: Desk) -> None:
    """Whoever begins with the checkpoint after any event has the book of whoever came by it."""
    whole = checkpoint(desk.book)
    assert checkpoint(replay(ACCOUNT, INSTRUMENT, records(desk.events))) == whole
    for place in range(len(desk.events)):
        early = replay(ACCOUNT, INSTRUMENT, records(desk.events[:place]))
        written = orjson.loads(orjson.dumps(dict(checkpoint_event(early, at(0)).payload)))
        first = replace(checkpoint_event(early, at(0)), payload=written)
        late = replay(ACCOUNT, INSTRUMENT, records([first, *desk.events[place:]], after=place))
        assert checkpoint(late) == whole


@pytest.mark.parametrize("conventions", [WEIGHTED, FIFO], ids=["weighted", "fifo"])
@pytest.mark.parametrize(
    ("reported", "true_quantity", "after"),
    [
        pytest.param(100, 90, {WEIGHTED: (110, 2), FIFO: (110, 2.818181818)}, id="closed less"),
        pytest.param(90, 100, {WEIGHTED: (100, 2), FIFO: (100, 3)}, id="closed more"),
        pytest.param(200, 190, {WEIGHTED: (10, 2), FIFO: (10, 3)}, id="not flat after all"),
        pytest.param(250, 150, {WEIGHTED: (50, 2), FIFO: (50, 3)}, id="not short after all"),
        pytest.param(150, 250, {WEIGHTED: (-50, 5), FIFO: (-50, 5)}, id="short after all"),
    ],
)
def test_a_close_of_another_quantity_than_reported_leaves_the_average_that_the_broker_has(
    conventions: Conventions, reported: int, true_quantity: int, after: dict[Conventions, tuple[float, float]]
) -> None:
    """No discrepancy is made of our own guess: not one of the price either."""
    desk = Desk(Policy(correct=Correct.ALERT))
    for name, price, when in (("A", 1, 1), ("B", 3, 2)):
        one = fill_report(name, 100, price, at_s=when, order_id="B0")
        desk.report(one, at_s=when, conventions=conventions)
    made = [fill("A", 100, 1, at_s=1, order_id="B0"), fill("B", 100, 3, at_s=2, order_id="B0")]
    desk.look(slice_at(8, [pos(200, 2)], [], made, conventions=conventions))
    desk.report(
        fill_report("F1", reported, 5, at_s=11, order_id="B1", side=Side.SELL), at_s=11, conventions=conventions
    )
    true = fill("F1", true_quantity, 5, at_s=11, order_id="B1", side=Side.SELL)
    shown = Position(INSTRUMENT, "net", dec(after[conventions][0]), dec(after[conventions][1]))
    desk.look(slice_at(11.5, [shown], [], [true], conventions=conventions))
    assert held(desk) == {"net": after[conventions]}
    assert desk.look(slice_at(17, [shown], conventions=conventions)).status.value == "SUCCESS"
    from_every_checkpoint(desk)


def test_a_sell_without_its_leg_that_opened_a_short_one_gives_the_long_one_back_as_it_was() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(100, "1.5", "long")], conventions=SIDED))
    desk.report(fill_report("F1", 100, 3, at_s=11, side=Side.SELL), at_s=11, conventions=SIDED)
    assert held(desk) == {}
    row = order("B1", 100, 100, FILLED, side=Side.SELL, average=3, leg="short")
    true = fill("F1", 100, 3, at_s=11, order_id="B1", side=Side.SELL, leg="short")
    desk.look(slice_at(11.5, [pos(100, "1.5", "long"), pos(-100, 3, "short")], [row], [true], conventions=SIDED))
    assert held(desk) == {"long": (100, 1.5), "short": (-100, 3)}
    from_every_checkpoint(desk)


def test_what_was_traded_meanwhile_stays_beside_what_comes_back() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(60, 1)]))
    desk.report(fill_report("F1", 100, 3, at_s=11, order_id="B1", side=Side.SELL), at_s=11)
    desk.report(fill_report("F2", 10, 4, at_s=12, order_id="B2"), at_s=12)
    assert held(desk) == {"net": (-30, 3)}
    made = [fill("F1", 20, 3, at_s=11, order_id="B1", side=Side.SELL), fill("F2", 10, 4, at_s=12, order_id="B2")]
    desk.look(slice_at(12.5, [pos(50, "1.6")], [], made))
    assert desk.quantities() == {"net": dec(50)}
    from_every_checkpoint(desk)


def test_what_comes_back_closes_what_was_sold_beyond_it_meanwhile() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(200, 1)]))
    for name, quantity, price, when in (("F1", 100, 3, 11), ("F2", 150, 4, 12)):
        desk.report(fill_report(name, quantity, price, at_s=when, order_id=name, side=Side.SELL), at_s=when)
    assert held(desk) == {"net": (-50, 4)}
    desk.look(slice_at(12.5, [pos(40, 1)], [], [fill("F1", 10, 3, at_s=11, order_id="F1", side=Side.SELL)]))
    assert held(desk) == {"net": (40, 1)}
    from_every_checkpoint(desk)


def test_what_the_average_has_of_commissions_comes_back_too() -> None:
    desk = Desk()
    contract = ContractFacts(identity="1", currency="USD")
    charged = replace(
        fill("A", 100, 1, at_s=1, order_id="O"), commission=dec(10), commission_currency=contract.currency
    )

    def look(seconds: float, quantity: int, *fills: Fill) -> str:
        slice_ = slice_at(seconds, [pos(quantity, "1.1")], [], fills, conventions=COSTLY)
        return desk.look(replace(slice_, contract=contract)).status.value

    desk.look(replace(slice_at(0, conventions=COSTLY), contract=contract))
    look(2, 100, charged)
    assert look(3, 100) == "SUCCESS"
    for name, quantity, later in (("F1", 100, 90), ("F2", 10, 5)):
        when = {"F1": 11, "F2": 20}[name]
        ours = fill_report(name, quantity, 3, at_s=when, order_id=name, side=Side.SELL)
        desk.report(ours, at_s=when, conventions=COSTLY)
        true = fill(name, later, 3, at_s=when, order_id=name, side=Side.SELL)
        look(when + 0.5, {"F1": 10, "F2": 5}[name], true)
        assert desk.book.legs["net"].average_with_cost == dec("1.1")
        assert look(when + 6, {"F1": 10, "F2": 5}[name]) == "SUCCESS"
    assert not any(event.payload.get("type") == "PRICE_MISMATCH" for event in desk.events)


def test_the_lots_that_come_back_are_the_first_to_be_closed_again() -> None:
    """Whose strategy opened them, and which is closed next, is what it was."""
    desk = Desk()
    for name, when in (("A", 1), ("B", 2)):
        desk.report(fill_report(name, 100, when, at_s=when, order_id=f"O{name}"), at_s=when)
    before = list(desk.book.legs["net"].lots)
    desk.report(fill_report("F1", 150, 3, at_s=11, order_id="B1", side=Side.SELL), at_s=11)
    desk.look(slice_at(11.5, [pos(170)], [], [fill("F1", 30, 3, at_s=11, order_id="B1", side=Side.SELL)]))
    first, second = desk.book.legs["net"].lots
    assert (first, second) == (replace(before[0], quantity=dec(70)), before[1])


def test_a_fill_that_was_placed_by_the_positions_gives_back_what_it_closed_there() -> None:
    """It waited for its leg, the positions placed it in one, and the broker's own word names another."""
    desk = Desk()
    both = [pos(10, "1.5", "7"), pos(10, 2, "8")]
    desk.look(slice_at(0, both, conventions=TICKET))
    desk.report(fill_report("F1", 10, 3, at_s=11, side=Side.SELL), at_s=11, conventions=TICKET)
    desk.look(slice_at(17, both[1:], conventions=TICKET))
    assert held(desk) == {"8": (10, 2)}
    true = fill("F1", 10, 3, at_s=11, order_id="B1", side=Side.SELL, leg="8", position_id="8")
    desk.look(slice_at(17.5, both[:1], [], [true], conventions=TICKET))
    assert held(desk) == {"7": (10, 1.5)}
    from_every_checkpoint(desk)


BUST = Corrected("F1", dec(100), dec(3))


@pytest.mark.parametrize(("left", "after"), [(0, (200, 1.5)), (40, (160, 1.5))], ids=["a bust", "a correction to less"])
def test_a_close_that_the_broker_takes_back_leaves_the_average_as_it_was(left: int, after: tuple[int, float]) -> None:
    desk = Desk(Policy(correct=Correct.AUTO))
    desk.look(slice_at(0, [pos(200, "1.5")]))
    desk.look(slice_at(10, [pos(100, "1.5")], [], [fill("F1", 100, 3, at_s=9, order_id="X", side=Side.SELL)]))
    taken_back = replace(fill("F1.2", left, 3, at_s=9, order_id="X", side=Side.SELL), corrects=BUST)
    desk.look(slice_at(20, [pos(*after)], [], [taken_back]))
    assert held(desk) == {"net": after}
    assert desk.look(slice_at(21, [pos(*after)])).discrepancies == ()
    from_every_checkpoint(desk)


def test_a_close_of_all_that_is_taken_back_has_the_average_that_the_broker_shows() -> None:
    """The book has forgotten at what price it was held; the positions of that very answer have it in them."""
    desk = Desk()
    desk.look(slice_at(0, [pos(100, "1.5")]))
    desk.look(slice_at(10, [], [], [fill("F1", 100, 3, at_s=9, order_id="X", side=Side.SELL)]))
    taken_back = replace(fill("F1.2", 0, 3, at_s=9, order_id="X", side=Side.SELL), corrects=BUST)
    desk.look(slice_at(20, [pos(100, "1.5")], [], [taken_back]))
    assert held(desk) == {"net": (100, 1.5)}
    assert desk.look(slice_at(21, [pos(100, "1.5")])).discrepancies == ()


def test_positions_that_lag_behind_the_broker_taking_a_close_back_show_no_average() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(100, "1.5")]))
    desk.look(slice_at(10, [], [], [fill("F1", 100, 3, at_s=9, order_id="X", side=Side.SELL)]))
    taken_back = replace(fill("F1.2", 0, 3, at_s=9, order_id="X", side=Side.SELL), corrects=BUST)
    desk.look(slice_at(20, [pos(70, 9)], [], [taken_back]))
    assert held(desk) == {"net": (100, 3)}


def test_what_the_broker_adds_to_a_fill_is_at_the_price_of_the_fill() -> None:
    desk = Desk()
    desk.look(slice_at(0, [pos(100, 1)]))
    desk.look(slice_at(10, [pos(150, 2)], [], [fill("F1", 50, 4, at_s=9, order_id="X")]))
    more = replace(fill("F1.2", 100, 4, at_s=9, order_id="X"), corrects=Corrected("F1", dec(50), dec(4)))
    desk.look(slice_at(20, [pos(200, "2.5")], [], [more]))
    assert held(desk) == {"net": (200, 2.5)}


def test_a_journal_of_before_is_folded_as_it_was() -> None:
    """Its reports do not say what they took out of a leg, and its checkpoints were made without that."""
    desk = Desk()
    desk.look(slice_at(0, [pos(200, "1.5")]))
    [recorded] = events_of(
        desk.book, [fill_report("F1", 100, 3, at_s=11, order_id="B1", side=Side.SELL)], WEIGHTED, at(11)
    )
    assert recorded.type is EventType.FILL_RECORDED
    desk.write([replace(recorded, payload={key: of for key, of in recorded.payload.items() if key != "closed"})])
    true = fill("F1", 90, 3, at_s=11, order_id="B1", side=Side.SELL)
    desk.look(slice_at(11.5, [pos(110, "1.5")], [], [true]))
    assert held(desk) == {"net": (110, 2.25)}
    from_every_checkpoint(desk)
