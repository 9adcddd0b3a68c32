#!/usr/bin/env bash
# lumiwealth-tradier 0.1.18: get_positions(equities=True) leaves out GOOGL, a broker that is not there has no positions, and an order
# for 1.9 shares at 0.0035 is sent as one for 1 share at 0.0.
#
# One would guess: equities=True and options=True part the positions in two; where the broker does not answer the question an error is
#   raised; and an order leaves with the quantity and the price that it was given, or not at all.
# What happens: a symbol of less than five characters is an equity and one of more than five an option. HTTP 404 counts as success: an
#   answer in JSON without positions is an empty table, one that is not JSON is None, and each question is put three times. The
#   quantity of an order is cut to a whole number, its prices are rounded to cents.
# Seen: of AAPL, GOOGL, F and an option GOOGL is in neither part; 404 gives an empty DataFrame like "positions": "null"; 1.9 becomes
#   1 and 0.5 becomes 0, a limit of 0.0035 becomes 0.0, and a stop-limit order to sell with stop 0.1251 and limit 0.1234 leaves with
#   0.13 and 0.12.
# Why it matters: a holding of GOOGL is flat, and for the moment of the 404 everything is; a fraction bought elsewhere cannot be sold
#   and is not refused here either.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check lumiwealth-tradier==0.1.18 requests==2.32.5 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
import http.server
import json
import threading
from importlib.metadata import version
from urllib.parse import parse_qs

from lumiwealth_tradier import base
from lumiwealth_tradier.tradier import Tradier

print("lumiwealth-tradier", version("lumiwealth-tradier"))

answer, asked, sent = [200, ""], [], []


class Broker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.reply(*answer)

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        sent.append({name: form[name][0] for name in ("quantity", "price", "stop") if name in form})
        self.reply(200, json.dumps({"order": {"id": 900001, "status": "ok"}}))

    def reply(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broker)
threading.Thread(target=server.serve_forever, daemon=True).start()
base.TRADIER_SANDBOX_URL = f"http://127.0.0.1:{server.server_address[1]}"
broker = Tradier("VA0000000", "token")


def held(symbol, quantity):
    return {"symbol": symbol, "quantity": quantity, "cost_basis": 100.0, "date_acquired": "2026-01-05T15:00:00.000Z", "id": 1}


option = "AAPL260116C00150000"
answer[:] = 200, json.dumps({"positions": {"position": [held("AAPL", 1.0), held("GOOGL", 100.0), held("F", 3.0), held(option, 2.0)]}})
parts = [broker.account.get_positions(**part)["symbol"].tolist() for part in ({}, {"equities": True}, {"options": True})]
print("all", parts[0], "equities", parts[1], "options", parts[2], "- requests for three questions:", len(asked))
assert parts == [["AAPL", "GOOGL", "F", option], ["AAPL", "F"], [option]] and len(asked) == 9

answer[:] = 200, '{"positions": "null"}'
flat = broker.account.get_positions()
answer[:] = 404, '{"message": "not found"}'
gone = broker.account.get_positions()
print("no positions:", flat.to_dict(), "HTTP 404:", gone.to_dict())
assert flat.equals(gone) and gone.empty

broker.orders.order("AAPL", "buy", 1.9, "limit", limit_price=0.0035)
broker.orders.order("AAPL", "sell", 0.5, "market")
broker.orders.order("AAPL", "sell", 100, "stop_limit", limit_price=0.1234, stop_price=0.1251)
print("orders sent", sent)
assert sent == [{"quantity": "1", "price": "0.0"}, {"quantity": "0"}, {"quantity": "100", "price": "0.12", "stop": "0.13"}]
print("as stated")
PY
