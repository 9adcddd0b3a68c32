"""Believed, reported and corrected quantities over time, for one instrument: from its records, as points and as a
drawing. Pure.

*Believed* is the quantity of a leg in the book after each record; *reported* (the field ``reported``) is the broker's
quantity, where a record has it; *corrected* is where the book was set to the broker's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape

from actors.book.book import Book
from actors.book.checkpoint import follow
from actors.book.in_step import named_in, proofs
from actors.events import EventType, Record, to_text
from brokers.frozen import dataclass
from supervisor.presentation.prices import number_of

_OF_POSITIONS = frozenset({"RECOVERY", "GHOST", "DRIFT"})
_QUANTITIES = frozenset({"MISSING_LOCALLY", "NAKED_POSITION", "POSITION_MISMATCH"})
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 160, 70, 10, 24
MOST_LEGS = 6

Point = tuple[datetime, Decimal, int]
"""Time, quantity, and the record that has it."""


@dataclass(slots=True)
class Line:
    """The history of one leg."""

    leg: str
    believed: list[Point] = field(default_factory=list)
    reported: list[Point] = field(default_factory=list)
    corrected: list[Point] = field(default_factory=list)


def lines(book: Book, records: Iterable[Record]) -> list[Line]:
    """The history of each leg. ``book`` is the state before ``records``, which are those of its stream, in order; they
    may include records of its account that name it as being in step."""
    found: dict[str, Line] = {}
    last: dict[str, Decimal] = {name: leg.quantity for name, leg in book.legs.items()}
    begin: tuple[datetime, int] | None = None

    def line(leg: str) -> Line:
        if leg not in found and begin is not None:
            # A leg that the book does not have is believed to be flat, from the beginning of the history.
            found[leg] = Line(leg, [(begin[0], Decimal(0), begin[1])])
        return found[leg]

    for record in records:
        event, at, seq = record.event, record.event.time, record.seq
        if named_in(event) is not None:
            for proof in proofs(record) if begin is not None else ():
                compared = event.payload.get("positions") == "COMPLETE" and proof.stream == book.stream
                if compared and proof.version == book.version:
                    for leg, quantity in last.items():
                        line(leg).reported.append((proof.at, quantity, seq))
            continue
        if begin is None:
            begin = (at, seq)
            found = {leg: Line(leg, [(at, quantity, seq)]) for leg, quantity in last.items()}
        follow(book, record)
        now = {name: leg.quantity for name, leg in book.legs.items()}
        for leg in {**last, **now}:
            quantity = now.get(leg, Decimal(0))
            if quantity != last.get(leg, Decimal(0)):
                line(leg).believed.append((at, quantity, seq))
        last = now
        payload = event.payload
        if event.type is EventType.POSITION_SYNCED and (held := number_of(payload.get("quantity"))) is not None:
            line(str(payload["leg"])).reported.append((at, held, seq))
            line(str(payload["leg"])).corrected.append((at, held, seq))
        elif event.type is EventType.RECONCILIATION_DISCREPANCY and _of_a_quantity(payload):
            value = payload.get("broker_value")
            reported = Decimal(0) if value is None else number_of(value)
            if reported is not None:
                line(str(payload["key"])).reported.append((at, reported, seq))
        elif event.type is EventType.RECONCILED and payload.get("positions") == "COMPLETE":
            for leg, quantity in now.items():
                line(leg).reported.append((at, quantity, seq))
    return [found[leg] for leg in sorted(found)]


def _of_a_quantity(payload: object) -> bool:
    return isinstance(payload, dict) and payload.get("phase") in _OF_POSITIONS and payload.get("type") in _QUANTITIES


def drawing(line: Line, until: datetime) -> str:
    """One leg's history as an SVG that needs no colour and no style: a step line is believed, rings are reported,
    crosses are corrected; each mark has a title for a pointer and a screen reader."""
    points = [*line.believed, *line.reported, *line.corrected]
    if not points:
        return ""
    begin = min(at for at, _, _ in points)
    span = max(until - begin, timedelta(seconds=1))
    quantities = [Decimal(0), *(quantity for _, quantity, _ in points)]
    low, high = min(quantities), max(quantities)
    room = (high - low) or Decimal(1)

    def x(at: datetime) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * min(1.0, max(0.0, (at - begin) / span))

    def y(quantity: Decimal) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * float((high - quantity) / room)

    parts = [
        f'<svg class="timeline" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="{_label(line)}">',
        f'<line class="zero" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(Decimal(0)):.1f}" y2="{y(Decimal(0)):.1f}"/>',
        *(
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{to_text(value)}</text>'
            for value in dict.fromkeys((high, low, Decimal(0)))
        ),
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{begin:%Y-%m-%d %H:%M:%S}</text>',
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 6}" text-anchor="end">{until:%Y-%m-%d %H:%M:%S} UTC</text>',
    ]
    if line.believed:
        path = f"M{x(line.believed[0][0]):.1f},{y(line.believed[0][1]):.1f}"
        path += "".join(f"H{x(at):.1f}V{y(quantity):.1f}" for at, quantity, _ in line.believed[1:])
        parts.append(f'<path class="believed" d="{path}H{_WIDTH - 10}"/>')
    parts += [
        f'<circle class="reported" cx="{x(at):.1f}" cy="{y(quantity):.1f}" r="5">'
        f"{_title('broker reported', at, quantity, seq)}</circle>"
        for at, quantity, seq in line.reported
    ]
    parts += [
        f'<path class="corrected" d="M{x(at) - 5:.1f},{y(quantity) - 5:.1f}l10,10m0,-10l-10,10">'
        f"{_title('corrected to', at, quantity, seq)}</path>"
        for at, quantity, seq in line.corrected
    ]
    return "".join([*parts, "</svg>"])


def _title(words: str, at: datetime, quantity: Decimal, seq: int) -> str:
    return f"<title>{words} {to_text(quantity)} at {at:%Y-%m-%d %H:%M:%S}Z, record {seq}</title>"


def _label(line: Line) -> str:
    def last(points: Sequence[Point]) -> str:
        return "never" if not points else f"last {to_text(points[-1][1])}"

    sides = f"believed {last(line.believed)}, reported {last(line.reported)}, corrected {last(line.corrected)}"
    return escape(f"leg {line.leg}: {sides}", quote=True)
