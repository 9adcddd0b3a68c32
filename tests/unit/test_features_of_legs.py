"""Features of a leg that there cannot be are refused: of that nothing is known, and least of all that it is flat."""

from __future__ import annotations

import pytest

from actors.book.policy import Policy
from actors.book.view import BookState, book_state
from brokers.model import Conventions, LegScheme
from supervisor.client.features import PositionFeatures, PositionSide, validate
from tests.unit.builders import SIDED, TICKET, Desk, at, dec, pos, slice_at

NETTED = Conventions()


def held(leg: str | None = "net", stated: Conventions | None = None, named: Conventions = NETTED) -> BookState:
    """The book of an account whose legs are ``named`` so, and ``stated`` by its broker."""
    desk = Desk(Policy(conventions=named))
    rows = [pos(10, leg=leg)] if leg else []
    desk.look(slice_at(0, rows, conventions=named if stated is None else stated))
    return book_state(desk.book, desk.policy, at(1), at(0), None, stated)


@pytest.mark.parametrize(
    ("book", "leg"),
    [
        (held(), "long"),
        (held(), "nett"),
        (held("long", SIDED, SIDED), "net"),
        (held("777", TICKET, TICKET), "net"),
        (held("777", TICKET, TICKET), "seven"),
        (held("net", NETTED, TICKET), "777"),
    ],
    ids=["a side where legs net", "a typing error", "net beside sides", "net beside tickets", "no number", "a ticket"],
)
def test_features_of_a_leg_that_there_cannot_be_are_refused_in_words(book: BookState, leg: str) -> None:
    with pytest.raises(ValueError, match=f"found '{leg}', expected"):
        validate(PositionFeatures(side=PositionSide.FLAT, quantity=dec(0), leg=leg), book)


def test_a_leg_that_there_can_be_and_is_not_is_flat() -> None:
    assert validate(PositionFeatures(side=PositionSide.FLAT, leg="778"), held("777", TICKET, TICKET))
    assert validate(PositionFeatures(side=PositionSide.LONG, leg="777"), held("777", named=TICKET))
    assert LegScheme.TICKET is TICKET.legs


@pytest.mark.parametrize("size", [0, -1, "-0.1"])
def test_a_contract_size_is_above_zero(size: object) -> None:
    with pytest.raises(ValueError, match="a number above 0"):
        PositionFeatures(side=PositionSide.LONG, contract_size=size)  # type: ignore[arg-type]  # to be refused


def test_a_flat_book_confirms_a_profit_of_zero_whatever_the_mark() -> None:
    assert validate(PositionFeatures(side=PositionSide.FLAT, quantity=dec(0), unrealised_pnl=dec(0)), held(None))
    wrong = validate(PositionFeatures(unrealised_pnl=dec(5)), held(None))
    assert wrong.differing == ("unrealised_pnl",)
