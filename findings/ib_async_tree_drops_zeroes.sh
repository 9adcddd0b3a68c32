#!/usr/bin/env bash
# ib_async util.tree(): the JSON of a filled order's status has no "remaining" and that of a free fill no "price".
#
# One would guess: tree() ("can be serialized to JSON") writes out each field.
# What happens: it writes only fields that differ from the class's default, so a real 0 or "" vanishes; a
#   NamedTuple such as Position keeps its zeroes. A Decimal becomes text where a float stays a number.
# Why it matters: in a journal or an audit record "nothing remains" and "not known" look the same, and the
#   shape differs from record to record.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ib_async==2.1.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "ib_async".split():
    print(package, version(package))

from decimal import Decimal

from ib_async import Execution, LimitOrder, OrderStatus, Position, Stock, util

status = util.tree(OrderStatus(orderId=3, status="Filled", filled=10.0, remaining=0.0))["OrderStatus"]
fill = util.tree(Execution(execId="1.01", side="BOT", shares=100.0, price=0.0))["Execution"]
position = util.tree(Position("DU1", Stock("SPY"), 0.0, 0.0))
order = util.tree(LimitOrder("BUY", Decimal("1.10"), 2.5))["LimitOrder"]
print(status, fill, position, sep="\n")
assert "filled" in status and "remaining" not in status
assert "shares" in fill and "price" not in fill
assert position["position"] == 0.0
assert order["totalQuantity"] == "1.10" and order["lmtPrice"] == 2.5
print("as stated")
PY
