"""A broker's answer at one moment, in terms that belong to no broker.

The laws of this module:

* Each section of a snapshot is one of four *types*: :class:`Complete`, :class:`Partial`, :class:`Failed` or
  :class:`Unsupported`. The absence of a row means "none" in a :class:`Complete` section and nothing elsewhere.
* Quantities and prices are ``Decimal``; times are aware UTC; a leg's quantity is signed, short is negative;
  the quantity of an order or a fill is unsigned beside its :class:`Side`.
* Everything here is frozen, compares by value, and imports no clock and no socket.
* A time that the broker states is a :class:`~brokers.clocks.BrokerTime`; a plain ``datetime`` is a time of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.versions import across_versions

NET = "net"
LONG = "long"
SHORT = "short"

Cursor = int
"""A position in a broker's sequence of fills, growing with time: OANDA's transaction id, MT5's epoch second. An adapter
returns one with each snapshot, and takes it back to return the fills after it."""


class Side(StrEnum):
    """The direction of an order or a fill."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other direction."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderStatus(StrEnum):
    """The state of an order. Each ``decode`` module maps its broker's own words to these."""

    PENDING_SUBMIT = "PENDING_SUBMIT"
    OPEN = "OPEN"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    HELD = "HELD"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"

    @property
    def terminal(self) -> bool:
        """Whether nothing more is expected of the order."""
        return self in _TERMINAL


_BEHIND_UTC = timedelta(hours=12)
_TERMINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


class Completeness(StrEnum):
    """The name of a section's type, for people and JSON."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    UNSUPPORTED = "UNSUPPORTED"


PROVISIONAL = "/"
"""What a provisional broker_order_id has in it, and no other."""


def is_provisional(broker_order_id: str | None) -> bool:
    """Whether a broker_order_id is valid for one session of the broker only: IB's client and order id, ``17/4``, as
    long as an order has no permId. After a restart it may be another order's, so the client's id decides then."""
    return broker_order_id is not None and PROVISIONAL in broker_order_id


class LegScheme(StrEnum):
    """How an account names the legs of a position."""

    NET = "net"  # one leg, "net"
    SIDED = "sided"  # "long" and "short" may stand side by side
    TICKET = "ticket"  # a leg for each position ticket


class IdScope(StrEnum):
    """The scope in which an id is unique. Each adapter states it in its :class:`Conventions`."""

    ACCOUNT = "account"  # in the account, for ever
    TRADING_DAY_AND_SIDE = (
        "trading day and side"  # of an instrument; the next day uses it again, and both sides of a match share it
    )


class CostBasis(StrEnum):
    """How closing a part of a leg changes the average price that the broker reports for it."""

    WEIGHTED = "weighted"  # not at all
    FIFO = "fifo"  # to the average of the remaining lots
    ALL_OPENING = "all_opening"  # it covers everything traded on the leg's side since the row began, closed or not


@across_versions
@dataclass(frozen=True, slots=True)
class Conventions:
    """An account's way of keeping positions; it decides which leg a fill joins and at what average price.

    ``commission_in_average``: the average that the broker reports includes the commissions of the fills that opened the
    leg (a cost raises a long leg's average and lowers a short one's), spread over its units. ``unique_client_ids``: a
    client_order_id is meant for one order, so that of two working orders with the same one is one too many.
    ``products``: a netting account has a leg for each of the broker's products instead of one.

    ``client_id_length`` is how many characters of a client_order_id the broker keeps, ``None`` where no practical limit
    is known. ``negative_prices`` are prefixes of the instruments whose price may be below zero; the empty prefix, which
    matches all, where nothing rules it out.

    ``fill_ids`` and ``order_ids`` are the scopes in which the adapter's ids are unique. ``day_ahead_of_utc`` is how far
    the broker's trading day is ahead of UTC's, for a scope that is a day.
    """

    legs: LegScheme = LegScheme.NET
    cost_basis: CostBasis = CostBasis.WEIGHTED
    commission_in_average: bool = False
    unique_client_ids: bool = False
    products: bool = False
    fill_ids: IdScope = IdScope.ACCOUNT
    order_ids: IdScope = IdScope.ACCOUNT
    day_ahead_of_utc: timedelta = timedelta(0)
    client_id_length: int | None = None
    negative_prices: tuple[str, ...] = ("",)

    def may_be_below_zero(self, instrument: str) -> bool:
        """Whether a price of that instrument may be below zero."""
        return instrument.startswith(self.negative_prices)

    def kept_of(self, client_order_id: str) -> str:
        """The part of a client's id that the broker keeps."""
        return client_order_id[: self.client_id_length]

    @property
    def legs_known_to_broker(self) -> bool:
        """Whether only the broker can say which leg a fill changed: sides do not determine tickets and products."""
        return self.products or self.legs is LegScheme.TICKET

    def fill_scope(self, side: Side, time: BrokerTime) -> str:
        """A fill's ``id_scope``; it distinguishes fills of the same ``fill_id``, and is empty where ids are unique."""
        if self.fill_ids is IdScope.ACCOUNT:
            return ""
        return f"{self.day_of(time)} {side.value}"

    def day_of(self, time: BrokerTime) -> str:
        """The broker's trading day of a time."""
        return (time + self.day_ahead_of_utc).date().isoformat()


