"""What a broker said at one moment, in terms no broker owns.

The laws of this module:

* Each section of a snapshot is one of four *types*: :class:`Complete`, :class:`Partial`, :class:`Failed` or
  :class:`Unsupported`. The absence of a row means "none" in a :class:`Complete` section and nothing elsewhere.
* Quantities and prices are ``Decimal``; times are aware UTC; a leg's quantity is signed, short is negative;
  the quantity of an order or a fill is unsigned beside its :class:`Side`.
* Everything here is frozen, compares by value, and imports no clock, no socket and no other module of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar

NET = "net"
LONG = "long"
SHORT = "short"

Cursor = int
"""A place in a broker's sequence of fills, growing with time: OANDA's transaction id, MT5's epoch second.
An adapter gives one out with each snapshot and takes it back to say what came after it."""


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
    """Where an order stands. A broker's own words are mapped onto these in its ``decode`` module."""

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


_TERMINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


class Completeness(StrEnum):
    """The name of a section's type, for people and JSON."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    UNSUPPORTED = "UNSUPPORTED"


def is_provisional(broker_order_id: str | None) -> bool:
    """Whether a broker_order_id was good for one session of the broker's alone: IB's client and order id, ``17/4``, as
    long as an order has no permId. After a restart it may be another order's, so the client's id decides then."""
    return broker_order_id is not None and "/" in broker_order_id


class LegScheme(StrEnum):
    """How an account names the legs of a position."""

    NET = "net"  # one leg, "net"
    SIDED = "sided"  # "long" and "short" may stand side by side
    TICKET = "ticket"  # a leg for each position ticket


class IdScope(StrEnum):
    """Within what an id means one thing only. Each adapter states it in its :class:`Conventions`."""

    ACCOUNT = "account"  # in the account, for ever
    TRADING_DAY_AND_SIDE = (
        "trading day and side"  # of an instrument; tomorrow it comes again, and a match has two sides
    )


class CostBasis(StrEnum):
    """What closing a part of a leg does to the average price that the broker reports for it."""

    WEIGHTED = "weighted"  # it stays
    FIFO = "fifo"  # it becomes the average of the lots that are left
    ALL_OPENING = "all_opening"  # it is that of everything traded on the leg's side since the row began, closed or not


@dataclass(frozen=True, slots=True)
class Conventions:
    """An account's way of keeping positions; it decides which leg a fill joins and at what average price.

    ``commission_in_average``: the average that the broker reports contains the commissions of the fills that opened the
    leg (a cost raises a long leg's average and lowers a short one's), spread over its units. ``unique_client_ids``: a
    client_order_id is meant for one order, so that two working ones of it are one too many. ``products``: a netting
    account has a leg for each of the broker's products instead of one.

    ``client_id_length`` is how many characters of a client_order_id the broker keeps, ``None`` where that is not known
    to be less than anybody writes. ``negative_prices`` are how the names of instruments begin whose price may be below
    zero: all of them where nothing rules it out.

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
        """Whether a price of that instrument may be."""
        return instrument.startswith(self.negative_prices)

    def kept_of(self, client_order_id: str) -> str:
        """What the broker keeps of a client's id."""
        return client_order_id[: self.client_id_length]

    @property
    def told_legs(self) -> bool:
        """Whether only the broker can say which leg a fill changed: tickets and products are no matter of sides."""
        return self.products or self.legs is LegScheme.TICKET

    def fill_scope(self, side: Side, time: datetime) -> str:
        """What tells a fill from another one of the same ``fill_id``, as its ``id_scope``; empty where nothing need."""
        if self.fill_ids is IdScope.ACCOUNT:
            return ""
        return f"{self.day_of(time)} {side.value}"

    def day_of(self, time: datetime) -> str:
        """The broker's trading day of a time."""
        return (time + self.day_ahead_of_utc).date().isoformat()


