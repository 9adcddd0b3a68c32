"""The facts of a record in columns of their own, for exports: one name each, values as exact text.

======================  ==============================================================================================
column                  holds
======================  ==============================================================================================
account, instrument     the owner of the record; the instrument is empty for an account's, both for the supervisor's
actor                   the actor that the record concerns
by, process, strategy   who caused it: user and machine, process, and the strategy where one was named
order_id                the broker's id of the order
client_order_id         our id of the order
fill_id, leg, side      of a fill or a position
quantity, price         of a fill, an order (its limit) or a position (its average); digits as text, nothing is rounded
status                  of an order
discrepancy_id          with ``discrepancy_type``, ``key``, ``book_value``, ``broker_value``, ``cause``, ``correction``
                        and ``resolved`` (``true`` or ``false``): of a discrepancy
reason                  the reason, as text
asked_by                with ``asked_process`` and ``asked_strategy``: the requester of the check that found it
======================  ==============================================================================================

The law of this module: the schema is stable. A column keeps its name and meaning; new ones are added at the end; a
value that the record does not have is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from actors.events import EventType, Json, Record
from actors.names import SUPERVISOR, split_name

FACTS: Final = (
    "account", "instrument", "actor", "by", "process", "strategy", "order_id", "client_order_id", "fill_id", "leg",
    "side", "quantity", "price", "status", "discrepancy_id", "discrepancy_type", "key", "book_value", "broker_value",
    "cause", "correction", "resolved", "reason", "asked_by", "asked_process", "asked_strategy",
)  # fmt: skip
_FOUND: Final = frozenset({EventType.RECONCILIATION_DISCREPANCY, EventType.DISCREPANCY_RESOLVED})
_SAME: Final = (
    "actor", "by", "process", "strategy", "client_order_id", "fill_id", "leg", "side", "quantity", "status", "cause",
    "correction", "reason",
)  # fmt: skip


def facts(record: Record) -> dict[str, str | None]:
    """A value for each of :data:`FACTS`; ``None`` where the record has none."""
    payload = record.event.payload
    order = payload.get("order")
    of: Mapping[str, Json] = {**order, **payload} if isinstance(order, dict) else payload
    account, instrument = ("", "") if record.stream == SUPERVISOR else split_name(record.stream)
    found: dict[str, str | None] = dict.fromkeys(FACTS)
    found |= {"account": account or None, "instrument": instrument or None}
    found |= {name: _text(of.get(name)) for name in _SAME}
    found["order_id"] = _text(of.get("broker_order_id"))
    price = next((of[name] for name in ("price", "average_price", "limit_price") if of.get(name) is not None), None)
    found["price"] = _text(price)
    asked = payload.get("asked")
    if isinstance(asked, dict):
        found |= {f"asked_{name}": _text(asked.get(name)) for name in ("by", "process", "strategy")}
    if record.event.type in _FOUND:
        found |= {name: _text(of.get(name)) for name in ("key", "book_value", "broker_value", "resolved")}
        found |= {"discrepancy_id": _text(of.get("id")), "discrepancy_type": _text(of.get("type"))}
    return found


def _text(value: Json) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None
