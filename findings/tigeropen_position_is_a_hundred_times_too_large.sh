#!/usr/bin/env bash
# tigeropen: Position.quantity of a fractional holding is the scaled integer.
#
# One would guess: quantity is the number of shares.
# What happens: the answer carries position 12345 and positionScale 2 (123.45 shares); quantity is 12345,
#   position_scale 2 stands beside it. Without positionQty in the answer position_qty is 12345 too.
# Why it matters: the first attribute that one reaches for is too large by a power of ten for fractional
#   holdings alone, so a test with whole shares does not notice.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tigeropen==3.8.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "tigeropen".split():
    print(package, version(package))

import json

from tigeropen.trade.response.positions_response import PositionsResponse


def read(**more):
    row = {"account": "U1", "symbol": "AAPL", "secType": "STK", "market": "US", "currency": "USD", "position": 12345,
           "positionScale": 2, "averageCost": 1.1, **more}
    response = PositionsResponse()
    response.parse_response_content({"code": 0, "message": "success", "timestamp": 1, "data": json.dumps({"items": [row]})})
    return response.positions[0]


with_qty, without = read(positionQty=123.45), read()
print("quantity:", with_qty.quantity, "scale:", with_qty.position_scale, "position_qty:", with_qty.position_qty, "| without positionQty:", without.position_qty)
assert with_qty.quantity == 12345 and with_qty.position_scale == 2 and with_qty.position_qty == 123.45
assert without.position_qty == 12345
print("as stated")
PY
