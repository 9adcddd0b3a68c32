#!/usr/bin/env bash
# upstox-python-sdk: when nobody sells, the quote has no "askQ" and no "askP"; a quantity is text, a price a number.
#
# One would guess: a level of the book has its four fields, and an empty side is 0, as the message says.
# What happens: the streamer turns the protobuf message into a dict with the default settings of MessageToDict: what is 0 is left out,
#   and 64 bit integers are text. A book without sellers is {"bidQ": "500", "bidP": 100.5}; a closing price or an open interest
#   of 0 is missing in the same way.
# Why it matters: at the upper circuit, when there is no seller, quote["askP"] raises KeyError in the callback, or a merge with the last
#   tick keeps the old ask: the feed fails on the one day on which the position cannot be bought back.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check upstox-python-sdk==2.30.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "upstox-python-sdk".split():
    print(package, version(package))

from upstox_client import MarketDataStreamerV3
from upstox_client.feeder.proto.MarketDataFeedV3_pb2 import FeedResponse

streamer, ticks = MarketDataStreamerV3(None, [], "full"), []
streamer.on("message", ticks.append)


def tick(bid, bid_quantity, ask, ask_quantity):
    """What the feed sends, through the handler that the SDK gives its web socket."""
    response = FeedResponse(type=1)
    feed = response.feeds["NSE_EQ|INE000000000"].fullFeed.marketFF
    feed.ltpc.ltp, feed.ltpc.ltq = 100.5, 75
    feed.marketLevel.bidAskQuote.add(bidP=bid, bidQ=bid_quantity, askP=ask, askQ=ask_quantity)
    streamer.handle_message(None, response.SerializeToString())
    return ticks[-1]["feeds"]["NSE_EQ|INE000000000"]["fullFeed"]["marketFF"]


both, buyers = tick(100.5, 500, 100.55, 300), tick(100.5, 500, 0, 0)
print("buyers and sellers ->", both["marketLevel"]["bidAskQuote"])
print("no seller ->", buyers["marketLevel"]["bidAskQuote"], "| last", buyers["ltpc"])
assert both["marketLevel"]["bidAskQuote"] == [{"bidQ": "500", "bidP": 100.5, "askQ": "300", "askP": 100.55}]
assert buyers["marketLevel"]["bidAskQuote"] == [{"bidQ": "500", "bidP": 100.5}]
assert buyers["ltpc"] == {"ltp": 100.5, "ltq": "75"} and "oi" not in buyers
print("as stated")
PY
