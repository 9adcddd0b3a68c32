"""JSON Lines from outside, checked line by line, into reports for the books: ``python -m supervisor record``.

The laws of this module: a file is taken whole or not at all; every problem is told, by line and key, with what was
found and what was expected; numbers come exactly from their text and never by way of a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from actors.reports import FillReport, OrderReport, PositionReport, Report
from brokers.model import LONG, NET, SHORT, LegScheme, OrderStatus, Side
from supervisor.config_errors import expected

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
_LONGEST_NUMBER = 40
_LARGEST_EXPONENT = 25
_LONGEST_TEXT = 200
_LONGEST_QUOTE = 60


@dataclass(frozen=True, slots=True)
class LineProblem:
    """One thing to put right. ``line`` counts from 1; ``key`` is empty where the whole line is meant."""

    line: int
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key + ': ' if self.key else ''}found {self.found}, expected {self.expected}"


class BadLines(Exception):
    """Some lines cannot be read; nothing of the file is to be recorded. ``problems`` are all of them."""

    def __init__(self, problems: tuple[LineProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file holds: ``lines`` with something on them, and their reports by instrument in the order they came."""

    lines: int
    reports: dict[str, list[Report]]


def _number(what: str, allowed: Callable[[Decimal], bool]) -> BeforeValidator:
    def validate(value: object) -> Decimal:
        text = str(value) if isinstance(value, str | Decimal) or type(value) is int else ""
        if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) and text.isascii():
            number = Decimal(text)
            # Past this, writing the number out in digits would fill the memory.
            if (abs(number.adjusted()) <= _LARGEST_EXPONENT or number == 0) and allowed(number):
                return number
        raise expected(what)

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
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        if time is not None and time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise expected(what)


