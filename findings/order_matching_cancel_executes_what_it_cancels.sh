#!/usr/bin/env bash
# order-matching 0.12.0: the cancel of an order that waits for match() executes it first, and the trade is handed out to nobody.
#
# One would guess: place() places without matching, match() matches and returns all trades, cancel_order() takes one order away and no more.
# What happens: cancel_order() calls match() itself, with the time at which the cancelled order was made, and drops what match() returns. All
#   that was placed is matched before the cancel, the order that shall go included. A limit is rounded to one decimal unless told otherwise.
# Seen: bid for 100 at 10.0, offer of 100 at 10.0 placed and cancelled at once: both are gone from the book, and match() has no trade. A cancel
#   of another bid has 100 traded as well, without a trade. A bid of 10.26 is one of 10.3, and buys at 10.3; an offer of 0.04 is one of 0.0.
# Why it matters: in a simulation or a paper account both sides have their orders filled and nobody's position has changed; who sums up the
#   trades is 100 short of what left the book. Its REST API cancels in this way, too.
# Instead: call match() right before each cancel_order() and keep its trades; give each order price_number_of_digits.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'order-matching[polars]==0.12.0' 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

LOGURU_LEVEL=ERROR venv/bin/python - <<'PY'
from datetime import datetime, timedelta
from importlib.metadata import version

from order_matching.enums import Side
from order_matching.matching_engine import MatchingEngine
from order_matching.order import LimitOrder
from order_matching.orders import Orders

print("order-matching", version("order-matching"))
NOON = datetime(2026, 1, 5, 12)


def order(order_id, side, price, minute):
    at = NOON + timedelta(minutes=minute)
    return LimitOrder(side=side, price=price, size=100, timestamp=at, order_id=order_id, trader_id=order_id)


def cancelled(order_id, *bids, trades_first=False):
    """The book and all trades after an offer at 10.0 came and `order_id` was cancelled."""
    engine = MatchingEngine(seed=1)
    engine.place(Orders(bids))
    assert engine.match(NOON).trades == []
    engine.place(Orders([order("offer", Side.SELL, 10.0, 1)]))
    trades = engine.match(NOON + timedelta(minutes=1)).trades if trades_first else []
    engine.cancel_order(order_id)
    trades += engine.match(NOON + timedelta(minutes=2)).trades
    book = engine.unprocessed_orders
    return book.bids_depth, book.asks_depth, [(trade.book_order_id, trade.price, trade.size) for trade in trades]


bid, low = ("bid", Side.BUY, 10.0, 0), ("low", Side.BUY, 9.0, 0)
itself = cancelled("offer", order(*bid))
other = cancelled("low", order(*bid), order(*low))
matched = cancelled("low", order(*bid), order(*low), trades_first=True)
print("the offer cancelled:         bids, offers, trades", *itself)
print("another bid cancelled:       bids, offers, trades", *other)
print("the same, match() before it: bids, offers, trades", *matched)
assert itself == ([], [], [])
assert other == ([], [], [])
assert matched == ([], [], [("bid", 10.0, 100)])

rounded = [order("a", Side.BUY, 10.26, 0).price, order("b", Side.SELL, 0.04, 0).price]
print("limits of 10.26 and 0.04 are", *rounded)
assert rounded == [10.3, 0.0]
engine = MatchingEngine(seed=1)
engine.place(Orders([order("offer", Side.SELL, 10.3, 0), order("bid", Side.BUY, 10.26, 1)]))
bought = [(trade.price, trade.size) for trade in engine.match(NOON).trades]
print("the bid of 10.26 buys at", bought)
assert bought == [(10.3, 100)]
print("as stated")
PY
