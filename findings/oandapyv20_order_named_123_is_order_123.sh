#!/usr/bin/env bash
# oandapyV20: OrderSpecifier("@123"), the order that the client named 123, becomes 123, the order with OANDA's id 123.
#
# One would guess: the value keeps the "@", by which OANDA tells a client's id from its own: an OrderSpecifier is "either the
#   Order's OANDA-assigned OrderID or the Order's client-provided ClientID prefixed by the @ symbol".
# What happens: the "@" is taken off. "@my-order" becomes my-order, which is neither, and "@123" the id of another order.
# Why it matters: a cancel or a replacement by the client's own number goes to a foreign order, or is answered with "no such
#   order" while the order works on.
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

import oandapyV20.endpoints.orders as orders
from oandapyV20.types import OrderSpecifier

for specifier in ("@123", "@my-order", "123"):
    cancel = orders.OrderCancel("101-001-0000000-001", orderID=OrderSpecifier(specifier).value)
    print(specifier, "->", OrderSpecifier(specifier).value, "|", cancel.method, cancel)
assert OrderSpecifier("@123").value == OrderSpecifier("123").value == "123"
assert OrderSpecifier("@my-order").value == "my-order"
print("as stated")
PY
