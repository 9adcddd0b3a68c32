#!/usr/bin/env bash
# kiteconnect: historical_data() sends the digits of an aware time without its zone.
#
# One would guess: a UTC time is converted to India's, or refused; the candles that come back bear +05:30.
# What happens: 03:45 UTC (09:15 in India) is sent as "03:45:00", which Kite reads as Indian time.
#   pandas.Timestamp, a datetime, takes another way and is sent with "+00:00".
# Why it matters: a check of a fill's price against the minute's candle asks for a minute before the market
#   opens and gets nothing or another day's.
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

from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

from kiteconnect import KiteConnect

answer.update(type="application/json", body=json.dumps(
    {"status": "success", "data": {"candles": [["2025-01-10T09:15:00+0530", 1, 2, 3, 4, 5]]}}).encode())
kite = KiteConnect("key", access_token="token", root=f"http://127.0.0.1:{server.server_port}")
opens = datetime(2025, 1, 10, 3, 45, tzinfo=timezone.utc)
candles = kite.historical_data(408065, opens, opens + timedelta(minutes=1), "minute")
sent = parse_qs(urlsplit(asked[0]).query)["from"][0]
print("asked from", opens.isoformat(), "-> sent", repr(sent), "| candle", candles[0]["date"].isoformat())
assert sent == "2025-01-10 03:45:00"
assert candles[0]["date"].utcoffset() == timedelta(hours=5, minutes=30)
print("as stated")
PY
