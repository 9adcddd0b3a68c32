#!/usr/bin/env bash
# nautilus_trader: half a cent is 0.01 through the constructor and 0.00 through from_str.
#
# One would guess: one type rounds by one law.
# What happens: Money(Decimal("0.005"), USD), Price and Quantity round half away from zero (Quantity(2.5, 0)
#   is 3); Money.from_str("0.005 USD") rounds half to even, and so gives 0.00, and 2.5 JPY is 2.
# Why it matters: a cash figure read back from text differs by a cent from the one computed, and a halved
#   position of five lots is rounded up to three on each side.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nautilus_trader==1.221.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "nautilus_trader".split():
    print(package, version(package))

from decimal import Decimal

from nautilus_trader.model.currencies import USD
from nautilus_trader.model.objects import Money, Quantity

halves = ("0.005", "0.015", "0.025")
built = [str(Money(Decimal(h), USD)) for h in halves]
read = [str(Money.from_str(f"{h} USD")) for h in halves]
print("built:", built, "| read:", read, "| Quantity(2.5, 0):", Quantity(Decimal("2.5"), 0), "| 2.5 JPY:", Money.from_str("2.5 JPY"))
assert built == ["0.01 USD", "0.02 USD", "0.03 USD"]
assert read == ["0.00 USD", "0.02 USD", "0.02 USD"]
assert str(Quantity(Decimal("2.5"), 0)) == "3"
assert str(Money.from_str("2.5 JPY")) == "2 JPY"
print("as stated")
PY
