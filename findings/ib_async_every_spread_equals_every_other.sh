#!/usr/bin/env bash
# ib_async: two different spreads (BAG) are equal to each other.
#
# One would guess: two BAG contracts with other legs are unequal, as their hashes are.
# What happens: IB gives every combination the conId 28812380, and Contract.__eq__ compares the conId alone
#   where there is one. `==` and `in` a list say the spreads are the same; a set keeps both, since the hash
#   looks at the legs.
# Why it matters: `trade.contract == contract` picks the orders of one spread together with those of all
#   others; a list and a set of the same contracts answer differently.
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

from ib_async import Bag, ComboLeg

calendar = Bag(symbol="SPY", conId=28812380, comboLegs=[ComboLeg(11, 1, "BUY"), ComboLeg(12, 1, "SELL")])
butterfly = Bag(symbol="QQQ", conId=28812380, comboLegs=[ComboLeg(21, 1, "BUY"), ComboLeg(22, 2, "SELL")])
print("equal:", calendar == butterfly, "| in a list:", butterfly in [calendar], "| in a set:", butterfly in {calendar})
assert calendar == butterfly
assert butterfly in [calendar]
assert butterfly not in {calendar}
assert hash(calendar) != hash(butterfly)
print("as stated")
PY
