#!/usr/bin/env bash
# robin_stocks: when the second page of positions cannot be loaded, the first page is returned as the whole list.
#
# One would guess: an exception, or [None], which is what the docstring of request_get() promises for any code other than 200.
# What happens: [None] is for the first page only. When a later page answers 500 the rows so far are returned, and a line is
#   printed.
# Why it matters: the positions on the later pages are not unknown but absent: they read as flat, and are bought again.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check robin_stocks==3.4.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "robin_stocks".split():
    print(package, version(package))

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from robin_stocks.robinhood.helper import request_get


class Broker(BaseHTTPRequestHandler):
    second = 200

    def do_GET(self):
        last = "page=2" in self.path
        rows = [{"symbol": "MSFT", "quantity": "50"}] if last else [{"symbol": "AAPL", "quantity": "100"}]
        following = None if last else f"http://127.0.0.1:{self.server.server_port}/positions/?page=2"
        body = json.dumps({"results": rows, "next": following}).encode()
        self.send_response(Broker.second if last else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Broker)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/positions/"
whole = request_get(url, "pagination")
Broker.second = 500
half = request_get(url, "pagination")
alone = request_get(url + "?page=2", "pagination")
print("both pages answer:", whole)
print("the second answers 500:", half)
print("the first answers 500:", alone)
assert len(whole) == 2 and half == whole[:1] and alone == [None]
server.shutdown()
print("as stated")
PY
