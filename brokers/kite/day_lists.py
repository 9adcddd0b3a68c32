"""What a Kite account has shown today; its next answer is checked against it.

The laws of this module:

* Within a trading day no order, trade or row of ``net`` leaves its list (flat rows and ended orders stay). A list that
  lost one looks like an error inside the broker, so it is not believed at once. It is believed when it is unchanged
  after ``DISBELIEVED_S``, or when a new day begins by the broker's own clock.
* The filled quantity of an order only grows, in whatever order the broker's updates arrive.
* Kite drops its orders overnight, and only an order placed for the next session outlives its day. An order that was
  still working when last seen is presumed EXPIRED, or filled where the positions show that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from brokers.clocks import BrokerTime, shown
from brokers.errors import with_remedy
from brokers.frozen import dataclass
from brokers.kite.decode import IST, Listing, OrderRow, RowT
from brokers.kite.slices import Growth, parts_of, root_of, whole, wholes
from brokers.model import Failed, Fill, Order, OrderStatus, Position, RowProblem, Section, SectionName, section
from brokers.port import Remembered

DISBELIEVED_S = 10.0
EMPTIED = (
    "Look at Kite. If nothing is held, record a position of 0 for each leg and restart this account: its actor then "
    "believes the first answer"
)
REMEMBERED_DAYS = 7
MORNING_S = 300.0
LOADING = (time(6, 0), time(9, 0))
"""IST. The day is loaded between the end of yesterday's sessions, at six, and the first market's opening, at nine."""


class Lasting:
    """Notices rows that left a list that only grows. A list that ``never_empties`` and had rows while its markets
    traded is not believed empty for the rest of the day."""

    def __init__(self, what: str, *, never_empties: bool = False) -> None:
        self._what = what
        self._never_empties = never_empties
        self._traded = False
        self._day: date | None = None
        self._known: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()
        self._since: datetime | None = None

    def doubt(self, listing: Listing[RowT], day: date, now: datetime) -> str | None:
        """Why this listing is not believed, or ``None``. A listing with unreadable rows proves nothing either way."""
        if listing.problems:
            return None
        found = frozenset(listing.rows)
        lost = self._known - found if day == self._day else frozenset()
        if lost and not found and self._never_empties and self._traded:
            gone = f"all {len(lost)} {self._what} of today are gone from the list, and none ever leaves it"
            return with_remedy(gone, EMPTIED)
        if lost:
            since = self._since if self._since is not None and lost == self._lost else now
            self._lost, self._since = lost, since
            if abs(now - since) < timedelta(seconds=DISBELIEVED_S):
                names = ", ".join(sorted(lost)[:5])
                gone = f"{len(lost)} {self._what} of today are gone from the list, and none ever leaves it: {names}"
                remedy = f"The list is read again, and believed when it is still so after {DISBELIEVED_S:g} s"
                return with_remedy(gone, remedy)
        self._day, self._known, self._lost, self._since = day, found, frozenset(), None
        self._traded = now.astimezone(IST).time() >= LOADING[1]
        return None


def without_a_row(
    books: Mapping[str, Remembered], shown: Iterable[str], day: date, now: datetime
) -> tuple[RowProblem, ...]:
    """The instruments that the broker showed as held today and of which it now shows no row at all, flat or not. No row
    leaves ``net`` while its markets trade, so an answer without one is in error."""
    if now.astimezone(IST).time() < LOADING[1]:
        return ()
    rows = set(shown)
    lacking = [
        name
        for name, book in books.items()
        if book.legs and name not in rows and book.seen_at is not None and _traded_on(book.seen_at, day)
    ]
    text = with_remedy("it was held today, and no row of it is shown, which never happens within a day", EMPTIED)
    return tuple(RowProblem(SectionName.POSITIONS, name, None, text) for name in sorted(lacking))


def _traded_on(at: datetime, day: date) -> bool:
    local = at.astimezone(IST)
    return local.date() == day and local.time() >= LOADING[1]


class Morning:
    """Checks the first answers of a trading day. In the morning ``net`` is emptied before the holdings and carried
    positions are loaded: a quantity that shrank since last evening, with no trade to explain it, is not believed at
    once.

    A connection that was not open last evening uses what the books held when it began: within :data:`LOADING` its own
    first answer may be the first of the day.
    """

    def __init__(self) -> None:
        self._before: dict[str, Decimal] = {}
        self._day: date | None = None
        self._evening: dict[str, Decimal] = {}
        self._latest: dict[str, Decimal] = {}
        self._began: datetime | None = None
        self._came_in = False

    def begin_with(self, books: Mapping[str, Decimal]) -> None:
        """Take what the books held, by instrument, before the first answer of this connection."""
        self._before = dict(books)

    def doubts(
        self, held: Iterable[Position], trades: Iterable[Fill] | None, day: date, now: datetime
    ) -> tuple[RowProblem, ...]:
        """The instruments whose quantity is too small, for :data:`MORNING_S` from the day's first answer on."""
        total: dict[str, Decimal] = {}
        for row in held:
            total[row.instrument] = total.get(row.instrument, Decimal(0)) + row.quantity
        first = self._day is None
        if self._day is not None and day != self._day:
            self._evening, self._began = self._latest, now
        if first and LOADING[0] <= now.astimezone(IST).time() < LOADING[1]:
            self._began, self._came_in = now, True
        made = tuple(trades or ())
        if self._came_in:
            # What was traded today may be in the books already, and the day is no longer being loaded.
            fresh = {fill.instrument for fill in made}
            self._evening |= {name: held for name, held in self._before.items() if name not in fresh}
        self._day = day
        until = None if self._began is None else self._began + timedelta(seconds=MORNING_S)
        if until is None or now >= until:
            self._evening, self._came_in = {}, False
        expected = dict(self._evening)
        for fill in made:
            if fill.instrument in expected:
                expected[fill.instrument] += fill.quantity * fill.side.sign
        lost = {name for name, quantity in expected.items() if abs(total.get(name, Decimal(0))) < abs(quantity)}
        self._latest = total if not lost else {**total, **{name: expected[name] for name in lost}}
        text = with_remedy(
            "less of it is shown than last evening, and no trade says why; the broker may be loading its day",
            f"It is read again, and believed when it is still so {MORNING_S:g} s after the day's first answer",
        )
        return tuple(RowProblem(SectionName.POSITIONS, name, None, text, until) for name in sorted(lost))


