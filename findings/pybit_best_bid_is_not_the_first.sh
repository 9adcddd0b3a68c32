#!/usr/bin/env bash
# pybit: after a better bid has come, the first bid of the book is not the best one; a book kept from before has changed, too.
#
# One would guess: orderbook_stream() hands out a whole book each time ("type": "snapshot"), sorted as Bybit sends a snapshot, best
#   price first, and each message stays as it was handed out.
# What happens: a level that is new in a delta is appended at the end of its side: data["b"][0] is the old best bid for as long as
#   that stands, and the true one is the last of the list. All messages share one list: what was kept for comparison follows.
# Why it matters: a market that rises by new levels is read as one that stands still, so that an order is priced off the touch, or the
#   book looks wider than it is; a queue between callback and strategy delivers the newest book again and again.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pybit==5.17.0 websocket-client==1.9.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "pybit websocket-client".split():
    print(package, version(package))

import json

from pybit.unified_trading import WebSocket


class Offline(WebSocket):
    """The SDK's feed with the socket left out: what it sends is kept, what it is given by `_on_message` is read as ever."""

    def _connect(self, url):
        self.ws, self.sent = self, []

    def is_connected(self):
        return True

    def send(self, text):
        self.sent.append(json.loads(text))


messages, seen = [], []


def on_book(message):
    messages.append(message)
    seen.append(([price for price, _ in message["data"]["b"]], [price for price, _ in message["data"]["a"]]))


feed = Offline(channel_type="linear", testnet=True)
feed.orderbook_stream(depth=50, symbol="BTCUSDT", callback=on_book)
(topic,) = feed.sent[0]["args"]


def push(kind, number, bids, asks):
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": number, "seq": number}
    feed._on_message(json.dumps({"topic": topic, "type": kind, "ts": number, "cts": number, "data": data}))


push("snapshot", 1, [["100.0", "5"], ["99.5", "7"]], [["101.0", "4"], ["101.5", "6"]])
push("delta", 2, [["100.5", "3"]], [["100.8", "2"]])
push("delta", 3, [["100.7", "1"]], [])
for message, (bids, asks) in zip(messages, seen, strict=True):
    print(message["type"], message["ts"], "bids", bids, "asks", asks, "-> best bid by place", bids[0], "by price", max(bids, key=float))
assert topic == "orderbook.50.BTCUSDT" and [message["type"] for message in messages] == ["snapshot"] * 3
assert seen[0] == (["100.0", "99.5"], ["101.0", "101.5"])
assert seen[2] == (["100.0", "99.5", "100.5", "100.7"], ["101.0", "101.5", "100.8"])
print("the first message, kept, now:", messages[0]["data"]["b"], "update", messages[0]["data"]["u"])
assert messages[1]["data"] is messages[2]["data"] and messages[1]["data"]["u"] == 3
print("as stated")
PY
