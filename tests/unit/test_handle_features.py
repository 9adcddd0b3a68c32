"""A model's position features beside the book: what differs, by how much, and when nothing can be said."""

# mypy: disable-error-code="comparison-overlap"
# A Decimal is meant to equal an int here.

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy
import pytest
from pydantic import ValidationError

from actors.book.discrepancies import Break, DiscrepancyType, Phase
from actors.book.lots import Lot
from actors.book.policy import Policy
from actors.book.view import BookState, LegState
from actors.events import Severity
from brokers.clocks import broker_time
from supervisor.client.features import PositionFeatures, Validation, validate
from tests.unit.builders import at, dec

NOW, OPENED, VERIFIED = at(1000), at(900), at(990)
POLICY = Policy(
    price_tolerance=dec("0.001"),
    quantity_tolerance=dec(1),
    settle=timedelta(seconds=5),
    unverified=timedelta(seconds=60),
)


def leg(name: str, quantity: object, price: object, opened_at: datetime = OPENED) -> LegState:
    lots = (
        Lot(dec(quantity), dec(price), "f1", broker_time(opened_at)),
        Lot(dec(0), dec(price), "f2", broker_time(at(990))),
    )
    return LegState(name, dec(quantity), dec(price), lots)


def a_book(*legs: LegState, verified_at: datetime | None = VERIFIED, breaks: tuple[Break, ...] = ()) -> BookState:
    return BookState("fx", "EUR_USD", 7, NOW, verified_at, legs, (), breaks, POLICY, None)


LONG = a_book(leg("long", 200, "1.1"))
SHORT = a_book(leg("net", -200, "1.1"))
FLAT = a_book()
HEDGED = a_book(leg("long", 200, "1.1"), leg("short", -50, "1.2", at(800)))


def judged(book: BookState, **features: Any) -> Validation:
    return validate(PositionFeatures(**features), book)


@pytest.mark.parametrize(
    ("book", "features"),
    [
        (LONG, {"side": "long", "quantity": 200, "average_price": "1.1", "seconds_in_position": 100}),
        (LONG, {"quantity": 200.0, "average_price": 1.1}),
        (LONG, {"quantity": 201}),
        (LONG, {"average_price": "1.1011"}),
        (LONG, {"seconds_in_position": 105}),
        (LONG, {"unrealised_pnl": 2.0, "mark_price": 1.11}),
        (LONG, {"unrealised_pnl": 0.1 + 0.2, "mark_price": 1.1015}),
        (LONG, {"unrealised_pnl": 200, "mark_price": "1.11", "contract_size": 100}),
        (SHORT, {"side": "SELL", "quantity": 200}),
        (SHORT, {"side": -1, "quantity": -200}),
        (SHORT, {"quantity": -200, "unrealised_pnl": "-2", "mark_price": "1.11"}),
        (FLAT, {"side": 0, "quantity": 0, "average_price": 0, "unrealised_pnl": 0, "seconds_in_position": 0,
                "mark_price": 1}),
        (HEDGED, {"quantity": 150, "unrealised_pnl": "6.5", "mark_price": "1.11"}),
        (HEDGED, {"leg": "short", "side": "short", "quantity": 50, "average_price": "1.2", "seconds_in_position": 200}),
        (LONG, {"quantity": numpy.float64(200), "average_price": numpy.float32(1.1), "side": numpy.int64(1)}),
        (LONG, {}),
    ],
)  # fmt: skip
def test_features_of_the_book_agree_within_the_policys_tolerances(book: BookState, features: Mapping[str, Any]) -> None:
    """FEATURES 8"""
    result = judged(book, **features)
    assert (result.differing, result.usable) == ((), True)
    assert result


@pytest.mark.parametrize(
    ("book", "features", "field", "ours", "difference"),
    [
        (LONG, {"side": "short"}, "side", "long", None),
        (LONG, {"side": "long", "quantity": 150}, "quantity", 200, 50),
        (LONG, {"quantity": -200}, "quantity", 200, 400),
        (SHORT, {"quantity": 200}, "quantity", -200, -400),
        (LONG, {"average_price": "1.2"}, "average_price", dec("1.1"), dec("-0.1")),
        (LONG, {"seconds_in_position": 94}, "seconds_in_position", 100, 6),
        (LONG, {"unrealised_pnl": 3, "mark_price": "1.11"}, "unrealised_pnl", 2, -1),
        (FLAT, {"average_price": "1.1"}, "average_price", None, None),
        (FLAT, {"side": "long"}, "side", "flat", None),
        (HEDGED, {"leg": "long", "quantity": 150}, "quantity", 200, 50),
    ],
)
def test_what_differs_is_named_with_the_books_value_and_the_difference(
    book: BookState, features: Mapping[str, Any], field: str, ours: object, difference: object
) -> None:
    """FEATURES 8"""
    result = judged(book, **features)
    (check,) = [check for check in result.checks if check.differs]
    assert (check.feature, check.book, check.difference) == (field, ours, difference)
    assert not result


def test_corrected_values_are_the_books_in_the_form_the_model_uses() -> None:
    """FEATURES 8"""
    corrected = judged(SHORT, side="long", quantity=100, mark_price="1.05").corrected
    assert (corrected.side, corrected.quantity, corrected.average_price) == ("short", 200, dec("1.1"))
    assert (corrected.unrealised_pnl, corrected.seconds_in_position) == (10, 100)
    assert judged(SHORT, quantity=100).corrected.quantity == -200
    assert judged(SHORT, **corrected.model_dump()), "they agree with the book they are from"


@pytest.mark.parametrize(
    ("features", "note"),
    [
        ({"average_price": "1.1"}, "both sides are held at different prices: give a leg"),
        ({"unrealised_pnl": 1}, "needs mark_price"),
    ],
)
def test_what_cannot_be_compared_is_not_agreement(features: Mapping[str, Any], note: str) -> None:
    result = judged(HEDGED, **features)
    (check,) = result.checks
    assert (check.differs, check.note) == (None, note)
    assert not result
    assert result.differing == ()


@pytest.mark.parametrize(
    ("book", "reason"),
    [
        (a_book(verified_at=None), "has not been verified"),
        (a_book(verified_at=NOW - timedelta(seconds=61)), "61.0 s ago, more than unverified_s (60)"),
        (
            a_book(
                leg("long", 200, "1.1"),
                breaks=(
                    Break("b", DiscrepancyType.POSITION_MISMATCH, "long", Severity.WARNING, Phase.DRIFT, None, "200",
                          "300", "100", at(995)),
                ),
            ),
            "POSITION_MISMATCH long is open",
        ),
    ],
    ids=["never", "too long ago", "known to differ"],
)  # fmt: skip
def test_an_unverified_book_is_not_usable_and_says_why(book: BookState, reason: str) -> None:
    """FEATURES 8"""
    result = judged(book, quantity=200)
    assert not result.usable
    assert not result
    assert reason in (result.reason or "")


@pytest.mark.parametrize(
    "features",
    [
        {"side": "up"}, {"side": 2}, {"side": True}, {"quantity": "many"}, {"quantity": float("nan")},
        {"average_price": "Infinity"}, {"quantity": True}, {"seconds_in_position": [1]}, {"size": 1},
        {"seconds_in_position": -1},
    ],
)  # fmt: skip
def test_what_is_no_feature_is_refused(features: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PositionFeatures(**features)
