#!/usr/bin/env bash
# oandapyV20: PositionCloseRequest refuses OANDA's own "ALL" and "NONE", TradeCloseRequest sends "ALL" unasked.
#
# One would guess: longUnits="ALL" and shortUnits="NONE" are accepted, as OANDA documents them for this
#   request.
# What happens: both raise ValueError ("incorrect units"), 0 is left out of the body, and a body with one side
#   says nothing of the other, for which OANDA documents the default ALL. TradeCloseRequest() without an
#   argument closes the whole trade.
# Why it matters: on a hedging account the request that closes 100 long cannot also say that the short is to
#   stay.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check oandapyV20==0.7.2 requests==2.34.2 six==1.17.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "oandapyV20 requests six".split():
    print(package, version(package))

from oandapyV20.contrib.requests import PositionCloseRequest, TradeCloseRequest

for word in ("ALL", "NONE"):
    try:
        PositionCloseRequest(longUnits=100, shortUnits=word)
    except ValueError as refused:
        print(word, "->", refused)
    else:
        raise SystemExit(f"{word} is accepted now")
one_side = PositionCloseRequest(longUnits=100, shortUnits=0).data
print(one_side, TradeCloseRequest().data)
assert one_side == {"longUnits": "100"}
assert TradeCloseRequest().data == {"units": "ALL"}
print("as stated")
PY
