#!/usr/bin/env bash
# tastytrade: average_fill_price() of an order for ten of which four are filled at 200 is 80.
#
# One would guess: the average over what was filled: 200, with the sign of the order's price, for which the SDK says
#   "negative = debit, positive = credit".
# What happens: it divides what was paid for the fills by the order's size: 80.00. And the sign is the other one: a purchase
#   has price -200.00 and an average of +80.00.
# Why it matters: profit and loss and the average cost of a working order are wrong by the part that is open, and right again
#   when it fills; whoever adds up "price" and "average fill price" adds a debit to a credit.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tastytrade==13.2.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "tastytrade".split():
    print(package, version(package))

from tastytrade.order import PlacedOrder


def order(filled):
    fills = [{"fill-id": "1", "quantity": filled, "fill-price": "200.00", "filled-at": "2026-01-05T15:00:00Z"}]
    leg = {"instrument-type": "Equity", "symbol": "AAPL", "action": "Buy to Open", "quantity": 10, "remaining-quantity": 10 - int(filled), "fills": fills}
    return PlacedOrder(**{
        "id": 1, "account-number": "5WX00001", "time-in-force": "Day", "order-type": "Limit", "underlying-symbol": "AAPL", "underlying-instrument-type": "Equity",
        "status": "Live", "cancellable": True, "editable": True, "edited": False, "updated-at": "2026-01-05T15:00:00Z", "size": "10", "price": "200.00",
        "price-effect": "Debit", "legs": [leg],
    })


for filled in ("1", "4", "10"):
    print(filled, "of 10 filled at 200.00: price", order(filled).price, "average_fill_price", order(filled).average_fill_price())
assert [order(filled).average_fill_price() for filled in ("1", "4", "10")] == [20, 80, 200]
assert order("10").price == -200
print("as stated")
PY