class Reason(StrEnum):
    """What ended or changed a position, or placed an order, other than its owner's trading. An adapter gives one only
    where its broker says so or shows it; :mod:`actors.book.discrepancies` has the evidence that each one takes."""

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


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """What the broker tells of an instrument itself; ``None`` where it does not tell.

    ``identity`` is the broker's lasting id of it, whatever its name: IB's conId, Kite's ISIN. ``expiry`` is the last
    day on which it can be held, by its exchange's calendar. ``underlying`` is the instrument it settles in, by this
    account's name where it has one. ``multiplier`` is what one unit is worth in ``currency`` where the price is 1: 100
    for an option on 100 shares, 0.01 where prices are quoted in hundredths. What can not be ``held``, a combination, is
    traded under a name of its own and held as its legs. ``ends_at`` is when its last session ends, where the adapter
    knows the calendar of its exchange. An expiry that is not ``expiry_certain`` was told, and is no evidence of an end:
    the day may have been moved since, or what was traded until then is not known.
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
    ends_at: datetime | None = None
    expiry_certain: bool = True

    def has_expired(self, at: datetime) -> bool:
        """Whether it is sure that it can be held no more at that time (broker time). Where the end of its last session
        is not told the day is UTC's, which no exchange's close of that day is ahead of."""
        if self.expiry is None or not self.expiry_certain:
            return False
        return at.date() >= self.expiry if self.ends_at is None else at >= self.ends_at


@dataclass(frozen=True, slots=True)
class Evidence:
    """A change of one leg that no fill explains, as the broker tells it or shows it in two snapshots.

    ``change`` is signed, in the leg's units, and ``None`` where all of it is gone, however much that was. ``price`` is
    the price it was settled at, ``None`` for none told. ``ratio`` is new units per old one (4 for a 4:1 split).
    ``moved_to`` is the leg of the same instrument that has it now (conversion, settlement, a renamed ticket).
    ``became`` is how much of another instrument is held in its place. ``linked`` are the other instruments it touches
    (the stock that an assigned put became). ``text`` quotes what the broker said. It is told in every snapshot that may
    still show the change for the first time to somebody; whoever has dealt with the change ignores it.
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


@dataclass(frozen=True, slots=True)
class Position:
    """One leg of one instrument as the broker holds it. ``quantity`` is signed and never zero. An ``average_price``
    that is not ``price_told`` is 0 and says nothing. ``open_average`` is the average of what is left, where the
    account's ``cost_basis`` makes ``average_price`` something else and the adapter can work it out."""

    instrument: str
    leg: str
    quantity: Decimal
    average_price: Decimal
    open_average: Decimal | None = None
    price_told: bool = True

    @property
    def comparable_price(self) -> Decimal | None:
        """The average of what is left; ``None`` where that is not known."""
        if not self.price_told:
            return None
        return self.average_price if self.open_average is None else self.open_average


@dataclass(frozen=True, slots=True)
class Order:
    """One order as the broker shows it.

    ``broker_order_id`` is IB's permId, OANDA's order id, Kite's order_id, MT5's order ticket;
    ``client_order_id`` IB's orderRef, OANDA's clientExtensions.id, Kite's tag, MT5's comment.
    ``filled_quantity`` is cumulative and ``average_fill_price`` its average, ``None`` where not told.
    ``leg`` names the leg the order works on where the broker says so. ``reason`` is the broker's word for why it
    ended as it did. ``replaced_by`` is the broker_order_id of the order that took its place. ``origin`` is set where
    the broker, or an order of ours at it, placed the order; ``parent`` is the broker_order_id of the latter, or the
    fill_id of a fill of it. A
    ``quantity`` of 0 is one that the broker did not tell (an order for an amount of cash).
    One that ``waits_for_open`` is held by its broker until its market opens, and is not stale before; ``working_since``
    is when it opened for it, ``None`` for ``submitted_at``. ``expires_at`` is when its life ends by its own terms and
    its market's hours, ``None`` where that is not known. One that is ``presumed`` ended so by its terms alone: its
    broker has forgotten it, and whether it was filled before is for the positions to tell. ``slices`` are
    the broker_order_ids of further orders at the broker that are parts of this one: its quantities are the sums of all.
    One that is ``growing`` may have parts that are still to be placed or shown: its quantity is no less than this.
    ``group`` is the broker's name of a group of orders of which one's fill ends the others (IB's OCA group).
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
    submitted_at: datetime | None = None
    leg: str | None = None
    reason: str | None = None
    replaced_by: str | None = None
    origin: Reason | None = None
    parent: str | None = None
    waits_for_open: bool = False
    slices: tuple[str, ...] = ()
    expires_at: datetime | None = None
    working_since: datetime | None = None
    presumed: bool = False
    growing: bool = False
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Corrected:
    """An execution as its broker told it before it corrected it."""

    fill_id: str
    quantity: Decimal
    price: Decimal
    id_scope: str = ""

    @property
    def key(self) -> str:
        """What tells it from every other fill of its instrument."""
        return scoped_id(self.fill_id, self.id_scope) if self.id_scope else self.fill_id


def scoped_id(fill_id: str, id_scope: str) -> str:
    """An id that is unique for ever, from one that is unique in a scope."""
    return f"{fill_id}|{id_scope}" if id_scope else fill_id


def id_in_scope(key: str) -> str:
    """The broker's own id, from what :func:`scoped_id` made of it: what people are shown."""
    return key.partition("|")[0]


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. ``fill_id`` is IB's execId, OANDA's transaction id, Kite's trade_id, MT5's deal ticket, and unique
    within ``id_scope`` (see :class:`IdScope`), which is empty where that is the account for ever. ``leg`` is set where
    the broker says which leg it changed; ``position_id`` is MT5's.

    ``commission`` is what the broker charged for it, in ``commission_currency`` where that is told; a cost is
    positive, ``None`` is not told. A fill that ``corrects`` another takes its place, under an id of its own; only such
    a one may have the quantity 0, which takes the execution back. ``reason`` is set where the broker says that
    something else than an order of the owner's made it. One that is ``closing`` by its broker's word opens nothing:
    what of it finds no leg to close was never in the book. ``combination`` is the
    instrument of the combination whose order it belongs to, if any, and ``owner`` the strategy of that order, which the
    combination's own book knows: a fill of that instrument itself counts in the
    order and moves no leg, as the legs of a combination have fills of their own.
    """

    instrument: str
    fill_id: str
    broker_order_id: str | None
    side: Side
    quantity: Decimal
    price: Decimal
    time: datetime
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
        """What tells it from every other fill of its instrument."""
        return scoped_id(self.fill_id, self.id_scope) if self.id_scope else self.fill_id

    @property
    def account_key(self) -> str:
        """What tells it from every other fill of the account. One that is unique there for ever is the same under any
        name of its instrument."""
        return f"{self.key}|{self.instrument}" if self.id_scope else self.fill_id


@dataclass(frozen=True, slots=True)
class StreamedFill:
    """An execution that a broker's stream told by itself: it happened, and nothing follows of what else did or did not.
    ``order`` is the row of its order, as this execution left it, where the stream told of that too. ``identity`` is the
    broker's lasting id of what was traded, where names can come to mean something else."""

    fill: Fill
    order: Order | None = None
    identity: str | None = None


