"""The order transition table: what to do when a broker shows an order in one status and the book has another.

Legal transitions are data. The rows follow the order they are decided in: an order the book still waits for, then one
it has already seen end. Nothing here looks at quantities, times or the network; :mod:`actors.reconciliation.orders`
does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from brokers.clocks import BrokerTime
from brokers.model import Order, OrderStatus, Side


class OrderAction(StrEnum):
    """What a pair of statuses asks for."""

    KEEP = "keep"  # nothing to do for the status itself
    UPDATE = "update"  # take the broker's status over: ORDER_UPDATED
    FILL = "fill"  # apply what is missing, then ORDER_FILLED
    CANCEL = "cancel"  # fills first, then ORDER_CANCELLED
    EXPIRE = "expire"  # fills first, then ORDER_EXPIRED
    REJECT = "reject"  # ORDER_REJECTED and a discrepancy
    REVIVE = "revive"  # the broker is right: it works again, ORDER_UPDATED with a warning


_S = OrderStatus

WHILE_WORKING: dict[OrderStatus, OrderAction] = {
    _S.PENDING_SUBMIT: OrderAction.UPDATE,
    _S.OPEN: OrderAction.UPDATE,
    _S.PARTIALLY_FILLED: OrderAction.UPDATE,
    _S.PENDING_CANCEL: OrderAction.UPDATE,
    _S.HELD: OrderAction.UPDATE,
    _S.FILLED: OrderAction.FILL,
    _S.CANCELLED: OrderAction.CANCEL,
    _S.EXPIRED: OrderAction.EXPIRE,
    _S.REJECTED: OrderAction.REJECT,
}
"""The book waits for the order, and the broker shows this."""

ONCE_ENDED: dict[OrderStatus, OrderAction] = {
    _S.PENDING_SUBMIT: OrderAction.REVIVE,
    _S.OPEN: OrderAction.REVIVE,
    _S.PARTIALLY_FILLED: OrderAction.REVIVE,
    _S.PENDING_CANCEL: OrderAction.REVIVE,
    _S.HELD: OrderAction.REVIVE,
    _S.FILLED: OrderAction.FILL,
    _S.CANCELLED: OrderAction.CANCEL,
    _S.EXPIRED: OrderAction.EXPIRE,
    _S.REJECTED: OrderAction.REJECT,
}
"""The book believes that the order has ended, and the broker shows this."""


def transition(book: OrderStatus, broker: OrderStatus) -> OrderAction:
    """What the broker's status asks for; KEEP where both agree."""
    if book is broker:
        return OrderAction.KEEP
    return (ONCE_ENDED if book.terminal else WHILE_WORKING)[broker]


OUR_ID = "client:"


@dataclass(frozen=True, slots=True)
class Inferred:
    """A fill that was concluded from an order's filled quantity and not reported yet. ``quantity`` is what of it the
    real fills have not replaced."""

    fill_id: str
    quantity: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class BookOrder:
    """An order as the book has it.

    Of ``filled_quantity``, ``adopted`` was filled before we knew the order and ``inferred`` was concluded; both give
    way, unit by unit, to the real fills as they come. What the broker corrected away lowers it and is in
    ``taken_back`` until the broker's row of the order is lowered too. What its row took out of fills that are known is
    ``lowered_by``, and a correction of them that is reported later takes out only what exceeds it. ``notional`` is
    price times quantity over all of ``filled_quantity``. ``local_at`` is the last time our side did something to the
    order. ``updated_at`` and ``filled_at`` are our time when the broker last reported a change of it, and a fill.
    ``adopted_at`` is the broker's time of the row it was adopted from: a fill after it is not among the adopted ones.
    ``recorded_at`` is our time when our side first reported it, put back with a clock that was set back.
    ``replaced_by`` is the broker_order_id of the order that took its place. ``since`` is how many positions our side
    had reported when the book had it first. ``slices`` are those of further orders at the broker that are parts of this
    one. ``parent`` is that of the order it belongs to, ``group`` the broker's name of those of which one's fill ends
    the others. ``expires_at`` is when its life ends by its own terms, where that is known.
    """

    key: str
    broker_order_id: str | None
    client_order_id: str | None
    side: Side
    quantity: Decimal
    status: OrderStatus
    filled_quantity: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    order_type: str = "UNKNOWN"
    limit_price: Decimal | None = None
    submitted_at: datetime | None = None
    leg: str | None = None
    strategy: str | None = None
    reason: str | None = None
    adopted: Decimal = Decimal(0)
    inferred: tuple[Inferred, ...] = field(default=())
    local_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None
    filled_at: datetime | None = None
    adopted_at: BrokerTime | None = None
    recorded_at: datetime | None = None
    replaced_by: str | None = None
    taken_back: Decimal = Decimal(0)
    since: int = 0
    slices: tuple[str, ...] = ()
    parent: str | None = None
    expires_at: BrokerTime | None = None
    lowered_by: Decimal = Decimal(0)
    group: str | None = None

    def after_fill(
        self,
        filled_quantity: Decimal,
        notional: Decimal,
        adopted: Decimal,
        inferred: tuple[Inferred, ...],
        status: OrderStatus,
        ended_at: datetime | None,
        local_at: datetime | None,
        filled_at: datetime | None,
    ) -> BookOrder:
        """The order with these in the place of its own. (Made field by field: ``dataclasses.replace`` takes several
        times as long, and this is done for each fill.)"""
        return BookOrder(
            self.key,
            self.broker_order_id,
            self.client_order_id,
            self.side,
            self.quantity,
            status,
            filled_quantity,
            notional,
            self.order_type,
            self.limit_price,
            self.submitted_at,
            self.leg,
            self.strategy,
            self.reason,
            adopted,
            inferred,
            local_at,
            ended_at,
            self.updated_at,
            filled_at,
            self.adopted_at,
            self.recorded_at,
            self.replaced_by,
            self.taken_back,
            self.since,
            self.slices,
            self.parent,
            self.expires_at,
            self.lowered_by,
            self.group,
        )

    def without(self, quantity: Decimal) -> tuple[Decimal, Decimal]:
        """What is still to be taken out of it when the broker says that so much of its fills never was, and what is
        left of ``lowered_by`` then. (A negative quantity is so much more.)"""
        taken = max(min(quantity, self.lowered_by), Decimal(0))
        return quantity - taken, self.lowered_by - taken

    @property
    def subject(self) -> str:
        """What its discrepancies are keyed by: the broker's id, else ours, distinguished from other orders that bear
        it."""
        return self.broker_order_id or self.key.removeprefix(OUR_ID)

    @property
    def quantity_in_fills(self) -> Decimal:
        """How much of what is filled is known fill by fill."""
        return self.filled_quantity - self.adopted - sum((i.quantity for i in self.inferred), Decimal(0))

    @property
    def average_fill_price(self) -> Decimal | None:
        """The average price of what is filled; ``None`` while nothing is."""
        return self.notional / self.filled_quantity if self.filled_quantity else None


