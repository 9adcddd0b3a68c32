#!/usr/bin/env bash
# oandapyV20: the tables know why a guaranteed stop is cancelled, not that there is such an order or its fill.
#
# One would guess: the tables of definitions are of one version of the API.
# What happens: OrderCancelReason has five reasons about guaranteed stops; OrderType, OrderFillReason and
#   TransactionType lack GUARANTEED_STOP_LOSS[_ORDER], and TransactionType lacks DIVIDEND_ADJUSTMENT. A
#   look-up raises KeyError.
# Why it matters: code that checks transactions against the tables drops a fill that closed the position, or a
#   cash movement.
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

from oandapyV20.definitions import orders, transactions

guaranteed = [r for r in transactions.OrderCancelReason().definitions if "GUARANTEED" in r]
print(len(guaranteed), "cancel reasons about guaranteed stops")
assert len(guaranteed) == 5
for table, key in (
    (orders.OrderType(), "GUARANTEED_STOP_LOSS"),
    (transactions.OrderFillReason(), "GUARANTEED_STOP_LOSS_ORDER"),
    (transactions.TransactionType(), "GUARANTEED_STOP_LOSS_ORDER"),
    (transactions.TransactionType(), "DIVIDEND_ADJUSTMENT"),
):
    print(type(table).__name__, key, key in table.definitions)
    assert key not in table.definitions
print("as stated")
PY
