#!/usr/bin/env bash
# ibkr-report-parser 2026.7.20 (Interactive Brokers' CSV for the Finnish tax): a gain of 98 euros on a EURO STOXX 50 option is one of 999.
#
# One would guess: the rows of "Equity and Index Options" count as much as the statement says: it has Proceeds, Basis and Realized P/L of each trade.
# What happens: these columns are not read. Price times quantity is multiplied by 100 for each option, whatever its contract is on.
# Seen: one OESX call (multiplier 10) bought at 50, sold at 60, each for a fee of 1. Statement: proceeds 600, profit 98. Report: proceeds 6000, gain
#   999. One on the DAX (5): proceeds 600 and profit 98, in the report 12000 and 1999. One on SAP (100): 600 and 99: the purchase's fee is not read.
# Why it matters: a tax return with ten or twenty times the proceeds and gains, or with losses that nobody had, in rows like all others. Sales of
#   up to 1,000 euros a year are free of tax in Finland: 600 are below that, 6000 are not.
# Instead: compare each row's proceeds with the statement's column, and enter contracts by hand whose multiplier is not 100.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ibkr-report-parser==2026.7.20 2> "$work/pip.txt" || { cat "$work/pip.txt"; exit 1; }
cd "$work"

cat > statement.csv <<'CSV'
Trades,Header,DataDiscriminator,Asset Category,Currency,Symbol,Date/Time,Quantity,T. Price,C. Price,Proceeds,Comm/Fee,Basis,Realized P/L,MTM P/L,Code
Trades,Data,Trade,Equity and Index Options,EUR,OESX 19JUN26 6000 C,"2026-01-06, 10:00:00",-1,60,60,600,-1,-501,98,0,C
Trades,Data,ClosedLot,Equity and Index Options,EUR,OESX 19JUN26 6000 C,2026-01-05,1,50,,,,501,98,,ST
Trades,Data,Trade,Equity and Index Options,EUR,ODAX 19JUN26 25000 C,"2026-01-06, 10:00:00",-1,120,120,600,-1,-501,98,0,C
Trades,Data,ClosedLot,Equity and Index Options,EUR,ODAX 19JUN26 25000 C,2026-01-05,1,100,,,,501,98,,ST
Trades,Data,Trade,Equity and Index Options,EUR,SAP 19JUN26 200 C,"2026-01-06, 10:00:00",-1,6,6,600,-1,-501,98,0,C
Trades,Data,ClosedLot,Equity and Index Options,EUR,SAP 19JUN26 200 C,2026-01-05,1,5,,,,501,98,,ST
CSV
# the rates, which nobody asks for in a statement of euros, from a file in place of the European Central Bank
printf 'Date,USD\n2026-01-05,1.1\n' > rates.csv

EXCHANGE_RATES_URL="file://$work/rates.csv" USE_DEEMED_ACQUISITION_COST=false venv/bin/python - <<'PY'
import csv
from importlib.metadata import version
from pathlib import Path

from ibkr_report import Report

print("ibkr-report-parser", version("ibkr-report-parser"))
with Path("statement.csv").open("rb") as statement:
    report = Report(statement)
with Path("statement.csv").open() as statement:
    said = {row["Symbol"]: (int(row["Proceeds"]), int(row["Realized P/L"])) for row in csv.DictReader(statement) if row["DataDiscriminator"] == "Trade"}
reported = {one.symbol: (int(one.proceeds), int(one.realized)) for one in report.disposals}
for symbol in said:
    print(f"{symbol}: proceeds and profit {said[symbol]} in the statement, {reported[symbol]} in the report")
print("in all: proceeds", report.proceeds, "gains", report.gains)
assert set(said.values()) == {(600, 98)}
assert list(reported.values()) == [(6000, 999), (12000, 1999), (600, 99)]
assert (report.proceeds, report.gains, report.losses) == (18600, 3097, 0)
print("as stated")
PY
