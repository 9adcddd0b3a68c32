#!/usr/bin/env bash
# portfolio-performance-converter 0.2.0: Binance's fee of 10,000 SHIB (ten cents) is a fee of 10,000 euros, and a sale is no sale.
#
# One would guess: the file for Portfolio Performance has each purchase and each sale of Binance's transaction history, with its fee in the currency
#   of the row ("perfectly compatible").
# What happens: the fee's number is taken and its coin is not: it stands in euros, and the coins that were paid as the fee stay in the holding. A
#   purchase is found by the word "Buy"; Binance's words for a sale are "Transaction Sold" and "Transaction Revenue", and neither is known:
#   the coins become a removal of cash in the "currency" SHIB, the proceeds a deposit. So does an order that was filled in two parts.
# Seen: 10,000,000 SHIB bought for 100 EUR, fee 10,000 SHIB: Shares 10000000, Value 100, Fees 10000, EUR. 9,990,000 of them sold for 110 EUR: no row
#   of type Sell, and a deposit of 110 EUR. A market order for BTC with two fills: no row of type Buy.
# Why it matters: a purchase with a cost of 10,100 instead of 100, a position that was sold and stays, and a deposit that was a sale: cost basis,
#   holding and return are wrong, and Portfolio Performance imports all of it without a word.
# Instead: import Binance's trade history, fill by fill, and convert each fee to the currency of its row first.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# Without its web page: what reads the file needs pandas, and yfinance to be imported.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1 yfinance==1.7.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps portfolio-performance-converter==0.2.0 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > binance.csv <<'CSV'
User_ID,UTC_Time,Account,Operation,Coin,Change,Remark
1,2026-01-05 10:00:00,Spot,Transaction Buy,SHIB,10000000,
1,2026-01-05 10:00:00,Spot,Transaction Spend,EUR,-100,
1,2026-01-05 10:00:00,Spot,Transaction Fee,SHIB,-10000,
1,2026-01-06 10:00:00,Spot,Transaction Sold,SHIB,-9990000,
1,2026-01-06 10:00:00,Spot,Transaction Revenue,EUR,110,
1,2026-01-06 10:00:00,Spot,Transaction Fee,EUR,-0.11,
1,2026-01-07 10:00:00,Spot,Transaction Buy,BTC,0.001,
1,2026-01-07 10:00:00,Spot,Transaction Spend,EUR,-60,
1,2026-01-07 10:00:00,Spot,Transaction Buy,BTC,0.002,
1,2026-01-07 10:00:00,Spot,Transaction Spend,EUR,-120,
CSV

HOME="$work" venv/bin/pp-converter --input binance.csv --output converted.csv 2> log.txt || { cat log.txt; exit 1; }
venv/bin/python - <<'PY'
from importlib.metadata import version

import pandas as pd

print("portfolio-performance-converter", version("portfolio-performance-converter"))
rows = pd.read_csv("converted.csv")
columns = ["Date", "Type", "Shares", "Value", "Transaction Currency", "Fees"]
print(rows[columns].to_string(index=False))
first = rows.iloc[0]
assert [first[name] for name in columns[1:]] == ["Buy", 10_000_000, 100, "EUR", 10_000]
others = [(row["Date"][-2:], row["Type"], row["Value"], row["Transaction Currency"]) for _, row in rows.iloc[1:].iterrows()]
assert others == [
    ("06", "Removal", 9_990_000, "SHIB"),
    ("06", "Deposit", 110, "EUR"),
    ("06", "Removal", 0.11, "EUR"),
    ("07", "Deposit", 0.001, "BTC"),
    ("07", "Removal", 60, "EUR"),
    ("07", "Deposit", 0.002, "BTC"),
    ("07", "Removal", 120, "EUR"),
]
print("as stated")
PY
