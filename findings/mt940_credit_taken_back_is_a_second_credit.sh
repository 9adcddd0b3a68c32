#!/usr/bin/env bash
# mt-940 5.1.1: a credit that the bank takes back (RC) is one more credit, and +0530 is 8 hours and 50 minutes.
#
# One would guess: the amounts of a statement's lines are signed so that they add up to closing minus opening balance, and
#   the time of the report has the offset that stands behind it.
# What happens: only a plain D is negative. RC, the reversal of a credit, comes out as +500 like the credit that it undoes.
#   The four digits of the offset in :13D: are taken for minutes. Both are switches of 5.1 (reversal_sign, timezone_offset)
#   that are off unless one asks, so that an upgrade changes nothing.
# Seen: a statement that opens and closes with 1000.00 has lines that add up to 1000.00; 10:00 +0530 has an offset of 8:50.
# Why it matters: a cash reconciliation that sums the lines is off by twice the reversed amount, and one that reads the
#   balances only sees nothing; an intraday report is hours from its time.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mt-940==5.1.1 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

"$work/venv/bin/python" - <<'PY'
from datetime import timedelta
from importlib.metadata import version

import mt940

print("mt-940", version("mt-940"))

statement = """:20:REFERENCE
:25:10020030/1234567
:28C:00001/001
:13D:2601071000+0530
:60F:C260105EUR1000,00
:61:2601050105C500,00NTRFNONREF
:86:paid in
:61:2601060106RC500,00NTRFNONREF
:86:and taken back
:61:2601060106D200,00NCHGNONREF
:86:a fee
:61:2601070107RD200,00NCHGNONREF
:86:and given back
:62F:C260107EUR1000,00
"""


def read(**options):
    parsed = mt940.parse(statement, **options)
    balances = [parsed.data[name].amount.amount for name in ("final_opening_balance", "final_closing_balance")]
    amounts = [line.data["amount"].amount for line in parsed]
    print("with the two options:" if options else "as it comes:", "lines", *amounts, "sum", sum(amounts), "balance changed by", balances[1] - balances[0])
    print("  report of", parsed.data["date"])
    return sum(amounts), balances[1] - balances[0], parsed.data["date"].utcoffset()


assert read() == (1000, 0, timedelta(hours=8, minutes=50))
assert read(options=mt940.Options(reversal_sign=True, timezone_offset=True)) == (0, 0, timedelta(hours=5, minutes=30))
print("as stated")
PY
