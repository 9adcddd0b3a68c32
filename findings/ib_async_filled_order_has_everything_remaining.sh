#!/usr/bin/env bash
# ib_async: an order whose status is Filled has filled() 0 and remaining() all of it.
#
# One would guess: Trade.filled() and Trade.remaining() tell what the order status tells.
# What happens: both add up the executions received. When the status comes first (or another client placed the
#   order and its executions were never sent) isDone() is True, orderStatus.filled 10, filled() 0 and
#   remaining() 10.
# Why it matters: code that trusts remaining() of a done trade sends the ten again.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ib_async==2.1.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ib_async".split():
    print(package, version(package))

from ib_async import IB, MarketOrder, OrderStatus, Stock, Trade
from ib_async.decoder import Decoder

ib = IB()
ib.wrapper.clientId = 1
order = MarketOrder("BUY", 10, orderId=3, clientId=1, permId=9)
trade = Trade(Stock("SPY", "SMART", "USD"), order, OrderStatus(orderId=3, status="Submitted"), [], [])
ib.wrapper.trades[(1, 3)] = ib.wrapper.permId2Trade[9] = trade
Decoder(ib.wrapper, 178).interpret(["3", "3", "Filled", "10", "0", "1.5", "9", "0", "1.5", "1", "", "0"])
status = trade.orderStatus
print("isDone:", trade.isDone(), "| status:", status.status, status.filled, status.remaining,
      "| filled():", trade.filled(), "| remaining():", trade.remaining())
assert trade.isDone() and status.filled == 10 and status.remaining == 0
assert trade.filled() == 0 and trade.remaining() == 10
print("as stated")
PY
