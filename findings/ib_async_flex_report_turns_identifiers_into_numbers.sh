#!/usr/bin/env bash
# ib_async FlexReport: a CUSIP becomes infinity, another loses its leading zero, a ticker becomes NaN.
#
# One would guess: extract() makes numbers of quantities and prices and leaves identifiers as text.
# What happens: each attribute that float() accepts becomes a number: 46120E602 (Intuitive Surgical) is inf,
#   037833100 (Apple) 37833100, the ticker NAN (a fund) nan, which is unequal even to itself, an account 0012
#   becomes 12. A quantity "1,000" stays text.
# Why it matters: a join of the statement with positions by identifier drops these rows without an error, and
#   two securities whose CUSIPs overflow become one.
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

import math
import xml.etree.ElementTree as et

from ib_async import FlexReport

report = FlexReport()
report.root = et.fromstring(
    "<FlexQueryResponse><FlexStatements><FlexStatement><Trades>"
    '<Trade accountId="0012" symbol="ISRG" cusip="46120E602" quantity="10"/>'
    '<Trade accountId="0012" symbol="AAPL" cusip="037833100" quantity="1,000"/>'
    '<Trade accountId="0012" symbol="NAN" cusip="67074Y105" quantity="3"/>'
    "</Trades></FlexStatement></FlexStatements></FlexQueryResponse>"
)
rows = report.extract("Trade")
for row in rows:
    print(vars(row))
assert rows[0].cusip == math.inf
assert rows[1].cusip == 37833100 and rows[1].quantity == "1,000"
assert math.isnan(rows[2].symbol)
assert rows[0].accountId == 12
print("as stated")
PY
