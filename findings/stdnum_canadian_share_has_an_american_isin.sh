#!/usr/bin/env bash
# python-stdnum 2.2: the ISIN of a Canadian share's CUSIP begins with US and is valid; that of an Irish SEDOL begins with GB.
#
# One would guess: cusip.to_isin() gives the security's ISIN, or says that a CUSIP alone does not tell the country: CUSIPs are
#   given out for the United States, Canada and Bermuda, those that begin with a letter (CINS) for all others, as SEDOLs are for every country.
# What happens: to_isin() puts US in front of each CUSIP and GB in front of each SEDOL and adds the check digit for it, so that
#   the result passes isin.validate(). For Royal Bank of Canada it is US7800871029; the share's ISIN is CA7800871021.
# Why it matters: a position keyed by that ISIN does not meet the broker's: one missing here, one too many there, and both
#   identifiers are valid. The other way round it is right, the CUSIP of CA7800871021 is 780087102.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check python-stdnum==2.2 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

from stdnum import cusip, isin
from stdnum.gb import sedol

print("python-stdnum", version("python-stdnum"))

shares = [
    ("Apple", cusip, "037833100", "US0378331005"),
    ("Royal Bank of Canada", cusip, "780087102", "CA7800871021"),
    ("Shopify", cusip, "82509L107", "CA82509L1076"),
    ("Aon (CINS)", cusip, "G0403H108", "IE00BLP1HW54"),
    ("BP", sedol, "0798059", "GB0007980591"),
    ("CRH", sedol, "0182704", "IE0001827041"),
]
wrong = []
for name, kind, number, real in shares:
    kind.validate(number)
    isin.validate(real)
    made = kind.to_isin(number)
    isin.validate(made)
    print(f"{name}: {number} -> {made}, traded as {real}", "" if made == real else "NOT THE SAME")
    if made != real:
        wrong.append((name, made))
assert wrong == [
    ("Royal Bank of Canada", "US7800871029"),
    ("Shopify", "US82509L1070"),
    ("Aon (CINS)", "USG0403H1089"),
    ("CRH", "GB0001827046"),
], wrong
print("as stated")
PY
