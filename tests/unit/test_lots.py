"""FIFO lots under a leg: whatever happens to a leg, its lots add up to it."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

from decimal import Decimal

import pytest

from actors.book import payloads
from actors.book.lots import Leg
from brokers.clocks import broker_time
from brokers.model import CostBasis
from tests.unit.builders import at, dec

WEIGHTED, FIFO = CostBasis.WEIGHTED, CostBasis.FIFO


def leg_of(*trades: tuple[object, object], basis: CostBasis = WEIGHTED) -> Leg:
    leg = Leg("net", broker_time(at(0)))
    for place, (quantity, price) in enumerate(trades):
        leg.trade(dec(quantity), dec(price), f"f{place}", broker_time(at(place)), basis)
    assert sum((lot.quantity for lot in leg.lots), Decimal(0)) == leg.quantity
    assert all((lot.quantity > 0) == (leg.quantity > 0) for lot in leg.lots)
    return leg


def lots(leg: Leg) -> list[tuple[Decimal, Decimal]]:
    return [(lot.quantity, lot.price) for lot in leg.lots]


@pytest.mark.parametrize(
    ("trades", "basis", "quantity", "average", "left"),
    [
        pytest.param([(10, 1), (10, 3)], WEIGHTED, 20, 2, [(10, 1), (10, 3)], id="two buys average"),
        pytest.param([(10, 1), (10, 3), (-5, 9)], WEIGHTED, 15, 2, [(5, 1), (10, 3)], id="a close keeps the average"),
        pytest.param([(10, 1), (10, 3), (-10, 9)], FIFO, 10, 3, [(10, 3)], id="a FIFO close leaves the later lots"),
        pytest.param([(10, 1), (10, 4), (-5, 9)], FIFO, 15, 3, [(5, 1), (10, 4)], id="half a lot closed FIFO"),
        pytest.param([(10, 1), (-10, 2)], WEIGHTED, 0, 0, [], id="closed exactly"),
        pytest.param([(10, 1), (-25, 2)], WEIGHTED, -15, 2, [(-15, 2)], id="through zero to short"),
        pytest.param([(-10, 5), (4, 6), (-1, 7)], WEIGHTED, -7, "5.285714285714285714285714286",
                     [(-6, 5), (-1, 7)], id="a short leg, reduced and added to"),
        pytest.param([(10, "-37.63"), (10, "-10")], WEIGHTED, 20, "-23.815",
                     [(10, "-37.63"), (10, "-10")], id="oil in April 2020: prices below zero"),
        pytest.param([(1, 0), (1, 2)], WEIGHTED, 2, 1, [(1, 0), (1, 2)], id="a price of zero"),
        pytest.param([("123456789012345678.00000001", 1), ("-0.00000001", 1)], WEIGHTED, "123456789012345678", 1,
                     [("123456789012345678", 1)], id="huge and tiny together"),
        pytest.param([("0.1", 1), ("0.2", 1), ("-0.3", 1)], WEIGHTED, 0, 0, [], id="tenths leave no crumb"),
    ],
)  # fmt: skip
def test_trades_open_and_close_lots_first_in_first_out(
    trades: list[tuple[object, object]],
    basis: CostBasis,
    quantity: object,
    average: object,
    left: list[tuple[object, object]],
) -> None:
    """FEATURES 13"""
    leg = leg_of(*trades, basis=basis)
    assert leg.quantity == dec(quantity)
    assert leg.average_price == dec(average)
    assert lots(leg) == [(dec(q), dec(p)) for q, p in left]


@pytest.mark.parametrize(
    ("trades", "to", "left"),
    [
        pytest.param([(10, 1), (10, 3)], (5, 2), [(5, 3)], id="less: the oldest lots go"),
        pytest.param([(10, 1)], (20, 2), [(10, 1), (10, 3)], id="more: a lot that makes the average come out"),
        pytest.param([(10, 1), (10, 3)], (20, 3), [(10, 2), (10, 4)], id="another price: every lot moves alike"),
        pytest.param([(10, 1)], (-4, 2), [(-4, 2)], id="another sign: one lot"),
        pytest.param([(10, 10)], (11, 1), [(11, 1)], id="a price no lot could have had: one lot"),
        pytest.param([(10, 1)], (20, -1), [(10, 1), (10, -3)], id="a price below zero can be had once one is"),
        pytest.param([(10, -3)], (20, 1), [(10, -3), (10, 5)], id="from below zero"),
        pytest.param([(10, 1), (10, 3)], (20, "-1"), [(10, -2), (10, 0)], id="moved below zero, lots kept"),
    ],
)
def test_a_correction_keeps_as_many_lots_as_it_can(
    trades: list[tuple[object, object]], to: tuple[object, object], left: list[tuple[object, object]]
) -> None:
    """FEATURES 13"""
    leg = leg_of(*trades)
    leg.hold(dec(to[0]), dec(to[1]), broker_time(at(9)))
    assert (leg.quantity, leg.average_price) == (dec(to[0]), dec(to[1]))
    assert lots(leg) == [(dec(q), dec(p)) for q, p in left]


def test_a_real_fill_takes_the_place_of_an_inferred_one_at_its_own_price() -> None:
    """PEERS 3"""
    leg = leg_of((10, 1))
    leg.trade(dec(10), dec(2), "inferred:x", broker_time(at(5)), WEIGHTED)
    leg.reprice("inferred:x", dec(4), dec(7), "real-1")
    leg.reprice("inferred:x", dec(6), dec(3), "real-2")
    assert [(lot.quantity, lot.price, lot.fill_id) for lot in leg.lots] == [
        (10, 1, "f0"),
        (4, 7, "real-1"),
        (6, 3, "real-2"),
    ]
    assert leg.average_price == (10 * 1 + 4 * 7 + 6 * 3) / Decimal(20)


@pytest.mark.parametrize("basis", CostBasis)
def test_a_leg_survives_its_json_to_the_last_digit(basis: CostBasis) -> None:
    leg = leg_of((3, "1.10"), (4, "1.2000000"), ("-2.50", 9), ("1E+3", "1.7"), (-1, 2), basis=basis)
    again = payloads.leg_from(payloads.leg_to(leg))
    assert (again.quantity, again.average_price, lots(again)) == (leg.quantity, leg.average_price, lots(leg))
    assert payloads.leg_to(again) == payloads.leg_to(leg)
    for one in (leg, again):
        one.trade(dec("0.7"), dec("1.3331"), "x", broker_time(at(9)), basis)
        one.trade(dec("-4"), dec("1.3331"), "y", broker_time(at(9)), basis)
    assert payloads.leg_to(again) == payloads.leg_to(leg)
