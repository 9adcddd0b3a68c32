#!/usr/bin/env bash
# bankstatementparser 0.0.29: the closing balance of a BAI2 statement is the available one, and the id of a transaction its value date.
#
# One would guess: closing_balance is the ledger balance (code 015), what opening balance and transactions add up to; the
#   transaction's id is the bank's reference number.
# What happens: the codes 010 and 040 (ledger and available) both set the opening balance, 015 and 045 both the closing one, and
#   the last one in the record wins. The balances of a continuation record (88) are not read. A transaction is cut at its commas,
#   and the fourth field after the type is taken for the reference: with the funds types V (a value date and a time) and S (three
#   amounts), which the format gives two and three fields of their own, the "id" is the date or an amount.
# Seen: ledger 5000.00 to 3500.00 with lines of -1500.00 is read as 4500 to 2000; moved to a record 88 the closing balance is
#   None; three payments of one value date have one transaction_id, 260107.
# Why it matters: the cash break of 1000 is none of the bank's, and whoever removes duplicates by the id keeps one payment of three.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check bankstatementparser==0.0.29 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

venv/bin/python - <<'PY'
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

from bankstatementparser.parsers.bai2 import Bai2Parser

print("bankstatementparser", version("bankstatementparser"))

LINES = """\
16,475,25000,V,260107,1200,BANKREF1,CUST1,CHECK PAID/
16,475,25000,V,260107,1200,BANKREF2,CUST2,CHECK PAID/
16,475,25000,V,260107,1200,BANKREF3,CUST3,CHECK PAID/
16,475,75000,S,25000,25000,25000,BANKREF4,CUST4,CHECK PAID/
49,{control},{records}/
98,{control},1,{group}/
99,{control},1,{file}/
"""


def read(account):
    control = 150000 + sum(int(amount) for amount in ("500000", "350000", "450000", "200000"))
    records = len(account.splitlines()) + 5
    text = "01,122099999,123456789,260106,0600,1,80,,2/\n02,123456789,122099999,1,260105,2359,USD,2/\n" + account
    Path("day.bai").write_text(text + LINES.format(control=control, records=records, group=records + 2, file=records + 4))
    parser = Bai2Parser("day.bai")
    rows = parser.parse()
    [summary] = parser.get_summaries()
    print("opening", summary["opening_balance"], "lines", summary["total_amount"], "closing", summary["closing_balance"])
    print("  ids", rows["transaction_id"].tolist(), "references", rows["Reference"].tolist())
    return summary["opening_balance"], summary["total_amount"], summary["closing_balance"], rows["transaction_id"].tolist()


ids = ["260107", "260107", "260107", "25000"]
one = read("03,0975312468,USD,010,500000,,,015,350000,,,040,450000,,,045,200000,,/\n")
assert one == (Decimal(4500), Decimal(-1500), Decimal(2000), ids), one
continued = read("03,0975312468,USD,010,500000,,,040,450000,,/\n88,015,350000,,,045,200000,,/\n")
assert continued == (Decimal(4500), Decimal(-1500), None, ids), continued
print("as stated")
PY
