#!/usr/bin/env bash
# tigeropen: fix_price_by_tick_size(10.00, is_up=True) is 10.01, and 28000.02 is said to match a tick of 0.25.
#
# One would guess: a price that is on a tick stays as it is, whichever way is rounded, and match_tick_size() tells whether it is.
# What happens: with is_up one tick is added to every price before it is rounded down, so that each valid price moves by a tick.
#   match_tick_size() allows a millionth of the price: 0.028 at 28000, and with a tick of 0.01 every price above 10,000 matches.
# Why it matters: a limit price that was computed on the tick pays a tick more (or misses the fill, when selling), twice if it is fixed
#   twice; and the check in front of the order, as in the SDK's example, lets pass what the exchange refuses.
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

from decimal import Decimal

from tigeropen.common.util.price_util import PriceUtil

stock = [{"begin": "0", "end": "1", "type": "CLOSED", "tick_size": 0.0001}, {"begin": "1", "end": "Infinity", "type": "OPEN", "tick_size": 0.01}]
future = [{"begin": "0", "end": "Infinity", "type": "CLOSED", "tick_size": 0.25}]
bitcoin = [{"begin": "0", "end": "Infinity", "type": "CLOSED", "tick_size": 0.01}]

for price in (10.00, 10.004, 10.01, 0.5):
    down, up = PriceUtil.fix_price_by_tick_size(price, stock), PriceUtil.fix_price_by_tick_size(price, stock, is_up=True)
    print(price, "down", down, "up", up, "up twice", PriceUtil.fix_price_by_tick_size(up, stock, is_up=True))
assert PriceUtil.fix_price_by_tick_size(10.00, stock, is_up=True) == 10.01
assert PriceUtil.fix_price_by_tick_size(10.004, stock, is_up=True) == 10.01
on_tick = [n / 100 for n in range(101, 20_000)]
moved = [price for price in on_tick if PriceUtil.fix_price_by_tick_size(price, stock, is_up=True) != price]
print("of", len(on_tick), "prices on their tick moved:", len(moved))
assert moved == on_tick

for price, table in ((28000.25, future), (28000.02, future), (28000.03, future), (118000.051, bitcoin), (118000.055, bitcoin)):
    off = Decimal(str(price)) % Decimal(str(table[0]["tick_size"]))
    print(price, "at a tick of", table[0]["tick_size"], "is off by", off, "-> matches", PriceUtil.match_tick_size(price, table))
assert [PriceUtil.match_tick_size(price, future) for price in (28000.02, 28000.03)] == [True, False]
assert all(PriceUtil.match_tick_size(118_000 + n / 1000, bitcoin) for n in range(1000))
print("as stated")
PY
