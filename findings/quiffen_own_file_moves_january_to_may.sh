#!/usr/bin/env bash
# quiffen 4.0.1 (QIF): a file that it wrote itself and reads again with day_first=True has January 5 as May 1.
#
# One would guess: day_first says how an ambiguous date such as 05/01/2026 is meant. 2026-01-05 is not ambiguous, and what to_qif() writes is what
#   parse() has read.
# What happens: to_qif() writes dates as 2026-01-05 unless told otherwise. parse() hands each date and day_first to dateutil, which then takes the
#   last number for the month, year in front or not, wherever it can be one.
# Seen: a British file with 05/01/2026 and 13/01/2026 is read right. Written and read again it has 2026-05-01 and 2026-01-13: the payment and
#   the shares bought. A third turn brings 2026-01-05 back. "20260105", too, is May 1.
# Why it matters: a purchase of January is made in May, after the sale that it covers: lots, holding periods and the tax year are others. Only days
#   up to the twelfth move, so a look at the end of the month finds nothing.
# Instead: write with to_qif(date_format="%d/%m/%Y") what is read with day_first=True; read files with ISO dates with day_first=False.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check quiffen==4.0.1 python-dateutil==2.9.0.post0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from importlib.metadata import version

from quiffen import Qif
from quiffen.utils import parse_date

print("quiffen", version("quiffen"), "python-dateutil", version("python-dateutil"))

BRITISH = """!Account
NCurrent
TBank
^
!Type:Bank
D05/01/2026
T-1,250.00
PBroker
^
D13/01/2026
T-40.00
PShop
^
!Account
NShares
TInvst
^
!Type:Invst
D05/01/2026
NBuy
YACME
I12.5
Q100
T1250.00
^
"""


def dates(qif):
    return [str(one.date.date()) for account in qif.accounts.values() for kind in account.transactions.values() for one in kind]


first = Qif.parse_string(BRITISH, day_first=True)
again = Qif.parse_string(first.to_qif(), day_first=True)
third = Qif.parse_string(again.to_qif(), day_first=True)
american = Qif.parse_string(first.to_qif())
for what, qif in (("the file", first), ("written and read again", again), ("and once more", third), ("without day_first", american)):
    print(f"{what}:", *dates(qif))
right = ["2026-01-05", "2026-01-13", "2026-01-05"]
assert dates(first) == dates(third) == dates(american) == right
assert dates(again) == ["2026-05-01", "2026-01-13", "2026-05-01"]
assert "D2026-01-05" in first.to_qif()
compact = str(parse_date("20260105", day_first=True).date())
print("20260105 is", compact)
assert compact == "2026-05-01"
print("as stated")
PY
