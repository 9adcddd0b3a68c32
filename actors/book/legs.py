"""Which legs a position can have, depending on how its account keeps positions. Pure."""

from __future__ import annotations

from decimal import Decimal

from brokers.model import LONG, NET, SHORT, LegScheme

KITE_PRODUCTS = frozenset({"CNC", "MIS", "NRML", "MTF", "CO", "BO"})
"""Kite Connect documentation: the products of a position, which are its legs. Otherwise Kite nets."""

HOLDINGS = "holdings"
"""Kite's delivered stock, beside the products."""

PRODUCT_LEGS = KITE_PRODUCTS | {HOLDINGS}
"""Legs between which a quantity may move without a trade."""


def impossible(
    legs: LegScheme,
    leg: str,
    quantity: Decimal | None,
    *,
    mode_known: bool = True,
    products: bool | None = None,
) -> str | None:
    """A description of the legs that are possible instead; ``None`` if this leg is possible.

    ``quantity`` is the quantity to hold in it, if known. ``mode_known`` is false until an MT5 account has reported
    whether it is hedging: its one leg may still be ``net``. ``products`` is whether a netting account has a leg for
    each of the broker's products and none called ``net`` (Kite); ``None`` if unknown.
    """
    if legs is LegScheme.NET:
        if products is None:
            possible, instead = leg == NET or leg in PRODUCT_LEGS, f"{NET}, or a product where the broker has them"
        elif products:
            possible, instead = leg in PRODUCT_LEGS, f"a product ({', '.join(sorted(KITE_PRODUCTS))}) or {HOLDINGS}"
        else:
            possible, instead = leg == NET, NET
        return None if possible else instead
    if legs is LegScheme.TICKET:
        if (leg.isascii() and leg.isdigit()) or (leg == NET and not mode_known):
            return None
        return "the position's ticket, a number" + ("" if mode_known else f", or {NET} on a netting account")
    if leg not in (LONG, SHORT):
        return f"{LONG} or {SHORT}"
    if quantity is not None and (quantity < 0 if leg == LONG else quantity > 0):
        return f"{'no negative' if leg == LONG else 'no positive'} quantity in {leg}"
    return None