class Reason(StrEnum):
    """What ended or changed a position, or placed an order, other than its owner's trading. An adapter states one only
    where its broker says so or shows it; :mod:`actors.book.discrepancies` lists the evidence that each requires."""

    EXPIRY = "EXPIRY"
    EXERCISE = "EXERCISE"
    ASSIGNMENT = "ASSIGNMENT"
    SPLIT = "SPLIT"
    MERGER = "MERGER"
    REPLACED_BY = "REPLACED_BY"
    SETTLEMENT = "SETTLEMENT"
    CONVERSION = "CONVERSION"
    TRANSFER = "TRANSFER"
    LIQUIDATION = "LIQUIDATION"
    SQUARE_OFF = "SQUARE_OFF"
    ROLLOVER = "ROLLOVER"
    FINANCING = "FINANCING"
    DIVIDEND = "DIVIDEND"
    FORCED_BUY_IN = "FORCED_BUY_IN"
    STOP_LOSS = "STOP_LOSS"
    TAKE_PROFIT = "TAKE_PROFIT"


@across_versions
@dataclass(frozen=True, slots=True)
class ContractFacts:
    """What the broker reports of an instrument itself; ``None`` where it does not.

    ``identity`` is the broker's lasting id of it, whatever its name: IB's conId, Kite's ISIN. ``expiry`` is the last
    day on which it can be held, by its exchange's calendar. ``underlying`` is the instrument it settles in, by this
    account's name where it has one. ``multiplier`` is the value of one unit in ``currency`` at a price of 1: 100 for an
    option on 100 shares, 0.01 where prices are quoted in hundredths. What cannot be ``held``, a combination, is traded
    under a name of its own and held as its legs. ``ends_at`` is when its last session ends, where the adapter knows the
    calendar of its exchange. An expiry that is not ``expiry_certain`` is no evidence of an end: the day may have been
    moved since, or the trades until then are not all known.
    """

    identity: str | None = None
    kind: str | None = None
    expiry: date | None = None
    right: str | None = None
    strike: Decimal | None = None
    underlying: str | None = None
    multiplier: Decimal = Decimal(1)
    currency: str | None = None
    held: bool = True
    ends_at: BrokerTime | None = None
    expiry_certain: bool = True

    def has_expired(self, at: BrokerTime) -> bool:
        """Whether it has expired at that time (broker time), so that a position that is gone needs no other reason: it
        can be traded no more. Until then somebody may have closed it. Where the end of its last session is not known,
        that is when its last day is over everywhere, at noon UTC of the next one (a day ends last where UTC-12 is)."""
        if self.expiry is None or not self.expiry_certain:
            return False
        return (at - _BEHIND_UTC).date() > self.expiry if self.ends_at is None else at >= self.ends_at


