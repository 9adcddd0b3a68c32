#!/usr/bin/env bash
# py-clob-client: an order for 1.15 shares is for 1.14, and one for 0.29 is for 0.28.
#
# One would guess: a size of two decimals, as Polymarket takes it, is sent as it is.
# What happens: the size is floor(size * 100) / 100 in floats, and 1.15 * 100 is 114.99999999999999: 573 of the 9999 sizes below
#   100 come out a hundredth too small.
# Why it matters: a position that is sold in full is not: 0.01 stays, the account never reads flat, and no other order can sell so
#   little.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check py-clob-client==0.34.6
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "py-clob-client".split():
    print(package, version(package))

from py_clob_client.order_builder.builder import ROUNDING_CONFIG, OrderBuilder
from py_clob_client.order_builder.helpers import round_down


class Signer:
    def address(self):
        return "0x0000000000000000000000000000000000000000"


builder, cents = OrderBuilder(Signer()), ROUNDING_CONFIG["0.01"]
for size, price in ((1.15, 0.5), (0.29, 0.5), (1.25, 0.5)):
    _, maker, _ = builder.get_order_amounts("SELL", size, price, cents)
    print("sell", size, "at", price, "-> shares", maker / 1_000_000)
assert builder.get_order_amounts("SELL", 1.15, 0.5, cents)[1] == 1_140_000
assert builder.get_order_amounts("SELL", 0.29, 0.5, cents)[1] == 280_000
wrong = [n / 100 for n in range(1, 10_000) if round_down(n / 100, 2) != n / 100]
print("sizes below 100 that come out smaller:", len(wrong), wrong[:8])
assert len(wrong) == 573

print("as stated")
PY
