"""Reports of our side, as checked models: orders sent, fills received, positions believed.

One definition for all ways in: the lines of ``record`` and the handle's ``record_order``, ``record_fill`` and
``record_position``. The law of this module: a number comes exactly from a ``Decimal``, a whole number or its text; a
float is refused, since it need not be the number that was meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import ErrorDetails

from actors.book.legs import impossible
from actors.reconciliation import own_reports
from brokers.kit.exact_number import written
from brokers.kit.foreign_row import OUR_TIME
from brokers.model import LONG, NET, SHORT, LegScheme, OrderStatus, Side
from supervisor.config.errors import expected

_LONGEST_TEXT = 200
_LONGEST_QUOTE = 60


def _number(what: str, allowed: Callable[[Decimal], bool]) -> BeforeValidator:
    def validate(value: object) -> Decimal:
        if isinstance(value, float):
            raise expected(f"{what}, as a Decimal or text: a float is not exact")
        text = str(value) if isinstance(value, str | Decimal) or type(value) is int else ""
        number = written(text) if text.isascii() else None
        if number is None or not allowed(number):
            raise expected(what)
        return number

    return BeforeValidator(validate)


def _text(what: str, *, numbers: bool = False) -> BeforeValidator:
    def validate(value: object) -> str:
        if numbers and type(value) is int:
            value = str(value)  # a ticket
        if (
            isinstance(value, str)
            and value.strip() == value
            and value.isprintable()
            and 0 < len(value) <= _LONGEST_TEXT
        ):
            return value
        raise expected(what)

    return BeforeValidator(validate)


def _one_of(names: Iterable[str]) -> BeforeValidator:
    known = tuple(names)

    def validate(value: object) -> object:
        if isinstance(value, str) and value in known:
            return value
        raise expected(" or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}")

    return BeforeValidator(validate)


def _time(value: object) -> datetime:
    what = "an ISO 8601 time with its offset from UTC, such as 2026-01-31T12:00:00Z"
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(time, datetime) and time.tzinfo is not None:
            time = time.astimezone(UTC)
            if time.year in OUR_TIME:
                return time
            what += f", from {OUR_TIME[0]} to {OUR_TIME[-1]}"
    except (ValueError, OverflowError):
        pass
    raise expected(what)


Positive = Annotated[Decimal, _number("a number above 0", lambda n: n > 0)]
Finite = Annotated[Decimal, _number("a finite number", lambda _: True)]
Id = Annotated[str, _text("an id: text without blanks at either end", numbers=True)]
Name = Annotated[str, _text("text without blanks at either end")]
Time = Annotated[datetime, BeforeValidator(_time)]
AnySide = Annotated[Side, _one_of(Side)]
AnyStatus = Annotated[OrderStatus, _one_of(OrderStatus)]


class _Report(BaseModel):
    """``instrument`` may be left out where it is clear. ``leg`` is the part of the position (OANDA ``long`` or
    ``short``, an MT5 ticket, a Kite product, else ``net``); ``strategy`` is kept and shown with discrepancies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instrument: Name | None = None
    leg: Name | None = None
    strategy: Name | None = None


class OrderReport(_Report):
    """An order that we sent, or its new state, identified by ``client_order_id``, ``broker_order_id`` or both. A
    repeated report changes nothing; a later report of the same order updates it."""

    client_order_id: Id | None = None
    broker_order_id: Id | None = None
    side: AnySide = Field(description="BUY or SELL")
    quantity: Positive = Field(description="a number above 0")
    order_type: Name = "UNKNOWN"
    limit_price: Finite | None = None
    status: AnyStatus = Field(description=f"one of {', '.join(OrderStatus)}")
    submitted_at: Time | None = None

    def report(self, instrument: str) -> own_reports.OrderReport:
        """The book's form of the report."""
        return own_reports.OrderReport(
            instrument,
            self.client_order_id,
            self.broker_order_id,
            self.side,
            self.quantity,
            self.order_type,
            self.limit_price,
            self.status,
            self.submitted_at,
            self.leg,
            self.strategy,
        )


