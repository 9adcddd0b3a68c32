"""JSON Lines from outside, checked line by line, into reports for the books: ``python -m supervisor record``.

The laws of this module: a file is accepted as a whole or not at all; every problem is reported, by line and key, with
what was found and what was expected; numbers come exactly from their text, never from a float.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from actors.reconciliation.own_reports import Report
from brokers.frozen import dataclass
from brokers.kit.foreign_row import whole_text
from brokers.model import LegScheme
from supervisor.client.reports import (
    FillReport,
    Name,
    OrderReport,
    PositionReport,
    Unfit,
    described,
    fitted,
    shown,
)


@dataclass(frozen=True, slots=True)
class LineProblem:
    """One problem to correct. ``line`` counts from 1; ``key`` is empty where the whole line is meant."""

    line: int
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key + ': ' if self.key else ''}found {self.found}, expected {self.expected}"


class BadLines(Exception):
    """Some lines cannot be read; nothing of the file may be recorded. ``problems`` are all of them."""

    def __init__(self, problems: tuple[LineProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True, slots=True)
class Recording:
    """The content of a file: the number of non-empty ``lines``, and their reports by instrument in the file's order,
    with the ``numbers`` of their lines."""

    lines: int
    reports: dict[str, list[Report]]
    numbers: dict[str, list[int]] = field(default_factory=dict)


class _OrderLine(OrderReport):
    kind: Literal["order"]
    instrument: Name = Field(description="the instrument's symbol")


class _FillLine(FillReport):
    kind: Literal["fill"]
    instrument: Name = Field(description="the instrument's symbol")


class _PositionLine(PositionReport):
    kind: Literal["position"]
    instrument: Name = Field(description="the instrument's symbol")


_AnyLine = _OrderLine | _FillLine | _PositionLine
_KINDS: dict[str, type[_AnyLine]] = {"order": _OrderLine, "fill": _FillLine, "position": _PositionLine}


def read(content: bytes, symbols: Sequence[str] | None, legs: LegScheme, *, products: bool | None = None) -> Recording:
    """The reports in a file of JSON Lines.

    ``symbols`` are the account's instruments, ``None`` where it manages all; ``legs`` is the account's scheme of legs,
    for lines that name none, and ``products`` whether these are the broker's products. Raises :class:`BadLines` with
    every problem.
    """
    problems: list[LineProblem] = []
    reports: dict[str, list[Report]] = {}
    numbers: dict[str, list[int]] = {}
    lines = 0
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        lines += 1
        try:
            report = _report(number, raw, symbols, legs, products)
        except BadLines as bad:
            problems += bad.problems
        else:
            reports.setdefault(report.instrument, []).append(report)
            numbers.setdefault(report.instrument, []).append(number)
    if problems:
        raise BadLines(tuple(problems))
    return Recording(lines, reports, numbers)


def _report(number: int, raw: bytes, symbols: Sequence[str] | None, legs: LegScheme, products: bool | None) -> Report:
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
    try:
        return fitted(line, line.instrument, legs, products=products)
    except Unfit as unfit:
        raise _bad(number, unfit.key, unfit.found, unfit.expected) from None


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
        raise _bad(number, "", f"invalid JSON ({why})", "one JSON object") from None
    if not isinstance(data, dict):
        raise _bad(number, "", shown(data), "one JSON object")
    return data


class _Twice(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for foreign, value in pairs:
        key = str(whole_text(foreign))  # it is quoted in an error
        if key in data:
            raise _Twice(key)
        data[key] = value
    return data


def _no_number(name: str) -> None:
    raise ValueError(f"{name}, which is not a number")


def _unknown_symbol(number: int, instrument: object, symbols: Sequence[str] | None) -> tuple[LineProblem, ...]:
    if symbols is None or not isinstance(instrument, str) or not instrument or instrument in symbols:
        return ()
    return (LineProblem(number, "instrument", shown(instrument), f"one of the account's: {', '.join(symbols)}"),)


def _problem(number: int, error: ErrorDetails, model: type[_AnyLine]) -> LineProblem:
    found = described(error, model)
    return LineProblem(number, found.key, found.found, found.expected)


def _bad(number: int, key: str, found: str, what: str) -> BadLines:
    return BadLines((LineProblem(number, key, found, what),))