@across_versions
@dataclass(frozen=True, slots=True)
class Evidence:
    """A change of one leg that no fill explains, as the broker reports it or shows it in two snapshots.

    ``change`` is signed, in the leg's units, and ``None`` where all of it is gone, however much that was. ``price`` is
    the price it was settled at, ``None`` where none is reported. ``ratio`` is new units per old one (4 for a 4:1
    split). ``moved_to`` is the leg of the same instrument that has it now (conversion, settlement, a renamed ticket).
    ``became`` is how much of another instrument is held in its place. ``linked`` are the other instruments it touches
    (the stock that an assigned put became). ``text`` quotes the broker. Every snapshot that may be a consumer's first
    view of the change carries it; consumers that have handled the change ignore it.
    """

    reason: Reason
    instrument: str
    leg: str
    change: Decimal | None
    text: str
    price: Decimal | None = None
    ratio: Decimal | None = None
    moved_to: str | None = None
    linked: tuple[str, ...] = ()
    became: Decimal | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class Position:
    """One leg of one instrument as the broker holds it. ``quantity`` is signed and never zero. An ``average_price``
    that is not ``price_told`` is 0 and means nothing. ``open_average`` is the average of the open quantity, where the
    account's ``cost_basis`` makes ``average_price`` something else and the adapter can compute it. ``stop_price`` is
    the stop that belongs to the position itself, where a broker has such stops (MetaTrader); no order shows it."""

    instrument: str
    leg: str
    quantity: Decimal
    average_price: Decimal
    open_average: Decimal | None = None
    price_told: bool = True
    stop_price: Decimal | None = None

    @property
    def comparable_price(self) -> Decimal | None:
        """The average of the open quantity; ``None`` where that is not known."""
        if not self.price_told:
            return None
        return self.average_price if self.open_average is None else self.open_average


@across_versions
@dataclass(frozen=True, slots=True)
class Order:
    """One order as the broker shows it.

    ``broker_order_id`` is IB's permId, OANDA's order id, Kite's order_id, MT5's order ticket;
    ``client_order_id`` IB's orderRef, OANDA's clientExtensions.id, Kite's tag, MT5's comment.
    ``filled_quantity`` is cumulative and ``average_fill_price`` its average, ``None`` where it is not reported.
    ``leg`` names the leg the order works on where the broker says so. ``reason`` is the broker's word for why it ended
    as it did. ``replaced_by`` is the broker_order_id of the order that took its place. ``origin`` is set where the
    broker, or an order of ours at it, placed the order; ``parent`` is the broker_order_id of the latter, or the fill_id
    of one of its fills. A ``quantity`` of 0 is one that the broker does not report (an order for an amount of cash).

    An order that ``waits_for_open`` is held by its broker until its market opens, and is not stale before;
    ``working_since`` is when the market opened for it, ``None`` for ``submitted_at``. ``expires_at`` is when it ends by
    its own terms and its market's hours, ``None`` where that is not known. A ``presumed`` end follows from its terms
    alone: its broker no longer lists the order, and only the positions can show whether it was filled before.
    ``slices`` are the broker_order_ids of further orders at the broker that are parts of this one: its quantities are
    the sums of all. A ``growing`` order may have parts that are still to be placed or shown: its quantity is at least
    this. ``group`` is the broker's name of a group of orders in which one fill ends the others (IB's OCA group).
    ``twins`` are the broker_order_ids of other working orders under the same order id of the same client: one order
    that became several at the broker (IB). ``trigger_price`` is where an order with a limit begins to work; ``None``
    where it has none, or where ``limit_price`` is the trigger of an order without a limit.
    """

    instrument: str
    broker_order_id: str
    client_order_id: str | None
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    status: OrderStatus
    order_type: str = "UNKNOWN"
    limit_price: Decimal | None = None
    average_fill_price: Decimal | None = None
    submitted_at: BrokerTime | None = None
    leg: str | None = None
    reason: str | None = None
    replaced_by: str | None = None
    origin: Reason | None = None
    parent: str | None = None
    waits_for_open: bool = False
    slices: tuple[str, ...] = ()
    expires_at: BrokerTime | None = None
    working_since: BrokerTime | None = None
    presumed: bool = False
    growing: bool = False
    group: str | None = None
    twins: tuple[str, ...] = ()
    trigger_price: Decimal | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class Corrected:
    """An execution as its broker reported it before the correction."""

    fill_id: str
    quantity: Decimal
    price: Decimal
    id_scope: str = ""

    @property
    def key(self) -> str:
        """An id that distinguishes it from every other fill of its instrument."""
        return scoped_id(self.fill_id, self.id_scope) if self.id_scope else self.fill_id


