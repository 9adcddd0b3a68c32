"""The order transition table: what to do when a broker shows an order in one status and the book has another.

Legal transitions are data: one table for an order that the book still waits for, one for an order that the book has
seen end. Nothing here looks at quantities, times or the network; :mod:`actors.reconciliation.orders` does.
"""

from __future__ import annotations

from dataclasses import field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from brokers.clocks import BrokerTime
from brokers.frozen import dataclass
from brokers.model import Order, OrderStatus, Side
from brokers.versions import across_versions


class OrderAction(StrEnum):
    """What to do for a pair of statuses."""

    KEEP = "keep"  # nothing to do for the status itself
    UPDATE = "update"  # take over the broker's status: ORDER_UPDATED
    FILL = "fill"  # apply the missing fills, then ORDER_FILLED
    CANCEL = "cancel"  # fills first, then ORDER_CANCELLED
    EXPIRE = "expire"  # fills first, then ORDER_EXPIRED
    REJECT = "reject"  # ORDER_REJECTED and a discrepancy
    REVIVE = "revive"  # the broker is right: the order works again, ORDER_UPDATED with a warning


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
"""The action by the broker's status, while the order has not ended in the book."""

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
"""The action by the broker's status, once the order has ended in the book."""


def transition(book: OrderStatus, broker: OrderStatus) -> OrderAction:
    """The action for the broker's status; KEEP if both agree."""
    if book is broker:
        return OrderAction.KEEP
    return (ONCE_ENDED if book.terminal else WHILE_WORKING)[broker]


OUR_ID = "client:"


@across_versions
@dataclass(frozen=True, slots=True)
class Inferred:
    """A fill that was inferred from an order's filled quantity and is not reported yet. ``quantity`` is the part that
    real fills have not replaced yet."""

    fill_id: str
    quantity: Decimal
    price: Decimal


@across_versions
@dataclass(frozen=True, slots=True)
class BookOrder:
    """An order as the book has it.

    Of ``filled_quantity``, ``adopted`` was filled before we knew the order and ``inferred`` was inferred; real fills
    replace both, unit by unit, as they arrive. A quantity that the broker corrected away is subtracted from it and kept
    in ``taken_back`` until the broker's row shows the lower quantity too. ``lowered_by`` is the quantity by which a row
    lowered known fills; a later correction of them subtracts only the excess. ``notional`` is price times quantity over
    all of ``filled_quantity``. ``local_at`` is when our side last acted on the order. ``updated_at`` and ``filled_at``
    are our times when the broker last reported a change, and a fill. ``adopted_at`` is the broker's time of the row it
    was adopted from: a later fill is not among the adopted ones. ``recorded_at`` is our time when our side first
    reported it, put back whenever our clock is set back. ``replaced_by`` is the broker_order_id of the order that
    replaced it. ``since`` is the number of positions that our side had reported when the order entered the book.
    ``slices`` are the broker_order_ids of its further parts at the broker, ``parent`` that of the order it belongs to.
    ``group`` is the broker's name for orders of which a fill of one ends the others. ``expires_at`` is when the order
    expires by its own terms, if known. ``trigger_price`` is where an order with a limit begins to work, as the broker
    reports it; our side reports none.
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
    trigger_price: Decimal | None = None

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
        """The order with these values. (Built field by field: ``dataclasses.replace`` takes several times as long, and
        this runs for each fill.)"""
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
            self.trigger_price,
        )

    def without(self, quantity: Decimal) -> tuple[Decimal, Decimal]:
        """How much to subtract when the broker takes back this quantity of the order's fills, and the remaining
        ``lowered_by``. (A negative quantity adds.)"""
        taken = max(min(quantity, self.lowered_by), Decimal(0))
        return quantity - taken, self.lowered_by - taken

    @property
    def subject(self) -> str:
        """The key of its discrepancies: the broker's id, else ours, made unique among the orders that share it."""
        return self.broker_order_id or self.key.removeprefix(OUR_ID)

    @property
    def quantity_in_fills(self) -> Decimal:
        """The part of the filled quantity that is known fill by fill."""
        return self.filled_quantity - self.adopted - sum((i.quantity for i in self.inferred), Decimal(0))

    @property
    def average_fill_price(self) -> Decimal | None:
        """The average price of the filled quantity; ``None`` while nothing is filled."""
        return self.notional / self.filled_quantity if self.filled_quantity else None


def order_key(broker_order_id: str | None, client_order_id: str | None) -> str:
    """The permanent key of an order in its book, from the ids known when it was first seen."""
    return f"broker:{broker_order_id}" if broker_order_id is not None else f"{OUR_ID}{client_order_id}"


def same_terms(ours: BookOrder, theirs: Order) -> bool:
    """Whether both sides have the same terms (side, quantity, limit price), whatever was filled. A quantity or a limit
    price that the broker does not show is no difference."""
    same_quantity = not theirs.quantity or ours.quantity == theirs.quantity
    return same_quantity and theirs.limit_price in (None, ours.limit_price) and ours.side is theirs.side


def merged(ours: BookOrder, theirs: BookOrder, reported: Decimal | None, average: Decimal | None) -> BookOrder:
    """Two orders that turn out to be one: ours, completed from the broker's. ``reported`` and ``average`` are its
    filled quantity and average price as the broker reports them, if it does. Each fill was counted in one of the two,
    so the known fills add up; adopted and inferred units make up the rest of the filled quantity."""
    known = ours.quantity_in_fills + theirs.quantity_in_fills
    filled = max(known, theirs.filled_quantity if reported is None else reported)
    left = filled - known
    inferred: list[Inferred] = []
    for guess in (*ours.inferred, *theirs.inferred):
        part = min(guess.quantity, left)
        if part:
            inferred.append(replace(guess, quantity=part))
            left -= part
    both, paid = ours.filled_quantity + theirs.filled_quantity, ours.notional + theirs.notional
    if average is not None and reported == filled:
        notional = average * filled
    else:
        notional = paid * filled / both if both else Decimal(0)
    return replace(
        ours,
        broker_order_id=theirs.broker_order_id,
        quantity=theirs.quantity or ours.quantity,
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
        trigger_price=theirs.trigger_price or ours.trigger_price,
    )


def with_slice(whole: BookOrder, part: BookOrder, reported: Decimal, average: Decimal | None) -> BookOrder:
    """An order merged with another one of the book that turns out to be a part of it. ``reported`` and ``average`` are
    the whole order's filled quantity and average price as the broker reports them."""
    both = merged(whole, part, reported, average)
    return replace(
        both,
        broker_order_id=whole.broker_order_id,
        quantity=whole.quantity,
        status=whole.status,
        ended_at=whole.ended_at,
        adopted_at=whole.adopted_at or part.adopted_at if both.adopted else whole.adopted_at,
        limit_price=whole.limit_price,
        trigger_price=whole.trigger_price,
        slices=whole.slices,
        parent=whole.parent,
        expires_at=whole.expires_at,
        replaced_by=whole.replaced_by,
    )
