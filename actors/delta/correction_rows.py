"""The rows that correct a book in a Delta table: the broker's positions, marked as ours, in the table's own columns.

The law of this module: a number is written exactly, or not at all: a column that would round it is named in the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from actors.delta.book_spec import BookTableSpec
from actors.events import to_text
from actors.reconciliation.reconciliation_pass import ClaimCorrection
from brokers.errors import Refused

SOURCE: Final = "reconciliation"


def row_table(
    spec: BookTableSpec, schema: pa.Schema, key: str, corrections: Sequence[ClaimCorrection], at: datetime
) -> pa.Table:
    """The rows in the table's schema. Raises :class:`Refused` where a column is lacking, cannot hold a number exactly,
    or must have a value that is not known here."""
    lacking = [name for name in (spec.source, spec.discrepancy) if name not in schema.names]
    if lacking:
        found = f"it has no column {', '.join(lacking)} to mark our rows with"
        raise _refused(spec, found, "Add them as text, name others under book.columns, or set writable: false.")
    rows = [_row(spec, schema, key, one, at) for one in corrections]
    return pa.Table.from_pylist(rows, schema=schema)


def _row(spec: BookTableSpec, schema: pa.Schema, key: str, one: ClaimCorrection, at: datetime) -> dict[str, Any]:
    kind = schema.field(spec.time).type
    values: dict[str, Any] = {name: texts[0] for name, texts in spec.where.items()}
    values |= {
        spec.key: int(key) if pa.types.is_integer(schema.field(spec.key).type) else key,
        spec.time: at if kind.tz is not None else at.astimezone(UTC).replace(tzinfo=None),
        spec.quantity: _number(spec, schema.field(spec.quantity), one.quantity),
        spec.source: SOURCE,
        spec.discrepancy: one.discrepancy,
    }
    if spec.leg is not None:
        values[spec.leg] = int(one.leg) if pa.types.is_integer(schema.field(spec.leg).type) else one.leg
    if spec.average_price is not None:
        field = schema.field(spec.average_price)
        price = one.average_price if one.average_price is not None or field.nullable else Decimal(0)
        values[spec.average_price] = None if price is None else _number(spec, field, price)
    needed = [field.name for field in schema if not field.nullable and values.get(field.name) is None]
    if needed:
        found = f"column {', '.join(needed)} must not be null, and what belongs there is not known here"
        raise _refused(spec, found, "Let it be null, or set writable: false.")
    return values


def _number(spec: BookTableSpec, field: pa.Field, number: Decimal) -> Decimal | float | int:
    """The number in its column's type."""
    kind = field.type
    made: Decimal | float | int
    if pa.types.is_floating(kind):
        made = float(number)
        exact = Decimal(repr(made)) == number
    elif pa.types.is_integer(kind):
        made = int(number)
        exact = made == number
    else:
        made = number
        exact = _fits(number, kind.precision, kind.scale)
    if not exact:
        found = f"column {field.name} is {kind}, and cannot hold {to_text(number)} exactly"
        raise _refused(spec, found, "Nothing is rounded: make the column wider, or correct it by hand.")
    return made


def _fits(number: Decimal, precision: int, scale: int) -> bool:
    _, digits, exponent = number.normalize().as_tuple()
    places = -int(exponent)
    return places <= scale and len(digits) - places <= precision - scale


def _refused(spec: BookTableSpec, found: str, remedy: str) -> Refused:
    return Refused(f"correct the book in the Delta table {spec.uri}", spec.account, found, remedy)