def scoped_id(fill_id: str, id_scope: str) -> str:
    """An id that is unique for ever, from one that is unique in a scope."""
    return f"{fill_id}|{id_scope}" if id_scope else fill_id


def id_in_scope(key: str) -> str:
    """The broker's own id, from an id of :func:`scoped_id`; it is the one that people see."""
    return key.partition("|")[0]


@across_versions
@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. ``fill_id`` is IB's execId, OANDA's transaction id, Kite's trade_id, MT5's deal ticket, and unique
    within ``id_scope`` (see :class:`IdScope`), which is empty where that is the account for ever. ``leg`` is set where
    the broker says which leg it changed; ``position_id`` is MT5's.

    ``commission`` is what the broker charged for it, in ``commission_currency`` where that is known; a cost is
    positive, ``None`` is not reported. A fill that ``corrects`` another replaces it, under an id of its own; only such
    a fill may have the quantity 0, which cancels the execution. ``reason`` is set where the broker says that something
    other than an order of the owner's caused it. A fill that the broker marks as ``closing`` opens nothing: any part
    of it that finds no leg to close was never in the book. ``combination`` is the instrument of the combination whose
    order it belongs to, if any, and ``owner`` the strategy of that order, which the combination's own book knows. A
    fill of that instrument itself counts in the order and moves no leg, as the legs have fills of their own; nor does a
    conversion of currencies, which is cash.
    """

    instrument: str
    fill_id: str
    broker_order_id: str | None
    side: Side
    quantity: Decimal
    price: Decimal
    time: BrokerTime
    leg: str | None = None
    position_id: str | None = None
    client_order_id: str | None = None
    commission: Decimal | None = None
    commission_currency: str | None = None
    corrects: Corrected | None = None
    reason: Reason | None = None
    closing: bool = False
    combination: str | None = None
    owner: str | None = None
    id_scope: str = field(default="", compare=False)  # it follows from what is compared

    @property
    def key(self) -> str:
        """An id that distinguishes it from every other fill of its instrument."""
        return scoped_id(self.fill_id, self.id_scope) if self.id_scope else self.fill_id

    @property
    def account_key(self) -> str:
        """An id that distinguishes it from every other fill of the account. One that is unique there for ever is the
        same under any name of its instrument."""
        return f"{self.key}|{self.instrument}" if self.id_scope else self.fill_id


@across_versions
@dataclass(frozen=True, slots=True)
class StreamedFill:
    """An execution that a broker's stream reported: it happened, and nothing else follows from it. ``order`` is the row
    of its order after this execution, where the stream reported that too. ``identity`` is the broker's lasting id of
    what was traded, where names can come to mean something else."""

    fill: Fill
    order: Order | None = None
    identity: str | None = None


class SectionName(StrEnum):
    """The three sections of a snapshot."""

    POSITIONS = "positions"
    ORDERS = "orders"
    FILLS = "fills"


@across_versions
@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that could not be read. ``instrument`` and ``key`` are the parts that could; ``text`` says what was wrong
    and quotes the row, scrubbed of credentials and cut to a readable length. ``again_at`` is set where the doubt ends
    at that time if nothing changes: the instrument is then looked at again."""

    section: SectionName
    instrument: str | None
    key: str | None
    text: str
    again_at: datetime | None = None


AnyRow = Position | Order | Fill
Row = TypeVar("Row", bound=AnyRow, covariant=True)


@across_versions
@dataclass(frozen=True, slots=True)
class Complete(Generic[Row]):
    """Every row there is. Only here does the absence of a row mean that there is none."""

    rows: tuple[Row, ...] = ()
    completeness = Completeness.COMPLETE


@across_versions
@dataclass(frozen=True, slots=True)
class Partial(Generic[Row]):
    """Some rows; others may well exist. ``problems`` are the rows that could not be read."""

    rows: tuple[Row, ...] = ()
    problems: tuple[RowProblem, ...] = ()
    completeness = Completeness.PARTIAL