def order_key(broker_order_id: str | None, client_order_id: str | None) -> str:
    """The name an order keeps in its book for life, from the ids known when it was first seen."""
    return f"broker:{broker_order_id}" if broker_order_id is not None else f"{OUR_ID}{client_order_id}"


def same_terms(ours: BookOrder, theirs: Order) -> bool:
    """Whether what was ordered (not what became of it) is the same on both sides. A limit price the broker does not
    show is no difference."""
    return (
        ours.quantity == theirs.quantity and theirs.limit_price in (None, ours.limit_price) and ours.side is theirs.side
    )


def merged(ours: BookOrder, theirs: BookOrder, told: Decimal | None, average: Decimal | None) -> BookOrder:
    """Two orders that turn out to be one: ours, with what the broker's has. ``told`` and ``average`` are what the
    broker says to be filled of it, where it does. A fill was counted in one of the two, so that the fills that are
    known add up; what was adopted or inferred beside them is as much as is left of what is filled."""
    known = ours.quantity_in_fills + theirs.quantity_in_fills
    filled = max(known, theirs.filled_quantity if told is None else told)
    left = filled - known
    inferred: list[Inferred] = []
    for guess in (*ours.inferred, *theirs.inferred):
        part = min(guess.quantity, left)
        if part:
            inferred.append(replace(guess, quantity=part))
            left -= part
    both, paid = ours.filled_quantity + theirs.filled_quantity, ours.notional + theirs.notional
    if average is not None and told == filled:
        notional = average * filled
    else:
        notional = paid * filled / both if both else Decimal(0)
    return replace(
        ours,
        broker_order_id=theirs.broker_order_id,
        quantity=theirs.quantity,
        status=theirs.status,
        ended_at=theirs.ended_at,
        filled_quantity=filled,
        notional=notional,
        adopted=left,
        adopted_at=theirs.adopted_at,
        inferred=tuple(inferred),
        limit_price=theirs.limit_price or ours.limit_price,
        submitted_at=ours.submitted_at or theirs.submitted_at,
        leg=ours.leg or theirs.leg,
        strategy=ours.strategy or theirs.strategy,
        replaced_by=theirs.replaced_by or ours.replaced_by,
        taken_back=ours.taken_back + theirs.taken_back,
        lowered_by=ours.lowered_by + theirs.lowered_by,
        since=min(ours.since, theirs.since),
        slices=theirs.slices or ours.slices,
        parent=theirs.parent or ours.parent,
        expires_at=theirs.expires_at or ours.expires_at,
        group=theirs.group or ours.group,
    )


def with_slice(whole: BookOrder, part: BookOrder, told: Decimal, average: Decimal | None) -> BookOrder:
    """An order with another one of the book's that turns out to be a part of it. ``told`` and ``average`` are what the
    broker says to be filled of the whole."""
    both = merged(whole, part, told, average)
    return replace(
        both,
        broker_order_id=whole.broker_order_id,
        quantity=whole.quantity,
        status=whole.status,
        ended_at=whole.ended_at,
        adopted_at=whole.adopted_at or part.adopted_at if both.adopted else whole.adopted_at,
        limit_price=whole.limit_price,
        slices=whole.slices,
        parent=whole.parent,
        expires_at=whole.expires_at,
        replaced_by=whole.replaced_by,
    )
