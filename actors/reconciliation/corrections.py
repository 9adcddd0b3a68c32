"""The three corrections of a position, as events. Nothing else changes a leg without a fill.

A correction never reaches the broker: it makes the book say what the broker holds.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from actors.book import payloads
from actors.book.discrepancies import Correction
from actors.book.lots import ZERO
from actors.events import Json


def force_add_position(leg: str, quantity: Decimal, average_price: Decimal, as_of: datetime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold a leg that the book did not have. Fills up to ``as_of`` (broker time) are in
    it."""
    return payloads.position_to(leg, quantity, average_price, as_of, Correction.FORCE_ADD_POSITION)


def force_update_position(leg: str, quantity: Decimal, average_price: Decimal, as_of: datetime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold this quantity at this price in a leg the book has otherwise."""
    return payloads.position_to(leg, quantity, average_price, as_of, Correction.FORCE_UPDATE_POSITION)


def force_close_position(leg: str, as_of: datetime) -> dict[str, Json]:
    """Payload of a POSITION_SYNCED: hold nothing in a leg."""
    return payloads.position_to(leg, ZERO, ZERO, as_of, Correction.FORCE_CLOSE_POSITION)
