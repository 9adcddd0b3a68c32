"""ib_async's decoder with an ear on it: every row as text, beside what ib_async made of it.

ib_async logs a row that it cannot read and goes on, so that the end of a list which lacks it looks like any other end;
it tells nobody of a fill or a status whose order it does not know; and it changes an order's status by itself, on any
error. Here every row is handed on as it came, with why ib_async could not read it where it could not.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ib_async.contract import Contract
from ib_async.decoder import Decoder
from ib_async.order import Order, OrderState
from ib_async.wrapper import Wrapper

from brokers.ib.wire import ComboLeg


@dataclass(frozen=True, slots=True)
class Ending:
    """How a completed order ended, from places of its row that only a whole parser finds. ``filled`` is a float's text,
    and whatever ib_async writes for "unset" where it is not told. ``parent_perm_id`` is that of the order it was
    attached to."""

    status: str
    completed_status: str
    filled: str
    parent_perm_id: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """One row. ``kind`` is its message id, 0 where it has none; ``trouble`` is why ib_async could not read it. ``legs``
    are those of the combination that an order is for, and ``good_till`` the end of one that is good until a date, which
    stand in places that only a whole parser finds."""

    kind: int
    fields: tuple[str, ...]
    trouble: str | None = None
    ending: Ending | None = None
    legs: tuple[ComboLeg, ...] = ()
    good_till: str = ""


class _Ear:
    """Stands between decoder and wrapper, and hears what the decoder made of an order: the legs of its combination, and
    of a completed one what ib_async itself does not keep: its ``completedStatus`` and what of it was filled by that
    word."""

    def __init__(self, wrapper: Wrapper) -> None:
        self._wrapper = wrapper
        self.ending: Ending | None = None
        self.legs: tuple[ComboLeg, ...] = ()
        self.good_till = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapper, name)

    def openOrder(self, order_id: int, contract: Contract, order: Order, state: OrderState) -> None:  # noqa: N802 - TWS's
        self.legs = _legs(contract)
        self.good_till = order.goodTillDate
        self._wrapper.openOrder(order_id, contract, order, state)

    def completedOrder(self, contract: Contract, order: Order, state: OrderState) -> None:  # noqa: N802 - TWS's name
        self.legs = _legs(contract)
        self.ending = Ending(state.status, state.completedStatus, repr(order.filledQuantity), order.parentPermId)
        self._wrapper.completedOrder(contract, order, state)


def _legs(contract: Contract) -> tuple[ComboLeg, ...]:
    legs = (ComboLeg(leg.conId, leg.ratio if leg.action == "BUY" else -leg.ratio) for leg in contract.comboLegs or ())
    return tuple(sorted(legs))


class _Trouble(logging.Handler):
    """Takes what the decoder logs as an exception."""

    def __init__(self) -> None:
        super().__init__()
        self.last: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.last = f"{type(error).__name__}: {error}" if error is not None else record.getMessage()


_Numbers = tuple[tuple[str, Callable[[str], object], object], ...]


class Listener(Decoder):
    """In the place of a client's decoder; ``hear`` is called for each row, after ib_async had it."""

    def __init__(self, wrapper: Wrapper, hear: Callable[[Heard], None]) -> None:
        self._ear = _Ear(wrapper)
        super().__init__(self._ear, 0)  # type: ignore[arg-type]  # it hands on all that a wrapper has
        self._hear = hear
        self._trouble = _Trouble()
        self._numbers: dict[type, _Numbers] = {}
        # The decoder swallows its errors into this logger, and this connection's rows are not for everybody's log.
        self.logger = logging.Logger("ib_async.decoder")
        self.logger.addHandler(self._trouble)

    def interpret(self, fields: list[str]) -> None:
        """Hear one row, and let ib_async read it."""
        row = tuple(fields)  # ib_async takes its list apart
        self._trouble.last = self._ear.ending = None
        self._ear.legs = ()
        self._ear.good_till = ""
        super().interpret(fields)  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        kind = int(row[0]) if row and row[0].isascii() and row[0].isdigit() else 0
        self._hear(Heard(kind, row, self._trouble.last, self._ear.ending, self._ear.legs, self._ear.good_till))

    def parse(self, obj: Any) -> None:
        """Does what ib_async's own does, which looks up for each row what is the same for all of its type."""
        kind = type(obj)
        numbers = self._numbers.get(kind)
        if numbers is None:
            numbers = self._numbers[kind] = _numbers_of(kind)
        for name, read, default in numbers:
            text = getattr(obj, name)
            setattr(obj, name, read(text) if text else default)


def _numbers_of(kind: type) -> _Numbers:
    """Name, reading and default of each field that is a number or a flag by its default."""
    fields = ((field.name, _READINGS.get(type(field.default)), field.default) for field in dataclasses.fields(kind))
    return tuple((name, read, default) for name, read, default in fields if read is not None)


_READINGS: dict[type, Callable[[str], object]] = {int: int, float: float, bool: lambda text: bool(int(text))}
