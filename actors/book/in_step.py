"""The proofs that books were found in step: an instrument writes its own, or its account writes one for many. Pure.

A RECONCILED in an instrument's stream is its own proof, and part of its book. One in an account's stream has
``instruments``: the version of each book, by symbol, that one look at the broker, at ``requested_at``, found in step.
It is part of no book, and is written when there was nothing else to write.

The laws of this module: a proof applies to one version of a book only; a clock that is set ends all earlier proofs; no
proof counts that is later than the moment in question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from actors.book.book import Book
from actors.book.unreadable import UNUSABLE, UnreadableRecord, text_of
from actors.events import Event, EventType, Json, Payload, Record, from_iso
from actors.names import instrument_name
from brokers.frozen import dataclass
from brokers.versions import across_versions

NAMED: Final = "instruments"
"""The payload key of a RECONCILED that names the books it is of."""
OWN_AT_LEAST_EVERY = timedelta(days=1)
"""How often an instrument writes a proof of its own even if nothing changes: that proof also records its cursor in the
broker's fills, and lets the book drop what ended long ago."""
GATHERED_AT_LEAST_AFTER = timedelta(seconds=60)
"""The shortest time between two proofs of one book: a scheduled one does not follow another at once."""
WRITTEN_WITHIN = timedelta(minutes=10)
"""How long after a book was found in step to look for the record that names it."""
_ONE_LOOK: Final = timedelta(seconds=1)
_SHARED: Final = ("as_of", "positions", "orders", "fills", "fills_cursor")


@across_versions
@dataclass(frozen=True, slots=True)
class InStep:
    """What an instrument reports to its account instead of writing a RECONCILED: nothing was written since the last
    one, the broker's answer is the same, and the book is at this version. ``payload`` is what the instrument would have
    written; its times are by the instrument's clock."""

    instrument: str
    version: int
    payload: Payload

    @property
    def requested_at(self) -> datetime:
        """When the slice was requested from the broker."""
        return from_iso(str(self.payload["requested_at"]))


class _Named(Protocol):
    """A version of a book, and when it was in step."""

    @property
    def version(self) -> int:
        """The book's version."""

    @property
    def at(self) -> datetime:
        """When it was in step, by the instrument's clock."""


N = TypeVar("N", bound=_Named)


@dataclass(frozen=True, slots=True)
class Proof:
    """A book was in step at this version, at this time of the instrument's clock; ``record`` proves it."""

    stream: str
    version: int
    at: datetime
    record: Record


def gathered(reports: Iterable[InStep]) -> list[dict[str, Json]]:
    """The payloads that name all of these, one for each look at the broker. The ``requested_at`` of a payload is the
    earliest in its reports: each instrument computes it from the time its own request took."""
    found: list[tuple[tuple[Json, ...], InStep, dict[str, Json]]] = []
    for one in sorted(reports, key=lambda one: (one.requested_at, one.instrument)):
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
    """Whether a record of an account names one of its instruments."""
    named = named_in(record.event)
    return named is not None and instrument in named


def proofs(record: Record) -> Iterator[Proof]:
    """The proofs in a record; none if it is not a RECONCILED. Raises :class:`UnreadableRecord`."""
    if record.event.type is not EventType.RECONCILED:
        return
    named = named_in(record.event)
    if named is None:
        yield Proof(record.stream, record.version, record.event.time, record)
        return
    try:
        at = from_iso(text_of(record.event.payload["requested_at"]))
    except UNUSABLE as error:
        raise UnreadableRecord.of(record, error) from error
    for symbol, version in named.items():
        yield Proof(instrument_name(record.stream, symbol), version, at, record)


def still_proven(book: Book, records: Sequence[Record], named: Iterable[N], until: datetime) -> list[N]:
    """The proofs in ``named``, written by the account, that are newer than the book's own last proof, up to ``until``.

    ``records`` are the ones that the book was folded from, from its first or from a checkpoint. A proof of a version
    before the book's own last proof adds nothing; without an own proof (a clock was set) none of them counts.
    """
    own = book.reconciled_at
    if own is None:
        return []
    since = max(
        (record.version for record in records if record.event.type is EventType.RECONCILED),
        default=records[0].version if records else 0,
    )
    return [one for one in named if since <= one.version <= book.version and own < one.at <= until]
