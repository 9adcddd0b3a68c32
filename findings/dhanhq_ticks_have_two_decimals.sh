#!/usr/bin/env bash
# dhanhq: a tick of the rupee at 83.2475 is "83.25", and the last price in the depth packet beside it 83.24749755859375.
#
# One would guess: the price as it was sent. Currency futures move by 0.0025, and Dhan's feed carries a 32 bit float.
# What happens: MarketFeed formats each price with two decimals, as text; only the last price of a depth packet stays the float. The
#   time of the trade is text without a date.
# Why it matters: four ticks of the exchange become one: a spread of one tick reads as nothing or as four, and a check of a
#   fill against the market is off by up to two ticks, in this segment alone.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dhanhq==2.3.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "dhanhq".split():
    print(package, version(package))

import struct

from dhanhq import DhanContext, MarketFeed

NSE_CURRENCY = 3
feed = MarketFeed(DhanContext("client", "token"), [], "v2")


def ticker(price):
    return feed.process_data(struct.pack("<BHBIfI", 2, 16, NSE_CURRENCY, 1234, price, 1767604500))


def depth(bid, ask):
    levels = struct.pack("<IIHHff", 5, 5, 1, 1, bid, ask) * 5
    return feed.process_data(struct.pack("<BHBIf100s", 3, 112, NSE_CURRENCY, 1234, bid, levels))


for price in (83.2450, 83.2475, 83.2500, 83.2525, 83.2550):
    print(price, "->", ticker(price))
book = depth(83.2475, 83.2525)
print("bid 83.2475 ask 83.2525 ->", book["depth"][0], "LTP", book["LTP"])
assert ticker(83.2475)["LTP"] == ticker(83.2525)["LTP"] == "83.25"
assert (book["depth"][0]["bid_price"], book["depth"][0]["ask_price"]) == ("83.25", "83.25") and abs(book["LTP"] - 83.2475) < 1e-5
print("as stated")
PY
