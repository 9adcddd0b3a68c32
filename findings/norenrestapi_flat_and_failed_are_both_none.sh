#!/usr/bin/env bash
# NorenRestApiPy: get_positions() of a flat account is None, and so is that of a session that has expired.
#
# One would guess: an empty list for an account without positions, an exception or the server's words for a failure.
# What happens: the server answers both with an object instead of a list ({"stat": "Not_Ok", "emsg": "no data"} or "Session
#   Expired"), and the SDK gives None for whatever is no list; the words are in a debug log only. get_order_book(), get_trade_book() and
#   get_holdings() do the same, and place_order() gives None for a refusal without its reason.
# Why it matters: `api.get_positions() or []` is the way to write it, since flat is the usual case; when the session expires in the
#   morning all accounts are flat.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check NorenRestApiPy==0.0.22 requests==2.34.2 websocket-client==1.9.2 responses==0.26.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "NorenRestApiPy requests websocket-client responses".split():
    print(package, version(package))

import logging

import responses
from NorenRestApiPy.NorenApi import NorenApi

logging.disable(logging.CRITICAL)
api = NorenApi(host="https://broker.example", websocket="wss://broker.example/")
api.set_session("USER1", "", "token")


def asked(answer):
    with responses.RequestsMock() as web:
        for path in ("/PositionBook", "/OrderBook", "/TradeBook"):
            web.post("https://broker.example" + path, json=answer)
        return api.get_positions(), api.get_order_book(), api.get_trade_book()


held = asked([{"stat": "Ok", "tsym": "INFY-EQ", "netqty": "10"}])
flat = asked({"stat": "Not_Ok", "emsg": "Error Occurred : 5 \"no data\""})
expired = asked({"stat": "Not_Ok", "emsg": "Session Expired : Invalid Session Key"})
for name, answer in (("held", held), ("flat", flat), ("expired", expired)):
    print(name, "-> positions, orders, trades:", *answer)
assert held[0][0]["netqty"] == "10" and flat == expired == (None, None, None)
print("as stated")
PY
