#!/usr/bin/env bash
# oandapyV20: a price beyond five decimals is rounded silently (to 0.00000 too), units beyond two are refused.
#
# One would guess: a value that cannot be sent as given is refused in both cases.
# What happens: PriceValue("1.234567") is 1.23457, PriceValue("0.0000012") is 0.00000, and 150.123 is sent as
#   150.12300. Units("0.001") raises, and so does Decimal("1E+3"), which is a thousand; Units(100.0) is
#   "100.0".
# Why it matters: the price that is booked is not the one that was asked for and nothing says so; a quantity
#   that went through Decimal.normalize() cannot be sent.
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

from decimal import Decimal

from oandapyV20.types import PriceValue, Units

prices = {p: PriceValue(p).value for p in ("1.234567", "0.0000012", "150.123")}
print(prices, Units(100.0).value)
assert prices == {"1.234567": "1.23457", "0.0000012": "0.00000", "150.123": "150.12300"}
assert Units(100.0).value == "100.0" and Units("1000").value == "1000"
for units in ("0.001", Decimal("1000").normalize()):
    try:
        Units(units)
    except ValueError as refused:
        print(repr(units), "->", refused)
    else:
        raise SystemExit(f"{units!r} is accepted now")
print("as stated")
PY