_Positive = Annotated[Decimal, _number("a number above 0", lambda n: n > 0)]
_Any = Annotated[Decimal, _number("a finite number", lambda _: True)]
_Id = Annotated[str, _text("an id: text without blanks at its ends", numbers=True)]
_Name = Annotated[str, _text("text without blanks at its ends")]
_Time = Annotated[datetime, BeforeValidator(_time)]
_Side = Annotated[Side, _one_of(Side)]
_Status = Annotated[OrderStatus, _one_of(OrderStatus)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    instrument: _Name = Field(description="the instrument's symbol")
    leg: _Name | None = None
    strategy: _Name | None = None


class _OrderLine(_Line):
    kind: Literal["order"]
    client_order_id: _Id | None = None
    broker_order_id: _Id | None = None
    side: _Side = Field(description="BUY or SELL")
    quantity: _Positive = Field(description="a number above 0")
    order_type: _Name = "UNKNOWN"
    limit_price: _Any | None = None
    status: _Status = Field(description=f"one of {', '.join(OrderStatus)}")
    submitted_at: _Time | None = None

    def report(self) -> OrderReport:
        return OrderReport(
            self.instrument,
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


class _FillLine(_Line):
    kind: Literal["fill"]
    fill_id: _Id = Field(description="the broker's id of the fill")
    broker_order_id: _Id | None = None
    client_order_id: _Id | None = None
    side: _Side = Field(description="BUY or SELL")
    quantity: _Positive = Field(description="a number above 0")
    price: _Any = Field(description="a finite number")
    time: _Time = Field(description="an ISO 8601 time with its offset from UTC")

    def report(self) -> FillReport:
        return FillReport(
            self.instrument,
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


class _PositionLine(_Line):
    kind: Literal["position"]
    quantity: _Any = Field(description="a finite number; short is negative")
    average_price: _Any = Field(description="a finite number")

    def report(self, leg: str) -> PositionReport:
        return PositionReport(self.instrument, leg, self.quantity, self.average_price, self.strategy)


_AnyLine = _OrderLine | _FillLine | _PositionLine
_KINDS: dict[str, type[_AnyLine]] = {"order": _OrderLine, "fill": _FillLine, "position": _PositionLine}


def read(content: bytes, symbols: Sequence[str] | None, legs: LegScheme) -> Recording:
    """The reports in a file of JSON Lines.

    ``symbols`` are the account's instruments, ``None`` where it has all; ``legs`` is how the account names the legs of
    a position, for lines that name none. Raises :class:`BadLines` with every problem.
    """
    problems: list[LineProblem] = []
    reports: dict[str, list[Report]] = {}
    lines = 0
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        lines += 1
        try:
            report = _report(number, raw, symbols, legs)
        except BadLines as bad:
            problems += bad.problems
        else:
            reports.setdefault(report.instrument, []).append(report)
    if problems:
        raise BadLines(tuple(problems))
    return Recording(lines, reports)


def _report(number: int, raw: bytes, symbols: Sequence[str] | None, legs: LegScheme) -> Report:
    data = _object(number, raw)
    model = _KINDS.get(data["kind"]) if isinstance(data.get("kind"), str) else None
    if model is None:
        found = shown(data["kind"]) if "kind" in data else "nothing"
        raise _bad(number, "kind", found, "order, fill or position")
    try:
        line: _AnyLine = TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        found_by_model = tuple(_problem(number, one, model) for one in error.errors())
        raise BadLines((*found_by_model, *_unknown_symbol(number, data.get("instrument"), symbols))) from None
    unknown = _unknown_symbol(number, line.instrument, symbols)
    if unknown:
        raise BadLines(unknown)
    if isinstance(line, _PositionLine):
        return line.report(line.leg or _leg(number, line.quantity, legs))
    if isinstance(line, _OrderLine) and line.client_order_id is None and line.broker_order_id is None:
        raise _bad(number, "client_order_id", "neither client_order_id nor broker_order_id", "at least one of them")
    return line.report()


def _object(number: int, raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(
            raw.decode(), parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_each_key_once
        )
    except _Twice as twice:
        raise _bad(number, twice.key, "the key twice", "it once") from None
    except UnicodeDecodeError:
        raise _bad(number, "", "bytes that are not UTF-8", "one JSON object") from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error).split(";")[0]
        raise _bad(number, "", f"no readable JSON ({why})", "one JSON object") from None
    if not isinstance(data, dict):
        raise _bad(number, "", shown(data), "one JSON object")
    return data


class _Twice(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise _Twice(key)
        data[key] = value
    return data


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _unknown_symbol(number: int, instrument: object, symbols: Sequence[str] | None) -> tuple[LineProblem, ...]:
    if symbols is None or not isinstance(instrument, str) or not instrument or instrument in symbols:
        return ()
    return (LineProblem(number, "instrument", shown(instrument), f"one of the account's: {', '.join(symbols)}"),)


def _leg(number: int, quantity: Decimal, legs: LegScheme) -> str:
    """The leg of a position whose line names none."""
    if legs is LegScheme.NET:
        return NET
    if legs is LegScheme.SIDED and quantity != 0:
        return LONG if quantity > 0 else SHORT
    ways = "long or short" if legs is LegScheme.SIDED else "the position's ticket, or net on a netting account"
    raise _bad(number, "leg", "nothing", ways)


def _problem(number: int, error: ErrorDetails, model: type[_AnyLine]) -> LineProblem:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return LineProblem(number, shown(key)[1:-1], "an unknown key", f"only {known}")
    if error["type"] == "missing":
        what = model.model_fields[key].description or "a value"
        return LineProblem(number, key, "nothing", what)
    what = error.get("ctx", {}).get("expected", error["msg"])
    return LineProblem(number, key, shown(error["input"]), str(what))


def _bad(number: int, key: str, found: str, what: str) -> BadLines:
    return BadLines((LineProblem(number, key, found, what),))


def shown(value: object) -> str:
    """A value as JSON writes it, cut to a readable length."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"
