#!/usr/bin/env bash
# etoropy 0.1.7 (eToro): an order for a symbol that eToro does not have buys what its free-text search lists first; one for "S&P500" buys S.
#
# One would guess: buy_by_amount("SYMBOL", ...) buys that instrument, or raises EToroValidationError, as the resolver says for what it cannot resolve.
# What happens: after no exact match the symbol is searched as text, and the first hit is ordered; its symbol is not compared with the one asked
#   for. Questions are put into the address as they are: behind an & another parameter begins.
# Seen: ABCD is not listed, the search knows ABCDE: the order is for ABCDE, and get_symbol() says that its instrument is ABCD. For "S&P500" the
#   server is asked for internalSymbolFull=S, which is SentinelOne, and 1000 dollars of it are bought. Neither is logged.
# Why it matters: a share that was delisted, renamed or misspelt becomes a position in another one, with leverage if one asked for it. It is kept
#   for the lifetime of the client, so prices, the closing and the books name the wrong one, too.
# Instead: resolve with search_instruments(internal_symbol_full=...), compare internal_symbol_full, and order by the number.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check etoropy==0.1.7 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

timeout 60 venv/bin/python - <<'PY'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

from etoropy import EToroTrading

print("etoropy", version("etoropy"))
LISTED = {"S": 7001, "ABCDE": 7002}
ordered = []


class EToro(BaseHTTPRequestHandler):
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        print("  asked:", asked)
        exact, text = asked.get("internalSymbolFull"), asked.get("searchText")
        hits = [symbol for symbol in LISTED if symbol == exact or text is not None and text in symbol]
        self.answer({"items": [{"instrumentId": LISTED[symbol], "internalSymbolFull": symbol} for symbol in hits]})

    def do_POST(self):
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ordered.append((order["InstrumentID"], order["IsBuy"], order["Amount"]))
        opened = {"instrumentID": order["InstrumentID"], "amount": order["Amount"], "isBuy": order["IsBuy"], "leverage": 1}
        self.answer({"orderForOpen": {**opened, "orderID": 1, "orderType": 17, "statusID": 1, "CID": 1}, "token": "1"})

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), EToro)
threading.Thread(target=server.serve_forever, daemon=True).start()


async def main():
    etoro = EToroTrading(api_key="key", user_key="user", base_url=f"http://127.0.0.1:{server.server_port}")
    names = {number: symbol for symbol, number in LISTED.items()}
    for symbol in ("ABCD", "S&P500"):
        await etoro.buy_by_amount(symbol, 1000)
        number = ordered[-1][0]
        print(f"{symbol}: ordered {names[number]} for {ordered[-1][2]}, which the client calls {etoro.resolver.get_symbol(number)}")
    assert ordered == [(7002, True, 1000), (7001, True, 1000)]
    assert [etoro.resolver.get_symbol(number) for number in (7002, 7001)] == ["ABCD", "S&P500"]
    await etoro.rest.aclose()


asyncio.run(main())
server.shutdown()
print("as stated")
PY