@dataclass(frozen=True, slots=True)
class _Seen:
    row: OrderRow
    day: date

    def before(self, day: date) -> bool:
        """Whether the order is of an earlier day. The list is emptied some time in the morning and shows yesterday's
        orders until then, so the day on which it was placed counts as well."""
        placed = self.row.order.submitted_at
        return self.day < day or (placed is not None and placed.astimezone(IST).date() < day)


class Orderbook:
    """The orders as last seen."""

    def __init__(self) -> None:
        self._lasting = Lasting("orders")
        self._seen: dict[str, _Seen] = {}
        self._growth = Growth()
        self._growing: frozenset[str] = frozenset()

    def take(self, listing: Listing[OrderRow], day: date, now: datetime) -> Section[Order]:
        """The orders of a fresh listing; none of them goes backwards."""
        doubt = self._lasting.doubt(listing, day, now)
        if doubt is not None:
            return Failed(doubt)
        rows = [self.later(row, day) for row in listing.rows.values()]
        self._growing = self._growth.of(rows, now)
        listed = listing.rows.keys()
        self._seen = {
            order_id: seen
            for order_id, seen in self._seen.items()
            if order_id in listed
            or (listing.problems and seen.day == day)
            or (seen.before(day) and (day - seen.day).days <= REMEMBERED_DAYS)
        }
        return section(self._wholes(rows, listing.problems), listing.problems)

    def _wholes(self, rows: Iterable[OrderRow], problems: tuple[RowProblem, ...]) -> list[Order]:
        """Every order once. An order in several parts is left out while a part of it may be unreadable."""
        rows = list(rows)
        unread = {problem.instrument for problem in problems}
        sliced = {row.slice_of for row in rows if row.slice_of is not None}
        parts = sliced if unread else set()
        readable = (row for row in rows if root_of(row) not in parts or not {None, row.order.instrument} & unread)
        return wholes(readable, self._growing)

    def whole_of(self, row: OrderRow) -> Order:
        """The order that a row is, or of which it is a part."""
        root = root_of(row)
        others = (seen.row for order_id, seen in self._seen.items() if order_id != row.order.broker_order_id)
        return whole(root, parts_of(root, (row, *others)), self._growing)

    def parts(self, broker_order_id: str | None, client_order_id: str | None) -> tuple[OrderRow, ...]:
        """The last seen rows of an order, all of its parts; none where it is not known, or where only a tag is given
        and several orders have it."""
        roots = {
            root_of(seen.row)
            for seen in self._seen.values()
            if (
                seen.row.order.broker_order_id == broker_order_id
                if broker_order_id is not None
                else seen.row.order.client_order_id == client_order_id
            )
        }
        return parts_of(roots.pop(), (seen.row for seen in self._seen.values())) if len(roots) == 1 else ()

    def later(self, row: OrderRow, day: date) -> OrderRow:
        """The later of a row and the known state of its order; it becomes the known state."""
        order_id = row.order.broker_order_id
        known = self._seen.get(order_id)
        if known is not None and known.row.order.filled_quantity > row.order.filled_quantity:
            row = _kept_up(row, known.row.order)
        self._seen[order_id] = _Seen(row, day)
        return row

    def ended_overnight(
        self, broker_order_id: str | None, client_order_id: str | None, day: date, now: BrokerTime
    ) -> Order | None:
        """How an order of an earlier day ended that the broker no longer lists; ``None`` where that is not known. An
        order that was working when last seen is ``presumed`` to have expired, once its life has ended."""
        for seen in reversed(self._seen.values()):
            order = seen.row.order
            named = (
                order.broker_order_id == broker_order_id
                if broker_order_id is not None
                else order.client_order_id == client_order_id
            )
            if named and seen.before(day):
                order = self.whole_of(seen.row)
                if order.status.terminal:
                    return order
                if order.expires_at is not None and order.expires_at <= now:
                    why = order.reason or "its day is over"
                    return replace(order, status=OrderStatus.EXPIRED, reason=why, presumed=True)
        return None

    def awaited(self, broker_order_id: str | None, client_order_id: str | None, now: BrokerTime) -> str | None:
        """Why an order that the broker does not list may still exist, in words: an order for a coming session is shown
        again when that session is loaded."""
        for row in self.parts(broker_order_id, client_order_id):
            until = row.order.expires_at
            if row.variety == "amo" and not row.order.status.terminal and until is not None and now < until:
                return (
                    f"it was placed after market for the session until {shown(until):%Y-%m-%d %H:%M} UTC, "
                    "and is not shown"
                )
        return None


def _kept_up(row: OrderRow, known: Order) -> OrderRow:
    """A row that was overtaken by a later one: a filled quantity never shrinks."""
    order = row.order
    overtaken = known.status.terminal or not order.status.terminal
    ahead = replace(
        order,
        filled_quantity=known.filled_quantity,
        average_fill_price=known.average_fill_price,
        quantity=max(order.quantity, known.filled_quantity),
        status=known.status if overtaken else order.status,
    )
    return replace(row, order=ahead)
