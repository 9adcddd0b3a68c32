"""Sends recorded orders from the book of a paper account to its venue.

The laws of this module: the order is durable in the book before it is sent; it is sent only while the book knows
nothing of it at the venue, and the venue accepts it once, by its client order id, however often it arrives. If sending
fails, nothing breaks: the order is missing at the venue, and is handled like any missing order.
"""

from __future__ import annotations

from collections.abc import Sequence

from loguru import logger

from actors.book.book import Book
from actors.book.orders import BookOrder
from actors.reconciliation.own_reports import OrderReport, Report
from actors.runtime.ports import CallError, Runtime
from brokers.errors import BrokerError
from brokers.model import OrderStatus

HAND_OVER_WITHIN_S = 5.0


def to_hand_over(book: Book, reports: Sequence[Report]) -> tuple[BookOrder, ...]:
    """The orders among these reports that the venue must receive: recorded as about to be sent, and not known at the
    venue by anything in the book. A repeated report sends them again, since an earlier answer may have been lost."""
    found: dict[str, BookOrder] = {}
    for report in reports:
        if not isinstance(report, OrderReport) or report.client_order_id is None:
            continue
        order = book.find_order(report.broker_order_id, report.client_order_id)
        if order is not None and order.status is OrderStatus.PENDING_SUBMIT and order.broker_order_id is None:
            found[order.key] = order
    return tuple(found.values())


async def hand_over(runtime: Runtime, account: str, instrument: str, orders: Sequence[BookOrder]) -> None:
    """Send orders to the account's venue. Never raises: later cycles show what the venue does not have."""
    for place, order in enumerate(orders):
        terms = (order.side, order.quantity, order.order_type, order.limit_price)
        try:
            await runtime.call(
                account, "venue_submit", instrument, order.client_order_id, *terms, timeout_s=HAND_OVER_WITHIN_S
            )
        except BrokerError as refused:
            logger.warning("{}/{}: {}", account, instrument, refused)
        except CallError as error:
            names = ", ".join(str(left.client_order_id) for left in orders[place:])
            logger.warning(
                "{}/{}: {}. Whether these orders are at the venue is not known: {}. Record them again",
                account,
                instrument,
                error,
                names,
            )
            return
        except Exception:  # noqa: BLE001 - the report is durable, and its sender must get that answer
            logger.exception("{}/{}: an internal error while handing over an order", account, instrument)
