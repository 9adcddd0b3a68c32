#!/usr/bin/env bash
# NorenRestApiPy: with two brokers in one process the first one's orders and questions go to the second one's server.
#
# One would guess: NorenApi(host, websocket) is a client of that host; several brokers of India (Shoonya, Flattrade) run the Noren
#   server, each under a host of its own, and their users make one client each.
# What happens: the host is kept in a dict of the class. The second client sets it for the first one as well.
# Why it matters: an order for the one broker is sent to the other, which does not know the user and refuses it; and what
#   that answers to a question about positions is taken for the first one's.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check NorenRestApiPy==0.0.22 requests==2.34.2 websocket-client==1.9.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "NorenRestApiPy requests websocket-client".split():
    print(package, version(package))

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

from NorenRestApiPy.NorenApi import NorenApi

logging.disable(logging.CRITICAL)


def broker(name, got):
    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            got.append((name, self.path, json.loads(asked["jData"][0])["uid"]))
            body = json.dumps([{"stat": "Ok", "tsym": "INFY-EQ", "netqty": "10"}]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_): ...

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


got = []
hosts = [broker("first broker", got), broker("second broker", got)]
first = NorenApi(host=hosts[0], websocket="ws://127.0.0.1:9/")
first.set_session("USER1", "", "token")
first.get_positions()
second = NorenApi(host=hosts[1], websocket="ws://127.0.0.1:9/")
second.set_session("USER2", "", "token")
first.get_positions()
for line in got:
    print("reached", *line)
assert [line[0] for line in got] == ["first broker", "second broker"]
assert got[1][2] == "USER1"
print("as stated")
PY
