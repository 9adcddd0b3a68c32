"""What is asked of the journal: from filters to conditions of the database, and the exact answer where it can only
narrow. Pure.

No index is kept on the ids of orders, fills and discrepancies, as every append would pay for it: the database finds
the payloads in which the text of an id occurs, and :meth:`Ids.named_in` then decides by the keys it stands under.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, func

from actors.book.discrepancies import Phase
from actors.events import EventType, Payload, Severity, to_iso
from actors.journal.schema import records
from actors.names import split_name

_PHASES_OF_ORDERS = frozenset({Phase.FILLS, Phase.ORDERS})
"""What is found in these is keyed by the id of its order."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that a payload must name, each where it is given."""

    order_id: str | None = None
    fill_id: str | None = None
    discrepancy_id: str | None = None

    def given(self) -> list[str]:
        """Those that are to be looked for."""
        return [given for given in (self.order_id, self.fill_id, self.discrepancy_id) if given is not None]

    def named_in(self, payload: Payload) -> bool:
        """Whether the payload names every one of them, at whatever depth."""
        asked = ((_names_order, self.order_id), (_names_fill, self.fill_id), (_names_discrepancy, self.discrepancy_id))
        return all(
            wanted is None or any(names(document, wanted) for document in _documents(payload))
            for names, wanted in asked
        )


def conditions(
    *,
    dialect: str,
    types: Collection[EventType] | None,
    severity: Severity | None,
    severities: Collection[Severity] | None,
    since: datetime | None,
    until: datetime | None,
    ids: Ids,
) -> list[ColumnElement[bool]]:
    """What every record asked for meets, apart from its stream; those with ids are still to be decided by
    :meth:`Ids.named_in`. Raises ``ValueError`` for a time without a zone."""
    found: list[ColumnElement[bool]] = []
    if types is not None:
        found.append(records.c.type.in_([kind.value for kind in types]))
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
    found += [place_of(records.c.payload, orjson.dumps(one).decode()[1:-1]) > 0 for one in ids.given()]
    return found


def belongs(stream: str, account: str | None, instrument: str | None) -> bool:
    """Whether a stream is the account's own or one of its instruments', and of that instrument."""
    own, rest = split_name(stream)
    return (account is None or account == own) and (instrument is None or instrument == rest)


def aware_iso(time: datetime) -> str:
    """A time as the records have it; raises ``ValueError`` for one without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"a time without a zone names no moment: {time}")
    return to_iso(time)


def _names_order(document: Mapping[str, Any], order_id: str) -> bool:
    if order_id in (document.get("broker_order_id"), document.get("client_order_id")):
        return True
    # An order keeps the name of the id it was first known by, with a ' for each earlier order that had it.
    key = document.get("order_key")
    if isinstance(key, str) and key.rstrip("'") in {f"{kind}:{order_id}".rstrip("'") for kind in ("broker", "client")}:
        return True
    return document.get("phase") in _PHASES_OF_ORDERS and document.get("key") == order_id


def _names_fill(document: Mapping[str, Any], fill_id: str) -> bool:
    if document.get("fill_id") == fill_id:
        return True
    # [fill_id, quantity, …] of each fill that was inferred for an order, or that a real one stands in for.
    for listed in (document.get("replaces"), document.get("inferred")):
        if isinstance(listed, list) and any(isinstance(part, list) and part[:1] == [fill_id] for part in listed):
            return True
    return document.get("phase") == Phase.FILLS and document.get("key") == fill_id


def _names_discrepancy(document: Mapping[str, Any], discrepancy_id: str) -> bool:
    return discrepancy_id in (document.get("id"), document.get("discrepancy_id"))


def _documents(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every JSON object in it, itself included."""
    if isinstance(value, Mapping):
        yield value
        value = value.values()
    elif not isinstance(value, list):
        return
    for inner in value:
        yield from _documents(inner)
