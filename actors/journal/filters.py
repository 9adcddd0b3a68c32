"""From a filter of records to conditions of the database, which can only narrow where ids are asked for.

No index is kept on the ids of orders, fills and discrepancies, as every append would pay for it: the database finds
the payloads in which the text of an id occurs, and :meth:`Ids.named_in` then decides by the keys it stands under.
"""

from __future__ import annotations

from datetime import datetime

import orjson
from sqlalchemy import ColumnElement, func

from actors.book.trading_permission import HALT_TYPES
from actors.events import EventType, to_iso
from actors.journal.record_filter import Ids, RecordFilter
from actors.journal.schema import IS_HALT, records

_HALTS = frozenset(HALT_TYPES)


def conditions(asked: RecordFilter, dialect: str) -> list[ColumnElement[bool]]:
    """What every record asked for meets, apart from its stream; those with ids are still to be decided by
    :meth:`Ids.named_in`. Raises ``ValueError`` for a time without a zone."""
    types, severity, severities = asked.get("types"), asked.get("severity"), asked.get("severities")
    since, until = asked.get("since"), asked.get("until")
    found: list[ColumnElement[bool]] = []
    if types is not None:
        found.append(records.c.type.in_([kind.value for kind in types]))
        if types and set(types) <= _HALTS:
            found.append(IS_HALT)
    if severity is not None:
        found.append(records.c.severity == severity.value)
    if severities is not None:
        found.append(records.c.severity.in_([one.value for one in severities]))
    if since is not None:
        found.append(records.c.time >= aware_iso(since))
    if until is not None:
        found.append(records.c.time < aware_iso(until))
    place_of = func.strpos if dialect == "postgresql" else func.instr
    # Without the quotes around it: a key such as "client:c1" names an order as well.
    found += [place_of(records.c.payload, orjson.dumps(one).decode()[1:-1]) > 0 for one in Ids.of(asked).given()]
    return found


def names_instrument(instrument: str, dialect: str) -> list[ColumnElement[bool]]:
    """What a record meets that names an instrument as being in step; its payload then decides."""
    place_of = func.strpos if dialect == "postgresql" else func.instr
    key = f"{orjson.dumps(instrument).decode()}:"
    return [records.c.type == EventType.RECONCILED.value, place_of(records.c.payload, key) > 0]


def aware_iso(time: datetime) -> str:
    """A time as the records have it; raises ``ValueError`` for one without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"a time without a zone names no moment: {time}")
    return to_iso(time)
