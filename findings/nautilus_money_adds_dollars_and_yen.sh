#!/usr/bin/env bash
# nautilus_trader: 1 USD + 1 JPY is 2, though 1 USD == 1 JPY raises.
#
# One would guess: adding other currencies raises; adding like ones gives Money.
# What happens: +, - and sum() give a bare Decimal without a currency, whatever the operands; == and `in` of
#   other currencies raise ValueError, and == with a number raises TypeError.
# Why it matters: a total over accounts adds currencies without a word, while the harmless comparison is what
#   fails.
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

from nautilus_trader.model.currencies import JPY, USD
from nautilus_trader.model.objects import Money

total = Money(1, USD) + Money(1, JPY)
print("1 USD + 1 JPY =", repr(total), "| 10 USD + 10 USD =", repr(Money(10, USD) + Money(10, USD)))
assert total == Decimal(2) and not isinstance(total, Money)
assert not isinstance(sum([Money(1, USD), Money(2, JPY)]), Money)
for error, compare in ((ValueError, lambda: Money(1, USD) == Money(1, JPY)), (ValueError, lambda: Money(1, USD) in [Money(1, JPY)])):
    try:
        compare()
    except error as raised:
        print(type(raised).__name__, raised)
    else:
        raise SystemExit("the comparison answers now")
print("as stated")
PY
