#!/usr/bin/env bash
# kiteconnect: the ticker's times are naive in the machine's zone, the order book's naive in India's.
#
# One would guess: one SDK has one convention for naive times.
# What happens: KiteTicker makes exchange_timestamp by datetime.fromtimestamp, so it depends on TZ; orders()
#   parses "09:15:00" as it stands, which is Indian time; historical_data() gives aware times. On a server in
#   UTC one instant is 03:45 in the tick and 09:15 in the order.
# Why it matters: "the tick is older than the fill" is wrong by five and a half hours, on the server and not
#   on the developer's machine in India.
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

import os
import struct
import time
from datetime import datetime

from kiteconnect import KiteConnect, KiteTicker

answer.update(type="application/json", body=json.dumps({"status": "success", "data": [
    {"order_id": "1", "exchange_timestamp": "2024-01-02 09:15:00"}]}).encode())
order_time = KiteConnect("key", access_token="token", root=f"http://127.0.0.1:{server.server_port}").orders()[0]["exchange_timestamp"]

# An index packet in full mode: token, seven prices and the exchange's time, 2024-01-02 09:15 in India.
packet = struct.pack(">8I", 256265, 2150000, 1, 1, 1, 1, 0, 1704167100)
frame = struct.pack(">HH", 1, len(packet)) + packet
seen = {}
for zone in ("UTC", "Asia/Kolkata"):
    os.environ["TZ"] = zone
    time.tzset()
    seen[zone] = KiteTicker("key", "token")._parse_binary(frame)[0]["exchange_timestamp"]
print("order:", order_time, "| tick:", {zone: str(at) for zone, at in seen.items()})
assert order_time == datetime(2024, 1, 2, 9, 15)
assert seen == {"UTC": datetime(2024, 1, 2, 3, 45), "Asia/Kolkata": datetime(2024, 1, 2, 9, 15)}
print("as stated")
PY
