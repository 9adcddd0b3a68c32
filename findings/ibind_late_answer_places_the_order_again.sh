#!/usr/bin/env bash
# ibind 0.2.2: an order whose confirmation is late is placed again, up to four times, and one order id comes back.
#
# One would guess: a request that reads is repeated when its answer is late; an order is not, because nobody knows whether it was taken.
# What happens: every request is repeated up to max_retries (3) times after a read timeout or a broken connection, the POST of
#   place_order() too, with the same body. The order has no `cOID`, by which IBKR would know the repetition, unless the caller set one.
# Seen: a gateway that takes each order and answers the first two late has three orders of 100 shares; place_order() returns the third one's
#   id and raises nothing. The log has the repetitions at the level INFO.
# Why it matters: the gateway is slow when markets are fast. The position is three times what the strategy knows of, and the other two ids
#   are in live_orders() alone.
# Instead: give every OrderRequest a `coid` of its own; or place orders through a client with max_retries=0, and look for the order
#   in live_orders() where the answer is late.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ibind==0.2.2 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

IBIND_LOG_TO_FILE=false venv/bin/python - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from ibind import IbkrClient
from ibind.client.ibkr_utils import OrderRequest

print("ibind", version("ibind"))
taken = []
third = threading.Event()


class Gateway(BaseHTTPRequestHandler):
    """Takes each order at once; answers the first two when the third has come."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        taken.append((self.path, body["orders"]))
        mine = len(taken)
        if mine == 3:
            third.set()
        third.wait()
        answer = json.dumps([{"order_id": str(1000 + mine), "order_status": "Submitted"}]).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:  # the client has given up on this one
            pass


gateway = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
gateway.daemon_threads = True
threading.Thread(target=gateway.serve_forever, daemon=True).start()

client = IbkrClient(account_id="DU1", url=f"http://127.0.0.1:{gateway.server_port}/v1/api/", timeout=4)
order = OrderRequest(conid=265598, side="BUY", quantity=100, order_type="MKT", acct_id="DU1")
returned = client.place_order(order, answers={}).data
print("returned:", returned)
for number, (path, orders) in enumerate(taken, 1001):
    print("the gateway took", number, path, orders)
assert returned["order_id"] == "1003" and len(taken) == 3
assert {path for path, _ in taken} == {"/v1/api/iserver/account/DU1/orders"}
assert sum(one["quantity"] for _, orders in taken for one in orders) == 300 and not any("cOID" in one for _, orders in taken for one in orders)
print("as stated")
PY