@across_versions
@dataclass(frozen=True, slots=True)
class Failed:
    """The broker did not answer the request readably. Nothing is known. A ``disbelieved`` answer came, and contradicts
    what is known in a way that only a second source or a person can settle."""

    reason: str
    disbelieved: bool = False
    completeness = Completeness.FAILED


@across_versions
@dataclass(frozen=True, slots=True)
class Unsupported:
    """This broker or gateway has no such section. Nothing is known, and nothing is wrong."""

    completeness = Completeness.UNSUPPORTED


Section = Complete[Row] | Partial[Row] | Failed | Unsupported


def rows_of(section: Section[Row]) -> tuple[Row, ...]:
    """The readable rows of a section; their number proves nothing unless it is :class:`Complete`."""
    return section.rows if isinstance(section, Complete | Partial) else ()


def problems_of(section: Section[Row]) -> tuple[RowProblem, ...]:
    """The unreadable rows of a section."""
    return section.problems if isinstance(section, Partial) else ()


def section(rows: Iterable[Row], problems: Iterable[RowProblem] = ()) -> Complete[Row] | Partial[Row]:
    """A section from a decoder's rows: :class:`Partial` as soon as one row could not be read."""
    unreadable = tuple(problems)
    return Partial(tuple(rows), unreadable) if unreadable else Complete(tuple(rows))


@across_versions
@dataclass(frozen=True, slots=True)
class OrderQuery:
    """Queries one order by its known ids; at least one is set."""

    instrument: str
    broker_order_id: str | None
    client_order_id: str | None


@across_versions
@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """A broker's answer to an :class:`OrderQuery`.

    ``order`` is its row; ``None`` means that the broker says it knows no such order. ``failure`` is set when the query
    could not be answered, and then ``order`` proves nothing; ``again_at`` is set where it can be answered by then.
    ``fills`` are the order's fills that came with the answer.
    """

    query: OrderQuery
    order: Order | None = None
    fills: tuple[Fill, ...] = ()
    failure: str | None = None
    again_at: datetime | None = None


@across_versions
@dataclass(frozen=True, slots=True)
class Claim:
    """One leg as a book shows it that somebody else keeps (a table), from its newest row.

    ``at`` is that row's own time. ``average_price`` is ``None`` where the book has none. ``quantity_step`` and
    ``price_step`` are how finely the book can store a number of this size; on a ``grid`` it stores every multiple of
    the step exactly (a decimal column), else only approximately (a float). ``discrepancy`` is the break that the row
    was written to correct, where it is one of our own.
    """

    leg: str
    quantity: Decimal
    average_price: Decimal | None
    at: datetime
    quantity_step: Decimal = Decimal(0)
    price_step: Decimal = Decimal(0)
    quantity_grid: bool = True
    price_grid: bool = True
    discrepancy: str | None = None

    def states_quantity(self, quantity: Decimal) -> bool:
        """Whether a book that holds this quantity would show what this row shows."""
        return _is_stored_as(self.quantity, quantity, self.quantity_step, grid=self.quantity_grid)

    def states_price(self, price: Decimal) -> bool:
        """Whether a book with this average price would show what this row shows, as far as it has a price."""
        return self.average_price is None or _is_stored_as(
            self.average_price, price, self.price_step, grid=self.price_grid
        )


def _is_stored_as(stored: Decimal, number: Decimal, step: Decimal, *, grid: bool) -> bool:
    if stored == number:
        return True
    if not step or (grid and (number / step) % 1 == 0):
        return False
    return abs(stored - number) < step


@across_versions
@dataclass(frozen=True, slots=True)
class ClaimDoubt:
    """Why it is not known what somebody else's book shows of a leg (``None``: of the whole instrument): it is
    ``stale``, or else cannot be read. ``text`` names the column and what to do."""

    leg: str | None
    stale: bool
    text: str


