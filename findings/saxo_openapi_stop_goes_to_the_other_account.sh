#!/usr/bin/env bash
# saxo_openapi: an order tied to account A, and then to account B, has its stop loss in account B.
#
# One would guess: tie_account_to_order() gives a body for one account and leaves the order ("anonymous" in its docstring) and
#   the bodies made before alone; it copies the order first.
# What happens: the copy is shallow: the related orders under "Orders" are the same dicts in each body. After the second call
#   the first body says AccountKey A for the entry and B for its stop. A stop given as a dict, as is documented, is shared in the
#   same way between two orders: it takes on the second one's instrument and side, and keeps the first one's amount.
# Why it matters: an allocation over accounts that builds its bodies and then sends them buys in A and stops in B: A is
#   unprotected and B goes short.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check saxo_openapi==0.6.0 requests==2.34.2
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "saxo_openapi requests".split():
    print(package, version(package))

import saxo_openapi.contrib.orders as orders
from saxo_openapi.contrib.orders.onfill import StopLossDetails

entry = orders.MarketOrderStock(Uic=16350, Amount=100, StopLossOnFill=StopLossDetails(price=25.0))
a = orders.tie_account_to_order("ACCOUNT-A", entry)
before = a["Orders"][0]["AccountKey"]
b = orders.tie_account_to_order("ACCOUNT-B", entry)
print("body A: entry", a["AccountKey"], "stop", before, "-> after body B was made:", a["Orders"][0]["AccountKey"])
assert (a["AccountKey"], before, a["Orders"][0]["AccountKey"]) == ("ACCOUNT-A", "ACCOUNT-A", "ACCOUNT-B")

stop = StopLossDetails(price=25.0).data
one = orders.MarketOrderStock(Uic=1, Amount=100, StopLossOnFill=stop)
two = orders.MarketOrderStock(Uic=2, Amount=-300, StopLossOnFill=stop)
for name, order in (("first", one), ("second", two)):
    child = order.data["Orders"][0]
    print(name, "entry:", *(order.data[key] for key in ("Uic", "BuySell", "Amount")), "| its stop:", *(child[key] for key in ("Uic", "BuySell", "Amount")))
assert [one.data["Orders"][0][key] for key in ("Uic", "BuySell", "Amount")] == [2, "Buy", 100]
assert [two.data["Orders"][0][key] for key in ("Uic", "BuySell", "Amount")] == [2, "Buy", 100]
print("as stated")
PY
