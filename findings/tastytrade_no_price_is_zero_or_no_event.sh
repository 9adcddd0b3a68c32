#!/usr/bin/env bash
# tastytrade: a candle without a trade has a low of 0, and a quote whose bid has gone is not delivered.
#
# One would guess: dxFeed's "NaN", its mark for "no value", comes out as None in both, as it does for volume and VWAP.
# What happens: open, high, low and close of a candle become Decimal("0"). A Quote whose bid is NaN (nobody bids) fails its own
#   model and is skipped; the SDK logs it on level debug only.
# Why it matters: a low of 0 sets off every stop that is tested on candles; and when the bid disappears the last quote, with a
#   bid, stays the newest that the program has.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tastytrade==13.2.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "tastytrade".split():
    print(package, version(package))

from tastytrade.dxfeed import Candle, Quote

row = {"event_symbol": "XYZ{=m}", "event_time": 0, "event_flags": 0, "index": 1, "time": 1767625200000, "sequence": 0, "count": 0}
(candle,) = Candle.from_stream([row.get(name, "NaN") for name in Candle.model_fields])
print("candle: open", candle.open, "high", candle.high, "low", candle.low, "close", candle.close, "volume", candle.volume, "vwap", candle.vwap)
assert candle.open == candle.high == candle.low == candle.close == 0 and candle.volume is candle.vwap is None

first = ["XYZ", 0, 0, 0, 0, "Q", 0, "Q", 12.10, 12.20, 5, 7]
then = ["XYZ", 0, 1, 0, 0, "Q", 0, "Q", "NaN", 12.20, "NaN", 7]
quotes = Quote.from_stream(first + then)
print("two quotes were sent, read:", [(quote.bid_price, quote.ask_price) for quote in quotes])
assert len(quotes) == 1 and str(quotes[0].bid_price) == "12.1"
print("as stated")
PY