class SectionName(StrEnum):
    """The three sections of a snapshot."""

    POSITIONS = "positions"
    ORDERS = "orders"
    FILLS = "fills"


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that could not be read. ``instrument`` and ``key`` are what of it could; ``text`` says what was wrong
    and quotes the row, scrubbed of credentials and cut to a readable length. ``again_at`` is set where what is in doubt
    now is believed then, if it still stands: a verdict looks again."""

    section: SectionName
    instrument: str | None
    key: str | None
    text: str
    again_at: datetime | None = None


AnyRow = Position | Order | Fill
Row = TypeVar("Row", bound=AnyRow, covariant=True)


@dataclass(frozen=True, slots=True)
class Complete(Generic[Row]):
    """Every row there is. Only here does the absence of a row mean that there is none."""

    rows: tuple[Row, ...] = ()
    completeness = Completeness.COMPLETE


@dataclass(frozen=True, slots=True)
class Partial(Generic[Row]):
    """Some rows; what is not here may well exist. ``problems`` are the rows that could not be read."""

    rows: tuple[Row, ...] = ()
    problems: tuple[RowProblem, ...] = ()
    completeness = Completeness.PARTIAL


@dataclass(frozen=True, slots=True)
class Failed:
    """The broker was asked and did not answer readably. Nothing is known. What is ``disbelieved`` was answered, and
    contradicts what is known in a way that only a second source or a person can settle."""

    reason: str
    disbelieved: bool = False
    completeness = Completeness.FAILED


@dataclass(frozen=True, slots=True)
class Unsupported:
    """This broker or gateway has no such thing. Nothing is known, and nothing is amiss."""

    completeness = Completeness.UNSUPPORTED


Section = Complete[Row] | Partial[Row] | Failed | Unsupported


def rows_of(section: Section[Row]) -> tuple[Row, ...]:
    """The rows a section does hold; their number proves nothing unless it is :class:`Complete`."""
    return section.rows if isinstance(section, Complete | Partial) else ()


def problems_of(section: Section[Row]) -> tuple[RowProblem, ...]:
    """The unreadable rows of a section."""
    return section.problems if isinstance(section, Partial) else ()


def section(rows: Iterable[Row], problems: Iterable[RowProblem] = ()) -> Complete[Row] | Partial[Row]:
    """A section from what a decoder read: :class:`Partial` as soon as one row could not be read."""
    unreadable = tuple(problems)
    return Partial(tuple(rows), unreadable) if unreadable else Complete(tuple(rows))


@dataclass(frozen=True, slots=True)
class OrderQuery:
    """Asks for one order by the ids known of it; at least one is set."""

    instrument: str
    broker_order_id: str | None
    client_order_id: str | None


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """A broker's answer to an :class:`OrderQuery`.

    ``order`` is the row it has; ``None`` is the broker's own word that it knows no such order. ``failure`` is set
    when the question could not be answered, and then ``order`` proves nothing; ``again_at`` is set where it will be by
    then. ``fills`` are those of this order which came with the answer.
    """

    query: OrderQuery
    order: Order | None = None
    fills: tuple[Fill, ...] = ()
    failure: str | None = None
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One leg as a book says that somebody else keeps (a table), from its newest row of it.

    ``at`` is that row's own time. ``average_price`` is ``None`` where the book tells none. ``quantity_step`` and
    ``price_step`` are how finely the book can tell a number of this size at all; on a ``grid`` it tells every multiple
    of the step exactly (a decimal column), else only about (a float). ``discrepancy`` is the break that the row was
    written to correct, where it is one of our own.
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

    def tells_quantity(self, quantity: Decimal) -> bool:
        """Whether a book that holds this quantity would say what this row says."""
        return _told_as(self.quantity, quantity, self.quantity_step, grid=self.quantity_grid)

    def tells_price(self, price: Decimal) -> bool:
        """Whether a book that has this average price would say what this row says, as far as it says one."""
        return self.average_price is None or _told_as(self.average_price, price, self.price_step, grid=self.price_grid)


def _told_as(told: Decimal, number: Decimal, step: Decimal, *, grid: bool) -> bool:
    if told == number:
        return True
    if not step or (grid and (number / step) % 1 == 0):
        return False
    return abs(told - number) < step


@dataclass(frozen=True, slots=True)
class ClaimDoubt:
    """Why it is not known what somebody else's book says of a leg (``None``: of the whole instrument): it is ``stale``,
    or else cannot be read. ``text`` names the column and what to do."""

    leg: str | None
    stale: bool
    text: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a book that somebody else keeps says of one instrument. A leg that is in no row is not held by it, unless a
    doubt concerns it."""

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
    """What one account's broker said in answer to one request (or one group of them).

    ``requested_at`` is our time just before the first request left: the snapshot contains everything the broker
    knew by then. ``as_of`` is the broker's time of it (ours where the broker tells none): fills not after it are
    contained in ``positions``. ``fills`` holds every fill after the cursor that was asked for, and
    ``fills_cursor`` is what to ask with next time; ``None`` where fills are not supported. One that is not ``whole`` is
    an earlier answer carried on with what the broker said had changed: a mistake in that answer is still in it.

    The rows are those of what the adapter was told to look at. ``left_out`` are the instruments of which it saw a row
    and left it out, and ``unread_legs`` the legs that it does not read, each with why and what to do: of these nothing
    is known, however COMPLETE a section is.

    ``contracts`` are the facts of the instruments it speaks of, and ``evidence`` is what explains changes that no fill
    does; both are what the adapter knows, and an absence in them says nothing.
    ``aside`` are legs that the adapter looks at and was told not to take up (delivered stock): what left another leg
    may have gone there, and what is there and was never in a book is no difference.
    """

    requested_at: datetime
    as_of: datetime
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
        """Every instrument that a readable row speaks of."""
        return frozenset(
            [row.instrument for row in rows_of(self.positions)]
            + [row.instrument for row in rows_of(self.orders)]
            + [row.instrument for row in rows_of(self.fills)]
        )

    def problems(self) -> tuple[RowProblem, ...]:
        """Every unreadable row."""
        return (*problems_of(self.positions), *problems_of(self.orders), *problems_of(self.fills))


@dataclass(frozen=True, slots=True)
class Slice:
    """One instrument's rows of a snapshot, with the fills it has not been given yet.

    An unreadable row that names another instrument leaves this slice's section COMPLETE; one that names none makes
    it PARTIAL, as it might be ours. ``revision`` is equal for two slices of one account only when all they say but
    the times is equal, so that an unchanged slice need not be read again. ``answers`` are those to the questions
    that an earlier decision on this slice asked. ``unread_legs`` are legs of which nothing is known, with the reason.
    ``asked`` is how long after the request for this slice arrived its broker was asked (negative: before), where it
    comes from another actor, by whose clock ``requested_at`` then is. ``claims`` are what a book says that is kept
    elsewhere, where the account has one: it is no word of the broker's. One that is ``streamed`` was asked of nobody:
    it has executions that a stream told, the rows of their orders where it told them, and says nothing of anything
    else.
    """

    account: str
    instrument: str
    requested_at: datetime
    as_of: datetime
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
        """The same slice, and the answers to what was asked about it."""
        return replace(self, answers=(*self.answers, *answers))
