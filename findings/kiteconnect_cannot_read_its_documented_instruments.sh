#!/usr/bin/env bash
# kiteconnect: one instrument without a strike and the whole list is lost.
#
# One would guess: an empty strike of a share is None or 0, as an empty expiry stays "".
# What happens: instruments() raises ValueError ("could not convert string to float") for the row form that
#   Kite's documentation shows for a share; nothing of the list is returned, though the field has no meaning
#   for it.
# Why it matters: the map from token to symbol, lot and tick size is missing for all instruments because of
#   one row.
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

asked, answer = [], {}


class Stub(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", answer["type"])
        self.send_header("Content-Length", str(len(answer["body"])))
        self.end_headers()
        self.wfile.write(answer["body"])

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Stub)
threading.Thread(target=server.serve_forever, daemon=True).start()

from kiteconnect import KiteConnect

head = "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange\n"
call = "5720578,22346,NIFTY159500CE,,23.0,2015-12-31,9500,0.05,75,CE,NFO-OPT,NFO\n"
share = "408065,1594,INFY,INFOSYS,0,,,0.05,1,EQ,NSE,NSE\n"
kite = KiteConnect("key", access_token="token", root=f"http://127.0.0.1:{server.server_port}")
answer.update(type="text/csv", body=(head + call).encode())
assert len(kite.instruments()) == 1
answer.update(body=(head + call + share.replace(",,,", ",,0,")).encode())
share_row = kite.instruments()[1]
print("with strike 0: expiry", repr(share_row["expiry"]), "strike", share_row["strike"])
assert share_row["expiry"] == ""
answer.update(body=(head + call + share).encode())
try:
    kite.instruments()
except ValueError as error:
    print("with an empty strike:", error)
else:
    raise SystemExit("an empty strike is read now")
print("as stated")
PY
