#!/usr/bin/env bash
# ccxt: safe_integer changes the last digits of a long id, even of one that is an int already.
#
# One would guess: an int stays itself and a text of digits becomes that int.
# What happens: both pass through float(): 1234567890123456789 becomes 1234567890123456768.
#   safe_integer_product("1.005", 1000) is 1004.
# Why it matters: order ids and nanosecond stamps beyond 2^53 stop matching their orders, and two ids can
#   become one; a second is a millisecond short.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ccxt==4.5.90
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ccxt".split():
    print(package, version(package))

import ccxt

exchange = ccxt.Exchange()
whole, text, near = 1234567890123456789, "1234567890123456789", 1234567890123456790
seen = [exchange.safe_integer({"id": i}, "id") for i in (whole, text, near)]
product = exchange.safe_integer_product({"t": "1.005"}, "t", 1000)
print(seen, "| 1.005 s =", product, "ms")
assert seen == [1234567890123456768] * 3
assert product == 1004
print("as stated")
PY
