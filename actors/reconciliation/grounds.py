"""The grounds of one decision, and how they are kept so that the decision can be recomputed. Pure.

A decision follows from the book, the slice, the policy, the time and when the book was last found in step, and from
nothing else. The book is a fold of the journal up to a version; the rest is stored as a :class:`KeptPass`: one entry,
and the parts it names by their SHA-256, which many passes share. Each event of the decision contains the hash of the
entry, and each entry names the one before it, so that the journal's chain covers the passes that wrote nothing too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import orjson

from actors.book.book import Book
from actors.book.policy import Policy
from actors.events import Event, Json, to_iso
from actors.reconciliation.decide import evidence_of, reconcile
from actors.reconciliation.reconciliation_pass import Decision, Status
from brokers.frozen import dataclass
from brokers.model import AnyRow, Failed, Section, Slice, problems_of, rows_of

PASS: Final = "pass"  # noqa: S105 - a pass over a book
"""The payload key by which an event names the pass that decided it."""
TRADE: Final = "trade"
"""The payload key by which an event names the trade after which it was found."""
ASKED: Final = "asked"
"""The payload key by which an event names who requested the check that found it; no decision depends on it."""
PARTS: Final = ("policy", "positions", "orders", "fills", "beside")
"""The parts of a pass; equal parts are kept once for all passes."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """Everything that a decision follows from. ``trade`` names the trade that led to the look. ``asked`` are the keys
    that name who requested the check, if a person did: they are part of its events, and decide nothing."""

    book: Book
    slice: Slice
    policy: Policy
    now: datetime
    verified_at: datetime | None
    trade: str | None = None
    asked: Mapping[str, Json] | None = None

    def decide(self) -> Decision:
        """:func:`reconcile` on these grounds."""
        return reconcile(self.book, self.slice, self.policy, self.now, self.verified_at)

    def events_of(self, decision: Decision) -> tuple[Event, ...]:
        """The decision's events, with the trade after which they were found and who requested the check. A check after
        a trade is recorded even if it finds everything in step."""
        events = decision.events
        if self.trade is not None:
            if not events and decision.status is Status.SUCCESS:
                events = evidence_of(self.book, self.slice, self.policy, self.now)
            events = with_key(events, TRADE, self.trade)
        return with_key(events, ASKED, dict(self.asked)) if self.asked else events


@dataclass(frozen=True, slots=True)
class KeptPass:
    """One pass in the form in which it is kept: ``hash`` is the SHA-256 of ``entry``; ``parts`` are keyed by theirs."""

    hash: str
    entry: bytes
    parts: Mapping[str, bytes]


def with_key(events: tuple[Event, ...], key: str, value: Json) -> tuple[Event, ...]:
    """The events with one more key in each payload."""
    return tuple(replace(event, payload={**event.payload, key: value}) for event in events)


def kept(grounds: Grounds, decided: int, before: str | None) -> KeptPass:
    """A pass that decided ``decided`` events, after the pass whose hash is ``before``."""
    slice_ = grounds.slice
    contents: dict[str, Any] = {
        "policy": grounds.policy,
        "positions": _section(slice_.positions),
        "orders": _section(slice_.orders),
        "fills": _section(slice_.fills),
        "beside": {
            "conventions": slice_.conventions,
            "answers": slice_.answers,
            "whole": slice_.whole,
            "unread_legs": dict(slice_.unread_legs),
            "contract": slice_.contract,
            "evidence": slice_.evidence,
            "aside": slice_.aside,
        },
    }
    if slice_.claims is not None:
        contents["beside"]["claims"] = slice_.claims
    if slice_.streamed:
        contents["beside"]["streamed"] = True
    parts: dict[str, bytes] = {}
    rests_on = _part({name: _part(_json(contents[name]), parts) for name in PARTS}, parts)
    entry = _json(
        {
            "account": slice_.account,
            "as_of": to_iso(slice_.as_of),
            "before": before,
            "decided": decided,
            "fills_cursor": slice_.fills_cursor,
            "instrument": slice_.instrument,
            "now": to_iso(grounds.now),
            "requested_at": to_iso(slice_.requested_at),
            "rests_on": rests_on,
            "trade": grounds.trade,
            "verified_at": None if grounds.verified_at is None else to_iso(grounds.verified_at),
            "version": grounds.book.version,
        }
    )
    return KeptPass(sha256(entry).hexdigest(), entry, parts)


def _part(content: bytes | Mapping[str, str], parts: dict[str, bytes]) -> str:
    data = content if isinstance(content, bytes) else _json(content)
    own = sha256(data).hexdigest()
    parts[own] = data
    return own


def _section(section: Section[AnyRow]) -> list[object]:
    reason = getattr(section, "reason", None)
    document = [section.completeness, rows_of(section), problems_of(section), reason]
    return [*document, True] if isinstance(section, Failed) and section.disbelieved else document


def _json(value: object) -> bytes:
    return orjson.dumps(value, _plain)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return str(value)
        case timedelta():
            seconds = value.total_seconds()
            return f"{'-' if seconds < 0 else ''}PT{abs(seconds):.6f}S"
        case frozenset():
            return sorted(value)
        case Mapping():
            return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be kept")
