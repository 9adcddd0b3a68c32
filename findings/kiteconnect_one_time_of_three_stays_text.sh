#!/usr/bin/env bash
# kiteconnect: of an order's three times two are datetimes and the third is text; a trade's order_timestamp is a time of day.
#
# One would guess: times of orders() and trades() are of one type, as the SDK says that it parses them, and a field of one name is
#   the same thing in both.
# What happens: order_timestamp and exchange_timestamp become datetimes, exchange_update_timestamp beside them stays text. Kite sends a
#   trade's order_timestamp without a day ("09:16:39"), which is not parsed either.
# Why it matters: max(order["exchange_timestamp"], order["exchange_update_timestamp"]), the newest word on the order, raises
#   TypeError; and a join of trades with orders on order_timestamp finds nothing.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check kiteconnect==5.2.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "kiteconnect".split():
    print(package, version(package))

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from kiteconnect import KiteConnect

DAY = "2021-05-31 09:16:39"
ANSWERS = {
    "/orders": [{"order_id": "1", "order_timestamp": DAY, "exchange_timestamp": DAY, "exchange_update_timestamp": DAY, "status": "COMPLETE"}],
    "/trades": [{"trade_id": "10", "order_id": "1", "order_timestamp": "09:16:39", "exchange_timestamp": DAY, "fill_timestamp": DAY}],
}


class Kite(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "success", "data": ANSWERS[self.path]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


server = HTTPServer(("127.0.0.1", 0), Kite)
threading.Thread(target=server.serve_forever, daemon=True).start()
kite = KiteConnect("key", access_token="token", root=f"http://127.0.0.1:{server.server_port}")
(order,), (trade,) = kite.orders(), kite.trades()
for name, row in (("order", order), ("trade", trade)):
    print(name, {key: repr(value) for key, value in row.items() if key.endswith("timestamp")})
assert order["order_timestamp"] == order["exchange_timestamp"] and order["order_timestamp"].year == 2021
assert order["exchange_update_timestamp"] == DAY and trade["order_timestamp"] == "09:16:39" and trade["fill_timestamp"].year == 2021
server.shutdown()
print("as stated")
PY
