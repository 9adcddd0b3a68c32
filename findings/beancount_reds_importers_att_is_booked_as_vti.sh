#!/usr/bin/env bash
# beancount-reds-importers 0.10.0: a purchase of AT&T (T) that the fund list does not have is booked as the fund VTI.
#
# One would guess: a security that is not in `fund_info` ends the import, with a list of what is missing: so it does for IBM.
# What happens: where no entry is equal, the first one that contains the symbol is taken. That is meant for a CUSIP inside an ISIN, but
#   Schwab's importers (CSV and JSON, positions and balances, too) look symbols up among symbols, and T is in VTI, F in SCHF.
# Seen: with VTI and SCHF in the list, 100 T at 25 dollars become 100 VTI at 25 dollars, in the account and under the name of VTI; the
#   dividend of Ford goes to Income:Dividends:SCHF.
# Why it matters: the entry balances and says nothing. The lots of VTI get 100 shares with a wrong cost, which the next sale may pick, and
#   one- and two-letter symbols (T, F, C, V, GE, MO) are among the most held.
# Instead: have every symbol that was ever held in the list, and compare each entry's commodity with the file.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check beancount-reds-importers==0.10.0 beancount==2.3.6 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > config.py <<'CONFIG'
from beancount_reds_importers.importers.schwab import schwab_csv_brokerage

FUNDS = [
    ("VTI", "922908769", "Vanguard Total Stock Market ETF"),
    ("SCHF", "808524805", "Schwab International Equity ETF"),
]
CONFIG = [
    schwab_csv_brokerage.Importer(
        {
            "account_number": "000123",
            "currency": "USD",
            "main_account": "Assets:Schwab:{ticker}",
            "cash_account": "Assets:Schwab:USD",
            "transfer": "Assets:Transfer",
            "dividends": "Income:Dividends:{ticker}",
            "interest": "Income:Interest",
            "cg": "Income:Gains",
            "capgainsd_lt": "Income:Gains:Long",
            "capgainsd_st": "Income:Gains:Short",
            "fees": "Expenses:Fees",
            "rounding_error": "Equity:Rounding",
            "fund_info": {"fund_data": FUNDS, "money_market": []},
        }
    )
]
CONFIG
cat > Individual_XX123_Transactions_20260131.csv <<'CSV'
"Date","Action","Symbol","Description","Quantity","Price","Fees & Comm","Amount"
"01/05/2026","Buy","VTI","VANGUARD TOTAL STOCK MARKET ETF","10","$300.00","","-$3000.00"
"01/06/2026","Buy","T","AT&T INC","100","$25.00","","-$2500.00"
"01/07/2026","Cash Dividend","F","FORD MOTOR CO","","","","$15.00"
CSV
sed 's/"T","AT&T INC"/"IBM","IBM CORP"/' Individual_XX123_Transactions_20260131.csv > Individual_XX123_Transactions_20260201.csv

venv/bin/pip list 2> pip.txt | grep -i beancount
venv/bin/bean-extract config.py Individual_XX123_Transactions_20260131.csv > booked.beancount
grep -A3 '^2026' booked.beancount | grep -v filing_account
grep -Eq '^ +Assets:Schwab:VTI +100 VTI \{25\.00 USD\}$' booked.beancount
grep -Eq '^ +Income:Dividends:SCHF +-15\.00 USD$' booked.beancount
if grep -Eq 'Schwab:T |Dividends:F |AT&T|FORD' booked.beancount; then
    echo "AT&T or Ford is named now"
    exit 1
fi

if venv/bin/bean-extract config.py Individual_XX123_Transactions_20260201.csv > other.beancount 2> missing.txt; then
    echo "IBM is taken, too"
    exit 1
fi
grep "not found" missing.txt
echo "as stated"
