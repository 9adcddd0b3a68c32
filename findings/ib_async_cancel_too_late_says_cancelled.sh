#!/usr/bin/env bash
# ib_async: a cancel that comes too late, because the order is filled, sets the order to Cancelled.
#
# One would guess: TWS's refusal of the cancel (10148 "cannot be cancelled, state: Filled", or 161 "not in a cancellable state")
#   leaves the order as it was and is reported as an error of the request.
# What happens: any error with the id of an order, but for a list of warnings, sets the trade to Cancelled, fires cancelledEvent
#   and takes it out of openTrades(). The message is in the log entry; filled is still 0.
# Why it matters: "cancelled with nothing filled, so send the next one" is the usual step after a cancel, and it doubles the
#   position: the fill is told a moment later.
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

import logging

from ib_async import IB, LimitOrder, OrderStatus, Stock, Trade

logging.disable(logging.CRITICAL)
ib = IB()
ib.wrapper.clientId = 1
contract = Stock("AAPL", "SMART", "USD", conId=265598)

for number, (code, text) in enumerate([(10148, "OrderId that needs to be cancelled cannot be cancelled, state: Filled."), (161, "Cancel attempted when order is not in a cancellable state.")], 1):
    order = LimitOrder("BUY", 100, 10.0, orderId=number, clientId=1, permId=1000 + number)
    trade = ib.wrapper.trades[(1, number)] = ib.wrapper.permId2Trade[order.permId] = Trade(contract, order, OrderStatus(orderId=number))
    heard = []
    trade.cancelledEvent += lambda told: heard.append(told.orderStatus.status)
    ib.wrapper.orderStatus(number, "Submitted", 0, 100, 0, order.permId, 0, 0, 1, "", 0)
    before = trade.orderStatus.status, ib.openTrades() == [trade]
    ib.wrapper.error(number, code, text, "")
    print(code, "status and open before:", before, "after:", (trade.orderStatus.status, ib.openTrades() == [trade]), "filled", trade.orderStatus.filled, "cancelledEvent", heard)
    assert before == ("Submitted", True)
    assert trade.orderStatus.status == "Cancelled" and ib.openTrades() == [] and heard == ["Cancelled"] and trade.orderStatus.filled == 0
    ib.wrapper.orderStatus(number, "Filled", 100, 0, 10.0, order.permId, 0, 10.0, 1, "", 0)
    print("  then TWS says:", trade.orderStatus.status, trade.orderStatus.filled)
print("as stated")
PY
