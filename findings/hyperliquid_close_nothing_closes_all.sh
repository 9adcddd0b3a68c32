#!/usr/bin/env bash
# hyperliquid-python-sdk: market_close("ETH", sz=0) closes the whole position.
#
# One would guess: an order for nothing is refused, or nothing is done; only without a size is the position closed whole.
# What happens: the size is tested with "if not sz": 0 counts as "none given", and the order is for all that is held. For a coin
#   that is not held the answer is None, with no order and no error.
# Why it matters: the size of a partial close is computed and rounded to the lot; when it comes to nothing, everything is sold
#   at the market.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check hyperliquid-python-sdk==0.24.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "hyperliquid-python-sdk".split():
    print(package, version(package))

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from eth_account import Account
from hyperliquid.exchange import Exchange


class Venue(BaseHTTPRequestHandler):
    orders = []

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/exchange":
            Venue.orders += asked["action"]["orders"]
        answer = {"clearinghouseState": {"assetPositions": [{"position": {"coin": "ETH", "szi": "12.5"}, "type": "oneWay"}]}, "allMids": {"ETH": "3000.0"}}
        body = json.dumps(answer.get(asked.get("type"), {"status": "ok"})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


server = HTTPServer(("127.0.0.1", 0), Venue)
threading.Thread(target=server.serve_forever, daemon=True).start()
meta = {"universe": [{"name": "ETH", "szDecimals": 4}, {"name": "BTC", "szDecimals": 5}]}
exchange = Exchange(Account.create(), f"http://127.0.0.1:{server.server_port}", meta=meta, spot_meta={"universe": [], "tokens": []})

for sz in (0.5, 0, 0.0):
    Venue.orders.clear()
    exchange.market_close("ETH", sz=sz)
    print("held 12.5, market_close sz", sz, "-> sell", [order["s"] for order in Venue.orders])
    assert [order["s"] for order in Venue.orders] == ["0.5" if sz else "12.5"]
Venue.orders.clear()
print("BTC, which is not held ->", exchange.market_close("BTC", sz=1.0), Venue.orders)
assert Venue.orders == []
server.shutdown()
print("as stated")
PY
