#!/usr/bin/env bash
# ib_async: an Order is unequal to its own copy, a Contract is equal to its.
#
# One would guess: the two dataclasses compare by value, as dataclasses do.
# What happens: Order sets __eq__ to identity and __hash__ to id(). After pickle (another process, an actor, a
#   cache) no order equals the one that was sent, and so no Trade does; the contract next to it does.
# Why it matters: "is this the order that I sent" is False for ever, and a set of orders read twice holds each
#   twice.
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

import pickle

from ib_async import LimitOrder, OrderStatus, Stock, Trade

trade = Trade(Stock("SPY", "SMART", "USD", conId=5), LimitOrder("BUY", 10, 2.5, orderId=3, permId=9), OrderStatus(), [], [])
back = pickle.loads(pickle.dumps(trade))
print("contract equal:", back.contract == trade.contract, "| order equal:", back.order == trade.order, "| trade equal:", back == trade)
assert back.contract == trade.contract
assert vars(back.order) == vars(trade.order)
assert back.order != trade.order and back != trade
assert len({back.order, trade.order}) == 2
print("as stated")
PY
