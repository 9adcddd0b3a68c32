"""What the books of an account hold, as its instruments report it, compared with the broker's positions. Pure.

The laws of this module: if all positions disappear at once, while the fills are complete and none of them is in these
instruments, the broker's positions are not believed: an error inside a broker, a terminal without an account, or
another login looks just like that. Evidence that the broker reports, and a contract's own last day, explain a missing
row. A leg that only our side has reported was never a row of the broker's, so it cannot be missing.
"""

from __future__ import annotations

from actors.account.snapshot_cache import SnapshotCache
from actors.book.legs import HOLDINGS
from actors.messages import SliceRequest
from brokers.errors import with_remedy
from brokers.model import Complete, Cursor, Snapshot
from brokers.port import Remembered

FEWEST = 2
"""How many legs that disappear at once need a second source, where the broker has none: a single one is a ghost like
any other, and is closed with proof."""

_REMEDY = (
    "The books stay as they are until the rows are back, a fill explains one, or a person says so: if nothing is held, "
    "record a position of 0 for each leg"
)


class Books:
    """The books, by their instruments' requests. ``at_first`` is what each book held in its first request. Of thousands
    of instruments few hold anything, and each look goes through those only."""

    def __init__(self) -> None:
        self.at_first: dict[str, Remembered] = {}
        self._held: dict[str, Remembered] = {}
        self._reporting: set[str] = set()
        self._cursors: dict[str, Cursor | None] = {}

    def hear(self, request: SliceRequest) -> None:
        """Note an instrument's request, which includes what its book holds."""
        self._reporting.add(request.instrument)
        if request.held is None:
            return
        if request.held.legs:
            self._held[request.instrument] = request.held
            self._cursors[request.instrument] = request.fills_since
        else:
            self._held.pop(request.instrument, None)
            self._cursors.pop(request.instrument, None)
        self.at_first.setdefault(request.instrument, request.held)

    @property
    def heard(self) -> frozenset[str]:
        """The instruments that have reported what their books hold."""
        return frozenset(self._reporting)

    def forget(self, instrument: str) -> None:
        """Drop an instrument that is no longer managed here."""
        self._held.pop(instrument, None)
        self._reporting.discard(instrument)
        self._cursors.pop(instrument, None)
        self.at_first.pop(instrument, None)

    def keep(self, instruments: frozenset[str]) -> None:
        """Keep only these instruments."""
        for name in self._reporting - instruments:
            self.forget(name)

    def all_gone(self, snapshot: Snapshot, cache: SnapshotCache) -> tuple[str, ...]:
        """The legs in the books, if the broker shows none of them any more and no reason for it; else empty."""
        if not isinstance(snapshot.positions, Complete) or not isinstance(snapshot.fills, Complete):
            return ()
        if snapshot.positions.rows or snapshot.aside:
            return ()
        held = self._held
        reported = {one.instrument for one in snapshot.evidence} | {fill.instrument for fill in snapshot.fills.rows}
        for name, book in held.items():
            explained = name in reported or cache.has_fills_after(name, self._cursors.get(name))
            if explained or name in snapshot.left_out:
                return ()
            contract = snapshot.contracts.get(name, book.contract)
            if contract is not None and contract.has_expired(snapshot.as_of):
                return ()
        unread = snapshot.unread_legs
        books = {name: book for name, book in held.items() if not _is_sold(book)}
        return tuple(sorted(f"{name} {leg}" for name, book in books.items() for leg in book.legs if leg not in unread))


def _is_sold(book: Remembered) -> bool:
    """Whether all of a book was sold out of the holdings: such legs are gone together when the sale has settled."""
    return HOLDINGS in book.legs and not sum(quantity for quantity, _ in book.legs.values())


def not_believed(gone: tuple[str, ...], *, contradicted: bool) -> str:
    """Why the broker's positions are not believed, and what a person can do."""
    shown = ", ".join(gone[:5]) + (", …" if len(gone) > 5 else "")
    other = ", and the account still says that something is held" if contradicted else ""
    count = f"all {len(gone)} legs are gone at once" if len(gone) > 1 else "the one leg there was is gone"
    return with_remedy(f"{count} ({shown}), the fills are complete and none says why{other}", _REMEDY)
