#!/usr/bin/env bash
# schwab-py: construct_repeat_order() of an order that triggers two keeps the first of them: the stop is gone.
#
# One would guess: the historical order is built again as it was: an order that triggers a take-profit and a stop is built with both, or
#   refused.
# What happens: of childOrderStrategies of a TRIGGER it takes the first one alone, and of an OCO the first two. The rest is
#   dropped without a word; the builder itself takes as many children as are added.
# Why it matters: the repeated entry fills and nothing stops the loss.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check schwab-py==1.5.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "schwab-py".split():
    print(package, version(package))

import json

from schwab.contrib.orders import construct_repeat_order
from schwab.orders.common import first_triggers_second


def order(side, kind, children=(), **price):
    leg = {"orderLegType": "EQUITY", "instruction": side, "quantity": 10, "instrument": {"assetType": "EQUITY", "symbol": "AAPL"}}
    body = {"session": "NORMAL", "duration": "GOOD_TILL_CANCEL", "orderType": kind, **price, "orderLegCollection": [leg]}
    return {**body, "orderStrategyType": "TRIGGER" if children else "SINGLE", **({"childOrderStrategies": list(children)} if children else {})}


profit, stop = order("SELL", "LIMIT", price=110.0), order("SELL", "STOP", stopPrice=90.0)
built = construct_repeat_order(order("BUY", "LIMIT", [profit, stop], price=100.0)).build()
print("children before: 2, after:", len(built["childOrderStrategies"]), json.dumps(built["childOrderStrategies"]))
assert [child["orderType"] for child in built["childOrderStrategies"]] == ["LIMIT"]

third = order("SELL", "MARKET_ON_CLOSE")
oco = {"orderStrategyType": "OCO", "childOrderStrategies": [profit, stop, third]}
built = construct_repeat_order(oco).build()
print("of an OCO of three:", [child["orderType"] for child in built["childOrderStrategies"]])
assert [child["orderType"] for child in built["childOrderStrategies"]] == ["LIMIT", "STOP"]

by_hand = first_triggers_second(construct_repeat_order(order("BUY", "LIMIT", price=100.0)), construct_repeat_order(profit))
by_hand.add_child_order_strategy(construct_repeat_order(stop))
print("the builder by hand:", [child["orderType"] for child in by_hand.build()["childOrderStrategies"]])
assert len(by_hand.build()["childOrderStrategies"]) == 2
print("as stated")
PY
