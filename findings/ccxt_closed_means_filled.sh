#!/usr/bin/env bash
# ccxt: an order that is "closed" and does not tell its fill is reported as filled whole.
#
# One would guess: filled is None where the exchange did not say.
# What happens: safe_order() fills in filled = amount, remaining = 0 and cost = amount x limit price for
#   status "closed"; for "canceled" it leaves None. Where amount is missing, it becomes what was filled.
# Why it matters: an inference arrives in the same field as a fact: a partly filled order that the exchange
#   calls closed adds a position that is not there.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ccxt==4.5.90
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ccxt".split():
    print(package, version(package))

import ccxt

exchange = ccxt.Exchange()
exchange.markets = {"BTC/USDT": {"symbol": "BTC/USDT", "id": "BTCUSDT", "contractSize": None, "base": "BTC", "quote": "USDT"}}


def order(**told):
    row = exchange.safe_order({"id": "1", "symbol": "BTC/USDT", "type": "limit", "side": "buy", "price": "10", "trades": None, **told})
    return {key: row[key] for key in ("amount", "filled", "remaining", "cost")}


closed = order(amount="2", filled=None, remaining=None, status="closed")
canceled = order(amount="2", filled=None, remaining=None, status="canceled")
no_amount = order(amount=None, filled="1", remaining=None, status="closed")
print("closed:", closed, "\ncanceled:", canceled, "\nno amount:", no_amount)
assert closed == {"amount": 2.0, "filled": 2.0, "remaining": 0.0, "cost": 20.0}
assert canceled["filled"] is None and canceled["remaining"] is None
assert no_amount["amount"] == 1.0 and no_amount["remaining"] == 0.0
print("as stated")
PY
