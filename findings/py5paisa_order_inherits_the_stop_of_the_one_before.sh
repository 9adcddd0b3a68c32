#!/usr/bin/env bash
# py5paisa: an order without a stop is sent with the stop price of the order before it, and with the number of the last cancel.
#
# One would guess: place_order(...) sends what it is given, and what is left out is left to the broker.
# What happens: the body of all requests is one dict of the module. Each call writes its own keys into it and takes none out, so that
#   StopLossPrice and IsIntraday of the last order and ExchOrderID of the last cancel go along; a second client of the process
#   shares it.
# Why it matters: a plain limit order goes out as a stop order, or an order for delivery as an intraday one, which the broker closes in
#   the afternoon; and in the other account as well.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check py5paisa==0.7.21.2 httpx==0.28.1 setuptools==65.5.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "py5paisa httpx setuptools".split():
    print(package, version(package))

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from loguru import logger
from py5paisa import FivePaisaClient

logger.remove()
sent = []


class Broker(BaseHTTPRequestHandler):
    def do_POST(self):
        sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])
        body = json.dumps({"body": {"Message": "Success", "Status": 0}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


server = HTTPServer(("127.0.0.1", 0), Broker)
threading.Thread(target=server.serve_forever, daemon=True).start()


def account(code):
    client = FivePaisaClient({"APP_SOURCE": "1", "APP_NAME": "n", "USER_ID": "u", "PASSWORD": "p", "USER_KEY": "k", "ENCRYPTION_KEY": "e"})
    client.set_access_token("token", code)
    client.ORDER_PLACEMENT_ROUTE = client.ORDER_CANCEL_ROUTE = f"http://127.0.0.1:{server.server_port}/order"
    return client


one, other = account("100001"), account("100002")
plain = {"OrderType": "B", "Exchange": "N", "ExchangeType": "C", "ScripCode": 1660, "Qty": 10, "Price": 260}
one.place_order(**plain)
one.place_order(**plain | {"OrderType": "S", "StopLossPrice": 250, "IsIntraday": True})
one.cancel_order("1100000000001")
one.place_order(**plain)
other.place_order(**plain)
keys = ("ClientCode", "OrderType", "Price", "StopLossPrice", "IsIntraday", "ExchOrderID")
for what, body in zip(("plain", "with a stop", "cancel", "plain again", "plain, other account"), sent, strict=True):
    print(f"{what}:", {key: body[key] for key in keys if key in body})
assert "StopLossPrice" not in sent[0]
assert all((body["StopLossPrice"], body["IsIntraday"], body["ExchOrderID"]) == (250, True, "1100000000001") for body in sent[3:])
server.shutdown()
print("as stated")
PY