class FillReport(_Report):
    """An execution that was reported to us. ``fill_id`` is the broker's (IB's execId, OANDA's transaction id, Kite's
    trade_id, MT5's deal ticket): a repeated id changes nothing. ``time`` is the broker's."""

    fill_id: Id = Field(description="the broker's id of the fill")
    broker_order_id: Id | None = None
    client_order_id: Id | None = None
    side: AnySide = Field(description="BUY or SELL")
    quantity: Positive = Field(description="a number above 0")
    price: Finite = Field(description="a finite number")
    time: Time = Field(description="an ISO 8601 time with its offset from UTC")

    def report(self, instrument: str) -> own_reports.FillReport:
        """The book's form of the report."""
        return own_reports.FillReport(
            instrument,
            self.fill_id,
            self.broker_order_id,
            self.side,
            self.quantity,
            self.price,
            self.time,
            self.client_order_id,
            self.leg,
            self.strategy,
        )


class PositionReport(_Report):
    """The position that we believe to hold in a leg from now on; short is negative, 0 is flat. Without a ``leg`` it is
    the only leg that the account can have."""

    quantity: Finite = Field(description="a finite number; short is negative")
    average_price: Finite = Field(description="a finite number")

    def report(self, instrument: str, leg: str) -> own_reports.PositionReport:
        """The book's form of the report."""
        return own_reports.PositionReport(instrument, leg, self.quantity, self.average_price, self.strategy)


AnyReport = OrderReport | FillReport | PositionReport


class Unfit(ValueError):
    """A valid report of something impossible: its ``key``, what was ``found`` and what was ``expected``."""

    def __init__(self, key: str, found: str, expected: str) -> None:
        super().__init__(key, found, expected)
        self.key = key
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, expected {self.expected}"


def fitted(given: AnyReport, instrument: str, legs: LegScheme, *, products: bool | None = None) -> own_reports.Report:
    """The book's form of a report, for an account with this scheme of legs; ``products`` as in
    :func:`actors.book.legs.impossible`. Raises :class:`Unfit` for an order without any id, an impossible leg, or a
    position that does not name its leg."""
    if isinstance(given, OrderReport) and given.client_order_id is None and given.broker_order_id is None:
        raise Unfit("client_order_id", "neither client_order_id nor broker_order_id", "at least one of them")
    quantity = given.quantity if isinstance(given, PositionReport) else None
    # A book may have an impossible leg all the same: a report may say that it is flat.
    may_be = True if products and quantity != 0 else None
    leg = given.leg
    instead = None if leg is None else impossible(legs, leg, quantity, mode_known=False, products=may_be)
    if instead is not None:
        found = shown(given.leg) if quantity is None else f"{shown(given.leg)} with quantity {quantity:f}"
        raise Unfit("leg", found, instead)
    if isinstance(given, PositionReport):
        if given.leg is None and products:
            raise Unfit("leg", "nothing", "the product, or holdings")
        return given.report(instrument, given.leg or _only_leg(given.quantity, legs))
    return given.report(instrument)


def _only_leg(quantity: Decimal, legs: LegScheme) -> str:
    """The leg of a position report that names none."""
    if legs is LegScheme.NET:
        return NET
    if legs is LegScheme.SIDED and quantity != 0:
        return LONG if quantity > 0 else SHORT
    ways = "long or short" if legs is LegScheme.SIDED else "the position's ticket, or net on a netting account"
    raise Unfit("leg", "nothing", ways)


def described(error: ErrorDetails, model: type[BaseModel]) -> Unfit:
    """pydantic's error about a model's input, in our terms."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return Unfit(shown(key)[1:-1], "an unknown key", f"only {known}")
    if error["type"] == "missing":
        return Unfit(key, "nothing", model.model_fields[key].description or "a value")
    return Unfit(key, shown(error["input"]), str(error.get("ctx", {}).get("expected", error["msg"])))


def shown(value: Any) -> str:
    """A value in JSON's form, cut to a readable length."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"