@across_versions
@dataclass(frozen=True, slots=True)
class Claims:
    """What a book that somebody else keeps shows of one instrument. The book does not hold a leg without a row, unless
    a doubt concerns it."""

    rows: tuple[Claim, ...] = ()
    doubts: tuple[ClaimDoubt, ...] = ()

    @property
    def completeness(self) -> Completeness:
        """FAILED where nothing is known of the instrument, PARTIAL where something is not."""
        if any(doubt.leg is None for doubt in self.doubts):
            return Completeness.FAILED
        return Completeness.PARTIAL if self.doubts else Completeness.COMPLETE


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One account's state, as its broker reported it in answer to one request (or one group of them).

    ``requested_at`` is our time just before the first request was sent: the snapshot contains everything the broker
    knew by then. ``as_of`` is the broker's time of it (ours where the broker sends none): fills not after it are
    contained in ``positions``. ``fills`` holds every fill after the requested cursor, and ``fills_cursor`` is the
    cursor for the next request; ``None`` where fills are not supported. A snapshot that is not ``whole`` is an earlier
    answer, updated by the changes that the broker reported: a mistake in that answer is still in it.

    The rows are those that the adapter is configured to read. ``left_out`` are the instruments of which it saw a row
    and left it out, and ``unread_legs`` the legs that it does not read, each with why and what to do: nothing is known
    of these, however COMPLETE a section is.

    ``contracts`` are the facts of the instruments in it, and ``evidence`` explains changes that no fill explains; both
    are what the adapter knows, and an absence in them means nothing. ``aside`` are legs that the adapter reads and is
    configured not to include (delivered shares): what left another leg may have gone there, and a holding there that
    was never in a book is no difference.
    """

    requested_at: datetime
    as_of: BrokerTime
    positions: Section[Position]
    orders: Section[Order]
    fills: Section[Fill]
    fills_cursor: Cursor | None = None
    conventions: Conventions = field(default=Conventions())
    whole: bool = True
    left_out: Mapping[str, str] = field(default_factory=dict)
    unread_legs: Mapping[str, str] = field(default_factory=dict)
    contracts: Mapping[str, ContractFacts] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    aside: tuple[Position, ...] = ()

    def instruments(self) -> frozenset[str]:
        """Every instrument that a readable row names."""
        return frozenset(
            [row.instrument for row in rows_of(self.positions)]
            + [row.instrument for row in rows_of(self.orders)]
            + [row.instrument for row in rows_of(self.fills)]
        )

    def problems(self) -> tuple[RowProblem, ...]:
        """Every unreadable row."""
        return (*problems_of(self.positions), *problems_of(self.orders), *problems_of(self.fills))


@across_versions
@dataclass(frozen=True, slots=True)
class Slice:
    """One instrument's rows of a snapshot, with the fills it has not been given yet.

    An unreadable row that names another instrument leaves this slice's section COMPLETE; one that names none makes it
    PARTIAL, as it might be ours. ``revision`` is equal for two slices of one account only when everything in them but
    the times is equal, so that an unchanged slice need not be processed again. ``answers`` are those to the queries of
    an earlier decision on this slice. ``unread_legs`` are legs of which nothing is known, with the reason. ``asked`` is
    how long after the request for this slice arrived the broker was queried (negative: before), where it comes from
    another actor, whose clock ``requested_at`` then uses. ``claims`` are what a book shows that is kept elsewhere,
    where the account has one: they are not the broker's. A ``streamed`` slice comes without a request: it has
    executions that a stream reported, the rows of their orders where it reported them, and shows nothing else.
    """

    account: str
    instrument: str
    requested_at: datetime
    as_of: BrokerTime
    positions: Section[Position]
    orders: Section[Order]
    fills: Section[Fill]
    fills_cursor: Cursor | None
    conventions: Conventions
    revision: str
    answers: tuple[OrderAnswer, ...] = ()
    whole: bool = True
    unread_legs: Mapping[str, str] = field(default_factory=dict)
    contract: ContractFacts | None = None
    evidence: tuple[Evidence, ...] = ()
    aside: tuple[Position, ...] = ()
    asked: timedelta | None = None
    claims: Claims | None = None
    streamed: bool = False

    def with_answers(self, answers: Iterable[OrderAnswer]) -> Slice:
        """The same slice, with the answers to its queries."""
        return replace(self, answers=(*self.answers, *answers))
