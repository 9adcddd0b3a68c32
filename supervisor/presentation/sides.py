"""Book and broker side by side, for one instrument of a status document. Pure.

The law of this module: an unknown value is ``not known``, and never shown as equal to the book, nor as flat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from brokers.frozen import dataclass
from supervisor.presentation.prices import shown_price

NOT_KNOWN = "not known"
NOTHING = "nothing"
SAME = "the same"
NOT_COMPARED = "not compared"
_OF_POSITIONS = frozenset({"RECOVERY", "GHOST", "DRIFT"})
_VERIFYING = frozenset({"SUCCESS", "PARTIAL"})


@dataclass(frozen=True, slots=True)
class Side:
    """One leg or order on both sides, as text. ``agrees`` is ``None`` where that is not known."""

    name: str
    book: str
    broker: str
    agrees: bool | None

    @property
    def verdict(self) -> str:
        """Whether they agree, as text."""
        return "not known" if self.agrees is None else "agree" if self.agrees else "DIFFER"


def legs(row: Mapping[str, Any]) -> list[Side]:
    """The legs that either side holds; one row ``everything`` where neither is known to hold any."""
    differing = {
        one["key"]: one for one in row["discrepancies"] if not one["resolved"] and one["phase"] in _OF_POSITIONS
    }
    section = _section(row, "positions")
    held = {leg["leg"]: leg for leg in row["book"]["legs"]}
    sides = []
    for name in dict.fromkeys([*held, *differing]):
        leg, found = held.get(name), differing.get(name)
        book = _leg_words(leg) if leg is not None else _book_words(found)
        sides.append(_side(name, book, found, section))
    if sides:
        return sides
    known = row["health"]["verified_at"] is not None
    return [Side("everything", "flat" if known else NOT_KNOWN, *(section if known else (NOT_KNOWN, None)))]


def orders(row: Mapping[str, Any]) -> list[tuple[Mapping[str, Any] | None, Side]]:
    """The working orders of the book and the orders with a discrepancy, each with the broker's side."""
    differing = {one["key"]: one for one in row["discrepancies"] if not one["resolved"] and one["phase"] == "ORDERS"}
    section = _section(row, "orders")
    found: list[tuple[Mapping[str, Any] | None, Side]] = []
    for order in row["book"]["open_orders"]:
        names = [one for one in (order["broker_order_id"], order["client_order_id"]) if one]
        of_it = next((differing.pop(name) for name in names if name in differing), None)
        filled = "" if order["filled_quantity"] == "0" else f", filled {order['filled_quantity']}"
        words = f"{order['side']} {order['quantity']} {order['status']}{filled}"
        found.append((order, _side(names[0] if names else "order", words, of_it, section)))
    found += [(None, _side(key, _book_words(one), one, section)) for key, one in differing.items()]
    return found


def others(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The open discrepancies that concern no leg and no order."""
    for one in row["discrepancies"]:
        if not one["resolved"] and one["phase"] not in _OF_POSITIONS and one["phase"] != "ORDERS":
            yield one


def _side(name: str, book: str, found: Mapping[str, Any] | None, section: tuple[str, bool | None]) -> Side:
    if found is None:
        return Side(name, book, *section)
    at_broker = found["broker_value"] or NOTHING
    if found["type"] == "PRICE_MISMATCH":
        at_broker = f"the same quantity @ {shown_price(at_broker)}"
    return Side(name, book, str(at_broker), False)


def _section(row: Mapping[str, Any], name: str) -> tuple[str, bool | None]:
    """The broker's side of everything in a section without an open discrepancy."""
    completeness = row["broker"].get(name)
    if completeness == "UNSUPPORTED":
        return NOT_COMPARED, None
    verified = row["status"] in _VERIFYING and row["health"]["last_cycle_at"] is not None
    return (SAME, True) if completeness == "COMPLETE" and verified else (NOT_KNOWN, None)


def _leg_words(leg: Mapping[str, Any]) -> str:
    return f"{leg['quantity']} @ {shown_price(leg['average_price'])}"


def _book_words(found: Mapping[str, Any] | None) -> str:
    value = None if found is None else found["book_value"]
    return str(value) if value else NOTHING
