#!/usr/bin/env bash
# ib_async: a spread quoted -1.00 to -0.95 has no bid, no midpoint and no market price; -1.05 to -0.95 has all three.
#
# One would guess: a combination's bid may be any number, and its size of 10 says that it is there; only without a size is IB's
#   -1 "no data".
# What happens: hasBidAsk() takes a price of exactly -1 for "none", whatever the size. midpoint() is NaN, and marketPrice() is
#   the last price, here one far outside of the market.
# Why it matters: at one price of the grid, and only there, a credit spread is valued by a stale trade.
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

from ib_async import Contract, Ticker

spread = Contract(secType="BAG", symbol="SPY", exchange="SMART", currency="USD", conId=28812380)


def quoted(bid):
    ticker = Ticker(contract=spread)
    ticker.bid, ticker.bidSize, ticker.ask, ticker.askSize, ticker.last = bid, 10, -0.95, 10, -3.5
    return ticker


for bid in (-1.05, -1.01, -1.0, -0.99):
    ticker = quoted(bid)
    print("bid", bid, "ask -0.95 -> hasBidAsk", ticker.hasBidAsk(), "midpoint", ticker.midpoint(), "marketPrice", ticker.marketPrice())
assert quoted(-1.05).hasBidAsk() and quoted(-1.05).marketPrice() == -1.0
assert not quoted(-1.0).hasBidAsk() and quoted(-1.0).midpoint() != quoted(-1.0).midpoint() and quoted(-1.0).marketPrice() == -3.5
print("as stated")
PY
