"""Prices as people are shown them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from supervisor.cli.screen import book_words
from supervisor.presentation.prices import shown_price


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        ("919.7142857142857142857142857", "919.7142857"),
        ("1.105433333333333333", "1.105433333"),
        ("0.00001234567890123456", "0.0000123456789"),
        ("27123.45678", "27123.45678"),
        ("191.2", "191.2"),
        ("191.2000", "191.2"),
        ("100", "100"),
        ("12345678901", "12345678901"),
        ("12345678901.25", "12345678901"),
        ("0", "0"),
        ("1E+3", "1000"),
        ("-3.333333333333", "-3.333333333"),
        (Decimal(2) / Decimal(3), "0.6666666667"),
        ("9.99999999999", "10"),
        ("NaN", "NaN"),
        (None, "None"),
    ],
)
def test_a_price_is_shown_without_the_tail_of_a_quotient_and_otherwise_whole(price: object, shown: str) -> None:
    assert shown_price(price) == shown


def test_a_book_in_one_line_shows_its_average_prices_for_people() -> None:
    book = {
        "legs": [{"leg": "MIS", "quantity": "-7", "average_price": "919.7142857142857142857142857"}],
        "open_orders": [],
    }
    assert book_words(book, known=True) == "MIS -7 @ 919.7142857"
