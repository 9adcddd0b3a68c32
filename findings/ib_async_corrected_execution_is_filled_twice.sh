#!/usr/bin/env bash
# ib_async: an execution of 100 that is corrected to 60 makes filled() 160, and remaining() of an order for 100 -60.
#
# One would guess: the correction takes the place of what it corrects. IB documents that a correction has the same execId but for
#   the digits after the last dot, and that it supersedes the earlier one.
# What happens: fills are kept by the whole execId: ...01.01 and ...01.02 are two fills, in trade.fills and in ib.fills(), and
#   both are added up.
# Why it matters: a bust or a correction by the exchange makes the position that the program adds up wrong by the whole execution.
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
from datetime import datetime, timezone

from ib_async import IB, Execution, LimitOrder, OrderStatus, Stock, Trade

logging.disable(logging.CRITICAL)
ib = IB()
contract = Stock("AAPL", "SMART", "USD", conId=265598)
order = LimitOrder("BUY", 100, 10.0, orderId=7, clientId=1, permId=1007)
trade = ib.wrapper.permId2Trade[1007] = Trade(contract, order, OrderStatus(orderId=7, status="Submitted"))


def execution(exec_id, shares):
    now = datetime(2026, 1, 5, 15, tzinfo=timezone.utc)
    return Execution(execId=exec_id, time=now, acctNumber="U0000001", exchange="NYSE", side="BOT", shares=shares, price=10.0, permId=1007, clientId=1, orderId=7, cumQty=shares, avgPrice=10.0)


for exec_id, shares in (("0000e0d5.65a1b2c3.01.01", 100.0), ("0000e0d5.65a1b2c3.01.02", 60.0)):
    ib.wrapper.execDetails(-1, contract, execution(exec_id, shares))
    print(exec_id, "shares", shares, "-> filled", trade.filled(), "remaining", trade.remaining(), "fills", len(ib.fills()))
assert trade.filled() == 160 and trade.remaining() == -60 and len(ib.fills()) == 2
print("as stated")
PY
