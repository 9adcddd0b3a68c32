#!/usr/bin/env bash
# fyers-apiv3: the order socket of a second account is that of the first: its fills go to the second one's callback.
#
# One would guess: FyersOrderSocket(token_a, on_orders=...) and FyersOrderSocket(token_b, on_orders=...) are two sockets, each with its
#   token and callbacks.
# What happens: the class keeps one instance for the process. The second call gives that back and sets it up anew, with the other token
#   and the other callbacks; the first name now means it, too. FyersDataSocket does the same.
# Why it matters: a program for two accounts books the fills of A in B from then on, and after the next reconnect A is not
#   listened to at all. Nothing is raised.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check fyers-apiv3==3.2.0 setuptools==68.0.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "fyers-apiv3 setuptools".split():
    print(package, version(package))

import warnings

warnings.simplefilter("ignore")
from fyers_apiv3.FyersWebsocket.data_ws import FyersDataSocket
from fyers_apiv3.FyersWebsocket.order_ws import FyersOrderSocket

booked = {"A": [], "B": []}
first = FyersOrderSocket("app:token-of-A", on_orders=booked["A"].append)
first.on_order({"s": "ok", "orders": {"id": "1"}})  # What the socket calls for a message about an order.
second = FyersOrderSocket("app:token-of-B", on_orders=booked["B"].append)
first.on_order({"s": "ok", "orders": {"id": "2"}})
print("one object:", first is second, "| booked in A", booked["A"], "in B", booked["B"])
assert first is second
assert [message["orders"]["id"] for message in booked["A"]] == ["1"] and [message["orders"]["id"] for message in booked["B"]] == ["2"]
assert FyersDataSocket("app:token-of-A") is FyersDataSocket("app:token-of-B")
print("as stated")
PY
