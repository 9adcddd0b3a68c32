"""What a book remembers is bounded, however long it is traded, and what is forgotten changes no leg of it."""

from __future__ import annotations

from collections.abc import Callable, Sized

import orjson
import pytest

from actors.book.book import Book
from actors.book.checkpoint import checkpoint
from brokers.model import Side, Unsupported
from tests.unit.builders import Desk, dec, fill, fill_report, pos, slice_at

ROUNDS = 60
BOUNDS: dict[str, tuple[int, Callable[[Book], Sized]]] = {
    "FILL_IDS_KEPT": (8, lambda book: book.applied),
    "ORPHANS_KEPT": (5, lambda book: book.orphans),
    "REPORTED_KEPT": (4, lambda book: book.reported),
    "WITHOUT_COMMISSION_KEPT": (6, lambda book: book.without_commission),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_each_memory_of_a_book_is_bounded_and_without_its_bound_it_grows(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, part = BOUNDS[bound]
    assert len(part(traded())) > kept
    monkeypatch.setattr(f"actors.book.book.{bound}", kept)
    assert len(part(traded())) <= kept


def test_a_book_with_all_its_bounds_is_as_large_after_twice_the_trades(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound, (kept, _) in BOUNDS.items():
        monkeypatch.setattr(f"actors.book.book.{bound}", kept)
    once, twice = (len(orjson.dumps(checkpoint(traded(rounds)))) for rounds in (ROUNDS, 2 * ROUNDS))
    assert twice < once * 1.05


def traded(rounds: int = ROUNDS) -> Book:
    """A book after so many fills of the broker's, of orders that it shows no row of, and as many of our side's."""
    desk = Desk()
    for number in range(rounds):
        at_s = 360.0 * number  # each look is evidence of its own
        side = Side.SELL if number % 2 else Side.BUY
        filled = fill(f"f{number}", 1, at_s=at_s, order_id=f"b{number}", side=side)
        desk.report(fill_report(f"r{number}", 1, at_s=at_s, order_id=f"o{number}", side=side), at_s=at_s)
        theirs = [pos(2)] if number % 2 == 0 else []
        desk.look(slice_at(at_s + 60, theirs, Unsupported(), [filled]))
        desk.look(slice_at(at_s + 120, theirs, Unsupported()))
        assert desk.quantities() == ({"net": dec(2)} if number % 2 == 0 else {})
    return desk.book
