"""Extends ib_async's decoder: passes on every row as text, beside what ib_async made of it.

ib_async logs a row that it cannot read and goes on, so the end of a list that lacks the row looks like any other end.
It emits no event for a fill or a status whose order it does not know. And it changes an order's status by itself, on
any error. Here every row is passed on as it came, with the reason where ib_async could not read it.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from typing import Any

from ib_async.contract import Contract
from ib_async.decoder import Decoder
from ib_async.order import Order, OrderState
from ib_async.wrapper import Wrapper

from brokers.frozen import dataclass
from brokers.ib.wire import ComboLeg


@dataclass(frozen=True, slots=True)
class Ending:
    """How a completed order ended, from fields that only a full parse of its row finds. ``filled`` is a float's text,
    or whatever ib_async writes for "unset". ``parent_perm_id`` is the permId of the order to which it was attached."""

    status: str
    completed_status: str
    filled: str
    parent_perm_id: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """One row as received. ``kind`` is its message id, 0 where it has none; ``trouble`` is why ib_async could not read
    it. ``legs`` are those of an order's combination, and ``good_till`` the end of an order that is good until a date;
    both are in fields that only a full parse finds."""

    kind: int
    fields: tuple[str, ...]
    trouble: str | None = None
    ending: Ending | None = None
    legs: tuple[ComboLeg, ...] = ()
    good_till: str = ""


class _Interceptor:
    """Stands between decoder and wrapper and keeps what the decoder made of an order: the legs of its combination, and
    of a completed order what ib_async itself drops, the ``completedStatus`` and the filled quantity."""

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


_KIND = re.compile("[0-9]{1,9}")
_Numbers = tuple[tuple[str, Callable[[str], object], object], ...]


class Listener(Decoder):
    """Replaces a client's decoder; calls ``hear`` with each row, after ib_async has processed it."""

    def __init__(self, wrapper: Wrapper, hear: Callable[[Heard], None]) -> None:
        self._interceptor = _Interceptor(wrapper)
        super().__init__(self._interceptor, 0)  # type: ignore[arg-type]  # it hands on all that a wrapper has
        self._hear = hear
        self._trouble = _Trouble()
        self._numbers: dict[type, _Numbers] = {}
        # The decoder swallows its errors into this logger, and this connection's rows are not for everybody's log.
        self.logger = logging.Logger("ib_async.decoder", logging.ERROR)
        self.logger.addHandler(self._trouble)

    def interpret(self, fields: list[str]) -> None:
        """Pass on one row, and let ib_async read it."""
        row = tuple(fields)  # ib_async takes its list apart
        self._trouble.last = self._interceptor.ending = None
        self._interceptor.legs = ()
        self._interceptor.good_till = ""
        super().interpret(fields)  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        kind = int(row[0]) if row and _KIND.fullmatch(row[0]) else 0
        self._hear(
            Heard(
                kind,
                row,
                self._trouble.last,
                self._interceptor.ending,
                self._interceptor.legs,
                self._interceptor.good_till,
            )
        )

    def parse(self, obj: Any) -> None:
        """Do what ib_async's own method does, but look up a type's fields once and not for each row."""
        kind = type(obj)
        numbers = self._numbers.get(kind)
        if numbers is None:
            numbers = self._numbers[kind] = _numbers_of(kind)
        for name, read, default in numbers:
            text = getattr(obj, name)
            setattr(obj, name, read(text) if text else default)


def _numbers_of(kind: type) -> _Numbers:
    """Name, converter and default of each field whose default is a number or a flag."""
    fields = ((field.name, _READINGS.get(type(field.default)), field.default) for field in dataclasses.fields(kind))
    return tuple((name, read, default) for name, read, default in fields if read is not None)


_READINGS: dict[type, Callable[[str], object]] = {int: int, float: float, bool: lambda text: bool(int(text))}
