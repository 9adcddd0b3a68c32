"""Which records of the journal somebody asks for: one filter for storage, ``audit query`` and the handle. Pure.

A filter is a mapping, so that it goes to the audit actor as it is and is given to a call as keywords. A key that is
left out, or ``None``, is no condition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

from actors.book.discrepancies import Phase
from actors.book.in_step import concerns
from actors.events import EventType, Payload, Record, Severity
from actors.names import SUPERVISOR, split_name
from brokers.frozen import dataclass

ReadingOrder = Literal["oldest", "newest"]
"""Which record comes first."""

_PHASES_OF_ORDERS = frozenset({Phase.FILLS, Phase.ORDERS})
"""What is found in these is keyed by the id of its order."""


class RecordFilter(TypedDict, total=False):
    """The conditions that a record meets, all of them.

    ``account`` matches its own stream and those of its instruments; ``instrument`` is the part of a stream after the
    first ``/``, and matches what its account wrote of it among others, too. ``since`` is inclusive and ``until``
    exclusive, both aware. ``order_id`` is a broker's or a client's, ``discrepancy_id`` the ``id`` of a discrepancy:
    each matches wherever it stands in a payload, under its own key.
    """

    stream: str | None
    account: str | None
    instrument: str | None
    types: Collection[EventType] | None
    severity: Severity | None
    severities: Collection[Severity] | None
    since: datetime | None
    until: datetime | None
    order_id: str | None
    fill_id: str | None
    discrepancy_id: str | None


class RecordQuery(RecordFilter, total=False):
    """A filter, and which of the records that meet it: those after ``after_seq`` (0), the ``oldest`` first unless
    ``order`` says otherwise, at most ``limit``."""

    after_seq: int
    order: ReadingOrder
    limit: int | None


def check_keys(asked: RecordQuery) -> None:
    """Raises ``TypeError`` for a condition that there is none of, which would otherwise select every record."""
    unknown = sorted(asked.keys() - RecordQuery.__optional_keys__)
    if unknown:
        known = ", ".join(sorted(RecordQuery.__optional_keys__))
        raise TypeError(f"records cannot be asked for by {', '.join(unknown)}. There are: {known}")


def of_stream(asked: RecordFilter, stream: str) -> bool:
    """Whether a stream may have records that are asked for."""
    account, instrument = split_name(stream)
    return (
        asked.get("stream") in (None, stream)
        and asked.get("account") in (None, account)
        and asked.get("instrument") in (None, instrument)
    )


def may_name(asked: RecordFilter, stream: str) -> bool:
    """Whether a stream is that of an account which may name the instrument that is asked for as being in step."""
    account, symbol = split_name(stream)
    types = asked.get("types")
    return (
        asked.get("instrument") is not None
        and asked.get("stream") is None
        and not symbol
        and account != SUPERVISOR
        and asked.get("account") in (None, account)
        and (types is None or EventType.RECONCILED in types)
    )


def _is_of(asked: RecordFilter, record: Record) -> bool:
    """Whether a record is of a stream that is asked for, or names the instrument that is."""
    if of_stream(asked, record.stream):
        return True
    instrument = asked.get("instrument")
    return instrument is not None and may_name(asked, record.stream) and concerns(record, instrument)


def meets(asked: RecordFilter, record: Record) -> bool:
    """Whether a record meets every condition."""
    event = record.event
    types, severities = asked.get("types"), asked.get("severities")
    since, until = asked.get("since"), asked.get("until")
    return (
        _is_of(asked, record)
        and (types is None or event.type in types)
        and asked.get("severity") in (None, event.severity)
        and (severities is None or event.severity in severities)
        and (since is None or since <= event.time)
        and (until is None or event.time < until)
        and Ids.of(asked).named_in(event.payload)
    )


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that a payload must name, each where it is given."""

    order_id: str | None = None
    fill_id: str | None = None
    discrepancy_id: str | None = None

    @classmethod
    def of(cls, asked: RecordFilter) -> Ids:
        """Those of a filter."""
        return cls(asked.get("order_id"), asked.get("fill_id"), asked.get("discrepancy_id"))

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
