#!/usr/bin/env bash
# csv2ofx 0.34.2: an amount of 0.125 is 125.00, and two equal purchases of one day are one transaction.
#
# One would guess: 0.125 is an eighth, as 1.50 in the line below it is one and a half; each line of the file gets an identifier
#   (FITID) of its own, by which importers tell what they have already.
# What happens: in each amount by itself a point that three digits follow separates thousands. Where no column has an identifier
#   it is a hash of the date, the amount and the text.
# Seen: 0.125 becomes 125.00, -1.500 becomes -1500.00, 1234567.891 becomes 1234567891.00, and 250.75 stays. Of two coffees on one
#   day both have the same FITID.
# Why it matters: the dinars of Kuwait, Bahrain, Jordan and Tunisia have three decimals, as have a dividend for each share and a part
#   of a share, and only the lines that end so are a thousand times too large. An importer takes the second coffee, or the second
#   of two equal fills, for one that it has seen.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check csv2ofx==0.34.2 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > dinars.csv <<'CSV'
Date,Description,Amount,Account
01/05/2026,dividend,0.125,Kuwait
01/06/2026,fee,-1.500,Kuwait
01/07/2026,deposit,250.75,Kuwait
01/08/2026,deposit,1234567.891,Kuwait
01/09/2026,coffee,-3.50,Kuwait
01/09/2026,coffee,-3.50,Kuwait
CSV
venv/bin/csv2ofx dinars.csv dinars.ofx

venv/bin/python - <<'PY'
import csv
import re
from importlib.metadata import version
from pathlib import Path

print("csv2ofx", version("csv2ofx"))
written = Path("dinars.ofx").read_text()
amounts, ids = re.findall(r"<TRNAMT>(.*?)</TRNAMT>", written), re.findall(r"<FITID>(.*?)</FITID>", written)
for row, amount, fitid in zip(csv.DictReader(Path("dinars.csv").open()), amounts, ids, strict=True):
    print(f"{row['Description']:9} {row['Amount']:>12} -> {amount:>14}  {fitid[:8]}")
assert amounts == ["125.00", "-1500.00", "250.75", "1234567891.00", "-3.50", "-3.50"]
assert ids[4] == ids[5] and len(set(ids)) == 5
print("as stated")
PY
