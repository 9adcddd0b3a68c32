"""Books and slices as objects of the JSON contract."""

from __future__ import annotations

from actors.book.book import Book
from actors.book.payloads import order_view
from actors.events import Json, to_text
from brokers.model import Completeness, Slice, rows_of

NOTHING_KNOWN: dict[str, Json] = {
    "positions": Completeness.FAILED.value,
    "orders": Completeness.FAILED.value,
    "fills": Completeness.FAILED.value,
}


def book_view(book: Book) -> dict[str, Json]:
    """The non-zero legs and the orders that are not terminal; if there are any, also the fills that wait for the broker
    to name their leg."""
    view: dict[str, Json] = {
        "legs": [
            {"leg": name, "quantity": to_text(leg.quantity), "average_price": to_text(leg.average_price)}
            for name, leg in sorted(book.legs.items())
        ],
        "open_orders": [order_view(order) for order in book.open_orders()],
    }
    pending = book.pending_fills()
    if pending:
        view["pending_fills"] = [
            {
                "fill_id": waiting.fill.fill_id,
                "broker_order_id": waiting.fill.broker_order_id,
                "side": waiting.fill.side.value,
                "quantity": to_text(waiting.fill.quantity),
                "price": to_text(waiting.fill.price),
            }
            for waiting in pending
        ]
    return view


def table_view(book: Book, slice_: Slice) -> dict[str, Json]:
    """For a book whose source is a table: how complete it is, and how many legs each side holds."""
    if slice_.claims is None:
        return {}
    at_broker = sum(bool(row.quantity) for row in rows_of(slice_.positions))
    claims = slice_.claims.completeness.value
    return {"table": {"positions": claims, "legs": len(book.legs), "broker_legs": at_broker}}


def broker_view(slice_: Slice) -> dict[str, Json]:
    """The completeness of each section."""
    return {
        "positions": slice_.positions.completeness.value,
        "orders": slice_.orders.completeness.value,
        "fills": slice_.fills.completeness.value,
    }
