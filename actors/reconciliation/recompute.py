"""Recomputes decisions: restores the grounds of kept passes, and compares what today's code decides on them.

Reconciliation itself does not import this module, because it imports pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from actors.book.book import Book
from actors.book.policy import Policy
from actors.events import Event, Json, Record, broker_time_from_iso, from_iso
from actors.reconciliation.grounds import ASKED, PARTS, PASS, Grounds
from brokers.frozen import dataclass
from brokers.model import (
    AnyRow,
    Claims,
    Complete,
    Completeness,
    ContractFacts,
    Conventions,
    Evidence,
    Failed,
    Fill,
    Order,
    OrderAnswer,
    Partial,
    Position,
    RowProblem,
    Section,
    Slice,
    Unsupported,
)

_BESIDE = frozenset({PASS, ASKED})
"""Keys of an event that are no part of a decision: the pass it is kept in, and who requested the check."""

Part = Callable[[str], bytes | None]
"""Returns a part by its SHA-256, ``None`` if it is not kept."""


class UnusablePass(Exception):
    """A kept pass cannot be used: it was altered, is incomplete, or has an unknown form. The message says which."""


@dataclass(frozen=True, slots=True)
class PassEntry:
    """The entry of a kept pass. ``before`` is the hash of the previous pass, ``decided`` the number of events it wrote
    after ``version`` of its stream, ``document`` the entry itself."""

    hash: str
    before: str | None
    account: str
    instrument: str
    version: int
    decided: int
    now: datetime
    document: Mapping[str, Any]


def entry_of(own: str, entry: bytes) -> PassEntry:
    """Read a kept entry. Raises :class:`UnusablePass`."""
    if sha256(entry).hexdigest() != own:
        raise UnusablePass(f"pass {own} was altered: its content does not have its hash")
    try:
        document = orjson.loads(entry)
        return PassEntry(
            own,
            document["before"],
            document["account"],
            document["instrument"],
            document["version"],
            document["decided"],
            from_iso(document["now"]),
            document,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UnusablePass(f"pass {own} is in a form that this version does not know ({error})") from None


def grounds_of(entry: PassEntry, book: Book, part: Part) -> Grounds:
    """The grounds of a kept pass; ``book`` is the book at its version. Raises :class:`UnusablePass`."""
    document = entry.document
    try:
        named = orjson.loads(_content(entry, document["rests_on"], part))
        policy, positions, orders, fills, beside = (_content(entry, named[name], part) for name in PARTS)
        more = orjson.loads(beside)
        slice_ = Slice(
            entry.account,
            entry.instrument,
            from_iso(document["requested_at"]),
            broker_time_from_iso(document["as_of"]),
            _section(positions, Position),
            _section(orders, Order),
            _section(fills, Fill),
            document["fills_cursor"],
            _read(Conventions, more["conventions"]),
            revision="",
            answers=_read(tuple[OrderAnswer, ...], more["answers"]),
            whole=more["whole"],
            unread_legs=more["unread_legs"],
            contract=_read(ContractFacts | None, more["contract"]),
            evidence=_read(tuple[Evidence, ...], more["evidence"]),
            aside=_read(tuple[Position, ...], more["aside"]),
            claims=_read(Claims | None, more.get("claims")),
            streamed=more.get("streamed", False),
        )
        verified_at = None if document["verified_at"] is None else from_iso(document["verified_at"])
        return Grounds(book, slice_, _read(Policy, orjson.loads(policy)), entry.now, verified_at, document["trade"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        found = str(error).splitlines()[0]
        raise UnusablePass(f"pass {entry.hash} is in a form that this version does not know ({found})") from None


def differences_from_journal(journaled: Sequence[Record], grounds: Grounds) -> list[str]:
    """Descriptions of the differences between today's decision on these grounds and the journal; empty if there are
    none. The book is not changed."""
    decision = grounds.decide()
    if decision.lookups:
        asked = ", ".join(query.broker_order_id or query.client_order_id or "?" for query in decision.lookups)
        return [f"it would first ask the broker about {asked}, which was not asked"]
    was = [record.event for record in journaled]
    return _differences(was, list(grounds.events_of(decision)))


def _differences(was: Sequence[Event], now: Sequence[Event]) -> list[str]:
    old, new = ({event.event_id: event for event in events} for events in (was, now))
    words = [f"{event.type} {_shown(event)}: it would not be decided" for key, event in old.items() if key not in new]
    words += [f"{event.type} {_shown(event)}: it would be decided" for key, event in new.items() if key not in old]
    for key in old.keys() & new.keys():
        words += _fields(old[key], new[key])
    if not words and [event.event_id for event in was] != [event.event_id for event in now]:
        words.append("the same events would be in another order")
    return words


def _fields(was: Event, now: Event) -> list[str]:
    words = []
    if was.type is not now.type:
        words.append(f"{was.type} would be {now.type}")
    if was.severity is not now.severity:
        words.append(f"{was.type}: severity {was.severity} would be {now.severity}")
    old = {key: value for key, value in was.payload.items() if key not in _BESIDE}
    for key in sorted(old.keys() | now.payload.keys()):
        before, after = old.get(key), now.payload.get(key)
        if before != after:
            words.append(f"{was.type}: {key} {_json(before)} would be {_json(after)}")
    return words


def _shown(event: Event) -> str:
    return str(event.payload.get("key") or event.payload.get("fill_id") or event.payload.get("type") or event.event_id)


def _json(value: Json) -> str:
    return orjson.dumps(value).decode()


def _content(entry: PassEntry, own: str, part: Part) -> bytes:
    data = part(own)
    if data is None:
        raise UnusablePass(f"pass {entry.hash} cannot be recomputed: its part {own} is not kept")
    if sha256(data).hexdigest() != own:
        raise UnusablePass(f"pass {entry.hash} was altered: its part {own} does not have that hash")
    return data


def _section(data: bytes, kind: type[AnyRow]) -> Section[Any]:
    completeness, rows, problems, reason, *more = orjson.loads(data)
    of_kind: tuple[AnyRow, ...] = _read(tuple[kind, ...], rows)  # type: ignore[valid-type]  # a type of rows
    match Completeness(completeness):
        case Completeness.COMPLETE:
            return Complete(of_kind)
        case Completeness.PARTIAL:
            return Partial(of_kind, _read(tuple[RowProblem, ...], problems))
        case Completeness.FAILED:
            return Failed(reason, disbelieved=more == [True])
        case Completeness.UNSUPPORTED:
            return Unsupported()


@lru_cache(maxsize=32)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read(kind: Any, value: object) -> Any:
    return _adapter(kind).validate_python(value)
