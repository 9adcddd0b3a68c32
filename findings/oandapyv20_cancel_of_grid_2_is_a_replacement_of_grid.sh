#!/usr/bin/env bash
# oandapyV20: the order that the client named "grid#2" is asked for as "grid", and its cancel is sent as a replacement of "grid".
#
# One would guess: an order specifier is put into the URL so that it arrives; OANDA takes any characters in a client's id.
# What happens: the path is put together without quoting. Behind "#" it is a fragment, which is not sent: OrderDetails reads
#   /orders/@grid, and OrderCancel, a PUT to /orders/@grid#2/cancel, becomes a PUT to /orders/@grid, which is how OANDA
#   replaces an order. "?" and "/" in an id go astray in the same way.
# Why it matters: the state of one order is taken for that of another: "grid" is filled, and so "grid#2" counts as filled; and the order
#   that should be cancelled works on.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check oandapyV20==0.7.2 requests==2.34.2 six==1.17.0 responses==0.26.3
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "oandapyV20 requests six responses".split():
    print(package, version(package))

import re

import oandapyV20.endpoints.orders as orders
import responses
from oandapyV20 import API

ACCOUNT = "101-001-0000000-001"


def sent(request):
    with responses.RequestsMock() as web:
        web.add(request.method, re.compile(".*"), json={})
        API("token").request(request)
        return f"{web.calls[0].request.method} {web.calls[0].request.path_url}".replace(f"/v3/accounts/{ACCOUNT}", "")


for name in ("@grid", "@grid#2", "@grid?2"):
    details, cancel = sent(orders.OrderDetails(ACCOUNT, orderID=name)), sent(orders.OrderCancel(ACCOUNT, orderID=name))
    print(name, "details:", details, "| cancel:", cancel)
assert sent(orders.OrderDetails(ACCOUNT, orderID="@grid#2")) == sent(orders.OrderDetails(ACCOUNT, orderID="@grid")) == "GET /orders/@grid"
assert sent(orders.OrderCancel(ACCOUNT, orderID="@grid#2")) == "PUT /orders/@grid"
assert sent(orders.OrderCancel(ACCOUNT, orderID="@grid")) == "PUT /orders/@grid/cancel"
print("as stated")
PY
