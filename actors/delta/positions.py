"""Position updates from the journal: what each record did to the legs of its instrument. Pure.

A book is a fold of its records, so updates are found by folding, and the same records give the same updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

from actors.book.book import Book
from actors.book.checkpoint import follow
from actors.events import EventType, Record, to_text
from brokers.frozen import dataclass

PLACES = 18
DIGITS = 38
_STEP = Decimal(1).scaleb(-PLACES)
_BOUND = Decimal(1).scaleb(DIGITS - PLACES)
_WIDE = Context(prec=100, rounding=ROUND_HALF_EVEN)

_MOVES_LEGS = frozenset(
    {EventType.FILL_RECORDED, EventType.ORDER_FILLED, EventType.POSITION_RECORDED, EventType.POSITION_SYNCED}
)


@dataclass(frozen=True, slots=True)
class PositionUpdate:
    """One leg after this record. A ``quantity`` of 0 is a closed leg. Among the updates of one leg, that with the
    highest ``seq`` counts."""

    seq: int
    account: str
    instrument: str
    leg: str
    quantity: Decimal
    average_price: Decimal
    time: datetime
    type: str
    hash: str


def updates(book: Book, record: Record) -> Iterator[PositionUpdate]:
    """Add the next record of the book's stream, and yield a row for each leg that it changed, by name. Raises
    :class:`UnreadableRecord`."""
    if record.event.type not in _MOVES_LEGS:
        follow(book, record)
        return
    before = _legs(book)
    follow(book, record)
    after = _legs(book)
    for leg in sorted(before.keys() | after.keys()):
        if before.get(leg) != after.get(leg):
            quantity, price = after.get(leg, (Decimal(0), before.get(leg, (Decimal(0), Decimal(0)))[1]))
            yield PositionUpdate(
                seq=record.seq,
                account=book.account,
                instrument=book.instrument,
                leg=leg,
                quantity=quantity,
                average_price=price,
                time=record.event.time,
                type=record.event.type.value,
                hash=record.hash,
            )


def _legs(book: Book) -> dict[str, tuple[Decimal, Decimal]]:
    return {name: (leg.quantity, leg.average_price) for name, leg in book.legs.items()}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in a column of ``decimal(38, 18)``. ``exact`` is its own text where the column cannot hold it: then
    ``value`` is the nearest one, half to even, or ``None`` where the number is too large."""

    value: Decimal | None
    exact: str | None = None


def cell(number: Decimal) -> Cell:
    """A number for a column of ``decimal(38, 18)``. Any rounding is shown by ``exact``."""
    if abs(number) >= _BOUND:
        return Cell(None, to_text(number))
    value = number.quantize(_STEP, context=_WIDE)
    if abs(value) >= _BOUND:
        return Cell(None, to_text(number))
    return Cell(value, None if value == number else to_text(number))
