"""The proofs that books were found in step: one of an instrument's own, and one of its account for many. Pure.

A RECONCILED in the stream of an instrument is its own, and part of its book. One in the stream of an account has
``instruments``: by its symbol the version of each book that was found in step with one look at the broker, at
``requested_at``. It is part of no book, and is written where nothing else was to be written.

The laws of this module: a proof is of the book at one version, and says nothing of another; whatever sets a clock ends
what was proven before; no proof is later than the moment that is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from actors.book.book import Book
from actors.events import Event, EventType, Json, Payload, Record, from_iso
from actors.names import instrument_name

NAMED: Final = "instruments"
"""The payload key of a RECONCILED that names the books it is of."""
OWN_AT_LEAST_EVERY = timedelta(days=1)
"""However long nothing changes, an instrument writes a proof of its own so often: with it go its place in the broker's
fills and the forgetting of what is long over."""
GATHERED_AT_LEAST_AFTER = timedelta(seconds=60)
"""Two proofs of one book are no closer than this: one that is due by the grid does not follow another at once."""
WRITTEN_WITHIN = timedelta(minutes=10)
"""How long after a book was found in step the record that names it is looked for."""
_ONE_LOOK: Final = timedelta(seconds=1)
_SHARED: Final = ("as_of", "positions", "orders", "fills", "fills_cursor")


@dataclass(frozen=True, slots=True)
class InStep:
    """What an instrument reports to its account in the place of a RECONCILED of its own: nothing was written since the
    last one, the broker says what it said then, and the book is at this version. ``payload`` is what it would have
    written; its times are by the instrument's clock."""

    instrument: str
    version: int
    payload: Payload

    @property
    def requested_at(self) -> datetime:
        """When the broker was asked."""
        return from_iso(str(self.payload["requested_at"]))


class _Named(Protocol):
    """A version of a book, and when it was in step."""

    @property
    def version(self) -> int:
        """Of the book."""

    @property
    def at(self) -> datetime:
        """By the instrument's clock."""


N = TypeVar("N", bound=_Named)


@dataclass(frozen=True, slots=True)
class Proof:
    """A book was its broker's at this version, at this time of the instrument's clock; ``record`` says so."""

    stream: str
    version: int
    at: datetime
    record: Record


def gathered(told: Iterable[InStep]) -> list[dict[str, Json]]:
    """The payloads that name all of these, one for each look at the broker. Its ``requested_at`` is the earliest that
    any of them knows: each reckons it by the time its question took."""
    found: list[tuple[tuple[Json, ...], InStep, dict[str, Json]]] = []
    for one in sorted(told, key=lambda one: (one.requested_at, one.instrument)):
        shared = tuple(one.payload.get(name) for name in _SHARED)
        for look, first, named in found:
            if look == shared and one.requested_at - first.requested_at <= _ONE_LOOK:
                named[one.instrument] = one.version
                break
        else:
            found.append((shared, one, {one.instrument: one.version}))
    return [
        {
            **dict(zip(_SHARED, look, strict=True)),
            "requested_at": first.payload["requested_at"],
            NAMED: {name: named[name] for name in sorted(named)},
        }
        for look, first, named in found
    ]


def named_in(event: Event) -> Mapping[str, int] | None:
    """The versions by symbol that a RECONCILED of an account names; ``None`` for every other event."""
    named = event.payload.get(NAMED) if event.type is EventType.RECONCILED else None
    if not isinstance(named, dict):
        return None
    return {symbol: version for symbol, version in named.items() if isinstance(version, int)}


def concerns(record: Record, instrument: str) -> bool:
    """Whether a record names an instrument of the account whose own it is."""
    named = named_in(record.event)
    return named is not None and instrument in named


def proofs(record: Record) -> Iterator[Proof]:
    """What a record proves of any book; nothing, where it is no RECONCILED."""
    if record.event.type is not EventType.RECONCILED:
        return
    named = named_in(record.event)
    if named is None:
        yield Proof(record.stream, record.version, record.event.time, record)
        return
    at = from_iso(str(record.event.payload["requested_at"]))
    for symbol, version in named.items():
        yield Proof(instrument_name(record.stream, symbol), version, at, record)


def still_proven(book: Book, records: Sequence[Record], named: Iterable[N], until: datetime) -> list[N]:
    """Of what its account named of a book that which proves it, ``until`` a moment, beyond its own last proof.

    ``records`` are those that the book is folded of, from its first or from a checkpoint. What is of a version before
    the book's own last proof proves no more than that, and where the book has none (a clock was set) nothing does.
    """
    own = book.reconciled_at
    if own is None:
        return []
    since = max(
        (record.version for record in records if record.event.type is EventType.RECONCILED),
        default=records[0].version if records else 0,
    )
    return [one for one in named if since <= one.version <= book.version and own < one.at <= until]
